"""Prints how often verdicts are false: over simulated differences, and over whole reports of sweeps without an effect.

Two learners of 90% accuracy are compared on the same images, paired by seed. ``spread`` is the standard deviation of a
run's accuracy between seeds, ``shared`` the share of images whose outcome is the same luck for every run. "different"
is counted where there is no difference, "equivalent" where the difference is the margin. A report is of three learners
with one truth, three seeds each, and two groups; it claims something if any of its verdicts is "different".
"""

import argparse

import numpy as np

from fairsweep.analysis import from_predictions
from fairsweep.analysis.report.page_verdicts import page_verdicts
from fairsweep.analysis.results.imbalance_design import design_of
from fairsweep.analysis.statistics.effects import Effect, effect_of_contributions
from fairsweep.analysis.statistics.variance_components import ReplicateSeeds

_MARGINS = {20: 0.2, 200: 0.06, 2000: 0.02}
_AT_ONCE = 100


def effect(
    rng: np.random.Generator, sweeps: int, seeds: int, images: int, gap: float, spread: float, shared: float
) -> Effect:
    """Return the differences of simulated sweeps."""
    luck = rng.random((sweeps, 1, images))

    def correct(accuracy: float) -> np.ndarray:
        mine = np.where(rng.random((sweeps, seeds, images)) < shared, luck, rng.random((sweeps, seeds, images)))
        return (mine < np.clip(accuracy + rng.normal(0, spread, (sweeps, seeds, 1)), 0, 1)).astype(np.float64)

    order = ReplicateSeeds.of(np.arange(seeds), np.arange(seeds))
    values = (correct(0.9) - correct(0.9 - gap)) / images
    return effect_of_contributions(values, np.zeros(images, np.int64), order, weight=1 / images, images=images)


def rates(sweeps: int, seeds: int, images: int, spread: float, shared: float) -> list[float]:
    """Return the shares of false "different", false "equivalent", found equal and found different."""
    rng = np.random.default_rng([seeds, images, round(1000 * spread), round(10 * shared)])
    margin, counts = _MARGINS[images], np.zeros(4)
    for _ in range(0, sweeps, _AT_ONCE):
        none, some = (effect(rng, _AT_ONCE, seeds, images, gap, spread, shared) for gap in (0.0, margin))
        p = (none.p_value(), some.equivalence_p(margin), none.equivalence_p(margin), some.p_value())
        counts += [(np.nan_to_num(one, nan=1.0) < 0.05).sum() for one in p]
    return list(counts / sweeps)


def claims(sweep: int, seeds: int = 3, images: int = 100, learners: int = 3) -> bool:
    """Return whether the report of one sweep without any effect claims a difference."""
    rng = np.random.default_rng([7, sweep])
    tone = np.where(np.arange(2 * images) % 2 == 0, "light", "dark")
    truth, luck = rng.integers(0, 2, 2 * images), rng.random(2 * images)
    columns: dict[str, list[np.ndarray]] = {name: [] for name in ("y", "p", "tone", "learner", "seed")}
    for learner in range(learners):
        for seed in range(seeds):
            mine = np.where(rng.random(2 * images) < 0.7, luck, rng.random(2 * images))
            predicted = np.where(mine < 0.85 + rng.normal(0, 0.01), truth, 1 - truth)
            for name, values in zip(columns, (truth, predicted, tone, f"learner{learner}", seed), strict=True):
                columns[name].append(np.broadcast_to(np.asarray(values), truth.shape))
    y, p, groups, learner_of, seed_of = (np.concatenate(column) for column in columns.values())
    names = np.char.add(np.char.add(learner_of.astype(str), "/"), seed_of.astype(str))
    results = from_predictions(y, p, {"tone": groups}, trial=names, learner=learner_of, seed=seed_of)
    return any(one.word == "different" for one in page_verdicts(results, design_of(results)).found.values())


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=1000)
    parser.add_argument("--reports", type=int, default=200)
    given = parser.parse_args()
    found_of = ("false different", "false equivalent", "equivalent found", "different found")
    print(f"| {' | '.join(('seeds', 'images', 'spread', 'shared', 'margin', *found_of))} |")
    print(9 * "|---" + "|")
    for seeds in (3, 5, 10):
        for images, margin in _MARGINS.items():
            for spread, shared in ((0.0, 1.0), (0.01, 0.5), (0.03, 0.8)):
                found = " | ".join(f"{rate:.3f}" for rate in rates(given.sweeps, seeds, images, spread, shared))
                print(f"| {seeds} | {images:,} | {spread} | {shared} | {margin} | {found} |", flush=True)
    claimed = sum(claims(sweep) for sweep in range(given.reports))
    print(f"\n{claimed} of {given.reports} reports of sweeps without an effect claim a difference")


if __name__ == "__main__":
    main()
