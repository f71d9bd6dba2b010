"""The label and groups that a learner may use, with the names of their values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fairsweep.datasets.storage.layout import Attribute, nearest
from fairsweep.datasets.storage.prepared import PreparedDataset


@dataclass(frozen=True)
class Roles:
    """Which attributes of a dataset are the label and the groups of a sweep.

    Attributes:
        label: The attribute that is predicted.
        groups: The attributes whose values are the groups.
    """

    label: Attribute
    groups: tuple[Attribute, ...]

    @classmethod
    def of(cls, dataset: PreparedDataset, label: str, groups: Iterable[str]) -> Self:
        """Look the attributes up in a dataset.

        Raises:
            ValueError: If it has no such attribute.
        """
        return cls(dataset.attribute(label), tuple(dataset.attribute(name) for name in groups))

    def attribute(self, name: str) -> Attribute:
        """Return an attribute that has a role.

        Raises:
            ValueError: If the attribute has none; the message names the nearest one.
        """
        known = {attribute.name: attribute for attribute in (*self.groups, self.label)}
        if name not in known:
            raise ValueError(
                f"{name!r} must be the label or one of the sweep's groups: {nearest(name, list(known))}; "
                "add it to dataset.groups to use it"
            )
        return known[name]


def weights_by_code(attribute: Attribute, weights: Mapping[str, float]) -> NDArray[np.float64]:
    """Turn weights by value into weights by code.

    Args:
        attribute: The attribute.
        weights: For some of its values, by name or as ``{code: 0}``.

    Returns:
        float64 [K], one weight for each of its values; 1 for those without one.

    Raises:
        ValueError: If it has no such value (the message names the nearest one), or a value is given twice.

    Example:
        >>> weights_by_code(Attribute(name="tone", values=("light", "dark")), {"dark": 2.0}).tolist()
        [1.0, 2.0]
    """
    codes = [attribute.code(value) for value in weights]
    if len(set(codes)) < len(codes):
        raise ValueError(f"each value of {attribute.name!r} must be given once, but got {list(weights)}")
    by_code = np.ones(len(attribute.values))
    by_code[codes] = list(weights.values())
    return by_code
