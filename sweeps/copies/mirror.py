"""The mirror of a sweep: a copy on a slow drive or another file system, from which another machine can resume.

A sweep works in its local folder. In the background finished trials, the newest checkpoints of running ones and the
sweep's own files are copied every few minutes and at the end (`fairsweep.sweeps.store.folder_copy`: whole files, no
locks, no renames). A drive that fails never stops the sweep.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from fairsweep.analysis.records.file_names import STATE, SWEEP_JSON, TRIALS
from fairsweep.analysis.records.files import RecordError
from fairsweep.datasets.storage.location import Location
from fairsweep.sweeps.copies.restoring import fetch_sweep
from fairsweep.sweeps.store.folder_copy import INSIDE, FolderCopy, child
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.syntax.storage_uri import absolute
from fairsweep.trainables.trial.state import TrialStateFile

if TYPE_CHECKING:
    from fairsweep.sweeps.spec.sweep_spec import SweepSpec

_SECRET = "secret.key"
_LINKS = ".copying"
_LEAST_WAIT_SECONDS = 120.0


def sweep_files(folder: Path) -> dict[str, Path]:
    """Return the files of an output folder that belong to the sweep as a whole, by name; sweep.json comes last."""
    files = {}
    # The folders of trials and of Tune, with thousands of files, are not entered.
    inside = (
        [path for path in folder.iterdir() if path.name != TRIALS and path.name[0] != "."] if folder.is_dir() else []
    )
    for path in sorted(found for top in inside for found in (top, *top.rglob("*"))):
        name = path.relative_to(folder)
        if any(part.startswith(".") for part in name.parts) or not path.is_file():
            continue
        files[name.as_posix()] = path
    return _last(files, SWEEP_JSON)


def trial_files(folder: Path) -> dict[str, Path]:
    """Return the files of a trial that a resume needs, by name.

    The state comes last. Secrets and locks are left out.
    """
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if name.name in (".lock", _SECRET) or name.suffix == ".tmp" or name.parts[0] == INSIDE or not path.is_file():
            continue
        files[name.as_posix()] = path
    return _last(files, STATE)


class Mirror:
    """Copies one output folder.

    Args:
        folder: the output folder.
        to: the mirror.
        say: takes one line for the user.
        ended_only: whether trials are copied only once they have ended: in release mode a trial's secret never leaves
            its machine, and without it a checkpoint is of no use elsewhere.
    """

    def __init__(self, folder: Path, to: str, say: Callable[[str], None], *, ended_only: bool = False) -> None:
        self._folder = folder
        self._place = Location.of(absolute(to))
        self._say = say
        self._ended_only = ended_only
        self._own = FolderCopy(self._place, apart=(TRIALS,))
        self._copies: dict[str, FolderCopy] = {}
        self._copied: dict[str, frozenset[tuple[str, int, int]]] = {}
        self._has_failed = False

    @contextmanager
    def following(self, seconds: float) -> Iterator[None]:
        """Copy in the background for the time of a context, and once more at its end.

        Args:
            seconds: between two copies.
        """
        ending = threading.Event()

        def follow() -> None:
            while not ending.wait(seconds):
                self.copy()

        thread = threading.Thread(target=follow, name="mirror", daemon=True)
        thread.start()
        is_refused = False
        try:
            yield
        except SweepError:
            is_refused = True  # the folder is another's, or nothing has run
            raise
        finally:
            ending.set()
            if not is_refused:
                self._end(thread, seconds)

    def _end(self, thread: threading.Thread, seconds: float) -> None:
        """Copy once more; a drive that hangs must not keep the sweep from ending."""
        thread.join(max(_LEAST_WAIT_SECONDS, seconds))
        last = threading.Thread(target=self._copy_last, name="mirror", daemon=True)
        if not thread.is_alive():
            last.start()
            last.join(max(_LEAST_WAIT_SECONDS, 2 * seconds))
        if thread.is_alive() or last.is_alive():
            self._say(f"the mirror {self._place} does not respond, so it lacks the newest files; {self._remedy()}")

    def copy(self) -> bool:
        """Copy what has changed; returns whether that went well. A failure is said once."""
        try:
            self._own.publish(sweep_files(self._folder))
            for folder in sorted((self._folder / TRIALS).iterdir()) if (self._folder / TRIALS).is_dir() else ():
                self._copy_trial(folder)
        except (OSError, ValueError) as error:
            if not self._has_failed:
                reason = " ".join(str(error).split())
                self._say(f"the mirror {self._place} cannot be written to ({reason}); the sweep continues without it")
            self._has_failed = True
            return False
        return True

    def copy_own(self) -> None:
        """Copy the sweep's own files alone, as the report that is written once the sweep has ended."""
        try:
            self._own.publish(sweep_files(self._folder))
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            self._say(f"the report could not be copied to the mirror {self._place} ({reason}); {self._remedy()}")

    def _copy_last(self) -> None:
        if not self.copy():
            self._say(f"the mirror {self._place} lacks the newest files; {self._remedy()}")

    def _remedy(self) -> str:
        return f"`fairsweep resume {shlex.quote(str(self._folder))}` copies the rest"

    def _copy_trial(self, folder: Path) -> None:
        file = TrialStateFile(folder)
        try:
            state = file.read()
        except RecordError:
            return  # the ledger complains
        if state is None or (self._ended_only and not state.ended):
            return
        if self._copied.get(folder.name) == _signature(trial_files(folder)):
            return
        links = self._folder / _LINKS / folder.name
        try:
            # Files are replaced by renaming, so a link keeps what it was made of while the trial goes on.
            with file.held():
                files = trial_files(folder)
                signature = _signature(files)
                held = {name: _link(path, links / name) for name, path in files.items()}
            copy = self._copies.setdefault(folder.name, FolderCopy(child(self._place, f"{TRIALS}/{folder.name}")))
            copy.publish(held)
            self._copied[folder.name] = signature
        finally:
            shutil.rmtree(links, ignore_errors=True)


@contextmanager
def mirrored(sweep: SweepSpec, console: Console) -> Iterator[None]:
    """Fetch what the mirror of a sweep holds and its folder lacks, then copy for the time of a context.

    Nothing happens where the sweep file names no mirror.
    """
    if sweep.mirror is None:
        yield
        return

    if sweep.remote is not None:
        raise SweepError(
            f"a mirror copies a local output folder, but got output={sweep.remote!r}, which does not depend on this "
            "machine "
            ": omit mirror",
            ("mirror",),
        )

    def say(line: str) -> None:
        console.print(f"{sweep.name}: {line}", highlight=False, markup=False, soft_wrap=True)

    section, folder = sweep.mirror, OutputFolder.at(sweep.folder).path
    fetched = fetch_sweep(section.to, folder)
    if fetched:
        say(f"{fetched} trials came from the mirror {section.to}")
    mirror = Mirror(folder, section.to, say, ended_only=sweep.privacy.mode == "release")
    with mirror.following(60 * section.minutes):
        yield


def _last(files: dict[str, Path], name: str) -> dict[str, Path]:
    if name in files:
        files[name] = files.pop(name)
    return files


def _link(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)
    return target


def _signature(files: dict[str, Path]) -> frozenset[tuple[str, int, int]]:
    found = set()
    for name, path in files.items():
        with contextlib.suppress(FileNotFoundError):  # replaced in this moment
            stat = path.stat()
            found.add((name, stat.st_size, stat.st_mtime_ns))
    return frozenset(found)
