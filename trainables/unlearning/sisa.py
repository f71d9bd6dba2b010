"""SISA: several models, each trained on its own shard, slice by slice, so that deletions are cheap and exact.

References:
    Bourtoule et al. 2021, "Machine unlearning", arXiv 1912.03817.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import nn

from fairsweep.analysis.records.file_names import COST, PLACEMENT
from fairsweep.analysis.records.files import FORMAT_VERSION, write_json
from fairsweep.analysis.records.learner_records import placement_table, write_placement
from fairsweep.analysis.records.trial_folder import TrialFolder
from fairsweep.trainables.auditing.training_audit import state_canaries
from fairsweep.trainables.learning.iteration_report import IterationReport
from fairsweep.trainables.learning.learner import LearningTask
from fairsweep.trainables.learning.learner_config import LearnerConfig
from fairsweep.trainables.models.network import Network
from fairsweep.trainables.models.optimizers import SgdOptimizer
from fairsweep.trainables.privacy.privacy_statement import Mode, PrivacyStatement
from fairsweep.trainables.unlearning.aggregation import accuracy_of, aggregate, mixture_of
from fairsweep.trainables.unlearning.forgetful_learner import ForgetfulLearner
from fairsweep.trainables.unlearning.known_examples import Population
from fairsweep.trainables.unlearning.placement import Placement
from fairsweep.trainables.unlearning.request_stream import Stream, settle_by_models, settle_stream
from fairsweep.trainables.unlearning.shard_actors import make_pool
from fairsweep.trainables.unlearning.shard_canaries import ShardCanaries
from fairsweep.trainables.unlearning.shards import ShardPool, ShardWork, SliceJob, initial_weights
from fairsweep.trainables.unlearning.sisa_config import SisaConfig, exactness, examine, inner_of
from fairsweep.trainables.unlearning.sisa_privacy import SisaSpending, state_privacy
from fairsweep.trainables.unlearning.slice_history import SliceHistory, recipe_of
from fairsweep.trainables.unlearning.slice_store import FolderStore, MemoryStore, SliceCost, SliceStore, Weights
from fairsweep.trainables.unlearning.training_ledger import TrainingLedger
from fairsweep.trainables.unlearning.unlearning_costs import (
    ServedRequest,
    Work,
    full_retraining,
    recorded_weights,
    shard_weights,
    training_report,
)

SLICES = "slices"

MakePool = Callable[[SisaConfig, LearningTask, SliceStore], ShardPool]


class Sisa(ForgetfulLearner):
    """Trains shards slice by slice, then serves requests for deletion; see `Learner` for what it offers.

    Iteration r <= R trains slice r of every shard; each later one serves a batch of requests.

    Args:
        config: How.
        task: On what.
        make_pool: Makes what trains the shards: workers where the trial has bundles for them.
        placement: The frozen map; None makes it from the config.

    Attributes:
        placement: The frozen map.
        population: Who is in the training set.
    """

    config = SisaConfig
    final_weights = "weights of every shard"

    def __init__(
        self,
        config: SisaConfig,
        task: LearningTask,
        make_pool: MakePool = make_pool,
        placement: Placement | None = None,
    ) -> None:
        super().__init__(config, task)
        self.iterations = config.slices + config.requests.batches
        self._config = config
        self._task = task
        self.population = Population.of(task)
        self.placement = placement or examine(config, self.population, task.keys.data)
        self._inner = inner_of(config, task.size)
        self._canaries = ShardCanaries.of(config.audit, task, self.population)
        self._history = SliceHistory(
            self.placement, self.population.ids, recipe_of(config, task), nominal=config.is_private
        )
        self._store: SliceStore = MemoryStore() if task.folder is None else FolderStore(task.folder / SLICES)
        self._ledger = TrainingLedger(config.shards, config.slices, task.folder if config.is_private else None)
        self._pool = make_pool(config, task, self._store)
        self._threads = config.shard_resources.threads if config.shard_resources else torch.get_num_threads()
        self._requests: Stream | None = None
        if not config.requests.looks_at_models:
            self._requests = settle_stream(config.requests, self.population, task.keys.data)
        self._served: list[ServedRequest] = []
        self._given = config.requests
        self._streamed = 0
        self._trained = config.slices
        self._first: Work | None = None
        self._models: dict[int, tuple[str, Network]] = {}
        self._accuracies: dict[str, float] = {}

    @property
    def served(self) -> Sequence[ServedRequest]:
        """The requests served so far, with their costs."""
        return tuple(self._served)

    @classmethod
    def trained_network(
        cls,
        config: LearnerConfig,
        weights: Mapping[str, torch.Tensor],
        build: Callable[[Mapping[str, torch.Tensor]], nn.Module],
        records: TrialFolder,
    ) -> nn.Module:
        """Return all shards with their aggregation; see `Learner.trained_network`."""
        sisa = SisaConfig.model_validate(config)
        return mixture_of(sisa.aggregation, recorded_weights(sisa, records), weights, build)

    @classmethod
    def reopened(cls, config: SisaConfig, task: LearningTask, placed: pa.Table, cost: Mapping[str, Any]) -> Sisa:
        """Build the learner as it was at the end of its trial and of the requests since."""
        columns = {name: placed.column(name).to_numpy() for name in ("id", "shard", "slice", "deleted")}
        frozen = Placement.recorded(config, columns, Population.of(task).ids)
        quiet = config.model_copy(update={"requests": type(config.requests)()})
        learner = cls(quiet, task, placement=frozen)
        torch.set_num_threads(int(cost["threads"]))  # a shard's weights depend on it in the last bit
        deleted = columns["id"][columns["deleted"]]
        learner._trained = cost.get("trained", config.slices)
        state = {
            "iteration": learner._trained,
            "history": {"deleted": torch.from_numpy(deleted.copy()), "runs": torch.tensor(cost["retrainings"])},
            "requests": None,
            "first": cost["training"],
            "served": cost["requests"],
            "streamed": cost.get("streamed", min(len(cost["requests"]), config.requests.batches)),
            "slices": {},
        }
        learner.load({"kind": learner.kind, **state})
        learner._given = config.requests
        return learner

    def _iterate(self) -> IterationReport:
        """Train the next slice of every shard, or serve the next batch of requests."""
        before = self._names()
        if self.iteration < self._config.slices:
            self.iteration += 1
            costs = self._train(before)
            if self.iteration == self._config.slices:
                self._first = self._first_training()
        else:
            batch = self._stream()[self.iteration - self._config.slices]
            self.iteration += 1
            costs = self._forget(batch, before, self.iteration)
            self._streamed += 1
        return training_report(self.iteration, costs, is_told=self._task.diagnostics)

    def forget(self, ids: NDArray[np.int64], *, iteration: int = 0, purge: bool = True) -> ServedRequest:
        """Serve a request outside the stream: rolls back and retrains every shard that saw the examples."""
        if self.iteration < self._trained:
            raise RuntimeError(f"forgetting starts after all {self._trained} slices are trained: finish training first")
        self._forget(ids, self._names(), iteration, purge=purge)
        return self._served[-1]

    def purge(self) -> None:
        """Delete every checkpoint that is not of the current models: those that saw deleted examples."""
        self._store.keep(self._names())

    def superseded(self) -> list[str]:
        """Return the files that `purge` deletes, relative to the trial's folder."""
        return [f"{SLICES}/{path.name}" for path in self._store.others(self._names())]

    def predict(self, images_BHWC: np.ndarray) -> torch.Tensor:
        """Map uint8 [B, H, W, C] to logits, float32 [B, K] on the CPU, whose softmax is the aggregate."""
        logits = self.predict_shards(images_BHWC)
        return aggregate(self._config.aggregation, logits, torch.from_numpy(self._weights()))

    def predict_shards(self, images_BHWC: np.ndarray) -> torch.Tensor:
        """Map uint8 [B, H, W, C] to each shard's logits, float32 [S, B, K] on the CPU."""
        return torch.stack([part.predict(images_BHWC) for part in self.parts()])

    def parts(self) -> list[Network]:
        """Return the shards' models, each of which predicts by itself."""
        return [self._model(shard) for shard in range(self._config.shards)]

    def _state(self) -> dict[str, Any]:
        """Return what a resume needs; checkpoints of slices are part of it only where there is no folder."""
        requests = None if self._requests is None else [torch.from_numpy(batch.copy()) for batch in self._requests]
        return {
            "history": self._history.state(),
            "requests": requests if self._config.requests.looks_at_models else None,
            "first": None if self._first is None else asdict(self._first),
            "served": [request.record() for request in self._served],
            "streamed": self._streamed,
            "trainings": self._ledger.state(),
            "slices": self._store.state(),
        }

    def _load(self, state: Mapping[str, Any]) -> None:
        self._history.load(state["history"])
        if state["requests"] is not None:
            self._requests = [batch.numpy().copy() for batch in state["requests"]]
        self._first = None if state["first"] is None else Work.from_record(state["first"])
        self._served = [ServedRequest.from_record(entry) for entry in state["served"]]
        self._streamed = int(state.get("streamed", len(self._served)))
        self._store.load(state["slices"])
        self._ledger.load(state.get("trainings", ()))
        if self._ledger.is_empty and self._config.is_private:  # an earlier version had none
            self._ledger.assume((1 + self._history.runs) * (np.arange(self._config.slices) < self.iteration))
        self._models.clear()

    def privacy(self, charged_steps: float | None = None) -> PrivacyStatement | None:
        """Return what has been spent, by slice; None without a private inner learner."""
        if not self._config.is_private:
            return None
        mode: Mode = "research" if self._task.diagnostics else "release"
        if charged_steps is not None:
            self._charge_plan()
        counts, lost = self._ledger.counts(), self._ledger.unknown(self._task.former_secrets)
        # A start that is lost trained at most what this one has, and may have trained every slice.
        counts += lost * np.maximum(counts, 1)
        spent = SisaSpending(counts, lost, self._streamed, len(self._served) - self._streamed)
        stated = self._config.model_copy(update={"requests": self._given})
        statement = state_privacy(stated, self.placement, spent, mode, self.population.groups)
        if self._canaries is not None:
            statement = state_canaries(statement, len(self._canaries.canaries.positions), len(self.population))
        return statement.charged_in_full(charged_steps is not None)

    def _charge_plan(self) -> None:
        """Charge all that the config would have trained, where when the trial ended depended on private models."""
        planned = SliceHistory(self.placement, self.population.ids, "", nominal=True)
        planned.load(self._history.state())
        for batch in (self._requests or [])[self._streamed :]:
            planned.delete(self.population.positions(batch))
        self._ledger.top_up(1 + planned.runs)

    def weights(self) -> dict[str, torch.Tensor]:
        """Return a copy of every shard's ``state_dict`` on the CPU; names begin with ``shards.NUMBER.``."""
        return {
            f"shards.{shard}.{name}": value
            for shard in range(self._config.shards)
            for name, value in self._model(shard).weights().items()
        }

    def shard_weights(self, shard: int) -> Weights:
        """Return a copy of one shard's ``state_dict`` on the CPU."""
        return self._model(shard).weights()

    def alive(self) -> NDArray[np.bool_]:
        """Return which examples of the population have not been deleted, bool [n]."""
        return self._history.alive.copy()

    def close(self) -> None:
        """Lets go of the workers; may be called twice."""
        self._pool.close()

    def files(self) -> dict[str, Callable[[Path], None]]:
        """Return what writes the learner's own records: what forgetting cost, and who sits where."""
        placed = self.placement
        table = placement_table(self.population.ids, placed.shard + 1, placed.slice + 1, ~self._history.alive)
        jobs = [job for shard in range(self._config.shards) for job in self._chain(shard)]
        audited = {} if self._canaries is None else self._canaries.files(jobs, self._store, self._history.alive)
        return {
            COST: lambda path: write_json(path, {"format_version": FORMAT_VERSION, **self.record()}),
            PLACEMENT: lambda path: write_placement(path, table),
            **audited,
        }

    def record(self) -> dict[str, Any]:
        """Return what ``cost.json`` holds: the first training, and every request beside a full retraining."""
        first = self._first_training()
        return {
            "shards": self._config.shards,
            "slices": self._config.slices,
            "epochs": self._config.slice_epochs,
            "strategy": self._config.strategy,
            "exactness": exactness(self._config, self._task.drawn_by),
            "threads": self._threads,
            "training": asdict(first),
            "retrainings": self._history.runs.tolist(),
            "requests": [request.record() for request in self._served],
            "streamed": self._streamed,
            "trained": min(self.iteration, self._config.slices),
            "aggregate_weights": self._weights().tolist(),
        }

    # --- inside ---

    def _train(self, before: frozenset[str]) -> list[SliceCost]:
        """Trains what is not there yet of the slices up to this iteration; returns the costs of what is new."""
        chains = [self._chain(shard) for shard in range(self._config.shards)]
        work = [line for chain in chains if (line := self._missing(chain)) is not None]
        # The longest first: with fewer places than shards, waves then end together.
        self._run(sorted(work, key=lambda line: -line.examples))
        names = [job.name for chain in chains for job in chain]
        self._accuracies = {name: value for name, value in self._accuracies.items() if name in names}
        return [self._store.cost(name) or SliceCost() for name in names if name not in before]

    def _run(self, work: Sequence[ShardWork]) -> None:
        """Train; with a private inner learner every training is charged before its first step."""
        if self._config.is_private:
            self._ledger.charge((job for line in work for job in line.jobs), self._task.keys)
        self._pool.train(work if self._canaries is None else [self._canaries.placed(line) for line in work])

    def _forget(
        self, ids: NDArray[np.int64], before: frozenset[str], iteration: int, *, purge: bool = True
    ) -> list[SliceCost]:
        first = self._first_training()
        left = int(self._history.alive.sum())
        affected = self._history.delete(self.population.positions(ids))
        costs = self._train(before)
        if purge:
            self.purge()
        full = full_retraining(
            self._history.sizes()[:, : self.iteration], self._config.slice_epochs, self._inner.batch_size, first
        )
        request = ServedRequest(
            number=len(self._served) + 1,
            iteration=iteration,
            asked=len(ids),
            deleted=left - int(self._history.alive.sum()),
            shards={shard + 1: part + 1 for shard, part in affected.items()},
            work=Work.of(costs),
            full=full,
        )
        self._served.append(request)
        return costs

    def _chain(self, shard: int) -> tuple[SliceJob, ...]:
        """Return the slices of a shard that are trained by now, as jobs."""
        return self._history.chain(shard)[: min(self.iteration, self._config.slices)]

    def _names(self) -> frozenset[str]:
        return frozenset(job.name for shard in range(self._config.shards) for job in self._chain(shard))

    def _missing(self, chain: Sequence[SliceJob]) -> ShardWork | None:
        """Return what has to be trained for the model of a chain to be there; nothing where it is loaded."""
        held = self._models.get(chain[-1].shard) if chain else None
        if not chain or (held is not None and held[0] == chain[-1].name):
            return None
        return ShardWork.missing(chain, self._store)

    def _model(self, shard: int) -> Network:
        """Return the current model of a shard, loaded; a checkpoint that is missing or damaged is trained again."""
        chain = self._chain(shard)
        name = chain[-1].name if chain else ""
        held = self._models.get(shard)
        if held is not None and held[0] == name:
            return held[1]
        trained = self._store.get(name) if chain else None
        if chain and trained is None:
            work = self._missing(chain)
            self._run([work] if work is not None else [])
            trained = self._store.get(name)
            if trained is None:
                raise OSError(f"the checkpoint {name} cannot be read back: is the disk full or damaged?")
        weights = initial_weights(self._task, shard) if trained is None else trained.weights
        network = self._network() if held is None else held[1]
        network.load_weights(weights)
        self._models[shard] = (name, network)
        return network

    def _network(self) -> Network:
        task = self._task
        key = bytes(32)  # of initial weights that are replaced at once
        return Network(task.model, task.image_shape, task.classes, SgdOptimizer(), 1, key, task.device, tail=task.tail)

    def _weights(self) -> NDArray[np.float64]:
        """Return the shards' weights in the aggregate, float64 [S]; a shard without examples has none."""
        done = min(self.iteration, self._config.slices)
        left = self._history.sizes()[:, done - 1] if done else np.ones(self._config.shards, dtype=np.int64)
        return shard_weights(self._config, left, self._accuracy if done else None)

    def _accuracy(self, shard: int) -> float:
        """Return a shard's accuracy on the validation split, measured once for each of its models."""
        name = self._chain(shard)[-1].name
        if name not in self._accuracies:
            self._accuracies[name] = accuracy_of(self._model(shard), self._task)
        return self._accuracies[name]

    def _stream(self) -> Stream:
        """Return the requests; those that look at models are settled when the first training is done, and kept."""
        if self._requests is None:
            requests = self._config.requests
            predict = self._model(requests.shard - 1).predict if requests.by == "influential" else self.predict
            self._requests = settle_by_models(requests, self._task, self.population, self.placement.shard, predict)
        return self._requests

    def _first_training(self) -> Work:
        """Return what the first training cost, as far as it has gone; settled with its last slice."""
        if self._first is not None:
            return self._first
        return Work.of(self._store.cost(name) or SliceCost() for name in self._names())
