"""The privacy ledger of a sweep, which shows itself in a few lines and in notebooks."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import pandas as pd

from fairsweep.analysis.wording import counted


@dataclass(frozen=True, repr=False)
class PrivacyLedger:
    """Privacy guarantees of a sweep.

    Attributes:
        headline: What releasing all trials costs, and what no number here covers, in sentences.
        prices: What releasing one trial, the winner, or all trials costs, for each unit; see `price_table`.
        statements: One row per private series and level, that of its trial of the largest ε: ε by both accountants, δ,
            noise and sampling.
        assumptions: Assumptions behind the ε, each once, with its learners where not all make it.
    """

    headline: tuple[str, ...]
    prices: pd.DataFrame
    statements: pd.DataFrame
    assumptions: tuple[str, ...]

    def __repr__(self) -> str:
        parts = (
            f"settings: {len(self.statements)}",
            f"headline: {counted(len(self.headline), 'sentence')}",
            f"assumptions: {len(self.assumptions)}",
        )
        head = f"{type(self).__name__}({', '.join(parts)})"
        return f"{head}\n{self.prices.to_string(index=False)}" if len(self.prices) else head

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{escape(text)}</li>" for text in self.headline)
        tables = "".join(
            f"<p>{caption}</p>{table.to_html(index=False, border=0)}"
            for caption, table in (("What a release costs", self.prices), ("Each setting alone", self.statements))
            if len(table)
        )
        return f"<b>Privacy of the sweep</b><ul>{items}</ul>{tables}"
