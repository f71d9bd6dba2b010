"""Which learners of a sweep are compared with which baselines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fairsweep.analysis.results.pairs import TWIN
from fairsweep.analysis.results.results import SweepResults


@dataclass(frozen=True)
class Comparison:
    """A private learner and its baseline.

    Attributes:
        learner: The private learner.
        baseline: ``twin`` or a learner's name.
        words: Description of the baseline: a matched twin, or separately tuned.
    """

    learner: str
    baseline: str
    words: str


def comparisons(results: SweepResults) -> tuple[Comparison, ...]:
    """Return the pairs to compare: each private learner with its matched twin and each separately tuned public learner.

    Twins of other private learners are left out.
    """
    trials = results.trials
    named = list(dict.fromkeys(name for name in trials["learner"] if name))
    private = [name for name in named if np.isfinite(trials.loc[trials["learner"] == name, "epsilon"]).any()]
    public = trials[np.isinf(trials["epsilon"]) & ~trials["twin_of"].isin(named)]
    tuned = [name for name in named if name in set(public["learner"]) and name not in private]
    found = []
    for name in private:
        twins = sorted({str(twin) for twin in trials.loc[trials["twin_of"] == name, "learner"]})
        found += [Comparison(name, TWIN, f"its matched twin ({twin})") for twin in twins[:1]]
        found += [Comparison(name, other, f"{other} (separately tuned)") for other in tuned]
    return tuple(found)
