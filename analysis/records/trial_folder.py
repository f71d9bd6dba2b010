"""The folder of a trial: the one reader of each file in it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from pyarrow.fs import LocalFileSystem

from fairsweep.analysis.records.cell_records import CellsFile, read_cells
from fairsweep.analysis.records.file_names import (
    AUDIT,
    CELLS,
    CONFIG,
    COST,
    DATA,
    MEMBERSHIP,
    PLACEMENT,
    PREDICTIONS,
    PRIVACY,
    STATE,
    TRAINING,
)
from fairsweep.analysis.records.files import SweepLocation, read_json
from fairsweep.analysis.records.learner_records import read_audit, read_placement
from fairsweep.analysis.records.prediction_records import read_membership, read_predictions
from fairsweep.analysis.records.training_records import read_training
from fairsweep.analysis.records.trial_state import TrialState, read_state

T = TypeVar("T")

SHORT_HASH = 8
"""So many characters of a trial's hash end the name of its folder."""
SMALL = (STATE, CONFIG, DATA, PRIVACY)


class TrialFolder:
    """The folder of one trial, with a reader for each of its files.

    JSON records are read once, when they are first asked for. A file that does not exist (yet) is None. Every
    reader raises `RecordError` if its file is damaged, and OSError if it cannot be reached.

    Args:
        folder: the folder, on this machine or elsewhere.

    Attributes:
        location: of the folder.
        name: of the trial: that of its folder, after that of its sweep where two sweeps have a trial of one name.
        sweep: name of the sweep, where several are read together.
        signature: of its files as they were before they were read, see `record_cache`; empty where there is no cache.
        is_cached: whether the records came from the cache.
    """

    def __init__(self, folder: SweepLocation | Path) -> None:
        self.location = SweepLocation(LocalFileSystem(), str(folder)) if isinstance(folder, Path) else folder
        self.name = self.folder_name
        self.sweep = ""
        self.signature = ""
        self.is_cached = False
        self._known: dict[str, Any] = {}

    @property
    def folder_name(self) -> str:
        """Return the name of the folder."""
        return self.location.path.rsplit("/", 1)[-1]

    def renamed(self, name: str) -> TrialFolder:
        """Return the same trial by another name."""
        other = copy.copy(self)
        other.name = name
        return other

    # --- its files ---

    def record(self, file: str) -> Any:  # noqa: ANN401 - a mapping, a TrialState or None
        """Return the content of a JSON record."""
        if file not in self._known:
            self._known[file] = self._read(file, read_state if file == STATE else read_json)
        return self._known[file]

    def take(self, records: Mapping[str, Any]) -> None:
        """Take the content of JSON records, by name of the file, from elsewhere; None for a file that is not there."""
        self._known |= records
        if records.get(STATE) is not None:
            self._known[STATE] = TrialState.of(records[STATE])

    @property
    def state(self) -> TrialState | None:
        """Return ``state.json``."""
        state: TrialState | None = self.record(STATE)
        return state

    @property
    def config(self) -> dict[str, Any] | None:
        """Return ``config.json``."""
        config: dict[str, Any] | None = self.record(CONFIG)
        return config

    @property
    def data(self) -> dict[str, Any] | None:
        """Return ``data.json``."""
        data: dict[str, Any] | None = self.record(DATA)
        return data

    @property
    def privacy(self) -> dict[str, Any] | None:
        """Return ``privacy.json``; None also for learners without privacy."""
        privacy: dict[str, Any] | None = self.record(PRIVACY)
        return privacy

    @property
    def cost(self) -> dict[str, Any] | None:
        """Return ``cost.json``; None also for learners that cannot forget."""
        cost: dict[str, Any] | None = self.record(COST)
        return cost

    def cells(self, as_codes: Sequence[str] = ()) -> CellsFile | None:
        """Return ``cells.parquet``; see `read_cells`."""
        return self._read(CELLS, read_cells, as_codes)

    def training(self) -> pa.Table | None:
        """Return ``training.parquet``."""
        return self._read(TRAINING, read_training)

    def predictions(self, columns: Sequence[str] | None = None) -> pa.Table | None:
        """Return ``predictions.parquet``, or some of its columns."""
        return self._read(PREDICTIONS, read_predictions, columns)

    def placement(self) -> pa.Table | None:
        """Return ``placement.parquet``; None also for learners that cannot forget."""
        return self._read(PLACEMENT, read_placement)

    def audit(self) -> pa.Table | None:
        """Return ``audit.parquet``; None also for trials without an audit."""
        return self._read(AUDIT, read_audit)

    def membership(self) -> pa.Table | None:
        """Return ``membership.parquet``; None for trials that are no shadows."""
        return self._read(MEMBERSHIP, read_membership)

    def _read(self, file: str, read: Callable[..., T], *more: object) -> T | None:
        try:
            return read(f"{self.location.path}/{file}", self.location.filesystem, *more)
        except (FileNotFoundError, NotADirectoryError):
            return None

    # --- what they say ---

    @property
    def hash(self) -> str | None:
        """Return the trial's hash; None where no record says it."""
        found = self.state.trial if self.state is not None else (self.config or {}).get("trial")
        return None if found is None else str(found)

    @property
    def learner(self) -> str:
        """Return the name of the learner; empty before the trial has started."""
        return str((self.config or {}).get("learner", {}).get("name", ""))

    @property
    def kind(self) -> str:
        """Return the kind of the learner; empty before the trial has started."""
        return str((self.config or {}).get("learner", {}).get("kind", ""))

    @property
    def own_source(self) -> str | None:
        """Return the text of the file that the learner is in, if it is one of the user's own."""
        source: str | None = (self.config or {}).get("learner", {}).get("source")
        return source

    @property
    def label(self) -> str:
        """Return the folder's name without the hash at its end."""
        return self.folder_name.removesuffix(f"-{(self.hash or '')[:SHORT_HASH]}")

    @property
    def epsilon(self) -> float:
        """Return epsilon by PLD as spent: infinite without a guarantee, NaN if the accountant gives no number."""
        if self.privacy is None:
            return float("inf")
        value = self.spent.get("pld")
        return float("nan") if value is None else float(value)

    @property
    def spent(self) -> Mapping[str, Any]:
        """Return epsilon by both accountants, of this very training; empty where nothing is stated.

        Earlier versions stated that of a simulated deployment first, and this one beside it.
        """
        stated = self.privacy or {}
        return stated.get("epsilon_of_this_training") or stated.get("epsilon") or {}

    @property
    def simulated(self) -> Mapping[str, Any]:
        """Return what a deployment that the training simulates would spend; empty without one."""
        stated = self.privacy or {}
        former = stated.get("epsilon") if stated.get("epsilon_of_this_training") else None
        return stated.get("epsilon_of_simulated_deployment") or former or {}

    @property
    def stage(self) -> str:
        """Return ``queued``, ``running``, ``done``, ``failed``, ``stopped``, or ``unknown`` without a state.

        A trial that a stopper of the sweep file ended is done: that was its training. One that a scheduler ended, since
        others did better, stays stopped.
        """
        if self.state is None:
            return "unknown"
        return "done" if self.stopped_by == "stopper" else self.state.state

    @property
    def stopped_by(self) -> str:
        """Return ``scheduler``, ``stopper`` or ``user``; empty unless the trial was stopped."""
        return (self.state and self.state.by) or ""

    @property
    def is_whole(self) -> bool:
        """Return whether the trial has ended with all of its records."""
        return self.state is not None and self.state.ended
