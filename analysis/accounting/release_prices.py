"""What it costs to release one trial, the winner, or every trial of a sweep, for each unit that is protected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import dp_accounting

from fairsweep.analysis.accounting.composition import composed
from fairsweep.analysis.accounting.epsilons import Epsilon, epsilon_of
from fairsweep.analysis.accounting.places import bound_of_places
from fairsweep.analysis.accounting.winner import DRAWS, Draws, dominating, selection_of, winner_epsilon

# Compositions of different events are discretised more coarsely: ten times as fast, and 0.1% above the finer bound.
_COARSENESS = 10.0


@dataclass(frozen=True)
class Fold:
    """The part of a division into folds that a trial does not train on.

    Attributes:
        division: What names the division; equal for trials whose folds are the same.
        folds: Number of folds.
        held_out: The one that is held out, in [0, folds).
    """

    division: str
    folds: int
    held_out: int


@dataclass(frozen=True)
class Charge:
    """What one trial costs the units that it trains on.

    Attributes:
        unit: Whose contribution is hidden: ``example``, ``client`` or ``user``.
        pool: What names the set that the units belong to; trials of one pool may have any of them in common.
        event: What is done to a unit; `NonPrivateDpEvent` without a guarantee.
        delta: The trial's own.
        fold: What it leaves out of the pool; None for nothing that is known.
        simulates: Whether it stands for a larger deployment; the event is that of the trial itself all the same.
        learner: Name of its learner.
        places: Where a unit pays by the place that it has, such as a shard: what is done to a unit in each of them, the
            event being one of these; empty where all pay alike.
        map: What names the map of units to places: trials of one map put every unit in the same place.
    """

    unit: str
    pool: str
    event: dp_accounting.DpEvent
    delta: float
    fold: Fold | None = None
    simulates: bool = False
    learner: str = ""
    places: tuple[dp_accounting.DpEvent, ...] = ()
    map: str = ""

    @property
    def alternatives(self) -> tuple[dp_accounting.DpEvent, ...]:
        """What may be done to a unit, by its place."""
        return self.places or (self.event,)

    @property
    def guarantees(self) -> bool:
        """Whether anything is promised."""
        return not isinstance(self.event, dp_accounting.NonPrivateDpEvent)


@dataclass(frozen=True)
class ReleasePrices:
    """What releasing some trials costs a unit, by what of them is released.

    Attributes:
        unit: Whose contribution is hidden.
        pool: What names the set that the units belong to.
        trials: Number of trials with a guarantee; the prices are of these.
        unprotected: Number of those without.
        delta: Of every price: the smallest of the trials' own, unless it was given.
        one: One trial that was named in advance, the most expensive one.
        everything: All trials, composed.
        winner: The best of a secret, random number of independent draws with ``trials`` as its mean, by distribution;
            by RDP. None where it is not known.
        added: The trials' own epsilons by PLD, added, as a comparison; it holds at ``trials`` times delta.
        simulated: Number of trials that stand for a larger deployment; they are charged for what they did themselves.
        in_folds: Where trials leave out folds of one division: in how many of them a unit takes part at most; else
            None.
        learners: Names of the learners of these trials.
        selection: Of a single trial that is the winner of a secret number of draws: the distribution of that number
            and its mean; else None.
    """

    unit: str
    pool: str
    trials: int
    unprotected: int
    delta: float
    one: Epsilon
    everything: Epsilon
    winner: dict[Draws, float | None]
    added: float
    simulated: int = 0
    in_folds: int | None = None
    learners: tuple[str, ...] = ()
    selection: tuple[Draws, float] | None = None


def release_prices(charges: Iterable[Charge], delta: float | None = None) -> tuple[ReleasePrices, ...]:
    """Compute what releasing trials costs, apart for each unit and each pool.

    Trials that may train on the same unit are composed. A trial that holds out a fold costs that fold nothing, so the
    price is that of the fold which is trained on most.

    Args:
        charges: Of every trial that trained, or will.
        delta: Of the whole release; None takes the smallest of the trials' own.

    Returns:
        The prices, in the order in which units and pools first occur; none of a pool without any guarantee.
    """
    pools: dict[tuple[str, str], list[Charge]] = {}
    for charge in charges:
        pools.setdefault((charge.unit, charge.pool), []).append(charge)
    return tuple(_prices(listed, delta) for listed in pools.values() if any(charge.guarantees for charge in listed))


def composed_events(charges: Iterable[Charge]) -> tuple[dp_accounting.DpEvent, ...]:
    """Return what all charges of one pool do together, once for each fold, and each place, that differs."""
    return tuple(dict.fromkeys(event for listed in _by_fold(list(charges)) for event in _by_place(listed)))


def composed_epsilon(charges: Iterable[Charge], delta: float) -> Epsilon:
    """Compute what all charges of one pool cost together, at the most expensive fold."""
    return _largest([epsilon_of(event, delta, _coarseness(event)) for event in composed_events(charges)])


def _prices(charges: Sequence[Charge], delta: float | None) -> ReleasePrices:
    private = [charge for charge in charges if charge.guarantees]
    chosen = min(charge.delta for charge in private) if delta is None else delta
    own = {event: epsilon_of(event, chosen) for charge in private for event in charge.alternatives}
    worst = dominating(own)
    count = len(private)
    parts = _by_fold(private)
    return ReleasePrices(
        unit=charges[0].unit,
        pool=charges[0].pool,
        trials=count,
        unprotected=len(charges) - count,
        delta=chosen,
        one=_largest(list(own.values())),
        everything=composed_epsilon(private, chosen),
        winner={draws: None if worst is None else winner_epsilon(worst, draws, count, chosen) for draws in DRAWS},
        added=sum(max(own[event].pld for event in charge.alternatives) for charge in private),
        simulated=sum(charge.simulates for charge in private),
        in_folds=None if len(parts) == 1 else max(map(len, parts)),
        learners=tuple(dict.fromkeys(charge.learner for charge in private)),
        selection=selection_of(private[0].event) if count == 1 else None,
    )


def _by_fold(charges: Sequence[Charge]) -> list[list[Charge]]:
    """Return the charges that can meet in one unit, for each fold; all of them where divisions differ."""
    folds = [charge.fold for charge in charges if charge.fold is not None]
    if len({(fold.division, fold.folds) for fold in folds}) != 1:
        return [list(charges)]
    return [
        [charge for charge in charges if charge.fold is None or charge.fold.held_out != number]
        for number in range(folds[0].folds)
    ]


def _by_place(charges: Sequence[Charge]) -> list[dp_accounting.DpEvent]:
    """Return what charges do to a unit of each place; where maps differ, an upper bound for all places."""
    placed = {(charge.map, len(charge.places)) for charge in charges if charge.places}
    if len(placed) == 1:
        ((_, places),) = placed
        return [
            composed(charge.places[place] if charge.places else charge.event for charge in charges)
            for place in range(places)
        ]
    return [composed(bound_of_places(charge.alternatives) for charge in charges)]


def _coarseness(event: dp_accounting.DpEvent) -> float:
    return _COARSENESS if isinstance(event, dp_accounting.ComposedDpEvent) else 1.0


def _largest(costs: Sequence[Epsilon]) -> Epsilon:
    """Return the largest by each accountant; RDP is unknown if it is for any."""
    rdp = [cost.rdp for cost in costs]
    known = [value for value in rdp if value is not None]
    return Epsilon(
        pld=max((cost.pld for cost in costs), default=0.0),
        rdp=max(known, default=0.0) if len(known) == len(rdp) else None,
    )
