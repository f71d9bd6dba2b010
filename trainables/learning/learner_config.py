"""What every learner's config is, and what the core asks of it before a trial exists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, SerializationInfo, SerializerFunctionWrapHandler, model_serializer

from fairsweep.analysis.own_code import OwnCode
from fairsweep.datasets.selection.partitions import TrainingColumns
from fairsweep.trainables.layers.numerics import NumericsConfig
from fairsweep.trainables.learning.roles import Roles
from fairsweep.trainables.models.examination import Examined
from fairsweep.trainables.models.frozen_body import FrozenBody, find_body
from fairsweep.trainables.models.model import ModelConfig
from fairsweep.trainables.privacy.plan import Outlook, PrivacyPlan

IDENTITY, FORMER_IDENTITY = "identity", "former identity"
"""Contexts of a dump that is hashed: today, and before some default changed its meaning."""


@dataclass(frozen=True)
class InnerWorkers:
    """Further processes of a trial, in bundles 1 to n of its placement group.

    Attributes:
        most: How many have something to do.
        least: With how many the trial is content.
        cpu: CPUs of each.
        gpu: GPUs of each.
    """

    most: int
    least: int
    cpu: float
    gpu: float


@dataclass(frozen=True)
class KeptModels:
    """How many models a trial holds on disk.

    Attributes:
        trained: In its final weights.
        copies: Further copies of each that stay, so that training can go back to them.
        in_checkpoint: In a checkpoint, each with its optimiser.
    """

    trained: int = 1
    copies: int = 0
    in_checkpoint: int = 1


@dataclass(frozen=True)
class MeasuredChoice:
    """What a trial would choose by measuring its own machine: a sweep chooses once for all its trials.

    Attributes:
        name: What tells choices of one learner apart.
        key: What the choice depends on, beside the model and the kind of device.
        measure: Chooses for images of a shape (height, width, channels) and a number of classes.
        settle: Makes the config in which a choice is settled.
    """

    name: str
    key: str
    measure: Callable[[tuple[int, int, int], int], str]
    settle: Callable[[str], Any]


class LearnerConfig(BaseModel):
    """What is configured of a learner. A learner overrides what differs from ordinary training of one model.

    Attributes:
        name: The learner's name in the sweep.
        kind: Which training method.
        no_identity: Fields that change no result, or by rounding only: no part of a trial's identity.
        later: Fields that earlier versions did not have: at their default no identity says anything of them.
        has_plan: Whether `plan` makes a privacy plan.
        takes_workers: Whether further processes (``resources: {workers: …}``) have something to do.
        takes_features: Whether the learner gives what its feed gives to a `Network` that was made with the task's tail,
            and so may learn from features of a frozen body.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    no_identity: ClassVar[frozenset[str]] = frozenset({"name", "performance"})
    later: ClassVar[frozenset[str]] = frozenset()
    has_plan: ClassVar[bool] = False
    takes_workers: ClassVar[bool] = False
    takes_features: ClassVar[bool] = False

    name: str = Field(min_length=1)
    kind: str

    @property
    def numerics(self) -> dict[str, Any]:
        """Return the fields of ``performance`` that are part of the identity, as precision, unless at their defaults.

        They change results by more than the order of sums.
        """
        performance = getattr(self, "performance", None)
        if not isinstance(performance, NumericsConfig):
            return {}
        given = performance.model_dump(mode="json", include=set(performance.identity), exclude_defaults=True)
        return {"performance": given} if given else {}

    @property
    def rules(self) -> dict[str, str]:
        """Return what decides a result and no field says, as a default that has changed: part of the identity."""
        return {}

    @model_serializer(mode="wrap")
    def _dump(self, serialise: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        values: dict[str, Any] = serialise(self)
        if info.context != IDENTITY:
            return values
        fields = type(self).model_fields
        unsaid = {name for name in self.later if getattr(self, name) == fields[name].default}
        performance = getattr(self, "performance", None)
        if isinstance(performance, NumericsConfig) and "performance" in values:
            said = performance.said(values["performance"])
            values = values | {"performance": said}
            unsaid |= set() if said else {"performance"}
        return {name: value for name, value in values.items() if name not in unsaid} | self.rules

    @property
    def by_content(self) -> Mapping[str, str]:
        """Return what counts for a trial's identity by its content, beside the fields."""
        return {}

    @property
    def divides_data(self) -> bool:
        """Whether `count_units` looks at more than the number of examples."""
        return False

    @property
    def predicts_forgotten(self) -> bool:
        """Whether a shadow goes on predicting candidates that it has forgotten, for an audit of forgetting."""
        return False

    def check_model(self, model: ModelConfig) -> None:
        """Refuse a model that the learner cannot train.

        Raises:
            ValueError: With the reason and the remedy.
        """

    def check_network(self, name: str, examined: Examined) -> None:
        """Refuse a network for what it was found to be.

        Args:
            name: The model's.
            examined: The network.

        Raises:
            ValueError: With the reason and the remedy.
        """

    def check_release(self) -> None:
        """Refuse a learner whose weights release mode may not publish.

        Raises:
            ValueError: With the reason.
        """
        raise ValueError(
            f"privacy: {{mode: release}} publishes what a guarantee covers, but {self.name!r} claims none: its weights "
            "are exact functions of private data; train it in research mode, or give it clipping, noise and Poisson "
            "sampling"
        )

    def check_images(self, image_shape: tuple[int, int, int]) -> None:
        """Refuse images (height, width, channels) that are too small for the learner's augmentation.

        Raises:
            ValueError: With the reason and the remedy.
        """
        if (augmentation := getattr(self, "augmentation", None)) is not None:
            augmentation.check_shape(image_shape)

    def frozen_body(self, model: ModelConfig, image_shape: tuple[int, int, int], classes: int) -> FrozenBody:
        """Return where the model's frozen body ends, if the learner may learn from its features, or why it may not.

        Args:
            model: Which model.
            image_shape: (height, width, channels).
            classes: Number of classes.
        """
        augmentation = getattr(self, "augmentation", None)
        if model.train == "all":
            return FrozenBody()
        if not self.takes_features:
            return FrozenBody(reason=f"a learner of kind {self.kind!r} reads images")
        if augmentation is not None and augmentation.active:
            return FrozenBody(reason="augmentation changes the images")
        return find_body(model, image_shape, classes)

    def check_values(self, roles: Roles) -> None:
        """Refuse names of attributes and values that do not exist.

        Raises:
            ValueError: With the nearest name.
        """

    def check_claims(self) -> None:
        """Refuse a config under which something that is claimed would not hold; asked of trials that do not exist yet.

        Raises:
            ValueError: With the reason and the remedy.
        """

    def count_units(self, columns: TrainingColumns, data_key: bytes) -> int:
        """Count what the learner's privacy protects in a training set: examples, or clients.

        Args:
            columns: The training examples.
            data_key: 32 bytes, public.

        Raises:
            ValueError: If the learner cannot be trained on this set.
        """
        return len(columns.rows)

    def plan(self, units: int) -> PrivacyPlan | None:
        """Make the privacy plan for so many units; None for a learner that claims nothing.

        Calibration takes seconds: do it once for all trials with the same numbers, and hand the plan over as JSON.

        Raises:
            ValueError: If there is no plan for so many.
        """
        return None

    def outlook(self, units: int) -> Outlook | None:
        """Return what is known beforehand of the cost of a learner without a plan; None where nothing is claimed."""
        return None

    def twin(self, name: str) -> Self:
        """Return the config that differs from this one in its privacy, or unlearning, fields alone.

        Args:
            name: The twin's own name.

        Raises:
            ValueError: If the learner has no such fields.
        """
        raise ValueError(
            f"twin_of must name a private learner, or one that can forget, but {self.name!r} is of kind "
            f"{self.kind!r}: name another, or write this learner out"
        )

    def workload(self, examples: int) -> str | None:
        """Return what a trial does on so many examples where its epochs are not all of it, in words; else None."""
        return None

    def kept_models(self) -> KeptModels:
        """Return how many models a trial holds on disk."""
        return KeptModels()

    def growth(self) -> float | None:
        """Return how much longer the mean iteration takes than the first one; None where all are alike."""
        return None

    @property
    def trains_alone(self) -> str:
        """Return why its trials cannot train side by side in one process; empty where they can."""
        return f"a learner of kind {self.kind!r} may do more than the steps of one model"

    def inner_workers(self) -> InnerWorkers | None:
        """Return the processes that the learner makes itself; None for a learner that makes none."""
        return None

    def with_more_gpu(self, grow: Callable[[float], float]) -> Self:
        """Return the config with more of a GPU for each of its own workers."""
        return self

    def choice(self, model: ModelConfig, device: torch.device) -> MeasuredChoice | None:
        """Return what is still to be chosen by measuring; None where nothing is."""
        return None


class OwnLearnerFields(LearnerConfig):
    """What the config of a learner in a file of the user's own has besides.

    Attributes:
        kind: ``FILE.py:CLASS``.
        source: Text of the file; filled in by fairsweep.
    """

    kind: str
    source: str = Field(repr=False)

    @property
    def by_content(self) -> Mapping[str, str]:
        """The source counts by its text, wherever it lies."""
        content = OwnCode(self.kind, self.source).by_content
        return {"kind": content["name"], "source": content["source"]}
