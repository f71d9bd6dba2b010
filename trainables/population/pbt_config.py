"""The config of population-based training, and its checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from fairsweep.analysis.metrics.own_metrics import is_own
from fairsweep.trainables.layers.numerics import refuse_compiled
from fairsweep.trainables.learning.learner_config import KeptModels, LearnerConfig
from fairsweep.trainables.learning.measures import SPENT, Meaning, Measure
from fairsweep.trainables.learning.objectives import Objective
from fairsweep.trainables.learning.roles import Roles
from fairsweep.trainables.models.augmentation import AugmentationConfig
from fairsweep.trainables.population.hyperparameters import Explored, Hyperparameter, Interval, settled
from fairsweep.trainables.sgd.sgd_learner import SgdConfig

_PRIVATE = ("dpsgd", "dpfedavg")


class PbtConfig(LearnerConfig):
    """Population-based training: members train side by side, and the worst go on from copies of the best.

    Attributes:
        name: The learner's name in the sweep.
        population: Number of members, at least 2. They train one after the other on what the trial reserves, and a
            checkpoint holds all of them: time and checkpoints are those of so many trials.
        interval: Epochs between two rankings; an iteration is one such generation, the last may be shorter.
        inner: How a member trains: ``sgd``. Its ``epochs`` are those of each member.
        explore: For fields of ``inner``, named with dots (``optimizer.lr``), the values that they can take: ``{low: a,
            high: b}``, with ``log: true`` uniform in the logarithm, or a list in its order. Members begin with values
            drawn from these.
        quantile: Share in [0, 0.5] of the members, rounded up, that are replaced after each generation if they do
            worse than the member, drawn from as many of the best, whose weights and optimiser state they take over.
            With 0 only members that have diverged are.
        resample: Probability in [0, 1] with which a hyperparameter of a copy is drawn anew instead of moved.
        factors: What a number is multiplied by when it moves, down or up. A value of a list becomes a neighbour.
        objective: What members are ranked by, on the validation split: ``{max: accuracy}``, ``{max:
            worst_group_accuracy by tone}``, ``{min: equalized_odds_difference by tone}``.

    References:
        Jaderberg et al. 2017, "Population based training of neural networks", arXiv 1711.09846.
    """

    takes_features: ClassVar[bool] = True

    name: str = Field(default="pbt", min_length=1)
    kind: Literal["pbt"] = "pbt"
    population: int = 8
    interval: int = Field(default=1, ge=1)
    inner: SgdConfig = SgdConfig()
    explore: dict[str, Explored] = Field(min_length=1)
    quantile: float = Field(default=0.25, ge=0, le=0.5)
    resample: float = Field(default=0.25, ge=0, le=1)
    factors: tuple[Annotated[float, Field(gt=0, lt=1)], Annotated[float, Field(gt=1)]] = (0.8, 1.2)
    objective: Objective = Objective(max=Measure("accuracy"))

    @field_validator("population")
    @classmethod
    def _several(cls, population: int) -> int:
        if population < 2:
            raise ValueError(
                f"a population needs at least 2 members, but got {population=}: of a single one nobody could be "
                "copied; for one model take kind: sgd"
            )
        return population

    @field_validator("inner", mode="before")
    @classmethod
    def _trains_by_sgd(cls, given: object) -> object:
        kind = given.get("kind", "sgd") if isinstance(given, Mapping) else getattr(given, "kind", None)
        if kind in _PRIVATE:
            raise ValueError(
                f"inner must be of kind sgd, but got kind {kind!r}: a copied model would have to be charged to its own "
                "training and to that of the member it replaces, and to choose whom to copy, epoch after epoch, spends "
                "privacy that no plan accounts for; tune a private learner by search, where every trial is charged"
            )
        if kind not in ("sgd", None):
            raise ValueError(
                f"inner must be of kind sgd, but got kind {kind!r}: other learners cannot copy state between members"
            )
        return given

    @field_validator("inner")
    @classmethod
    def _nameless(cls, inner: SgdConfig) -> SgdConfig:
        refuse_compiled(inner.performance, "pbt")
        # A name is no part of a trial's identity.
        return inner.model_copy(update={"name": SgdConfig().name})

    @field_validator("explore", mode="before")
    @classmethod
    def _written_with_dots(cls, given: object) -> object:
        for name, values in given.items() if isinstance(given, Mapping) else ():
            if isinstance(values, Mapping) and not {"low", "high"} & set(values):
                inside = next(iter(values), "lr")
                raise ValueError(f"write fields with dots, {name}.{inside}: …, each with {{low: a, high: b}} or a list")
            if not isinstance(values, Mapping | list | tuple | Interval):
                raise ValueError(f"{name} is explored between {{low: a, high: b}} or in a list, but got {values!r}")
        return given

    @field_validator("explore")
    @classmethod
    def _typed(cls, explore: dict[str, Explored], info: ValidationInfo) -> dict[str, Explored]:
        inner = info.data.get("inner")
        if inner is None:
            return explore  # inner is wrong: its own check says so
        values = {field.name: field.values for field in settled(inner, explore)}
        return {name: values[name] or explore[name] for name in explore}

    @field_validator("objective")
    @classmethod
    def _of_cells(cls, objective: Objective) -> Objective:
        if objective.measure.metric in SPENT:
            raise ValueError(
                f"members are ranked by what they predict on the validation split, but got {objective}: choose a "
                "metric such as accuracy"
            )
        return objective

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.interval >= self.inner.epochs:
            raise ValueError(
                f"interval must be below the epochs of inner, but got interval={self.interval}, "
                f"epochs={self.inner.epochs}: after the last generation no member is copied"
            )
        return self

    @property
    def hyperparameters(self) -> tuple[Hyperparameter, ...]:
        """What is explored, by name."""
        return settled(self.inner, self.explore)

    @property
    def generations(self) -> int:
        """Number of generations."""
        return -(-self.inner.epochs // self.interval)

    @property
    def batch_size(self) -> int:
        """The largest batch of any member."""
        return max(self._possible("batch_size", self.inner.batch_size))

    @property
    def augmentation(self) -> AugmentationConfig:
        """The members' augmentation, at its largest crop."""
        crop = max(self._possible("augmentation.crop", self.inner.augmentation.crop))
        return self.inner.augmentation.model_copy(update={"crop": crop})

    def steps(self, examples: int) -> tuple[int, int]:
        """Return how many optimiser steps all members take together on so many examples, at least and at most."""
        sizes = self._possible("batch_size", self.inner.batch_size)
        most, least = (self.population * self.inner.epochs * -(-examples // size) for size in (min(sizes), max(sizes)))
        return least, most

    def check_values(self, roles: Roles) -> None:
        """Refuse attributes, values and classes that do not exist."""
        self.inner.check_values(roles)
        self.objective.settled(meaning_of(roles))

        if is_own(self.objective.measure.metric):
            raise ValueError(
                f"objective must be a measure of fairsweep's, but {self.objective.measure.metric} is a metric of your "
                "own: a population chooses by numbers that its trial's config defines"
            )

    def workload(self, examples: int) -> str:
        """Return what one trial does on so many examples: steps of all members together."""
        least, most = self.steps(examples)
        steps = f"{most:,}" if least == most else f"{least:,} to {most:,}"
        return (
            f"{self.population} members of {self.inner.epochs} epochs each, one after the other: {steps} steps a "
            f"trial; all are ranked on the validation split after each of {self.generations} generations"
        )

    def kept_models(self) -> KeptModels:
        """Return one model, that of the best member; a checkpoint holds every member."""
        return KeptModels(in_checkpoint=self.population)

    def _possible(self, name: str, otherwise: int) -> tuple[int, ...]:
        return next((field.ends for field in self.hyperparameters if field.name == name), (otherwise,))


def meaning_of(roles: Roles) -> Meaning:
    """Return what cells mean where attributes have these roles."""
    groups = tuple(attribute.name for attribute in roles.groups)
    return Meaning.of(roles.label.name, groups, (*roles.groups, roles.label))
