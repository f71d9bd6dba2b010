"""Code of the user's own, named from a sweep file: a file whose text travels, or what an installed package offers.

The one machinery of networks, learners, sources, metrics and trackers: how they are named, loaded, and how an error in
them is told.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib
import inspect
import linecache
import re
import sys
import traceback
import types
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

_HASH_CHARACTERS = 16
_PATH = re.compile(r"[\w.]+:\w+")


class OwnCodeError(ValueError):
    """Code of the user's own that cannot be used."""


def is_file(name: object) -> bool:
    """Return whether a name is that of something in a file, not in a package.

    >>> is_file("my nets/mine.py:Net"), is_file("mine.nets:make"), is_file("sgd")
    (True, False, False)
    """
    return isinstance(name, str) and name.rpartition(":")[0].endswith(".py")


def place_of(name: str) -> str:
    """Return the file or module of a name.

    >>> place_of("nets/mine.py:Net"), place_of("mine.nets:make")
    ('nets/mine.py', 'mine.nets')
    """
    return name.rpartition(":")[0]


@dataclass(frozen=True)
class OwnCode:
    """What ``FILE.py:NAME`` or ``PACKAGE.MODULE:NAME`` names.

    Attributes:
        name: The name.
        source: Text of the file; of a package's module what its text must be, None where any will do.
    """

    name: str
    source: str | None = None

    @property
    def place(self) -> str:
        """The file or module."""
        return place_of(self.name)

    @property
    def attribute(self) -> str:
        """What is named in it."""
        return self.name.rpartition(":")[2]

    @property
    def source_hash(self) -> str:
        """Hash of the source's text, 16 hexadecimal digits."""
        return hashlib.sha256((self.source or "").encode()).hexdigest()[:_HASH_CHARACTERS]

    @property
    def by_content(self) -> dict[str, str]:
        """What counts for a trial's identity: the text, wherever it lies, and what is named in it."""
        return {"name": f":{self.attribute}", "source": hashlib.sha256((self.source or "").encode()).hexdigest()}

    def load(self, *, fresh: bool = False) -> object:
        """Return what is named.

        Args:
            fresh: Whether a file is executed anew; else once in a process, so that its classes are the same ones.

        Raises:
            OwnCodeError: If the source fails, is another one, or does not have it.
        """
        try:
            module = self._module(fresh) if is_file(self.name) else importlib.import_module(self.place)
        except Exception as error:  # whatever the user's code raises
            raise OwnCodeError(f"{self.place} does not import: {self.failure(error)}") from error
        if not is_file(self.name) and self.source is not None and inspect.getsource(module) != self.source:
            raise OwnCodeError(
                f"{self.place} must be the module that the sweep was started with (hash {self.source_hash}), but "
                "another version is installed here: install the same on every node"
            )
        if hasattr(module, self.attribute):
            return getattr(module, self.attribute)
        known = [
            name
            for name, value in vars(module).items()
            if not (name.startswith("_") or isinstance(value, types.ModuleType))
        ]
        nearest = difflib.get_close_matches(self.attribute, known, n=1, cutoff=0.4)
        raise OwnCodeError(
            f"{self.place} has no function or class {self.attribute!r}"
            + (f": did you mean {nearest[0]!r}?" if nearest else ": define it there")
        )

    def failure(self, error: Exception) -> str:
        """Return an error of the user's code in one line, with the last line of the source that it came through."""
        words = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if isinstance(error, SyntaxError):
            return f"{self.place}, line {error.lineno}: {(error.text or '').strip()!r}: SyntaxError: {error.msg}"
        if isinstance(error, ModuleNotFoundError) and is_file(self.name):
            words += " (a file travels alone: put what it imports into it, or into an installed package)"
        installed = None if is_file(self.name) else getattr(sys.modules.get(self.place), "__file__", None)
        own = [f for f in traceback.extract_tb(error.__traceback__) if f.filename in (self._filename, installed)]
        return f"{self.place}, line {own[-1].lineno}: {own[-1].line!r}: {words}" if own else words

    @property
    def _filename(self) -> str:
        """Name of the source in tracebacks."""
        return f"<{self.place} {self.source_hash}>"

    def _module(self, fresh: bool) -> types.ModuleType:
        if self.source is None:
            raise OwnCodeError("its text is not at hand: name it in a sweep file")
        make = _executed.__wrapped__ if fresh else _executed
        return make(self.source, self._filename, f"fairsweep_own_{'fresh_' * fresh}{self.source_hash}")


def read_code(name: str) -> OwnCode:
    """Return what a file on this machine holds.

    Raises:
        OwnCodeError: If the file cannot be read.
    """
    try:
        return OwnCode(name, Path(place_of(name)).expanduser().read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise OwnCodeError(f"there is no file {place_of(name)}: name it from here, or by its full path") from error
    except (OSError, UnicodeDecodeError) as error:
        raise OwnCodeError(f"cannot read {place_of(name)}: {error}") from error


def load_offered(what: str, name: object, group: str, rows: Iterable[str], source: str | None = None) -> object:
    """Return what a name outside of a table stands for.

    Args:
        what: What it is to be, in a word.
        name: ``FILE.py:NAME``, ``PACKAGE.MODULE:NAME``, or an entry point.
        group: The group of entry points by which installed packages offer such things.
        rows: Names in the table, for messages.
        source: Text of the file.

    Raises:
        OwnCodeError: If there is none; the message names the nearest, or what is wrong with it.
    """
    offered = {entry.name: entry.value for entry in entry_points(group=group)}
    if isinstance(name, str) and (is_file(name) or _PATH.fullmatch(name)):
        return OwnCode(name, source).load()
    if isinstance(name, str) and name in offered:
        return OwnCode(offered[name].partition("[")[0].strip()).load()
    known = [*rows, *offered]
    near = difflib.get_close_matches(str(name).lower(), known, n=1)
    listed = f"known: {', '.join(known)}"
    raise OwnCodeError(
        f"there is no {what} {name!r}: "
        + (f"did you mean {near[0]!r}? ({listed}" if near else f"{listed} (")
        + f"{'; ' if near else ''}one of your own is FILE.py:NAME or PACKAGE.MODULE:NAME)"
    )


@functools.cache
def _executed(source: str, filename: str, module_name: str) -> types.ModuleType:
    module = types.ModuleType(module_name)
    module.__file__ = filename
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    sys.modules[module_name] = module  # dataclasses look their own module up
    exec(compile(source, filename, "exec"), vars(module))
    return module
