"""The commands to start with: ``fairsweep init | describe | schema``."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fairsweep.sweeps.spec.schema_file import schema_path
from fairsweep.sweeps.syntax.errors import SweepError, as_ours


def init(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="celeba, utkface, faces or folder.", show_default=False)],
    to: Annotated[Path | None, typer.Option("--to", metavar="FILE", help="File to write; default: KIND.yaml.")] = None,
) -> None:
    """Write a commented starter sweep file; an existing file is never overwritten.

    Examples: `fairsweep init celeba`, `fairsweep init folder --to my-study.yaml`
    """
    from fairsweep.sweeps.cli.starters import STARTERS
    from fairsweep.sweeps.syntax.sweep_file import nearest

    if kind not in STARTERS:
        raise SweepError(f"there is no starter file {kind!r}: {nearest(kind, tuple(STARTERS))}")
    path = to or Path(f"{kind}.yaml")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(STARTERS[kind].replace(f" {kind}.yaml", f" {shlex.quote(str(path))}"))
    except FileExistsError as error:
        raise SweepError(f"{path} already exists: give another file with --to FILE") from error
    except OSError as error:
        raise SweepError(f"cannot write {path}: {error.strerror}") from error
    typer.echo(f"wrote {path}; review it, then: fairsweep plan {shlex.quote(str(path))}")


def describe(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A prepared dataset.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the attributes of a prepared dataset, with the number of examples per value and split.

    Example: `fairsweep describe data/faces`
    """
    import numpy as np

    from fairsweep.datasets.storage.prepared import PreparedDataset

    with as_ours():
        prepared = PreparedDataset.open(dataset)
        splits = {name: prepared.split(name) for name, count in prepared.info.counts.items() if count}
        counts = {
            attribute.name: {
                split: np.bincount(prepared.codes(attribute.name)[rows], minlength=len(attribute.values)).tolist()
                for split, rows in splits.items()
            }
            for attribute in prepared.info.attributes
        }
    info = prepared.info
    if as_json:
        described = {
            attribute.name: {
                value: {"shown": attribute.shown(code)} | {split: found[code] for split, found in by_split.items()}
                for code, value in enumerate(attribute.values)
            }
            for attribute, by_split in zip(info.attributes, counts.values(), strict=True)
        }
        typer.echo(json.dumps({"name": info.name, "image_shape": info.image_shape, "attributes": described}, indent=2))
        return
    console = Console()
    sizes = ", ".join(f"{count:,} {split}" for split, count in info.counts.items())
    shape = "x".join(map(str, info.image_shape))
    users = "; with users" if info.has_user else ""
    console.print(f"{escape(info.name)}: {sizes}; images {shape}{users}", highlight=False, soft_wrap=True)
    table = Table("attribute", "value", "shown as", *splits, box=None, header_style="bold", pad_edge=False)
    for column in table.columns[3:]:
        column.justify = "right"
    for attribute in info.attributes:
        for code, value in enumerate(attribute.values):
            name = attribute.name if code == 0 else ""
            shown = "" if attribute.display is None else attribute.shown(code)
            numbers = [f"{found[code]:,}" for found in counts[attribute.name].values()]
            table.add_row(escape(name), escape(value), escape(shown), *numbers)
    console.print(table)


def schema() -> None:
    """Print a JSON schema of the sweep file, for editors.

    Save it and put `# yaml-language-server: $schema=sweep.schema.json` at the top of a sweep file.

    Example: `fairsweep schema > sweep.schema.json`
    """
    typer.echo(schema_path().read_text(encoding="utf-8"), nl=False)


STARTING: dict[str, Callable[..., None]] = {"init": init, "describe": describe, "schema": schema}
