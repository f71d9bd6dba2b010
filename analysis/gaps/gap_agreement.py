"""Whether the change of one metric's gap says how another's changes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from fairsweep.analysis.metrics.catalogue import resolve
from fairsweep.analysis.metrics.rates import Floats, divide
from fairsweep.analysis.statistics.effects import effect_of_values
from fairsweep.analysis.statistics.variance_components import ReplicateSeeds
from fairsweep.analysis.verdicts.verdict import Finding, Question, Verdict, decide

if TYPE_CHECKING:
    from fairsweep.analysis.results.results import SweepResults
    from fairsweep.analysis.results.sweep_frames import At

FEWEST_SETTINGS = 4
"""Settings from which a rank correlation is given."""

_SEEDS = ["data_seed", "train_seed"]


def gap_agreement(
    results: SweepResults,
    metrics: Sequence[str],
    *,
    by: str | Sequence[str],
    baseline: str = "twin",
    margin: float | None = None,
    split: str = "test",
    at: At = "last",
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Return how well the settings' ranks by one metric's change predict those by another's, in other runs.

    The change is that from the baseline, counted so that more is worse. For each seed the settings are ranked by one
    metric in this run and by the other in the mean of the other runs: two metrics of one run share its luck, and would
    agree for that alone. The correlation (Spearman's, both ways round) is the mean over seeds, its interval that of a
    jackknife over seeds. A metric with itself shows how far its own ranks repeat; one with less luck may
    predict it better.

    Args:
        results: the sweep; every setting that has a baseline takes part.
        metrics: disparities between the groups of ``by``, with those of the worst group.
        by: the groups, an attribute or several.
        baseline: see `SweepResults.frame`.
        margin: largest correlation, either way, that counts as none; None tests no equivalence.
        split: see `SweepResults.evaluations`.
        at: see `SweepResults.evaluations`.
        confidence: of the intervals.

    Returns:
        Columns ``metric``, ``other``, ``correlation``, ``low``, ``high``, ``verdict`` (``predicts``, ``opposes``,
        ``silent``: equivalent to none, ``undecided``; ``repeats`` in place of ``predicts`` where a metric stands beside
        itself), ``p_value`` (adjusted by Holm's method over all rows), ``settings``, ``seeds``.

    Raises:
        ValueError: with fewer than three seeds that all settings share, or fewer than `FEWEST_SETTINGS` settings.

    References:
        Spearman 1904, doi 10.2307/1412159; the jackknife's interval: Efron & Stein 1981, doi 10.1214/aos/1176345462.
    """
    changes, seeds = _changes(results, metrics, by, baseline, split, at)
    count, settings = len(seeds.data), changes.shape[1]
    if count < 3 or settings < FEWEST_SETTINGS:
        raise ValueError(
            f"ranks need at least {FEWEST_SETTINGS} settings with a baseline and 3 seeds that all of them share, "
            f"but got {settings} and {count}; add seeds or settings, or name another baseline"
        )
    pairs = list(combinations_with_replacement(range(len(metrics)), 2))
    findings = []
    for one, two in pairs:
        question = Question("difference", metrics[one], metrics[two])
        values = jackknifed_agreement(changes[..., one], changes[..., two])
        findings.append(Finding(question, effect_of_values(values, seeds) if np.isfinite(values).all() else None))
    rows = [_row(found) for found in decide(findings, margin=margin, confidence=confidence)]
    return pd.DataFrame(rows).assign(settings=settings, seeds=count)


def _row(found: Verdict) -> dict[str, object]:
    one, two = found.question.learner, found.question.baseline
    return {
        "metric": one,
        "other": two,
        "correlation": found.estimate,
        "low": max(found.low, -1.0),
        "high": min(found.high, 1.0),
        "verdict": _word(found.word, found.estimate, same=one == two),
        "p_value": found.p_adjusted,
    }


def _changes(
    results: SweepResults, metrics: Sequence[str], by: str | Sequence[str], baseline: str, split: str, at: At
) -> tuple[Floats, ReplicateSeeds]:
    """Return the changes, more is worse, float64 [seeds, settings, metrics], under seeds that all settings have."""
    frame = results.disparities(list(metrics), by=by, split=split, at=at, expected_if_equal=False)
    values = frame.pivot_table(index="trial", columns="metric", values="value", observed=True, dropna=False)
    pairs = results.pairs(baseline).pairs
    change = values.loc[pairs["trial"]] - values.loc[pairs["baseline_trial"]].to_numpy()
    trials = results.trials.set_index("trial").loc[pairs["trial"], ["setting", *_SEEDS]]
    wide = change.join(trials).pivot(index=_SEEDS, columns="setting", values=change.columns.tolist()).dropna()
    parts = []
    for name in metrics:
        known = resolve(name, results.classes)
        sign = -1.0 if known.row.better == "higher" else 1.0
        parts.append(sign * wide[known.name].to_numpy(np.float64))
    seeds = ReplicateSeeds.of(*(wide.index.get_level_values(name).to_numpy(np.float64) for name in _SEEDS))
    return np.stack(parts, -1), seeds


def jackknifed_agreement(one: Floats, two: Floats) -> Floats:
    """Return one number per seed whose mean is the agreement of two metrics, and whose variance is the jackknife's.

    Args:
        one: changes of the one metric, float64 [seeds, settings].
        two: of the other.
    """
    count = len(one)
    without = np.array([_agreement(np.delete(one, i, 0), np.delete(two, i, 0)) for i in range(count)])
    values: Floats = _agreement(one, two) + (count - 1) * (without.mean() - without)
    return values


def _agreement(one: Floats, two: Floats) -> float:
    """Return the mean rank correlation of each run's values with the mean of the other runs'."""
    found = [
        _spearman(values, (others.sum(0) - others) / (len(one) - 1)) for values, others in ((one, two), (two, one))
    ]
    return float(np.mean(found))


def _spearman(x: Floats, y: Floats) -> Floats:
    """Return the rank correlation of each row; NaN where all values are one."""
    one, two = (
        ranks - ranks.mean(1, keepdims=True) for ranks in (stats.rankdata(x, axis=1), stats.rankdata(y, axis=1))
    )
    return divide((one * two).sum(1), np.sqrt(np.square(one).sum(1) * np.square(two).sum(1)))


def _word(word: str, estimate: float, *, same: bool) -> str:
    if word == "different":
        return "opposes" if estimate < 0 else ("repeats" if same else "predicts")
    return "silent" if word == "equivalent" else word
