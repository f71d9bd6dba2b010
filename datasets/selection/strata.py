"""Strata of a set by label: their sizes and their members."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairsweep.datasets.storage.layout import Attribute


def equal_parts(size: int, labels: int) -> NDArray[np.int64]:
    """Divides a size into equal parts; the first labels get one more where it does not divide.

    Args:
        size: Number of examples, >= 0.
        labels: Number of parts, >= 1.

    Returns:
        int64 [labels], summing to `size`, spread at most 1. No part shrinks when the size grows.

    >>> equal_parts(8, 3).tolist()
    [3, 3, 2]
    """
    quotient, remainder = divmod(size, labels)
    return quotient + (np.arange(labels) < remainder).astype(np.int64)


def natural_parts(size: int, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Divides a size in proportion to counts, by Webster's method.

    A divisor method is used because no part shrinks when the size grows (largest remainders can: the Alabama paradox),
    which nested sets need. No part exceeds its count.

    Args:
        size: Number of examples, in [0, sum(counts)].
        counts: int64 [K], how many exist of each.

    Returns:
        int64 [K], summing to `size`.

    References:
        Balinski and Young 1982, "Fair Representation", appendix A, section 3 (divisor methods and house monotonicity).

    >>> natural_parts(10, np.array([60, 30, 10])).tolist()
    [6, 3, 1]
    """
    # Seat k of label l comes at (k + 1/2) / counts[l]; the sort is stable, so ties go in vocabulary order.
    turns = np.concatenate([(np.arange(count) + 0.5) / count for count in counts.tolist()] or [np.empty(0)])
    owners = np.repeat(np.arange(len(counts)), counts)
    first = owners[np.argsort(turns, kind="stable")[:size]]
    return np.bincount(first, minlength=len(counts)).astype(np.int64)


@dataclass(frozen=True)
class Side:
    """The examples on one side of an imbalance, by label, in order of priority.

    Attributes:
        name: How messages call this side, for example "tone = light".
        label: The label.
        labels: Codes of the labels that this side can have, in vocabulary order.
        strata: For each of them the rows, int64, in order of priority.
        balanced: Whether labels come in equal or in natural parts.
    """

    name: str
    label: Attribute
    labels: tuple[int, ...]
    strata: tuple[NDArray[np.int64], ...]
    balanced: bool

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many exist of each label, int64 [K]."""
        return np.array([len(stratum) for stratum in self.strata], dtype=np.int64)

    @property
    def capacity(self) -> int:
        """The largest set that this side can give."""
        counts = self.counts
        if not len(counts):
            return 0
        if not self.balanced:
            return int(counts.sum())
        # The scarcest label sets the level; labels before it in the vocabulary may still take a remainder.
        return int(counts.min()) * len(counts) + int(counts.argmin())

    def parts(self, size: int) -> NDArray[np.int64]:
        """Divides a size of at most `capacity` among the labels, int64 [K]."""
        if not len(self.strata):
            return np.empty(0, dtype=np.int64)
        return equal_parts(size, len(self.strata)) if self.balanced else natural_parts(size, self.counts)

    def first(self, size: int) -> NDArray[np.int64]:
        """Return the rows of a set of `size` examples, int64; sets of growing size are nested."""
        taken = [stratum[:part] for stratum, part in zip(self.strata, self.parts(size).tolist(), strict=True)]
        return np.concatenate([np.empty(0, dtype=np.int64), *taken])

    def shortage(self, size: int) -> str | None:
        """Says what is missing for a set of `size` examples, or None where nothing is."""
        if size <= self.capacity:
            return None
        counts = ", ".join(
            f"{self.label.values[label]}: {count:,}" for label, count in zip(self.labels, self.counts, strict=True)
        )
        parts = "equal" if self.balanced else "natural"
        return (
            f"{size:,} examples with {self.name}, but at most {self.capacity:,} exist "
            f"with {self.label.name} in {parts} parts ({counts or 'none'})"
        )
