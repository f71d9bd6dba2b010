"""Summary tables of the differences between two sweeps."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fairsweep.analysis.comparing.comparison import SweepComparison
from fairsweep.analysis.metrics.catalogue import METRICS
from fairsweep.analysis.report.summary_table import SummaryTable
from fairsweep.analysis.results.imbalance_design import shown

_MARKS = {"different": "*", "equivalent": "", "undecided": "", "undefined": ""}
_MINUS = "\N{MINUS SIGN}"
_CAPTION = (
    "B minus A in percentage points with 95% intervals; * is statistically significant, corrected for all differences "
    "between the two sweeps (Holm)."
)


def comparison_tables(comparison: SweepComparison) -> tuple[SummaryTable, ...]:
    """Return the changes of rates by group, then changes of disparities, for each attribute."""
    frame = comparison.differences
    tables = []
    for attribute in dict.fromkeys(name for name in frame["attribute"] if name):
        disparities = frame["group"] == frame["attribute"]
        for metric in dict.fromkeys(frame.loc[~disparities, "metric"]):
            rates = frame[(frame["metric"] == metric) & frame["attribute"].isin(["", attribute]) & ~disparities]
            columns = {
                (shown(comparison.b, attribute, group) if of else "all"): (rates["group"] == group)
                & (rates["attribute"] == of)
                for of, group in dict.fromkeys(zip(rates["attribute"], rates["group"], strict=True))
            }
            tables.append(_table(f"{METRICS[metric].title} by {attribute}: B minus A", rates, columns))
        gaps = frame[(frame["attribute"] == attribute) & disparities]
        columns = {METRICS[name].title: gaps["metric"] == name for name in dict.fromkeys(gaps["metric"])}
        if columns:
            tables.append(_table(f"Disparities by {attribute}: B minus A", gaps, columns))
    return tuple(tables)


def _table(title: str, frame: pd.DataFrame, columns: dict[str, pd.Series[bool]]) -> SummaryTable:
    settings = frame.drop_duplicates("setting").set_index("setting")
    texts: dict[str, list[str]] = {
        "learner": settings["learner"].tolist(),
        "level": settings["level"].tolist(),
        "paired by": settings["pairing"].tolist(),
        "pairs": [str(count) for count in settings["replicates"]],
    }
    keys = {name: [float("nan")] * len(settings) for name in texts}
    keys["pairs"] = settings["replicates"].astype(np.float64).tolist()
    for name, chosen in columns.items():
        cells = frame[chosen].set_index("setting").reindex(settings.index)
        numbers = cells[["difference", "low", "high"]].to_numpy(np.float64)
        found = cells["verdict"].fillna("undefined")
        texts[name] = [change_text(*row, mark=_MARKS[kind]) for row, kind in zip(numbers, found, strict=True)]
        keys[name] = numbers[:, 0].tolist()
    rows = tuple(zip(*texts.values(), strict=True))
    return SummaryTable(title, _CAPTION, tuple(texts), rows, tuple(zip(*keys.values(), strict=True)), frame)


def change_text(difference: float, low: float, high: float, *, mark: str = "") -> str:
    """Return a change in points with its interval; no space within the brackets, as in the summary tables.

    >>> change_text(0.021, 0.004, 0.046, mark="*")
    '+2.1* [+0.4,+4.6]'
    """
    if not np.isfinite(difference):
        return "n/a"
    texts = [f"{100 * number + 0.0:+.1f}".replace("-", _MINUS) for number in (difference, low, high)]
    return f"{texts[0]}{mark} [{texts[1]},{texts[2]}]"
