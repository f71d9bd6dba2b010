"""Difference in differences: how much more one group loses relative to a baseline than the other groups.

This is the disparate impact of privacy: the loss of the rare class or group minus the mean loss of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fairsweep.analysis.metrics.rates import Floats
from fairsweep.analysis.results.differences import difference_rows
from fairsweep.analysis.results.frames import renamed
from fairsweep.analysis.results.imbalance_design import ImbalanceDesign
from fairsweep.analysis.results.outcome_table import OutcomeTable, is_of_images
from fairsweep.analysis.results.replicates import average_of_tables, set_effect

if TYPE_CHECKING:
    from fairsweep.analysis.results.results import SweepResults
    from fairsweep.analysis.results.sweep_frames import At


@renamed(against="baseline")
def excess_loss_by_trial(
    results: SweepResults,
    attribute: str,
    group: str,
    *,
    learner: str | None = None,
    baseline: str = "twin",
    metric: str = "accuracy",
    at: At = "last",
    split: str = "test",
    states: Sequence[str] | None = ("done",),
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Return the loss of one group minus the mean loss of the other groups, for each trial that has a baseline.

    The loss is baseline minus trial, so a positive excess means that the group loses more than the others. Each of the
    other groups counts the same, whatever its size. Their images differ, so their intervals add in quadrature.

    Args:
        results: the sweep.
        attribute: a group attribute, or the label for losses by class.
        group: the group, as a sweep file names it: ``dark``, ``8``.
        learner: name of the learner; None takes all that have a baseline.
        baseline: ``"twin"`` or the name of the baseline's learner.
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
        [metric], by=attribute, baseline=baseline, split=split, at=at, states=states, confidence=confidence
    )
    chosen = frame if learner is None else frame[frame["learner"] == learner]
    return excess_rows(chosen, _compared(results, attribute, group, split), group, metric)


def excess_between_levels(
    results: SweepResults, design: ImbalanceDesign, group: str, *, metric: str = "accuracy", at: At = "last"
) -> pd.DataFrame:
    """Return a group's excess loss from the least to the most imbalanced level, for each seed and series.

    Args:
        results: the sweep.
        design: what it is about; the two levels are its first and last.
        group: a value of its attribute.
        metric: a rate for which higher is better.
        at: see `SweepResults.evaluations`.

    Returns:
        A tidy table like that of `excess_loss_by_trial`; ``baseline`` is the least imbalanced level.
    """
    trials = results.trials
    first, last = (trials[trials["level"] == design.levels[place].text] for place in (0, -1))
    keys = ["series", "data_seed", "train_seed"]
    both = last.merge(first, on=keys, suffixes=("", "_baseline"))
    pairs = pd.DataFrame(
        {"trial": both["trial"], "baseline_trial": both["trial_baseline"], "baseline": both["level_baseline"]}
    )
    frame = results.rates([metric], by=design.attribute, at=at)
    differences = difference_rows(results, frame, pairs)
    return excess_rows(differences, _compared(results, design.attribute, group, "test"), group, metric)


def excess_rows(frame: pd.DataFrame, known: Sequence[str], group: str, metric: str) -> pd.DataFrame:
    """Return the excess loss of one group from the differences of all groups of one attribute.

    Args:
        frame: a tidy table of differences, one row per trial and group.
        known: all groups.
        group: the group in question.
        metric: what the differences are of.

    Raises:
        ValueError: if no other group has examples.
    """
    value, low, high, n_min = (_matrix(frame, name, known) for name in ("value", "low", "high", "n_min"))
    mine = list(known).index(group)
    rest = np.flatnonzero((n_min.max(0, initial=0) > 0) & (np.arange(len(known)) != mine))
    if len(frame) and not len(rest):
        raise ValueError(f"another group than {group!r} must have examples of its own, but none has")
    loss = value[:, rest].mean(1) - value[:, mine] if len(frame) else np.empty(0)
    # The excess is lowest where the group's change is at its highest and the others' changes are at their lowest.
    down, up = np.square(value - low), np.square(high - value)
    below = np.sqrt(up[:, mine] + down[:, rest].sum(1) / max(1, len(rest)) ** 2)
    above = np.sqrt(down[:, mine] + up[:, rest].sum(1) / max(1, len(rest)) ** 2)
    rows = frame[frame["group"] == group].sort_values("trial")
    columns = {"value": loss, "low": loss - below, "high": loss + above}
    smallest = n_min[:, [mine, *rest]].min(1) if len(frame) else np.empty(0)
    name = f"excess_loss({metric})"
    return rows.assign(metric=name, n_min=smallest.astype(np.int64), **columns).reset_index(drop=True)


def _compared(results: SweepResults, attribute: str, group: str, split: str) -> list[str]:
    """Return a group and those others that are large enough to be compared with."""
    small = results.small_groups(attribute, split=split)
    return [name for name in results.vocabulary(attribute).values if name == group or name not in small]


def _matrix(frame: pd.DataFrame, column: str, groups: Sequence[str]) -> Floats:
    """Return a column as trials (by name) x groups."""
    table = frame.pivot(index="trial", columns="group", values=column)
    return table.sort_index().reindex(columns=list(groups)).to_numpy(np.float64, na_value=np.nan)


@renamed(against="baseline")
def excess_loss(
    results: SweepResults,
    attribute: str,
    group: str,
    *,
    learner: str | None = None,
    baseline: str = "twin",
    metric: str = "accuracy",
    at: At = "last",
    split: str = "test",
    states: Sequence[str] | None = ("done",),
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Return `excess_loss_by_trial`, averaged over the replicates of each setting: paired by seed, then a t interval.

    Returns:
        The columns `fairsweep.analysis.results.replicates.AVERAGE_COLUMNS`: ``training_low`` and ``training_high`` are
        the t interval over the replicates, ``low`` and ``high`` add the error of the test images. Where the metric is a
        mean over images, such as the accuracy, they are those of the report.
    """
    frame = excess_loss_by_trial(
        results,
        attribute,
        group,
        learner=learner,
        baseline=baseline,
        metric=metric,
        at=at,
        split=split,
        states=states,
        confidence=confidence,
    )
    means = average_of_tables(frame, confidence)
    if not is_of_images(results, metric):
        return means
    outcomes = OutcomeTable.of(results, attribute, metric, split=split, at=at, states=states)
    weights = outcomes.weights(group, others=-1.0)
    pairs = results.pairs(baseline).pairs.set_index("trial")["baseline_trial"]
    for i, setting in means["setting"].astype(str).items():
        mine = frame.loc[frame["setting"].astype(str) == setting, "trial"].astype(str)
        names = np.stack([mine.to_numpy(object), pairs.loc[mine].to_numpy(object)], axis=1)
        effect, _ = outcomes.effect_of_trials(names, (-1.0, 1.0), weights)
        set_effect(means, i, effect, confidence, most=2.0)
    return means
