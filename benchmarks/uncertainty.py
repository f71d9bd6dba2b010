"""Prints how often intervals hold the truth and verdicts are false, over simulated sweeps with known truths.

python benchmarks/uncertainty.py people
"""

import argparse
from collections.abc import Callable, Mapping

import numpy as np

from fairsweep.analysis import SweepResults, from_predictions
from fairsweep.analysis.report.page_verdicts import page_verdicts
from fairsweep.analysis.results.imbalance_design import design_of
from fairsweep.analysis.results.replicates import average

ACCURACY = 0.8


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
            for kind, table in ((f"{name} of one trial", frame), (f"mean {name}", average(frame))):
                held[kind].append(float(((table["low"] <= truth) & (truth <= table["high"])).mean()))
        claims.append(any(one.word == "different" for one in page_verdicts(results, design_of(results)).found.values()))
    for kind, values in held.items():
        print(f"  {kind:20} held {np.mean(values):.1%}")
    print(f"  reports that claim a difference {np.mean(claims):.1%}")


CHECKS: Mapping[str, Callable[[int], None]] = {"people": people}


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
