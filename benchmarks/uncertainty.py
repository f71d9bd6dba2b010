"""Prints how often intervals hold the truth and verdicts are false, over simulated sweeps with known truths.

python benchmarks/uncertainty.py people fluctuations gaps means crossed calibration winners
"""

import argparse
import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from fairsweep.analysis import SweepResults, crossed_frame, from_predictions
from fairsweep.analysis.inference.fluctuations import explain_table
from fairsweep.analysis.inference.level_tables import LevelTable
from fairsweep.analysis.inference.selection import corrected_winner
from fairsweep.analysis.metrics.disparities import DISPARITIES, Disparity
from fairsweep.analysis.metrics.rates import Counts, Floats
from fairsweep.analysis.report.page_verdicts import page_verdicts
from fairsweep.analysis.results.imbalance_design import design_of
from fairsweep.analysis.results.replicates import average
from fairsweep.analysis.statistics.crossed_bounds import SharedRate, mean_disparity, mean_rate
from fairsweep.analysis.statistics.effective_sample_size import SamplingUnits
from fairsweep.analysis.statistics.intervals import mean_of_bounds, replicate_mean, widen, wilson
from fairsweep.analysis.statistics.simultaneous_intervals import simultaneous
from fairsweep.analysis.statistics.variance_components import ReplicateSeeds

ACCURACY = 0.8
CALIBRATION = {
    "expected_calibration_error": "expected_calibration_error_difference",
    "calibration_error": "calibration_difference",
}


def sweep_of_people(rng: np.random.Generator, people: int, images: int, seeds: int, learners: int = 2) -> SweepResults:
    """Return a sweep without any effect in which each person has several images with nearly the same luck."""
    total = people * images
    user = np.repeat(np.arange(people), images)
    tone = np.where(user % 2 == 0, "light", "dark")
    luck = np.repeat(rng.random(people), images)
    luck = np.where(rng.random(total) < 0.9, luck, rng.random(total))
    truth = rng.integers(0, 2, total)
    parts = [
        np.where(
            np.where(rng.random(total) < 0.7, luck, rng.random(total)) < ACCURACY + rng.normal(0, 0.01),
            truth,
            1 - truth,
        )
        for _ in range(learners * seeds)
    ]
    names = [f"learner{i // seeds}" for i in range(len(parts))]
    seed = [i % seeds for i in range(len(parts))]
    return from_predictions(
        np.tile(truth, len(parts)),
        np.concatenate(parts),
        {"tone": np.tile(tone, len(parts))},
        user=np.tile(user, len(parts)),
        trial=np.repeat([f"{name}/{s}" for name, s in zip(names, seed, strict=True)], total),
        learner=np.repeat(names, total),
        seed=np.repeat(seed, total),
        min_group_size=1,
    )


def people(sweeps: int) -> None:
    """Print what tables, disparities and verdicts make of people with many alike images."""
    print("people: 40 people with 15 alike images each, 3 seeds, two learners, no effect")
    held: dict[str, list[float]] = {"rate of one trial": [], "gap of one trial": [], "mean rate": [], "mean gap": []}
    claims = []
    for number in range(sweeps):
        results = sweep_of_people(np.random.default_rng([1, number]), 40, 15, 3)
        rates = results.rates(["accuracy"], by="tone")
        gaps = results.disparities(["accuracy_difference"], by="tone", expected_if_equal=False)
        for name, frame, truth in (("rate", rates, ACCURACY), ("gap", gaps, 0.0)):
            for kind, table in ((f"{name} of one trial", frame), (f"mean {name}", average(frame, results=results))):
                held[kind].append(float(((table["low"] <= truth) & (truth <= table["high"])).mean()))
        claims.append(any(one.word == "different" for one in page_verdicts(results, design_of(results)).found.values()))
    for kind, values in held.items():
        print(f"  {kind:20} held {np.mean(values):.1%}")
    print(f"  reports that claim a difference {np.mean(claims):.1%}")


def level_table(rng: np.random.Generator, seeds: int, images: int, levels: int, spread: float) -> LevelTable:
    """Return values of one learner at several levels without an effect, on the same test images."""
    truth = ACCURACY + rng.normal(0, spread, (seeds, levels))
    shared = rng.random((1, 1, images)), rng.random((seeds, levels, images))
    correct = np.where(rng.random((seeds, levels, images)) < 0.7, *shared) < truth[..., None]
    weights = rng.multinomial(images, np.full(images, 1 / images), 200) / images
    noise = np.moveaxis(correct @ weights.T, -1, 0)
    return LevelTable(
        "accuracy",
        "dark",
        "share",
        tuple(np.linspace(0.5, 0.99, levels).tolist()),
        np.full(levels, np.nan),
        correct.mean(-1),
        np.full((seeds, levels), images),
        ReplicateSeeds.of(np.arange(seeds), np.arange(seeds)),
        noise - noise.mean(0),
        same_images=True,
    )


def fluctuations(sweeps: int) -> None:
    """Print how often `explain_fluctuations` claims a change where there is none, and finds a detectable one."""
    print("fluctuations: null sweeps that claim a change; 7 levels, 200 test images, seeds differ by 0 or 1 point")
    for seeds in (1, 2, 3, 5):
        line = f"  {seeds} seeds:"
        for spread in (0.0, 0.01):
            rng = np.random.default_rng([2, seeds, round(100 * spread)])
            tables = [level_table(rng, seeds, 200, 7, spread) for _ in range(sweeps)]
            found = [explain_table(table) for table in tables]
            steps = np.mean([one.neighbours["differ"].any() for one in found])
            trends = np.mean([one.trend is not None and one.trend.word == "different" for one in found])
            line += f" steps {steps:.1%}, trend {trends:.1%};"
        if seeds > 1:
            step = float(np.sqrt(np.mean(np.square([one.detectable for one in found]))))
            if not np.isfinite(step):
                print(f"{line} in some of them no step, however large, is detectable")
                continue
            later = step * (np.arange(7) >= 3)
            moved = [explain_table(replace(table, values=table.values - later)) for table in tables]
            power = np.mean([one.neighbours["differ"].iloc[2] for one in moved])
            line += f" a step of {100 * step:.0f} points, the detectable one, is found in {power:.0%}"
        print(line)


def gaps(sweeps: int) -> None:
    """Print how often intervals of a gap hold it where one group has few images, and whether bounds are possible."""
    print("gaps: accuracy gap of three groups with few, 60 and 200 images; one learner, three seeds")
    for few in (5, 9, 20):
        for accuracy, drop in ((0.9, 0.0), (0.9, 0.2), (0.98, 0.0)):
            rng = np.random.default_rng([4, few, round(1000 * (accuracy + drop))])
            size = np.array([few, 60, 200])
            group = np.repeat(["a", "b", "c"], size)
            truth = np.arange(size.sum()) % 2
            chance = np.repeat([accuracy - drop, accuracy, accuracy], size)
            held, width, outside = [], [], []
            for _ in range(sweeps):
                luck, own = rng.random(size.sum()), rng.random((3, size.sum()))
                right = np.where(rng.random(own.shape) < 0.7, luck, own) < chance + rng.normal(0, 0.005, (3, 1))
                results = from_predictions(
                    np.tile(truth, 3),
                    np.where(right, truth, 1 - truth).ravel(),
                    {"group": np.tile(group, 3)},
                    trial=np.repeat(["s0", "s1", "s2"], size.sum()),
                    learner="one",
                    seed=np.repeat([0, 1, 2], size.sum()),
                    min_group_size=1,
                )
                both = crossed_frame(results, ["accuracy", "accuracy_difference"], by="group", draws=300)
                row = both[both["metric"] == "accuracy_difference"].iloc[0]
                held.append(row["low"] - 1e-9 <= drop <= row["high"] + 1e-9)
                width.append(row["high"] - row["low"])
                outside.append((both["low"] < 0).any() or (both["high"] > 1).any())
            print(
                f"  {few} images, accuracy {accuracy}, gap {drop}: held {np.mean(held):.1%}, mean width "
                f"{np.mean(width):.2f}, bounds outside [0, 1] in {np.mean(outside):.0%}",
                flush=True,
            )


MEANS = {
    "4 groups of 9, 80%": ([9] * 4, [0.8] * 4),
    "4 groups of 20, 90% and 70%": ([20] * 4, [0.9, 0.9, 0.9, 0.7]),
    "4 groups of 63, 98%": ([63] * 4, [0.98] * 4),
    "12 groups of 40, 80%": ([40] * 12, [0.8] * 12),
    "5, 60 and 200, 90%": ([5, 60, 200], [0.9] * 3),
    "20, 60 and 500, 90% and 70%": ([20, 60, 500], [0.9, 0.9, 0.7]),
    "2 groups of 5,000, 95% and 90%": ([5000] * 2, [0.95, 0.9]),
}
"""Designs: sizes and accuracies of the groups."""


def from_tables(value: Floats, low: Floats, high: Floats, least: Floats, cut: float = np.nan) -> tuple[Floats, Floats]:
    """Return the interval of `average` for values of replicates with intervals of their own: float64 [..., R]."""
    mean = replicate_mean(value, resolution=1 / least)
    return widen(mean.mean, mean_of_bounds(low, cut), high.mean(-1), mean.half_width)


def from_predictions_too(
    counts: Counts, of_images: Floats, size: Counts, row: Disparity
) -> list[tuple[Floats, Floats]]:
    """Return the intervals of `average` with the sweep's predictions, for rates and their gap.

    Args:
        counts: successes of each replicate and group, int64 [E, R, G].
        of_images: variance of the groups' means over resamples of the images, float64 [E, G].
        size: images of each group, int64 [G].
        row: the gap.
    """
    units, every = SamplingUnits(size, size, size - 1, are_counted=True), np.ones(len(size), np.bool_)
    found = [
        SharedRate(one, np.broadcast_to(size, one.shape), variance, units)
        for one, variance in zip(counts, of_images, strict=True)
    ]
    columns = [mean_rate(one, 0.95) for one in found], [mean_disparity([one], every, row, 0.95) for one in found]
    rates, gaps = ([np.stack([one[name] for one in part]) for name in ("low", "high")] for part in columns)
    return [(rates[0], rates[1]), (gaps[0][:, 0], gaps[1][:, 0])]


def means(sweeps: int) -> None:
    """Print coverage and width of the two intervals of a mean over replicates: from tables, and from predictions."""
    print("means: accuracy by group and its gap; trainings share 30% or 70% of the images' luck and differ by a point")
    row = DISPARITIES["accuracy_difference"]
    for (name, (sizes, accuracy)), replicates, shared in itertools.product(MEANS.items(), (1, 2, 5, 10), (0.3, 0.7)):
        rng, size, truth = np.random.default_rng([7, replicates]), np.array(sizes), np.array(accuracy)
        moved = rng.uniform(-1, 1, (sweeps, replicates, 1)) * 0.01 * np.sqrt(3)
        value, of_images = np.empty((sweeps, len(size), replicates)), np.empty((sweeps, len(size)))
        for g, n in enumerate(sizes):
            alike = rng.random((sweeps, replicates, n)) < shared**0.5
            luck = np.where(alike, rng.random((sweeps, 1, n)), rng.random((sweeps, replicates, n)))
            right = luck < accuracy[g] + moved
            value[:, g], of_images[:, g] = right.mean(-1), right.mean(1).var(-1) / n
        successes = np.rint(value * size[:, None]).swapaxes(1, 2).astype(np.int64)
        counts = successes.reshape(-1, 1, len(size))
        every = np.broadcast_to(size, counts.shape)
        gaps = simultaneous(counts, every, np.ones((len(counts), len(size)), np.bool_), row)
        low, high = (bound.reshape(sweeps, replicates) for bound in gaps)
        tables = [
            from_tables(value, *wilson(value * size[:, None], size[:, None]), size),
            from_tables(value.max(1) - value.min(1), low, high, size.min(), 0.0),
        ]
        line = f"  {name:28} {replicates:2} seeds, shared {shared}:"
        both = zip(("rates", "gap"), (truth, truth.max() - truth.min()), tables, strict=True)
        for (what, true, plain), crossed in zip(
            both, from_predictions_too(successes, of_images, size, row), strict=True
        ):
            found = [(np.maximum(low, 0), np.minimum(high, 1)) for low, high in (plain, crossed)]
            held = [np.mean((low <= true + 1e-9) & (true - 1e-9 <= high)) for low, high in found]
            width = [np.mean(high - low) for low, high in found]
            line += f" {what} {held[0]:.1%} ({width[0]:.3f}) and {held[1]:.1%} ({width[1]:.3f}),"
            line += f" x{width[0] / width[1]:.2f};"
        print(line, flush=True)


def crossed(sweeps: int) -> None:
    """Print how often mean rates are held where seeds are crossed: 3 data seeds by 3 training seeds."""
    print("crossed: accuracy of a group, 3 x 3 crossed seeds that move a run by a point each, 70% of the luck shared")
    seeds = ReplicateSeeds.of(np.repeat(np.arange(3), 3), np.tile(np.arange(3), 3))
    for n in (60, 500, 5000):
        rng, size, held = np.random.default_rng([8, n]), np.array([n]), []
        units = SamplingUnits(size, size, size - 1, are_counted=True)
        for _ in range(sweeps):
            moved = (rng.normal(0, 0.01, (3, 1)) + rng.normal(0, 0.01, (1, 3))).reshape(9, 1)
            alike = rng.random((9, n)) < 0.7**0.5
            right = np.where(alike, rng.random(n), rng.random((9, n))) < ACCURACY + moved
            variance = np.array([right.mean(0).var() / n])
            found = mean_rate(SharedRate(right.sum(1)[:, None], np.full((9, 1), n), variance, units), 0.95, seeds)
            held.append(found["low"][0] <= ACCURACY <= found["high"][0])
        print(f"  groups of {n:5}: held {np.mean(held):.1%}", flush=True)


def calibration(sweeps: int) -> None:
    """Print bias of calibration errors, how often intervals hold them, and the same of a difference of two groups."""
    print("calibration: two groups of n and 2n predictions, confidence above accuracy by 0, 5 or 10 points in both")
    for images in (30, 100, 500, 2000):
        for off in (0.0, 0.05, 0.1):
            rng = np.random.default_rng([5, images, round(100 * off)])
            found: dict[str, list[tuple[float, ...]]] = {name: [] for name in CALIBRATION}
            for _ in range(sweeps):
                sure = rng.uniform(0.5 + off, 1, 3 * images)
                label = (rng.random(3 * images) > sure - off).astype(np.int64)
                group = np.repeat(["a", "b", "b"], images)
                both = np.stack([sure, 1 - sure], -1)
                results = from_predictions(
                    label, groups={"group": group}, probabilities=both, classes=(0, 1), min_group_size=1
                )
                rates = results.rates(list(CALIBRATION), by="group")
                gaps = results.disparities(list(CALIBRATION.values()), by="group", expected_if_equal=False)
                for name, gap in CALIBRATION.items():
                    one = rates[(rates["metric"] == name) & (rates["group"] == "a")].iloc[0]
                    apart = gaps[gaps["metric"] == gap].iloc[0]
                    held = one["low"] <= off + 1e-9 and off <= one["high"]
                    same = apart["low"] <= 1e-9
                    widths = one["high"] - one["low"], apart["high"] - apart["low"]
                    found[name].append((one["value"] - off, held, widths[0], apart["value"], same, widths[1]))
            for name, rows in found.items():
                bias, held, width, gap_bias, same, gap_width = np.mean(rows, axis=0)
                print(
                    f"  n {images:4}, off by {off:4}, {name:26} bias {bias:+.3f}, held {held:6.1%}, width {width:.3f}; "
                    f"difference bias {gap_bias:+.3f}, held {same:6.1%}, width {gap_width:.3f}",
                    flush=True,
                )


def winners(sweeps: int) -> None:
    """Print how much the best of 40 equal settings seems to gain, and what is left of it after the correction."""
    print("winners: best of 40 equal settings on 500 shared images, training moves a run by 3 points")
    for replicates in (2, 3, 5):
        rng = np.random.default_rng([6, replicates])
        naive, corrected, held = [], [], []
        for number in range(sweeps):
            luck, own = rng.random(500), rng.random((40, replicates, 500))
            truth = ACCURACY + rng.normal(0, 0.03, (40, replicates, 1))
            right = np.where(rng.random(own.shape) < 0.7, luck, own) < truth
            found = corrected_winner(right, draws=300, seed=number)
            naive.append(found.naive - ACCURACY)
            corrected.append(found.corrected - ACCURACY)
            held.append(found.low <= ACCURACY <= found.high)
        print(
            f"  {replicates} seeds: seems to gain {100 * np.mean(naive):.1f} points, corrected "
            f"{100 * np.mean(corrected):.1f}, held {np.mean(held):.1%}",
            flush=True,
        )


CHECKS: Mapping[str, Callable[[int], None]] = {
    "people": people,
    "fluctuations": fluctuations,
    "gaps": gaps,
    "means": means,
    "crossed": crossed,
    "calibration": calibration,
    "winners": winners,
}


def main() -> None:
    """Print the chosen checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checks", nargs="*", default=list(CHECKS))
    parser.add_argument("--sweeps", type=int, default=200)
    given = parser.parse_args()
    for name in given.checks:
        CHECKS[name](given.sweeps)


if __name__ == "__main__":
    main()
