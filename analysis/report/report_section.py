"""A section of the report, and what its tables and sentences are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from fairsweep.analysis.report.report_figures import Figure
from fairsweep.analysis.report.statements import StatementGroup
from fairsweep.analysis.report.summary_table import SummaryTable
from fairsweep.analysis.results.results import SweepResults


@dataclass(frozen=True)
class ReportSection:
    """A section of the report.

    Attributes:
        name: Anchor.
        link: Text in the table of contents.
        title: Heading.
        sentences: Findings, or why the sweep does not allow any.
        findings: Sentences with a verdict each.
        figures: Figures with captions.
        tables: Summary tables.
    """

    name: str
    link: str
    title: str
    sentences: tuple[str, ...]
    findings: tuple[StatementGroup, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[SummaryTable, ...] = ()


def table_of(
    title: str, caption: str, columns: Mapping[str, tuple[Sequence[str], Sequence[float] | None]], numbers: pd.DataFrame
) -> SummaryTable:
    """Return a summary table from columns: texts, and the numbers by which they are sorted (None: by the texts).

    Args:
        title: of the table.
        caption: how to read it.
        columns: by their heading.
        numbers: what the texts were made from.
    """
    texts = [list(column) for column, _ in columns.values()]
    keys = [
        [float("nan")] * len(column) if sorted_by is None else [float(key) for key in sorted_by]
        for column, sorted_by in columns.values()
    ]
    rows = tuple(tuple(row) for row in zip(*texts, strict=True))
    return SummaryTable(title, caption, tuple(columns), rows, tuple(zip(*keys, strict=True)), numbers)


def split_kinds(results: SweepResults) -> set[str]:
    """Return the kinds of ``split`` that the trials used."""
    return {str(((folder.config or {}).get("split") or {}).get("kind")) for folder in results.folders}
