"""The deltas for which the accountants' numbers are right."""

from __future__ import annotations

LEAST_DELTA = 1e-12


def check_least_delta(delta: float) -> float:
    """Return a delta that is at least `LEAST_DELTA` and below 1.

    Raises:
        ValueError: If it is not.
    """
    if not LEAST_DELTA <= delta < 1:
        raise ValueError(
            f"delta must be at least {LEAST_DELTA:g} and below 1, but got {delta:g}: the accountant rounds off more "
            "than less would be; leave it out for a default"
        )
    return delta
