"""Overview of a sweep: a table of its settings, and its summary in notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import pandas as pd

from fairsweep.analysis.records.files import RecordError
from fairsweep.analysis.results.sweep_records import SweepRecords

_OF_SETTING = ("learner", "series", "kind", "twin_of", "level", "level_value")
_MEANS = ("minority_count", "train_size", "seconds", "examples_per_second")
_PEAKS = ("host_peak_bytes", "device_peak_bytes")
_NUMBERS = ("epsilon", "minority_count", "train_size", "trials", "done", "failed", "seconds", "examples_per_second")
SETTING_COLUMNS = (*_OF_SETTING, *_NUMBERS, *_PEAKS, "setting")


def settings_table(trials: pd.DataFrame) -> pd.DataFrame:
    """Return one row per setting, in the order of the trials.

    Args:
        trials: as `fairsweep.analysis.results.trials.trials_table` makes it.

    Returns:
        The columns `SETTING_COLUMNS`: ``epsilon`` is the largest of the replicates (each guarantees its own),
        ``minority_count``, ``train_size``, ``seconds`` and ``examples_per_second`` are means over them,
        ``host_peak_bytes`` and ``device_peak_bytes`` the largest; ``trials``, ``done`` and ``failed`` count them.
    """
    known = trials[trials["setting"] != ""]
    counted = known.assign(
        trials=1, done=(known["state"] == "done").astype(int), failed=(known["state"] == "failed").astype(int)
    )
    sums = dict.fromkeys(("trials", "done", "failed"), "sum")
    means = dict.fromkeys(_MEANS, "mean") | dict.fromkeys(_PEAKS, "max")
    first = dict.fromkeys(_OF_SETTING, "first")
    table = counted.groupby("setting", sort=False).agg({**first, "epsilon": "max", **means, **sums}).reset_index()
    return table[list(SETTING_COLUMNS)]


def overview(results: SweepRecords) -> str:
    """Return HTML: states of the trials, learners, levels, groups with their values, and what could not be read."""
    trials = results.trials
    states = ", ".join(f"{count} {state}" for state, count in trials["state"].value_counts().items()) or "none yet"
    series = [name for name in dict.fromkeys(trials["series"]) if name]
    levels = [name for name in dict.fromkeys(trials["level"]) if name]
    rows = {"trials": states, "learners": _listed(series), "levels": _listed(levels)}
    per_setting = trials.loc[trials["setting"] != ""].groupby("setting").size()
    if len(per_setting):
        least, most = int(per_setting.min()), int(per_setting.max())
        rows["replicates"] = f"{least}" if least == most else f"{least} to {most}"
    sweeps = [name for name in dict.fromkeys(trials["sweep"]) if name]
    if len(sweeps) > 1:
        rows["sweeps"] = _listed(sweeps)
    try:
        rows["label"] = f"{results.label}: {_listed(results.classes)}"
        for group in results.groups:
            rows[group] = _listed(results.vocabulary(group).display)
    except RecordError as error:
        rows["evaluations"] = str(error)
    problems = len(results.problems)
    if problems:
        rows["problems"] = f"{problems}; see .problems"
    if results.former:
        rows["left out"] = f"{len(results.former)} of earlier versions of the sweep; load(…, former=True) takes them"
    return titled_rows(results.name, rows)


def titled_rows(title: str, rows: Mapping[str, str]) -> str:
    """Return HTML: a title over a table of two columns, for the first view of an object in a notebook."""
    body = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{escape(text)}</td></tr>'
        for name, text in rows.items()
    )
    return f"<strong>{escape(title)}</strong><table>{body}</table>"


def _listed(names: tuple[str, ...] | list[str], most: int = 12) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
