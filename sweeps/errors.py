"""The errors of a sweep that a user can mend: one line, and where in the sweep file it belongs."""

from collections.abc import Iterator
from contextlib import contextmanager

Location = tuple[str | int, ...]


class SweepError(ValueError):
    """A sweep that cannot run as asked.

    Args:
        message: one line: what must hold, what was given, the remedy.
        location: keys and positions from the top of the sweep file to the place; empty if it has none.
    """

    def __init__(self, message: str, location: Location = ()) -> None:
        super().__init__(message)
        self.message = message
        self.location = location

    def __str__(self) -> str:
        """The message on one line, after the dotted place."""
        text = " ".join(self.message.split())
        return f"{dotted(self.location)}: {text}" if self.location else text


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


def dotted(location: Location) -> str:
    """A place as it is written in messages.

    >>> dotted(("learners", 0, "optimizer", "lr"))
    'learners[0].optimizer.lr'
    """
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else str(part))
    return text
