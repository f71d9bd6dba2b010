"""Reading a sweep file: YAML 1.2 with line numbers, and errors that name the line.

YAML 1.2 so that ``no`` is a word and ``1e-3`` a number. Secrets have no place in a sweep file: what looks like one is
refused before anything else is read, and its value is never repeated.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from fairsweep.sweeps.syntax.credentials import secret_places
from fairsweep.sweeps.syntax.errors import Location, SweepError, dotted
from fairsweep.sweeps.syntax.other_tools import check_file
from fairsweep.sweeps.syntax.values import plain
from fairsweep.sweeps.syntax.yaml_limits import MOST_CHARACTERS, check_limits


@dataclass(frozen=True)
class SweepSource:
    """A sweep file as it was written.

    Attributes:
        path: where it is.
        text: its whole text.
        content: the plain values: dicts, lists, words, numbers.
        changed: places whose values the command line gave.
    """

    path: Path
    text: str
    content: dict[str, Any]
    _tree: CommentedMap
    changed: tuple[Location, ...] = ()

    @classmethod
    def read(cls, path: str | Path) -> SweepSource:
        """Read a sweep file.

        Raises:
            SweepError: if it is missing, is not a YAML mapping, or has what looks like a secret.
        """
        path = Path(path)
        if path.is_dir():
            inside = path / "sweep.yaml"
            if inside.exists():
                raise SweepError(
                    f"{path} is a sweep's output folder, not its file; "
                    f"resume with: fairsweep resume {shlex.quote(str(path))}"
                )
            raise SweepError(f"{path} is a folder, not a sweep file: give the YAML file (`fairsweep init` writes one)")
        try:
            with path.open(encoding="utf-8") as file:
                text = file.read(MOST_CHARACTERS + 1)
        except UnicodeDecodeError as error:
            raise SweepError(f"the sweep file {path} must be UTF-8, but is not: save it as UTF-8") from error
        except OSError as error:
            raise SweepError(f"cannot read the sweep file {path}: {error.strerror or error}") from error
        return cls.parse(path, text)

    @classmethod
    def parse(cls, path: Path, text: str) -> SweepSource:
        """Read the text of a sweep file.

        Raises:
            SweepError: if it is not a YAML mapping, or has what looks like a secret.
        """
        tree = _parse(path, text)
        if not isinstance(tree, CommentedMap):
            raise SweepError(f"{path}: a sweep file must be a mapping with the keys dataset, learners, …")
        return cls(path, text, plain(tree), tree)._checked()

    def changed_to(self, text: str, places: Iterable[Location]) -> SweepSource:
        """Return this file with another text, whose values at some places the command line gave.

        Errors at other places name the lines of the file as it was read.

        Raises:
            SweepError: if it has what looks like a secret.
        """
        content = plain(_parse(self.path, text))
        return SweepSource(self.path, text, content, self._tree, (*self.changed, *places))._checked()

    def _checked(self) -> SweepSource:
        try:
            check_file(self.content)
        except SweepError as error:
            raise self.error(error) from error
        for place in secret_places(self.content):
            raise self.error(
                SweepError(
                    "keys and secrets do not belong in a sweep file, which is copied into the output folder; delete it "
                    "here and set it in the environment (for example WANDB_API_KEY)",
                    place,
                )
            )
        return self

    def line(self, location: Location) -> int | None:
        """Return the line (from 1) of the deepest part of a place that is in the file; None for the whole file."""
        node: Any = self._tree
        line: int | None = None
        for part in location:
            if isinstance(node, CommentedMap):
                name = next((key for key in node if key == part or str(key) == str(part)), None)
                if name is None:
                    break
                line, node = node.lc.key(name)[0] + 1, node[name]
            elif isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
                line, node = node.lc.item(part)[0] + 1, node[part]
            else:
                break
        return line

    def error(self, error: SweepError) -> SweepError:
        """Return the same error with its place in front: file and line, or what the command line changed."""
        return SweepError(f"{self._where(error.location)}: {error}", others=[self.error(one) for one in error.others])

    def _where(self, location: Location) -> str:
        if any(location[: len(place)] == place for place in self.changed):
            return "on the command line"
        line = self.line(location)
        where = f"{self.path}, line {line}" if line is not None else f"{self.path}"
        inside = [dotted(place) for place in self.changed if location and place[: len(location)] == location]
        return f"{where}, with {' and '.join(inside)} as on the command line" if inside else where


def nearest(name: str, known: list[str] | tuple[str, ...]) -> str:
    """Return the end of a message on an unknown name: the nearest known one, or all of them.

    >>> nearest("epoch", ["epochs", "lr"])
    "did you mean 'epochs'?"
    """
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {match[0]!r}?" if match else f"known: {', '.join(known)}"


def _parse(path: Path, text: str) -> Any:  # noqa: ANN401 - whatever the file holds
    try:
        check_limits(str(path), text)
        return YAML(typ="rt").load(text)
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SweepError(f"{path}, line {line}: this key is given twice; delete one") from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise SweepError(f"{path}, line {line}: this is not valid YAML ({error.problem or error.context})") from error
    except YAMLError as error:
        raise SweepError(f"{path}: this is not valid YAML ({error})") from error
