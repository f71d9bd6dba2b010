"""An effect with its two sources of error: training runs (seeds) and the test images that all runs share.

An effect is a sum over test images, such as a difference of two accuracies, paired by seed. Seeds and images are
crossed: its variance has a part between seeds, a part between images, and one of both (an image is luckier for one
run). The interval joins Student's t over the seeds with that over the images in quadrature; the p-value is the level at
which this interval just excludes 0, so that the two never contradict each other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import special

from fairsweep.analysis.metrics.rates import Floats
from fairsweep.analysis.statistics.variance_components import ReplicateSeeds, mean_over_seeds, without_rounding

Codes = npt.NDArray[np.int64]

POWER = 0.8
"""Probability with which a detectable difference is found."""

_SMALLEST_P = 1e-12
_STEPS = 60
_MOST_SEEDS = 1_000_000
_MOST_IMAGES = 10_000


@dataclass(frozen=True)
class Effect:
    """Mean effects over the seeds of a sweep, and their variance components; all float64 [...].

    Attributes:
        estimate: the effects.
        between_seeds: variance of the mean that its seeds imply, which contains ``of_both`` / ``replicates``; NaN with
            one seed.
        between_images: variance of the mean over all conceivable seeds by the sampling of images; with one seed that of
            this run; 0 where no images are known.
        of_both: further variance of one seed's effect by the sampling of images; 0 with one seed.
        seed_df: degrees of freedom of the first.
        image_df: degrees of freedom of the second.
        replicates: number of seeds.
        images: smallest number of images of a group behind it; 0 where unknown.
        weight: by how much one image more that only one side classifies correctly moves an effect; 0 where unknown.
    """

    estimate: Floats
    between_seeds: Floats
    between_images: Floats
    of_both: Floats
    seed_df: Floats
    image_df: Floats
    replicates: int
    images: int = 0
    weight: float = 0.0

    def half_width(self, tail: npt.ArrayLike, extra: npt.ArrayLike = 0.0) -> Floats:
        """Return the distance that an error exceeds with probability ``tail`` on either side.

        NaN with one seed, and where neither seeds nor images vary: runs that all agree do not show how much runs vary.
        A true effect that is larger than the estimate by ``extra`` has more images on which the two sides disagree, and
        so a larger variance: as in a score test, it counts.
        """
        images = self.between_images + self.weight * np.asarray(extra, np.float64)
        return _joined(tail, self.between_seeds, self.seed_df, images, self.image_df)

    def interval(self, confidence: float = 0.95, most: float = np.inf) -> tuple[Floats, Floats]:
        """Return the interval of the effect; with one seed that of the sampling of test images only.

        Each bound is the farthest effect that a test at this level does not reject, and no farther from 0 than
        ``most``: a difference of two rates is at most 1.
        """
        tail = (1 - confidence) / 2
        away, back = self._distance(tail, np.zeros_like(self.estimate)), self._distance(tail, 2 * np.abs(self.estimate))
        is_positive = self.estimate >= 0
        low, high = np.where(is_positive, back, away), np.where(is_positive, away, back)
        return np.maximum(self.estimate - low, -most), np.minimum(self.estimate + high, most)

    def interval_of_seeds(self, confidence: float = 0.95, most: float = np.inf) -> tuple[Floats, Floats]:
        """Return the part of `interval` that the seeds have, Student's t alone; NaN with one seed."""
        half = _quantile(self.seed_df, (1 - confidence) / 2) * np.sqrt(self.between_seeds)
        return np.maximum(self.estimate - half, -most), np.minimum(self.estimate + half, most)

    def interval_of_images(self, confidence: float = 0.95, most: float = np.inf) -> tuple[Floats, Floats]:
        """Return the part of `interval` that the sampling of images has; NaN where none are known."""
        return replace(self, replicates=1).interval(confidence, most)

    def _distance(self, tail: float, before: Floats) -> Floats:
        """Return the distance x that equals `half_width` with x - ``before`` as extra, if that is positive."""
        alone = self.replicates == 1
        plain = (
            np.where(self.between_images > 0, _quantile(self.image_df, tail) * np.sqrt(self.between_images), np.nan)
            if alone
            else self.half_width(tail)
        )
        slope = np.square(_quantile(self.image_df, tail)) * self.weight
        root = np.sqrt(np.maximum(np.square(slope) + 4 * (np.square(plain) - slope * before), 0))
        return np.where(plain > before, (slope + root) / 2, plain)

    def p_value(self) -> Floats:
        """Return the two-sided p of no effect: 1 - the confidence at which the interval just excludes 0."""
        return 2 * self._tail(np.abs(self.estimate))

    def equivalence_p(self, margin: float) -> Floats:
        """Return the larger p of two one-sided tests that the effect lies within the margin on either side of 0.

        References:
            Schuirmann 1987, doi 10.1007/BF01068419; Lakens 2017, doi 10.1177/1948550617697177.
        """
        room = margin - np.abs(self.estimate)
        tail = self._tail(np.abs(room), np.maximum(room, 0))
        return np.where(room >= 0, tail, 1 - tail)

    def detectable(self, level: npt.ArrayLike = 0.05, power: float = POWER, most: float = np.inf) -> Floats:
        """Return the effect that a two-sided test at a level would find with a probability of about ``power``.

        Infinite where that is larger than ``most``, the largest effect that there can be: nothing would be found.
        """
        found = self.half_width(np.asarray(level) / 2) + self.half_width(1 - power)
        return np.where(found > most, np.inf, found)

    def seeds_needed(self, target: float, level: float = 0.05) -> float:
        """Return the number of seeds with which ``target`` would be detectable, with these images.

        Of one effect; infinite where the images alone forbid it; NaN with one seed.
        """
        known = float(self.between_seeds) > 0 and self.replicates > 1
        if not known:
            return float("nan")
        count = np.unique(np.rint(np.geomspace(2, _MOST_SEEDS, 4000)))
        scale = self.replicates / count
        df = self.seed_df * (count - 1) / (self.replicates - 1)
        sizes = sum(
            _joined(tail, self.between_seeds * scale, df, self.between_images, self.image_df)
            for tail in (level / 2, 1 - POWER)
        )
        enough = np.flatnonzero(sizes <= target)
        return float(count[enough[0]]) if len(enough) else float("inf")

    def images_needed(self, target: float, level: float = 0.05) -> float:
        """Return the number of images with which ``target`` would be detectable, with these seeds.

        Of one effect; counted in the group of which there are fewest. Infinite where seeds alone forbid it, or ten
        thousand times as many images would be needed; NaN with one seed, or where images are unknown.
        """
        if not (self.replicates > 1 and self.images and float(self.between_images) > 0):
            return float("nan")
        times = np.geomspace(1, _MOST_IMAGES, 400)
        less = self.of_both / self.replicates * (1 - 1 / times)
        seeds = np.maximum(self.between_seeds - less, 0)
        sizes = sum(
            _joined(tail, seeds, self.seed_df, self.between_images / times, self.image_df * times)
            for tail in (level / 2, 1 - POWER)
        )
        enough = np.flatnonzero(sizes <= target)
        return float(np.ceil(self.images * times[enough[0]])) if len(enough) else float("inf")

    def _tail(self, distance: Floats, extra: npt.ArrayLike = 0.0) -> Floats:
        """Return the probability with which an error exceeds a distance on one side, by bisection of its logarithm."""
        if not self.weight and not np.any(self.between_images > 0):
            scale = np.where(self.between_seeds > 0, np.sqrt(self.between_seeds), np.nan)
            return np.asarray(special.stdtr(np.maximum(self.seed_df, 1), -distance / scale), np.float64)
        shape = np.broadcast_shapes(np.shape(distance), np.shape(self.between_seeds))
        low, high = np.full(shape, np.log(_SMALLEST_P)), np.full(shape, np.log(0.5))
        for _ in range(_STEPS):
            middle = (low + high) / 2
            beyond = self.half_width(np.exp(middle), extra) > distance
            low, high = np.where(beyond, middle, low), np.where(beyond, high, middle)
        return np.where(np.isfinite(self.half_width(0.25)), np.exp(high), np.nan)


def effect_of_contributions(
    contributions: Floats,
    strata: Codes,
    seeds: ReplicateSeeds,
    *,
    clusters: Codes | None = None,
    weight: float = 0.0,
    images: int = 0,
) -> Effect:
    """Return effects that are sums over images.

    Args:
        contributions: of each image to the effect of each seed, float64 [..., S, N].
        strata: within which the evaluation set fixes the counts: group and label; of clusters the group, int64 [N].
        seeds: of the replicates.
        clusters: the user of each image, int64 [N]; all images of a user then err together.
        weight: see `Effect.weight`. Half an image is added on either side, as for matched pairs that never disagree.
        images: see `Effect.images`.

    References:
        Searle, Casella & McCulloch 1992, Variance Components, chapter 4 (two-way crossed); Agresti & Min 2005,
        doi 10.1002/sim.1781 (matched pairs).
    """
    values = contributions.sum(-1)
    mean = contributions.mean(-2)
    count = contributions.shape[-2]
    of_mean, df = _sampling_variance(mean, strata, clusters)
    found = [mean_over_seeds(row, seeds) for row in values.reshape(-1, count)]
    estimate, between, seed_df = (
        np.array([getattr(one, name) for one in found]).reshape(values.shape[:-1])
        for name in ("mean", "variance", "df")
    )
    of_both = np.zeros_like(estimate)
    if count > 1:
        each, _ = _sampling_variance(contributions, strata, clusters)
        of_both = np.maximum(each.mean(-1) - of_mean, 0) * count / (count - 1)
        between = np.maximum(between, of_both / count)
    of_images = without_rounding(np.maximum(of_mean - of_both / count, 0)) + weight**2
    return Effect(estimate, between, of_images, of_both, seed_df, np.full_like(estimate, df), count, images, weight)


def effect_of_values(
    values: Floats, seeds: ReplicateSeeds, *, of_images: float = 0.0, images: int = 0, image_df: float = np.inf
) -> Effect:
    """Return an effect of which one number a seed is known, float64 [S], and the variance that images add to all."""
    found = mean_over_seeds(values, seeds)
    estimate, between, image, both, df, of_image = (
        np.asarray(number, np.float64) for number in (found.mean, found.variance, of_images, 0.0, found.df, image_df)
    )
    return Effect(estimate, between, image, both, df, of_image, len(values), images)


def effect_of_resamples(
    values: Floats, noise: Floats, seeds: ReplicateSeeds, *, weight: float = 0.0, images: int = 0
) -> Effect:
    """Return an effect of which one number a seed is known, and what resamples of the images that all share add to it.

    Args:
        values: float64 [S].
        noise: of each resample, centred, float64 [B, S].
        seeds: of the replicates.
        weight: see `Effect.weight`.
        images: see `Effect.images`.
    """
    count, of_both = len(values), 0.0
    of_mean = float(noise.mean(1).var())
    if count > 1:
        of_both = float((noise - noise.mean(1, keepdims=True)).var(0).sum() / (count - 1))
    found = effect_of_values(
        values,
        seeds,
        of_images=float(without_rounding(max(of_mean - of_both / count, 0))) + weight**2,
        images=images,
        image_df=max(images - 1, 1) if images else np.inf,
    )
    between = np.fmax(found.between_seeds, of_both / count) if count > 1 else found.between_seeds
    return replace(found, between_seeds=between, of_both=np.asarray(of_both), weight=weight)


def _sampling_variance(contributions: Floats, strata: Codes, clusters: Codes | None) -> tuple[Floats, float]:
    """Return the variance of a sum over images by the sampling of images (or clusters), and its degrees of freedom."""
    _, stratum, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    chosen = np.zeros((len(sizes), len(strata)))
    chosen[stratum, np.arange(len(strata))] = 1
    centred = contributions - (contributions @ chosen.T / sizes)[..., stratum]
    if clusters is not None:
        _, place = np.unique(clusters, return_inverse=True)
        count = int(place.max()) + 1
        member = np.zeros((count, len(strata)))
        member[place, np.arange(len(strata))] = 1
        totals = centred @ member.T
        return np.square(totals).sum(-1) * count / max(count - 1, 1), float(max(count - 1, 1))
    scale = (sizes / np.maximum(sizes - 1, 1))[stratum]
    return np.square(centred) @ scale, float(max(len(strata) - len(sizes), 1))


def _joined(tail: npt.ArrayLike, first: Floats, first_df: Floats, second: Floats, second_df: Floats) -> Floats:
    width = np.hypot(
        _quantile(first_df, tail) * np.sqrt(first),
        np.where(second > 0, _quantile(second_df, tail) * np.sqrt(second), 0),
    )
    return np.where(width > 0, width, np.where(np.asarray(tail) < 0.5, np.nan, 0.0))


def _quantile(df: npt.ArrayLike, tail: npt.ArrayLike) -> Floats:
    """Return the upper quantile of Student's t; NaN without degrees of freedom."""
    known = np.asarray(df, np.float64)
    found = -special.stdtrit(np.where(known > 0, np.minimum(known, 1e9), 1.0), np.asarray(tail, np.float64))
    return np.where(known > 0, found, np.nan)
