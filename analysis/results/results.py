"""Results of a sweep, as returned by `load`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Unpack

import pandas as pd

from fairsweep.analysis.records.files import SweepLocation
from fairsweep.analysis.results.frames import renamed
from fairsweep.analysis.results.overview import overview, settings_table
from fairsweep.analysis.results.result_table import ResultTable, TableOptions, result_table
from fairsweep.analysis.results.sweep_frames import FrameOptions, SweepFrames


class SweepResults(SweepFrames):
    """Rates, disparities and differences of a sweep, as tidy tables; made by `load`."""

    def _repr_html_(self) -> str:
        return overview(self)

    @property
    def settings(self) -> pd.DataFrame:
        """Return one row per setting; columns as `fairsweep.analysis.results.overview.settings_table` says."""
        return settings_table(self.trials)

    def table(self, rows: str = "series", columns: str = "level", **options: Unpack[TableOptions]) -> ResultTable:
        """Return the means with half-widths of their intervals as a table of two dimensions, for a notebook or a paper.

        Args:
            rows: what the rows are: ``series``, ``learner``, ``level``, ``group`` or ``metric``.
            columns: what the columns are.
            options: see `fairsweep.analysis.results.result_table.result_table`.
        """
        return result_table(self, rows, columns, **options)

    @renamed(against="baseline")
    def to_parquet(
        self,
        path: str | Path,
        metrics: Sequence[str] | None = None,
        *,
        baseline: str | None = None,
        **choice: Unpack[FrameOptions],
    ) -> None:
        """Write `frame` as a Parquet file; arguments as there."""
        self.frame(metrics, baseline=baseline, **choice).to_parquet(path, index=False)

    @renamed(against="baseline")
    def to_csv(
        self,
        path: str | Path,
        metrics: Sequence[str] | None = None,
        *,
        baseline: str | None = None,
        **choice: Unpack[FrameOptions],
    ) -> None:
        """Write `frame` as a CSV file; arguments as there."""
        self.frame(metrics, baseline=baseline, **choice).to_csv(path, index=False)


def load(
    path: str | Path | Sequence[str | Path], *more: str | Path, cache: bool = True, former: bool = False
) -> SweepResults:
    """Open the output folder of a sweep, finished or running, or several together.

    Args:
        path: a local folder, or the URI of one on a file system that pyarrow knows (``s3://bucket/runs/quickstart``);
            or a list of such.
        more: further sweeps on the same dataset. A trial that stands in two is taken once; the column ``sweep`` says
            from where.
        cache: whether a large local sweep may keep a file beside its records from which it opens faster; see
            `fairsweep.analysis.records.record_cache`.
        former: also take trials that belong to earlier versions of the sweep: of values that were edited since.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    listed = [path] if isinstance(path, str | Path) or not isinstance(path, Iterable) else list(path)
    given: list[object] = list(listed)
    if not all(isinstance(one, str | Path) and str(one) for one in given):
        raise TypeError(f"load needs the output folder of a sweep, such as 'runs/quickstart', but got {path!r}")
    return SweepResults(*(SweepLocation.of(one) for one in (*listed, *more)), cache=cache, former=former)
