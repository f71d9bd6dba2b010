"""The people behind test images: where the data names them, they are what was sampled, and not their images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from fairsweep.analysis.metrics.rates import Counts, Floats, Rate, divide
from fairsweep.analysis.records.counts import Evaluations
from fairsweep.analysis.results.outcomes import USER, Codes, Outcomes, group_codes, read_outcomes, users
from fairsweep.analysis.results.sweep_records import SweepRecords
from fairsweep.analysis.statistics.clusters import effective_share


def has_people(results: SweepRecords, split: str = "test") -> bool:
    """Return whether the data says of whom the images of a split are, and some person has several."""
    examples = results.examples
    if examples is None or USER not in examples.column_names or examples.column(USER).null_count:
        return False
    people, images = people_and_images(results, split)
    return people < images


def sampling_unit(results: SweepRecords, split: str = "test") -> str:
    """Return a sentence on what intervals and verdicts take as independent: people where the data names them."""
    if not has_people(results, split):
        return f"Intervals and verdicts take the {split} {results.unit}s as independent of each other."
    people, images = people_and_images(results, split)
    return (
        f"Intervals and verdicts take the {people:,} people of the {split} set as independent of each other, not their "
        f"{images:,} {results.unit}s."
    )


def people_and_images(results: SweepRecords, split: str) -> tuple[int, int]:
    """Return how many people and images a split has; ``examples.parquet`` must name the people."""
    examples = results.examples
    if examples is None:
        raise ValueError("people must be named in examples.parquet, but it is missing")
    mine = examples.column(USER).to_numpy()[examples.column("split").to_numpy(zero_copy_only=False) == split]
    return len(np.unique(mine)), len(mine)


def people_in_groups(results: SweepRecords, split: str, names: Sequence[str]) -> Counts | None:
    """Return how many people each group of a split has, int64 [G]; None where images are what is counted."""
    examples = results.examples
    if examples is None or not has_people(results, split) or not {*names} <= set(examples.column_names):
        return None
    mine = examples.column("split").to_numpy(zero_copy_only=False) == split
    code = np.zeros(int(mine.sum()), np.int64)
    for name in names:
        code = code * len(results.vocabulary(name).values) + examples.column(name).to_numpy()[mine]
    of_whom = np.unique(examples.column(USER).to_numpy()[mine], return_inverse=True)[1]
    pairs = np.unique(np.stack([code, of_whom]), axis=1)
    return np.bincount(pairs[0], minlength=len(results.all_cells.group_names(names)))


@dataclass(frozen=True)
class People:
    """The people of some evaluations.

    Attributes:
        results: the sweep.
        split: of the evaluations.
        outcomes: of each evaluation, with the person of each image; None where predictions are not recorded.
    """

    results: SweepRecords
    split: str
    outcomes: Sequence[tuple[Outcomes, Codes] | None]

    @classmethod
    def of(cls, results: SweepRecords, evaluations: Evaluations) -> People | None:
        """Return the people of some evaluations; None where images are independent, as far as the data says."""
        if not has_people(results, evaluations.split):
            return None
        found = []
        for trial, iteration in zip(evaluations.trial, evaluations.iteration, strict=True):
            asked = pd.DataFrame({"trial": [trial], "iteration": [iteration]})
            outcomes = read_outcomes(results, evaluations.split, asked)
            of_whom = None if outcomes is None else users(results, outcomes)
            found.append(None if outcomes is None or of_whom is None else (outcomes, of_whom))
        return cls(results, evaluations.split, found)

    def of_groups(self, names: Sequence[str]) -> PeopleOfGroups:
        """Return the people of the groups of one grouping."""
        return PeopleOfGroups(self, tuple(names))


@dataclass(frozen=True)
class PeopleOfGroups:
    """The people of some evaluations, by the groups that their images belong to.

    Attributes:
        people: all of them.
        names: attributes whose intersections are the groups.
        part: of that many equal parts of the groups, which one is meant; None means all groups.
    """

    people: People
    names: tuple[str, ...]
    part: tuple[int, int] | None = None

    def shares(self, row: Rate, positive: int | None) -> Floats:
        """Return `effective_share` of a rate for each evaluation and group, float64 [E, G].

        An evaluation without predictions takes the mean of those with; if there are none, a person counts as one image.
        """
        results, outcomes = self.people.results, self.people.outcomes
        count, classes = len(results.all_cells.group_names(self.names)), len(results.classes)
        code = -1 if positive is None else positive
        above, below = row.numerator(classes, code), row.denominator(classes, code)
        shares = np.full((len(outcomes), count), np.nan)
        for i in range(len(outcomes)):
            known = self._grouped(i)
            if known is not None:
                one, of_whom, groups = known
                cell = one.label, one.prediction[0]
                shares[i] = effective_share(above[cell], below[cell], groups, of_whom, count)
        people, images = people_and_images(results, self.people.split)
        usable = np.isfinite(shares)
        mean = divide(np.where(usable, shares, 0).sum(0), usable.sum(0))
        filled = np.where(usable, shares, np.where(np.isfinite(mean), mean, people / images))
        return self._chosen(filled, 1)

    def resampled(self, at: int, draws: int, generator: np.random.Generator) -> Counts | None:
        """Return the cells of an evaluation in resamples of its people, int64 [draws, G, K, K]; None if unknown."""
        known = self._grouped(at)
        if known is None:
            return None
        outcomes, of_whom, groups = known
        results = self.people.results
        count, classes = len(results.all_cells.group_names(self.names)), len(results.classes)
        weights = person_weights(of_whom, draws, generator)
        return self._chosen(resampled_cells(outcomes, 0, weights, groups, count, classes), 1)

    def _grouped(self, at: int) -> tuple[Outcomes, Codes, Codes] | None:
        known = self.people.outcomes[at]
        groups = None if known is None else group_codes(self.people.results, known[0], self.names)
        return None if known is None or groups is None else (*known, groups)

    def _chosen(self, values: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
        return values if self.part is None else np.array_split(values, self.part[0], axis)[self.part[1]]


def person_weights(of_whom: Codes, draws: int, generator: np.random.Generator) -> Floats:
    """Return how often each image is drawn in each resample of whole people, float64 [draws, N]."""
    _, place = np.unique(of_whom, return_inverse=True)
    size = int(place.max(initial=-1)) + 1
    return np.asarray(generator.multinomial(size, np.full(size, 1 / size), draws)[:, place], np.float64)


def resampled_cells(outcomes: Outcomes, at: int, weights: Floats, groups: Codes, count: int, classes: int) -> Counts:
    """Return the cells of one evaluation in every resample: int64 [draws, count, classes, classes]."""
    place = outcomes.cells(at, groups, count, classes)
    shape = (len(place), count * classes * classes)
    chosen = sparse.csr_array((np.ones(len(place)), (np.arange(len(place)), place)), shape=shape)
    counts = np.asarray(weights @ chosen, np.float64)
    return np.rint(counts).astype(np.int64).reshape(len(weights), count, classes, classes)
