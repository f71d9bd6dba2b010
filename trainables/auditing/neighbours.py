"""Audit of one iteration of a learner: many with and without one training unit, told apart by what they publish.

Where `GradientCanaries` put gradients beside the learner's own, this looks at whole iterations as a black box: at what
a worst-case unit does to everybody else's contribution too, through the batch's size, a bound, or an average.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from fairsweep.analysis.auditing.repetitions import RepeatedBound, audit_repetitions
from fairsweep.analysis.auditing.trade_offs import InverseBlowUp
from fairsweep.datasets.selection.randomness import generator
from fairsweep.trainables.learning.learner import Learner

_FOR_DIRECTION = 30  # iterations of both kinds that show the direction; they are not scored

Floats = NDArray[np.float64]


def published_updates(learner: Learner, iterations: int) -> Floats:
    """Return by how much each of so many iterations moves the weights, float64 [R, P]."""
    before = _flat(learner)
    updates = np.empty((iterations, len(before)))
    for number in range(iterations):
        learner.step()
        after = _flat(learner)
        updates[number] = after - before
        before = after
    return updates


def audit_neighbours(
    with_unit: Floats,
    without: Floats,
    key: bytes,
    *,
    delta: float,
    significance: float,
    claim: InverseBlowUp | None = None,
) -> RepeatedBound:
    """Bound what an iteration reveals of a unit, from iterations with and without it that share their secrets.

    With equal noise the difference of two iterations is exactly what the unit does; a few pairs show its direction, and
    half-way between their means lies the threshold. Of each further pair one iteration is looked at, by a fair coin.

    Args:
        with_unit: float64 [R, P], what iterations with the unit published.
        without: float64 [R, P], what the same iterations published without it.
        key: 32 bytes; the coins follow from it.
        delta: See `audit_repetitions`, as the arguments that follow.
        significance: Probability of a false alarm.
        claim: What is claimed of one iteration.
    """
    shown = slice(0, _FOR_DIRECTION)
    difference = (with_unit[shown] - without[shown]).mean(axis=0)
    length = math.sqrt(float(difference @ difference))
    direction = difference / length if length > 0 else difference
    threshold = float(((with_unit[shown] + without[shown]) @ direction).mean()) / 2
    coins = generator(key, "neighbours").random(len(with_unit) - _FOR_DIRECTION) < 0.5
    chosen = np.where(coins[:, None], with_unit[_FOR_DIRECTION:], without[_FOR_DIRECTION:])
    return audit_repetitions(
        chosen @ direction, coins, delta=delta, significance=significance, claim=claim, threshold=threshold
    )


def _flat(learner: Learner) -> Floats:
    parts = [value.double().flatten() for value in learner.weights().values()]
    return np.asarray(torch.cat(parts).numpy(), np.float64)
