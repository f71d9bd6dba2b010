"""The config of one trial, and its identity: two hashes of everything that can change a result."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from fairsweep.analysis.records.files import FORMAT_VERSION
from fairsweep.datasets.selection.division import OfficialSplit, RestSplit, SplitConfig
from fairsweep.datasets.selection.evaluation import EvaluationConfig
from fairsweep.datasets.selection.imbalance import ImbalanceConfig
from fairsweep.datasets.selection.randomness import derive, seed_key
from fairsweep.trainables.learners import AnyLearner
from fairsweep.trainables.learning.learner_config import FORMER_IDENTITY, IDENTITY
from fairsweep.trainables.models.model import ModelConfig
from fairsweep.trainables.models.models import DEFAULT_MODEL, AnyModel

if TYPE_CHECKING:
    from fairsweep.trainables.learning.learner import TrialKeys

# Part of every hash. Fields at their default are left out of a hash, so that a new field changes no identity: whoever
# changes the meaning of a default that exists raises this number.
IDENTITY_VERSION = 1
_HASH_CHARACTERS = 16

_RECORDED = ("model", "imbalance", "dataset", "split", "evaluation", "test_content", "seeds", "replicate")

Mode = Literal["research", "release"]


class DatasetReference(BaseModel):
    """The prepared dataset of a sweep, and the roles of its attributes.

    Attributes:
        path: the folder, on the machine where the trial runs.
        name: its name.
        content_hash: of its content; the folder must hold exactly this.
        label: the attribute that is predicted.
        groups: the attributes whose values are the groups.
        has_users: whether its examples belong to users, whose images a drawn split keeps together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    name: str
    content_hash: str
    label: str
    groups: tuple[str, ...]
    has_users: bool = False


class Seeds(BaseModel):
    """The public seeds of one replicate.

    Attributes:
        data: of the imbalance draw.
        train: of initial weights, order and augmentation.
        noise: number of a repetition with the same two, whose secret is its own; None for the first. It shares its
            noise with no other trial, not even with those of the same number.
        order: number of a repetition with the same training seed but for the order of the examples; None for the first.
        init: number of a repetition with the same training seed but for the initial weights; None for the first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: int = Field(default=0, ge=0)
    train: int = Field(default=0, ge=0)
    noise: int | None = Field(default=None, ge=1)
    order: int | None = Field(default=None, ge=1)
    init: int | None = Field(default=None, ge=1)

    def keys(self, secret: bytes, run: int = 0) -> TrialKeys:
        """Return the keys of a trial with these seeds.

        Args:
            secret: the trial's secret.
            run: see `TrialKeys`.
        """
        from fairsweep.trainables.learning.learner import TrialKeys

        train = seed_key(self.train, "train")
        init, order = (
            None if number is None else derive(train, f"further {name}", number)
            for name, number in (("initial weights", self.init), ("order", self.order))
        )
        return TrialKeys(seed_key(self.data, "data"), train, secret, run, init, order)

    @model_serializer(mode="wrap")
    def _given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is not given, so that records and hashes of trials without it stay as they were."""
        return {name: seed for name, seed in handler(self).items() if seed is not None}


class TrialConfig(BaseModel):
    """All that decides a trial's result, and where to find its data.

    Attributes:
        dataset: what is learnt from.
        imbalance: how the training set is drawn; None takes the whole training split.
        model: the model.
        learner: the training method.
        twin_of: name of the learner of which this one is the twin; no part of the identity.
        split: which examples are learnt from and which are evaluated.
        evaluation: the fixed evaluation sets.
        test_content: content hash of the other dataset that is tested on; None where ``evaluation`` names none.
        seeds: the public seeds.
        replicate: number of the seeds' pair in its sweep; no part of the identity.
        mode: ``research`` (secrets follow from ``key``, losses and diagnostics are recorded) or ``release``.
        key: keys the trial secrets of research mode; public.
        shadow_candidates: of a shadow trial: how many examples are predicted at the end, whether it trained on them or
            not. It trains on a random half of the training set: each example is in by a coin of the data seed, and all
            draws are those of data seed 0. None: no shadow trial.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: DatasetReference
    imbalance: ImbalanceConfig | None = None
    model: AnyModel = DEFAULT_MODEL
    learner: AnyLearner
    twin_of: str | None = None
    split: SplitConfig = OfficialSplit()
    evaluation: EvaluationConfig = EvaluationConfig()
    test_content: str | None = None
    seeds: Seeds = Seeds()
    replicate: int = 0
    mode: Mode = "research"
    key: int = Field(default=0, ge=0)
    shadow_candidates: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.evaluation.dataset is None) != (self.test_content is None):
            raise ValueError(
                "test_content must be given with evaluation.dataset and only then, "
                f"but got {self.test_content=}, dataset={self.evaluation.dataset}"
            )
        if self.mode == "release" and getattr(self.learner, "audit", None) is not None:
            raise ValueError(
                f"an audit records what no guarantee covers, so it needs mode: research, but learner "
                f"{self.learner.name!r} has one in mode: release: leave audit out"
            )
        if self.mode == "release" and self.seeds.noise is not None:
            raise ValueError(
                "seeds.noise repeats a training under further noise to compare the models, so it needs mode: research: "
                "leave it out"
            )
        if self.learner.predicts_forgotten and self.shadow_candidates is None:
            raise ValueError(
                f"audit.forgotten compares shadows of each other, but learner {self.learner.name!r} has none: give the "
                "sweep shadows: 32 in the place of seeds, or leave audit.forgotten out"
            )
        if self.mode == "release" and self.shadow_candidates is not None:
            raise ValueError("shadows record who was trained on, so they need mode: research: leave shadows out")
        return self

    @property
    def draw_seed(self) -> int:
        """Return the data seed of splits and imbalance: one for all shadow trials, which differ in coins alone."""
        return self.seeds.data if self.shadow_candidates is None else 0

    @property
    def setting(self) -> str:
        """Hash of the setting: the identity without seeds, 16 hexadecimal digits."""
        return _hash(self._identity())

    @property
    def trial(self) -> str:
        """Hash of the trial: the setting and its seeds, 16 hexadecimal digits."""
        return self._hash_of(IDENTITY)

    @property
    def drawn_by(self) -> tuple[str, ...]:
        """The sections that draw the training set from all examples together; see `LearningTask.drawn_by`."""
        split = () if isinstance(self.split, OfficialSplit) else (f"split: {self.split.kind}",)
        return (*(() if self.imbalance is None else ("imbalance",)), *split)

    def record(self) -> dict[str, Any]:
        """Return what ``config.json`` holds."""
        content = self.model_dump(mode="json")
        return {
            "format_version": FORMAT_VERSION,
            "learner": content["learner"] | {"twin_of": self.twin_of},
            **{name: content[name] for name in _RECORDED},
            **self._shadow(),
            "model": self.model.record(),
            "setting": self.setting,
            "trial": self.trial,
            "mode": self.mode,
            "key": self.key,
        }

    @classmethod
    def from_record(cls, content: Mapping[str, Any]) -> Self:
        """Return the inverse of `record`.

        Raises:
            ValueError: if the record is not one, or its hash is not that of its content.
        """
        learner = dict(content["learner"])
        twin_of = learner.pop("twin_of", None)
        fields = {name: content[name] for name in (*_RECORDED, "mode", "key", "shadow_candidates") if name in content}
        config = cls(learner=learner, twin_of=twin_of, **fields)
        if config._hash_of(FORMER_IDENTITY) == content.get("trial") != config.trial:
            raise ValueError(
                "it is of a version with another default of delta, whose noise is not today's: train it anew with "
                "`fairsweep resume`"
            )
        if config.trial != content.get("trial"):
            raise ValueError(
                f"it must be of trial {content.get('trial')}, but is of {config.trial}: it was edited, or a file "
                "that it names (weights, own code) has another content now"
            )
        return config

    def _hash_of(self, context: str) -> str:
        return _hash(self._identity(context) | {"seeds": self.seeds.model_dump(mode="json")})

    def _identity(self, context: str = IDENTITY) -> dict[str, Any]:
        dataset = {
            "content": self.dataset.content_hash,
            "label": self.dataset.label,
            "groups": list(self.dataset.groups),
        }
        imbalance = None if self.imbalance is None else _canonical(self.imbalance)
        learner = _canonical(self.learner, leave_out=set(self.learner.no_identity), context=context)
        return {
            "version": IDENTITY_VERSION,
            "dataset": dataset,
            "imbalance": imbalance,
            "model": _model_identity(self.model),
            "learner": learner | self.learner.numerics | {"kind": self.learner.kind} | dict(self.learner.by_content),
            # The other dataset counts by its content, wherever it lies.
            "evaluation": _canonical(self.evaluation, leave_out={"dataset"}),
            "mode": self.mode,
            "key": self.key,
            **self._division_identity(),
            **self._shadow(),
        }

    def _shadow(self) -> dict[str, Any]:
        """Return what makes a shadow trial; nothing for others, which keep the hashes they had."""
        return {} if self.shadow_candidates is None else {"shadow_candidates": self.shadow_candidates}

    def _division_identity(self) -> dict[str, Any]:
        """Return the split and the other dataset, where there are any: sweeps without them keep the hashes they had."""
        identity: dict[str, Any] = {}
        if not isinstance(self.split, OfficialSplit):
            identity["split"] = _canonical(self.split) | {"kind": self.split.kind}
            if self.dataset.has_users:
                # Trials of earlier versions, which divided single examples, keep the hashes they had.
                is_rest = isinstance(self.split, RestSplit)
                identity["split"]["divides"] = "users but those tested" if is_rest else "users"
        if self.test_content is not None:
            identity["test_content"] = self.test_content
        return identity


def _canonical(config: BaseModel, leave_out: set[str] | None = None, context: str = IDENTITY) -> dict[str, Any]:
    """Return the typed values of a config that are not at their default: 3 and 3.0 are one epsilon."""
    return config.model_dump(mode="json", exclude=leave_out, exclude_defaults=True, context=context)


def _model_identity(model: ModelConfig) -> dict[str, Any]:
    """Return the model's fields that are not at their default.

    A file of weights counts by its content, wherever it lies; so does the source of a model of the user's own.
    """
    files = {name: path for name, path in model if isinstance(path, Path)}
    name = {} if model.name == DEFAULT_MODEL.name else {"name": model.name}
    hashes = {name: _file_hash(path, path.stat().st_mtime_ns) for name, path in files.items()}
    hashes |= model.by_content
    return name | model.ignored | _canonical(model, leave_out={"name", *files, *model.by_content}) | hashes


@functools.lru_cache(maxsize=64)
def _file_hash(path: Path, _changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash(identity: dict[str, Any]) -> str:
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.blake2b(text.encode(), person=b"fairsweep-trial").hexdigest()[:_HASH_CHARACTERS]
