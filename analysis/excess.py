"""Who pays: how much more one group loses against a baseline than the other groups do.

Papers call it the disparate impact of privacy: the loss of the rare class or group minus the mean loss of the rest.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fairsweep.analysis.rates import Floats
from fairsweep.analysis.replicates import average

if TYPE_CHECKING:
    from fairsweep.analysis.results import At, SweepResults


def excess_loss_by_trial(
    results: "SweepResults",
    attribute: str,
    group: str,
    *,
    learner: str | None = None,
    against: str = "twin",
    metric: str = "accuracy",
    at: "At" = "last",
    split: str = "test",
    states: Sequence[str] | None = ("done",),
    confidence: float = 0.95,
) -> pd.DataFrame:
    """The loss of one group minus the mean loss of the other groups, for each trial that has a baseline.

    The loss is baseline minus trial, so a positive excess says that the group pays more than the rest. Each of the
    other groups counts the same, whatever its size. Their images differ, so their intervals join in squares.

    Args:
        results: the sweep.
        attribute: a group attribute, or the label for losses by class.
        group: the group, as a sweep file names it: ``dark``, ``8``.
        learner: name of the learner that is looked at; None takes all that have a baseline.
        against: ``"twin"`` or the name of the baseline's learner.
        metric: a rate for which higher is better.
        at: see `SweepResults.evaluations`.
        split: see `SweepResults.evaluations`.
        states: see `SweepResults.evaluations`.
        confidence: of the intervals.

    Returns:
        A tidy table with the metric ``excess_loss(METRIC)``; ``n_min`` is the smallest count of any group involved.

    Raises:
        ValueError: if the attribute has no such group, or no other one.

    References:
        Bagdasaryan & Shmatikov 2019, arXiv 1905.12101, section 3.
    """
    known = results.vocabulary(attribute).values
    if group not in known or len(known) < 2:
        raise ValueError(f"group must be one of {list(known)} and not the only one, but got {group!r}")
    frame = results.frame(
        [metric], by=attribute, against=against, split=split, at=at, states=states, confidence=confidence
    )
    if learner is not None:
        frame = frame[frame["learner"] == learner]
    value, low, high, n_min = (_matrix(frame, name, known) for name in ("value", "low", "high", "n_min"))
    mine = known.index(group)
    rest = np.flatnonzero((n_min.max(0, initial=0) > 0) & (np.arange(len(known)) != mine))
    if not len(rest):
        raise ValueError(f"another group than {group!r} must have examples of its own, but none has")
    loss = value[:, rest].mean(1) - value[:, mine]
    # The excess is lowest where the group's change is at its highest and the others' changes are at their lowest.
    down, up = np.square(value - low), np.square(high - value)
    below = np.sqrt(up[:, mine] + down[:, rest].sum(1) / len(rest) ** 2)
    above = np.sqrt(down[:, mine] + up[:, rest].sum(1) / len(rest) ** 2)
    rows = frame[frame["group"] == group].sort_values("trial")
    columns = {"value": loss, "low": loss - below, "high": loss + above}
    smallest = n_min[:, [mine, *rest]].min(1, initial=np.inf).astype(np.int64)
    return rows.assign(metric=f"excess_loss({metric})", n_min=smallest, **columns).reset_index(drop=True)


def _matrix(frame: pd.DataFrame, column: str, groups: Sequence[str]) -> Floats:
    """A column as trials (by name) x groups."""
    table = frame.pivot(index="trial", columns="group", values=column)
    return table.sort_index().reindex(columns=list(groups)).to_numpy(np.float64, na_value=np.nan)


def excess_loss(
    results: "SweepResults",
    attribute: str,
    group: str,
    *,
    learner: str | None = None,
    against: str = "twin",
    metric: str = "accuracy",
    at: "At" = "last",
    split: str = "test",
    states: Sequence[str] | None = ("done",),
    confidence: float = 0.95,
) -> pd.DataFrame:
    """`excess_loss_by_trial`, averaged over the replicates of each setting: paired by seed, then a t interval.

    Returns:
        The columns `fairsweep.analysis.replicates.AVERAGE_COLUMNS`: ``training_low`` and ``training_high`` are the t
        interval over the replicates, ``low`` and ``high`` add the error of the test images.
    """
    frame = excess_loss_by_trial(
        results,
        attribute,
        group,
        learner=learner,
        against=against,
        metric=metric,
        at=at,
        split=split,
        states=states,
        confidence=confidence,
    )
    return average(frame, confidence)
