"""Erasure from a trial: nothing in its folder names or depends on the examples any more."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairsweep.analysis.disclosure.columns import without_private
from fairsweep.analysis.records.cell_records import read_cells, write_cells
from fairsweep.analysis.records.file_names import (
    AUDIT,
    CELLS,
    COST,
    DATA,
    MEMBERSHIP,
    PLACEMENT,
    PREDICTIONS,
    PRIVACY,
    SHARD_PREDICTIONS,
    TRAINING,
)
from fairsweep.analysis.records.files import RecordError, read_json, remove_temporary, write_json
from fairsweep.analysis.records.learner_records import (
    placement_table,
    read_audit,
    read_placement,
    read_shard_predictions,
    write_audit,
    write_placement,
    write_shard_predictions,
)
from fairsweep.analysis.records.prediction_records import (
    read_membership,
    read_predictions,
    write_membership,
    write_predictions,
)
from fairsweep.analysis.records.training_records import read_training, write_training
from fairsweep.datasets.selection.imbalance import TrainingPlan
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.trainables.trial.folder_transaction import FolderTransaction, recover
from fairsweep.trainables.trial.forgetting import (
    DATASET_NOW,
    ForgettingError,
    alone,
    check_can_forget,
    current_dataset,
    finish_former,
    last_iteration,
    metrics_now,
)
from fairsweep.trainables.trial.request_log import REQUEST_KEY, REQUEST_LOG, RequestLog
from fairsweep.trainables.trial.state import TrialStateFile
from fairsweep.trainables.trial.trial_data import count_training, hash_sets, open_dataset
from fairsweep.trainables.unlearning.training_ledger import TRAININGS, without_contents

Ids = NDArray[np.int64]
_HASHES = "hashes"


def erase_from_trial(folder: Path, ids: Ids, dataset: Path, content_hash: str) -> None:
    """Purge a trial of examples that it has forgotten.

    Weights and checkpoints were replaced when they were forgotten. Here their ids go from the placement (a number below
    0 keeps the place, which a private learner's sampling rates need) and from the predictions, and all that models told
    which saw them: earlier evaluations, training losses, metrics. The training set is counted anew. The key of the
    request log is thrown away, hashes of ids go (see `hash_again`), and from now on the trial reads the new version of
    the dataset. All of it or nothing; a second call changes nothing, but finishes a first that was cut short.

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
        there = open_dataset(dataset, content_hash)
        named = (content_hash, there.recorded_hash(check_can_forget(folder).mode))
        if current_dataset(folder)[1] not in named:
            _erase(folder, ids, there, dataset)
        TrialStateFile(folder).mark({"metrics": metrics_now(folder), "traceback": None})


def _erase(folder: Path, ids: Ids, there: PreparedDataset, path: Path) -> None:
    config, placed = check_can_forget(folder), read_placement(folder / PLACEMENT)
    log = RequestLog(folder, config.mode)
    known, deleted = placed.column("id").to_numpy(), placed.column("deleted").to_numpy()
    gone = np.isin(known, ids)
    _check_forgotten(folder, int((gone & ~deleted).sum()))
    nameless = known.copy()
    nameless[gone] = min(0, int(known.min())) - 1 - np.arange(int(gone.sum()))
    transaction = FolderTransaction(folder)
    shard, part = placed.column("shard").to_numpy(), placed.column("slice").to_numpy()
    write_placement(transaction.stage(PLACEMENT), placement_table(nameless, shard, part, deleted))
    _stage_predictions(transaction, folder, ids)
    _stage_last_evaluation(transaction, folder)
    named = np.sort(nameless[nameless >= 0])
    counted = count_training(there, TrainingPlan(ids=named, rows=there.rows_of(named)), config)
    data = read_json(folder / DATA) | counted | {_HASHES: {}}
    write_json(transaction.stage(DATA), without_private(DATA, data) if config.mode == "release" else data)
    if (folder / TRAININGS).exists():
        transaction.stage(TRAININGS).write_bytes(without_contents(folder))
    # The content hash would tell a training set from another that differs in one person.
    where = {"path": str(path.resolve()), "content_hash": there.recorded_hash(config.mode)}
    write_json(transaction.stage(DATASET_NOW), {"dataset": where})
    number = max([entry["number"] for entry in log.entries()], default=1)
    log.write_with(transaction.stage(REQUEST_LOG), "erased", number, erased=int(gone.sum()))
    transaction.remove(REQUEST_KEY)
    transaction.commit()


def drop_predictions(folder: Path, ids: Ids) -> None:
    """Take ids out of predictions and audits of a trial that was trained on them, or tested, and still is."""
    recover(folder)
    transaction = FolderTransaction(folder)
    _stage_predictions(transaction, folder, ids)
    transaction.commit()


def hash_again(folder: Path, key: bytes | None, training: Ids | None) -> None:
    """Write the hashes of a trial's sets of ids anew, under another key.

    Args:
        folder: The trial's folder.
        key: The new key; None leaves all hashes out.
        training: int64 [n], the ids that it was trained on, as far as they are known by name; None leaves their hash
            out.
    """
    try:
        data = read_json(folder / DATA)
    except (FileNotFoundError, RecordError):
        return  # a trial that starts, or is set aside, writes it anew
    remove_temporary(folder, DATA)  # of a call that was cut short
    sets = {} if training is None else {"training": training}
    with suppress(FileNotFoundError, RecordError):
        table = read_predictions(folder / PREDICTIONS)
        for split in ("validation", "test"):
            sets[split] = np.unique(table.filter(pc.equal(table.column("split"), split)).column("id").to_numpy())
    rest = {name: value for name, value in data.items() if name != _HASHES}
    if key and data.get(_HASHES) is not None:  # a release has none
        rest[_HASHES] = hash_sets(sets, key)
    write_json(folder / DATA, rest)


def named_ids(folder: Path) -> Ids:
    """Return the ids that a trial's placement names; those that were erased have numbers below 0."""
    ids: Ids = read_placement(folder / PLACEMENT).column("id").to_numpy()
    return ids[ids >= 0]


def former_hashes(folder: Path) -> frozenset[str]:
    """Return the hashes of sets of ids in a trial's records."""
    try:
        return frozenset(map(str, (read_json(folder / DATA).get(_HASHES) or {}).values()))
    except (FileNotFoundError, RecordError):
        return frozenset()


def _stage_predictions(transaction: FolderTransaction, folder: Path, ids: Ids) -> None:
    for name, column, read, write in (
        (PREDICTIONS, "id", read_predictions, write_predictions),
        (SHARD_PREDICTIONS, "id", read_shard_predictions, _write_by_shard),
        (MEMBERSHIP, "id", read_membership, write_membership),
        (AUDIT, "unit", read_audit, write_audit),
    ):
        try:
            table = read(folder / name)
        except (FileNotFoundError, RecordError):
            continue
        if name == AUDIT and read_json(folder / PRIVACY).get("unit") != "example":
            continue  # numbers of clients
        kept = table.filter(pc.invert(pc.is_in(table.column(column), pa.array(ids))))
        if len(kept) < len(table):
            write(transaction.stage(name), kept)


def _write_by_shard(path: Path, table: pa.Table) -> None:
    shards = sorted(set(table.column("shard").to_pylist()))
    write_shard_predictions(path, [table.filter(pc.equal(table.column("shard"), shard)) for shard in shards])


def _stage_last_evaluation(transaction: FolderTransaction, folder: Path) -> None:
    """Keep of evaluations and training what the models of now tell, and no iteration that is not there any more."""
    cells = read_cells(folder / CELLS)
    last = last_iteration(cells)
    words = list(cells.vocabularies.values())
    kept = cells.table.filter(pc.equal(cells.table.column("iteration"), last))
    write_cells(transaction.stage(CELLS), kept, words, cells.label)
    with suppress(FileNotFoundError):
        training = read_training(folder / TRAINING)
        write_training(transaction.stage(TRAINING), training.slice(0, 0))
    cost = read_json(folder / COST)
    for request in cost["requests"]:
        request["iteration"] = request["iteration"] if request["iteration"] == last else 0
    write_json(transaction.stage(COST), cost)


def _check_forgotten(folder: Path, remembered: int) -> None:
    if remembered:
        raise ForgettingError(
            f"{folder.name} must forget an example before it is erased, but has not forgotten {remembered} of them: "
            "run `fairsweep forget` on it"
        )
