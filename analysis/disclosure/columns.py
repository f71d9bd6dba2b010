"""Every column of every file of a sweep, and what it says of the people who are trained on.

Release mode writes what is public or noised, and null in the place of the rest. A writer refuses a column that has no
class here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import pyarrow as pa

Kind = Literal["public", "noised", "private"]
"""``public``: follows from the sweep file, the ids of examples, their partition and the people who are evaluated.
``noised``: post-processing of noised weights. ``private``: an exact function of private data; time is one, for it tells
who took part in which step."""

MODULE = "fairsweep.analysis.disclosure.columns"
_ANY = "*"
_CHECKSUM = "checksum"  # of JSON, by its writer
_WORDS: Mapping[Kind, str] = {
    "public": "public",
    "noised": "post-processing of the noised weights",
    "private": "exact functions of private data, which no guarantee covers",
}


def _classed(public: str = "", noised: str = "", private: str = "") -> dict[str, Kind]:
    kinds: dict[Kind, str] = {"public": public, "noised": noised, "private": private}
    return {name: kind for kind, names in kinds.items() for name in names.split()}


# Beside the last iteration the one that validation found best has rows, and which that is follows from the model.
_PREDICTIONS = _classed("id split label", "iteration prediction log_probabilities")

COLUMNS: Mapping[str, Mapping[str, Kind]] = {
    "config.json": _classed(
        "format_version learner model imbalance dataset split evaluation test_content seeds replicate setting trial "
        "mode key shadow_candidates"
    ),
    "state.json": _classed(
        "format_version trial state by reason stop_at run attempt iteration iterations examples node timed recovered "
        "error traceback secrets",
        "metrics",
        "seconds updated host_peak_bytes device_peak_bytes metrics.loss metrics.seconds",
    ),
    "data.json": _classed(
        "format_version image_shape size hashes left_out clients minority gradient_mode device",
        private="counts minority.count clients.majority clients.listed",
    ),
    # A group's column is called as its attribute, and holds codes of people who are evaluated.
    "cells.parquet": _classed(f"iteration split label {_ANY}", "prediction count"),
    "predictions.parquet": _PREDICTIONS,
    "shard_predictions.parquet": {**_PREDICTIONS, "shard": "public"},
    "training.parquet": _classed("iteration examples", "l2_clip_norm", "loss seconds diagnostics clients"),
    "cost.json": _classed(
        "format_version shards slices epochs strategy exactness threads training retrainings requests streamed trained",
        "aggregate_weights",
        private="training.seconds requests.seconds requests.full.seconds",
    ),
    # Hashes of ids of which the placement says too that they were deleted.
    "requests.jsonl": _classed("event number ids erased cost", private="time cost.seconds cost.full.seconds"),
    "placement.parquet": _classed("id shard slice deleted"),
    "lineage.parquet": _classed(private=f"generation member parent score loss published {_ANY}"),
    "audit.parquet": _classed(private=_ANY),
    "membership.parquet": _classed(private=_ANY),
    # Of the sweep: which of its draws is the best follows from their models.
    "winner.json": _classed("format_version identity draws charge config", "state trial"),
    # Of everybody in research mode, of people who are evaluated alone in release mode.
    "examples.parquet": _classed(f"id split user {_ANY}", private="source_path"),
}
"""Kind by file and column; a name with dots is a part of a column of JSON, and lists of parts are looked into."""

RECORDS = (
    "config.json",
    "state.json",
    "data.json",
    "weights.pt",
    "cells.parquet",
    "predictions.parquet",
    "training.parquet",
)
"""What every trial leaves."""

WHOLE: Mapping[str, Kind] = {
    "privacy.json": "public",
    "weights.pt": "noised",
    "slices": "noised",
    "trainings.jsonl": "public",
    "requests.key": "public",
}
"""Kind of files, and of folders, that have no columns of their own."""


def check_columns(file: str, names: Iterable[str]) -> None:
    """Refuse a column that has no class; a file that is not listed is no record of a trial.

    Raises:
        ValueError: With the column and the module to which it has to be added.
    """
    kinds = COLUMNS.get(file)
    if kinds is None or _ANY in kinds:
        return
    unknown = sorted(set(names) - set(kinds) - {_CHECKSUM})
    if unknown:
        raise ValueError(
            f"each column of {file} must be classed public, noised or private, but {', '.join(unknown)} "
            f"{'is' if len(unknown) == 1 else 'are'} not: add it to COLUMNS in {MODULE}"
        )


def check_file(file: str) -> None:
    """Refuse a record that has no class. Raises: ValueError with the module to which it has to be added."""
    if file not in COLUMNS and file not in WHOLE:
        raise ValueError(f"each record of a trial must be classed, but {file} is not: add it to COLUMNS in {MODULE}")


def without_private(file: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a JSON record as release mode writes it: null in the place of what is private."""
    return _without(content, _private(file))


def table_without_private(file: str, table: pa.Table) -> pa.Table:
    """Return a table as release mode writes it: nulls in the columns that are private."""
    for name in _private(file):
        if name in table.column_names:
            index = table.column_names.index(name)
            field = table.schema.field(index)
            table = table.set_column(index, field, pa.nulls(len(table), field.type))
    return table


def reveals(mode: str, files: Iterable[str]) -> dict[str, str]:
    """Return what each file says about private data, in a sentence.

    Args:
        mode: ``research`` or ``release``, which leaves out what is private.
        files: names of the files, or folders, that a trial has.
    """
    return {file: _sentence(file, mode) for file in files}


def _sentence(file: str, mode: str) -> str:
    if file in WHOLE:
        return _WORDS[WHOLE[file]]
    columns = COLUMNS[file]
    parts = []
    for kind, words in _WORDS.items():
        names = ", ".join("attributes" if name == _ANY else name for name, own in columns.items() if own == kind)
        if names and kind == "private" and mode == "release":
            parts.append(f"not recorded in release mode: {names}")
        elif names:
            parts.append(f"{words}: {names}")
    return "; ".join(parts)


def _private(file: str) -> tuple[str, ...]:
    return tuple(name for name, kind in COLUMNS.get(file, {}).items() if kind == "private")


def _without(content: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Put None in the place of parts with dotted names; what is not there stays away."""
    kept = dict(content)
    for name in names:
        head, _, rest = name.partition(".")
        if head in kept:
            kept[head] = _part(kept[head], rest) if rest else None
    return kept


def _part(value: Any, rest: str) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, Mapping):
        return _without(value, (rest,))
    return [_part(item, rest) for item in value] if isinstance(value, list | tuple) else value
