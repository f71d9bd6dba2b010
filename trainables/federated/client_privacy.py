"""The privacy plan of federated training: the unit is a client."""

from __future__ import annotations

import math
from typing import Literal, Protocol, Self

import dp_accounting
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fairsweep.datasets.selection.randomness import derive, generator
from fairsweep.datasets.selection.sampling import Poisson, Sampler
from fairsweep.trainables.federated.fixed_cohorts import FixedCohorts
from fairsweep.trainables.privacy.accounting import Epsilon, calibrate, describe, epsilon_of, sampled_gaussian
from fairsweep.trainables.privacy.noise import GaussianNoise
from fairsweep.trainables.privacy.privacy_statement import (
    Mode,
    PrivacyStatement,
    list_assumptions,
    list_revelations,
    summarise_guarantee,
)
from fairsweep.trainables.privacy.private_training import PlanError, default_delta


class ClientTraining(Protocol):
    """What a plan for clients is made from."""

    @property
    def epsilon(self) -> float | None:
        """The budget to which the noise is calibrated, if there is one."""
        ...

    @property
    def noise_multiplier(self) -> float | None:
        """z; None where there is a budget."""
        ...

    def draft(self, population: int, noise_multiplier: float) -> ClientPlan:
        """Make the plan with this noise, whatever it costs.

        Raises:
            PlanError: If a cohort is larger than the population, or delta too large.
        """
        ...


class ClientPrivacyStatement(PrivacyStatement):
    """What ``privacy.json`` holds of a federated trial.

    Attributes:
        quantile: The quantile that the clipping norm follows, if it is adapted.
        count_noise: Standard deviation of the noise of the count, if there is one.
        deployment_cohort: The expected cohort of the deployment that is simulated, if any.
        simulation: In words, what is simulated; null where epsilon is that of this very training.
        epsilon_of_this_training: Where a deployment is simulated, what this training itself spent; else null.
    """

    quantile: float | None = None
    count_noise: float | None = None
    deployment_cohort: int | None = None
    simulation: str | None = None
    epsilon_of_this_training: Epsilon | None = None


class ClientPlan(BaseModel):
    """What a federated training does, and therefore what it costs. All of it is public.

    Attributes:
        unit: Whose contribution is hidden.
        relation: ``zero_out``: neighbouring training sets differ in one client that contributes nothing.
        sampler: ``poisson``: each client joins each round with the same probability, independently. ``fixed``: cohorts
            of one size, for which no epsilon is claimed.
        population: Number of clients, N.
        sampling_rate: q in (0, 1].
        steps: Number of rounds.
        clipping: ``flat``, ``per_layer`` or ``none``.
        l2_clip_norm: S, of the first round if it is adapted; None without clipping and noise.
        quantile: The quantile that S follows; None if it is fixed.
        noise_multiplier: z, of all queries of a round together.
        count_noise: Standard deviation sigma_b of the noise of the count; None without a quantile or without noise.
        delta: In (0, 1/N).
        target_epsilon: The budget that z was calibrated to, if any.
        deployment_cohort: Expected cohort of the deployment that is simulated, if any.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    unit: Literal["client"] = "client"
    relation: Literal["zero_out"] = "zero_out"
    sampler: Literal["poisson", "fixed"] = "poisson"
    population: int = Field(ge=1)
    sampling_rate: float = Field(gt=0, le=1)
    steps: int = Field(ge=1)
    clipping: Literal["flat", "per_layer", "none"] = "none"
    l2_clip_norm: float | None = Field(default=None, gt=0)
    quantile: float | None = Field(default=None, gt=0, lt=1)
    noise_multiplier: float = Field(default=0.0, ge=0)
    count_noise: float | None = Field(default=None, gt=0)
    delta: float = Field(gt=0, lt=1)
    target_epsilon: float | None = Field(default=None, gt=0)
    deployment_cohort: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.count_noise is not None and 2 * self.count_noise <= self.noise_multiplier:
            raise ValueError(
                "both queries together have z^-2 = z_update^-2 + (2 count_noise)^-2, so count_noise must exceed "
                f"noise_multiplier / 2, but got count_noise={self.count_noise} and "
                f"noise_multiplier={self.noise_multiplier:.4g}: raise count_noise, or leave it out"
            )
        return self

    @classmethod
    def build(cls, config: ClientTraining, population: int) -> ClientPlan:
        """Make the plan of a config for a number of clients; calibrates the noise if a budget is given.

        Raises:
            PlanError: If a cohort is larger than the population, delta is too large, or no noise affords the budget.
        """
        draft = config.draft(population, config.noise_multiplier or 0.0)
        if config.epsilon is None:
            return draft
        try:
            noise = calibrate(config.epsilon, draft.delta, draft.sampling_rate, draft.steps)
        except ValueError as error:
            raise PlanError(str(error)) from error
        return config.draft(population, noise)

    def verify(self, config: ClientTraining, population: int) -> None:
        """Return the checks that this plan is the one of a config, without calibrating again.

        Raises:
            PlanError: If a field differs; it is named.
        """
        given = self.noise_multiplier if config.noise_multiplier is None else config.noise_multiplier
        expected = config.draft(population, given)
        differing = [name for name in ClientPlan.model_fields if getattr(self, name) != getattr(expected, name)]
        if differing:
            shown = ", ".join(f"{n}={getattr(self, n)!r} (must be {getattr(expected, n)!r})" for n in differing)
            raise PlanError(f"this privacy plan was made for another config or training set: {shown}; build it anew")
        if self.target_epsilon is not None and self.epsilon().pld > self.target_epsilon:
            raise PlanError(
                f"this privacy plan's noise_multiplier={self.noise_multiplier} costs "
                f"epsilon={self.epsilon().pld:.4g}, more than its target {self.target_epsilon}: build it anew"
            )

    @property
    def largest_rate(self) -> float:
        """The probability with which every client joins a round."""
        return self.sampling_rate

    @property
    def expected_cohort(self) -> float:
        """The constant q N by which every sum of updates is divided, whatever the realised cohort."""
        return self.sampling_rate * self.population

    @property
    def remark(self) -> str:
        """What a table says beside these numbers."""
        if not self.guarantees:
            return "no guarantee"
        return "" if self.deployment_cohort is None else f"simulates cohorts of {self.deployment_cohort:,}"

    @property
    def guarantees(self) -> bool:
        """True if there is Poisson sampling, clipping and noise; else epsilon is infinite."""
        return self.sampler == "poisson" and self.clipping != "none" and self.noise_multiplier > 0

    @property
    def update_noise_multiplier(self) -> float:
        """z_update with z^-2 = z_update^-2 + (2 sigma_b)^-2: the noise of the sum of updates over S.

        References:
            Andrew et al. 2021, arXiv 1905.03871, theorem 1.
        """
        if self.count_noise is None:
            return self.noise_multiplier
        return 1 / math.sqrt(self.noise_multiplier**-2 - (2 * self.count_noise) ** -2)

    @property
    def noise_scale(self) -> float:
        """By how much all noise is scaled: 1, or the simulated over the deployment's expected cohort."""
        return 1.0 if self.deployment_cohort is None else self.expected_cohort / self.deployment_cohort

    def inclusion(self, secret: bytes, run: int) -> Sampler:
        """Return who joins which round, keyed by the trial's secret and the run."""
        key = derive(secret, "inclusion", run)
        if self.sampler == "fixed":
            return FixedCohorts(self.population, round(self.expected_cohort), self.steps, key)
        return Poisson(self.population, self.sampling_rate, self.steps, key)

    def noise(self, l2_clip_norm: float | None, secret: bytes, run: int) -> GaussianNoise:
        """Return the noise that the sum of updates gets in a round with this clipping norm."""
        std = self.noise_scale * self.update_noise_multiplier * (l2_clip_norm or 0.0)
        return GaussianNoise(std, secret, run)

    def count_error(self, secret: bytes, run: int, step: int) -> float:
        """Return the noise that the count of a round gets; 0 without noise."""
        if self.count_noise is None:
            return 0.0
        drawn = generator(secret, "count noise", run, step).standard_normal()
        return self.noise_scale * self.count_noise * float(drawn)

    def event(self, steps: int | None = None) -> dp_accounting.DpEvent:
        """Return the event of the first ``steps`` rounds (default: of all); a round's queries are one event."""
        taken = self.steps if steps is None else steps
        return sampled_gaussian(self.noise_multiplier if self.guarantees else 0.0, self.sampling_rate, taken)

    def epsilon(self, steps: int | None = None) -> Epsilon:
        """Return what the first ``steps`` rounds (default: all) cost; infinite without a guarantee."""
        return epsilon_of(self.event(steps), self.delta)

    def statement(self, steps_done: int, mode: Mode) -> ClientPrivacyStatement:
        """Says what has been spent and under which assumptions; see `PrivacyPlan.statement`."""
        event = self.event(steps_done)
        summary = summarise_guarantee(self.unit, self._lacking(), mode)
        simulation = self._simulation()
        return ClientPrivacyStatement(
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
            summary=summary if simulation is None else f"{simulation} There: {summary}",
            assumptions=self._assumptions(mode) if self.guarantees else (),
            reveals=list_revelations(mode),
            quantile=self.quantile,
            count_noise=self.count_noise,
            deployment_cohort=self.deployment_cohort,
            simulation=simulation,
            epsilon_of_this_training=None if simulation is None else self._own_epsilon(steps_done),
        )

    def _lacking(self) -> list[str]:
        present = {
            "clipping": self.clipping != "none",
            "noise": self.noise_multiplier > 0,
            "Poisson sampling": self.sampler == "poisson",
        }
        return [name for name, there in present.items() if not there]

    def _assumptions(self, mode: Mode) -> tuple[str, ...]:
        own = [
            "A client is a list of examples by a public partition; what it computes in a round is bounded as a whole.",
        ]
        if self.quantile is not None:
            own.append("The clipping norm follows noisy counts, which are accounted with the updates as one event.")
        protected = self.population
        if self.deployment_cohort is not None:
            protected = round(self.deployment_cohort / self.sampling_rate)
        return (*list_assumptions(self.unit, protected, self.sampling_rate, mode), *own)

    def _simulation(self) -> str | None:
        if self.deployment_cohort is None:
            return None
        return (
            f"A simulation: {self.population} clients with an expected cohort of {self.expected_cohort:g} stand for "
            f"{round(self.deployment_cohort / self.sampling_rate)} clients with one of {self.deployment_cohort}, "
            "and the noise is scaled down accordingly."
        )

    def _own_epsilon(self, steps: int) -> Epsilon:
        """What this training itself spends: its noise over its clipping norm is smaller than the deployment's."""
        scaled = self.noise_scale * self.noise_multiplier if self.guarantees else 0.0
        delta = min(self.delta, default_delta(self.population))
        return epsilon_of(sampled_gaussian(scaled, self.sampling_rate, steps), delta) if scaled else _infinite(steps)


def _infinite(steps: int) -> Epsilon:
    return Epsilon(pld=math.inf, rdp=math.inf) if steps else Epsilon(pld=0.0, rdp=0.0)
