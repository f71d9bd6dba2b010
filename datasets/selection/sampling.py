"""Samplers: which examples join which step, a function of (key, step) alone, so training can start at any step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fairsweep.datasets.selection.randomness import generator


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
        """Return who joins a step.

        Args:
            step: In [0, steps).

        Returns:
            int64 [B], indices into the training set; may be empty. Each at most once, but for `GroupBalanced`.
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
        """Return who joins a step, int64 [B] in [0, n), in the order drawn."""
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
        """Return who joins a step, int64 [B] in [0, n), ascending; may be empty."""
        _check_step(step, self.steps)
        uniform = generator(self.key, "poisson", step).random(self.n)
        return np.flatnonzero(uniform < self.sampling_rate).astype(np.int64)


@dataclass(frozen=True)
class TruncatedPoisson:
    """Poisson sampling cut at a largest batch: of more than that, a uniformly random subset stays.

    Under one key, batches within the cut are those of `Poisson`.

    Attributes:
        n: Size of the training set, >= 1; public.
        sampling_rate: Probability q in [0, 1] of being drawn in a step; public.
        steps: Number of steps, >= 0; public.
        max_batch_size: The largest batch, >= 1; public.
        key: 32 bytes. Keep it secret, use it for one run only.

    References:
        Chua et al. 2024, arXiv 2411.04205, section 4. The subset is the one that arXiv 2508.15089 accounts.
    """

    n: int
    sampling_rate: float
    steps: int
    max_batch_size: int
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if self.n < 1 or self.steps < 0 or not 0 <= self.sampling_rate <= 1 or self.max_batch_size < 1:
            raise ValueError(
                "n and max_batch_size must be >= 1, sampling_rate in [0, 1] and steps >= 0, but got "
                f"n={self.n}, max_batch_size={self.max_batch_size}, sampling_rate={self.sampling_rate}, "
                f"steps={self.steps}"
            )

    def positions(self, step: int) -> NDArray[np.int64]:
        """Return who joins a step, int64 [B] in [0, n), ascending; B is in [0, max_batch_size]."""
        _check_step(step, self.steps)
        uniform = generator(self.key, "poisson", step).random(self.n)
        drawn = np.flatnonzero(uniform < self.sampling_rate).astype(np.int64)
        if len(drawn) <= self.max_batch_size:
            return drawn
        # Those drawn have independent uniform numbers below q, so the smallest of them belong to a uniform subset.
        return np.sort(drawn[np.argsort(uniform[drawn], kind="stable")[: self.max_batch_size]])


@dataclass(frozen=True, eq=False)
class WeightedPoisson:
    """Each example joins each step with a probability of its own, independently of all else.

    Under one key, a larger rate adds steps to those that an example joins and takes none away; with equal rates batches
    are those of `Poisson`.

    Attributes:
        rates: float64 [n], probability in [0, 1] of each example of joining a step; public.
        steps: Number of steps, >= 0; public.
        key: 32 bytes. Keep it secret, use it for one run only.
    """

    rates: NDArray[np.float64] = field(repr=False)
    steps: int
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        valid = (self.rates >= 0) & (self.rates <= 1)
        if len(self.rates) < 1 or self.steps < 0 or not valid.all():
            raise ValueError(
                "the number of rates must be >= 1, each rate in [0, 1] and steps >= 0, "
                f"but got n={len(self.rates)}, steps={self.steps} and {(~valid).sum()} rates outside [0, 1]"
            )

    @property
    def n(self) -> int:
        """Size of the training set."""
        return len(self.rates)

    def positions(self, step: int) -> NDArray[np.int64]:
        """Return who joins a step, int64 [B] in [0, n), ascending; may be empty."""
        _check_step(step, self.steps)
        uniform = generator(self.key, "poisson", step).random(self.n)
        return np.flatnonzero(uniform < self.rates).astype(np.int64)


@dataclass(frozen=True, eq=False)
class GroupBalanced:
    """Every group equally often: places in batches are dealt to the groups in turn, each of which goes round its own.

    Inside a group every example comes equally often, in a fresh order each round. Small groups go round more often than
    large ones; an example of a group that is smaller than its part of a batch comes twice in it, and one at the turn of
    two rounds may. An epoch has as many places as there are examples, rounded up to whole batches. No privacy guarantee
    is claimed for this order.

    Attributes:
        groups: int64 [n], the group of each example in [0, G), none of them empty.
        batch_size: Examples of every batch, >= 1.
        epochs: >= 0.
        key: 32 bytes, public.

    References:
        Idrissi et al. 2022, "Simple data balancing achieves competitive worst-group-accuracy", arXiv 2110.14503,
        section 2 (RWG, here with equal counts instead of equal probabilities).
    """

    groups: NDArray[np.int64] = field(repr=False)
    batch_size: int
    epochs: int
    key: bytes = field(repr=False)
    _members: list[NDArray[np.int64]] = field(init=False, repr=False)
    # Each group's order in its latest round, kept because steps are usually asked for one after the other.
    _latest: dict[int, tuple[int, NDArray[np.int64]]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.groups) < 1 or self.batch_size < 1 or self.epochs < 0:
            raise ValueError(
                "the number of examples and batch_size must be >= 1 and epochs >= 0, "
                f"but got n={len(self.groups)}, batch_size={self.batch_size}, epochs={self.epochs}"
            )
        members = [np.flatnonzero(self.groups == group).astype(np.int64) for group in range(int(self.groups.max()) + 1)]
        if sum(map(len, members)) != len(self.groups) or not all(map(len, members)):
            raise ValueError(
                "groups must be numbered from 0 without gaps, each with an example, "
                f"but got the numbers {np.unique(self.groups).tolist()}: number those that occur"
            )
        object.__setattr__(self, "_members", members)

    @property
    def n(self) -> int:
        """Size of the training set."""
        return len(self.groups)

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches of an epoch."""
        return -(-self.n // self.batch_size)

    @property
    def steps(self) -> int:
        """Number of steps of the whole run."""
        return self.epochs * self.steps_per_epoch

    def positions(self, step: int) -> NDArray[np.int64]:
        """Return who joins a step, int64 [batch_size] in [0, n), group by group; an example may come again."""
        _check_step(step, self.steps)
        first, count = step * self.batch_size, len(self._members)
        parts = []
        for group, members in enumerate(self._members):
            # Place t of the run belongs to group t mod G, and is that group's draw number t // G.
            draws = range((first - group + count - 1) // count, (first + self.batch_size - group + count - 1) // count)
            rounds, places = np.divmod(np.arange(draws.start, draws.stop), len(members))
            parts += [members[self._order(group, turn)[places[rounds == turn]]] for turn in np.unique(rounds).tolist()]
        return np.concatenate(parts)

    def _order(self, group: int, turn: int) -> NDArray[np.int64]:
        """Return a group's order in one of its rounds, int64 [members]."""
        kept = self._latest.get(group)
        if kept is None or kept[0] != turn:
            size = len(self._members[group])
            kept = (turn, generator(self.key, "balanced", group, turn).permutation(size).astype(np.int64))
            self._latest[group] = kept
        return kept[1]


def _check_step(step: int, steps: int) -> None:
    if not 0 <= step < steps:
        raise IndexError(f"step must be in [0, {steps}), but got {step=}")
