"""How often a view is made anew: it looks at all trials of a sweep, however many there are."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Generic, TypeVar

# Of the time, what a view takes; but the first ε of a setting takes seconds, once.
_SHARE = 0.01
_LONGEST_SECONDS = 5.0

T = TypeVar("T")


class Paced(Generic[T]):
    """A view that is made anew when it is called, unless that takes more than a hundredth of the time.

    One that takes long is made anew every five seconds.

    Args:
        make: makes it.
        now: the time, in seconds.
        spent: the CPU seconds of this thread.
    """

    def __init__(
        self,
        make: Callable[[], T],
        now: Callable[[], float] = time.monotonic,
        spent: Callable[[], float] = time.thread_time,
    ) -> None:
        self._make, self._now, self._spent = make, now, spent
        self._due = -math.inf
        self._made: list[T] = []

    def __call__(self) -> T:
        """Return the view as it was made last, or is made now."""
        if not self._made or self._now() >= self._due:
            before = self._spent()
            self._made = [self._make()]
            self._due = self._now() + min(_LONGEST_SECONDS, (self._spent() - before) / _SHARE)
        return self._made[0]

    def expire(self) -> None:
        """Let it be made anew by the next call."""
        self._made.clear()
