"""Checks of a label: that there is something to tell apart, and that it is no quantity."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from fairsweep.datasets.raw.table_columns import MANY_NUMBERS, MISSING
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.sweeps.planning.expand import PlannedTrial
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.sweeps.syntax.errors import Location, SweepError

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def check_attributes(sweep: SweepSpec, dataset: PreparedDataset) -> None:
    """Check that label and groups exist, and that the label has classes.

    Raises:
        SweepError: on the first that does not, with its place.
    """
    named = [(sweep.dataset.label, ("dataset", "label"))]
    named += [(group, ("dataset", "groups")) for group in sweep.dataset.groups]
    for name, place in named:
        try:
            attribute = dataset.attribute(name)
        except ValueError as error:
            raise SweepError(str(error), place) from error
        if place[-1] == "label" and len(attribute.values) < 2:
            raise SweepError(f"a label needs at least two values, but {name!r} has {attribute.values}", place)
    _check_number_label(dataset, sweep.dataset.label, many_classes=sweep.dataset.many_classes)


def check_labels(dataset: PreparedDataset, trial: PlannedTrial, labels: NDArray[np.int16], name: str) -> None:
    """Refuse a set of examples that all have one label: there is nothing to learn from it, and nothing to measure.

    Args:
        dataset: the dataset of the sweep.
        trial: whose set it is.
        labels: int16 [N], their labels' codes.
        name: what the set is called.

    Raises:
        SweepError: with the label that all have.
    """
    found = np.unique(labels)
    if len(found) > 1:
        return
    label = dataset.attribute(trial.config.dataset.label)
    place: Location = ("imbalance",) if name == "training" and trial.config.imbalance is not None else ("split",)
    raise SweepError(
        f"the {name} set must have examples of at least two values of the label, but all {len(labels):,} have "
        f"{label.name} = {label.values[int(found[0])]}: choose another label, imbalance, split or evaluation",
        place if name == "training" else ("evaluation",),
    )


def _check_number_label(dataset: PreparedDataset, label: str, *, many_classes: bool) -> None:
    """Refuse a label that is a quantity, unless each of its numbers is wanted as a class: regression is not supported.

    The error names the attributes that hold bins of it, if there are any.
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
