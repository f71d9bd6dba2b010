"""Colours that colour-blind readers can tell apart, the same for a group or a learner in every plot."""

from __future__ import annotations

from collections.abc import Sequence

# Okabe & Ito 2008, without the yellow, which is too faint on white.
GROUP_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#8C6D31", "#999999")
# Paul Tol's "bright" scheme (technical note SRON/EPS/TN/09-002), for learners, so that they are not taken for groups.
LEARNER_COLOURS = ("#AA3377", "#4477AA", "#228833", "#CCBB44", "#EE6677", "#66CCEE", "#777777")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "star", "hexagon")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
NEUTRAL = "#8a8f98"
# Where groups are too many for a colour each.
RARE_COLOUR, COMMON_COLOUR = "#D55E00", "#0072B2"
# Heat maps: a part of matplotlib's viridis that black or white letters can be read on, and Tol's "sunset" in short.
SEQUENTIAL = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")
DIVERGING = ("#364B9A", "#6EA6CD", "#EAECCC", "#F67E4B", "#A50026")


def group_colour(names: Sequence[str], name: str) -> str:
    """Return the colour of a group by its place among all groups of its attribute; grey for all examples together.

    >>> group_colour(("light", "dark"), "dark")
    '#D55E00'
    """
    return GROUP_COLOURS[names.index(name) % len(GROUP_COLOURS)] if name in names else NEUTRAL


def learner_colour(names: Sequence[str], name: str) -> str:
    """Return the colour of a learner by its place in the sweep."""
    return LEARNER_COLOURS[names.index(name) % len(LEARNER_COLOURS)]


def translucent(colour: str, opacity: float) -> str:
    """Return the colour as ``rgba``.

    >>> translucent("#0072B2", 0.2)
    'rgba(0,114,178,0.2)'
    """
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"
