"""Human-readable numbers and durations."""

from __future__ import annotations


def number(value: float | None, form: str) -> str:
    """Return a number for people; a dash where there is none.

    >>> number(0.913, ".1%"), number(None, ".2f"), number(float("inf"), ".2f")
    ('91.3%', '-', '∞')
    """
    if value is None or value != value:
        return "-"
    return "∞" if value == float("inf") else format(value, form)


def duration(seconds: float) -> str:
    """Return a duration for people.

    >>> duration(7), duration(125), duration(7300)
    ('7 s', '2 min 05 s', '2 h 01 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
