"""The privacy statement: what has been spent, under which assumptions, and what each record reveals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from fairsweep.analysis.accounting.epsilons import Epsilon

Mode = Literal["research", "release"]
_OF_CLIENTS = ("quantile", "count_noise", "deployment_cohort", "simulation", "epsilon_of_simulated_deployment")
_WHERE_THEY_APPLY = ("charged_steps", "of_user", "events_by_shard", "selection")


class PartSpending(BaseModel):
    """What the examples of one part of the training set have spent, where parts spend differently.

    Attributes:
        part: Which part, for example ``slice 1``.
        examples: How many examples it had at the start; the number is public.
        epsilon: By both accountants, of the example in it that has spent most.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    part: str
    examples: int
    epsilon: Epsilon


class GroupEpsilon(BaseModel):
    """What members of one group pay, where groups join steps with different probabilities.

    Attributes:
        attribute: The attribute.
        value: Its value; None stands for all values that the config does not name.
        sampling_rate: Probability with which a member joins a step.
        epsilon: By both accountants.

    References:
        Jorgensen et al. 2015, "Conservative or liberal? Personalized differential privacy"; with DP-SGD: Boenisch et
        al. 2023, arXiv 2303.17046, section 3 (Sample).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    attribute: str
    value: str | None
    sampling_rate: float
    epsilon: Epsilon


class UserEpsilon(BaseModel):
    """What a user pays for all of its examples together, where the dataset knows whose they are.

    Attributes:
        examples: The most training examples that one user has; treated as public.
        epsilon: By PLD alone; null where there is no theorem for the sampler.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    examples: int
    epsilon: Epsilon | None


class Selection(BaseModel):
    """Of how many draws a trial is the winner.

    Attributes:
        draws: Distribution of the number of draws.
        mean: Its mean.
        epsilon_of_one_draw: What one draw alone would cost, had nothing been selected; by both accountants.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    draws: str
    mean: float
    epsilon_of_one_draw: Epsilon


class PrivacyStatement(BaseModel):
    """What ``privacy.json`` holds; plain JSON by ``model_dump(mode="json")``.

    Attributes:
        mode: ``research`` (the guarantee is simulated: secrets follow from a recorded key) or ``release``.
        unit: Whose contribution is hidden.
        relation: How neighbouring training sets differ.
        sampler: How units join a step.
        delta: In (0, 1/population).
        epsilon: By both accountants, for the steps that are charged; "inf" in JSON where there is no guarantee.
        target_epsilon: The budget that the noise was calibrated to, if any; of the simulated deployment where there is
            one.
        noise_multiplier: Standard deviation of the noise over the clipping norm.
        clipping: How contributions are clipped.
        l2_clip_norm: The clipping norm, if any.
        sampling_rate: Probability of joining a step; the largest one that the config allows where groups differ.
        population: Number of units.
        steps: Steps taken.
        charged_steps: Steps that epsilon is of, where the training ended before its plan for a reason that depends on
            the private model or on time; left out where epsilon is of the steps taken.
        planned_steps: Steps of the whole training.
        events: The accounted events, nested as dp-accounting has them.
        summary: The guarantee in one sentence.
        assumptions: What has to hold for it.
        reveals: For each file beside it, what it says about private data.
        of_user: Of examples: what a user pays for all of its own; left out where the dataset knows no users, or none
            has several.
        events_by_shard: Of shards that differ in what they spend: the events of each, for an example of its first
            slice; ``events`` are those of the dearest. Left out where all spend alike.
        selection: Of the winner of a secret number of draws: of how many; ``epsilon`` and ``events`` are then those of
            the selection. Left out otherwise.
        parts: What each part of the training set has spent, where they spend differently; ``epsilon`` is the largest.
        quantile: Of clients: the quantile that the clipping norm follows, if it is adapted.
        count_noise: Of clients: standard deviation of the noise of the count, if there is one.
        deployment_cohort: Of clients: the expected cohort of the deployment that is simulated, if any.
        simulation: Of clients: in words, what deployment is simulated, if any.
        epsilon_of_simulated_deployment: Of clients: what the deployment that is simulated would spend, else null;
            ``epsilon`` is always that of this very training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Mode
    unit: str
    relation: str
    sampler: str
    delta: float
    epsilon: Epsilon
    target_epsilon: float | None
    noise_multiplier: float
    clipping: str
    l2_clip_norm: float | None
    sampling_rate: float
    population: int
    steps: int
    planned_steps: int
    events: tuple[dict[str, Any], ...]
    summary: str
    assumptions: tuple[str, ...]
    reveals: dict[str, str]
    charged_steps: int | None = None
    max_batch_size: int | None = None
    epsilon_by_group: tuple[GroupEpsilon, ...] = ()
    of_user: UserEpsilon | None = None
    events_by_shard: tuple[dict[str, Any], ...] | None = None
    selection: Selection | None = None
    parts: tuple[PartSpending, ...] = ()
    quantile: float | None = None
    count_noise: float | None = None
    deployment_cohort: int | None = None
    simulation: str | None = None
    epsilon_of_simulated_deployment: Epsilon | None = None

    def charged_in_full(self, ended_early: bool) -> PrivacyStatement:
        """Return a statement that says that every planned step is charged, where the training ended early."""
        if not ended_early:
            return self
        words = (*self.assumptions, *describe_charge(self.planned_steps))
        return self.model_copy(update={"charged_steps": self.planned_steps, "assumptions": words})

    def of_winner(self, event: dict[str, Any], epsilon: Epsilon, selection: Selection) -> PrivacyStatement:
        """Return the statement of the winner: what the selection costs, in the place of what this training costs.

        Args:
            event: What publishing the winner alone does, as JSON.
            epsilon: Its cost.
            selection: Of how many draws it is the winner.
        """
        user = None if self.of_user is None else UserEpsilon(examples=self.of_user.examples, epsilon=None)
        kept = tuple(text for text in self.assumptions if text not in describe_users(self.of_user))
        words = (*kept, *describe_winner(self.unit, selection), *describe_users(user))
        changes = {
            "epsilon": epsilon,
            "events": (event,),
            "target_epsilon": None,
            "charged_steps": None,
            "epsilon_by_group": (),
            "of_user": user,
            "selection": selection,
            "assumptions": words,
            "summary": f"{self.summary} So is the choice of this trial among a secret number of others.",
        }
        return self.model_copy(update=changes)

    @model_serializer(mode="wrap")
    def _without_what_does_not_apply(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = serialise(self)
        values = {k: v for k, v in values.items() if v is not None or k not in _WHERE_THEY_APPLY}
        return values if self.unit == "client" else {k: v for k, v in values.items() if k not in _OF_CLIENTS}


def summarise_guarantee(unit: str, lacking: Sequence[str], mode: Mode) -> str:
    """Return the guarantee, or its absence, in one sentence.

    Args:
        unit: Whose contribution is hidden.
        lacking: What a guarantee would need and is not there.
        mode: Research or release.
    """
    if lacking:
        return f"No privacy guarantee, epsilon is infinite: there is no {' and no '.join(lacking)}."
    origin = "simulated: the secrets follow from a recorded key" if mode == "research" else "secrets from the system"
    return (
        f"The weights after every step together are (epsilon, delta)-differentially private for each {unit}, whose "
        f"contribution may be zeroed out ({origin})."
    )


def describe_charge(charged_steps: int) -> tuple[str, ...]:
    """Says what a training that ended early is charged for, and why."""
    return (
        "When the training ended depended on the private model, on other trials, or on time, so that a bound for the "
        f"steps taken would not hold: all {charged_steps} steps that it could have taken are charged.",
    )


def describe_users(found: UserEpsilon | None) -> tuple[str, ...]:
    """Says for whom epsilon holds where users have several examples, and what is assumed of them."""
    if found is None:
        return ()
    known = f"Whose an example is, and that no user has more than {found.examples} of them here, is public."
    if found.epsilon is None:
        return (
            "epsilon is for one example, not for a user with several: for this sampler there is no theorem that says "
            f"what such a user pays. {known}",
        )
    return (f"epsilon is for one example; a user pays of_user.epsilon for all of its examples together. {known}",)


def describe_cut(unit: str, sampling_rate: float, max_batch_size: int) -> tuple[str, ...]:
    """Says how units join a step of truncated Poisson sampling."""
    return (
        f"Truncated Poisson sampling: each {unit} is drawn in each step with probability {sampling_rate:.6g}, "
        f"independently; of more than {max_batch_size} a uniformly random {max_batch_size} stay.",
    )


def describe_weights(unit: str, largest_rate: float, attribute: str) -> tuple[str, ...]:
    """Says how units join a step where groups do with different probabilities."""
    return (
        f"Poisson sampling: each {unit} joins each step independently, with a probability that follows from its "
        f"{attribute} by constants of the config and is at most {largest_rate:.6g}.",
        f"Who has which {attribute} is public. epsilon_by_group then holds for each group's members (personalised "
        f"differential privacy), epsilon for every {unit}.",
    )


def describe_winner(unit: str, selection: Selection) -> tuple[str, ...]:
    """Says what the price of the winner rests on."""
    return (
        f"Winner of K independent draws of settings and training seeds: K is {selection.draws} with mean "
        f"{selection.mean:g}, secret and never recorded, and the other draws were deleted unseen. epsilon is that of "
        f"the selection, by RDP; this draw alone costs each {unit} {selection.epsilon_of_one_draw.pld:.4g} by PLD.",
        "The winner was chosen by the validation split, whose people are public here: no epsilon covers them.",
        "Nobody saw how long the sweep ran, what it wrote or what the machine did meanwhile: that tells how many draws "
        "there were. Files are deleted, not overwritten.",
    )


def describe_lost(starts: int) -> tuple[str, ...]:
    """Says what is charged beside the training whose weights are there."""
    if not starts:
        return ()
    return (
        f"{starts} earlier {'start' if starts == 1 else 'starts'} of this training, whose secret is lost, "
        f"{'is' if starts == 1 else 'are'} charged as {'a whole training' if starts == 1 else 'whole trainings'}.",
    )


def describe_clients(unit: str, *, adapted: bool) -> tuple[str, ...]:
    """Says what a client is, and whether the clipping norm is adapted; nothing of examples."""
    if unit != "client":
        return ()
    is_bounded = (
        "A client is a list of examples by a public partition; what it computes in a round is bounded as a whole."
    )
    follows = "The clipping norm follows noisy counts, which are accounted with the updates as one event."
    return (is_bounded, follows) if adapted else (is_bounded,)


def list_assumptions(
    unit: str, population: int, sampling_rate: float, mode: Mode, sampling: Sequence[str] = (), *, varies: bool = False
) -> tuple[str, ...]:
    """Return what a guarantee rests on, in sentences.

    Args:
        unit: Whose contribution is hidden.
        population: Number of units.
        sampling_rate: Probability of joining a step.
        mode: Research or release.
        sampling: How units join a step, if it is not plain Poisson sampling.
        varies: Whether the sampling rate is the largest of several.
    """
    rate = f"{'at most ' if varies else ''}{sampling_rate:.6g}"
    poisson = f"Poisson sampling: each {unit} joins each step with probability {rate}, independently."
    listed = [
        f"Public and fixed: the ids, their number ({population}), the sampling rate, the number of steps, the config.",
        *(sampling or (poisson,)),
        "The sum of clipped contributions is divided by a constant of the plan, never by the realised batch size.",
        "No other trial shares this trial's secret; an example that several trials use composes over them.",
        "Pretrained weights, if any, are public; normalisation uses constants.",
        "Noise is drawn as 32-bit floats: attacks on the gaps between floating-point numbers are not covered.",
    ]
    if mode == "research":
        listed.append("The guarantee is simulated: whoever holds the sweep's key can repeat the noise.")
    else:
        listed += [
            "Public: how examples are divided into training, evaluation and clients, and the people who are evaluated.",
            "No time is recorded; whoever watches the training while it runs, or sees the times of files, has it.",
        ]
    return tuple(listed)
