"""The documented schema of the records, as tables; docs/records.md shows them, `violations` checks files against them.

A file may hold more than its table says: what a learner's config is made of is documented with the sweep file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from fairsweep.analysis.records.file_names import (
    CELLS,
    CONFIG,
    DATA,
    EXAMPLES,
    PLACEMENT,
    PREDICTIONS,
    PRIVACY,
    STATE,
    SWEEP_JSON,
    TRAINING,
)
from fairsweep.analysis.records.learner_records import PLACEMENT_SCHEMA
from fairsweep.analysis.records.prediction_records import PREDICTIONS_SCHEMA
from fairsweep.analysis.records.training_records import TRAINING_SCHEMA
from fairsweep.analysis.records.trial_state import STAGES

_NULL = " or null"


@dataclass(frozen=True)
class RecordField:
    """One member of a JSON record, or one column of a Parquet record.

    Attributes:
        name: of it.
        kind: of JSON a key of `KINDS`, perhaps with "or null"; of Parquet the column's type.
        meaning: what it holds.
        required: whether it must be there.
    """

    name: str
    kind: str
    meaning: str
    required: bool = True


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


KINDS: Mapping[str, Callable[[object], bool]] = {
    "text": lambda value: isinstance(value, str),
    "integer": _is_integer,
    "number": lambda value: (isinstance(value, int | float) and not isinstance(value, bool)) or value == "inf",
    "list": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "true or false": lambda value: isinstance(value, bool),
    "state": lambda value: value in STAGES,
}
_VERSION = RecordField("format_version", "integer", "1")

JSON_RECORDS: Mapping[str, tuple[RecordField, ...]] = {
    SWEEP_JSON: (
        _VERSION,
        RecordField("name", "text", "name of the sweep"),
        RecordField("created", "text", "ISO 8601", required=False),
        RecordField("updated", "text", "ISO 8601", required=False),
        RecordField("trials", "integer", "how many trials there are or will be", required=False),
        RecordField("members", "list or null", "hashes of the trials that belong to it; null: all", required=False),
        RecordField(
            "dataset",
            "object",
            "`name`, `path`, `content_hash`, `label`, `groups`, `shown`, `values`; `unit`: the noun of an example, if "
            "that is not an image",
        ),
        RecordField("sweep", "object", "the sweep file with every default; `learners`: a list with the `name` of each"),
        RecordField("file", "text or null", "the sweep file as given", required=False),
        RecordField("versions", "object", "versions of the packages", required=False),
        RecordField("git", "object or null", "`commit` and whether it was `changed`", required=False),
    ),
    CONFIG: (
        _VERSION,
        RecordField("learner", "object", "`name`, `kind`, `twin_of`, and the fields of its kind"),
        RecordField("model", "object", "`name`, and the fields of the model"),
        RecordField(
            "imbalance", "object or null", "`attribute`, and `majority` with `share` or `minority_size`, or `keep`"
        ),
        RecordField("dataset", "object", "`path`, `name`, `content_hash`, `label`, `groups`"),
        RecordField("evaluation", "object", "which examples are evaluated"),
        RecordField("split", "object", "`kind`: `official`, `rest`, `hold_out`, `folds`", required=False),
        RecordField(
            "test_content", "text or null", "content hash of the other dataset that is tested on", required=False
        ),
        RecordField(
            "seeds",
            "object",
            "`data` and `train`, integers; `noise` too, from 1, of a training that is repeated under further noise; "
            "`order` and `init` likewise, of one that is repeated in another order or from other initial weights",
        ),
        RecordField("replicate", "integer", "number of the replicate of its setting, from 0"),
        RecordField("mode", "text", "`research` or `release`"),
        RecordField("setting", "text", "hash without the seeds: equal for replicates of one setting"),
        RecordField("trial", "text", "hash of the whole"),
    ),
    STATE: (
        _VERSION,
        RecordField("trial", "text", "the trial's hash"),
        RecordField("state", "state", f"one of {', '.join(STAGES)}"),
        RecordField("by", "text or null", "who stopped it", required=False),
        RecordField("reason", "text or null", "why", required=False),
        RecordField("run", "integer", "number of drivers that have queued it", required=False),
        RecordField("attempt", "integer", "`run` and the number of starts together: each takes a number"),
        RecordField("iteration", "integer", "iterations done and recorded"),
        RecordField("iterations", "integer", "iterations in all"),
        RecordField("metrics", "object", "of the last iteration, on validation: numbers or null", required=False),
        RecordField("seconds", "number or null", "in training; null in release mode"),
        RecordField("examples", "integer", "that training has seen, with repetition", required=False),
        RecordField(
            "host_peak_bytes",
            "integer or null",
            "most resident memory of the trial's process; null where it cannot be measured, and in release mode",
            required=False,
        ),
        RecordField(
            "device_peak_bytes",
            "integer or null",
            "most memory reserved on a GPU; null without one, and in release mode",
            required=False,
        ),
        RecordField("error", "text or null", "cause of a failure, one line"),
        RecordField("updated", "number or null", "seconds since 1970; null in release mode", required=False),
    ),
    DATA: (
        _VERSION,
        RecordField("size", "integer or null", "training examples; null where they are not known"),
        RecordField(
            "counts", "list or null", "objects: a code for each group's column, `label`, `count`; null in release mode"
        ),
        RecordField("hashes", "object", "of the ids: `training`, `validation`, `test`; may be empty"),
        RecordField("minority", "object or null", "`attribute`, `values`, `count`", required=False),
    ),
    PRIVACY: (
        _VERSION,
        RecordField("mode", "text", "`research` or `release`"),
        RecordField("unit", "text", "whose contribution is hidden: `example` or `client`"),
        RecordField("relation", "text", "how neighbouring training sets differ"),
        RecordField("delta", "number", "δ"),
        RecordField("epsilon", "object", "`pld` and `rdp`: numbers, `inf`, or null where an accountant gives none"),
        RecordField("target_epsilon", "number or null", "the budget that noise was calibrated to"),
        RecordField("noise_multiplier", "number", "standard deviation of the noise over the clipping norm"),
        RecordField("clipping", "text", "how contributions are clipped"),
        RecordField("l2_clip_norm", "number or null", "the clipping norm"),
        RecordField("sampling_rate", "number", "probability of joining a step, the largest"),
        RecordField("population", "integer", "number of units"),
        RecordField("steps", "integer", "taken"),
        RecordField("planned_steps", "integer", "of the whole training"),
        RecordField("events", "list", "as dp-accounting has them, nested"),
        RecordField("summary", "text", "the guarantee in one sentence"),
        RecordField("assumptions", "list", "texts"),
        RecordField("reveals", "object", "for each file beside it, what it says about private data"),
    ),
}


def _columns(schema: pa.Schema, meanings: Mapping[str, str]) -> tuple[RecordField, ...]:
    return tuple(RecordField(field.name, str(field.type), meanings[field.name]) for field in schema)


PARQUET_RECORDS: Mapping[str, tuple[RecordField, ...]] = {
    EXAMPLES: (
        RecordField("id", "int64", "each once"),
        RecordField("split", "string", "as prepared"),
        RecordField("user", "int64", "who the example is of; people are resampled as one", required=False),
        RecordField("source_path", "string", "where it lies in the raw data", required=False),
    ),
    CELLS: (
        RecordField("iteration", "int32", "iterations done when it was evaluated"),
        RecordField("split", "string", "`validation` or `test`"),
        RecordField("label", "int16", "code of the true class"),
        RecordField("prediction", "int16", "code of the predicted class"),
        RecordField("count", "int64", "how many examples, at least 1"),
    ),
    PREDICTIONS: _columns(
        PREDICTIONS_SCHEMA,
        {
            "iteration": "iterations done when it was evaluated",
            "id": "of the example, once in each iteration and split",
            "split": "`train`, `validation` or `test`",
            "label": "code of the true class",
            "prediction": "code of the likeliest class, the lowest on a tie",
            "log_probabilities": "natural logarithms, one for each class; their exponentials add up to 1",
        },
    ),
    TRAINING: _columns(
        TRAINING_SCHEMA,
        {
            "iteration": "from 1",
            "loss": "mean training loss; null in release mode",
            "seconds": "of the iteration; null in release mode",
            "examples": "gradients computed; in release mode the number that the plan expects",
            "diagnostics": "by group and label, of private learners; null in release mode",
            "clients": "by group, of federated learners; null in release mode",
            "l2_clip_norm": "the clipping norm, where it adapts",
        },
    ),
    PLACEMENT: _columns(
        PLACEMENT_SCHEMA,
        {"id": "of the example", "shard": "from 1", "slice": "from 1", "deleted": "whether it was forgotten"},
    ),
}
_NEWEST_COLUMNS = {"clients", "l2_clip_norm"}  # that records of earlier versions lack


def json_violations(file: str, content: Mapping[str, Any]) -> Iterator[str]:
    """Say where a JSON record is not as its table says."""
    for member in JSON_RECORDS.get(file, ()):
        if member.name not in content:
            if member.required and member is not _VERSION:
                yield f"it must have the member {member.name} ({member.kind}): {member.meaning}"
            continue
        value = content[member.name]
        if (value is None and member.kind.endswith(_NULL)) or KINDS[member.kind.removesuffix(_NULL)](value):
            continue
        yield f"{member.name} must be {member.kind} ({member.meaning}), but is {value!r:.60}"


def parquet_violations(file: str, schema: pa.Schema) -> Iterator[str]:
    """Say where the columns of a Parquet record are not as its table says."""
    for member in PARQUET_RECORDS.get(file, ()):
        if member.name not in schema.names:
            if member.required and member.name not in _NEWEST_COLUMNS:
                yield f"it must have the column {member.name} ({member.kind}): {member.meaning}"
        elif _plain(found := str(schema.field(member.name).type)) != _plain(member.kind):
            yield f"column {member.name} must be {_plain(member.kind)}, but is {found}"


def markdown() -> str:
    """Return the tables as Markdown, as they stand in docs/records.md."""
    parts = []
    for file, members in {**JSON_RECORDS, **PARQUET_RECORDS}.items():
        rows = [
            f"| `{one.name}` | {_plain(one.kind)} | {'yes' if one.required else 'no'} | {one.meaning} |"
            for one in members
        ]
        head = ["| member | kind | required | meaning |", "|---|---|---|---|"]
        parts.append("\n".join([f"### `{file}`", "", *head, *rows]))
    return "\n\n".join(parts) + "\n"


def _plain(kind: str) -> str:
    """Return a type without what Parquet readers name differently: items of lists, how texts are held."""
    plain = kind.replace("element: ", "").replace("item: ", "").replace("large_", "")
    if plain.startswith("list<struct"):
        return "list of structs"
    return "string" if plain.startswith("dictionary<values=string") else plain
