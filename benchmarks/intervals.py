"""Bootstrap intervals of metrics by group: fairlearn's MetricFrame against resampled cells.

Same table, same metrics, same number of resamples. `MetricFrame(n_boot=...)` resamples the examples and computes every
metric of every group anew; cells are resampled by one multinomial draw, which for metrics of counts is the same
distribution. A two-sample Kolmogorov-Smirnov test on the resamples of every metric and group says whether it is.

    python benchmarks/intervals.py --examples 10000 --groups 4 --draws 1000
"""

import argparse
import time

import fairlearn.metrics as fl
import numpy as np
import sklearn.metrics as sk
from scipy import stats

from fairsweep.analysis.metrics.disparities import value_of
from fairsweep.analysis.metrics.rates import RATES
from fairsweep.analysis.metrics.scores import SCORES
from fairsweep.analysis.statistics.intervals import bootstrap_draws

METRICS = {
    "accuracy": sk.accuracy_score,
    "selection_rate": fl.selection_rate,
    "true_positive_rate": fl.true_positive_rate,
    "false_positive_rate": fl.false_positive_rate,
    "false_negative_rate": fl.false_negative_rate,
    "balanced_accuracy": sk.balanced_accuracy_score,
}
BASES = RATES | SCORES
LEVEL = 0.05


def table(examples: int, groups: int, seed: int):
    """Examples with a group, a label and a prediction, and their cells."""
    rng = np.random.default_rng(seed)
    group, label = rng.integers(0, groups, examples), rng.integers(0, 2, examples)
    prediction = np.where(rng.random(examples) < 0.1 + 0.2 * group / groups, 1 - label, label)
    cells = np.bincount((group * 2 + label) * 2 + prediction, minlength=4 * groups).reshape(groups, 2, 2)
    return group, label, prediction, cells.astype(np.int64)


def ours(cells: np.ndarray, draws: int, seed: int) -> dict[str, np.ndarray]:
    """Resamples of every metric, float64 [draws, groups]."""
    resampled = bootstrap_draws(cells, strata="none", generator=np.random.default_rng(seed), draws=draws)
    return {name: value_of(resampled, BASES[name], 1) for name in METRICS}


def theirs(group: np.ndarray, label: np.ndarray, prediction: np.ndarray, draws: int, seed: int):
    """Fairlearn's frame, with the quantiles that it keeps of its resamples."""
    quantiles = np.linspace(0.005, 0.995, 100).tolist()
    return fl.MetricFrame(
        metrics=METRICS,
        y_true=label,
        y_pred=prediction,
        sensitive_features=group,
        n_boot=draws,
        ci_quantiles=quantiles,
        random_state=seed,
    )


def their_draws(group: np.ndarray, label: np.ndarray, prediction: np.ndarray, draws: int, seed: int):
    """The same resamples as a table, for the test: a frame without resamples for each bootstrap of the rows."""
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(draws):
        rows = rng.integers(0, len(label), len(label))
        frame = fl.MetricFrame(
            metrics=METRICS, y_true=label[rows], y_pred=prediction[rows], sensitive_features=group[rows]
        )
        parts.append(frame.by_group.to_numpy(np.float64))
    return {name: np.stack(parts)[:, :, i] for i, name in enumerate(METRICS)}


def main() -> None:
    """Time both, then compare their distributions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--compared", type=int, default=400, help="resamples of each in the test of distributions")
    options = parser.parse_args()
    group, label, prediction, cells = table(options.examples, options.groups, seed=0)
    ours(cells, 10, 0)
    runs = []
    for seed in range(5):
        start = time.perf_counter()
        mine = ours(cells, options.draws, seed)
        bounds = {name: np.quantile(values, [0.025, 0.975], axis=0) for name, values in mine.items()}
        runs.append(time.perf_counter() - start)
    start = time.perf_counter()
    frame = theirs(group, label, prediction, options.draws, 0)
    slow = time.perf_counter() - start
    fast = float(np.median(runs))
    print(f"{options.examples} examples, {options.groups} groups, {len(METRICS)} metrics, {options.draws} resamples")
    print(f"fairlearn {slow:.2f} s; cells {1000 * fast:.2f} ms (median of 5); {slow / fast:,.0f} times as fast")
    known = np.stack([by_group[list(METRICS)].to_numpy(np.float64) for by_group in frame.by_group_ci])
    places = [int(np.argmin(np.abs(np.linspace(0.005, 0.995, 100) - q))) for q in (0.025, 0.975)]
    apart = [
        np.abs(known[p, :, i] - bounds[name][j]).max() for i, name in enumerate(METRICS) for j, p in enumerate(places)
    ]
    print(f"largest distance between bounds of 95% intervals: {max(apart):.4f}")
    compared = their_draws(group, label, prediction, options.compared, 1)
    again = ours(cells, options.compared, 7)
    p = [stats.ks_2samp(compared[n][:, g], again[n][:, g]).pvalue for n in METRICS for g in range(options.groups)]
    adjusted = min(1.0, min(p) * len(p))
    verdict = "equal" if adjusted > LEVEL else "different"
    print(
        f"KS tests on {len(p)} pairs of {options.compared} resamples: smallest p {min(p):.3f}, after Bonferroni "
        f"{adjusted:.2f}; distributions {verdict}"
    )


if __name__ == "__main__":
    main()
