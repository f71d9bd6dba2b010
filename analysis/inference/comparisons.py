"""Comparisons of learners: pairwise by seed, corrected for multiple tests; over folds; and over several datasets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from fairsweep.analysis.extras import explained
from fairsweep.analysis.results.outcome_table import PairedMetric, pairs_by_seed
from fairsweep.analysis.results.sweep_records import one_of
from fairsweep.analysis.statistics.multiplicity import holm
from fairsweep.analysis.statistics.variance_components import without_rounding

if TYPE_CHECKING:
    from fairsweep.analysis.results.results import SweepResults
    from fairsweep.analysis.results.sweep_frames import At

_DIGITS = 12
"""Means that agree to so many digits tie in a ranking."""


def paired_effect(differences: npt.ArrayLike) -> float:
    """Mean over standard deviation of paired differences, with Hedges's correction for few pairs; NaN under three.

    Of two pairs no unbiased estimate exists: the correction is 0.

    References:
        Hedges 1981, doi 10.3102/10769986006002107; Lakens 2013, doi 10.3389/fpsyg.2013.00863, equation (7).
    """
    values = np.asarray(differences, np.float64)
    if len(values) < 3 or not without_rounding(values - values.mean()).any():
        return float("nan")
    correction = 1 - 3 / (4 * (len(values) - 1) - 1)
    return float(correction * values.mean() / values.std(ddof=1))


def compare_learners(
    results: SweepResults,
    metric: str = "accuracy",
    *,
    by: str | Sequence[str] = (),
    learners: Sequence[str] | None = None,
    split: str = "test",
    at: At = "last",
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Return every pair of learners (series) at every level, paired by seeds.

    Numbers are those of the report: an interval covers variation between seeds and the sampling of test images.
    Verdicts are corrected for the rows of this table alone, of which a report has others.

    Args:
        results: the sweep.
        metric: a name in `METRICS`.
        by: groups, each compared by itself; or the groups that a disparity compares.
        learners: names of learners or series; None takes all.
        split: see `SweepResults.evaluations`.
        at: see `SweepResults.evaluations`.
        confidence: of the intervals.

    Returns:
        Columns ``first``, ``second``, ``level``, ``group``, ``metric``, ``difference`` (first minus second), ``low``,
        ``high``, ``replicates``, ``effect`` (`paired_effect`), ``p_value`` (NaN with one seed, and for groups that are
        too small to be ranked), ``p_holm`` (over all rows).
    """
    frame = results.frame([metric], by=by, split=split, at=at)
    trials = results.trials[results.trials["trial"].isin(frame["trial"].astype(str))]
    if learners is not None:
        for name in learners:
            one_of(name, dict.fromkeys([*results.trials["learner"], *results.trials["series"]]), "learner")
        trials = trials[trials["series"].isin(list(learners)) | trials["learner"].isin(list(learners))]
    compared = PairedMetric.of(results, metric, by, split=split, at=at)
    small = results.small_groups(by, split=split)
    values = frame.assign(trial=frame["trial"].astype(str)).set_index(["group", "trial"])["value"]
    rows = []
    for level, part in trials.groupby("level", sort=False):
        series = {str(name): of_series for name, of_series in part.groupby("series", sort=False)}
        for group in dict.fromkeys(frame["group"]):
            for first, second in combinations(series, 2):
                pairs = pairs_by_seed(series[first], series[second])
                found = compared.difference(group, pairs) if len(pairs) else None
                if found is not None:
                    head = {"first": first, "second": second, "level": level, "group": group, "metric": metric}
                    low, high = found[0].interval(confidence, compared.most)
                    each = (values[group].reindex(pairs[name]).to_numpy() for name in ("trial", "baseline_trial"))
                    p = np.nan if group in small else found[0].p_value()
                    effect = paired_effect(np.subtract(*each))
                    numbers = (found[0].estimate, low, high, found[0].replicates, effect, p)
                    rows.append(head | {name: float(one) for name, one in zip(_PAIRED, numbers, strict=True)})
    table = pd.DataFrame(rows, columns=["first", "second", "level", "group", "metric", *_PAIRED])
    return table.assign(p_holm=holm(table["p_value"].to_numpy(np.float64)))


_PAIRED = ("difference", "low", "high", "replicates", "effect", "p_value")


def corrected_fold_test(
    differences: npt.ArrayLike, *, train_size: int, test_size: int, confidence: float = 0.95
) -> tuple[float, float, float, float]:
    """Mean difference over folds or random splits, its t interval and p, corrected for overlapping training sets.

    Args:
        differences: one for each fold, float [k].
        train_size: training images of a fold.
        test_size: test images of a fold.
        confidence: of the interval.

    Returns:
        The mean, lower bound, upper bound and two-sided p; the last three are NaN where all differences are one number,
        but for the p of 1 where that is 0.

    Raises:
        ValueError: with fewer than two folds.

    References:
        Nadeau & Bengio 2003, doi 10.1023/A:1024068626366, equation (19).
    """
    values = np.asarray(differences, np.float64)
    if len(values) < 2:
        raise ValueError(f"a test over folds needs at least two, but got {len(values)}")
    mean, df = float(values.mean()), len(values) - 1
    if not without_rounding(values - mean).any():
        return mean, float("nan"), float("nan"), float("nan") if without_rounding(mean) else 1.0
    error = float(np.sqrt((1 / len(values) + test_size / train_size) * values.var(ddof=1)))
    half = float(stats.t.ppf(0.5 + confidence / 2, df)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, df))
    return mean, mean - half, mean + half, p


@dataclass(frozen=True)
class RankComparison:
    """Learners ranked over several datasets, and what a critical-difference plot draws.

    Attributes:
        ranks: mean rank of each learner, 1 the best, best first.
        p_value: of Friedman's test, in Iman and Davenport's form.
        pairs: Nemenyi's p-value of each pair, learners x learners.
        critical_difference: mean ranks farther apart differ at the 5% level.
        cliques: learners that do not differ significantly, each a run of neighbours in ``ranks``; bars of the plot.
        datasets: how many there were.
    """

    ranks: pd.Series[float]
    p_value: float
    pairs: pd.DataFrame
    critical_difference: float
    cliques: tuple[tuple[str, ...], ...]
    datasets: int


def compare_over_datasets(
    values: pd.DataFrame, *, higher_is_better: bool = True, level: float = 0.05
) -> RankComparison:
    """Return Friedman's test and Nemenyi's comparisons of learners over datasets.

    Rows must be independent: datasets, each with one number per learner (its mean over seeds). Seeds, levels or folds
    of one dataset are not independent rows, and this test does not know it.

    Args:
        values: datasets x learners.
        higher_is_better: whether rank 1 is the highest value.
        level: of the critical difference.

    Raises:
        ImportError: if scikit-posthocs is not installed.
        ValueError: with fewer than three datasets or learners, or a missing value.

    References:
        Demšar 2006, JMLR 7, sections 3.2.2 to 3.2.3; Iman & Davenport 1980, doi 10.1080/03610928008827904.
    """
    rows, columns = values.shape
    if rows < 3 or columns < 3 or values.isna().to_numpy().any():
        raise ValueError(
            f"ranks need at least 3 datasets and 3 learners without gaps, but got {rows} x {columns} with "
            f"{int(values.isna().to_numpy().sum())} gaps; compare two learners in pairs instead"
        )
    try:
        import scikit_posthocs
    except ModuleNotFoundError as error:
        raise explained(error, "compare_over_datasets") from error
    ranked = values.round(_DIGITS).rank(axis=1, ascending=not higher_is_better)
    ranks = ranked.mean().sort_values()
    # Where all tie on every dataset, the statistic is 0 / 0.
    is_flat = (ranked.nunique(axis=1) == 1).all()
    square = 0.0 if is_flat else float(stats.friedmanchisquare(*(ranked[name].to_numpy() for name in values)).statistic)
    room = rows * (columns - 1) - square
    ratio = (rows - 1) * square / room if room > 0 else np.inf
    p = float(stats.f.sf(ratio, columns - 1, (columns - 1) * (rows - 1)))
    pairs = scikit_posthocs.posthoc_nemenyi_friedman(values.to_numpy())
    pairs = pd.DataFrame(np.asarray(pairs), index=values.columns, columns=values.columns)
    quantile = float(stats.studentized_range.ppf(1 - level, columns, np.inf)) / np.sqrt(2)
    critical = float(quantile * np.sqrt(columns * (columns + 1) / 6 / rows))
    return RankComparison(ranks, p, pairs, critical, _cliques(ranks, critical), rows)


def _cliques(ranks: pd.Series[float], critical: float) -> tuple[tuple[str, ...], ...]:
    """Return the longest runs of learners whose mean ranks span no more than the critical difference."""
    values, names = ranks.to_numpy(np.float64), [str(name) for name in ranks.index]
    runs = [(first, int(np.flatnonzero(values <= values[first] + critical)[-1])) for first in range(len(names))]
    longest = [run for run in runs if not any(a <= run[0] and run[1] <= b and (a, b) != run for a, b in runs)]
    return tuple(tuple(names[a : b + 1]) for a, b in longest if b > a)
