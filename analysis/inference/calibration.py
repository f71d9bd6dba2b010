"""Calibration: accuracy of the predicted class by its predicted probability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fairsweep.analysis.metrics.calibration_errors import BINS, bin_of
from fairsweep.analysis.metrics.rates import Floats, divide
from fairsweep.analysis.records.counts import JOINT
from fairsweep.analysis.results.outcomes import Codes, group_codes, read_outcomes, users
from fairsweep.analysis.statistics.clusters import effective_share
from fairsweep.analysis.statistics.intervals import normal_quantile, wilson

if TYPE_CHECKING:
    from fairsweep.analysis.results.results import SweepResults
    from fairsweep.analysis.results.sweep_frames import At


def reliability(
    confidence: Floats, correct: Codes, *, bins: int = BINS, level: float = 0.95, of_whom: Codes | None = None
) -> pd.DataFrame:
    """Return the reliability data of one set of predictions.

    Args:
        confidence: probability of the predicted class, float [N] in [0, 1].
        correct: whether it is the label, bool or 0/1 [N].
        bins: bins of equal width on [0, 1], closed on the right.
        level: of the Wilson intervals.
        of_whom: the person that each prediction is about, int [N], who is sampled then; None takes them as independent.

    Returns:
        One row per bin: ``bin_low``, ``bin_high``, ``n``, mean ``confidence``, ``accuracy``, ``low``, ``high`` and
        ``worth``, the number of independent predictions that those of people are worth; the expected
        calibration error is the mean of |accuracy - confidence| weighted by n.

    References:
        DeGroot & Fienberg 1983, doi 10.2307/2987588; Guo et al. 2017, arXiv 1706.04599, section 2.
    """
    place = bin_of(confidence, bins)
    n = np.bincount(place, minlength=bins)
    right = np.bincount(place, weights=np.asarray(correct, np.float64), minlength=bins)
    right_of = np.asarray(correct, np.bool_)
    everything = np.ones(len(place), np.bool_)
    share = 1.0 if of_whom is None else effective_share(right_of, everything, place, of_whom, bins)
    low, high = wilson(right * share, n * share, normal_quantile(level))
    edges = np.linspace(0, 1, bins + 1)
    mean = divide(np.bincount(place, weights=np.asarray(confidence, np.float64), minlength=bins), n)
    columns = {"bin_low": edges[:-1], "bin_high": edges[1:], "n": n, "confidence": mean}
    return pd.DataFrame(columns | {"accuracy": divide(right, n), "low": low, "high": high, "worth": n * share})


def reliability_frame(
    results: SweepResults,
    by: str | Sequence[str] = (),
    *,
    bins: int = BINS,
    split: str = "test",
    at: At = "last",
    states: Sequence[str] | None = ("done",),
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Return the reliability data of every trial and group.

    Args:
        results: the sweep.
        by: an attribute or several; empty for all examples together.
        bins: see `reliability`.
        split: see `SweepResults.evaluations`.
        at: see `SweepResults.evaluations`.
        states: see `SweepResults.evaluations`.
        confidence: of the Wilson intervals.

    Returns:
        The columns of `reliability` after ``trial``, ``iteration``, ``split``, ``attribute`` and ``group``.
    """
    names = (by,) if isinstance(by, str) else tuple(by)
    evaluations = results.evaluations(split=split, at=at, states=states)
    for name in names:
        results.vocabulary(name)  # refuses what is no attribute
    parts = []
    for trial, iteration in zip(evaluations.trial, evaluations.iteration, strict=True):
        asked = pd.DataFrame({"trial": [trial], "iteration": [iteration]})
        outcomes = read_outcomes(results, split, asked, probabilities=True)
        codes = None if outcomes is None else group_codes(results, outcomes, names)
        if outcomes is None or codes is None or outcomes.log_probabilities is None:
            continue
        log_p = outcomes.log_probabilities[0].astype(np.float64)
        sure, correct = np.exp(log_p.max(-1)), log_p.argmax(-1) == outcomes.label
        people = users(results, outcomes)
        for code, group in enumerate(results.all_cells.group_names(names)):
            inside = codes == code
            mine = None if people is None else people[inside]
            table = reliability(sure[inside], correct[inside], bins=bins, level=confidence, of_whom=mine)
            head = {"trial": trial, "iteration": iteration, "split": split, "attribute": JOINT.join(names)}
            table = table.assign(**head, group=group)
            parts.append(table[[*head, "group", *table.columns[: -len(head) - 1]]])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
