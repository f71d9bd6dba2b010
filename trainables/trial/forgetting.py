"""Forgetting on a trial that has ended: retrain, evaluate, then replace model and records at once.

A request changes nothing that is read until it commits: new checkpoints lie beside the old ones under names of their
own, and model, records and the list of who was deleted change together. A crash leaves the old model or the new one,
and the log says which.

Requests that depend on the model that was published: the guarantee given the map holds for any set of deleted ids, but
somebody who chooses ids by looking at the model can choose by the randomness of the training too; what then remains is
not distributed as a model that never saw them, unless the training is private (Gupta et al. 2021, arXiv 2106.04378).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from fairsweep.analysis.records.cell_records import CellsFile, group_column, read_cells, write_cells
from fairsweep.analysis.records.file_names import (
    CELLS,
    CONFIG,
    COST,
    MEMBERSHIP,
    PLACEMENT,
    PREDICTIONS,
    PRIVACY,
    SHARD_PREDICTIONS,
    WEIGHTS,
)
from fairsweep.analysis.records.files import RecordError, read_json, remove_temporary, write_json
from fairsweep.analysis.records.learner_records import read_placement, write_shard_predictions
from fairsweep.analysis.records.prediction_records import write_membership, write_predictions
from fairsweep.analysis.records.trial_folder import TrialFolder
from fairsweep.datasets.feeds.feed_choice import FeedChoice
from fairsweep.datasets.selection.imbalance import TrainingPlan
from fairsweep.datasets.selection.randomness import KEY_BYTES, derive, seed_key
from fairsweep.trainables.learners import LEARNERS, forgetful
from fairsweep.trainables.learning.learner import TrialKeys
from fairsweep.trainables.trial.checkpoint import save_weights
from fairsweep.trainables.trial.folder_transaction import FolderTransaction, recover
from fairsweep.trainables.trial.request_log import REQUEST_LOG, RequestLog
from fairsweep.trainables.trial.state import TrialStateFile
from fairsweep.trainables.trial.trial_config import TrialConfig
from fairsweep.trainables.trial.trial_data import TrialData, learning_task, vocabularies
from fairsweep.trainables.unlearning.forgetful_learner import ForgetfulLearner
from fairsweep.trainables.unlearning.known_examples import UnknownIdsError
from fairsweep.trainables.unlearning.sisa import SLICES
from fairsweep.trainables.unlearning.unlearning_costs import ServedRequest

DATASET_NOW = "erased.json"
_LOCK = "forget.lock"


class ForgettingError(ValueError):
    """A request that cannot be served on this trial; the message has the reason and the remedy."""


@dataclass(frozen=True)
class Forgotten:
    """What a request did.

    Attributes:
        folder: The trial's folder.
        asked: Ids in the request.
        before: Of these, how many had been deleted before.
        served: What was done and what it cost; None where nothing was left to do.
    """

    folder: Path
    asked: int
    before: int
    served: ServedRequest | None


def forget(folder: Path, ids: NDArray[np.int64], *, device: str = "cpu", wait_seconds: float = 0.0) -> Forgotten:
    """Serve one request on a trial that has ended: it is done, or a stopper or a scheduler ended it.

    Args:
        folder: The trial's folder.
        ids: int64 [k]; those that were deleted before make no difference.
        device: Where training happens: of the type that the trial was trained on, for weights equal to the last bit.
        wait_seconds: How long to wait for another request that runs.

    Returns:
        What was done.

    Raises:
        ForgettingError: If the trial cannot forget, has not ended, or another request runs.
        UnknownIdsError: If ids are not in its training set; they are listed, and nothing is changed.
        DatasetError: If the dataset is missing or has changed.
    """
    config = check_can_forget(folder)
    with alone(folder, wait_seconds):
        finish_former(folder)
        log, distinct = RequestLog(folder, config.mode), np.unique(ids)
        new = _not_deleted(folder, distinct)
        begun = log.find_unfinished(new) if len(new) else None
        # Every request draws from a run of its own; one that was cut short does again just what it would have done.
        run = 1 + (len(log.entries()) if begun is None else begun)
        opened = _Opened.of(folder, config, torch.device(device), run)
        try:
            served = opened.serve(new, log, is_new=begun is None) if len(new) else None
        finally:
            opened.close()
    return Forgotten(folder, len(distinct), len(distinct) - len(new), served)


@dataclass(frozen=True)
class _Opened:
    """A trial that has ended, with its learner as it was at the end."""

    folder: Path
    config: TrialConfig
    data: TrialData
    learner: ForgetfulLearner

    @classmethod
    def of(cls, folder: Path, config: TrialConfig, device: torch.device, run: int) -> _Opened:
        """Build the learner and loads what the trial's records say of it."""
        placed, cost, state = (
            read_placement(folder / PLACEMENT),
            read_json(folder / COST),
            TrialStateFile(folder).read(),
        )
        kind = forgetful(config.learner.kind, getattr(config.learner, "source", None))
        if kind is None:
            raise ForgettingError(_cannot(config.learner.name, config.learner.kind))
        data = _data_now(folder, config, placed, device)
        try:
            # Erased examples have an id of their own and the row of another: nothing reads it.
            task = learning_task(config, data, _keys(config, run), device, folder)
            known = {} if state is None else state.secrets
            task = replace(task, ids=data.training.ids, former_secrets=tuple(known))
            if (
                "trained" not in cost and state is not None
            ):  # an earlier version, where no trial that was cut short forgot
                cost["trained"] = min(state.iteration, cost["slices"])
            learner = kind.reopened(config.learner, task, placed, cost)
            learner.purge()  # what a request that was cut short left behind
        except BaseException:
            data.close()
            raise
        return cls(folder, config, data, learner)

    def serve(self, new: NDArray[np.int64], log: RequestLog, *, is_new: bool) -> ServedRequest:
        """Retrains, evaluates and commits; the old checkpoints go last."""
        number = sum(entry["event"] == "asked" for entry in log.entries()) + is_new
        if is_new:
            log.append("asked", number, ids=log.hashes(new))
        cells = read_cells(self.folder / CELLS)
        iteration = 1 + max(cells.table.column("iteration").to_pylist())
        served = self.learner.forget(new, iteration=iteration, purge=False)
        transaction = FolderTransaction(self.folder)
        for name in self.learner.superseded():  # with the rest: who finishes it after a crash deletes them too
            transaction.remove(name)
        self._stage(transaction, cells.table, iteration)
        cost = {name: value for name, value in served.record().items() if name not in ("number", "asked")}
        log.write_with(transaction.stage(REQUEST_LOG), "done", number, cost=cost)
        transaction.commit()
        _count_iterations(self.folder)
        return served

    def close(self) -> None:
        """Lets go of workers and feeds."""
        self.learner.close()
        self.data.close()

    def _stage(self, transaction: FolderTransaction, cells: pa.Table, iteration: int) -> None:
        """Write the new model and its records beside the old ones."""
        sets = dict(self.data.evaluations)
        if self.data.subset is not None and (kept := self.data.subset.without(self.learner.forgotten())) is not None:
            sets["train"] = kept
        values = {name: s.log_probabilities(self.learner, self.data.feeds[name]) for name, s in sets.items()}
        now = [s.cells(iteration, values[name]) for name, s in self.data.evaluations.items()]
        table = pa.concat_tables([cells.replace_schema_metadata(None), *(t.cast(cells.schema) for t in now)])
        words = vocabularies(self.data.dataset, self.config)
        write_cells(transaction.stage(CELLS), table, words, self.config.dataset.label)
        predictions = [s.predictions(iteration, values[name]) for name, s in sets.items()]
        write_predictions(transaction.stage(PREDICTIONS), pa.concat_tables(predictions))
        for name, write in self.learner.files().items():
            write(transaction.stage(name))
        test, feed = self.data.evaluations["test"], self.data.feeds["test"]
        by_shard = [test.predictions(iteration, test.log_probabilities(p, feed)) for p in self.learner.parts()]
        write_shard_predictions(transaction.stage(SHARD_PREDICTIONS), by_shard)
        gone, keep = self.learner.forgotten(), self.config.learner.predicts_forgotten
        membership = self.data.membership(self.learner, iteration, gone, keep_gone=keep)
        if membership is not None:
            write_membership(transaction.stage(MEMBERSHIP), membership)
        before = read_json(self.folder / PRIVACY) if (self.folder / PRIVACY).exists() else {}
        privacy = self.learner.privacy(before.get("charged_steps"))
        if privacy is not None:
            write_json(transaction.stage(PRIVACY), privacy.model_dump(mode="json"))
        if (self.folder / WEIGHTS).exists():
            save_weights(transaction.stage(WEIGHTS), self.learner.weights())


def _cannot(name: str, kind: object) -> str:
    kinds = " or ".join(repr(known) for known in LEARNERS if forgetful(known) is not None)
    return (
        f"only learners of kind {kinds} can forget, but {name} was trained by {kind!r}: its whole training would have "
        "to be done again"
    )


def check_can_forget(folder: Path) -> TrialConfig:
    """Return the config of a trial that has ended and can forget.

    Raises:
        ForgettingError: If it cannot.
    """
    trial = TrialFolder(folder)
    content, state = trial.config, trial.state
    if content is None:
        raise ForgettingError(
            f"{folder} must be the folder of a trial, but has no {CONFIG}: name one of runs/NAME/trials/…"
        )
    if forgetful(trial.kind, trial.own_source) is None:
        raise ForgettingError(_cannot(folder.name, trial.kind))
    if state is None or not state.ended:
        by = "" if state is None or state.by is None else f" by the {state.by}"
        raise ForgettingError(
            f"{folder.name} must have ended before it can forget, but is "
            f"{'unknown' if state is None else state.state}{by}: finish it with `fairsweep resume`"
        )
    try:
        return TrialConfig.from_record(content)
    except ValueError as error:
        raise RecordError(f"{folder / CONFIG} is damaged: {error}") from error


@contextmanager
def alone(folder: Path, wait_seconds: float) -> Iterator[None]:
    """Lets one request at a time into a trial's folder.

    Raises:
        ForgettingError: If another one runs for longer than the time to wait.
    """
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=wait_seconds)
    except Timeout as error:
        raise ForgettingError(
            f"another request runs on {folder.name}: wait until it is done, or give --wait SECONDS"
        ) from error
    try:
        yield
    finally:
        lock.release()


def finish_former(folder: Path) -> None:
    """Finishes a request that had committed when it was cut short; drops what one had prepared that had not."""
    recover(folder)
    for place in (folder, folder / SLICES):
        remove_temporary(place)
    _count_iterations(folder)


def _count_iterations(folder: Path) -> None:
    """Brings the trial's state to its records, which have one iteration more for each request."""
    file, iteration = TrialStateFile(folder), last_iteration(read_cells(folder / CELLS))
    state = file.read()
    if state is not None and state.ended and state.iteration < iteration:
        file.mark({"iteration": iteration, "iterations": iteration, "metrics": metrics_now(folder)})


def metrics_now(folder: Path) -> Mapping[str, float | None]:
    """Return what a trial's state says of the models of now."""
    state, cells = TrialStateFile(folder).read(), read_cells(folder / CELLS)
    table, iteration = cells.table, last_iteration(cells)
    is_last = pc.equal(table.column("iteration"), iteration)
    last = table.filter(pc.and_(is_last, pc.equal(table.column("split"), "validation")))
    count = last.column("count").to_numpy()
    right = count * (last.column("label").to_numpy() == last.column("prediction").to_numpy())
    codes = [last.column(group_column(group)).to_numpy() for group in cells.groups]
    shares = [
        right[column == value].sum() / count[column == value].sum() for column in codes for value in np.unique(column)
    ]
    metrics = dict(state.metrics) if state is not None else {}
    metrics |= {"iteration": iteration, "iterations": iteration}
    metrics |= {"loss": None, "accuracy": float(right.sum() / count.sum()) if count.sum() else None}
    metrics["predicted_classes"] = len(np.unique(last.column("prediction").to_numpy()[count > 0]))
    with suppress(FileNotFoundError, RecordError, KeyError):
        metrics["epsilon"] = float(read_json(folder / PRIVACY)["epsilon"]["pld"])
    with suppress(FileNotFoundError, RecordError, KeyError):
        cost = read_json(folder / COST)
        metrics["steps"] = cost["training"]["steps"] + sum(request["steps"] for request in cost["requests"])
    return metrics | {"worst_group": float(min(shares)) if shares else None}


def last_iteration(cells: CellsFile) -> int:
    """Return the iteration of the model of now."""
    return int(max(cells.table.column("iteration").to_pylist()))


def _not_deleted(folder: Path, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    placed = read_placement(folder / PLACEMENT)
    known = _column(placed, "id")
    unknown = ids[~np.isin(ids, known)]
    if len(unknown):
        raise UnknownIdsError(unknown)
    return ids[~np.isin(ids, known[_column(placed, "deleted")])]


def _keys(config: TrialConfig, run: int) -> TrialKeys:
    """Return the trial's keys; every request has a run of its own, so that no noise is ever drawn twice."""
    secret = os.urandom(KEY_BYTES)  # of a release the first one is gone, and nothing needs it
    if config.mode == "research":
        secret = derive(seed_key(config.key, "trial secrets"), f"trial {config.trial}")
    return config.seeds.keys(secret, run)


def current_dataset(folder: Path) -> tuple[Path, str]:
    """Return path and content hash of the dataset that a trial reads: its own, or after an erasure the new version.

    Raises:
        ForgettingError: If the folder is not of a trial that can forget.
    """
    if (folder / DATASET_NOW).exists():
        now = read_json(folder / DATASET_NOW)["dataset"]
        return Path(now["path"]), str(now["content_hash"])
    reference = check_can_forget(folder).dataset
    return reference.path, reference.content_hash


def _data_now(folder: Path, config: TrialConfig, placed: pa.Table, device: torch.device) -> TrialData:
    """Open the data; after an erasure that is the new version of the dataset.

    Examples that were erased from it have ids below 0 in the placement: they keep their places and are never read.
    """
    path, content_hash = current_dataset(folder)
    reference = config.dataset.model_copy(update={"path": path, "content_hash": content_hash})
    # The training set is that of the placement; the config's own draw may ask for more than an erasure has left.
    imbalance = config.imbalance if content_hash == config.dataset.content_hash else None
    there = config.model_copy(update={"dataset": reference, "imbalance": imbalance})
    data = TrialData.open(there, FeedChoice(), device)
    ids = np.sort(_column(placed, "id"))
    rows = np.zeros(len(ids), dtype=np.int64)
    rows[ids >= 0] = data.dataset.rows_of(ids[ids >= 0])
    subset = data.subset
    if subset is not None:
        subset = subset.without(np.setdiff1d(subset.ids, ids))
    return replace(data, training=TrainingPlan(rows=rows, ids=ids), subset=subset)


def _column(table: pa.Table, name: str) -> NDArray[Any]:
    values: NDArray[Any] = table.column(name).to_numpy()
    return values
