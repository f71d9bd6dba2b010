"""Erasure from a trial that has forgotten: nothing in its folder names or depends on the examples any more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairsweep.analysis.records.file_names import PLACEMENT, PREDICTIONS
from fairsweep.analysis.records.files import write_json
from fairsweep.analysis.records.learner_records import placement_table, read_placement, write_placement
from fairsweep.analysis.records.prediction_records import read_predictions, write_predictions
from fairsweep.trainables.trial.folder_transaction import FolderTransaction
from fairsweep.trainables.trial.forgetting import DATASET_NOW, ForgettingError, alone, current_dataset, finish_former
from fairsweep.trainables.trial.request_log import REQUEST_KEY, REQUEST_LOG, RequestLog


def erase_from_trial(folder: Path, ids: NDArray[np.int64], dataset: Path, content_hash: str) -> None:
    """Purges a trial of examples that it has forgotten.

    Weights and checkpoints were replaced when they were forgotten. Here their ids go from the placement (a number below
    0 keeps the place, which a private learner's sampling rates need) and from the predictions; the key of the request
    log is thrown away; from now on the trial reads the new version of the dataset. All of it or nothing; a second call
    changes nothing.

    Args:
        folder: The trial's folder.
        ids: int64 [k].
        dataset: The new version of the prepared dataset.
        content_hash: Its content hash.

    Raises:
        ForgettingError: If one of them has not been forgotten yet, or a request runs.
    """
    with alone(folder, 0.0):
        finish_former(folder)
        if current_dataset(folder)[1] == content_hash:
            return  # done before a crash
        log, placed = RequestLog(folder), read_placement(folder / PLACEMENT)
        known, deleted = placed.column("id").to_numpy(), placed.column("deleted").to_numpy()
        gone = np.isin(known, ids)
        _check_forgotten(folder, int((gone & ~deleted).sum()))
        nameless = known.copy()
        nameless[gone] = min(0, int(known.min())) - 1 - np.arange(int(gone.sum()))
        transaction = FolderTransaction(folder)
        shard, part = placed.column("shard").to_numpy(), placed.column("slice").to_numpy()
        write_placement(transaction.stage(PLACEMENT), placement_table(nameless, shard, part, deleted))
        predictions = read_predictions(folder / PREDICTIONS)
        kept = predictions.filter(pc.invert(pc.is_in(predictions.column("id"), pa.array(ids))))
        write_predictions(transaction.stage(PREDICTIONS), kept)
        where = {"path": str(dataset.resolve()), "content_hash": content_hash}
        write_json(transaction.stage(DATASET_NOW), {"dataset": where})
        number = max([entry["number"] for entry in log.entries()], default=1)
        log.write_with(transaction.stage(REQUEST_LOG), "erased", number, erased=int(gone.sum()))
        transaction.remove(REQUEST_KEY)
        transaction.commit()


def _check_forgotten(folder: Path, remembered: int) -> None:
    if remembered:
        raise ForgettingError(
            f"{folder.name} must forget an example before it is erased, but has not forgotten {remembered} of them: "
            "run `fairsweep forget` on it"
        )
