"""The journal of a deletion request on a sweep: what is left to do for which trials, until all is done.

It lies in the sweep's folder from before the first change until after the last one. Whoever finds it knows that the
request was cut short, and that the same command goes on with it.
"""

from __future__ import annotations

import os
import shlex
import uuid
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from fairsweep.analysis.records.file_names import TRIALS
from fairsweep.analysis.records.files import read_json, write_json
from fairsweep.sweeps.syntax.errors import SweepError

JOURNAL = "deletion.json"


class DeletionJournal(BaseModel):
    """A request for deletion that is being served.

    Attributes:
        run: the folder that the command named, seen from the folder of the journal.
        ids: the examples, ascending.
        erase: whether they are purged after they have been forgotten.
        trials: names of the folders of the trials that forget.
        dataset: path of the prepared dataset that they read before; empty without erasure.
        content_hash: its content hash.
        present: of the ids, those that the dataset holds.
        target: where its next version goes.
        left: how many examples it has.
        token: marks the temporary folder of that version.
        names: the files that were asked for, where the request names files instead of ids.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    ids: tuple[int, ...]
    erase: bool
    trials: tuple[str, ...]
    dataset: str = ""
    content_hash: str = ""
    present: tuple[int, ...] = ()
    target: str = ""
    left: int = 0
    token: str = ""
    names: tuple[str, ...] = ()

    @classmethod
    def find(cls, home: Path) -> DeletionJournal | None:
        """Return the journal in a folder; None if no request is unfinished there.

        Raises:
            SweepError: if it is damaged.
        """
        try:
            return cls.model_validate(read_json(home / JOURNAL))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as error:
            raise SweepError(
                f"{home / JOURNAL}, which says what a request for deletion has left to do, is damaged; "
                "delete it and repeat the request"
            ) from error

    def write(self, home: Path) -> DeletionJournal:
        """Write it; returns itself."""
        write_json(home / JOURNAL, self.model_dump())
        (home / JOURNAL).chmod(0o600)
        return self

    def with_target(self, target: Path) -> DeletionJournal:
        """Return the same request with another place for the next version of the dataset."""
        return self.model_copy(update={"target": str(target)})

    def explain(self, home: Path) -> str:
        """One line: what is unfinished, and how to finish it."""
        run = home / self.run
        what = "an erasure" if self.erase else "a request for deletion"
        return (
            f"{what} of {len(self.ids)} example{'s' if len(self.ids) != 1 else ''} from {run} is unfinished; "
            f"finish it with: fairsweep forget {shlex.quote(str(run))}"
        )

    @staticmethod
    def remove(home: Path) -> None:
        """Delete it: everything is done. From the first step on no journal is found; ids do not stay on the disk."""
        path = (home / JOURNAL).replace(home / f".{JOURNAL}.{uuid.uuid4().hex}.tmp")
        with path.open("r+b") as file:
            file.write(bytes(path.stat().st_size))
            file.flush()
            os.fsync(file.fileno())
        path.unlink()


def home_of(run: Path) -> Path:
    """Where the journal of a request on a folder lies: the sweep's folder, also for one of its trials."""
    run = run.resolve()
    return run.parent.parent if run.parent.name == TRIALS else run


def explain_unfinished(folder: str | Path) -> str | None:
    """One line on the request for deletion that is unfinished in a sweep's folder; None if there is none."""
    try:
        journal = DeletionJournal.find(Path(folder))
    except SweepError as error:
        return str(error)
    return None if journal is None else journal.explain(Path(folder))


def check_finished(folder: Path) -> None:
    """Refuse a sweep in which a request for deletion is unfinished.

    Raises:
        SweepError: if there is one.
    """
    line = explain_unfinished(folder)
    if line is not None:
        raise SweepError(line)
