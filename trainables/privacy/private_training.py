"""The privacy plan: one object from which sampler, clipping, noise and the accounted event all come."""

from __future__ import annotations

import math
from typing import Literal, Protocol, Self

import dp_accounting
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from scipy import stats

from fairsweep.datasets.selection.randomness import derive
from fairsweep.datasets.selection.sampling import Poisson, Sampler, Shuffled, TruncatedPoisson, WeightedPoisson
from fairsweep.trainables.privacy.accounting import (
    Epsilon,
    calibrate,
    calibrate_truncated,
    describe,
    epsilon_of,
    sampled_gaussian,
    truncated_gaussian,
)
from fairsweep.trainables.privacy.clipping import Clipping
from fairsweep.trainables.privacy.noise import GaussianNoise
from fairsweep.trainables.privacy.privacy_statement import (
    GroupEpsilon,
    Mode,
    PrivacyStatement,
    describe_cut,
    describe_weights,
    list_assumptions,
    list_revelations,
    summarise_guarantee,
)
from fairsweep.trainables.privacy.sampling_weights import SamplingWeights

SamplerName = Literal["poisson", "truncated_poisson", "weighted_poisson", "shuffled"]


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
    def sampler(self) -> SamplerName: ...  # noqa: D102
    @property
    def max_batch_size(self) -> int | None: ...  # noqa: D102
    @property
    def sampling_weights(self) -> SamplingWeights | None: ...  # noqa: D102


class PrivacyPlan(BaseModel):
    """What a private training does, and therefore what it costs. All of it is public.

    Made once (calibration takes seconds) and handed to every trial with the same numbers; `verify` proves that it fits.

    Attributes:
        unit: Whose contribution is hidden.
        relation: ``zero_out``: neighbouring training sets differ in one unit that contributes nothing. The population,
            the sampling rate and the number of steps are the same for both, and public.
        sampler: ``poisson``: each unit joins each step with the same probability, independently.
            ``truncated_poisson``: of more than ``max_batch_size``, a uniformly random subset stays.
            ``weighted_poisson``: with probabilities by group, constants of the config. ``shuffled``: each unit once an
            epoch, for which no epsilon is claimed.
        population: Number of units, N.
        sampling_rate: Probability q in (0, 1] of joining a step; of units with weight 1, if they are weighted.
        steps: Number of steps, T = round(epochs / q); with shuffled batches those of all epochs.
        clipping: ``flat``, ``per_layer`` or ``none``.
        l2_clip_norm: The clipping norm S; without clipping the unit in which noise is measured; None without both.
        noise_multiplier: z; the sum of clipped gradients gets noise of standard deviation z S.
        delta: In (0, 1/N).
        target_epsilon: The budget that z was calibrated to, if any.
        max_batch_size: The cut of ``truncated_poisson``, else None.
        sampling_weights: The weights of ``weighted_poisson``, else None. The largest gives epsilon.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    unit: Literal["example", "client"] = "example"
    relation: Literal["zero_out"] = "zero_out"
    sampler: SamplerName = "poisson"
    population: int = Field(ge=1)
    sampling_rate: float = Field(gt=0, le=1)
    steps: int = Field(ge=1)
    clipping: Literal["flat", "per_layer", "none"]
    l2_clip_norm: float | None = Field(gt=0)
    noise_multiplier: float = Field(ge=0)
    delta: float = Field(gt=0, lt=1)
    target_epsilon: float | None = Field(default=None, gt=0)
    max_batch_size: int | None = Field(default=None, ge=1)
    sampling_weights: SamplingWeights | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.l2_clip_norm is None and (self.noise_multiplier > 0 or self.clipping != "none"):
            raise ValueError("clipping and noise are measured in l2_clip_norm, but it is None")
        if (self.sampler == "truncated_poisson") != (self.max_batch_size is not None):
            raise ValueError(
                f"sampler truncated_poisson and no other has a max_batch_size, but got sampler={self.sampler!r} and "
                f"max_batch_size={self.max_batch_size}"
            )
        if (self.sampler == "weighted_poisson") != (self.sampling_weights is not None):
            raise ValueError(
                f"sampler weighted_poisson and no other has sampling_weights, but got sampler={self.sampler!r} and "
                f"sampling_weights={self.sampling_weights}"
            )
        if self.largest_rate > 1:
            raise ValueError(
                "the largest sampling weight times batch_size / N must be at most 1, but is "
                f"{self.largest_rate:.4g} = {self.largest_rate / self.sampling_rate:.4g} * {self.sampling_rate:.4g}: "
                "lower batch_size or the weight"
            )
        return self

    @classmethod
    def build(cls, config: PrivateTraining, population: int) -> PrivacyPlan:
        """Make the plan of a config for a training set of known size; calibrates the noise if a budget is given.

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
        cut = None
        if config.sampler == "truncated_poisson":
            cut = min(config.max_batch_size or default_cut(config.batch_size), population)
        try:
            draft = cls(
                sampler=config.sampler,
                population=population,
                sampling_rate=sampling_rate,
                steps=steps,
                clipping=config.clipping,
                l2_clip_norm=config.l2_clip_norm,
                noise_multiplier=0.0 if config.noise_multiplier is None else float(config.noise_multiplier),
                delta=delta,
                target_epsilon=config.epsilon,
                max_batch_size=cut,
                sampling_weights=config.sampling_weights if config.sampler == "weighted_poisson" else None,
            )
            return draft if config.noise_multiplier is not None else draft._calibrated()
        except ValidationError as error:
            raise PlanError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error
        except ValueError as error:
            raise PlanError(str(error)) from error

    def _calibrated(self) -> PrivacyPlan:
        """Return the plan with the noise that its target affords."""
        budget = float(self.target_epsilon or math.nan)
        numbers = (budget, self.delta, self.largest_rate, self.steps)
        if self.max_batch_size is None:
            noise_multiplier = calibrate(*numbers)
        else:
            noise_multiplier = calibrate_truncated(*numbers, self.population, self.max_batch_size)
        return self.model_copy(update={"noise_multiplier": noise_multiplier})

    def verify(self, config: PrivateTraining, population: int) -> None:
        """Return the checks that this plan is the one of a config, without calibrating again.

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
        """The constant q N by which every sum of clipped gradients is divided, whatever the realised batch.

        Weights change who joins and not this number: it depends on no group's size, a step means the same at every
        level of imbalance, and without clipping the expected update is the gradient of the weighted mean loss.
        """
        return self.sampling_rate * self.population

    @property
    def largest_rate(self) -> float:
        """The largest probability of joining a step that the config allows any unit: the one that is accounted."""
        return self.sampling_rate * (1.0 if self.sampling_weights is None else self.sampling_weights.largest)

    @property
    def remark(self) -> str:
        """What a table says beside these numbers."""
        return ", ".join(f"no {part}" for part in self.lacking())

    @property
    def guarantees(self) -> bool:
        """True if there is Poisson sampling, clipping and noise; else epsilon is infinite."""
        return not self.lacking()

    def inclusion(self, secret: bytes, run: int, weights: NDArray[np.float64] | None = None) -> Sampler:
        """Return the sampler, keyed by the trial's secret and the run.

        Args:
            secret: The trial's secret.
            run: Number of the run under it.
            weights: float64 [N], each unit's weight, for ``weighted_poisson``; see `SamplingWeights.of`.

        Raises:
            ValueError: If weights are lacking, or larger than what is accounted.
        """
        key = derive(secret, "inclusion", run)
        if self.sampler == "poisson":
            return Poisson(self.population, self.sampling_rate, self.steps, key)
        if self.max_batch_size is not None:
            return TruncatedPoisson(self.population, self.sampling_rate, self.steps, self.max_batch_size, key)
        if self.sampling_weights is not None:
            if weights is None or len(weights) != self.population or weights.max() > self.sampling_weights.largest:
                raise ValueError(
                    f"weighted_poisson needs a weight of at most {self.sampling_weights.largest} for each of the "
                    f"{self.population} units, but got {None if weights is None else (len(weights), weights.max())}: "
                    "take them from SamplingWeights.of"
                )
            return WeightedPoisson(weights * self.sampling_rate, self.steps, key)
        batch_size = round(self.expected_batch_size)
        return Shuffled(self.population, batch_size, self.steps // math.ceil(self.population / batch_size), key)

    def expected_examples(self, weights: NDArray[np.float64] | None = None) -> float:
        """Return how many units join a step on average; see `inclusion` for the weights. It divides nothing."""
        if weights is not None:
            return float(weights.sum()) * self.sampling_rate
        if self.max_batch_size is None:
            return self.expected_batch_size
        return float(stats.binom.sf(np.arange(self.max_batch_size), self.population, self.sampling_rate).sum())

    def bound(self) -> Clipping:
        """Return the rule by which contributions are clipped."""
        return Clipping(self.clipping, self.l2_clip_norm)

    def noise(self, secret: bytes, run: int) -> GaussianNoise:
        """Return the noise that the sum of clipped gradients gets, keyed by the trial's secret and the run."""
        return GaussianNoise(self.noise_multiplier * (self.l2_clip_norm or 0.0), secret, run)

    def lacking(self) -> list[str]:
        """Names what a guarantee would need and this plan does not have."""
        present = {
            "clipping": self.clipping != "none",
            "noise": self.noise_multiplier > 0,
            "Poisson sampling": self.sampler != "shuffled",
        }
        return [name for name, there in present.items() if not there]

    def event(self, steps: int | None = None) -> dp_accounting.DpEvent:
        """Return the event of the first ``steps`` steps (default: of all)."""
        taken = self.steps if steps is None else steps
        noise_multiplier = self.noise_multiplier if self.guarantees else 0.0
        if self.max_batch_size is None:
            return sampled_gaussian(noise_multiplier, self.largest_rate, taken)
        return truncated_gaussian(noise_multiplier, self.sampling_rate, taken, self.population, self.max_batch_size)

    def epsilon(self, steps: int | None = None) -> Epsilon:
        """Return what the first ``steps`` steps (default: all) cost; infinite without a guarantee."""
        return epsilon_of(self.event(steps), self.delta)

    def epsilon_by_group(self, steps: int | None = None) -> tuple[GroupEpsilon, ...]:
        """Return what the first ``steps`` steps (default: all) cost the members of each group; () without weights.

        Values that the config does not name come last, together, as None.
        """
        weighted = self.sampling_weights
        if weighted is None or not self.guarantees:
            return ()
        taken = self.steps if steps is None else steps
        by_value: list[tuple[str | None, float]] = [*weighted.weights.items(), (None, 1.0)]
        return tuple(
            GroupEpsilon(
                attribute=weighted.attribute,
                value=value,
                sampling_rate=weight * self.sampling_rate,
                epsilon=epsilon_of(
                    sampled_gaussian(self.noise_multiplier, weight * self.sampling_rate, taken), self.delta
                ),
            )
            for value, weight in by_value
        )

    def sampling_sentences(self) -> tuple[str, ...]:
        """Says how units join a step, where it is not plain Poisson sampling."""
        if self.max_batch_size is not None:
            return describe_cut(self.unit, self.largest_rate, self.max_batch_size)
        if self.sampling_weights is not None:
            return describe_weights(self.unit, self.largest_rate, self.sampling_weights.attribute)
        return ()

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
            sampling_rate=self.largest_rate,
            population=self.population,
            steps=steps_done,
            planned_steps=self.steps,
            events=(describe(event),),
            summary=summarise_guarantee(self.unit, self.lacking(), mode),
            assumptions=(
                list_assumptions(self.unit, self.population, self.largest_rate, mode, self.sampling_sentences())
                if self.guarantees
                else ()
            ),
            reveals=list_revelations(mode),
            max_batch_size=self.max_batch_size,
            epsilon_by_group=self.epsilon_by_group(steps_done),
        )


def default_delta(population: int) -> float:
    """Return the largest power of ten strictly below 1/N.

    Example:
        >>> default_delta(4000), default_delta(10_000), default_delta(162_770)
        (0.0001, 1e-05, 1e-06)
    """
    return float(f"1e-{len(str(population))}")


def default_cut(batch_size: int) -> int:
    """Return the largest batch that truncated Poisson sampling allows by default: qN + 6 sqrt(qN), rounded up.

    A Poisson batch is larger with a chance of about 1e-9, so that the cut costs next to nothing.

    Example:
        >>> default_cut(1000), default_cut(256)
        (1190, 352)
    """
    return math.ceil(batch_size + 6 * math.sqrt(batch_size))


class _Uncalibrated:
    """A config's view with the noise multiplier given."""

    def __init__(self, config: PrivateTraining, noise_multiplier: float) -> None:
        self.epochs, self.batch_size, self.delta = config.epochs, config.batch_size, config.delta
        self.l2_clip_norm, self.clipping, self.sampler = config.l2_clip_norm, config.clipping, config.sampler
        self.max_batch_size, self.sampling_weights = config.max_batch_size, config.sampling_weights
        self.epsilon, self.noise_multiplier = None, noise_multiplier
