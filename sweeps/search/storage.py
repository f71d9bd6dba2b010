"""Optuna's storage: a journal or SQLite file, or a database, readable by Optuna's own tools."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from fairsweep.sweeps.spec.search_section import SQLITE
from fairsweep.sweeps.syntax.errors import SweepError

JOURNAL = "search.journal"
_TIMES = ("datetime_start", "datetime_complete")
_NO_TIME = "1970-01-01T00:00:00+00:00"


class UntimedBackend(JournalFileBackend):
    """A journal in which all times are equal: how long a trial takes depends on who joins its steps."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append entries of the journal, without the times that they hold."""
        super().append_logs([log | {name: _NO_TIME for name in _TIMES if log.get(name) is not None} for log in logs])


def open_storage(where: str | None, folder: Path, *, timed: bool = True) -> BaseStorage:
    """Open or make the storage of a sweep's searches.

    Args:
        where: a file, or the URL of a database; None takes a journal in the output folder.
        folder: the output folder, held by this driver.
        timed: whether a journal keeps when each setting began and ended; not in release mode.

    Raises:
        SweepError: if it cannot be opened.
    """
    # What Optuna says of new studies at this level is no news to anyone.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        if where is not None and "://" in where:
            return RDBStorage(where)
        path = folder / JOURNAL if where is None else Path(where)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in SQLITE:
            return RDBStorage(f"sqlite:///{path.resolve()}")
        _drop_torn_line(path)
        return JournalStorage((JournalFileBackend if timed else UntimedBackend)(str(path)))
    except Exception as error:  # of any database's driver
        cause = " ".join(str(error).split())
        raise SweepError(
            f"the storage of the search cannot be opened ({type(error).__name__}: {cause}); "
            "give a writable file, or the URL of a reachable database",
            ("search", "storage"),
        ) from error


def shown_storage(where: str | None, folder: Path) -> str:
    """Return what ``optuna-dashboard`` is given to open the storage."""
    if where is None:
        return str(folder / JOURNAL)
    return f"sqlite:///{Path(where).resolve()}" if "://" not in where and Path(where).suffix in SQLITE else where


def _drop_torn_line(path: Path) -> None:
    """Cut off the end of a line that a kill has left half written: the next one would be glued to it."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)
            os.fsync(file.fileno())
