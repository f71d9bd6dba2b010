"""Comparisons of learners: pairwise by seed, corrected for multiple tests; over folds; and over several datasets.

The unit of a comparison is a seed, not an image: two trainings of one learner differ too. Under six seeds no exact test
can reach 5%, so only the estimate and its t interval are given.
"""

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
from fairsweep.analysis.metrics.rates import Floats
from fairsweep.analysis.statistics.bootstrap_draws import keyed_generator
from fairsweep.analysis.statistics.variance_components import ReplicateSeeds, mean_over_seeds, without_rounding
from fairsweep.analysis.verdicts.multiplicity import holm

if TYPE_CHECKING:
    from fairsweep.analysis.results.results import SweepResults
    from fairsweep.analysis.results.sweep_frames import At

FEWEST = 6
"""Fewest seeds for which a p-value is given: of five the smallest exact one is 2 / 2**5 = .0625."""

_MOST_FLIPS = 2**14
_DIGITS = 12
"""Means that agree to so many digits tie in a ranking."""


def sign_flip_p(differences: npt.ArrayLike, *, draws: int = 20_000, seed: int = 0) -> float:
    """Two-sided p of the mean difference under random signs: all signs up to 14 differences, else random ones.

    References:
        Fisher 1935, The Design of Experiments, section 21.

    >>> sign_flip_p([1.0, 2.0, 1.5, 0.5, 1.0, 3.0])
    0.03125
    """
    values = np.asarray(differences, np.float64)
    count = len(values)
    if 2**count <= _MOST_FLIPS:
        signs = 1.0 - 2.0 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)
        return float((np.abs(signs @ values) >= abs(values.sum()) - 1e-12).mean())
    signs = keyed_generator("signs", seed, count).choice([-1.0, 1.0], (draws, count))
    return float((1 + (np.abs(signs @ values) >= abs(values.sum()) - 1e-12).sum()) / (1 + draws))


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

    Args:
        results: the sweep.
        metric: a name in `METRICS`.
        by: groups, each compared by itself; or the groups that a disparity compares.
        learners: names of learners or series; None takes all.
        split: see `SweepResults.evaluations`.
        at: see `SweepResults.evaluations`.
        confidence: of the t intervals, which are over seeds alone.

    Returns:
        Columns ``first``, ``second``, ``level``, ``group``, ``metric``, ``difference`` (first minus second), ``low``,
        ``high``, ``replicates``, ``effect`` (`paired_effect`), ``p_value`` (signs flipped; NaN under `FEWEST` seeds),
        ``smallest_p`` (that an exact test of so many pairs can reach), ``p_holm`` (over all rows).
    """
    frame = results.frame([metric], by=by, split=split, at=at)
    trials = results.trials.set_index("trial")
    names = frame["trial"].astype(str)
    frame = frame.assign(
        data_seed=trials["data_seed"].reindex(names).to_numpy(),
        train_seed=trials["train_seed"].reindex(names).to_numpy(),
        series=frame["series"].astype(str),
        level=frame["level"].astype(str),
    )
    if learners is not None:
        frame = frame[frame["series"].isin(list(learners)) | frame["learner"].astype(str).isin(list(learners))]
    rows = []
    for (level, group), part in frame.groupby(["level", "group"], sort=False, observed=True):
        wide = part.pivot(index=["data_seed", "train_seed"], columns="series", values="value")
        for first, second in combinations(list(dict.fromkeys(part["series"])), 2):
            both = wide[[first, second]].dropna()
            if len(both):
                head = {"first": first, "second": second, "level": level, "group": group, "metric": metric}
                rows.append(head | _paired(both[first] - both[second], confidence))
    columns = ["first", "second", "level", "group", "metric", *_PAIRED]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(p_holm=holm(table["p_value"].to_numpy(np.float64)))


_PAIRED = ("difference", "low", "high", "replicates", "effect", "p_value", "smallest_p")


def _paired(differences: pd.Series[float], confidence: float) -> dict[str, float]:
    values: Floats = np.asarray(differences, np.float64)
    data, training = (differences.index.get_level_values(name) for name in ("data_seed", "train_seed"))
    seeds = ReplicateSeeds.of(data.to_numpy(np.float64), training.to_numpy(np.float64))
    found = mean_over_seeds(values, seeds)
    low, high = found.interval(confidence)
    crossed = seeds.design == "crossed"
    # Signs of crossed replicates are not free: one seed serves several. Their t test is Satterthwaite's.
    p = found.p_value() if crossed else sign_flip_p(values)
    smallest = float("nan") if crossed else 2.0 / 2 ** len(values)
    p = p if crossed or len(values) >= FEWEST else float("nan")
    numbers = (found.mean, low, high, float(len(values)), paired_effect(values), p, smallest)
    return dict(zip(_PAIRED, numbers, strict=True))


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
