"""Which examples join which step: a function of (key, step) alone, so that training can start at any step."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fairsweep.datasets.randomness import generator


class Sampler(Protocol):
    """The order of one training run.

    Attributes:
        steps: Number of steps of the whole run.
    """

    @property
    def steps(self) -> int:
        """Number of steps of the whole run."""
        ...

    def positions(self, step: int) -> NDArray[np.int64]:
        """Returns who joins a step.

        Args:
            step: In [0, steps).

        Returns:
            int64 [B], indices into the training set, each at most once; may be empty.
        """
        ...


@dataclass(frozen=True)
class Shuffled:
    """Every example once an epoch, in a fresh order each epoch; the last batch of an epoch may be smaller.

    No privacy guarantee is claimed for this order.

    Attributes:
        n: Size of the training set, >= 1.
        batch_size: Examples of a batch, >= 1.
        epochs: Passes over the training set, >= 0.
        key: 32 bytes, public.
    """

    n: int
    batch_size: int
    epochs: int
    key: bytes = field(repr=False)
    # The order of one epoch, kept because steps are usually asked for one after the other.
    _latest: dict[int, NDArray[np.int64]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.n < 1 or self.batch_size < 1 or self.epochs < 0:
            raise ValueError(
                "n and batch_size must be >= 1 and epochs >= 0, "
                f"but got n={self.n}, batch_size={self.batch_size}, epochs={self.epochs}"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches of an epoch."""
        return -(-self.n // self.batch_size)

    @property
    def steps(self) -> int:
        """Number of steps of the whole run."""
        return self.epochs * self.steps_per_epoch

    def positions(self, step: int) -> NDArray[np.int64]:
        """Returns who joins a step, int64 [B] in [0, n), in the order drawn."""
        _check_step(step, self.steps)
        epoch, batch = divmod(step, self.steps_per_epoch)
        order = self._latest.get(epoch)
        if order is None:
            order = generator(self.key, "shuffled", epoch).permutation(self.n).astype(np.int64)
            self._latest.clear()
            self._latest[epoch] = order
        return order[batch * self.batch_size : (batch + 1) * self.batch_size].copy()


@dataclass(frozen=True)
class Poisson:
    """Each example joins each step with the same probability, independently of all else.

    Attributes:
        n: Size of the training set, >= 1; public.
        sampling_rate: Probability q in [0, 1] of joining a step; public.
        steps: Number of steps, >= 0; public.
        key: 32 bytes. The guarantee rests on nobody knowing who joined: keep it secret, use it for one run only.

    References:
        Abadi et al. 2016, arXiv 1607.00133, section 3.1 (lots drawn with probability q = L/N).
    """

    n: int
    sampling_rate: float
    steps: int
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if self.n < 1 or self.steps < 0 or not 0 <= self.sampling_rate <= 1:
            raise ValueError(
                "n must be >= 1, sampling_rate in [0, 1] and steps >= 0, "
                f"but got n={self.n}, sampling_rate={self.sampling_rate}, steps={self.steps}"
            )

    def positions(self, step: int) -> NDArray[np.int64]:
        """Returns who joins a step, int64 [B] in [0, n), ascending; may be empty."""
        _check_step(step, self.steps)
        uniform = generator(self.key, "poisson", step).random(self.n)
        return np.flatnonzero(uniform < self.sampling_rate).astype(np.int64)


def _check_step(step: int, steps: int) -> None:
    if not 0 <= step < steps:
        raise IndexError(f"step must be in [0, {steps}), but got {step=}")
