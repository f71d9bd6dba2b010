"""How groups and learners look in every figure: colours, names, panels."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fairsweep.analysis.axes import Look
from fairsweep.analysis.focus import Focus, shown
from fairsweep.analysis.palette import NEUTRAL, RARE_COLOUR, group_colour
from fairsweep.analysis.results import SweepResults

PANEL_HEIGHT = 360
MOST_COLOURS = 8
OTHERS = "the others"
_PANELS_IN_A_ROW = 3


def series_of(results: SweepResults) -> list[str]:
    """Names of the series (learners, with what varies under their name), in the order of the sweep."""
    return [name for name in dict.fromkeys(results.trials["series"]) if name]


def panels(titles: Sequence[str]) -> tuple[go.Figure, list[tuple[int, int]]]:
    """A figure with one panel a title, at most three in a row, and the place of each."""
    columns = 2 if len(titles) == 4 else min(_PANELS_IN_A_ROW, len(titles))
    rows = -(-len(titles) // columns)
    figure = make_subplots(
        rows,
        columns,
        shared_yaxes="all",
        subplot_titles=list(titles),
        horizontal_spacing=0.03,
        vertical_spacing=0.3 / rows,
    )
    return figure, [(number // columns + 1, number % columns + 1) for number in range(len(titles))]


def is_many(results: SweepResults, attribute: str) -> bool:
    """Whether an attribute has more groups than there are colours."""
    return len(results.vocabulary(attribute).values) > MOST_COLOURS


def is_rare(focus: Focus, attribute: str, group: str) -> bool:
    """Whether the imbalance makes a group rare."""
    return attribute == focus.attribute and group in focus.rare


def group_look(results: SweepResults, focus: Focus, attribute: str, group: str, *, in_legend: bool) -> Look:
    """A colour for each group while they are few; of many, the rare ones stand out and the others are faint."""
    names = results.vocabulary(attribute).values
    text = shown(results, attribute, group)
    if not is_many(results, attribute):
        return Look(text, group_colour(names, group), group, in_legend)
    if is_rare(focus, attribute, group):
        return Look(text, RARE_COLOUR, group, in_legend)
    first = next(name for name in names if not is_rare(focus, attribute, name))
    return Look(text, NEUTRAL, OTHERS, in_legend and group == first, is_faint=True)


def group_texts(results: SweepResults, attribute: str, rows: pd.DataFrame) -> list[str]:
    """Groups as shown below a bar: the attribute stands in the axis' title."""
    vocabulary = results.vocabulary(attribute)
    return [vocabulary.display[vocabulary.values.index(name)] for name in rows["group"]]
