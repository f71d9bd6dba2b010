"""The privacy cost of SISA with a private inner learner: by slice, retrainings charged to the remaining examples.

An example of slice k of a shard takes part in the trainings of slices k to R of that shard, the first time and each
time that a request rolls them back. Shards share no example, so an example spends what its own shard does. A deleted
example contributes nothing to any step; sampling rates and steps are those of the sizes at the start, for every run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fairsweep.analysis.accounting.epsilons import Epsilon, epsilon_of
from fairsweep.analysis.accounting.events import describe
from fairsweep.analysis.disclosure.columns import RECORDS
from fairsweep.analysis.wording import counted
from fairsweep.trainables.privacy.plan import PrivacyPlan
from fairsweep.trainables.privacy.privacy_statement import (
    Mode,
    PartSpending,
    PrivacyStatement,
    describe_lost,
    summarise_guarantee,
)
from fairsweep.trainables.unlearning.placement import Placement, attributes_used
from fairsweep.trainables.unlearning.sisa_config import SisaConfig, slice_plan

if TYPE_CHECKING:
    import dp_accounting

_FILES = ("slices", "cost.json", "placement.parquet", "shard_predictions.parquet", "trainings.jsonl")
_AFTER_A_REQUEST = ("requests.jsonl", "requests.key")


@dataclass(frozen=True)
class SisaSpending:
    """What has been trained so far, and who asked for it.

    Attributes:
        trainings: int64 [S, R], trainings of each slice that are charged.
        lost: Starts of the trial of which nothing is left; their trainings are among these.
        streamed: Requests of the config's stream that were served.
        afterwards: Requests that came after the trial had ended.
    """

    trainings: NDArray[np.int64]
    lost: int = 0
    streamed: int = 0
    afterwards: int = 0


def state_privacy(
    config: SisaConfig, placement: Placement, spent: SisaSpending, mode: Mode, groups: tuple[str, ...] = ()
) -> PrivacyStatement:
    """Says what has been spent, by slice.

    Args:
        config: The config, with a private inner learner.
        placement: The map.
        spent: What has been trained.
        mode: ``research`` or ``release``.
        groups: The attributes that the sweep compares, and its label.

    Returns:
        The statement; its epsilon is that of the slice that has spent most, infinite where requests looked at private
        images.
    """
    import dp_accounting

    counts = placement.counts()
    population = int(counts.sum())
    sizes = counts.cumsum(axis=1)
    plans = {size: slice_plan(config, size, population) for size in set(sizes.ravel().tolist())}
    typical = plans[int(sizes[0, -1])]
    looked = config.requests.looks_at_models and spent.streamed > 0
    trainings = np.where(looked, 0, spent.trainings)
    parts, worst = [], (Epsilon(pld=0.0, rdp=0.0), _no_event())
    for part in range(config.slices):
        events = dict.fromkeys(_spent(plans, sizes, trainings, shard, part) for shard in range(config.shards))
        costs = [(epsilon_of(event, typical.delta), event) for event in events]
        largest = max(costs, key=lambda cost: cost[0].pld)
        parts.append(
            PartSpending(part=f"slice {part + 1}", examples=int(counts[:, part].sum()), epsilon=_largest(costs))
        )
        if largest[0].pld > worst[0].pld:
            worst = (_largest(costs), largest[1])
    by_shard = tuple(_spent(plans, sizes, trainings, shard, 0) for shard in range(config.shards))
    steps = np.array([[plans[size].steps for size in row] for row in sizes.tolist()])
    rate = max(plan.largest_rate for plan in plans.values())
    varies = len({plan.largest_rate for plan in plans.values()}) > 1
    assumed = typical.assumptions(mode, population=population, sampling_rate=rate, varies=varies)
    if assumed:
        assumed = (*list_choices(config, spent, groups), *assumed)
    found: dict[str, Any]
    broken: dict[str, Any] = {}
    if looked:
        without = ("choice of the deleted that is independent of private images",)
        summary = summarise_guarantee("example", without, mode)
        nothing = describe(dp_accounting.NonPrivateDpEvent())
        broken = {"epsilon": Epsilon(pld=math.inf, rdp=None), "events": (nothing,), "assumptions": ()}
        broken["summary"] = summary
    found = {
        "epsilon": worst[0],
        "target_epsilon": None,
        "sampling_rate": rate,
        "population": population,
        "max_batch_size": None,
        "steps": int((steps * spent.trainings).sum(axis=1).max()),
        "planned_steps": int(steps.sum(axis=1).max()),
        "events": (describe(worst[1]),),
        "events_by_shard": tuple(map(describe, by_shard)) if len(set(by_shard)) > 1 and not looked else None,
        "assumptions": assumed,
        "parts": () if looked else tuple(parts),
    }
    files = (*RECORDS, *_FILES, *(_AFTER_A_REQUEST if spent.afterwards else ()))
    return typical.stated(mode, files=files, **(found | broken))


def list_choices(config: SisaConfig, spent: SisaSpending, groups: tuple[str, ...]) -> tuple[str, ...]:
    """Return what the guarantee assumes about choices that this training made of data, and what is charged."""
    used = attributes_used(config, config.requests, groups)
    listed = [
        f"Public: the map of examples to shards and slices, made by strategy {config.strategy} from {_named(used)}, "
        "and who has been deleted."
    ]
    if spent.streamed:
        by = config.requests.by
        if by == "ids":
            said = "were given with the config: they do not depend on the private content of those that stay"
        else:
            said = f"were drawn by a public key, by: {by}, from {_named(config.requests.chosen_by)}, which are public"
        listed.append(f"The deletions of {counted(spent.streamed, 'request')} inside the trial {said}.")
    if spent.afterwards:
        listed.append(
            f"The deletions of {counted(spent.afterwards, 'request')} after the trial were chosen without the private "
            "content of those that stay, and without looking at the models."
        )
    if config.weighting == "validation-accuracy":
        listed.append("Validation examples are not protected: the weights of the shards follow accuracies on them.")
    listed.append(
        "Nominal sizes: sampling rates and numbers of steps are those of the slices at the start, whatever is deleted."
    )
    listed.append(
        f"Charged are {int(spent.trainings.sum())} trainings of slices, each written down before its first step; one "
        "that is repeated under the same secret repeats its own steps and noise, and is charged once."
    )
    return (*listed, *describe_lost(spent.lost))


def _named(attributes: tuple[str, ...]) -> str:
    return "the ids alone" if not attributes else f"the ids and {', '.join(attributes)}"


def _spent(
    plans: dict[int, PrivacyPlan],
    sizes: NDArray[np.int64],
    trainings: NDArray[np.int64],
    shard: int,
    part: int,
) -> dp_accounting.DpEvent:
    """Return what an example of one slice of one shard has taken part in."""
    import dp_accounting

    steps: dict[int, int] = {}
    for later in range(part, sizes.shape[1]):
        size = int(sizes[shard, later])
        steps[size] = steps.get(size, 0) + plans[size].steps * int(trainings[shard, later])
    events = [plans[size].event(taken) for size, taken in sorted(steps.items()) if taken]
    if not events:
        return _no_event()
    if any(isinstance(event, dp_accounting.NonPrivateDpEvent) for event in events):
        return dp_accounting.NonPrivateDpEvent()
    return events[0] if len(events) == 1 else dp_accounting.ComposedDpEvent(tuple(events))


def _no_event() -> dp_accounting.DpEvent:
    import dp_accounting

    return dp_accounting.NoOpDpEvent()


def _largest(costs: list[tuple[Epsilon, dp_accounting.DpEvent]]) -> Epsilon:
    """Return the largest by each accountant; RDP is unknown if it is for any."""
    rdp = [cost.rdp for cost, _ in costs]
    known = [value for value in rdp if value is not None]
    return Epsilon(pld=max(cost.pld for cost, _ in costs), rdp=max(known) if len(known) == len(rdp) else None)
