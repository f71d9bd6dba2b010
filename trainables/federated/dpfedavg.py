"""DP-FedAvg: Poisson cohorts of clients, clipped updates, Gaussian noise, a constant denominator.

References:
    McMahan et al. 2018, "Learning differentially private recurrent language models", arXiv 1710.06963, algorithm 1 with
    the fixed-denominator estimator (equation 1) and equal weights of all clients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from fairsweep.datasets.selection.partitions import (
    Partition,
    TrainingColumns,
    majority_values,
    partition_clients,
    split_held_out,
)
from fairsweep.trainables.auditing.training_audit import AuditedUnits, TrainingAudit
from fairsweep.trainables.federated.client_fairness import ClientFairness, ClientGroups
from fairsweep.trainables.federated.client_trainer import ClientTrainer, choose_execution
from fairsweep.trainables.federated.cohorts import CohortExamples
from fairsweep.trainables.federated.fedavg_config import DpfedavgConfig, FedavgConfig, FederatedConfig
from fairsweep.trainables.federated.local_training import CohortSums
from fairsweep.trainables.federated.server_optimizers import ServerOptimizer
from fairsweep.trainables.learning.iteration_report import IterationReport
from fairsweep.trainables.learning.learner import LearningTask, SingleModelLearner
from fairsweep.trainables.learning.partition_report import describe_partition
from fairsweep.trainables.models.frozen_body import trained_part
from fairsweep.trainables.models.inputs import ahead
from fairsweep.trainables.models.model import build_model
from fairsweep.trainables.models.network import Network
from fairsweep.trainables.models.optimizers import SgdOptimizer
from fairsweep.trainables.privacy.adaptive_clipping import AdaptiveNorm
from fairsweep.trainables.privacy.clipping import Clipping
from fairsweep.trainables.privacy.plan import PrivacyPlan
from fairsweep.trainables.privacy.privacy_statement import Mode, PrivacyStatement


def training_columns(task: LearningTask) -> TrainingColumns:
    """Return what a task's partition is made from."""
    attributes = {task.label: task.labels, **task.groups, **task.attributes}
    codes = {name: np.asarray(values) for name, values in attributes.items()}
    return TrainingColumns(task.rows, np.asarray(task.labels), codes, task.users)


def make_trainer(config: FederatedConfig, task: LearningTask, execution: str) -> ClientTrainer:
    """Make what trains a task's clients, with a model of its own, for a process beside the learner's."""
    partition = partition_clients(training_columns(task), config.clients, task.keys.data)
    model = build_model(task.model, task.image_shape, task.classes, task.keys.of_weights).to(task.device)
    groups = _group_members(ClientGroups.of(partition, task), task)
    trained, part = split_held_out(partition, config.clients)[0], trained_part(model, task.tail)
    return ClientTrainer(config, task, trained, part, execution, groups)


def _group_members(groups: ClientGroups, task: LearningTask) -> torch.Tensor:
    """Return the groups whose updates are summed: none in release mode."""
    members = groups.as_floats()
    return members if task.diagnostics else members[:0]


class Dpfedavg(SingleModelLearner):
    """Trains one model by federated averaging, with or without privacy; see `Learner` for what it offers.

    Args:
        config: How.
        task: On what.
        plan: The privacy plan, if it was made before; it is verified. None makes it here.

    Attributes:
        plan: The privacy plan: cohorts, clipping, noise and accounting all come from it.
        task: On what.
        partition: Who holds which examples.
        execution: How clients are trained: ``batched`` or ``sequential``.
    """

    config: ClassVar[type[DpfedavgConfig] | type[FedavgConfig]] = DpfedavgConfig

    def __init__(
        self, config: DpfedavgConfig | FedavgConfig, task: LearningTask, plan: PrivacyPlan | None = None
    ) -> None:
        super().__init__(config, task)
        config.check_model(task.model)
        self.partition: Partition = partition_clients(training_columns(task), config.clients, task.keys.data)
        if plan is not None:
            plan.verify(config, len(self.partition))
        self.plan = plan or config.plan(len(self.partition))
        self.iterations = math.ceil(config.rounds / config.rounds_per_iteration)
        self._config, self.task = config, task
        self._trained, held_out = split_held_out(self.partition, config.clients)
        self._network = Network(
            task.model,
            task.image_shape,
            task.classes,
            SgdOptimizer(),
            config.rounds,
            task.keys.of_weights,
            task.device,
            ema=config.ema,
            tail=task.tail,
        )
        self._weights = torch.cat([parameter.detach().flatten() for parameter in self._network.parameters])
        self._server = ServerOptimizer(config.server, len(self._weights), config.rounds, task.device)
        self._cohorts = self.plan.inclusion(task.keys.secret, task.keys.run)
        self._audit = self._make_audit()
        if self._audit is not None:
            self._cohorts = self._audit.sampler
        self._norm = self._adaptive_norm()
        self._groups = ClientGroups.of(self.partition, task)
        self._fairness = ClientFairness(task, self._groups, held_out) if task.diagnostics else None
        self._parts = 1 if task.workers is None else task.workers.count
        self._start(choose_execution(config, task.model, task.device))

    def _make_audit(self) -> TrainingAudit | None:
        """Make the audit whose canaries are clients, if there is one."""
        if not isinstance(self._config, DpfedavgConfig) or self._config.audit is None:
            return None
        task, partition = self.task, self.partition
        groups = {n: majority_values(partition, np.asarray(c)).astype(np.int64) for n, c in task.groups.items()}
        units = AuditedUnits(np.arange(len(partition), dtype=np.int64), groups, task.value_names)
        return TrainingAudit(self._config.audit, units, task, self.plan, self._cohorts, None, self._network.model)

    def _start(self, execution: str) -> None:
        """Make what trains the clients: in this process, or in its workers."""
        self.execution = execution
        if self.task.workers is not None:
            self.task.workers.start(execution)
        groups = _group_members(self._groups, self.task)
        self._trainer = ClientTrainer(self._config, self.task, self._trained, self._network.model, execution, groups)

    def _adaptive_norm(self) -> AdaptiveNorm | None:
        plan = self.plan
        if not isinstance(self._config, DpfedavgConfig) or plan.quantile is None or plan.l2_clip_norm is None:
            return None
        rate = self._config.clipping.learning_rate
        return AdaptiveNorm(plan.l2_clip_norm, plan.quantile, rate, plan.expected_batch_size)

    @property
    def how(self) -> dict[str, Any]:
        """How clients are trained: ``execution``, and ``workers`` besides this process."""
        workers = self.task.workers
        return {"execution": self.execution, "workers": 0 if workers is None else workers.count}

    @property
    def l2_clip_norm(self) -> float | None:
        """The clipping norm of the coming round."""
        return self.plan.l2_clip_norm if self._norm is None else self._norm.l2_clip_norm

    def _iterate(self) -> IterationReport:
        """Do one iteration: some rounds."""
        if self._fairness is not None:
            self._fairness.restart()
        start, stop = self.rounds_after(self.iteration), self.rounds_after(self.iteration + 1)
        loss, examples, norm = 0.0, 0, self.l2_clip_norm
        for number, images in self._rounds(start, stop):
            sums = self._round(number, images)
            loss += sums.loss
            examples += sums.examples
        self.iteration += 1
        return self._report(loss, examples, stop - start, norm)

    def rounds_after(self, iteration: int) -> int:
        """Return how many rounds are done after so many iterations."""
        return min(self.plan.steps, iteration * self._config.rounds_per_iteration)

    def _rounds(self, start: int, stop: int) -> Iterator[tuple[int, np.ndarray | None]]:
        """Give each round with the images of its cohort, or None where workers read them."""
        if self.task.workers is not None:
            yield from ((number, None) for number in range(start, stop))
            return
        drawn = CohortExamples(self._cohorts, self._trained)
        batches = self.task.feed.batches(self.task.rows, drawn, start=start, stop=stop)
        for batch in ahead(batches, self.task.device):
            yield batch.step, batch.images

    def _round(self, number: int, images: np.ndarray | None) -> CohortSums:
        """Trains a cohort, noises the sum of its updates, and lets the server step."""
        norm = self.l2_clip_norm
        clipping = Clipping(self.plan.clipping, norm)
        sums = self._train(number, clipping, images)
        secret, run = self.task.keys.secret, self.task.keys.run
        update, norms = sums.total, sums.norms
        if self._audit is not None:
            norms = np.concatenate([norms, self._audit.add_to(update, number, clipping)])
        noise = self.plan.noise(secret, run, norm)
        noise.add_to(update, number)
        update.div_(self.plan.expected_batch_size)
        if self._audit is not None:
            self._audit.observe(update, noise.std)
        if self._fairness is not None:
            self._fairness.count(sums, update)
        if self._norm is not None:
            self._norm.learn(self._norm.count(norms) + self.plan.count_error(secret, run, number))
        self._server.apply(number, update, self._weights)
        self._show_weights()
        self._network.average()
        return sums

    def _train(self, number: int, clipping: Clipping, images: np.ndarray | None) -> CohortSums:
        """Trains the cohort of a round, by the workers in as many parts as the training began with."""
        clients = self._cohorts.positions(number)
        if self.task.workers is None and self._parts == 1:
            return self._trainer.sums(self._weights, number, clients, clipping, images)
        parts = np.array_split(clients, self._parts)
        if self.task.workers is None:
            found = [self._trainer.sums(self._weights, number, part, clipping) for part in parts]
        else:
            found = self.task.workers.sums(self._weights, number, parts, clipping)
        sums = CohortSums.empty(len(self._weights), found[0].by_group.shape[0], self.task.device)
        for part in found:
            sums.add(part)
        return sums

    def _show_weights(self) -> None:
        """Write the server's weights into the model."""
        parts = torch.split(self._weights, [parameter.numel() for parameter in self._network.parameters])
        with torch.no_grad():
            for parameter, part in zip(self._network.parameters, parts, strict=True):
                parameter.copy_(part.view_as(parameter))

    def _report(self, loss: float, examples: int, rounds: int, norm: float | None) -> IterationReport:
        """Make the report; in release mode of public numbers only."""
        clip = math.nan if norm is None else norm
        if self._fairness is None:
            seen = len(self._trained.order) * self._config.local.epochs
            expected = round(rounds * self.plan.sampling_rate * seen)
            return IterationReport(self.iteration, math.nan, expected, rounds, l2_clip_norm=clip)
        mean_loss = loss / examples if examples else math.nan
        clients = self._fairness.report(self._network)
        return IterationReport(self.iteration, mean_loss, examples, rounds, clients=clients, l2_clip_norm=clip)

    def facts(self) -> dict[str, Any]:
        """Return how clients are divided, what they hold, and how they are trained."""
        return {"clients": describe_partition(self.partition, self.task) | self.how}

    def close(self) -> None:
        """End the workers; may be called twice."""
        if self.task.workers is not None:
            self.task.workers.close()

    def _state(self) -> dict[str, Any]:
        return {
            "weights": self._weights.cpu().clone(),
            "server": self._server.state(),
            "l2_clip_norm": self.l2_clip_norm,
            "execution": self.execution,
            "parts": self._parts,
            "plan": self.plan.model_dump(mode="json"),
            **self._network.average_state(),
            **({} if self._audit is None else {"audit": self._audit.state()}),
        }

    def _load(self, state: Mapping[str, Any]) -> None:
        """Take over a state, with the execution that it was made with and as many parts."""
        if not self.plan.accounts_for(state["plan"]):
            raise ValueError(
                "state was made under another privacy plan: its spent budget is not what this config would account "
                "for; restore it with the config that made it"
            )
        self._weights.copy_(state["weights"])
        self._server.load(state["server"])
        if self._audit is not None:
            self._audit.load(state["audit"])
        if self._norm is not None:
            self._norm.l2_clip_norm = float(state["l2_clip_norm"])
        self._show_weights()
        self._network.load_average(state)
        self._parts = int(state["parts"])
        if state["execution"] != self.execution:
            self._start(state["execution"])

    def files(self) -> dict[str, Callable[[Path], None]]:
        """Return what writes the scores of an audit's canaries."""
        return {} if self._audit is None else self._audit.files(self.predict)

    def privacy(self, charged_steps: float | None = None) -> PrivacyStatement:
        """Return what has been spent so far."""
        mode: Mode = "research" if self.task.diagnostics else "release"
        lost = len(self.task.former_secrets)
        stated = self.plan.statement(self.rounds_after(self.iteration), mode, charged_steps, lost=lost)
        return stated if self._audit is None else self._audit.state_assumption(stated)


class Fedavg(Dpfedavg):
    """The same without privacy."""

    config = FedavgConfig
