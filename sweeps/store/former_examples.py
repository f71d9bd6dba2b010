"""An ``examples.parquet`` of an earlier version, which named people whom a release does not name any more."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc

from fairsweep.analysis.records.file_names import EXAMPLES
from fairsweep.analysis.records.files import RecordError
from fairsweep.analysis.records.prediction_records import read_examples
from fairsweep.sweeps.store.description import Description


def names_trained_people(home: Path) -> bool:
    """Return whether the examples of a release name people who are trained on.

    With the dataset's own split these are those of its training part; with another split they cannot be told without
    the dataset, and the raw data's paths alone give an earlier version away.
    """
    found = Description.read(home)
    sweep = {} if found is None else found.content.get("sweep") or {}
    if (sweep.get("privacy") or {}).get("mode") != "release":
        return False
    try:
        table = read_examples(home / EXAMPLES)
    except (FileNotFoundError, RecordError):
        return False
    is_official = (sweep.get("split") or {}).get("kind", "official") == "official"
    has_training = is_official and pc.any(pc.equal(table.column("split"), "train")).as_py()
    return "source_path" in table.column_names or bool(has_training)
