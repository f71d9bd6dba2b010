"""Input of trackers: a trial, or the whole sweep, as recorded on disk.

Records are the only source. What a release leaves out of them (losses, diagnostics, realised batch sizes) therefore
cannot reach a tracker.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from fairsweep.analysis.records.cell_records import CellsFile
from fairsweep.analysis.records.trial_folder import TrialFolder
from fairsweep.analysis.records.trial_state import ENDED, TrialState
from fairsweep.sweeps.planning.running_epsilon import EpsilonCurves
from fairsweep.sweeps.tracking.scalars import Series, series_of

_ID_LENGTH = 16


@dataclass(frozen=True)
class SweepIdentity:
    """A sweep as trackers name it.

    Attributes:
        folder: its output folder.
        name: its name.
        created: when it was begun, as ``sweep.json`` says: it stays when the sweep is resumed.
        config: the resolved sweep.
        metrics: what is computed from cells; None takes the default.
        pictures: whether to draw.
    """

    folder: Path
    name: str
    created: str
    config: Mapping[str, Any]
    metrics: tuple[str, ...] | None
    pictures: bool

    def run_id(self, trial: str) -> str:
        """Return a trial's name for trackers.

        It is the same whenever and wherever the sweep is resumed, unlike another sweep's.
        """
        text = f"{self.name} {self.created} {trial}"
        return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()[:_ID_LENGTH]


@dataclass(frozen=True)
class TrialReport:
    """One trial.

    Attributes:
        sweep: its sweep.
        folder: its folder.
        state: its ``state.json``.
        curves: what private trials have spent.
    """

    sweep: SweepIdentity
    folder: TrialFolder
    state: TrialState
    curves: EpsilonCurves

    @classmethod
    def of(cls, sweep: SweepIdentity, folder: Path, curves: EpsilonCurves) -> TrialReport | None:
        """Return a trial as it stands; None before its first record. Raises: RecordError if a record is damaged."""
        read = TrialFolder(folder)
        return None if read.state is None or read.config is None else cls(sweep, read, read.state, curves)

    @property
    def name(self) -> str:
        """As its folder is called."""
        return self.folder.name

    @property
    def trial(self) -> str:
        """Its hash."""
        return self.state.trial

    @property
    def run_id(self) -> str:
        """Its name for trackers."""
        return self.sweep.run_id(self.trial)

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come, unless the sweep is resumed."""
        return self.state.state in ENDED

    @property
    def learner(self) -> str:
        """Name of the learner."""
        return self.folder.learner

    @property
    def setting(self) -> str:
        """The setting, readable: the folder's name without seeds and hash."""
        seeds = (self.folder.config or {}).get("seeds", {})
        data, train = seeds.get("data"), seeds.get("train")
        return self.folder.label.removesuffix(f"_s{data}x{train}").removesuffix(f"_s{train}")

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The config, and what is known of data and privacy: what a table of runs can be filtered by."""
        folder = self.folder
        facts = {"sweep": self.sweep.name, "run": self.name, **(folder.config or {})}
        for name, content in (("data", folder.data), ("privacy", folder.privacy)):
            if content is not None:
                facts[name] = {k: v for k, v in content.items() if isinstance(v, int | float | str)}
        plain: dict[str, Any] = json.loads(json.dumps(facts, default=str))
        return plain

    @cached_property
    def cells(self) -> CellsFile | None:
        """``cells.parquet``; None before the first evaluation is on disk."""
        return self.folder.cells()

    @cached_property
    def series(self) -> Series:
        """Scalars by iteration, as far as they are on disk."""
        spent = self.curves.of(self.trial, self.state.iterations)
        series = series_of(self.folder, self.cells, self.sweep.metrics, spent)
        # A trial that was stopped is charged for steps that it did not take.
        if series and self.has_ended and self.folder.privacy and math.isfinite(self.folder.epsilon):
            series[max(series)]["privacy/epsilon"] = self.folder.epsilon
        return series

    @property
    def last_iteration(self) -> int:
        """The last iteration on disk; 0 without any."""
        return max(self.series, default=0)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What is said of the trial as a whole: state, cause, seconds, and the last scalars."""
        state = self.state
        names = ("state", "by", "reason", "error", "seconds", "attempt", "iteration")
        said = {name: getattr(state, name) for name in names}
        last = self.series.get(self.last_iteration, {})
        return {name: value for name, value in said.items() if value is not None} | last

    @cached_property
    def last_cells(self) -> pa.Table | None:
        """The cells of the last evaluation, codes as names; None without any."""
        if self.cells is None:
            return None
        from fairsweep.sweeps.tracking.cell_table import named_cells

        return named_cells(self.cells)

    @cached_property
    def pictures(self) -> dict[str, bytes]:
        """PNG by name: confusion matrices by group, of the last evaluation on the test split."""
        if self.cells is None or not self.sweep.pictures:
            return {}
        from fairsweep.sweeps.tracking.pictures import confusion_pictures

        return confusion_pictures(self.cells)


@dataclass(frozen=True)
class SweepReport:
    """A sweep as a whole.

    Attributes:
        sweep: which one.
    """

    sweep: SweepIdentity

    @property
    def run_id(self) -> str:
        """Its name for trackers."""
        return self.sweep.run_id("sweep")

    @cached_property
    def trials(self) -> pa.Table:
        """One row a trial; see `fairsweep.analysis.results.trials`, with accuracy and worst group on the test split."""
        from fairsweep.sweeps.tracking.trends import trial_table

        return trial_table(self.sweep.folder)

    @cached_property
    def pictures(self) -> dict[str, bytes]:
        """PNG by name: trends over the levels of the sweep."""
        if not self.sweep.pictures:
            return {}
        from fairsweep.sweeps.tracking.trends import trend_pictures

        return trend_pictures(self.sweep.folder)
