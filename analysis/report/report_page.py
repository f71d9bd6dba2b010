"""The report of a sweep: one self-contained HTML page."""

from __future__ import annotations

import base64
import functools
import gzip
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import pandas as pd
import plotly.graph_objects as go
import plotly.offline

from fairsweep.analysis.records.file_names import REPORT
from fairsweep.analysis.records.files import write_whole
from fairsweep.analysis.report.example_images import refused
from fairsweep.analysis.report.report_content import Content, collect
from fairsweep.analysis.report.summary_table import SummaryTable
from fairsweep.analysis.results.results import SweepResults, load

_TEMPLATES = Path(__file__).parent / "templates"
_VERDICTS = {
    "different": "different",
    "equivalent": "equivalent",
    "undecided": "undecided",
    "undefined": "undefined",
}


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: what is shown.
        detail: shown smaller below it, an interval for example.
        key: what the column is sorted by, as text.
        is_number: whether the key is a number.
    """

    text: str
    detail: str
    key: str
    is_number: bool


@dataclass(frozen=True)
class Table:
    """A table laid out for the page.

    Attributes:
        caption: how to read it.
        header: names of the columns.
        rows: cells.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @property
    def lean(self) -> Table:
        """Return the table without the columns that are the same in every row; the caption says what they are."""
        columns = list(zip(*self.rows, strict=True))
        same = [i for i, cells in enumerate(columns) if i and len(cells) > 1 and len(set(cells)) == 1]
        said = [f"{self.header[i]} {columns[i][0].text}".strip() for i in same if columns[i][0].text]
        if not same:
            return self
        kept = [i for i in range(len(self.header)) if i not in same]
        caption = " ".join(text for text in (self.caption, f"In every row: {', '.join(said)}." if said else "") if text)
        return Table(
            caption, tuple(self.header[i] for i in kept), tuple(tuple(row[i] for i in kept) for row in self.rows)
        )

    @property
    def columns(self) -> list[tuple[str, bool]]:
        """Return each column's name and whether it holds numbers."""
        return [(name, any(row[i].is_number for row in self.rows)) for i, name in enumerate(self.header)]


def write_report(
    sweep: str | Path | SweepResults,
    to: str | Path | None = None,
    *,
    pictures: bool = False,
    content: Content | None = None,
) -> Path:
    """Write the report of a sweep, finished or running.

    Args:
        sweep: the output folder, or what `load` returned.
        to: the file; None writes ``report.html`` into the output folder.
        pictures: show example images, from the dataset that the sweep names; without, the sweep's folder alone is read.
        content: what `collect` returned; None collects it.

    Returns:
        The file.

    Raises:
        ValueError: if the sweep lies on a remote file system and no file is given, or if pictures are asked for of a
            dataset whose models were trained in release mode.
    """
    results = sweep if isinstance(sweep, SweepResults) else load(sweep)
    folder = results.location.local
    if to is None and folder is None:
        raise ValueError(f"the sweep {results.location.path} is remote: give the report's file with to=FILE")
    refusal = refused(results, pictures=pictures)
    if pictures and refusal:
        raise ValueError(f"{refusal} Write the report without pictures")
    path = Path(to) if to is not None else Path(folder or "") / REPORT
    text = render(collect(results, pictures=pictures) if content is None else content)
    write_whole(path, lambda file: file.write(text.encode()))
    return path


def render(content: Content) -> str:
    """Lay a report out as HTML."""
    page = environment()
    page.filters |= {"summary_table": summary_table}
    return page.get_template("report.html.j2").render(
        content=content,
        verdicts=_VERDICTS,
        style=verbatim("report.css"),
        theme=verbatim("theme.js"),
        script=verbatim("glossary.js") + verbatim("report.js"),
        plotly=packed_plotly() if content.findings else "",
    )


def environment() -> jinja2.Environment:
    """Return the template environment, which escapes all values."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"figure_json": figure_json, "data_table": data_table, "anchor": anchor}
    return made


@functools.cache
def packed_plotly() -> markupsafe.Markup:
    """Return Plotly's script, gzipped, in base64: two fifths of its size.

    The page unpacks it with ``DecompressionStream``.
    """
    packed = gzip.compress(plotly.offline.get_plotlyjs().encode(), 9, mtime=0)
    return markupsafe.Markup(base64.b64encode(packed).decode())


def anchor(name: str) -> str:
    """Return a name as an id of the page.

    >>> anchor("baseline-matched, clip=0.5")
    'baseline-matched--clip-0-5'
    """
    return re.sub(r"[^A-Za-z0-9_-]", "-", name)


def figure_json(figure: go.Figure) -> markupsafe.Markup:
    """Return a figure as JSON that may stand inside a script element."""
    text = str(figure.to_json()).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return markupsafe.Markup(text)


def data_table(frame: pd.DataFrame, caption: str = "") -> Table:
    """Return a data frame as a table; numbers are written short and sorted by their value."""
    rows = tuple(tuple(_cell(value) for value in row) for row in frame.itertuples(index=False, name=None))
    return Table(caption, tuple(str(name) for name in frame.columns), rows)


def summary_table(table: SummaryTable) -> Table:
    """Return a summary table: its texts, sorted by the numbers behind them."""
    rows = tuple(
        tuple(_text_cell(text, key) for text, key in zip(texts, keys, strict=True))
        for texts, keys in zip(table.rows, table.sort_values, strict=True)
    )
    return Table(table.caption, table.header, rows)


def _text_cell(text: str, key: float) -> Cell:
    known = not math.isnan(key)
    value, bracket, rest = text.partition(" [")
    return Cell(value, f"[{rest.replace(',', ', ')}" if bracket else "", f"{key:.17g}" if known else text, known)


def _cell(value: Any) -> Cell:  # noqa: ANN401 - anything a data frame holds
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return Cell("", "", "", False)
    if isinstance(value, bool | str):
        return Cell(str(value), "", str(value), False)
    number = float(value)
    whole = number.is_integer() and abs(number) < 1e15
    return Cell(f"{int(number):,}" if whole else f"{number:.4g}", "", f"{number:.17g}", True)


def verbatim(name: str) -> markupsafe.Markup:
    """Return a file of the templates as it is."""
    return markupsafe.Markup((_TEMPLATES / name).read_text(encoding="utf-8"))
