"""Training of the clients of a cohort, in this process or as one of several workers; needs no secret."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fairsweep.datasets.selection.partitions import Partition
from fairsweep.trainables.federated.cohorts import examples_of, schedule
from fairsweep.trainables.federated.fedavg_config import FederatedConfig, LocalConfig
from fairsweep.trainables.federated.local_training import (
    Batched,
    CohortSums,
    LocalTraining,
    RoundImages,
    Sequential,
    UpdateSum,
)
from fairsweep.trainables.layers.numerics import LOSS_SCALE, use_numerics
from fairsweep.trainables.learning.learner import LearningTask
from fairsweep.trainables.models.inputs import to_device
from fairsweep.trainables.models.model import ModelConfig
from fairsweep.trainables.privacy.clipping import Clipping
from fairsweep.trainables.privacy.precision import full_precision

EXECUTIONS: dict[str, Callable[..., LocalTraining]] = {"batched": Batched, "sequential": Sequential}


class ClientTrainer:
    """The client half of every round of one trial.

    Args:
        config: How clients train.
        task: On what; its secret is never read.
        partition: What each client trains on.
        model: Whose weights are trained, in the config's precision. Its own weights are changed by sequential execution
            and set back.
        execution: ``batched`` or ``sequential``.
        groups_GN: float32 [G, N], 1 where a client belongs to a group whose updates are summed; G may be 0.
    """

    def __init__(
        self,
        config: FederatedConfig,
        task: LearningTask,
        partition: Partition,
        model: nn.Module,
        execution: str,
        groups_GN: torch.Tensor,
    ) -> None:
        self.partition = partition
        self._config, self._rows, self._feed = config, task.rows, task.feed
        self._device, self._key = task.device, task.keys.of_order
        self._labels = torch.from_numpy(np.asarray(task.labels, dtype=np.int64)).to(task.device)
        self._at_once = clients_at_once(config, task.model, task.device)
        use_numerics(model, config.performance, task.device)
        scale = LOSS_SCALE[config.performance.precision]
        self._training = EXECUTIONS[execution](model, config.local, config.augmentation, task.keys.train, scale)
        self._sum = UpdateSum(model)
        self._groups_GN = groups_GN.to(task.device)
        self._most_steps = _most_steps(partition, config.local)

    @full_precision()
    def sums(
        self,
        weights_P: torch.Tensor,
        round_number: int,
        clients: NDArray[np.int64],
        clipping: Clipping,
        images_MHWC: NDArray[np.uint8] | None = None,
    ) -> CohortSums:
        """Trains clients from the same weights, clips their updates and sums them.

        Args:
            weights_P: float32 [P] on the training device, the server's.
            round_number: Which round.
            clients: int64 [C], distinct; may be empty.
            clipping: The rule of this round.
            images_MHWC: uint8, the images of the clients' examples in the order of `examples_of`; None reads them.

        Returns:
            The sums. What a client contributes depends neither on who else is in the cohort nor on how it is cut.
        """
        sums = CohortSums.empty(len(weights_P), len(self._groups_GN), weights_P.device)
        if not len(clients):
            return sums
        examples = self._examples(clients, images_MHWC)
        plan = schedule(self.partition, clients, self._config.local, self._key, round_number)
        rounds = self._config.rounds
        rate = self._config.local.optimizer.learning_rate(round_number, rounds, epochs=rounds)
        losses = []
        for start in range(0, len(clients), self._at_once):
            part = plan.part(start, start + self._at_once)
            updates_CP, losses_C = self._training.updates(
                weights_P, part, examples, rate, round_number * self._most_steps
            )
            members = self._groups_GN[:, torch.from_numpy(part.clients).to(self._device)]
            self._sum.add(updates_CP, clipping, members, sums, part)
            losses.append(losses_C.sum())
        sums.loss = float(torch.stack(losses).sum())
        sums.examples = int((plan.table >= 0).sum())
        return sums

    def _examples(self, clients: NDArray[np.int64], images: NDArray[np.uint8] | None) -> RoundImages:
        positions = examples_of(self.partition, clients)
        rows = self._rows[positions]
        read = self._feed.images(rows) if images is None else images
        labels = self._labels[torch.from_numpy(positions).to(self._device)]
        return RoundImages(to_device(read, self._device), labels, rows)


def choose_execution(config: FederatedConfig, model: ModelConfig, device: torch.device) -> str:
    """Return how clients are trained: a function of the config, the model and the device type alone.

    On a CPU a stacked linear model is several times faster and a stacked cnn as fast or faster; a stack of large
    networks leaves the caches.
    """
    if config.performance.execution != "auto":
        return config.performance.execution
    return "batched" if device.type != "cpu" or model.private_use.stacks_on_cpu else "sequential"


def clients_at_once(config: FederatedConfig, model: ModelConfig, device: torch.device) -> int:
    """Return how many clients' weights are held at once."""
    if config.performance.clients_at_once is not None:
        return config.performance.clients_at_once
    use = model.private_use
    return use.clients_on_cpu if device.type == "cpu" else use.clients_on_gpu


def _most_steps(partition: Partition, local: LocalConfig) -> int:
    """Return the most local steps that any client takes in a round."""
    if local.steps is not None:
        return local.steps
    largest = int(partition.sizes.max())
    return local.epochs * (1 if local.batch_size is None else -(-largest // local.batch_size))
