"""The check of numeric labels: too many distinct numbers mean regression, which is not supported."""

from __future__ import annotations

import re

from fairsweep.datasets.raw.table_columns import MANY_NUMBERS, MISSING
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.sweeps.syntax.errors import SweepError

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def check_number_label(dataset: PreparedDataset, label: str, *, many_classes: bool) -> None:
    """Check that a label is no quantity, unless each of its numbers is wanted as a class.

    Args:
        dataset: the dataset that is learnt from.
        label: the attribute that is predicted.
        many_classes: whether the sweep says that it wants so many classes.

    Raises:
        SweepError: with the attributes that hold bins of it, if there are any.
    """
    values = [value for value in dataset.attribute(label).values if value != MISSING]
    if many_classes or len(values) <= MANY_NUMBERS or not all(map(_NUMBER.fullmatch, values)):
        return
    binned = [
        repr(other.name)
        for other in dataset.info.attributes
        if other.name.startswith(f"{label}_") and 1 < len(other.values) <= MANY_NUMBERS
    ]
    remedy = (
        f"take {' or '.join(binned)} as the label"
        if binned
        else f"prepare the dataset with bins of it (fairsweep prepare folder … --bins {label}=EDGES)"
    )
    raise SweepError(
        f"the values of {label!r} are {len(values)} different numbers, and regression is not supported: {remedy}, or "
        "write many_classes: true under dataset to train each number as a class of its own",
        ("dataset", "label"),
    )
