"""The ledger of a sweep: which trials its output folder holds, and the state of each.

The truth is one ``state.json`` in each trial's folder, found by the trial's hash; Tune's own bookkeeping plays no part.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairsweep.analysis.records.failed_trials import FailedTrial
from fairsweep.analysis.records.file_names import CONFIG, STATE, SWEEP_JSON, TRIALS
from fairsweep.analysis.records.files import RecordError, read_json, write_json
from fairsweep.analysis.records.membership import members_of
from fairsweep.analysis.records.record_check import check_trial
from fairsweep.analysis.records.trial_folder import SHORT_HASH, TrialFolder
from fairsweep.analysis.records.trial_state import Stage, TrialState
from fairsweep.trainables.trial.state import TrialStateFile
from fairsweep.trainables.trial.trial_files import CHECKPOINTS, clean_up, folder_bytes
from fairsweep.trainables.trial.trial_secret import erase_secret

if TYPE_CHECKING:
    from fairsweep.sweeps.planning.expand import PlannedTrial

SET_ASIDE = ".set-aside"
"""In an output folder: the former folders of trials that were damaged and begin anew."""
_THREADS = 8
_HASH = re.compile(rf"-([0-9a-f]{{{SHORT_HASH}}})$")


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

    def now(self) -> TrialState | None:
        """Its state on disk now; failed, with the cause, where the file has been damaged since."""
        try:
            return self.file.read()
        except RecordError as error:
            cause = f"damaged {STATE}: {_reason(error, self.folder)}"
            return replace(self.state, state="failed", error=cause)

    def mark(self, changes: dict[str, Any], *, when: Callable[[TrialState], bool] = lambda _: True) -> None:
        """Change its state, if it is still such that ``when`` holds; one that was damaged is listed as such."""
        with suppress(RecordError):
            self.file.mark(changes, when=when)


class Ledger:
    """The trials of one output folder.

    Args:
        output: the output folder of the sweep.
    """

    def __init__(self, output: Path) -> None:
        self._output = output
        self._trials = output / TRIALS
        self._aside = output / SET_ASIDE

    def _description(self) -> dict[str, Any]:
        try:
            return read_json(self._output / SWEEP_JSON)
        except (FileNotFoundError, ValueError):
            return {}

    def entries(self) -> dict[str, Entry]:
        """Every trial on disk whose state can be read, by its hash."""
        return self._read()[0]

    def damaged(self, *, thorough: bool | None = None) -> tuple[FailedTrial, ...]:
        """Return the trials of the sweep as it stands whose state is damaged, by folder; a driver sets them aside.

        Args:
            thorough: see `fairsweep.analysis.records.record_check.check_trial`; trials that have ended and whose
                records are damaged are listed too. None checks states only.
        """
        entries, damaged = self._read()
        members = members_of(self._description())
        if members is not None:
            entries = {hash_: entry for hash_, entry in entries.items() if hash_ in members}
            damaged = [lost for lost in damaged if not lost.trial or any(map(lost.is_of, members))]
        if thorough is not None:
            damaged += [found for entry in entries.values() if (found := _damaged(entry, thorough)) is not None]
        return tuple(sorted(damaged, key=lambda trial: trial.name))

    def members(self) -> dict[str, Entry]:
        """Every trial on disk that belongs to the sweep as it stands, by its hash; raises as `entries`."""
        members = members_of(self._description())
        return {hash_: entry for hash_, entry in self.entries().items() if members is None or hash_ in members}

    def former(self) -> dict[str, Entry]:
        """Every trial on disk that belongs to an earlier version of the sweep, by its hash; raises as `entries`."""
        members = members_of(self._description())
        return {hash_: entry for hash_, entry in self.entries().items() if members is not None and hash_ not in members}

    def missing(self, trials: Iterable[PlannedTrial], only: Collection[str] | None = None) -> list[PlannedTrial]:
        """Those trials that will run, in their order: those that have not ended (`TrialState.ended`).

        Args:
            trials: the trials of the sweep.
            only: hashes, or the starts of hashes; the others wait. A damaged trial runs again only if it is among them.
                None for all.
        """
        entries, damaged = self._read()
        found = []
        for trial in trials:
            is_named = only is not None and any(map(trial.trial.startswith, only))
            if only is not None and not is_named:
                continue
            entry = entries.get(trial.trial)
            if entry is None:
                is_due = is_named or not any(lost.is_of(trial.trial) for lost in damaged)
            else:
                is_due = not entry.state.ended or (is_named and _damaged(entry, thorough=True) is not None)
            if is_due:
                found.append(trial)
        return found

    def waiting_bytes(self, at_once: int) -> int:
        """Return what checkpoints of trials take that wait while so many others run: all but the largest so many."""
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
        damaged: list[FailedTrial] = []
        if known is None:
            known, damaged = self._read()
        folders, formers = {}, {}
        for trial in trials:
            entry = known.get(trial.trial)
            folder = entry.folder if entry else self._trials / trial.folder_name
            former = entry.state if entry and entry.state.ended else None
            lost = [self._trials / other.name for other in damaged if other.is_of(trial.trial)]
            for place in dict.fromkeys([folder, *lost]):
                salvaged = TrialStateFile(place).salvaged(trial.trial)
                if former is not None or salvaged is not None:
                    former = former or salvaged
                    self._set_aside(place)
            folders[trial.trial], formers[trial.trial] = folder, former
        # The disk flushes many small files at little more than the cost of one.
        with ThreadPoolExecutor(_THREADS) as pool:
            states = pool.map(lambda trial: TrialStateFile(folders[trial]).queue(trial, formers[trial]), list(folders))
            return {trial: Entry(folders[trial], state) for trial, state in zip(folders, states, strict=True)}

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
            before = None
            with suppress(RecordError):
                before = TrialFolder(entry.folder).config
            if before is None:  # the hash is the same, so this is what stood there
                before = trial.config.record()
                write_json(entry.folder / CONFIG, before)
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
            entry.mark(changes, when=lambda state: state.state in ("queued", "running"))

    def _read(self) -> tuple[dict[str, Entry], list[FailedTrial]]:
        entries: dict[str, Entry] = {}
        damaged = []
        for folder in sorted(self._trials.iterdir()) if self._trials.is_dir() else ():
            try:
                state = TrialStateFile(folder).read() if folder.is_dir() else None
            except (RecordError, OSError) as error:
                damaged.append(FailedTrial(folder.name, _hash_of(folder), f"damaged {STATE}: {_reason(error, folder)}"))
                continue
            # A synced drive calls its copies "NAME (1)": the name itself comes first.
            if state is not None:
                entries.setdefault(state.trial, Entry(folder, state))
        return entries, damaged

    def _set_aside(self, folder: Path) -> None:
        """Move the folder of a trial that begins anew out of the way, all but its secret, which nobody needs again."""
        erase_secret(folder)
        self._aside.mkdir(exist_ok=True)
        taken = {path.name for path in self._aside.iterdir()}
        names = (f"{folder.name}.{number}" for number in count(1))
        folder.rename(self._aside / next(name for name in names if name not in taken))


def _damaged(entry: Entry, thorough: bool) -> FailedTrial | None:
    """Return a trial that has ended as a damaged one, if its records are."""
    if not entry.state.ended:
        return None  # whoever goes on with it finds out
    problems = check_trial(entry.folder, has_ended=True, thorough=thorough)
    if not problems:
        return None
    cause = "; ".join(f"damaged {file}: {reason}" for file, reason in problems.items())
    return FailedTrial(entry.folder.name, entry.state.trial, cause)


def _hash_of(folder: Path) -> str:
    """Return the hash of a trial without a state, or the start of it, as its folder's name ends."""
    with suppress(OSError, RecordError, KeyError):
        return str((TrialFolder(folder).config or {})["trial"])
    match = _HASH.search(folder.name)
    return match[1] if match else ""


def _reason(error: Exception, folder: Path) -> str:
    return str(error).removeprefix(str(folder / STATE)).removeprefix(" is damaged: ").strip()
