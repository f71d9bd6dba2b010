"""Events of several trainings as one: equal ones are counted, so that many seeds compose as fast as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import dp_accounting


def composed(events: Iterable[dp_accounting.DpEvent]) -> dp_accounting.DpEvent:
    """Return the event of doing all of them on the same data, with independent noise.

    Equal events are counted, also inside of compositions, and stand in an order of their own: the result does not
    depend on the order of the events.

    Args:
        events: The events; none are `NoOpDpEvent`.

    Returns:
        One event; `NonPrivateDpEvent` if any of them is.

    Example:
        >>> once = dp_accounting.GaussianDpEvent(1.0)
        >>> composed([once, dp_accounting.SelfComposedDpEvent(once, 2)])
        SelfComposedDpEvent(event=GaussianDpEvent(noise_multiplier=1.0), count=3)
    """
    counted: Counter[dp_accounting.DpEvent] = Counter()
    for event in events:
        _count(event, 1, counted)
    if any(isinstance(event, dp_accounting.NonPrivateDpEvent) for event in counted):
        return dp_accounting.NonPrivateDpEvent()
    parts = [
        event if count == 1 else dp_accounting.SelfComposedDpEvent(event, count)
        for event, count in sorted(counted.items(), key=lambda item: repr(item[0]))
    ]
    if not parts:
        return dp_accounting.NoOpDpEvent()
    return parts[0] if len(parts) == 1 else dp_accounting.ComposedDpEvent(tuple(parts))


def _count(event: dp_accounting.DpEvent, times: int, counted: Counter[dp_accounting.DpEvent]) -> None:
    if isinstance(event, dp_accounting.SelfComposedDpEvent):
        _count(event.event, times * event.count, counted)
    elif isinstance(event, dp_accounting.ComposedDpEvent):
        for part in event.events:
            _count(part, times, counted)
    elif times and not isinstance(event, dp_accounting.NoOpDpEvent):
        counted[event] += times
