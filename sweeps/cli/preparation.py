"""The implementation of ``fairsweep prepare``: the source from its options, Ray, and a progress bar."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from fairsweep.analysis.own_code import is_file, read_code
from fairsweep.analysis.report.example_images import PUBLIC_DATASETS
from fairsweep.datasets.preparation.identical import counted_identical
from fairsweep.datasets.preparation.preparing import PreparationProgress, prepare
from fairsweep.datasets.raw.download import download
from fairsweep.datasets.sources import checked_source, source_type
from fairsweep.datasets.sources.options import from_options, option_names, option_words
from fairsweep.datasets.storage.layout import DatasetInfo, nearest
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.datasets.storage.writing import check_target
from fairsweep.sweeps.store.trusted_addresses import remember_public
from fairsweep.sweeps.syntax.errors import SweepError

_RAW = "raw"
_REASONS, _REASON_CHARACTERS = 3, 120
_RAW_DATA_FOLDER = "raw"


def prepare_dataset(
    name: str,
    to: Path,
    *,
    raw: Path | None = None,
    fetch: bool = False,
    options: Mapping[str, str | Sequence[str]] | None = None,
    max_damaged: float,
    address: str | None = None,
) -> DatasetInfo:
    """Prepare a dataset, on Ray if it has several shards, and show how it goes.

    Args:
        name: of the source, as in `SOURCES`, or ``FILE.py:CLASS``.
        to: the target folder.
        raw: folder or zip of the raw files, for sources that read some.
        fetch: whether to download the raw files first, into a folder beside the target.
        options: the source's own options, as words.
        max_damaged: share of images that may be unreadable.
        address: of a Ray cluster.

    Raises:
        SweepError: if the source is unknown.
        ValueError: if the source, the target or an option is not as it must be.
    """
    kind = _source(name)
    check_target(to)
    words: dict[str, str | Sequence[str]] = dict(options or {})
    if fetch:
        if raw is not None:
            raise SweepError("give --from or --download, not both: --download fetches the raw files itself")
        raw = download(name, to.parent / _RAW_DATA_FOLDER)
    if raw is not None:
        if _RAW not in option_names(kind):
            raise SweepError(f"the source {name} reads no files: omit --from")
        words[_RAW] = str(raw)
    elif _RAW in _required(kind):
        raise SweepError(f"the source {name} reads raw files: give their folder, zip or tar with --from RAW")
    _check_known(name, kind, words)
    source = from_options(kind, words)

    @contextmanager
    def ray() -> Iterator[bool]:
        from fairsweep.sweeps.runtime.launch import connected

        with connected(address) as ours, travelling(source) if is_file(name) else nullcontext():
            yield ours

    with _bar(name) as on_progress:
        info = prepare(source, to, max_damaged=max_damaged, connected=ray, on_progress=on_progress)
    if name in PUBLIC_DATASETS:  # the source's: a folder of images may be given any
        remember_public(info.content_hash)
    return info


def describe_options(name: str) -> list[tuple[str, str, str]]:
    """Return the own options of a source, each with its default and in words.

    Raises:
        SweepError: if the source is unknown.
    """
    kind = _source(name)
    words = option_words(kind)
    return [
        (f"--{option.replace('_', '-')}", _default(kind, option), words[option])
        for option in option_names(kind)
        if option != _RAW
    ]


def describe_source(name: str) -> str:
    """Return what a source reads, in the words of its docstring.

    Raises:
        SweepError: if the source is unknown.
    """
    return (inspect.getdoc(_source(name)) or "").partition("\nAttributes:")[0].partition("\nReferences:")[0].strip()


def describe_skipped(info: DatasetInfo) -> str:
    """Return what was left out of a dataset and why, the first reasons in words; empty where nothing was."""
    if not info.skipped:
        return ""
    reasons = "; ".join(" ".join(entry.reason.split())[:_REASON_CHARACTERS] for entry in info.skipped[:_REASONS])
    more = " …" if len(info.skipped) > _REASONS else ""
    return f"; {len(info.skipped):,} unusable images skipped ({reasons}{more}), all listed in dataset.json"


def describe_notes(info: DatasetInfo) -> list[str]:
    """Return what a user should know about a dataset.

    That is what its source decided, and which pictures occur in several splits.
    """
    identical = [
        f"images of the {second} split that are identical to images of the {first} split: {count:,}; remove the "
        "copies, or results on them say nothing about new images"
        for (first, second), count in info.identical_images()
        if count
    ]
    return [*(f"note: {note}" for note in info.notes), *(f"warning: {line}" for line in identical)]


def dataset_notes(path: Path) -> list[str]:
    """`describe_notes` of a prepared dataset; one of an earlier version is read whole to count identical pictures."""
    dataset = PreparedDataset.open(path)
    info = dataset.info
    return describe_notes(info if info.identical is not None else counted_identical(dataset))


def words_of(arguments: Sequence[str]) -> dict[str, str | list[str]]:
    """Words by option, from what stands behind the known arguments of a command line; repeated options have a list.

    >>> words_of(["--count", "600", "--image-size=64", "--table", "a.csv", "--table", "b.csv"])
    {'count': '600', 'image-size': '64', 'table': ['a.csv', 'b.csv']}
    """
    words: dict[str, list[str]] = {}
    left = list(arguments)
    while left:
        option = left.pop(0)
        if not option.startswith("--") or option == "--":
            raise SweepError(f"expected an option like --image-size 64, but got {option!r}")
        name, given, value = option[2:].partition("=")
        if not given:
            if not left:
                raise SweepError(f"{option} needs a value")
            value = left.pop(0)
        words.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in words.items()}


def _source(name: str) -> type[Any]:
    try:
        return checked_source(name, read_code(name).load()) if is_file(name) else source_type(name)
    except ValueError as error:
        raise SweepError(str(error)) from error


def _check_known(name: str, kind: type[Any], words: Mapping[str, str | Sequence[str]]) -> None:
    """Refuse an unknown option in the words of the command line, where the raw files are given with --from."""
    known = [f"--{option.replace('_', '-')}" for option in option_names(kind) if option != _RAW]
    for word in words:
        option = f"--{word.replace('_', '-')}"
        if option not in known and (word != _RAW or _RAW not in option_names(kind)):
            shown = ["--from", *known] if _RAW in option_names(kind) else known
            raise SweepError(f"{name} has no option {option}: {nearest(option, shown)}")


def _default(kind: type[Any], option: str) -> str:
    """Return the default of an option as it would be typed; one behind a dot has that of the dataclass before it."""
    name, _, rest = option.partition(".")
    field = next(field for field in dataclasses.fields(kind) if field.name == name)
    if field.default_factory is not dataclasses.MISSING:
        value: Any = field.default_factory()
    elif field.default is not dataclasses.MISSING:
        value = field.default
    else:
        return ""
    for part in rest.split(".") if rest else ():
        if value is None:
            break  # the whole of it is left out
        value = getattr(value, part)
    if value is None:
        return "none"
    if isinstance(value, Mapping | tuple) and not value:
        return "none"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _required(kind: type[Any]) -> set[str]:
    return {
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }


class _Speed(ProgressColumn):
    """Images per second since the start."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:,.0f} images/s")


@contextmanager
def travelling(source: object) -> Iterator[None]:
    """Let a source of a file go to workers by value: they do not have its module."""
    from ray import cloudpickle

    module = sys.modules[type(source).__module__]
    cloudpickle.register_pickle_by_value(module)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)  # type: ignore[no-untyped-call]


@contextmanager
def _bar(name: str) -> Iterator[Callable[[PreparationProgress], None]]:
    """Show a bar in a terminal, one line at the end elsewhere."""
    console = Console(stderr=True, highlight=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
        _Speed(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(escape(f"preparing {name}"), total=1)
        before, began = 0, 0.0

        def update(now: PreparationProgress) -> None:
            nonlocal before, began
            if not began:
                before, began = now.done, time.monotonic()
            damaged = f", {now.damaged:,} damaged" if now.damaged else ""
            progress.update(task, completed=now.done, total=now.total, description=escape(f"preparing {name}{damaged}"))
            if now.done == now.total and not console.is_terminal:
                speed = (now.done - before) / max(time.monotonic() - began, 1e-9)
                said = f"prepared {now.total:,} images of {name}{damaged}, {speed:,.0f} images/s"
                console.print(said, markup=False)

        yield update
