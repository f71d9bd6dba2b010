"""Effects on accuracy from the outcomes of all trials on the same test images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fairsweep.analysis.metrics.rates import Bools, Counts, Floats, divide
from fairsweep.analysis.records.counts import ALL
from fairsweep.analysis.results.outcomes import Codes, group_codes, read_outcomes, users
from fairsweep.analysis.results.people import has_people, people_and_images
from fairsweep.analysis.results.sweep_frames import At, SweepFrames
from fairsweep.analysis.statistics.variance_components import ReplicateSeeds
from fairsweep.analysis.verdicts.effects import Effect, effect_of_contributions, effect_of_values
from fairsweep.analysis.verdicts.superiority import Superiority, superiority

Seed = tuple[float, float]


@dataclass(frozen=True)
class SharedImages:
    """What trials predicted on the same images.

    Attributes:
        correct: bool [T, N].
        group: code of each image's group, int64 [N].
        strata: within which the evaluation set fixes the counts, int64 [N].
        clusters: the user of each image, int64 [N]; None without users.
    """

    correct: Bools
    group: Codes
    strata: Codes
    clusters: Codes | None


@dataclass(frozen=True)
class OutcomeTable:
    """Accuracy of T trials in each of G groups, and on each image where all predicted the same ones.

    Attributes:
        trials: columns ``trial``, ``series``, ``level``, ``level_value``, ``data_seed``, ``train_seed``.
        groups: their names, [G].
        rates: float64 [T, G].
        counts: images behind each, int64 [T, G].
        images: None where predictions are missing, or of different images.
        people_per_image: 1 where images are independent, as far as the data says.
    """

    trials: pd.DataFrame
    groups: tuple[str, ...]
    rates: Floats
    counts: Counts
    images: SharedImages | None
    people_per_image: float = 1.0

    @classmethod
    def of(cls, results: SweepFrames, attribute: str, *, split: str = "test", at: At = "last") -> OutcomeTable:
        """Read the table of a sweep for the groups of one attribute."""
        counts = results.counts(attribute, split=split, at=at)
        above, below = np.trace(counts.values, axis1=-2, axis2=-1), counts.values.sum((-2, -1))
        asked = pd.DataFrame({"trial": list(counts.evaluations.trial), "iteration": counts.evaluations.iteration})
        columns = ["series", "level", "level_value", "data_seed", "train_seed"]
        trials = asked[["trial"]].join(results.trials.set_index("trial")[columns], on="trial")
        images = _shared_images(results, attribute, split, asked)
        groups = tuple(results.all_cells.group_names((attribute,)))
        people, shown = people_and_images(results, split) if has_people(results, split) else (1, 1)
        return cls(trials, groups, divide(above, below), below, images, people / shown)

    def rows(self, series: str, level: object) -> Mapping[Seed, int]:
        """Return the trial of each pair of seeds of a series at a level, by text or number; none if one has several."""
        at = self.trials["level" if isinstance(level, str) else "level_value"] == level
        chosen = np.flatnonzero((at & (self.trials["series"].astype(str) == series)).to_numpy(np.bool_))
        seeds = self.trials[["data_seed", "train_seed"]].to_numpy(np.float64, na_value=np.nan)[chosen]
        found = {(float(data), float(train)): int(row) for (data, train), row in zip(seeds, chosen, strict=True)}
        return found if len(found) == len(chosen) else {}

    def weights(self, group: str, *, others: float = 0.0) -> Floats:
        """Return one for a group and ``others`` for the mean of the others that have images, float64 [G]."""
        known = self.counts.max(0, initial=0)
        if group == ALL:
            return np.asarray(known / max(1, known.sum()), np.float64)
        mine = np.array([name == group for name in self.groups], np.bool_)
        rest = (known > 0) & ~mine
        return np.asarray(mine + others * rest / max(1, rest.sum()), np.float64)

    def effect(
        self, parts: Sequence[Mapping[Seed, int]], coefficients: Sequence[float], weights: Floats
    ) -> tuple[Effect, Superiority] | None:
        """Return a weighted sum of accuracies, paired by seed, and how often it is above 0.

        Args:
            parts: trials by seed (`rows`), one for each coefficient; seeds that one of them lacks are left out.
            coefficients: of the trials.
            weights: of the groups, float64 [G].

        Returns:
            None if no seed has all trials.
        """
        keys = sorted(set.intersection(*(set(part) for part in parts)))
        if not keys:
            return None
        rows = np.array([[part[key] for part in parts] for key in keys], np.int64)
        seeds = ReplicateSeeds.of([key[0] for key in keys], [key[1] for key in keys])
        used = weights != 0
        counts = self.counts[rows][..., used]
        images = int(counts.min())
        values = np.tensordot(self.rates[rows][..., used] @ weights[used], np.asarray(coefficients), ([-1], [0]))
        beats = superiority(values, seeds)
        if self.images is not None and images:
            return self._of_images(rows, np.asarray(coefficients, np.float64), weights, seeds, images), beats
        # Agresti and Coull's variance of each rate, as if the images of all trials were different ones; of people who
        # have several, each counts as one.
        units = counts * self.people_per_image
        rate = (self.rates[rows][..., used] * units + 2) / (units + 4)
        variances = np.square(weights[used]) * rate * (1 - rate) / (units + 4)
        of_images = float((variances.sum(-1) @ np.square(coefficients)).mean())
        return effect_of_values(values, seeds, of_images=of_images, images=images), beats

    def _of_images(
        self, rows: Codes, coefficients: Floats, weights: Floats, seeds: ReplicateSeeds, images: int
    ) -> Effect:
        shared = self.images
        if shared is None:
            raise ValueError("the trials must have predicted the same images, but did not")
        sizes = np.bincount(shared.group, minlength=len(self.groups))
        each = divide(weights, sizes)[shared.group]
        contributions = np.tensordot(coefficients, shared.correct[rows].astype(np.float64), ([0], [1])) * each
        used = weights != 0
        step = float(np.sqrt(np.square(weights[used] / sizes[used]).sum()) * np.abs(coefficients).max())
        chosen = each != 0
        return effect_of_contributions(
            contributions[:, chosen],
            shared.strata[chosen],
            seeds,
            clusters=None if shared.clusters is None else shared.clusters[chosen],
            weight=step,
            images=images,
        )


def _shared_images(results: SweepFrames, attribute: str, split: str, asked: pd.DataFrame) -> SharedImages | None:
    outcomes = read_outcomes(results, split, asked)
    if outcomes is None or len(outcomes.row) < len(asked):
        return None
    group = group_codes(results, outcomes, (attribute,))
    if group is None:
        return None
    order = [outcomes.row[str(trial), int(number)] for trial, number in asked.itertuples(index=False, name=None)]
    clusters = users(results, outcomes)
    strata = group if clusters is not None else group * len(results.classes) + outcomes.label
    return SharedImages(outcomes.prediction[order] == outcomes.label, group, strata, clusters)
