"""Tables for papers: mean ± half-width in two dimensions, in which bold means not significantly beaten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import combinations
from typing import Any, TypedDict, Unpack

import numpy as np
import pandas as pd

from fairsweep.analysis.metrics.catalogue import resolve
from fairsweep.analysis.metrics.disparities import Disparity
from fairsweep.analysis.records.counts import JOINT
from fairsweep.analysis.results.imbalance_design import shown
from fairsweep.analysis.results.outcome_table import PairedMetric, pairs_by_seed
from fairsweep.analysis.results.replicates import average
from fairsweep.analysis.results.sweep_frames import At, SweepFrames
from fairsweep.analysis.statistics.multiplicity import holm

DIMENSIONS = ("learner", "series", "level", "group", "metric")
_OF_SETTING = ("learner", "series")
_NOTHING = "\N{EN DASH}"
_LATEX = str.maketrans({c: f"\\{c}" for c in "&%$#_{}"} | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"})
_LATEX_WORDS = {"ε": r"$\varepsilon$", "∞": r"$\infty$"}


class TableOptions(TypedDict, total=False):
    """Keywords of `result_table`."""

    metrics: Sequence[str]
    by: str | Sequence[str]
    where: Mapping[str, Any]
    bold: bool
    decimals: int
    confidence: float
    split: str
    at: At


@dataclass(frozen=True)
class ResultTable:
    """A table of means, for notebooks and papers.

    Attributes:
        corner: what rows and columns are.
        row_names: first cell of each row.
        column_names: heads of the other columns.
        texts: ``81.2 ± 1.3``, one tuple a row; a dash where nothing is known.
        bold: which cells are not significantly beaten; same shape.
        caption: how to read it.
        numbers: the averaged tidy rows behind the texts.
    """

    corner: str
    row_names: tuple[str, ...]
    column_names: tuple[str, ...]
    texts: tuple[tuple[str, ...], ...]
    bold: tuple[tuple[bool, ...], ...]
    caption: str
    numbers: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """Return the texts as a data frame."""
        index = pd.Index(self.row_names, name=self.corner)
        return pd.DataFrame(list(self.texts), index=index, columns=list(self.column_names))

    def to_latex(self, label: str | None = None) -> str:
        """Return a LaTeX table; it needs the package ``booktabs``.

        Args:
            label: for references to it.
        """
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex(self.caption)}}}",
            *([rf"\label{{{label}}}"] if label else []),
            rf"\begin{{tabular}}{{l{'c' * len(self.column_names)}}}",
            r"\toprule",
            " & ".join(_latex(name) for name in (self.corner, *self.column_names)) + r" \\",
            r"\midrule",
        ]
        for name, texts, bold in zip(self.row_names, self.texts, self.bold, strict=True):
            cells = [_latex_cell(text, is_bold=is_bold) for text, is_bold in zip(texts, bold, strict=True)]
            lines.append(" & ".join([_latex(name), *cells]) + r" \\")
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])

    def __repr__(self) -> str:
        return f"{self.to_frame().to_string()}\n{self.caption}"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(name)}</th>" for name in (self.corner, *self.column_names))
        rows = [
            f'<tr><th style="text-align:left">{escape(name)}</th>'
            + "".join(f"<td>{f'<b>{text}</b>' if is_bold else text}</td>" for text, is_bold in zip(t, b, strict=True))
            + "</tr>"
            for name, t, b in zip(self.row_names, self.texts, self.bold, strict=True)
        ]
        caption = f'<caption style="caption-side:bottom">{escape(self.caption)}</caption>'
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def result_table(results: SweepFrames, rows: str, columns: str, **options: Unpack[TableOptions]) -> ResultTable:
    """Return the means over replicates with half-widths of their intervals.

    Args:
        results: the sweep.
        rows: one of `DIMENSIONS`.
        columns: another one.
        options: ``metrics`` (default the accuracy); ``by``, an attribute or several whose groups are taken (default all
            examples together; for disparities the sweep's first group); ``where``, values of further dimensions, which
            must leave one number per cell: ``{"level": "share 0.9"}``; ``bold``, whether cells are compared (default
            true); ``decimals`` of percent (default 1); ``confidence`` (default 0.95); ``split`` and ``at`` as in
            `SweepFrames.evaluations`.

    Raises:
        ValueError: if a dimension is unknown, or several numbers stand in one cell; the message names the dimension
            that ``where`` must fix.
    """
    if {rows, columns} - set(DIMENSIONS) or rows == columns:
        raise ValueError(f"rows and columns must be two of {list(DIMENSIONS)}, but got {rows=} and {columns=}")
    confidence = options.get("confidence", 0.95)
    frame = _frame(results, confidence, options)
    means = _chosen(average(frame, confidence, results=results), options.get("where", {}))
    _one_each(means, rows, columns)
    decimals = options.get("decimals", 1)
    row_names, column_names = (list(dict.fromkeys(means[name])) for name in (rows, columns))
    place = {(row[rows], row[columns]): i for i, row in enumerate(means[[rows, columns]].to_dict("records"))}
    compared = options.get("bold", True) and bool({rows, columns} & set(_OF_SETTING))
    split, at = options.get("split", "test"), options.get("at", "last")
    fallen = means["setting"].isin(results.collapsed(split=split, at=at)["setting"]).to_numpy()
    best = np.zeros(len(means), np.bool_)
    if compared:
        best[~fallen] = _not_beaten(results, means[~fallen].reset_index(drop=True), rows, columns, options)
    cells = [[place.get((row, column)) for column in column_names] for row in row_names]
    return ResultTable(
        corner=rows,
        row_names=tuple(_name(results, means, rows, name) for name in row_names),
        column_names=tuple(_name(results, means, columns, name) for name in column_names),
        texts=tuple(tuple(_NOTHING if i is None else _text(means.iloc[i], decimals) for i in line) for line in cells),
        bold=tuple(tuple(i is not None and bool(best[i]) for i in line) for line in cells),
        caption=f"{_caption(results, means, rows, columns, confidence, is_compared=bool(best.any()))}"
        f"{_of_collapsed(results, means[fallen], split)}",
        numbers=means.assign(bold=best),
    )


def _frame(results: SweepFrames, confidence: float, options: TableOptions) -> pd.DataFrame:
    metrics = list(options.get("metrics", ["accuracy"]))
    plain = [name for name in metrics if not isinstance(resolve(name, results.classes).row, Disparity)]
    others = [name for name in metrics if name not in plain]
    split, at = options.get("split", "test"), options.get("at", "last")
    parts = []
    if plain:
        parts.append(results.rates(plain, by=options.get("by", ()), split=split, at=at, confidence=confidence))
    if others:
        by = options.get("by") or (results.groups or (results.label,))[0]
        parts.append(results.disparities(others, by=by, split=split, at=at, confidence=confidence))
    return pd.concat(parts, ignore_index=True)


def _chosen(means: pd.DataFrame, where: Mapping[str, Any]) -> pd.DataFrame:
    for name, value in where.items():
        if name not in means:
            raise ValueError(f"where must name columns of the averaged table {list(means)}, but got {name!r}")
        known = list(dict.fromkeys(means[name]))
        means = means[means[name] == value]
        if means.empty:
            raise ValueError(f"{name} must be one of {known}, but got {value!r}")
    return means.reset_index(drop=True)


def _one_each(means: pd.DataFrame, rows: str, columns: str) -> None:
    """Refuse several numbers in one cell."""
    twice = means[means.duplicated([rows, columns], keep=False)]
    if len(twice):
        free = {name: list(dict.fromkeys(means[name])) for name in DIMENSIONS if name not in (rows, columns)}
        several = {name: values for name, values in free.items() if len(values) > 1}
        raise ValueError(
            f"each cell must hold one number, but {twice.iloc[0][rows]}, {twice.iloc[0][columns]} has several; choose "
            f"with where= among {several}"
        )


def _not_beaten(
    results: SweepFrames, means: pd.DataFrame, rows: str, columns: str, options: TableOptions
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return for each averaged row whether no other setting in its line is significantly superior."""
    line = columns if rows in _OF_SETTING else rows
    found = np.zeros(len(means), np.bool_)
    split, at = options.get("split", "test"), options.get("at", "last")
    compared: dict[tuple[str, str], PairedMetric] = {}
    for _, part in means.groupby([line, "attribute", "group", "metric"], sort=False):
        attribute, group, metric = (str(part.iloc[0][name]) for name in ("attribute", "group", "metric"))
        better = resolve(metric, results.classes).row.better
        by = tuple(attribute.split(JOINT)) if attribute else ()
        if len(part) < 2 or better == "none" or group in results.small_groups(by, split=split):
            continue
        if (attribute, metric) not in compared:
            compared[attribute, metric] = PairedMetric.of(results, metric, by, split=split, at=at)
        losers = beaten(
            compared[attribute, metric],
            group,
            part["setting"].tolist(),
            higher=better == "higher",
            confidence=options.get("confidence", 0.95),
        )
        if losers is not None:
            found[part.index] = ~part["setting"].isin(losers).to_numpy() & np.isfinite(part["value"].to_numpy())
    return found


def beaten(
    compared: PairedMetric, group: str, settings: Sequence[str], *, higher: bool, confidence: float = 0.95
) -> set[str] | None:
    """Return the settings to which another one is significantly superior, Holm-corrected over all pairs.

    Args:
        compared: the metric.
        group: of the rows.
        settings: which are compared, by the trials that share both seeds.
        higher: whether a higher value is superior.
        confidence: of the family of all pairs.

    Returns:
        The settings that are beaten; None where no pair shares two replicates, so that nothing can be said.
    """
    trials = compared.results.trials
    done = trials[trials["state"] == "done"]
    pairs = list(combinations(settings, 2))
    effects = [
        compared.difference(group, pairs_by_seed(*(done[done["setting"] == name] for name in pair))) for pair in pairs
    ]
    p = np.array([np.nan if effect is None else float(effect[0].p_value()) for effect in effects])
    if not any(effect is not None and effect[0].replicates > 1 for effect in effects):
        return None
    return {
        pair[1] if (float(effect[0].estimate) > 0) == higher else pair[0]
        for pair, effect, adjusted in zip(pairs, effects, holm(p), strict=True)
        if effect is not None and adjusted < 1 - confidence
    }


def _name(results: SweepFrames, means: pd.DataFrame, dimension: str, value: str) -> str:
    """Return a row or column as people read it."""
    if dimension == "metric":
        return resolve(value, results.classes).title
    if dimension == "group":
        attribute = str(means.loc[means["group"] == value, "attribute"].iloc[0])
        return shown(results, attribute, value) if set(attribute.split(JOINT)) - {value} else f"between {value}s"
    return value


def _text(row: pd.Series[Any], decimals: int) -> str:
    if not np.isfinite(row["value"]):
        return f"n/a (n {int(row['n_min'])})"
    half = (row["high"] - row["low"]) / 2
    return f"{100 * row['value']:.{decimals}f} ± {100 * half:.{decimals}f}"


def _caption(
    results: SweepFrames, means: pd.DataFrame, rows: str, columns: str, confidence: float, *, is_compared: bool
) -> str:
    metrics = [resolve(name, results.classes).title for name in dict.fromkeys(means["metric"])]
    fixed = [
        f"{name} {means[name].iloc[0]}"
        for name in ("series", "level", "group")
        if name not in (rows, columns) and means[name].nunique() == 1 and means[name].iloc[0] != "all"
    ]
    least, most = int(means["replicates"].min()), int(means["replicates"].max())
    text = f"{', '.join(metrics)} in %{': ' if fixed else ''}{', '.join(fixed)}. Mean ± half-width of the "
    text += f"{confidence:.0%} interval, {least if least == most else f'{least} to {most}'} replicates."
    if is_compared:
        line = "column" if rows in _OF_SETTING else "row"
        return f"{text} Bold: not significantly beaten in its {line} (paired by seed, Holm over all pairs)."
    return text


def _of_collapsed(results: SweepFrames, means: pd.DataFrame, split: str) -> str:
    """Return which settings of a table have collapsed and are compared with nothing; empty if none has."""
    if means.empty:
        return ""
    names = ", ".join(
        dict.fromkeys(f"{one} ({level})" for one, level in zip(means["series"], means["level"], strict=True))
    )
    return f" Collapsed, and never bold: {names}; a run predicts one class for every {split} {results.unit}."


def _latex(text: str) -> str:
    escaped = text.replace("\\", r"\textbackslash ").translate(_LATEX)
    for word, code in _LATEX_WORDS.items():
        escaped = escaped.replace(word, code)
    return escaped.replace("±", r"$\pm$")


def _latex_cell(text: str, *, is_bold: bool) -> str:
    if "±" not in text:
        return "--" if text == _NOTHING else text
    value, half = text.split(" ± ")
    return rf"$\mathbf{{{value}}} \pm {half}$" if is_bold else rf"${value} \pm {half}$"
