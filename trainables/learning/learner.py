"""The interface of a learner, and its input."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import nn

from fairsweep.analysis.records.trial_folder import TrialFolder
from fairsweep.datasets.feeds.feed import Feed
from fairsweep.datasets.selection.randomness import derive
from fairsweep.datasets.storage.layout import Attribute
from fairsweep.trainables.learning.iteration_report import IterationReport
from fairsweep.trainables.learning.learner_config import LearnerConfig
from fairsweep.trainables.learning.roles import Roles
from fairsweep.trainables.models.frozen_body import Tail
from fairsweep.trainables.models.model import ModelConfig
from fairsweep.trainables.models.network import Network
from fairsweep.trainables.privacy.clipping import Clipping
from fairsweep.trainables.privacy.plan import PrivacyPlan
from fairsweep.trainables.privacy.privacy_statement import PrivacyStatement


@dataclass(frozen=True)
class TrialKeys:
    """The keys of a trial.

    Attributes:
        data: 32 bytes, public: imbalance draw, splits, partitions.
        train: 32 bytes, public: initial weights, order, augmentation, dropout.
        secret: 32 bytes, known to nobody who sees the model: noise and Poisson inclusion. No two trials share it.
        run: Number of the run under this secret. A position is never executed twice with different data, clip or
            settings: a restore under a changed config takes the next run number.
        init: 32 bytes, public: of the initial weights alone; None: they follow from ``train``.
        order: 32 bytes, public: of the order alone; None: it follows from ``train``.
    """

    data: bytes
    train: bytes
    secret: bytes = field(repr=False)
    run: int = 0
    init: bytes | None = None
    order: bytes | None = None

    @property
    def of_weights(self) -> bytes:
        """Return the key of the initial weights."""
        return self.train if self.init is None else self.init

    @property
    def of_order(self) -> bytes:
        """Return the key of the order in which examples are learnt."""
        return self.train if self.order is None else self.order

    def derived(self, purpose: str, *position: int) -> TrialKeys:
        """Return the keys of a part of the training, such as a shard, with the same data and secret."""
        init, order = (None if key is None else derive(key, purpose, *position) for key in (self.init, self.order))
        return replace(self, train=derive(self.train, purpose, *position), init=init, order=order)


@dataclass(frozen=True)
class LabelledRows:
    """Examples that a learner may measure itself on, never learn from: the validation split.

    Attributes:
        rows: int64 [m], rows in the feed.
        labels: int64 [m] in [0, classes).
        groups: For each group attribute, int16 [m] codes; none where nothing is measured by group.
    """

    rows: np.ndarray
    labels: np.ndarray
    groups: Mapping[str, np.ndarray] = field(default_factory=dict)


class CohortWorkers(Protocol):
    """Further processes over which a federated learner spreads the clients of a round.

    Attributes:
        count: How many there are.
    """

    count: int

    def start(self, execution: str) -> None:
        """Make the processes, which then train clients ``batched`` or ``sequential``."""
        ...

    def sums(
        self, weights_P: torch.Tensor, round_number: int, parts: Sequence[np.ndarray], clipping: Clipping
    ) -> list[Any]:
        """Train parts of a cohort from the same weights and return their `CohortSums` in the order of the parts."""
        ...

    def close(self) -> None:
        """End the processes; may be called twice."""
        ...


@dataclass(frozen=True)
class LearningTask:
    """What a learner learns from.

    Attributes:
        model: Which model.
        classes: Number of classes.
        image_shape: (height, width, channels).
        rows: int64 [n], rows of the training examples in the feed.
        labels: int64 [n] in [0, classes).
        groups: For each group attribute, int16 [n] codes.
        feed: Gives the images.
        keys: All randomness follows from them.
        device: Where training happens.
        diagnostics: True in research mode: losses, realised counts and group diagnostics are reported. They are exact
            functions of private data, so False (release mode) leaves them out of every report.
        ids: int64 [n], the examples' ids; None where a learner is used without a dataset.
        users: int64 [n], whom each example belongs to; None where the dataset does not know.
        label: Name of the label.
        value_names: For each group attribute and the label, the names of its values in the order of their codes.
        attributes: For each attribute of the dataset int16 [n] codes; those of the groups alone where a learner is used
            without a dataset.
        validation: What a learner may measure itself on; None where there is nothing.
        folder: Where a learner may keep files of its own while the trial runs and afterwards; None keeps none.
        workers: Over which a federated learner spreads its clients; None trains them in this process.
        former_secrets: Fingerprints of secrets under which earlier starts of the trial may have taken steps, and which
            are lost with all that they trained: each such training is charged too.
        drawn_by: Sections of the config that draw the training set from all examples together, so that without one of
            them another may take its place; empty where each example is in it by itself.
        tail: What the feed's features go into, where it gives features of a frozen body; None where it gives images.
        open_feed: Opens the images once more, in another process, which is given this and no feed; None where there is
            no way.
    """

    model: ModelConfig
    classes: int
    image_shape: tuple[int, int, int]
    rows: np.ndarray
    labels: np.ndarray
    groups: Mapping[str, np.ndarray]
    feed: Feed
    keys: TrialKeys
    device: torch.device
    diagnostics: bool = True
    ids: np.ndarray | None = None
    users: np.ndarray | None = None
    label: str = "label"
    value_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    attributes: Mapping[str, np.ndarray] = field(default_factory=dict)
    validation: LabelledRows | None = None
    folder: Path | None = None
    workers: CohortWorkers | None = None
    open_feed: Callable[[], Feed] | None = None
    drawn_by: tuple[str, ...] = ()
    former_secrets: tuple[str, ...] = ()
    tail: Tail | None = None

    def __post_init__(self) -> None:
        n = len(self.rows)
        if n == 0:
            raise ValueError("a learner needs at least one training example, but rows is empty")
        lengths = {"labels": len(self.labels), **{name: len(codes) for name, codes in self.groups.items()}}
        lengths |= {name: len(c) for name, c in (("ids", self.ids), ("users", self.users)) if c is not None}
        lengths |= {name: len(codes) for name, codes in self.attributes.items()}
        wrong = {name: length for name, length in lengths.items() if length != n}
        if wrong:
            raise ValueError(
                f"labels, groups, ids and users must have one entry for each of the {n} rows, but got lengths {wrong}"
            )
        if self.labels.min() < 0 or self.labels.max() >= self.classes:
            raise ValueError(
                f"labels must be in [0, {self.classes}), but span {self.labels.min()} to {self.labels.max()}"
            )

    @property
    def size(self) -> int:
        """Number of training examples, n."""
        return len(self.rows)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of what enters the network for an example: [C, H, W], or that of its features."""
        height, width, channels = self.image_shape
        return (channels, height, width) if self.tail is None else self.tail.shape

    @property
    def roles(self) -> Roles:
        """The label and the groups with the names of their values.

        Raises:
            ValueError: If their names are unknown.
        """
        unknown = {self.label, *self.groups} - set(self.value_names)
        if unknown:
            raise ValueError(
                f"this learner's config names attributes or values, but the task does not know the values' names of "
                f"{', '.join(sorted(unknown))}: give LearningTask(label=…, value_names=…)"
            )
        label, *groups = (
            Attribute(name=name, values=tuple(self.value_names[name])) for name in (self.label, *self.groups)
        )
        return Roles(label, tuple(groups))

    def codes(self, attribute: str) -> np.ndarray:
        """Return the codes of the label or of a group attribute, int64 [n].

        Raises:
            ValueError: If the attribute has no role; the message names the nearest one.
        """
        name = self.roles.attribute(attribute).name
        return np.asarray(self.labels if name == self.label else self.groups[name], dtype=np.int64)

    def subset(self, positions: np.ndarray) -> LearningTask:
        """Return the task with only some of its examples, in the order of their positions (int64 [k])."""
        return replace(
            self,
            rows=self.rows[positions],
            labels=self.labels[positions],
            groups={name: codes[positions] for name, codes in self.groups.items()},
            attributes={name: codes[positions] for name, codes in self.attributes.items()},
            ids=None if self.ids is None else self.ids[positions],
            users=None if self.users is None else self.users[positions],
        )


class Learner(ABC):
    """One training method at work on one task.

    Args:
        config: How.
        task: On what.
        plan: The privacy plan of a private learner, if it was made before.

    Attributes:
        config: Type of its config; see `LearnerConfig` for what the core asks of it.
        kind: Which method.
        name: Its name in the sweep.
        iterations: How many iterations there are in all.
        iteration: How many are done.
        final_weights: What the weights that a trial keeps are, in words.
    """

    config: ClassVar[type[LearnerConfig]]
    final_weights: ClassVar[str] = "weights"
    iterations: int

    def __init__(self, config: LearnerConfig, task: LearningTask, plan: PrivacyPlan | None = None) -> None:
        self.kind, self.name = config.kind, config.name
        self.iteration = 0

    def step(self) -> IterationReport:
        """Do one iteration.

        Raises:
            RuntimeError: If all iterations are done.
        """
        if self.iteration >= self.iterations:
            raise RuntimeError(f"all {self.iterations} iterations are done: make a new learner to train longer")
        began = time.perf_counter()
        report = self._iterate()
        if not isinstance(report, IterationReport):
            raise TypeError(f"_iterate must return an IterationReport, but returned {report!r:.60}")
        return replace(report, seconds=time.perf_counter() - began)

    @abstractmethod
    def _iterate(self) -> IterationReport:
        """Do one iteration and counts it; `step` adds the seconds to the report."""

    @abstractmethod
    def predict(self, images_BHWC: np.ndarray) -> torch.Tensor:
        """Map uint8 [B, H, W, C] to logits, float32 [B, K] on the CPU. Changes nothing."""

    @abstractmethod
    def weights(self) -> dict[str, torch.Tensor]:
        """Return a copy of the model's ``state_dict`` on the CPU."""

    @classmethod
    def trained_network(
        cls,
        config: LearnerConfig,
        weights: Mapping[str, torch.Tensor],
        build: Callable[[Mapping[str, torch.Tensor]], nn.Module],
        records: TrialFolder,
    ) -> nn.Module:
        """Return the network that predicts as the learner did at the end of its trial.

        Args:
            config: Its config.
            weights: What `weights` returned then.
            build: Makes the trial's model with given weights, those of a `Network`.
            records: What else the trial recorded.
        """
        return build(weights)

    def forgotten(self) -> np.ndarray:
        """Return the ids of the training examples that were deleted so far, int64."""
        return np.empty(0, np.int64)

    def state(self) -> dict[str, Any]:
        """Return all that a resume needs: tensors and JSON values only, no generator state, no key."""
        return {"kind": self.kind, "iteration": self.iteration, **self._state()}

    @abstractmethod
    def _state(self) -> dict[str, Any]:
        """Return what `state` holds beside kind and iteration."""

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from a state as if never interrupted, bit for bit on the same machine.

        Raises:
            ValueError: If the state is of another kind of learner or another plan.
        """
        if state.get("kind") != self.kind:
            raise ValueError(f"state must be of a learner of kind {self.kind!r}, but is of {state.get('kind')!r}")
        self._load(state)
        self.iteration = int(state["iteration"])

    @abstractmethod
    def _load(self, state: Mapping[str, Any]) -> None:
        """Take over what `_state` gave."""

    def privacy(self, charged_steps: float | None = None) -> PrivacyStatement | None:
        """Return what has been spent so far, or None for a learner that claims nothing.

        Args:
            charged_steps: Steps that are charged though fewer were taken, since when the training ended depended on the
                private model; no more than were planned. None charges those that were taken.
        """
        return None

    def facts(self) -> dict[str, Any]:
        """Return what ``data.json`` shows of how the learner uses its training set, in JSON values."""
        return {}

    def files(self) -> dict[str, Callable[[Path], None]]:
        """Return the records of its own that the learner keeps: for each name what writes it."""
        return {}

    def canary_scores(self) -> torch.Tensor | None:
        """Return the score of each canary so far, float64 [m] on the CPU; None without an audit."""
        return None

    def parts(self) -> Sequence[Network]:
        """Return the models that the learner aggregates, each of which predicts by itself; none for a single one."""
        return ()

    def close(self) -> None:  # noqa: B027 - most hold none
        """Let go of workers that the learner holds; may be called twice."""


class SingleModelLearner(Learner):
    """A learner of one model."""

    _network: Network

    def predict(self, images_BHWC: np.ndarray) -> torch.Tensor:
        """Map uint8 [B, H, W, C] to logits, float32 [B, K] on the CPU."""
        return self._network.predict(images_BHWC)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return a copy of the model's ``state_dict`` on the CPU."""
        return self._network.weights()
