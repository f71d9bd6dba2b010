"""Errors of a sweep that a user can fix: one line, and its place in the sweep file."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

Location = tuple[str | int, ...]


class SweepError(ValueError):
    """A sweep that cannot run as asked.

    Args:
        message: one line: what must hold, what was given, the remedy.
        location: keys and positions from the top of the sweep file to the place; empty if it has none.
        others: further errors that were found beside this one, none of which follows from it.
    """

    def __init__(self, message: str, location: Location = (), others: Sequence[SweepError] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.location = location
        self.others = tuple(others)

    @property
    def each(self) -> tuple[SweepError, ...]:
        """This error and all that were found beside it, each place once."""
        found = {(error.location, error.message): error for error in (self, *(e for o in self.others for e in o.each))}
        return tuple(found.values())

    def at(self, place: Location) -> SweepError:
        """Return the same errors, their places counted from further up."""
        return SweepError(self.message, (*place, *self.location), [other.at(place) for other in self.others])

    def __str__(self) -> str:
        """Return the message on one line, after the dotted place."""
        text = " ".join(self.message.split())
        return f"{dotted(self.location)}: {text}" if self.location else text


def unknown_version(library: str, version: str, lacking: str, tested: str) -> SweepError:
    """Return the error of a library whose version lacks something undocumented that fairsweep needs."""
    return SweepError(
        f"fairsweep needs {lacking}, which {library} {version} does not have: install {library}=={tested}, with which "
        "fairsweep is tested"
    )


class InterruptedSweepError(Exception):
    """Ctrl-C: what was done is kept, and the sweep can be resumed."""


@contextmanager
def as_ours() -> Iterator[None]:
    """Turn the errors of lower packages, which are lines for users already, into ours."""
    try:
        yield
    except SweepError:
        raise
    except (ValueError, OSError) as error:
        raise SweepError(str(error)) from error


@contextmanager
def paths_fit() -> Iterator[None]:
    """Turn whatever comes of a path that no file system takes into one line, wherever it was met.

    Raises:
        SweepError: instead of an error that comes of such a path.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        if not any(getattr(cause, "errno", None) == errno.ENAMETOOLONG for cause in _causes(error)):
            raise
        raise SweepError(
            "a path must have parts of at most 255 bytes, and at most 4,095 bytes in all, but one is longer: choose a "
            "shorter one"
        ) from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Return an error and what it comes of, each once: libraries raise errors that are causes of each other."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        yield cause
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__


def check_each(checks: Iterable[Callable[[], object]]) -> None:
    """Make several independent checks, whatever the others find.

    Raises:
        SweepError: the first error, with those of the further checks beside it.
    """
    errors = []
    for check in checks:
        try:
            check()
        except SweepError as error:
            errors.append(error)
    if errors:
        first, *others = errors
        raise SweepError(first.message, first.location, [*first.others, *others])


def dotted(location: Location) -> str:
    """Return a place as it is written in messages.

    >>> dotted(("learners", 0, "optimizer", "lr"))
    'learners[0].optimizer.lr'
    """
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else str(part))
    return text
