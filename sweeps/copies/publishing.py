"""The trial's side of a remote output folder: its scratch folder on the node, and what it publishes."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass

from fairsweep.analysis.records.file_names import STATE, TRIALS
from fairsweep.analysis.records.files import RecordError
from fairsweep.analysis.records.trial_state import TrialState
from fairsweep.datasets.storage.location import Location
from fairsweep.sweeps.copies.mirror import trial_files
from fairsweep.sweeps.store.folder_copy import FolderCopy, Owner, StaleCopyError, child
from fairsweep.sweeps.syntax.storage_uri import working_folder
from fairsweep.trainables.trial.state import StaleAttemptError, TrialStateFile

# Hidden: where the driver runs beside, its folder is the same one.
_SCRATCH = ".scratch"
_ATTEMPTS = 5
_WAIT_SECONDS = 2.0
# Publishing takes at most this share of a trial's time.
_LARGEST_SHARE = 0.05


@dataclass(frozen=True)
class TrialPublisher:
    """What a worker needs to know to publish trials; small, and without credentials.

    Attributes:
        uri: the output folder of the sweep.
        seconds: least time between two publications of a running trial.
        ended_only: whether of running trials the state alone is published (release mode: their secret stays).
    """

    uri: str
    seconds: float = 60.0
    ended_only: bool = False

    def open(self, name: str, trial: str, run: int) -> TrialPublication:
        """Make a trial's folder on this node, with what another node has published of the trial.

        Args:
            name: of the trial's folder.
            trial: its hash.
            run: number of the driver that queued it.
        """
        return TrialPublication(self, name, trial, run)


class TrialPublication:
    """One trial that is published from this node.

    Attributes:
        folder: its folder on this node.
    """

    def __init__(self, publisher: TrialPublisher, name: str, trial: str, run: int) -> None:
        self._publisher = publisher
        place = Location.of(publisher.uri)
        self._copy = FolderCopy(child(place, f"{TRIALS}/{name}"))
        self.folder = working_folder(publisher.uri) / _SCRATCH / name
        self._due = 0.0
        self._is_published = False
        self._fetch()
        self._queue(trial, run)

    @property
    def ended(self) -> TrialState | None:
        """The trial's state if it has ended; its last worker may have died before it could publish that."""
        state = TrialStateFile(self.folder).read()
        return state if state is not None and state.ended else None

    def publish(self, *, now: bool = False) -> None:
        """Publish the trial's folder, if that is due.

        Args:
            now: whether it is due in any case; a file system that fails is then asked again a few times.

        Raises:
            StaleAttemptError: if another worker has taken the trial over.
            OSError: if ``now`` and the file system fails.
        """
        began = time.monotonic()
        if not now and began < self._due:
            return
        for attempt in range(_ATTEMPTS if now else 1):
            try:
                self._publish()
                break
            except StaleCopyError as error:
                raise StaleAttemptError(str(error)) from error
            except OSError:
                if now and attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(_WAIT_SECONDS * attempt if now else 0)
        took = time.monotonic() - began
        self._due = time.monotonic() + max(self._publisher.seconds, took / _LARGEST_SHARE)

    def close(self) -> None:
        """Delete the scratch folder of a trial that has ended and is published whole."""
        if self._is_published and self.ended is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _publish(self) -> None:
        state = TrialStateFile(self.folder).read()
        if state is None:
            return
        files = trial_files(self.folder)
        if self._publisher.ended_only and not state.ended:
            files = {STATE: self.folder / STATE}
        self._copy.publish(files, _owner(state))
        self._is_published = state.ended

    def _fetch(self) -> None:
        """Take over what was published, unless this node went further with the same attempt."""
        newest = self._copy.newest()
        state = None
        try:
            state = TrialStateFile(self.folder).read() if self.folder.is_dir() else None
        except RecordError:
            shutil.rmtree(self.folder, ignore_errors=True)  # what was published counts
        if newest is None or (state is not None and newest.owner <= _owner(state)):
            return
        beside = self.folder.with_name(f".{self.folder.name}.fetched")
        shutil.rmtree(beside, ignore_errors=True)
        if self._copy.fetch(beside):
            shutil.rmtree(self.folder, ignore_errors=True)
            beside.rename(self.folder)

    def _queue(self, trial: str, run: int) -> None:
        """Bring the state to this driver's run, as its ledger has done on its own machine."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = TrialStateFile(self.folder)
        if file.read() is None:
            file.queue(trial)
        changes = {"state": "queued", "run": run, "by": None, "reason": None, "error": None, "traceback": None}
        file.mark(changes, when=lambda state: state.run < run and not state.ended)


def _owner(state: TrialState) -> Owner:
    return state.run, state.attempt


def publisher_of(uri: str, mode: str) -> TrialPublisher:
    """Return the publisher for a sweep whose output lies on another file system."""
    return TrialPublisher(uri, ended_only=mode == "release")
