"""The privacy plan of a training, for any unit of privacy: made from a config, verified, stated at the end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import ValidationError

from fairsweep.analysis.accounting.epsilons import Epsilon, epsilon_of
from fairsweep.analysis.accounting.events import describe
from fairsweep.analysis.accounting.noise_calibration import calibrate, calibrate_truncated
from fairsweep.analysis.accounting.user_events import event_of_user
from fairsweep.analysis.disclosure.columns import RECORDS, reveals
from fairsweep.trainables.privacy.mechanism import Mechanism
from fairsweep.trainables.privacy.privacy_statement import (
    Mode,
    PrivacyStatement,
    UserEpsilon,
    describe_charge,
    describe_clients,
    describe_cut,
    describe_lost,
    describe_users,
    describe_weights,
    list_assumptions,
    summarise_guarantee,
)

if TYPE_CHECKING:
    import dp_accounting


class PlanError(ValueError):
    """A privacy plan that cannot be made, or that is not the plan of this config."""


class PrivateConfig(Protocol):
    """What of a learner's config a plan is made from."""

    @property
    def epsilon(self) -> float | None:
        """The budget to which the noise is calibrated, if there is one."""
        ...

    @property
    def noise_multiplier(self) -> float | None:
        """z; None where there is a budget."""
        ...

    def draft(self, population: int, noise_multiplier: float) -> PrivacyPlan:
        """Make the plan for so many units with this noise, whatever it costs.

        Raises:
            PlanError: If there is none for so many.
            ValidationError: If its numbers do not fit together.
        """
        ...


class Outlook(Protocol):
    """What is known of a training's cost before it starts."""

    @property
    def unit(self) -> str:
        """Whose contribution is hidden: an ``example`` or a ``client``."""
        ...

    @property
    def largest_rate(self) -> float:
        """The largest probability with which any unit joins a step: the one that is accounted."""
        ...

    @property
    def steps(self) -> int:
        """Number of steps of the whole training."""
        ...

    @property
    def trained_noise_multiplier(self) -> float:
        """Standard deviation of the noise over the clipping norm, of all queries of a step together."""
        ...

    @property
    def delta(self) -> float:
        """In (0, 1)."""
        ...

    @property
    def remark(self) -> str:
        """What a table says beside these numbers; empty where they say all."""
        ...

    def epsilon(self) -> Epsilon:
        """Return what the whole training costs."""
        ...

    def epsilon_of_user(self, examples: int | None) -> UserEpsilon | None:
        """Return what a user pays for up to so many examples together; None where nobody has several."""
        ...

    def event(self) -> dp_accounting.DpEvent:
        """Return what the whole training does to a unit of its own, also where a larger deployment is simulated."""
        ...


class PrivacyPlan(Mechanism):
    """A mechanism that belongs to a config and a number of units.

    Made once (calibration takes seconds) and handed to every trial with the same numbers; `verify` proves that it fits.
    """

    @classmethod
    def build(cls, config: PrivateConfig, population: int) -> PrivacyPlan:
        """Make the plan of a config for a number of units; calibrates the noise if a budget is given.

        Args:
            config: The learner's config.
            population: Number of training examples, or of clients.

        Returns:
            The plan.

        Raises:
            PlanError: If a batch or cohort is larger than the population, delta is too large, or no noise affords the
                budget.
        """
        draft = _drafted(config, population, config.noise_multiplier or 0.0)
        if config.epsilon is None:
            return draft
        try:
            numbers = (float(config.epsilon), draft.delta, draft.largest_rate, draft.steps)
            if draft.max_batch_size is None:
                noise_multiplier = calibrate(*numbers)
            else:
                noise_multiplier = calibrate_truncated(*numbers, population, draft.max_batch_size)
        except ValueError as error:
            raise PlanError(str(error)) from error
        return _drafted(config, population, noise_multiplier)

    def verify(self, config: PrivateConfig, population: int) -> None:
        """Check that this plan is the one of a config, without calibrating again.

        Raises:
            PlanError: If a field differs; it is named.
        """
        given = self.noise_multiplier if config.noise_multiplier is None else config.noise_multiplier
        expected = _drafted(config, population, given)
        differing = [name for name in PrivacyPlan.model_fields if getattr(self, name) != getattr(expected, name)]
        if differing:
            shown = ", ".join(f"{n}={getattr(self, n)!r} (must be {getattr(expected, n)!r})" for n in differing)
            raise PlanError(f"this privacy plan was made for another config or training set: {shown}; build it anew")
        if self.target_epsilon is not None and (cost := self.deployment_epsilon().pld) > self.target_epsilon:
            raise PlanError(
                f"this privacy plan's noise_multiplier={self.noise_multiplier} costs epsilon={cost:.4g}, more than its "
                f"target {self.target_epsilon}: build it anew"
            )

    def accounts_for(self, kept: Any) -> bool:  # noqa: ANN401 - JSON
        """Return whether a plan that was kept as JSON is this one; without a guarantee delta has no meaning."""
        other = PrivacyPlan.model_validate(kept)
        return self == (other if self.guarantees else other.model_copy(update={"delta": self.delta}))

    def statement(
        self,
        steps_done: int,
        mode: Mode,
        charged_steps: float | None = None,
        user_examples: int | None = None,
        *,
        lost: int = 0,
    ) -> PrivacyStatement:
        """Says what has been spent and under which assumptions.

        Args:
            steps_done: Number of steps taken so far.
            mode: ``research`` (secrets follow from the sweep's key; losses and diagnostics are recorded) or
                ``release``.
            charged_steps: Steps that are charged though fewer were taken; at most the planned ones are.
            user_examples: The most training examples of one user; None where nobody has several, or it is not known.
            lost: Earlier starts whose secret is lost: each is charged as a whole training.

        Returns:
            The statement, JSON by ``model_dump(mode="json")``.
        """
        own = steps_done if charged_steps is None else int(max(steps_done, min(charged_steps, self.steps)))
        charged = own + lost * self.steps
        event = self.event(charged)
        return self.stated(
            mode,
            steps=steps_done,
            epsilon=epsilon_of(event, self.delta),
            events=(describe(event),),
            epsilon_by_group=self.epsilon_by_group(charged),
            epsilon_of_simulated_deployment=(
                None if self.deployment_cohort is None else self.deployment_epsilon(charged)
            ),
            charged_steps=None if charged_steps is None else own,
            of_user=self.epsilon_of_user(user_examples, charged),
            lost=lost,
        )

    def stated(
        self,
        mode: Mode,
        *,
        files: Iterable[str] = RECORDS,
        **found: Any,  # noqa: ANN401 - fields of the statement
    ) -> PrivacyStatement:
        """Return the statement of what was spent, beside ``files``; what is ``found`` stands in for the plan's."""
        summary, simulation = summarise_guarantee(self.unit, self.lacking(), mode), self._simulation()
        own = {name: getattr(self, name) for name in PrivacyStatement.model_fields if name in PrivacyPlan.model_fields}
        charged = found.get("charged_steps")
        said = describe_users(found.get("of_user")) if self.guarantees else ()
        words = {
            "mode": mode,
            "sampling_rate": self.largest_rate,
            "noise_multiplier": self.trained_noise_multiplier,
            "planned_steps": self.steps,
            "summary": summary if simulation is None else f"{summary} {simulation}",
            "assumptions": (
                *self.assumptions(mode),
                *said,
                *(() if charged is None else describe_charge(charged)),
                *describe_lost(found.pop("lost", 0)),
            ),
            "reveals": reveals(mode, files),
            "simulation": simulation,
        }
        return PrivacyStatement(**(own | words | found))

    def assumptions(self, mode: Mode, **public: Any) -> tuple[str, ...]:  # noqa: ANN401
        """Return what the guarantee rests on, in sentences; none without one.

        Args:
            mode: ``research`` or ``release``.
            public: ``population`` and ``sampling_rate`` where they are not the plan's, and whether the rate ``varies``.
        """
        if not self.guarantees:
            return ()
        numbers = {"population": self.population, "sampling_rate": self.largest_rate} | public
        sampling: tuple[str, ...] = ()
        if self.max_batch_size is not None:
            sampling = describe_cut(self.unit, self.largest_rate, self.max_batch_size)
        elif self.sampling_weights is not None:
            sampling = describe_weights(self.unit, self.largest_rate, self.sampling_weights.attribute)
        return (
            *list_assumptions(self.unit, **numbers, mode=mode, sampling=sampling),
            *describe_clients(self.unit, adapted=self.quantile is not None),
        )

    def _simulation(self) -> str | None:
        if self.deployment_cohort is None:
            return None
        return (
            f"Simulated deployment: {self.population} clients with an expected cohort of "
            f"{self.expected_batch_size:g} stand for {self.protected} clients with one of {self.deployment_cohort}, "
            f"and the noise is scaled down accordingly; epsilon_of_simulated_deployment, with noise multiplier "
            f"{self.noise_multiplier:.6g}, holds for those clients alone, and epsilon for the ones trained on."
        )

    def epsilon_of_user(self, examples: int | None, steps: int | None = None) -> UserEpsilon | None:
        """Return what the first ``steps`` steps (default: all) cost a user for up to so many examples together.

        Args:
            examples: The most of one user; None where it is not known.
            steps: Number of steps.

        Returns:
            The cost; None where nobody has several, and where nothing is promised to an example.
        """
        if examples is None or examples < 2 or self.unit != "example" or not self.guarantees:
            return None
        event = event_of_user(self.event(steps), examples)
        return UserEpsilon(examples=examples, epsilon=None if event is None else epsilon_of(event, self.delta))


def _drafted(config: PrivateConfig, population: int, noise_multiplier: float) -> PrivacyPlan:
    """Return a config's draft; what is wrong with it is one line."""
    try:
        return config.draft(population, float(noise_multiplier))
    except ValidationError as error:
        raise PlanError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error
