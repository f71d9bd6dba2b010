"""The privacy cost of SISA with a private inner learner: by slice, retrainings charged to the remaining examples.

An example of slice k of a shard takes part in the trainings of slices k to R of that shard, the first time and each
time that a request rolls them back. Shards share no example, so an example spends what its own shard does. A deleted
example contributes nothing to any step; sampling rates and steps are those of the sizes at the start, for every run.
"""

from __future__ import annotations

import dp_accounting
import numpy as np
from numpy.typing import NDArray

from fairsweep.analysis.accounting.epsilons import Epsilon, epsilon_of
from fairsweep.analysis.accounting.events import describe
from fairsweep.trainables.privacy.plan import PrivacyPlan
from fairsweep.trainables.privacy.privacy_statement import Mode, PartSpending, PrivacyStatement, list_revelations
from fairsweep.trainables.unlearning.sisa_config import SisaConfig, slice_plan
from fairsweep.trainables.unlearning.slice_history import SliceHistory

_ASSUMPTIONS = (
    "Public: the map of examples to shards and slices, and whatever it was made from (ids, groups, the request model).",
    "Which examples are deleted, and when, does not depend on the private content of those that stay.",
    "Nominal sizes: sampling rates and numbers of steps are those of the slices at the start, whatever is deleted.",
    "A checkpoint that was lost and is trained again repeats its own steps and noise, and is not charged twice.",
)
_REVELATIONS = {
    "slices": "what the guarantee covers: the weights after each slice",
    "placement.parquet": "the public map, and who has been deleted",
    "cost.json": "numbers of examples, steps and deletions, which are public, and times",
}


def state_privacy(config: SisaConfig, history: SliceHistory, done: int, mode: Mode) -> PrivacyStatement:
    """Says what has been spent, by slice.

    Args:
        config: The config, with a private inner learner.
        history: Who was deleted, and how often each slice was trained again.
        done: Slices that the first training has done.
        mode: ``research`` or ``release``.

    Returns:
        The statement; its epsilon is that of the slice that has spent most.
    """
    counts = history.placement.counts()
    population = int(counts.sum())
    sizes = counts.cumsum(axis=1)
    plans = {size: slice_plan(config, size, population) for size in set(sizes.ravel().tolist())}
    typical = plans[int(sizes[0, -1])]
    parts, worst = [], (Epsilon(pld=0.0, rdp=0.0), _no_event())
    for part in range(config.slices):
        spent = [_spent(plans, sizes, history.runs, shard, part, done) for shard in range(config.shards)]
        events = dict.fromkeys(spent)
        costs = [(epsilon_of(event, typical.delta), event) for event in events]
        largest = max(costs, key=lambda cost: cost[0].pld)
        parts.append(
            PartSpending(part=f"slice {part + 1}", examples=int(counts[:, part].sum()), epsilon=_largest(costs))
        )
        if largest[0].pld > worst[0].pld:
            worst = (_largest(costs), largest[1])
    trainings = (1 + history.runs) * (np.arange(config.slices) < done)
    steps = np.array([[plans[size].steps for size in row] for row in sizes.tolist()])
    rate = max(plan.largest_rate for plan in plans.values())
    assumed = typical.assumptions(mode, population=population, sampling_rate=rate)
    return typical.stated(
        mode,
        epsilon=worst[0],
        target_epsilon=None,
        sampling_rate=rate,
        population=population,
        max_batch_size=None,
        steps=int((steps * trainings).sum(axis=1).max()),
        planned_steps=int(steps.sum(axis=1).max()),
        events=(describe(worst[1]),),
        assumptions=assumed and (*_ASSUMPTIONS, *assumed),
        reveals=list_revelations(mode) | _REVELATIONS,
        parts=tuple(parts),
    )


def _spent(
    plans: dict[int, PrivacyPlan],
    sizes: NDArray[np.int64],
    runs: NDArray[np.int64],
    shard: int,
    part: int,
    done: int,
) -> dp_accounting.DpEvent:
    """Return what an example of one slice of one shard has taken part in."""
    steps: dict[int, int] = {}
    for later in range(part, done):
        size = int(sizes[shard, later])
        steps[size] = steps.get(size, 0) + plans[size].steps * (1 + int(runs[shard, later]))
    events = [plans[size].event(taken) for size, taken in sorted(steps.items())]
    if not events:
        return _no_event()
    if any(isinstance(event, dp_accounting.NonPrivateDpEvent) for event in events):
        return dp_accounting.NonPrivateDpEvent()
    return events[0] if len(events) == 1 else dp_accounting.ComposedDpEvent(tuple(events))


def _no_event() -> dp_accounting.DpEvent:
    return dp_accounting.NoOpDpEvent()


def _largest(costs: list[tuple[Epsilon, dp_accounting.DpEvent]]) -> Epsilon:
    """Return the largest by each accountant; RDP is unknown if it is for any."""
    rdp = [cost.rdp for cost, _ in costs]
    known = [value for value in rdp if value is not None]
    return Epsilon(pld=max(cost.pld for cost, _ in costs), rdp=max(known) if len(known) == len(rdp) else None)
