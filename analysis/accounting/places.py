"""Units that pay by the place that they have in a training, such as a shard: what any of them pays at most."""

from __future__ import annotations

from collections.abc import Iterable

import dp_accounting

from fairsweep.analysis.accounting.composition import composed
from fairsweep.analysis.accounting.events import sampled_gaussian, sampled_gaussian_numbers

_Runs = list[tuple[float, int]]  # rates, the largest first, each with its number of steps


def bound_of_places(events: Iterable[dp_accounting.DpEvent]) -> dp_accounting.DpEvent:
    """Return an event that costs at least as much as each of several, at any delta and in any composition.

    Of compositions of sampled Gaussians the steps are put in the order of their rates, which changes no price, and each
    step gets the largest rate that any of them has there, and the least noise. A sampled Gaussian is dominated by one
    of a larger rate, for it is a mixture of that and of nothing, and divergences are convex; steps that are dominated
    one by one are so in composition. Other events are all composed, which is an upper bound too, and a looser one.

    Args:
        events: What may be done to a unit, at least one.

    References:
        Zhu, Dong and Wang 2022, "Optimal accounting of differential privacy via characteristic function", arXiv
        2106.08567, theorem 10 (dominating pairs compose).

    Example:
        >>> found = bound_of_places([sampled_gaussian(1.0, 0.25, 4), sampled_gaussian(1.0, 0.2, 5)])
        >>> [sampled_gaussian_numbers(part) for part in found.events]
        [(1.0, 0.2, 1), (1.0, 0.25, 4)]
    """
    distinct = list(dict.fromkeys(events))
    if len(distinct) == 1:
        return distinct[0]
    if any(isinstance(event, dp_accounting.NonPrivateDpEvent) for event in distinct):
        return dp_accounting.NonPrivateDpEvent()
    found = [_runs(event) for event in distinct]
    known = [each for each in found if each is not None]
    if len(known) < len(found):
        return composed(distinct)
    noise = min(noise for noise, _ in known)
    lines = [line for _, line in known]
    ends = sorted({end for line in lines for end in _ends(line)})
    starts = [0, *ends[:-1]]
    return composed(
        sampled_gaussian(noise, max(_rate(line, start) for line in lines), end - start)
        for start, end in zip(starts, ends, strict=True)
    )


def _runs(event: dp_accounting.DpEvent) -> tuple[float, _Runs] | None:
    """Return the least noise and the runs of a composition of sampled Gaussians; None for any other event."""
    parts = event.events if isinstance(event, dp_accounting.ComposedDpEvent) else (event,)
    numbers = [sampled_gaussian_numbers(part) for part in parts]
    known = [each for each in numbers if each is not None]
    if len(known) < len(numbers):
        return None
    return min(noise for noise, _, _ in known), sorted(((rate, steps) for _, rate, steps in known), reverse=True)


def _ends(line: _Runs) -> list[int]:
    return [sum(steps for _, steps in line[: number + 1]) for number in range(len(line))]


def _rate(line: _Runs, step: int) -> float:
    return next((rate for (rate, _), end in zip(line, _ends(line), strict=True) if step < end), 0.0)
