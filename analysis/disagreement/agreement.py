"""Disagreement of trained models on each image, and intervals of its mean over groups of images.

The models are taken as they were trained; images, or whole people, are what was sampled. The share of pairs of models
that disagree is a U-statistic: unbiased from two models on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import sparse

from fairsweep.analysis.metrics.rates import Bools, Floats, divide
from fairsweep.analysis.statistics.effective_sample_size import SamplingUnits, rate_bounds

Codes = npt.NDArray[np.int64]
ALL_SEEDS = "all"
"""Pairs of replicates that differ in every seed that varies."""


def seed_pairs(seeds: Mapping[str, Codes]) -> dict[str, Bools]:
    """Return which pairs of models differ in ``all`` seeds, and which in one of them only where there are such.

    Args:
        seeds: by name the seed of each model, int64 [R]; those that do not vary take no part.

    Returns:
        Symmetric matrices, bool [R, R].

    >>> list(seed_pairs({"data": np.array([0, 1, 2]), "train": np.array([0, 1, 2])}))
    ['all']
    >>> list(seed_pairs({"data": np.array([0, 0, 1, 1]), "train": np.array([0, 1, 0, 1])}))
    ['all', 'data', 'train']
    """
    differ = {name: code[:, None] != code for name, code in seeds.items() if len(np.unique(code)) > 1}
    if not differ:
        return {}
    found = {ALL_SEEDS: np.logical_and.reduce(list(differ.values()))}
    if len(differ) > 1:
        found |= {
            name: mine & ~np.logical_or.reduce([other for key, other in differ.items() if key != name])
            for name, mine in differ.items()
        }
    return {name: pairs for name, pairs in found.items() if pairs.any()}


def disagreement(prediction: Codes, pairs: Bools) -> Floats:
    """Return for each image the share of pairs of models that predict different classes, float64 [N].

    Args:
        prediction: codes of the classes, int64 [R, N].
        pairs: which pairs count, symmetric, bool [R, R].

    References:
        Cooper et al. 2024, arXiv 2301.11562, section 3: 1 - self-consistency; Black et al. 2022, arXiv 2111.08230.

    >>> disagreement(np.array([[0, 0, 1], [0, 1, 0], [0, 1, 2]]), ~np.eye(3, dtype=bool)).round(3).tolist()
    [0.0, 0.667, 1.0]
    """
    counted = pairs.astype(np.float64)
    agreeing = np.zeros(prediction.shape[1])
    for value in np.unique(prediction):
        predicted = (prediction == value).astype(np.float64)
        agreeing += ((counted @ predicted) * predicted).sum(0)
    return np.asarray(1 - agreeing / counted.sum(), np.float64)


@dataclass(frozen=True)
class ImageGroups:
    """Test images in G groups, drawn one by one within group and label, or by whole people within a group.

    Attributes:
        groups: code of each image's group, int64 [N].
        count: number of groups.
        label: code of each image's label, int64 [N].
        people: whom each image shows, int64 [N]; None takes each image as a person.
    """

    groups: Codes
    count: int
    label: Codes
    people: Codes | None = None

    @cached_property
    def images(self) -> Codes:
        """Return the number of images of each group, int64 [G]."""
        return np.bincount(self.groups, minlength=self.count)

    @cached_property
    def units(self) -> Codes:
        """Return the number of people of each group, int64 [G]."""
        return np.bincount(self._sampled.group_of_unit, minlength=self.count)

    def means(self, values: Floats) -> Floats:
        """Return the mean of each group: float64 [..., N] -> float64 [..., G], NaN where there is no image."""
        return divide(values @ self._sampled.groups, self.images)

    def bounds(self, values: Floats, observations: int, confidence: float = 0.95) -> tuple[Floats, Floats]:
        """Return the intervals of those means, of values in [0, 1].

        Wilson's at the effective sample size; see `fairsweep.analysis.statistics.effective_sample_size.rate_bounds`.

        Args:
            values: float64 [..., N].
            observations: how many 0 or 1 the value of one image is the mean of.
            confidence: of the intervals.
        """
        drawn = self._sampled
        within = values @ drawn.strata / drawn.strata.sum(0)
        totals = (values - within @ drawn.strata.T) @ drawn.units
        variance = divide(np.square(totals) @ _members(drawn.group_of_unit, self.count), np.square(self.images))
        behind = SamplingUnits(self.images, self.units, self.units - drawn.strata_of_group)
        return rate_bounds(self.means(values), variance, behind, observations, confidence)

    @cached_property
    def _sampled(self) -> _Sampled:
        if self.people is None:
            unit, group_of_unit = np.arange(len(self.groups)), self.groups
            strata = np.unique(np.stack([self.groups, self.label]), axis=1, return_inverse=True)
        else:
            pairs, unit = np.unique(np.stack([self.groups, self.people]), axis=1, return_inverse=True)
            group_of_unit = pairs[0]
            strata = np.unique(self.groups[None], axis=1, return_inverse=True)
        return _Sampled(
            _members(self.groups, self.count),
            _members(unit.reshape(-1), len(group_of_unit)),
            _members(strata[1].reshape(-1), strata[0].shape[1]),
            group_of_unit,
            np.bincount(strata[0][0], minlength=self.count),
        )


@dataclass(frozen=True)
class _Sampled:
    """How images are sampled.

    Attributes:
        groups: which images belong to a group, [N, G] of 0 and 1.
        units: which images are drawn together, [N, U].
        strata: within which they are drawn, [N, S].
        group_of_unit: int64 [U].
        strata_of_group: how many, int64 [G].
    """

    groups: sparse.csr_array
    units: sparse.csr_array
    strata: sparse.csr_array
    group_of_unit: Codes
    strata_of_group: Codes


def _members(code: Codes, count: int) -> sparse.csr_array:
    """Return which images belong to each code, as a matrix [N, count] of 0 and 1."""
    return sparse.csr_array((np.ones(len(code)), (np.arange(len(code)), code)), shape=(len(code), count))
