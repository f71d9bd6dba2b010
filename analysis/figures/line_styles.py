"""Line styles of groups and learners in all figures: colours, names, symbols."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from fairsweep.analysis.drawing.palette import NEUTRAL, RARE_COLOUR, group_colour
from fairsweep.analysis.results.imbalance_design import ImbalanceDesign, shown
from fairsweep.analysis.results.results import SweepResults

MOST_COLOURS = 8
OTHERS = "others"


@dataclass(frozen=True)
class LineStyle:
    """Style of one line.

    Attributes:
        name: in legend and hover.
        colour: of line and band.
        key: lines with one key are switched on and off together.
        in_legend: whether this one stands in the legend.
        place: chooses symbol and dash, for readers who see no colour.
        is_faint: whether it is one of many that stand behind.
        is_solid: whether it has no dashes whatever its place.
    """

    name: str
    colour: str
    key: str
    in_legend: bool
    place: int = 0
    is_faint: bool = False
    is_solid: bool = False


def series_of(results: SweepResults) -> list[str]:
    """Return the names of the series (learners, with what varies under their name), in the order of the sweep."""
    return [name for name in dict.fromkeys(results.trials["series"]) if name]


def series_in(results: SweepResults, rows: pd.DataFrame) -> list[str]:
    """Return those of the series that some rows have."""
    there = set(rows["series"])
    return [name for name in series_of(results) if name in there]


def is_many(results: SweepResults, attribute: str) -> bool:
    """Return whether an attribute has more groups than there are colours."""
    return len(results.vocabulary(attribute).values) > MOST_COLOURS


def is_rare(design: ImbalanceDesign, attribute: str, group: str) -> bool:
    """Return whether the imbalance makes a group rare."""
    return attribute == design.attribute and group in design.rare


def group_style(
    results: SweepResults, design: ImbalanceDesign, attribute: str, group: str, *, in_legend: bool
) -> LineStyle:
    """Return a colour for each group while they are few; of many, the rare ones stand out and the others are faint."""
    names = results.vocabulary(attribute).values
    text = shown(results, attribute, group)
    if not is_many(results, attribute):
        return LineStyle(text, group_colour(names, group), group, in_legend, names.index(group), is_solid=True)
    if is_rare(design, attribute, group):
        return LineStyle(text, RARE_COLOUR, group, in_legend)
    first = next(name for name in names if not is_rare(design, attribute, name))
    return LineStyle(text, NEUTRAL, OTHERS, in_legend and group == first, is_faint=True)


def group_texts(results: SweepResults, attribute: str, groups: Sequence[str]) -> list[str]:
    """Group as shown below a bar: the attribute stands in the axis' title."""
    vocabulary = results.vocabulary(attribute)
    return [vocabulary.display[vocabulary.values.index(name)] for name in groups]
