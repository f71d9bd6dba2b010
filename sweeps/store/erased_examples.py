"""Erased examples: they are removed from ``examples.parquet`` and do not return when it is rebuilt."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairsweep.analysis.records.file_names import EXAMPLES, TRIALS
from fairsweep.analysis.records.files import RecordError, read_json
from fairsweep.analysis.records.prediction_records import read_examples, write_examples
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.trainables.trial.forgetting import DATASET_NOW
from fairsweep.trainables.trial.trial_data import open_dataset


def erased_ids(home: Path, dataset: PreparedDataset) -> NDArray[np.int64]:
    """Of a dataset's ids, those that were erased from a sweep: versions that its trials read now lack them.

    Args:
        home: the sweep's output folder.
        dataset: the version that the sweep names, which may still hold them.

    Raises:
        SweepError: if nobody can say which they are.
    """
    gone = [dataset.ids[:0]]
    for record in sorted((home / TRIALS).glob(f"*/{DATASET_NOW}")):
        try:
            now = read_json(record)["dataset"]
            version = open_dataset(Path(now["path"]), str(now["content_hash"]))
        except (ValueError, OSError, KeyError, TypeError) as error:
            raise SweepError(
                f"{home / EXAMPLES} must be written anew without the examples that were erased from "
                f"{record.parent.name}, but the dataset without them cannot be read ({error}): put the dataset that "
                f"{record} names back, then: fairsweep resume {shlex.quote(str(home))}"
            ) from error
        gone.append(np.setdiff1d(dataset.ids, version.ids))
    return np.unique(np.concatenate(gone))


def without(examples: pa.Table, ids: NDArray[np.int64]) -> pa.Table:
    """Examples but for those with these ids."""
    return examples.filter(pc.invert(pc.is_in(examples.column("id"), pa.array(ids))))


def drop_examples(home: Path, ids: NDArray[np.int64]) -> None:
    """Take ids out of ``examples.parquet``; one that is damaged goes, for the next run makes it anew without them."""
    try:
        table = read_examples(home / EXAMPLES)
    except FileNotFoundError:
        return
    except RecordError:
        (home / EXAMPLES).unlink()
        return
    kept = without(table, ids)
    if len(kept) < len(table):
        write_examples(home / EXAMPLES, kept)
