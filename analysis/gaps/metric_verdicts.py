"""Verdicts on how learners differ in any metric, as one family of questions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, TypedDict

import pandas as pd

from fairsweep.analysis.metrics.catalogue import Metric, resolve
from fairsweep.analysis.metrics.disparities import Disparity
from fairsweep.analysis.records.counts import JOINT
from fairsweep.analysis.results.outcome_table import PairedMetric
from fairsweep.analysis.verdicts.verdict import Finding, Question, Verdict, decide
from fairsweep.analysis.verdicts.verdict_sentences import reason

if TYPE_CHECKING:
    from fairsweep.analysis.results.results import SweepResults
    from fairsweep.analysis.results.sweep_frames import At

_SEEDS = ["data_seed", "train_seed"]
_Matched = tuple[str, str, str, pd.DataFrame]


class _Choice(TypedDict):
    by: tuple[str, ...]
    split: str
    at: At
    positive: str | None


def metric_verdicts(
    results: SweepResults,
    metrics: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    *,
    by: str | Sequence[str],
    margin: float | None = None,
    split: str = "test",
    at: At = "last",
    positive: str | None = None,
    confidence: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return how series differ in each metric at each level, with verdicts that are corrected over all rows.

    Runs are paired by seeds. Every interval has a part between seeds and one of the test images that all runs share,
    from the same resamples of them in every run.

    Args:
        results: the sweep, with predictions.
        metrics: names in `METRICS`: of a disparity between the groups of ``by`` one row, of a rate or score one for
            each group.
        pairs: series (column ``series`` of the trials): the first minus the second.
        by: the groups, an attribute or several.
        margin: largest difference that does not matter, as a share; None tests no equivalence.
        split: see `SweepResults.evaluations`.
        at: see `SweepResults.evaluations`.
        positive: the positive class; default the second of two.
        confidence: of the intervals, which are not corrected.
        draws: number of resamples of the test images.
        seed: of the draws.

    Returns:
        Columns ``first``, ``second``, ``level``, ``metric``, ``group`` (the attribute for a disparity), ``difference``,
        ``low``, ``high``, ``verdict`` (different, equivalent, undecided, undefined), ``p_value`` and ``equivalence_p``
        (adjusted by Holm's method over all rows), ``seeds``, ``detectable`` (with 80% power; of undecided rows;
        infinite if not even the largest difference would be found),
        ``seeds_needed`` and ``reason`` (a sentence).

    Raises:
        ValueError: if a series is unknown, two never share a seed at a level, or the runs saw different images.
    """
    names = (by,) if isinstance(by, str) else tuple(by)
    matched = list(_matched(results, pairs))
    results = results.filter(trial=sorted({trial for *_, table in matched for trial in table.to_numpy().ravel()}))
    options: _Choice = {"by": names, "split": split, "at": at, "positive": positive}
    findings = []
    for name in metrics:
        compared = PairedMetric.of(results, name, **options, draws=draws, seed=seed)
        findings += list(_findings(compared, resolve(name, results.classes, positive), names, matched))
    verdicts = decide(findings, margin=margin, confidence=confidence)
    return pd.DataFrame([_row(replace(found, unit=results.unit)) for found in verdicts])


def _findings(
    compared: PairedMetric, metric: Metric, names: Sequence[str], matched: Sequence[_Matched]
) -> Iterator[Finding]:
    """Yield the difference of every pair in one metric: of a disparity, or of each group."""
    results, attribute = compared.results, JOINT.join(names)
    if compared.outcomes is None and compared.draws is None:
        raise ValueError(
            f"verdicts on metrics need predictions of all trials on the same {results.unit}s, with their groups in "
            "examples.parquet; compare_learners takes tables too"
        )
    groups = [attribute] if isinstance(metric.row, Disparity) else results.all_cells.group_names(names)
    for (first, second, level, table), group in product(matched, groups):
        question = Question("difference", first, second, attribute, str(group), level, metric.name)
        found = compared.difference(str(group), table)
        yield Finding(question, None if found is None else found[0], most=compared.most)


def _matched(results: SweepResults, pairs: Sequence[tuple[str, str]]) -> Iterator[_Matched]:
    """Yield each pair at each level with its trials, by seeds."""
    trials = results.trials[results.trials["state"] == "done"]
    known = list(dict.fromkeys(trials["series"].astype(str)))
    for pair in pairs:
        unknown = [name for name in pair if name not in known]
        if unknown:
            raise ValueError(f"pairs must name series that have finished trials, {known}, but got {unknown}")
        one, two = (trials[trials["series"].astype(str) == name] for name in pair)
        both = one.merge(two, on=["level", *_SEEDS], suffixes=("", "_other")).rename(
            columns={"trial_other": "baseline_trial"}
        )
        if both.empty or both.duplicated(["level", *_SEEDS]).any():
            raise ValueError(f"the series of a pair must have one trial each of some level and seeds, but got {pair}")
        for level, table in both.groupby("level", sort=False):
            yield *pair, str(level), table[["trial", "baseline_trial"]].astype(str)


def _row(found: Verdict) -> dict[str, object]:
    asked = found.question
    return {
        "first": asked.learner,
        "second": asked.baseline,
        "level": asked.level,
        "metric": asked.metric,
        "group": asked.group,
        "difference": found.estimate,
        "low": found.low,
        "high": found.high,
        "verdict": found.word,
        "p_value": found.p_adjusted,
        "equivalence_p": found.equivalence_adjusted,
        "seeds": found.seeds,
        "detectable": found.detectable,
        "seeds_needed": found.seeds_needed,
        "reason": reason(found),
    }
