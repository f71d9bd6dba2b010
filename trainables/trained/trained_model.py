"""The model of a trial that has ended, ready for inference: stored images in, logits or probabilities out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from torch import nn

from fairsweep.analysis.records.file_names import CONFIG, WEIGHTS
from fairsweep.analysis.records.files import RecordError
from fairsweep.analysis.records.record_check import weights_problem
from fairsweep.analysis.records.trial_folder import TrialFolder
from fairsweep.datasets.storage.layout import INFO_FILE, DatasetError
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.trainables.learners import AnyLearner, learner_type, type_of
from fairsweep.trainables.learning.learner_config import LearnerConfig
from fairsweep.trainables.learning.tensor_bytes import decode
from fairsweep.trainables.models.inputs import normalise
from fairsweep.trainables.models.model import ModelConfig, build_model
from fairsweep.trainables.models.models import AnyModel
from fairsweep.trainables.trial.trial_config import TrialConfig

_IMAGES_AT_ONCE = 512
_LEARNER: TypeAdapter[LearnerConfig] = TypeAdapter(AnyLearner)
_MODEL: TypeAdapter[ModelConfig] = TypeAdapter(AnyModel)


@dataclass(frozen=True)
class ModelFacts:
    """What a model is.

    Attributes:
        trial: Name of the trial's folder.
        learner: Name of the learner.
        kind: Which method trained it.
        dataset: Name of the dataset that it was trained on.
        label: Which attribute it predicts.
        classes: Names of the values, in the order of the logits.
        image_shape: (height, width, channels) of the images that it takes, as uint8.
        weights: Which weights these are, in a phrase.
        epsilon: ε of the training; infinite without a guarantee, NaN where the accountant gives no number.
        delta: δ of the same; None without a guarantee.
        simulated: Whether that guarantee is simulated: in research mode secrets follow from the sweep's key.
    """

    trial: str
    learner: str
    kind: str
    dataset: str
    label: str
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    weights: str
    epsilon: float
    delta: float | None
    simulated: bool

    def to_json(self) -> str:
        """Return all of it as JSON; an ε that is no finite number becomes null."""
        finite = self.epsilon if np.isfinite(self.epsilon) else None
        return json.dumps(asdict(self) | {"epsilon": finite}, ensure_ascii=False)


class TrainedModel(nn.Module):
    """A trained network behind its preprocessing, in evaluation mode.

    Args:
        network: Maps float32 [B, C, H, W] to logits.
        facts: What it is.

    Attributes:
        facts: What it is.
    """

    def __init__(self, network: nn.Module, facts: ModelFacts) -> None:
        super().__init__()
        self.network = network
        self.facts = facts
        self.eval()

    def forward(self, images_BHWC: torch.Tensor) -> torch.Tensor:
        """Map uint8 [B, H, W, C] in [0, 255] to logits, float32 [B, K]; their softmax are the probabilities."""
        logits: torch.Tensor = self.network(normalise(images_BHWC.permute(0, 3, 1, 2).contiguous()))
        return logits

    def probabilities(self, images_BHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map uint8 [B, H, W, C] to probabilities, float32 [B, K], so many images at a time.

        Raises:
            ValueError: If the images have another shape, or are no bytes.
        """
        images = np.asarray(images_BHWC)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != self.facts.image_shape:
            shape = list(self.facts.image_shape)
            raise ValueError(
                f"images must be uint8 [B, {', '.join(map(str, shape))}], but got {images.dtype} {list(images.shape)}: "
                "bring them to that size as `fairsweep prepare` does"
            )
        device = next(iter(self.state_dict().values())).device
        with torch.inference_mode():
            parts = [
                torch.softmax(self(torch.from_numpy(np.ascontiguousarray(part)).to(device)), dim=1).cpu()
                for part in np.array_split(images, max(1, -(-len(images) // _IMAGES_AT_ONCE)))
            ]
        return torch.cat(parts).numpy()

    def __repr__(self) -> str:
        facts = self.facts
        shape = "x".join(map(str, facts.image_shape))
        return f"TrainedModel({facts.trial}: images {shape} -> {facts.label} {list(facts.classes)}; {facts.weights})"


def load_model(folder: str | Path, *, device: str = "cpu") -> TrainedModel:
    """Load the model of a trial that has ended.

    A network from a file of one's own is built by running that file's text, which lies in the trial's records: load
    only sweeps whose authors you trust.

    Args:
        folder: The trial's folder, ``runs/NAME/trials/TRIAL``.
        device: Where it predicts.

    Returns:
        The model with its final weights: of a ``sisa`` all shards with their aggregation, of a ``pbt`` the member that
        validation ranked best.

    Raises:
        ValueError: If the folder is no trial's, or the trial kept no weights.
        RecordError: If a record is damaged.
    """
    folder = Path(folder)
    records = TrialFolder(folder)
    if records.config is None:
        raise ValueError(
            f"{folder} must be the folder of a trial that has started, but has no {CONFIG}: give one of SWEEP/trials; "
            "`fairsweep ls SWEEP` lists them"
        )
    weights = _weights(folder, records)
    learner = _LEARNER.validate_python({k: v for k, v in records.config["learner"].items() if k != "twin_of"})
    facts = _facts(records.config, records)
    build = partial(_build, _MODEL.validate_python(records.config["model"]), facts, records)
    network = type_of(learner).trained_network(learner, weights, build, records)
    return TrainedModel(network, facts).to(device)


def _weights(folder: Path, records: TrialFolder) -> dict[str, Any]:
    path = folder / WEIGHTS
    if not path.is_file():
        state = records.state
        if state is None or state.state in ("queued", "running") or state.by == "user":
            raise ValueError(
                f"{folder.name} has not ended yet, and weights are kept at the end: `fairsweep resume SWEEP`"
            )
        if state.state == "failed":
            raise ValueError(
                f"{folder.name} has failed ({state.error}) and left no weights: `fairsweep retry-failed SWEEP`"
            )
        raise ValueError(
            f"{folder.name} kept no weights: its sweep file says checkpoints: {{keep_final_weights: false}}"
        )
    if (problem := weights_problem(path, thorough=True)) is not None:
        raise RecordError(f"{path} is damaged: {problem}")
    return decode(path.read_bytes())


def _build(
    model: ModelConfig, facts: ModelFacts, records: TrialFolder, weights: Mapping[str, torch.Tensor]
) -> nn.Module:
    """Build the network with its weights; what was trained on features of a frozen body has that from its file."""
    # Files of published weights may be elsewhere, and are of no use where all were kept.
    bare = model.model_copy(update={name: None for name, value in model if isinstance(value, Path)})
    shape, classes = facts.image_shape, len(facts.classes)
    network = build_model(bare, shape, classes, bytes(32))
    if network.state_dict().keys() != weights.keys():
        network = build_model(_with_body(records), shape, classes, bytes(32))
        trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
        weights = {**network.state_dict(), **weights} if trained <= weights.keys() else weights
    network.load_state_dict(weights)
    return network


def _with_body(records: TrialFolder) -> ModelConfig:
    """Return the trial's model with the file of its body, the one that it was trained on features of."""
    try:
        return TrialConfig.from_record(records.config or {}).model
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{records.folder_name} kept what it trained on features of a frozen body, so the file of that body's "
            f"weights must be where config.json says, with the content that it had: {error}"
        ) from error


def _facts(config: Mapping[str, Any], records: TrialFolder) -> ModelFacts:
    cells = records.cells()
    if cells is None:
        raise ValueError(f"{records.name} has no cells.parquet, which names the classes: `fairsweep check SWEEP`")
    stated = records.privacy or {}
    return ModelFacts(
        trial=records.folder_name,
        learner=records.learner,
        kind=records.kind,
        dataset=str(config["dataset"]["name"]),
        label=cells.label,
        classes=tuple(cells.vocabularies[cells.label].values),
        image_shape=_image_shape(config, records),
        weights=_which_weights(records),
        epsilon=records.epsilon,
        delta=stated.get("delta"),
        simulated=config.get("mode") == "research" and bool(stated),
    )


def _image_shape(config: Mapping[str, Any], records: TrialFolder) -> tuple[int, int, int]:
    """Return the shape of the images; trials of earlier versions did not record it, and their dataset is asked."""
    recorded = (records.data or {}).get("image_shape")
    if recorded is None:
        try:
            return PreparedDataset.open(config["dataset"]["path"]).info.image_shape
        except DatasetError as error:
            raise ValueError(
                f"{records.name} is of a version that did not record the shape of images, so its dataset's {INFO_FILE} "
                f"is needed: {error}"
            ) from error
    height, width, channels = recorded
    return height, width, channels


def _averaged(config: Mapping[str, Any]) -> str:
    learner = config.get("learner", {})
    inner = learner.get("inner")
    decay = (inner if isinstance(inner, Mapping) else learner).get("ema")
    return "" if decay is None else f", averaged over the last steps (ema {decay:g})"


def _which_weights(records: TrialFolder) -> str:
    state = records.state
    predictions = records.predictions(["iteration", "split"])
    words = learner_type(records.kind, records.own_source).final_weights + _averaged(records.config or {})
    if state is None:
        return words
    said = f"{words} after iteration {state.iteration} of {state.iterations}, the last"
    if state.state == "stopped":
        said = f"{words} after iteration {state.iteration} of {state.iterations}, where a {state.by} ended the trial"
    seen = set() if predictions is None else set(predictions.column("iteration").to_pylist())
    if len(seen) > 1:
        said += f"; validation was best after iteration {min(seen)}, whose weights are not kept"
    return said
