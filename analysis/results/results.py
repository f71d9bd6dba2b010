"""Results of a sweep, as returned by `load`."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Unpack

import pandas as pd

from fairsweep.analysis.records.files import SweepLocation
from fairsweep.analysis.results.frames import renamed
from fairsweep.analysis.results.overview import overview, settings_table
from fairsweep.analysis.results.result_table import ResultTable, TableOptions, result_table
from fairsweep.analysis.results.sweep_frames import FrameOptions, SweepFrames
from fairsweep.analysis.results.sweep_records import one_of


class SweepResults(SweepFrames):
    """Rates, disparities and differences of a sweep, as tidy tables; made by `load`."""

    def _repr_html_(self) -> str:
        return overview(self)

    def filter(self, **columns: object) -> SweepResults:
        """Return the results of some trials alone.

        Args:
            columns: by column of `trials`, a value or a list of values: ``learner="private"``, ``share=[0.9, 0.99]``,
                ``level="share 0.9"``, ``replicate=0``.

        Raises:
            ValueError: if there is no such column, or a value that no trial has.
        """
        kept = pd.Series(True, self.trials.index)
        for name, wanted in columns.items():
            kept &= self.trials[one_of(name, self.trials.columns, "a column of trials")].isin(
                [one_of(value, self.trials[name].unique(), name) for value in _listed(wanted)]
            )
        chosen = copy.copy(self)
        # What was read and kept is of all trials.
        for name in [name for name, kind in _members(type(self)) if isinstance(kind, cached_property)]:
            chosen.__dict__.pop(name, None)
        chosen.folders = [folder for folder, is_kept in zip(self.folders, kept, strict=True) if is_kept]
        chosen.trials = self.trials[kept].reset_index(drop=True)
        return chosen

    def __getitem__(self, key: object) -> SweepResults:
        """Return the results of a learner, or of a learner at a level: ``results["private", "share 0.9"]``.

        The learner may be a series, the level a text or its value; ``:`` takes all.
        """
        names = key if isinstance(key, tuple) else (key,)
        if not 1 <= len(names) <= 2:
            raise ValueError(f"results[...] takes a learner, or a learner and a level, but got {key!r}")
        chosen: dict[str, object] = {}
        for wanted, columns in zip(names, (("learner", "series"), ("level", "level_value")), strict=False):
            if not isinstance(wanted, slice):
                last = [name for name in columns if (self.trials[name] == wanted).any()]
                chosen[last[0] if last else columns[0]] = wanted
        return self.filter(**chosen)

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


def _listed(wanted: object) -> list[object]:
    return list(wanted) if isinstance(wanted, Iterable) and not isinstance(wanted, str) else [wanted]


def _members(kind: type) -> list[tuple[str, object]]:
    return [item for one in kind.__mro__ for item in vars(one).items()]


def load(
    path: str | Path | Sequence[str | Path],
    *more: str | Path,
    cache: bool = True,
    former: bool = False,
    own_metrics: bool = True,
    min_group_size: int | None = None,
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
        own_metrics: whether metrics of the user's own that the sweep file names are defined, by running the text of
            their files as it was stored with the sweep; False for a sweep from somebody whom you do not trust.
        min_group_size: groups with fewer examples (people, where the data names them) are listed but take no part in
            worst groups, gaps, verdicts and selection; None takes what the sweep's file states, else
            `fairsweep.analysis.results.sweep_records.MIN_GROUP_SIZE`.

    Raises:
        FileNotFoundError: if there is no such folder.
    """
    listed = [path] if isinstance(path, str | Path) or not isinstance(path, Iterable) else list(path)
    given: list[object] = list(listed)
    if not all(isinstance(one, str | Path) and str(one) for one in given):
        raise TypeError(f"load needs the output folder of a sweep, such as 'runs/quickstart', but got {path!r}")
    locations = (SweepLocation.of(one) for one in (*listed, *more))
    return SweepResults(*locations, cache=cache, former=former, own_metrics=own_metrics, min_group_size=min_group_size)
