"""A section of the report, and what its tables and sentences are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fairsweep.analysis.report.report_figures import Figure
from fairsweep.analysis.report.statements import StatementGroup
from fairsweep.analysis.report.summary_table import SummaryTable
from fairsweep.analysis.results.results import SweepResults

ALPHA = 0.05


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


def p_text(p: float) -> str:
    """Return a p-value for a table.

    >>> p_text(0.03125), p_text(0.00002), p_text(float("nan"))
    ('0.031', '<0.001', 'none')
    """
    if not np.isfinite(p):
        return "none"
    return "<0.001" if p < 0.001 else f"{p:.2g}"


def p_words(p: float) -> str:
    """Return a p-value for a sentence.

    >>> p_words(0.03125), p_words(0.00002)
    ('p = 0.031', 'p < 0.001')
    """
    text = p_text(p)
    return f"p < {text[1:]}" if text.startswith("<") else f"p = {text}"


def split_kinds(results: SweepResults) -> set[str]:
    """Return the kinds of ``split`` that the trials used."""
    return {str(((folder.config or {}).get("split") or {}).get("kind")) for folder in results.folders}
