"""The privacy plan: one object from which sampler, clipping, noise and the accounted event all come."""

from __future__ import annotations

import math
from typing import Literal, Protocol, Self

import dp_accounting
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fairsweep.datasets.randomness import derive
from fairsweep.datasets.sampling import Poisson, Sampler, Shuffled
from fairsweep.trainables.accounting import Epsilon, calibrate, describe, epsilon_of, sampled_gaussian
from fairsweep.trainables.clipping import Clipping
from fairsweep.trainables.noise import GaussianNoise
from fairsweep.trainables.privacy_statement import (
    Mode,
    PrivacyStatement,
    list_assumptions,
    list_revelations,
    summarise_guarantee,
)


class PlanError(ValueError):
    """A privacy plan that cannot be made, or that is not the plan of this config."""


class PrivateTraining(Protocol):
    """The fields of a config that a plan for per-example privacy is made from; see `DpsgdConfig`."""

    @property
    def epochs(self) -> int: ...  # noqa: D102
    @property
    def batch_size(self) -> int: ...  # noqa: D102
    @property
    def epsilon(self) -> float | None: ...  # noqa: D102
    @property
    def noise_multiplier(self) -> float | None: ...  # noqa: D102
    @property
    def delta(self) -> float | None: ...  # noqa: D102
    @property
    def l2_clip_norm(self) -> float | None: ...  # noqa: D102
    @property
    def clipping(self) -> Literal["flat", "per_layer", "none"]: ...  # noqa: D102
    @property
    def sampler(self) -> Literal["poisson", "shuffled"]: ...  # noqa: D102


class PrivacyPlan(BaseModel):
    """What a private training does, and therefore what it costs. All of it is public.

    Made once (calibration takes seconds) and handed to every trial with the same numbers; `verify` proves that it fits.

    Attributes:
        unit: Whose contribution is hidden.
        relation: ``zero_out``: neighbouring training sets differ in one unit that contributes nothing. The population,
            the sampling rate and the number of steps are the same for both, and public.
        sampler: ``poisson``: each unit joins each step with the same probability, independently. ``shuffled``: each
            unit once an epoch, for which no epsilon is claimed.
        population: Number of units, N.
        sampling_rate: Probability q in (0, 1] of joining a step.
        steps: Number of steps, T = round(epochs / q); with shuffled batches those of all epochs.
        clipping: ``flat``, ``per_layer`` or ``none``.
        l2_clip_norm: The clipping norm S; without clipping the unit in which noise is measured; None without both.
        noise_multiplier: z; the sum of clipped gradients gets noise of standard deviation z S.
        delta: In (0, 1/N).
        target_epsilon: The budget that z was calibrated to, if any.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    unit: Literal["example", "client"] = "example"
    relation: Literal["zero_out"] = "zero_out"
    sampler: Literal["poisson", "shuffled"] = "poisson"
    population: int = Field(ge=1)
    sampling_rate: float = Field(gt=0, le=1)
    steps: int = Field(ge=1)
    clipping: Literal["flat", "per_layer", "none"]
    l2_clip_norm: float | None = Field(gt=0)
    noise_multiplier: float = Field(ge=0)
    delta: float = Field(gt=0, lt=1)
    target_epsilon: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.l2_clip_norm is None and (self.noise_multiplier > 0 or self.clipping != "none"):
            raise ValueError("clipping and noise are measured in l2_clip_norm, but it is None")
        return self

    @classmethod
    def build(cls, config: PrivateTraining, population: int) -> PrivacyPlan:
        """Makes the plan of a config for a training set of known size; calibrates the noise if a budget is given.

        Args:
            config: The learner's config.
            population: Number of training examples, n.

        Returns:
            The plan.

        Raises:
            PlanError: If the batch is larger than the training set, delta is too large, or no noise affords the budget.
        """
        if not 1 <= config.batch_size <= population:
            raise PlanError(
                f"batch_size must be at most the training set's size {population}, but got "
                f"batch_size={config.batch_size}: it is the expected size of a Poisson batch; lower it"
            )
        delta = default_delta(population) if config.delta is None else float(config.delta)
        if delta >= 1 / population:
            raise PlanError(
                f"delta must be below 1/N = {1 / population:.3g}, but got delta={delta:.3g}: publishing one example "
                "outright satisfies any larger delta; leave delta out for a default"
            )
        sampling_rate = config.batch_size / population
        steps = round(config.epochs * population / config.batch_size)
        if config.sampler == "shuffled":
            steps = config.epochs * math.ceil(population / config.batch_size)
        if config.noise_multiplier is not None:
            noise_multiplier = float(config.noise_multiplier)
        else:
            budget = float(config.epsilon or math.nan)
            try:
                noise_multiplier = calibrate(budget, delta, sampling_rate, steps)
            except ValueError as error:
                raise PlanError(str(error)) from error
        return cls(
            sampler=config.sampler,
            population=population,
            sampling_rate=sampling_rate,
            steps=steps,
            clipping=config.clipping,
            l2_clip_norm=config.l2_clip_norm,
            noise_multiplier=noise_multiplier,
            delta=delta,
            target_epsilon=config.epsilon,
        )

    def verify(self, config: PrivateTraining, population: int) -> None:
        """Checks that this plan is the one of a config, without calibrating again.

        Raises:
            PlanError: If a field differs; it is named.
        """
        given = self.noise_multiplier if config.noise_multiplier is None else config.noise_multiplier
        uncalibrated = _Uncalibrated(config, given)
        expected = PrivacyPlan.build(uncalibrated, population).model_copy(update={"target_epsilon": config.epsilon})
        differing = [name for name in PrivacyPlan.model_fields if getattr(self, name) != getattr(expected, name)]
        if differing:
            shown = ", ".join(f"{n}={getattr(self, n)!r} (must be {getattr(expected, n)!r})" for n in differing)
            raise PlanError(f"this privacy plan was made for another config or training set: {shown}; build it anew")
        if self.target_epsilon is not None and self.epsilon().pld > self.target_epsilon:
            raise PlanError(
                f"this privacy plan's noise_multiplier={self.noise_multiplier} costs "
                f"epsilon={self.epsilon().pld:.4g}, more than its target {self.target_epsilon}: build it anew"
            )

    @property
    def expected_batch_size(self) -> float:
        """The constant q N by which every sum of clipped gradients is divided, whatever the realised batch."""
        return self.sampling_rate * self.population

    @property
    def guarantees(self) -> bool:
        """True if there is Poisson sampling, clipping and noise; else epsilon is infinite."""
        return self.sampler == "poisson" and self.clipping != "none" and self.noise_multiplier > 0

    def inclusion(self, secret: bytes, run: int) -> Sampler:
        """Returns the sampler, keyed by the trial's secret and the run."""
        key = derive(secret, "inclusion", run)
        if self.sampler == "poisson":
            return Poisson(self.population, self.sampling_rate, self.steps, key)
        batch_size = round(self.expected_batch_size)
        return Shuffled(self.population, batch_size, self.steps // math.ceil(self.population / batch_size), key)

    def bound(self) -> Clipping:
        """Returns the rule by which contributions are clipped."""
        return Clipping(self.clipping, self.l2_clip_norm)

    def noise(self, secret: bytes, run: int) -> GaussianNoise:
        """Returns the noise that the sum of clipped gradients gets, keyed by the trial's secret and the run."""
        return GaussianNoise(self.noise_multiplier * (self.l2_clip_norm or 0.0), secret, run)

    def _lacking(self) -> list[str]:
        """Names what a guarantee would need and this plan does not have."""
        present = {
            "clipping": self.clipping != "none",
            "noise": self.noise_multiplier > 0,
            "Poisson sampling": self.sampler == "poisson",
        }
        return [name for name, there in present.items() if not there]

    def event(self, steps: int | None = None) -> dp_accounting.DpEvent:
        """Returns the event of the first ``steps`` steps (default: of all)."""
        taken = self.steps if steps is None else steps
        return sampled_gaussian(self.noise_multiplier if self.guarantees else 0.0, self.sampling_rate, taken)

    def epsilon(self, steps: int | None = None) -> Epsilon:
        """Returns what the first ``steps`` steps (default: all) cost; infinite without a guarantee."""
        return epsilon_of(self.event(steps), self.delta)

    def statement(self, steps_done: int, mode: Mode) -> PrivacyStatement:
        """Says what has been spent and under which assumptions.

        Args:
            steps_done: Number of steps taken so far.
            mode: ``research`` (secrets follow from the sweep's key; losses and diagnostics are recorded) or
                ``release``.

        Returns:
            The statement, JSON by ``model_dump(mode="json")``.
        """
        event = self.event(steps_done)
        return PrivacyStatement(
            mode=mode,
            unit=self.unit,
            relation=self.relation,
            sampler=self.sampler,
            delta=self.delta,
            epsilon=epsilon_of(event, self.delta),
            target_epsilon=self.target_epsilon,
            noise_multiplier=self.noise_multiplier,
            clipping=self.clipping,
            l2_clip_norm=self.l2_clip_norm,
            sampling_rate=self.sampling_rate,
            population=self.population,
            steps=steps_done,
            planned_steps=self.steps,
            events=(describe(event),),
            summary=summarise_guarantee(self.unit, self._lacking(), mode),
            assumptions=(
                list_assumptions(self.unit, self.population, self.sampling_rate, mode) if self.guarantees else ()
            ),
            reveals=list_revelations(mode),
        )


def default_delta(population: int) -> float:
    """Returns the largest power of ten strictly below 1/N.

    Example:
        >>> default_delta(4000), default_delta(10_000), default_delta(162_770)
        (0.0001, 1e-05, 1e-06)
    """
    return float(f"1e-{len(str(population))}")


class _Uncalibrated:
    """A config's view with the noise multiplier given."""

    def __init__(self, config: PrivateTraining, noise_multiplier: float) -> None:
        self.epochs, self.batch_size, self.delta = config.epochs, config.batch_size, config.delta
        self.l2_clip_norm, self.clipping, self.sampler = config.l2_clip_norm, config.clipping, config.sampler
        self.epsilon, self.noise_multiplier = None, noise_multiplier
