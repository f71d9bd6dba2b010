"""The imbalance of a sweep: the attribute that is made imbalanced, the rare groups, and the levels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fairsweep.analysis.records.counts import ALL, JOINT
from fairsweep.analysis.results.sweep_records import SweepRecords


@dataclass(frozen=True)
class Level:
    """One level of the imbalance.

    Attributes:
        text: as in the column ``level``.
        value: as in the column ``level_value``; NaN for the natural training set.
        rare_count: rare training images, mean over trials; NaN where the sweep has no imbalance.
        train_size: training images, mean over trials.
    """

    text: str
    value: float
    rare_count: float
    train_size: float


@dataclass(frozen=True)
class ImbalanceDesign:
    """The imbalance that a sweep varies.

    Attributes:
        attribute: the attribute that is made imbalanced, else the sweep's first group.
        rare: the values of it that are made rare, as a sweep file names them; empty without an imbalance.
        groupings: every attribute whose groups are shown, the first one first.
        levels: from the least to the most imbalanced, of the trials that are done (of all while none is).
        level_name: what the levels are, for an axis.
        of_label: whether the attribute is the label, so that groups are classes.
        unit: the noun of what models are trained on and tested with.
    """

    attribute: str
    rare: tuple[str, ...]
    groupings: tuple[str, ...]
    levels: tuple[Level, ...]
    level_name: str
    of_label: bool
    unit: str

    @property
    def members(self) -> str:
        """Return ``classes`` for the label and ``groups`` for any other attribute."""
        return "classes" if self.of_label else "groups"

    @property
    def is_trend(self) -> bool:
        """Return whether there are several ordered levels."""
        return len(self.levels) > 1 and all(pd.notna(level.value) for level in self.levels)


def design_of(results: SweepRecords) -> ImbalanceDesign:
    """Read the imbalance of a sweep from its records; the most frequent one if there are several."""
    minorities = [(folder.data or {}).get("minority") for folder in results.folders]
    known = [(minority["attribute"], tuple(minority["values"])) for minority in minorities if minority]
    usable = [pair for pair in known if pair[0] in (*results.groups, results.label)]
    attribute: str = (results.groups or (results.label,))[0]
    rare: tuple[str, ...] = ()
    if usable:
        attribute, rare = max(usable, key=usable.count)
    groupings = tuple(dict.fromkeys([attribute, *results.groups]))
    levels = _levels(results.trials)
    names = results.trials.loc[results.trials["level_name"] != "", "level_name"]
    name = str(names.iloc[0]) if len(names) else "training set"
    return ImbalanceDesign(attribute, rare, groupings, levels, name, attribute == results.label, results.unit)


def _levels(trials: pd.DataFrame) -> tuple[Level, ...]:
    done = trials["state"] == "done"
    chosen = trials[(trials["level"] != "") & (done if done.any() else ~done)]
    keys = ["level", "level_value"]
    table = chosen.groupby(keys, sort=False, dropna=False)[["minority_count", "train_size"]].mean().reset_index()
    rare = table["minority_count"].fillna(0).to_numpy(np.float64)
    table = table.iloc[np.argsort(-rare, kind="stable")]
    columns = (table[name].tolist() for name in (*keys, "minority_count", "train_size"))
    return tuple(Level(*values) for values in zip(*columns, strict=True))


def shown(results: SweepRecords, attribute: str, group: str) -> str:
    """Return a group's display name, with the attribute if the value alone is ambiguous."""
    if group == ALL and attribute == "":
        return "all"
    names = attribute.split(JOINT)
    parts = []
    for name, value in zip(names, group.split(JOINT) if len(names) > 1 else [group], strict=True):
        vocabulary = results.vocabulary(name)
        text = vocabulary.display[vocabulary.values.index(value)]
        says_little = text.isdigit() or text in {"yes", "no"}
        parts.append(f"{name} {text}" if says_little else text)
    return ", ".join(parts)


def named(results: SweepRecords, attribute: str, group: str) -> str:
    """Return a group for a sentence: ``tone = dark``, ``digit = 8``."""
    several = JOINT in attribute
    pairs = zip(attribute.split(JOINT), group.split(JOINT) if several else [group], strict=True)
    return ", ".join(f"{name} = {value}" for name, value in pairs)
