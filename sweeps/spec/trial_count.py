"""The maximum number of trials of a sweep, computed before any is made."""

from __future__ import annotations

import math

from fairsweep.sweeps.spec.sections import Spaces
from fairsweep.sweeps.syntax.dimensions import Space
from fairsweep.sweeps.syntax.errors import SweepError


def count_trials(sweep: Spaces, replicates: int) -> int:
    """Count the trials by the lengths of the grids; settings that coincide are counted each."""
    own = sum(_combinations(space) for space in sweep.learners)
    shared = math.prod(_combinations(space) for space in (sweep.imbalance, sweep.split, sweep.model) if space)
    return own * shared * replicates * (sweep.search.samples or 1)


def check_count(sweep: Spaces, replicates: int, at_most: int) -> None:
    """Refuse a sweep with more trials than it may have: to list them all would take hours before anything is said.

    Raises:
        SweepError: with the number and what decides it.
    """
    count = count_trials(sweep, replicates)
    if count <= at_most:
        return
    raise SweepError(
        f"a sweep has at most {at_most:,} trials, but this one would have {count:,} (its grids times its "
        f"samples times its seeds): reduce them, or allow them with --trials-at-most {count} "
        "(trials_at_most in the file)",
        ("trials_at_most",),
    )


def _combinations(space: Space) -> int:
    return math.prod(len(dimension.values) for _, dimension in space.dimensions if not dimension.is_drawn)
