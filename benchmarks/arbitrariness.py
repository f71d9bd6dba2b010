"""What 95% intervals of `fairsweep.analysis.arbitrariness` cover, and how long 5,000 trials x 2,000 images take.

Simulated sweeps: each draws its trainings and its people. A training predicts the class of an image by the image's own
score, a shift that the training gives to all images, and noise of both; half of the images have each label. The truth
is that of the trainings drawn: the share of all images of the population on which they disagree. The last column is how
often the intervals hold what trainings disagree on average over all seeds, which they do not claim to.

    python benchmarks/arbitrariness.py [--sweeps 1000] [--trials 5000] [--images 2000]
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.special import ndtr, ndtri

from fairsweep import analysis
from fairsweep.analysis.disagreement.agreement import ImageGroups, disagreement
from fairsweep.analysis.disagreement.equally_good import largest_bounds

GRID = ndtri((np.arange(1000) + 0.5) / 1000)
BELOW = 0.75


def chances(shifts, far, noise):
    """P(class 1) over the population of images, by training: float64 [S, R, 2 x grid]."""
    scores = np.concatenate([GRID + far, GRID - far])
    return ndtr((scores + shifts[..., None]) / noise)


def truths(p):
    """Disagreement, share of arbitrary images, ambiguity and discrepancy (against the first training) of each sweep."""
    replicates = p.shape[1]
    ones = np.zeros((len(p), replicates + 1, p.shape[2]))
    ones[:, 0] = 1
    for r in range(replicates):
        ones[:, 1:] = ones[:, 1:] * (1 - p[:, r, None]) + ones[:, :-1] * p[:, r, None]
        ones[:, 0] *= 1 - p[:, r]
    k = np.arange(replicates + 1)
    share = 2 * k * (replicates - k) / (replicates * (replicates - 1))
    best, others = p[:, 0], p[:, 1:]
    apart = best * (1 - others.prod(1)) + (1 - best) * (1 - (1 - others).prod(1))
    each = best[:, None] * (1 - others) + (1 - best[:, None]) * others
    counted = ones.mean(-1)
    return counted @ share, counted @ (1 - share < BELOW), apart.mean(-1), each.mean(-1).max(1)


def people_of(images, each):
    return None if each == 1 else np.repeat(np.arange(images // each), each)


def draw(rng, sweeps, replicates, images, far, spread, noise, each):
    """Shifts [S, R] and predictions [S, R, N]; the labels alternate, ``each`` images in a row show one person."""
    shifts = rng.normal(0, spread, (sweeps, replicates))
    shared = np.repeat(rng.normal(size=(sweeps, images // each)), each, axis=1)
    own = rng.normal(size=(sweeps, images))
    alike = 0.95 if each > 1 else 0.0
    label = np.arange(images) // each % 2
    scores = alike * shared + np.sqrt(1 - alike**2) * own + np.where(label, far, -far)
    noisy = scores[:, None] + shifts[..., None] + rng.normal(0, noise, (sweeps, replicates, images))
    return shifts, (noisy > 0).astype(np.int64), label


def coverage(sweeps, replicates, images, far, spread, noise, each=1):
    rng = np.random.default_rng([replicates, images, each])
    names = ("disagreement", "arbitrary", "ambiguity", "discrepancy")
    held, widths, errors, over_seeds = dict.fromkeys(names, 0), [], [], 0
    average = truths(chances(rng.normal(0, spread, (4000, 2)), far, noise))[0].mean()
    pairs = ~np.eye(replicates, dtype=bool)
    for _ in range(0, sweeps, 50):
        shifts, prediction, label = draw(rng, 50, replicates, images, far, spread, noise, each)
        groups = ImageGroups(np.zeros(images, np.int64), 1, label, people_of(images, each))
        truth = dict(zip(names, truths(chances(shifts, far, noise)), strict=True))
        shares = np.stack([disagreement(one, pairs) for one in prediction])
        differs = (prediction[:, 1:] != prediction[:, :1]).astype(np.float64)
        count = replicates * (replicates - 1) // 2
        bounds = {
            "disagreement": groups.bounds(shares, count),
            "arbitrary": groups.bounds((1 - shares < BELOW).astype(np.float64), 1),
            "ambiguity": groups.bounds(differs.max(1), 1),
            "discrepancy": tuple(np.transpose([largest_bounds(groups, one, 1, 0.95) for one in differs], (1, 0, 2))),
        }
        for name, (low, high) in bounds.items():
            held[name] += ((low[:, 0] <= truth[name]) & (truth[name] <= high[:, 0])).sum()
        low, high = bounds["disagreement"]
        widths.append((high - low).mean())
        errors.append(shares.mean(1) - truth["disagreement"])
        over_seeds += ((low[:, 0] <= average) & (average <= high[:, 0])).sum()
    error = np.concatenate(errors)
    shown = "  ".join(f"{100 * held[name] / sweeps:5.1f}%" for name in names)
    print(
        f"{replicates:3} {images:5} {each:3} {spread:5} {100 * average:6.1f}% {100 * error.mean():+6.2f}  {shown}  "
        f"x{np.mean(widths) / (2 * 1.96 * error.std()):.2f}  {100 * over_seeds / sweeps:5.1f}%",
        flush=True,
    )


def speed(trials, images, replicates=10):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, images)
    settings = trials // replicates
    flipped = rng.random((trials, images)) < 0.1
    with tempfile.TemporaryDirectory() as folder:
        results = analysis.from_predictions(
            np.tile(truth, trials),
            (truth ^ flipped).reshape(-1),
            {"tone": np.tile(rng.integers(0, 2, images), trials)},
            trial=np.repeat([f"t{i:05d}" for i in range(trials)], images),
            learner=np.repeat([f"l{i % settings:04d}" for i in range(trials)], images),
            to=Path(folder) / "sweep",
        )
        start, cpu = time.perf_counter(), time.process_time()
        frame = analysis.arbitrariness(results)
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        print(f"{trials:,} trials x {images:,} images: {wall:.1f} s, {cpu:.1f} s of CPU, {len(frame):,} rows")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=1000)
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--images", type=int, default=2000)
    options = parser.parse_args()
    print("  R     n  of shift  differ  error  disagr. arbitr. ambig. discr.   width  over seeds")
    for replicates in (2, 3, 5, 10):
        for images in (20, 200, 2000):
            for far, spread, noise in ((0.5, 0.0, 0.3), (0.5, 0.2, 0.5), (1.5, 0.1, 0.3)):
                coverage(options.sweeps, replicates, images, far, spread, noise)
            if images > 20:
                coverage(options.sweeps, replicates, images, 0.5, 0.1, 0.3, each=10)
    speed(options.trials, options.images)


if __name__ == "__main__":
    main()
