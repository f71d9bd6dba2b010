"""The ledger of a sweep: which trials its output folder holds, and what state each is in.

The truth is one ``state.json`` in each trial's folder, found by the trial's hash; Tune's own bookkeeping plays no part.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairsweep.analysis.membership import members_of
from fairsweep.analysis.records import CONFIG, SWEEP_JSON, TRIALS, read_json, write_json
from fairsweep.sweeps.errors import SweepError
from fairsweep.sweeps.expand import PlannedTrial
from fairsweep.trainables.checkpoint import folder_bytes
from fairsweep.trainables.state import Stage, TrialState, TrialStateFile
from fairsweep.trainables.trial import CHECKPOINTS, clean_up


@dataclass(frozen=True)
class Entry:
    """One trial on disk.

    Attributes:
        folder: its folder.
        state: its state.
    """

    folder: Path
    state: TrialState

    @property
    def file(self) -> TrialStateFile:
        """Its state file."""
        return TrialStateFile(self.folder)


class Ledger:
    """The trials of one output folder.

    Args:
        output: the output folder of the sweep.
    """

    def __init__(self, output: Path) -> None:
        self._output = output
        self._trials = output / TRIALS

    def _description(self) -> dict[str, Any]:
        try:
            return read_json(self._output / SWEEP_JSON)
        except (FileNotFoundError, ValueError):
            return {}

    def entries(self) -> dict[str, Entry]:
        """Every trial on disk, by its hash.

        Raises:
            SweepError: if a state file is damaged.
        """
        entries: dict[str, Entry] = {}
        for folder in sorted(self._trials.iterdir()) if self._trials.is_dir() else ():
            try:
                state = TrialStateFile(folder).read() if folder.is_dir() else None
            except ValueError as error:
                raise SweepError(str(error)) from error
            if state is not None:
                entries[state.trial] = Entry(folder, state)
        return entries

    def members(self) -> dict[str, Entry]:
        """Every trial on disk that belongs to the sweep as it stands, by its hash; raises as `entries`."""
        members = members_of(self._description())
        return {hash_: entry for hash_, entry in self.entries().items() if members is None or hash_ in members}

    def former(self) -> dict[str, Entry]:
        """Every trial on disk that belongs to an earlier version of the sweep, by its hash; raises as `entries`."""
        members = members_of(self._description())
        return {hash_: entry for hash_, entry in self.entries().items() if members is not None and hash_ not in members}

    def missing(self, trials: Iterable[PlannedTrial]) -> list[PlannedTrial]:
        """Those trials that have not ended (`TrialState.ended`), in their order."""
        entries = self.entries()
        return [t for t in trials if t.trial not in entries or not entries[t.trial].state.ended]

    def waiting_bytes(self, at_once: int) -> int:
        """What checkpoints of trials take that wait while so many others run: all but the largest so many."""
        sizes = sorted(folder_bytes(entry.folder / CHECKPOINTS) for entry in self.entries().values())
        return sum(sizes[: max(0, len(sizes) - at_once)])

    def queue(self, trials: Iterable[PlannedTrial], known: Mapping[str, Entry] | None = None) -> dict[str, Entry]:
        """Take trials over for this driver: from here on no worker of an earlier one can write.

        Args:
            trials: those that will run.
            known: what `entries` returned when this driver began; None looks again.

        Returns:
            The entries by hash; each state has the number of this driver's run.
        """
        known = self.entries() if known is None else known
        queued = {}
        for trial in trials:
            entry = known.get(trial.trial)
            folder = entry.folder if entry else self._trials / trial.folder_name
            queued[trial.trial] = Entry(folder, TrialStateFile(folder).queue(trial.trial))
        return queued

    def tidy(self, trials: Iterable[PlannedTrial]) -> None:
        """Bring trials that have ended up to the sweep file, and delete what a kill left behind in them.

        Names and numbers of replicates are no part of a trial's identity: they follow the sweep file.
        """
        entries = self.entries()
        for trial in trials:
            entry = entries.get(trial.trial)
            if entry is None or not entry.state.ended:
                continue
            clean_up(entry.folder)
            before = read_json(entry.folder / CONFIG)
            learner = before["learner"] | {"name": trial.config.learner.name, "twin_of": trial.config.twin_of}
            after = before | {"learner": learner, "replicate": trial.config.replicate}
            if after != before:
                write_json(entry.folder / CONFIG, after)

    def close(self, queued: Mapping[str, Entry], *, unfinished: Stage, cause: str) -> None:
        """Say of every queued trial that neither finished nor failed what became of it.

        Args:
            queued: what `queue` returned.
            unfinished: the state it gets: ``stopped`` (by the user) or ``failed``.
            cause: one line on why.
        """
        for entry in queued.values():
            changes = {"state": unfinished, "error": cause if unfinished == "failed" else None}
            changes |= {"by": "user", "reason": cause} if unfinished == "stopped" else {}
            entry.file.mark(changes, when=lambda state: state.state in ("queued", "running"))
