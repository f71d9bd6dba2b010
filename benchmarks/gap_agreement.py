"""How often intervals of `analysis.gap_agreement` hold the expected agreement, and how often it is claimed without one.

Simulated are the changes of two metrics: of settings (whose true changes agree, or not), and luck of each run, of
which the two metrics share most, as those that are computed from the same predictions do, and settings of one seed
share some.

    python benchmarks/gap_agreement.py
"""

import numpy as np
from scipy import stats

from fairsweep.analysis.gaps.gap_agreement import jackknifed_agreement
from fairsweep.analysis.metrics.rates import Floats

SWEEPS, FOR_TRUTH = 400, 400


def changes(random: np.random.Generator, truth: Floats, seeds: int) -> Floats:
    """The changes under each seed, float64 [2, seeds, settings]; ``truth`` is float64 [2, settings]."""
    shape = (2, seeds, truth.shape[1])
    own, shared, of_seed = random.normal(size=shape), random.normal(size=shape[1:]), random.normal(size=(2, seeds, 1))
    return truth[:, None] + 0.5 * own + 0.6 * shared + 0.5 * of_seed


def main() -> None:
    """Print a table."""
    random = np.random.default_rng(0)
    print("seeds  settings  effect  true agreement  expected   held  claimed")
    for seeds in (3, 5, 8, 10):
        for settings in (6, 18):
            for effect, correlation in ((0.0, 0.0), (1.0, 0.0), (1.0, 0.5), (3.0, 0.8)):
                one, rest = random.normal(size=(2, settings))
                truth = effect * np.stack([one, correlation * one + np.sqrt(1 - correlation**2) * rest])
                expected = np.mean(
                    [jackknifed_agreement(*changes(random, truth, seeds)).mean() for _ in range(FOR_TRUTH)]
                )
                values = np.array([jackknifed_agreement(*changes(random, truth, seeds)) for _ in range(SWEEPS)])
                mean, half = values.mean(1), stats.t.ppf(0.975, seeds - 1) * stats.sem(values, axis=1)
                held, claimed = np.abs(mean - expected) <= half, np.abs(mean) > half
                print(
                    f"{seeds:5}  {settings:8}  {effect:6.1f}  {correlation:14.1f}  {expected:8.2f}  {held.mean():5.1%}"
                    f"  {claimed.mean():7.1%}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
