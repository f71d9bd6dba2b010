"""The output folder of a sweep: its lock, its description, and what it refuses."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import socket
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fairsweep.analysis.records.file_names import (
    EXAMPLES,
    IDS_KEY,
    MORE_PLANS,
    PLANS,
    REPORT,
    SWEEP_JSON,
    SWEEP_YAML,
    TRIALS,
    WINNER,
)
from fairsweep.analysis.records.files import (
    FORMAT_VERSION,
    RecordError,
    check_record,
    read_json,
    remove_temporary,
    write_json,
    write_whole,
)
from fairsweep.analysis.records.membership import MEMBERS
from fairsweep.datasets.storage.layout import INFO_FILE
from fairsweep.datasets.storage.location import settled
from fairsweep.sweeps.store.deletion_journal import JOURNAL, check_finished
from fairsweep.sweeps.store.description import FILE, Description, as_yaml, git_commit, versions
from fairsweep.sweeps.store.folder_kind import LOCK, is_visible, no_sweep
from fairsweep.sweeps.store.former_examples import names_trained_people
from fairsweep.sweeps.store.ledger import SET_ASIDE, Ledger
from fairsweep.sweeps.syntax.errors import SweepError, as_ours

_DRIVER = ".driver.json"
STOP_REQUESTS = ".stop-*.json"
_MADE_ANEW = ("gradient_modes.json", PLANS, MORE_PLANS)
OWN_FILES = frozenset(
    {
        SWEEP_YAML,
        SWEEP_JSON,
        EXAMPLES,
        REPORT,
        TRIALS,
        *_MADE_ANEW,
        "search.journal",
        "tracking",
        JOURNAL,
        IDS_KEY,
        WINNER,
    }
)
"""What a driver may leave in an output folder, hidden files aside."""
# Whoever looks whether a folder is held has its lock for a moment.
_LOCK_SECONDS = 2.0
_PROBE = ".probe"
_LONGEST_BYTES = 3_500
_PROBE_BYTES = 1 << 20


@dataclass(frozen=True)
class Holder:
    """A driver that runs a sweep.

    Attributes:
        host: name of its machine.
        process: its process there.
        began: seconds since 1970.
    """

    host: str
    process: int
    began: float


@dataclass(frozen=True)
class OutputFolder:
    """One output folder.

    Attributes:
        path: where it is; absolute.
    """

    path: Path

    @classmethod
    def at(cls, path: str | Path) -> OutputFolder:
        """Return the folder at a path; nothing is made or read yet."""
        with as_ours():
            return cls(settled(Path(path)))

    @property
    def ledger(self) -> Ledger:
        """Its trials."""
        return Ledger(self.path)

    def description(self) -> dict[str, Any] | None:
        """Return what ``sweep.json`` says, or what can be rebuilt of it; None if there is nothing of it."""
        found = Description.read(self.path)
        return None if found is None else found.content

    def sweep(self) -> Description:
        """Return what the folder says of its sweep.

        Raises:
            SweepError: if it holds none; the message says what it is instead.
        """
        found = Description.read(self.path)
        if found is None:
            raise no_sweep(self.path)
        return found

    def check(
        self,
        *,
        name: str,
        content: Sequence[str],
        trials: Sequence[str],
        needed_bytes: int,
        former: Sequence[str] = (),
    ) -> None:
        """Refuse a folder that cannot take this sweep. Nothing is left behind in it.

        Args:
            name: the sweep's name.
            content: hashes of its dataset and, if it is tested on another, of that.
            trials: hashes of its trials.
            needed_bytes: estimate of what it will write.
            former: the hashes by which earlier versions recorded the same.

        Raises:
            SweepError: if the folder holds something else, another sweep, another dataset, or a request for deletion
                that was cut short; if it cannot be written to, or has no room.
        """
        if self.path.exists() and not self.path.is_dir():
            raise SweepError(f"output must be a folder, but {self.path} is a file; choose another one", ("output",))
        if (length := len(os.fsencode(self.path))) > _LONGEST_BYTES:
            raise SweepError(
                f"the path of the output folder must have at most {_LONGEST_BYTES:,} bytes, for its trials' files have "
                f"longer ones, but got one of {length:,} bytes; choose a shorter one",
                ("output",),
            )
        above = next((folder for folder in self.path.resolve().parents if (folder / INFO_FILE).exists()), None)
        if above is not None:
            raise SweepError(
                f"the output folder {self.path} is inside the prepared dataset {above}, and would be deleted with it; "
                "choose one outside it",
                ("output",),
            )
        check_finished(self.path)
        if self.path.is_dir() and any(is_visible(path.name) for path in self.path.iterdir()):
            self._check_content(name, (content, former), trials)
        _check_room(self.path, needed_bytes)

    def _check_content(self, name: str, content: Sequence[Sequence[str]], trials: Sequence[str]) -> None:
        found = Description.read(self.path)
        entries = self.ledger.entries()
        if found is None:
            others = [path.name for path in self.path.iterdir() if is_visible(path.name) and path.name not in OWN_FILES]
            if others or (entries and not set(entries) & set(trials)):
                raise SweepError(
                    f"the output folder {self.path} is not a sweep folder"
                    f"{f' ({others[0]})' if others else ''}; choose another one",
                    ("output",),
                )
            return  # a driver that was killed before it had said what it does, or a description that is lost
        if found.content_hashes and found.content_hashes not in map(tuple, content):
            raise SweepError(
                f"the output folder {self.path} holds results on another dataset; choose another one", ("output",)
            )
        if found.content.get("name") != name and not set(entries) & set(trials):
            raise SweepError(
                f"the output folder {self.path} holds the sweep {found.content.get('name')!r}, which has no trial in "
                f"common with {name!r}; choose another one",
                ("output",),
            )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for one driver: no second one can write into it until this one ends, however it ends.

        Raises:
            SweepError: if another driver holds it, or its disk fills up meanwhile.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=_LOCK_SECONDS)
        except Timeout as error:
            raise SweepError(
                f"the output folder {self.path} is in use by another running sweep; wait for it, stop it, or "
                "choose another output",
                ("output",),
            ) from error
        try:
            write_json(
                self.path / _DRIVER, {"host": socket.gethostname(), "process": os.getpid(), "began": time.time()}
            )
            for request in self.path.glob(STOP_REQUESTS):
                request.unlink(missing_ok=True)  # meant for an earlier driver
            for name in (*OWN_FILES, _DRIVER):
                remove_temporary(self.path, name)
            yield
        except Exception as error:
            if isinstance(error, SweepError) or not _is_full(self.path):
                raise
            # Whatever it broke, in Tune's files or ours, this is the cause.
            raise SweepError(
                "the disk of the output folder is full; free some space and resume with: "
                f"fairsweep resume {shlex.quote(str(self.path))}",
                ("output",),
            ) from error
        finally:
            (self.path / _DRIVER).unlink(missing_ok=True)
            lock.release()

    @property
    def has_lock(self) -> bool:
        """Whether a driver has ever worked here: copies of an output folder lack its lock."""
        return (self.path / LOCK).exists()

    def holder(self) -> Holder | None:
        """Return the driver that holds the folder now.

        None if there is none. Nothing is made where there is nothing.
        """
        if not self.has_lock:
            return None
        held = False
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=0)
            lock.release()
        except Timeout:
            held = True
        except PermissionError:  # somebody else's folder: what its driver wrote has to do
            held = (self.path / _DRIVER).exists()
        if not held:
            return None
        try:
            said = read_json(self.path / _DRIVER)
        except (FileNotFoundError, ValueError):
            said = {}  # it has only just begun
        return Holder(str(said.get("host", "?")), int(said.get("process", 0)), float(said.get("began", time.time())))

    def describe(
        self,
        text: str | None,
        resolved: dict[str, Any],
        dataset: dict[str, Any],
        trials: int,
        members: Sequence[str] | None = None,
    ) -> None:
        """Write ``sweep.yaml`` as given and then ``sweep.json``: the sweep with all defaults, versions, and the commit.

        Whoever is killed between them leaves what the former ``sweep.json`` says, or nothing that counts.

        Args:
            text: the sweep file; None writes the resolved sweep instead.
            resolved: the sweep with every default filled in.
            dataset: name, path, content hash, label and groups; in ``evaluation`` those of another that is tested on.
            trials: number of trials.
            members: their hashes; None where they are not known in advance.
        """
        former = Description.read(self.path)
        previous = {} if former is None else former.content
        yaml_text = text if text is not None else as_yaml(resolved)
        self._keep_edited({yaml_text, *((former.text,) if former else ())})
        write_whole(self.path / SWEEP_YAML, lambda file: file.write(yaml_text.encode()))
        content = {
            "format_version": FORMAT_VERSION,
            "name": resolved["name"],
            "created": previous.get("created", time.strftime("%Y-%m-%dT%H:%M:%S%z")),
            "updated": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "trials": trials,
            MEMBERS: None if members is None else list(members),
            "dataset": dataset,
            "sweep": resolved,
            FILE: yaml_text,
            "versions": versions(),
            "git": git_commit(),
        }
        write_json(self.path / SWEEP_JSON, content)

    def note_search(self, trials: int, refused: Mapping[str, int]) -> None:
        """Keep ``sweep.json`` up to date on a search; on a guided one while it runs.

        Args:
            trials: most trials that the sweep will have, as far as is known now.
            refused: how many settings were refused, by cause.
        """
        before = self.description() or {}
        after = before | {"trials": trials, "refused": dict(refused)}
        if after != before:
            write_json(self.path / SWEEP_JSON, after)

    def _keep_edited(self, known: Collection[str]) -> None:
        """Keep a ``sweep.yaml`` that somebody edited, or that is damaged, before it is replaced."""
        path = self.path / SWEEP_YAML
        if not path.is_file() or path.read_bytes() in {text.encode() for text in known}:
            return
        aside = self.path / SET_ASIDE
        aside.mkdir(exist_ok=True)
        path.replace(aside / f"{SWEEP_YAML}.{time.strftime('%Y%m%d-%H%M%S')}")

    def file_problems(self) -> list[str]:
        """Return the files beside its description that are damaged or say too much; a driver makes each anew."""
        problems = []
        for name in (*_MADE_ANEW, EXAMPLES):
            try:
                check_record(self.path / name)
            except FileNotFoundError:
                continue
            except (RecordError, OSError) as error:
                problems += [str(error).removeprefix(f"{self.path}{os.sep}")]
        if names_trained_people(self.path):
            problems += [f"{EXAMPLES} is of an earlier version and names people who are trained on"]
        return problems

    @property
    def has_examples(self) -> bool:
        """Whether ``examples.parquet`` has been written, is whole, and names nobody whom a release does not name."""
        try:
            check_record(self.path / EXAMPLES)
            return not names_trained_people(self.path)
        except (FileNotFoundError, RecordError):
            return False


def _is_full(path: Path) -> bool:
    """Whether the disk of a folder takes no more."""
    probe = path / f"{_PROBE}-{os.getpid()}"
    try:
        with probe.open("wb") as file:
            file.write(bytes(_PROBE_BYTES // 16))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    return False


def _check_room(path: Path, needed: int) -> None:
    """Write and delete a file where the folder is or will be: permissions and quotas show themselves only so."""
    parent = path
    while not parent.exists():
        parent = parent.parent
    probe = parent / f"{_PROBE}-{os.getpid()}"
    try:
        free = shutil.disk_usage(parent).free
        probe.write_bytes(bytes(_PROBE_BYTES))
        with probe.open("rb") as file:
            os.fsync(file.fileno())
    except OSError as error:
        raise SweepError(
            f"the output folder {path} cannot be written to ({error.strerror}); choose another one", ("output",)
        ) from error
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    if free < needed:
        raise SweepError(
            f"the output folder {path} needs about {needed / 1e6:,.0f} MB, but {free / 1e6:,.0f} MB are free there; "
            "free some space, choose another folder, or set checkpoints: {keep_final_weights: false}",
            ("output",),
        )
