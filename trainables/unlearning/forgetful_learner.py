"""What a learner offers from whose finished trials examples can be deleted."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairsweep.trainables.learning.learner import Learner, LearningTask
from fairsweep.trainables.unlearning.known_examples import Population
from fairsweep.trainables.unlearning.unlearning_costs import ServedRequest


class ForgetfulLearner(Learner):
    """A learner that deletes examples.

    Attributes:
        population: Who is in the training set.
    """

    population: Population

    @classmethod
    @abstractmethod
    def reopened(cls, config: Any, task: LearningTask, placed: pa.Table, cost: Mapping[str, Any]) -> Self:  # noqa: ANN401 - its own config
        """Build the learner as it was at the end of its trial and of the requests since.

        Args:
            config: The learner's config.
            task: The trial's task, with the ids of the placement.
            placed: ``placement.parquet``: where each example is, and whether it was deleted.
            cost: ``cost.json``.
        """

    @abstractmethod
    def forget(self, ids: NDArray[np.int64], *, iteration: int = 0, purge: bool = True) -> ServedRequest:
        """Serve a request.

        Args:
            ids: int64 [k]; those that were deleted before make no difference.
            iteration: Number under which the model without them is evaluated; 0 if it is not.
            purge: Whether checkpoints that saw the examples go at once; else whoever asks calls `purge`.

        Returns:
            What was done and what it cost.

        Raises:
            UnknownIdsError: If ids are not in the training set; nothing is done then.
            RuntimeError: If the first training is not done.
        """

    @abstractmethod
    def purge(self) -> None:
        """Delete every checkpoint that is not of the current models: those that saw deleted examples."""

    @abstractmethod
    def superseded(self) -> list[str]:
        """Return the files that `purge` deletes, relative to the trial's folder."""

    def forgotten(self) -> NDArray[np.int64]:
        """Return the ids of the training examples that were deleted so far, int64."""
        ids: NDArray[np.int64] = self.population.ids[~self.alive()]
        return ids

    @abstractmethod
    def alive(self) -> NDArray[np.bool_]:
        """Return which examples of the population have not been deleted, bool [n]."""
