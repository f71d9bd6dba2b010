"""What a training does in every step, and what that costs: one object gives sampler, clipping, noise and event."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fairsweep.analysis.accounting.epsilons import Epsilon, epsilon_of
from fairsweep.analysis.accounting.events import sampled_gaussian, truncated_gaussian
from fairsweep.datasets.selection.randomness import derive, generator
from fairsweep.datasets.selection.sampling import Poisson, Sampler, Shuffled, TruncatedPoisson, WeightedPoisson
from fairsweep.trainables.privacy.clipping import Clipping
from fairsweep.trainables.privacy.fixed_cohorts import FixedCohorts
from fairsweep.trainables.privacy.noise import GaussianNoise
from fairsweep.trainables.privacy.privacy_numbers import check_delta
from fairsweep.trainables.privacy.privacy_statement import GroupEpsilon
from fairsweep.trainables.privacy.sampling_weights import SamplingWeights

if TYPE_CHECKING:
    import dp_accounting

SamplerName = Literal["poisson", "truncated_poisson", "weighted_poisson", "shuffled"]


class Mechanism(BaseModel):
    """What a training does, and therefore what it costs. All of it is public.

    Attributes:
        unit: Whose contribution is hidden: an ``example``, or a ``client``, whose steps are rounds.
        relation: ``zero_out``: neighbouring training sets differ in one unit that contributes nothing. The population,
            the sampling rate and the number of steps are the same for both, and public.
        sampler: ``poisson``: each unit joins each step with the same probability, independently.
            ``truncated_poisson``: of more than ``max_batch_size``, a uniformly random subset stays.
            ``weighted_poisson``: with probabilities by group, constants of the config. ``shuffled``: each unit once an
            epoch, and ``fixed``: cohorts of one size, for which no epsilon is claimed.
        population: Number of units, N.
        sampling_rate: Probability q in (0, 1] of joining a step; of units with weight 1, if they are weighted.
        steps: Number of steps.
        clipping: ``flat``, ``per_layer`` or ``none``.
        l2_clip_norm: The clipping norm S, of the first step if it is adapted; without clipping the unit in which noise
            is measured; None without both.
        noise_multiplier: z, of all queries of a step together: the sum of clipped contributions gets noise of standard
            deviation z S, or a little more beside a count. Of the deployment where one is simulated.
        delta: In (0, 1/N), N being the deployment's number of units where one is simulated.
        target_epsilon: The budget that z was calibrated to, if any.
        max_batch_size: The cut of ``truncated_poisson``, else None.
        sampling_weights: The weights of ``weighted_poisson``, else None. The largest gives epsilon.
        quantile: The quantile of norms that S follows, by noisy counts; None if S is fixed.
        count_noise: Standard deviation sigma_b of the noise of the count; None without a quantile or without noise.
        deployment_cohort: Expected cohort of the deployment that is simulated, if any.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    unit: Literal["example", "client"] = "example"
    relation: Literal["zero_out"] = "zero_out"
    sampler: SamplerName | Literal["fixed"] = "poisson"
    population: int = Field(ge=1)
    sampling_rate: float = Field(gt=0, le=1)
    steps: int = Field(ge=1)
    clipping: Literal["flat", "per_layer", "none"] = "none"
    l2_clip_norm: float | None = Field(default=None, gt=0)
    noise_multiplier: float = Field(default=0.0, ge=0)
    delta: float = Field(gt=0, lt=1)
    target_epsilon: float | None = Field(default=None, gt=0)
    max_batch_size: int | None = Field(default=None, ge=1)
    sampling_weights: SamplingWeights | None = None
    quantile: float | None = Field(default=None, gt=0, lt=1)
    count_noise: float | None = Field(default=None, gt=0)
    deployment_cohort: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.l2_clip_norm is None and (self.noise_multiplier > 0 or self.clipping != "none"):
            raise ValueError("clipping and noise are measured in l2_clip_norm, but it is None")
        check_delta(self.delta, self.protected, self.unit)
        if self.count_noise is not None and 2 * self.count_noise <= self.noise_multiplier:
            raise ValueError(
                "both queries together have z^-2 = z_update^-2 + (2 count_noise)^-2, so count_noise must exceed "
                f"noise_multiplier / 2, but got count_noise={self.count_noise} and "
                f"noise_multiplier={self.noise_multiplier:.4g}: raise count_noise, or leave it out"
            )
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

    @property
    def protected(self) -> int:
        """Number of units that the guarantee is about: the population, or the deployment's that is simulated."""
        if self.deployment_cohort is None:
            return self.population
        return round(self.deployment_cohort / self.sampling_rate)

    @property
    def expected_batch_size(self) -> float:
        """The constant q N by which every sum of contributions is divided, whatever the realised batch or cohort.

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
        lacking = ", ".join(f"no {part}" for part in self.lacking())
        return lacking or self.deployment_remark

    @property
    def deployment_remark(self) -> str:
        """What is simulated, with its epsilon; empty without a deployment."""
        if self.deployment_cohort is None:
            return ""
        cost = self.deployment_epsilon().pld
        return (
            f"simulated deployment with cohorts of {self.deployment_cohort:,} and noise multiplier "
            f"{self.noise_multiplier:.4g}: epsilon {cost:.3g}"
        )

    @property
    def guarantees(self) -> bool:
        """True if there is Poisson sampling, clipping and noise; else epsilon is infinite."""
        return not self.lacking()

    @property
    def update_noise_multiplier(self) -> float:
        """z_update with z^-2 = z_update^-2 + (2 sigma_b)^-2: the noise of the sum of contributions over S.

        References:
            Andrew et al. 2021, arXiv 1905.03871, theorem 1.
        """
        if self.count_noise is None:
            return self.noise_multiplier
        return 1 / math.sqrt(self.noise_multiplier**-2 - (2 * self.count_noise) ** -2)

    @property
    def noise_scale(self) -> float:
        """By how much all noise is scaled: 1, or the simulated over the deployment's expected cohort."""
        return 1.0 if self.deployment_cohort is None else self.expected_batch_size / self.deployment_cohort

    @property
    def trained_noise_multiplier(self) -> float:
        """Z of this training: that of the deployment, scaled, where one is simulated."""
        return self.noise_scale * self.noise_multiplier

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
        if self.sampler == "fixed":
            return FixedCohorts(self.population, batch_size, self.steps, key)
        return Shuffled(self.population, batch_size, self.steps // math.ceil(self.population / batch_size), key)

    def expected_examples(self, weights: NDArray[np.float64] | None = None) -> float:
        """Return how many units join a step on average; see `inclusion` for the weights. It divides nothing."""
        if weights is not None:
            return float(weights.sum()) * self.sampling_rate
        if self.max_batch_size is None:
            return self.expected_batch_size
        from scipy import stats

        return float(stats.binom.sf(np.arange(self.max_batch_size), self.population, self.sampling_rate).sum())

    def bound(self) -> Clipping:
        """Return the rule by which contributions are clipped."""
        return Clipping(self.clipping, self.l2_clip_norm)

    def noise(self, secret: bytes, run: int, l2_clip_norm: float | None = None) -> GaussianNoise:
        """Return the noise that the sum of clipped contributions gets, keyed by the trial's secret and the run.

        Args:
            secret: The trial's secret.
            run: Number of the run under it.
            l2_clip_norm: The clipping norm of the step, where it is adapted.
        """
        norm = self.l2_clip_norm if l2_clip_norm is None else l2_clip_norm
        return GaussianNoise(self.noise_scale * self.update_noise_multiplier * (norm or 0.0), secret, run)

    def count_error(self, secret: bytes, run: int, step: int) -> float:
        """Return the noise that the count of a step gets; 0 without noise."""
        if self.count_noise is None:
            return 0.0
        drawn = generator(secret, "count noise", run, step).standard_normal()
        return self.noise_scale * self.count_noise * float(drawn)

    def lacking(self) -> list[str]:
        """Names what a guarantee would need and this plan does not have."""
        present = {
            "clipping": self.clipping != "none",
            "noise": self.noise_multiplier > 0,
            "Poisson sampling": self.sampler not in ("shuffled", "fixed"),
        }
        return [name for name, there in present.items() if not there]

    def event(self, steps: int | None = None) -> dp_accounting.DpEvent:
        """Return the event of the first ``steps`` steps (default: of all), as they are run here."""
        return self._event(self.trained_noise_multiplier, steps)

    def epsilon(self, steps: int | None = None) -> Epsilon:
        """Return what the first ``steps`` steps (default: all) cost; infinite without a guarantee.

        It is that of this very training, whose noise is less than that of a deployment that it simulates.
        """
        return epsilon_of(self.event(steps), self.delta)

    def deployment_epsilon(self, steps: int | None = None) -> Epsilon:
        """Return what so many steps would cost in the deployment that is simulated; without one as `epsilon`."""
        return epsilon_of(self._event(self.noise_multiplier, steps), self.delta)

    def _event(self, noise_multiplier: float, steps: int | None) -> dp_accounting.DpEvent:
        taken = self.steps if steps is None else steps
        noise = noise_multiplier if self.guarantees else 0.0
        if self.max_batch_size is None:
            return sampled_gaussian(noise, self.largest_rate, taken)
        return truncated_gaussian(noise, self.sampling_rate, taken, self.population, self.max_batch_size)

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
