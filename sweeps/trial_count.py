"""How many trials a sweep has at most, known before any of them is made."""

import math
from typing import TYPE_CHECKING

from fairsweep.sweeps.dimensions import Space
from fairsweep.sweeps.errors import SweepError

if TYPE_CHECKING:
    from fairsweep.sweeps.spec import Sweep


def count_trials(sweep: "Sweep") -> int:
    """Count the trials by the lengths of the grids; settings that coincide are counted each."""
    own = sum(_combinations(space) for space in sweep.learners)
    shared = math.prod(_combinations(space) for space in (sweep.imbalance, sweep.split, sweep.model) if space)
    seeds = sweep.seeds if isinstance(sweep.seeds, int) else sweep.seeds.data * sweep.seeds.train
    return own * shared * seeds * (sweep.search.samples or 1)


def check_count(sweep: "Sweep") -> None:
    """Refuse a sweep with more trials than it may have: to list them all would take hours before anything is said.

    Raises:
        SweepError: with the number and what decides it.
    """
    count = count_trials(sweep)
    if count <= sweep.trials_at_most:
        return
    raise SweepError(
        f"a sweep has at most {sweep.trials_at_most:,} trials, but this one would have {count:,} (its grids times its "
        f"samples times its seeds): give it fewer, or allow them with --trials-at-most {count} "
        "(trials_at_most in the file)",
        ("trials_at_most",),
    )


def _combinations(space: Space) -> int:
    return math.prod(len(dimension.values) for _, dimension in space.dimensions if not dimension.is_drawn)
