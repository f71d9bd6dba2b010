"""Worker processes for the clients of a cohort, each with a share of a GPU: for models too large to stack.

The workers take bundles 1 … n of the trial's placement group. They hold the training set and what is public about it;
the trial's secret, the noise and the server's state stay in the trial.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from ray.util import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from fairsweep.datasets.feeds.feed_choice import FeedChoice
from fairsweep.datasets.selection.randomness import KEY_BYTES
from fairsweep.trainables.federated.dpfedavg import make_trainer
from fairsweep.trainables.federated.fedavg_config import FederatedConfig
from fairsweep.trainables.federated.local_training import CohortSums
from fairsweep.trainables.learning.gpu_memory import assigned_gpus, cap_gpu_memory
from fairsweep.trainables.privacy.clipping import Clipping
from fairsweep.trainables.trial.trial_config import TrialConfig
from fairsweep.trainables.trial.trial_data import TrialData, learning_task


class _CohortWorker:
    """One process that trains clients of one trial."""

    def __init__(self, config: TrialConfig, feed: FeedChoice, execution: str, threads: int) -> None:
        if not isinstance(config.learner, FederatedConfig):
            raise TypeError(f"workers train clients of federated learners, but got kind {config.learner.kind!r}")
        torch.set_num_threads(threads)
        cap_gpu_memory(assigned_gpus() or 0.0)
        # Whoever trains clients needs no secret: noise is added where their sums meet.
        keys = config.seeds.keys(secret=bytes(KEY_BYTES))
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        task = learning_task(config, TrialData.open(config, feed, self._device), keys, self._device)
        self._trainer = make_trainer(config.learner, task, execution)

    def sums(
        self, weights: NDArray[np.float32], round_number: int, clients: NDArray[np.int64], clipping: Clipping
    ) -> CohortSums:
        """Trains clients; what comes back is on the CPU."""
        on_device = torch.tensor(weights, device=self._device)
        found = self._trainer.sums(on_device, round_number, clients, clipping)
        return replace(found, total=found.total.cpu(), by_group=found.by_group.cpu())


class RayCohortWorkers:
    """Workers on Ray, in the placement group of the trial that makes them if it has one.

    Args:
        config: The trial's config.
        feed: Where images come from.
        count: How many workers.
        cpu: CPUs of each.
        gpu: GPUs of each; fractions share one.
    """

    def __init__(self, config: TrialConfig, feed: FeedChoice, count: int, cpu: float, gpu: float) -> None:
        self.count = count
        self._config, self._feed, self._cpu, self._gpu = config, feed, cpu, gpu
        self._actors: list[Any] = []

    def start(self, execution: str) -> None:
        """Make the processes; those of an earlier start end."""
        self.close()
        group = get_current_placement_group()
        threads = max(1, int(self._cpu))
        for index in range(self.count):
            strategy: Any = "DEFAULT"
            if group is not None:
                strategy = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index + 1)
            actor = ray.remote(_CohortWorker).options(
                num_cpus=self._cpu, num_gpus=self._gpu, scheduling_strategy=strategy
            )
            self._actors.append(actor.remote(self._config, self._feed, execution, threads))

    def sums(
        self,
        weights_P: torch.Tensor,
        round_number: int,
        parts: Sequence[NDArray[np.int64]],
        clipping: Clipping,
    ) -> list[CohortSums]:
        """Trains parts of a cohort, the first by the first worker and so on, and returns their sums in that order."""
        weights = ray.put(weights_P.cpu().numpy())
        asked = [
            self._actors[index % self.count].sums.remote(weights, round_number, part, clipping)
            for index, part in enumerate(parts)
        ]
        found: list[CohortSums] = ray.get(asked)
        return found

    def close(self) -> None:
        """End the processes; may be called twice."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []
