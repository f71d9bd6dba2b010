"""The cost of forgetting, request by request, compared to full retraining."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairsweep.analysis.records.trial_folder import TrialFolder
from fairsweep.trainables.learning.iteration_report import IterationReport
from fairsweep.trainables.unlearning.sisa_config import SisaConfig
from fairsweep.trainables.unlearning.slice_store import SliceCost


@dataclass(frozen=True)
class Work:
    """An amount of training.

    Attributes:
        examples: Examples seen, with repetition.
        steps: Optimiser steps.
        seconds: Seconds of training, summed over shards; estimated from the first training where nothing was trained;
            NaN in release mode.
        bytes: Bytes of checkpoints written.
    """

    examples: int
    steps: int
    seconds: float
    bytes: int

    @classmethod
    def from_record(cls, content: Mapping[str, Any]) -> Work:
        """Return the inverse of ``asdict`` and of what JSON makes of it: null stands for NaN."""
        seconds = content["seconds"]
        return cls(
            content["examples"], content["steps"], math.nan if seconds is None else float(seconds), content["bytes"]
        )

    @classmethod
    def of(cls, costs: Iterable[SliceCost]) -> Work:
        """Sum the costs of slices."""
        listed = list(costs)
        return cls(
            sum(c.examples for c in listed),
            sum(c.steps for c in listed),
            sum(c.seconds for c in listed),
            sum(c.bytes for c in listed),
        )


@dataclass(frozen=True)
class ServedRequest:
    """One batch of deletions.

    Attributes:
        number: From 1.
        iteration: The iteration after which the cells are those without the examples; 0 for a request that was served
            after the trial had ended.
        asked: Ids in the request.
        deleted: Of these, the ones that had not been deleted before.
        shards: For each affected shard (from 1) the first slice (from 1) that was trained again.
        work: What it cost.
        full: What training all shards again would have cost; its seconds are an estimate from the first training.
    """

    number: int
    iteration: int
    asked: int
    deleted: int
    shards: Mapping[int, int]
    work: Work
    full: Work

    def record(self) -> dict[str, Any]:
        """Return the request as ``cost.json`` holds it; it names no id."""
        return {
            "number": self.number,
            "iteration": self.iteration,
            "asked": self.asked,
            "deleted": self.deleted,
            "shards": [{"shard": shard, "from_slice": first} for shard, first in sorted(self.shards.items())],
            **asdict(self.work),
            "full": asdict(self.full),
        }

    @classmethod
    def from_record(cls, content: Mapping[str, Any]) -> ServedRequest:
        """Return the inverse of `record`."""
        return cls(
            number=int(content["number"]),
            iteration=int(content["iteration"]),
            asked=int(content["asked"]),
            deleted=int(content["deleted"]),
            shards={int(entry["shard"]): int(entry["from_slice"]) for entry in content["shards"]},
            work=Work.from_record(content),
            full=Work.from_record(content["full"]),
        )


def full_retraining(sizes: NDArray[np.int64], epochs: int, batch_size: int, first: Work) -> Work:
    """Return what training every shard from the start costs, for the examples that are left.

    Args:
        sizes: int64 [S, R], examples left in slices 1 to r of each shard.
        epochs: Epochs of a slice, e'.
        batch_size: Of the inner learner.
        first: The first training; seconds and bytes are in proportion to its examples and checkpoints.
    """
    examples = epochs * int(sizes.sum())
    steps = epochs * int((-(-sizes // batch_size)).sum())
    seconds = first.seconds * examples / first.examples if first.examples else 0.0
    return Work(examples, steps, seconds, first.bytes)


def expected_examples(examples: int, shards: int, slices: int, epochs: int) -> float:
    """Return the expected cost of one uniform request, in examples, for equal shards and slices.

    A request hits slice k of its shard with probability 1/R, and slices k to R are trained again: slice r sees
    e' r D / R examples, with D = N / S, so the mean is e' D (R + 1) (2 R + 1) / (6 R).

    Args:
        examples: Examples of the training set, N.
        shards: S.
        slices: R.
        epochs: Epochs of a slice, e'.

    Returns:
        Examples, with repetition.

    References:
        Bourtoule et al. 2021, arXiv 1912.03817, section V-B2: with e' = 2 e / (R + 1) it is e D (2/3 + 1/(3 R)).

    Example:
        >>> expected_examples(1000, 10, 1, 3), expected_examples(1000, 1, 5, 1)
        (300.0, 2200.0)
    """
    return epochs * examples / shards * (slices + 1) * (2 * slices + 1) / (6 * slices)


def recorded_weights(config: SisaConfig, records: TrialFolder) -> list[float]:
    """Return each shard's weight in the aggregate as a trial recorded it.

    Trials of earlier versions did not: for them it is derived from the placement.

    Raises:
        ValueError: If it does not follow from what was recorded.
    """
    cost, placed = records.cost or {}, records.placement()
    if "aggregate_weights" in cost:
        return [float(weight) for weight in cost["aggregate_weights"]]
    if placed is None or config.weighting == "validation-accuracy":
        raise ValueError(
            f"{records.name} did not record how its shards are weighted (an earlier version wrote it): run it anew"
        )
    shards, slices, gone = (placed.column(name).to_numpy() for name in ("shard", "slice", "deleted"))
    trained = ~gone & (slices <= cost.get("trained", config.slices))
    weights: list[float] = shard_weights(config, np.bincount(shards[trained] - 1, minlength=config.shards)).tolist()
    return weights


def shard_weights(
    config: SisaConfig, left_S: NDArray[np.int64], accuracy: Callable[[int], float] | None = None
) -> NDArray[np.float64]:
    """Return the shards' weights in the aggregate, float64 [S].

    Args:
        config: How they are weighted.
        left_S: int64 [S], examples of each shard; one without examples has no weight, unless none has any.
        accuracy: A shard's accuracy on the validation split; None where no model is trained yet.
    """
    if not left_S.any():
        return np.ones(config.shards)
    if config.weighting == "size":
        return left_S.astype(np.float64)
    present = (left_S > 0).astype(np.float64)
    if config.weighting == "validation-accuracy" and accuracy is not None:
        accuracies = np.array([accuracy(shard) for shard in range(config.shards)])
        if (present * accuracies).any():
            present = present * accuracies
    return present


def training_report(iteration: int, costs: Sequence[SliceCost], *, is_told: bool) -> IterationReport:
    """Return the report of an iteration that trained some slices; the mean loss is NaN unless it may be told."""
    examples, steps = sum(cost.examples for cost in costs), sum(cost.steps for cost in costs)
    weighted = [cost.loss * cost.examples for cost in costs if cost.examples]
    loss = sum(weighted) / examples if examples and is_told else math.nan
    return IterationReport(iteration, loss, examples, steps)
