"""Confusion matrices by group, drawn."""

from __future__ import annotations

import io
from threading import Lock

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure

from fairsweep.analysis.records.cell_records import CellsFile, group_column
from fairsweep.analysis.records.vocabularies import Vocabulary

_MOST_GROUPS = 11
_MOST_WRITTEN = 10
_DPI = 90
# matplotlib's font cache is not made for threads.
_DRAWING = Lock()


def confusion_pictures(file: CellsFile, split: str = "test") -> dict[str, bytes]:
    """Return the last evaluation as confusion matrices.

    There is one picture per attribute, with a panel for all examples and one for each group.

    Args:
        file: the cells of a trial.
        split: which split; where it has no cells there is no picture.

    Returns:
        PNG by name, ``confusion/tone``.
    """
    table = file.table.filter(pc.equal(file.table.column("split"), split))
    if table.num_rows == 0:
        return {}
    iteration = pc.max(table.column("iteration")).as_py()
    table = table.filter(pc.equal(table.column("iteration"), iteration))
    label = file.vocabularies[file.label]
    return {
        f"confusion/{name}": _draw(table, file.vocabularies[name], label, f"{split}, iteration {iteration}")
        for name in file.groups
    }


def as_png(figure: Figure) -> bytes:
    """Return a figure as PNG."""
    with _DRAWING:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        return buffer.getvalue()


def _draw(table: pa.Table, group: Vocabulary, label: Vocabulary, title: str) -> bytes:
    classes = len(label.values)
    codes = table.column(group_column(group.name)).to_numpy()
    matrices = [("all", _matrix(table, None, classes))]
    matrices += [
        (group.shown(code), _matrix(table, codes == code, classes)) for code in range(len(group.values))[:_MOST_GROUPS]
    ]
    side = 2.1 if classes <= _MOST_WRITTEN else 3.0
    columns = min(4, len(matrices))
    rows = -(-len(matrices) // columns)
    figure = Figure(figsize=(side * columns + 0.6, (side + 0.45) * rows + 0.5), dpi=_DPI, layout="constrained")
    figure.suptitle(f"{group.name}: {title}", fontsize=10)
    for place, (name, matrix) in enumerate(matrices):
        axes = figure.add_subplot(rows, columns, place + 1)
        _panel(axes, matrix, label, f"{name} (n={matrix.sum():,})", is_first=place % columns == 0)
    return as_png(figure)


def _matrix(table: pa.Table, rows: npt.NDArray[np.bool_] | None, classes: int) -> npt.NDArray[np.int64]:
    """int64 [K, K]: rows the true label, columns the prediction."""
    key = table.column("label").to_numpy().astype(np.int64) * classes + table.column("prediction").to_numpy()
    counts = table.column("count").to_numpy()
    if rows is not None:
        key, counts = key[rows], counts[rows]
    found = np.bincount(key, weights=counts, minlength=classes * classes)
    return np.rint(found).astype(np.int64).reshape(classes, classes)


def _panel(axes, matrix: npt.NDArray[np.int64], label: Vocabulary, title: str, *, is_first: bool) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - matplotlib's Axes
    totals = matrix.sum(1, keepdims=True)
    # A class without examples has no shares: it stays blank.
    shares = np.where(totals > 0, matrix / np.maximum(totals, 1), np.nan)
    axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    places = np.arange(len(label.values))
    axes.set_title(title, fontsize=9)
    axes.set_xlabel("predicted", fontsize=8)
    axes.set_xticks(places, label.display, fontsize=7, rotation=45 if len(places) > 3 else 0)
    axes.set_yticks(places, label.display if is_first else [""] * len(places), fontsize=7)
    if is_first:
        axes.set_ylabel("true", fontsize=8)
    if len(places) > _MOST_WRITTEN:
        return
    for row in places:
        for column in places:
            if totals[row, 0]:
                colour = "white" if shares[row, column] > 0.55 else "black"
                text = (
                    f"{shares[row, column]:.0%}\n{matrix[row, column]:,}"
                    if len(places) <= 4
                    else f"{shares[row, column]:.0%}"
                )
                axes.text(
                    column, row, text, ha="center", va="center", fontsize=8 if len(places) <= 4 else 6, color=colour
                )
