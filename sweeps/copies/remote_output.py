"""An output folder on another file system (``output: s3://bucket/runs/x``).

Nobody writes records there in place. The driver works in a folder of its own machine, which holds the sweep's own files
and what the ledger needs of each trial; each trial works in a scratch folder on its node. Both publish whole files with
the manifests of `fairsweep.sweeps.store.folder_copy`. What another machine needs to go on is on the other file system
alone.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from rich.console import Console

from fairsweep.analysis.records.file_names import CONFIG, STATE, TRIALS
from fairsweep.analysis.records.files import RecordError, read_json
from fairsweep.analysis.records.trial_state import TrialState
from fairsweep.datasets.storage.layout import DatasetError
from fairsweep.datasets.storage.location import Location
from fairsweep.sweeps.copies.mirror import sweep_files
from fairsweep.sweeps.copies.restoring import by_folder
from fairsweep.sweeps.store.folder_copy import FolderCopy, Listing, child, list_files, write_file
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.syntax.storage_uri import working_folder
from fairsweep.trainables.trial.state import TrialStateFile

if TYPE_CHECKING:
    from fairsweep.sweeps.spec.sweep_spec import SweepSpec

_LIGHT = frozenset({STATE, CONFIG})
_DRIVER = ".driver.json"
_EVERY_SECONDS = 20.0
_GONE_SECONDS = 120.0
_THREADS = 16


class RemoteOutput:
    """The driver's side.

    Args:
        uri: the output folder.

    Raises:
        SweepError: if no file system knows the URI.
    """

    def __init__(self, uri: str) -> None:
        self.folder = working_folder(uri)
        try:
            self.place = Location.of(uri)
        except DatasetError as error:
            raise SweepError(f"output: {error}", ("output",)) from error
        self._own = FolderCopy(self.place, apart=(TRIALS,))
        self._pulled: dict[str, Listing] = {}

    def pull(self) -> None:
        """Bring the sweep's own files and the states of its trials into the working folder.

        Raises:
            OSError: if the file system fails.
        """
        self._own.fetch(self.folder)
        self.pull_states()

    def pull_states(self) -> None:
        """Bring the states of trials that have been published since, and are newer than those in the working folder.

        Raises:
            OSError: if the file system fails.
        """
        listings = by_folder(list_files(child(self.place, TRIALS)))
        # Each publication has a manifest of its own name: without a new one there is nothing new.
        news = {name: listing for name, listing in listings.items() if self._pulled.get(name) != listing}
        with ThreadPoolExecutor(_THREADS) as pool:
            are_whole = list(pool.map(lambda item: self._pull_state(*item), news.items()))
        self._pulled.update(item for item, is_whole in zip(news.items(), are_whole, strict=True) if is_whole)
        known = self.folder / TRIALS
        for folder in known.iterdir() if known.is_dir() else ():
            if folder.name not in listings and (state := _state(folder)) and state.ended:
                shutil.rmtree(folder)  # deleted there, so that it runs again

    def pull_state(self, name: str) -> None:
        """Do the same for one trial by the name of its folder."""
        self._pull_state(name, list_files(child(self.place, f"{TRIALS}/{name}")))

    def push(self) -> None:
        """Publish the sweep's own files, and what the driver has changed in the states of trials.

        Raises:
            OSError: if the file system fails.
        """
        self.push_own()
        known = self.folder / TRIALS
        listings = by_folder(list_files(child(self.place, TRIALS)))
        folders = sorted(known.iterdir()) if known.is_dir() else []
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(lambda folder: self._push_state(folder, listings.get(folder.name, {})), folders))

    def push_own(self) -> None:
        """Publish the sweep's own files."""
        self._own.publish(sweep_files(self.folder))

    def claim(self) -> None:
        """Say that this driver works there.

        Raises:
            SweepError: if another driver said so within the last two minutes and may still live.
            OSError: if the file system fails.
        """
        mine = _claim()
        other = self._claimed()
        if _may_live(other, mine):
            raise SweepError(
                f"the output {self.place} is in use by process {other.get('process')} on {other.get('host')}; "
                "stop it, or wait two minutes after it has ended",
                ("output",),
            )
        write_file(self.place, _DRIVER, json.dumps(mine).encode())

    def is_claimed(self) -> bool:
        """Whether another process said within the last two minutes that it works there, and may still live.

        Raises:
            OSError: if the file system fails.
        """
        return _may_live(self._claimed(), _claim())

    def release(self) -> None:
        """Say that it is free."""
        self.place.filesystem.delete_file(self.place.path(_DRIVER))

    @contextmanager
    def following(self) -> Iterator[None]:
        """Keep both sides up to date in the background for the time of a context."""
        ending = threading.Event()

        def follow() -> None:
            while not ending.wait(_EVERY_SECONDS):
                with suppress(OSError, ValueError, SweepError):  # the next time, or the end, makes up for it
                    self.claim()
                    self.push_own()
                    self.pull_states()

        thread = threading.Thread(target=follow, name="remote output", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join()

    def _claimed(self) -> dict[str, Any]:
        """Who said last that it works there; empty if nobody did."""
        if not self.place.describe(_DRIVER).is_file:
            return {}
        try:
            return read_json(self.place.path(_DRIVER), self.place.filesystem)
        except RecordError:  # cut short
            return {}

    def _pull_state(self, name: str, listing: Listing) -> bool:
        """Bring the state of a trial if it is newer; returns whether there is a whole copy."""
        copy, folder = FolderCopy(child(self.place, f"{TRIALS}/{name}")), self.folder / TRIALS / name
        manifest = copy.newest(listing)
        if manifest is None:
            return False  # cut short: it begins again
        folder.mkdir(parents=True, exist_ok=True)
        file = TrialStateFile(folder)
        with file.held():
            state = _state(folder)
            if state is None or manifest.owner >= (state.run, state.attempt):
                return copy.fetch(folder, _LIGHT, listing)
        return True

    def _push_state(self, folder: Path, listing: Listing) -> None:
        state = _state(folder)
        copy = FolderCopy(child(self.place, f"{TRIALS}/{folder.name}"))
        manifest = copy.newest(listing)
        owner = (state.run, state.attempt) if state else (0, 0)
        if state is None or (manifest is not None and manifest.owner > owner):
            return
        files = {name: folder / name for name in (CONFIG, STATE) if (folder / name).is_file()}
        copy.publish(files, owner, add=True)


def fetch_remote(uri: str) -> Path:
    """Bring here what an output folder on another file system holds of its sweep; returns this machine's folder.

    Raises:
        SweepError: if the file system fails.
    """
    output = RemoteOutput(uri)
    with _reachable(output):
        output.pull()
    return output.folder


@contextmanager
def published(sweep: SweepSpec, console: Console) -> Iterator[None]:
    """Bring the output of a sweep here, publish what changes for the time of a context, and all of it at the end.

    Nothing happens where the output is a local folder.

    Raises:
        SweepError: if the file system fails or another driver works there.
    """
    if sweep.remote is None:
        yield
        return
    if sweep.search.is_guided:
        raise SweepError(
            "a guided search reads the records of its trials in a local output folder, but got output="
            f"{sweep.remote!r}: give a folder that all nodes share, and mirror: {{to: {sweep.remote}}}",
            ("output",),
        )
    output = RemoteOutput(sweep.remote)
    with _reachable(output):
        output.claim()
        output.pull()
    try:
        with output.following():
            yield
    except SweepError:
        with suppress(OSError):
            output.release()
        raise
    except BaseException:
        with _reachable(output):
            _end(output)
        raise
    with _reachable(output):
        _end(output)


def push_own(uri: str) -> None:
    """Publish the sweep's own files: its report, above all.

    Raises:
        SweepError: if the output cannot be reached.
    """
    output = RemoteOutput(uri)
    with _reachable(output):
        output.push_own()


def _end(output: RemoteOutput) -> None:
    output.pull_states()
    trials = output.folder / TRIALS
    for folder in trials.iterdir() if trials.is_dir() else ():
        changes = {"state": "stopped", "by": "user", "reason": "its driver has ended"}
        if _state(folder) is not None:
            TrialStateFile(folder).mark(changes, when=lambda state: state.state == "running")
    output.push()
    output.release()


def _state(folder: Path) -> TrialState | None:
    """Return the state of a trial; None where there is none, and where it is damaged: the published one counts then."""
    try:
        return TrialStateFile(folder).read()
    except RecordError:
        return None


@contextmanager
def _reachable(output: RemoteOutput) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = " ".join(str(error).split())
        raise SweepError(
            f"the output {output.place} cannot be read or written to ({reason}); check the address, the network and "
            "the credentials in the environment; what is done is kept, and `fairsweep resume` goes on",
            ("output",),
        ) from error


def _claim() -> dict[str, Any]:
    """Return what this process says where it works."""
    return {"host": socket.gethostname(), "process": os.getpid(), "at": time.time()}


def _may_live(other: Mapping[str, Any], mine: Mapping[str, Any]) -> bool:
    if not other:
        return False
    if (other.get("host"), other.get("process")) == (mine["host"], mine["process"]):
        return False
    if other.get("host") == mine["host"] and not psutil.pid_exists(int(other.get("process", 0))):
        return False
    return bool(mine["at"] - float(other.get("at", 0)) < _GONE_SECONDS)
