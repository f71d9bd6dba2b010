"""Imbalanced training sets: how many examples of each group, and which ones.

Sets are nested: each example has one priority, keyed by (data key, id), and a set takes the first of its stratum.
Settings that differ a little therefore differ in as few examples as possible.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Annotated, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from fairsweep.datasets.selection.randomness import first_by_priority
from fairsweep.datasets.selection.strata import Side
from fairsweep.datasets.storage.layout import value_reference
from fairsweep.datasets.storage.prepared import PreparedDataset

PURPOSE = "imbalance"

# A value's name, or "{code: 0}"; 8 and {"code": 0} are accepted and brought into this form.
ValueReference: TypeAlias = Annotated[str, BeforeValidator(value_reference)]


class ShareImbalance(BaseModel):
    """A training set of fixed size in which the majority group has a given share.

    Attributes:
        attribute: The attribute that is made imbalanced; may be the label.
        majority: The value whose share is set; all other values together make up the rest.
        share: Share of the majority, in [0, 1].
        size: Number of examples. The majority has share·size of them, rounded half-even on decimals.
        label_balanced: Labels in equal parts on both sides (spread at most 1), or in their natural parts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    attribute: str
    majority: ValueReference
    share: float = Field(ge=0, le=1, allow_inf_nan=False)
    size: int = Field(ge=1)
    label_balanced: bool = True

    @property
    def majority_size(self) -> int:
        """Number of majority examples."""
        return portion(self.share, self.size)


class MinoritySizeImbalance(BaseModel):
    """A training set whose majority is held fixed while the minority shrinks.

    Attributes:
        attribute: The attribute that is made imbalanced; may be the label.
        majority: The value that is held fixed; all other values together are the minority.
        majority_size: Number of majority examples.
        minority_size: Number of minority examples.
        label_balanced: Labels in equal parts on both sides (spread at most 1), or in their natural parts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    attribute: str
    majority: ValueReference
    majority_size: int = Field(ge=0)
    minority_size: int = Field(ge=0)
    label_balanced: bool = True

    @model_validator(mode="after")
    def _check(self) -> MinoritySizeImbalance:
        if self.majority_size + self.minority_size < 1:
            raise ValueError("majority_size + minority_size must be at least 1, but both are 0")
        return self


class KeepImbalance(BaseModel):
    """A training set in which some groups are cut to a cap and all others stay whole.

    Attributes:
        attribute: The attribute whose groups are cut; may be the label.
        keep: Cap of each group that is cut, by value. Inside a cut group the labels keep their natural parts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    attribute: str
    keep: dict[ValueReference, Annotated[int, Field(ge=0)]] = Field(min_length=1)


def _form(value: object) -> str | None:
    """Tells the three forms apart by their fields."""
    if isinstance(value, BaseModel):
        return {ShareImbalance: "share", MinoritySizeImbalance: "minority_size", KeepImbalance: "keep"}.get(type(value))
    if not isinstance(value, Mapping):
        return None
    forms = {
        "share": {"share", "size"} & value.keys(),
        "minority_size": {"majority_size", "minority_size"} & value.keys(),
        "keep": {"keep"} & value.keys(),
    }
    present = [form for form, fields in forms.items() if fields]
    return present[0] if len(present) == 1 else None


ImbalanceConfig: TypeAlias = Annotated[
    Annotated[ShareImbalance, Tag("share")]
    | Annotated[MinoritySizeImbalance, Tag("minority_size")]
    | Annotated[KeepImbalance, Tag("keep")],
    Discriminator(
        _form,
        custom_error_type="imbalance_form",
        custom_error_message=(
            "imbalance must have exactly one form: {attribute, majority, share, size}, "
            "{attribute, majority, majority_size, minority_size}, or {attribute, keep: {value: cap}}"
        ),
    ),
]


@dataclass(frozen=True)
class TrainingPlan:
    """A training set as rows of a prepared dataset: never a copy of images.

    Attributes:
        ids: int64 [n], ascending.
        rows: int64 [n], row for row.
    """

    ids: NDArray[np.int64]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)


def portion(share: float, size: int) -> int:
    """Return share·size, rounded half-even on decimals.

    The float .92 stands for the decimal 0.92 that the user wrote, so that no product ends just below a whole number.

    >>> int(0.57 * 100), portion(0.57, 100)
    (56, 57)
    """
    return int((Decimal(repr(float(share))) * size).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))


def plan_training(
    dataset: PreparedDataset,
    config: ImbalanceConfig | None,
    *,
    label: str,
    data_key: bytes,
    pool: NDArray[np.int64] | None = None,
) -> TrainingPlan:
    """Draws a training set.

    Args:
        dataset: The prepared dataset.
        config: One of the three forms; None takes the pool as it is.
        label: The attribute that is predicted.
        data_key: Keys the draw; public.
        pool: int64 rows to draw from; None takes the split "train".

    Returns:
        The plan. Sets of one data key are nested across shares and sizes.

    Raises:
        ValueError: An attribute or value is unknown, or more examples are asked for than exist: the message then gives
            the largest size possible.
    """
    rows = dataset.split("train") if pool is None else np.unique(np.asarray(pool, dtype=np.int64))
    dataset.attribute(label)
    if config is None:
        taken = rows
    else:
        draw = _Draw(dataset, config.attribute, label, data_key, rows)
        if isinstance(config, ShareImbalance):
            taken = draw.share(config)
        elif isinstance(config, MinoritySizeImbalance):
            taken = draw.minority_size(config)
        else:
            taken = draw.keep(config)
    if not len(taken):
        raise ValueError("the training set is empty: the plan keeps no examples of the split it draws from")
    taken = np.sort(taken)
    return TrainingPlan(ids=dataset.ids[taken], rows=taken)


class _Draw:
    """The pool, ordered by priority, and its division into sides."""

    def __init__(
        self, dataset: PreparedDataset, attribute: str, label: str, data_key: bytes, rows: NDArray[np.int64]
    ) -> None:
        self.attribute = dataset.attribute(attribute)
        self.label = dataset.attribute(label)
        self.rows = rows[first_by_priority(data_key, PURPOSE, dataset.ids[rows])]
        self.codes = dataset.codes(attribute)[self.rows]
        self.label_codes = dataset.codes(label)[self.rows]

    def side(self, code: int, *, inside: bool, balanced: bool) -> Side:
        """Return the examples with one value of the attribute, or (inside=False) with any other."""
        mask = (self.codes == code) if inside else (self.codes != code)
        possible = list(range(len(self.label.values)))
        if self.attribute.name == self.label.name:
            # Where the label itself is made imbalanced, each side has its own labels only.
            possible = [label for label in possible if (label == code) == inside]
        return Side(
            name=f"{self.attribute.name} {'=' if inside else '≠'} {self.attribute.values[code]}",
            label=self.label,
            labels=tuple(possible),
            strata=tuple(self.rows[mask & (self.label_codes == label)] for label in possible),
            balanced=balanced,
        )

    def share(self, config: ShareImbalance) -> NDArray[np.int64]:
        """Draws share·size of the majority and the rest from all others."""
        code = self.attribute.code(config.majority)
        majority = self.side(code, inside=True, balanced=config.label_balanced)
        rest = self.side(code, inside=False, balanced=config.label_balanced)
        size = config.majority_size
        shortage = majority.shortage(size) or rest.shortage(config.size - size)
        if shortage:
            largest = _largest_size(config.share, majority.capacity, rest.capacity)
            raise ValueError(
                f"share={config.share:g}, size={config.size:,} asks for {shortage}; "
                f"the largest size possible at this share is {largest:,}"
            )
        return np.concatenate([majority.first(size), rest.first(config.size - size)])

    def minority_size(self, config: MinoritySizeImbalance) -> NDArray[np.int64]:
        """Draws a fixed majority and a minority of the given size."""
        code = self.attribute.code(config.majority)
        majority = self.side(code, inside=True, balanced=config.label_balanced)
        rest = self.side(code, inside=False, balanced=config.label_balanced)
        for field, size, side in (
            ("majority_size", config.majority_size, majority),
            ("minority_size", config.minority_size, rest),
        ):
            shortage = side.shortage(size)
            if shortage:
                raise ValueError(
                    f"{field}={size:,} asks for {shortage}; the largest {field} possible is {side.capacity:,}"
                )
        return np.concatenate([majority.first(config.majority_size), rest.first(config.minority_size)])

    def keep(self, config: KeepImbalance) -> NDArray[np.int64]:
        """Cuts some groups to their caps."""
        caps: dict[int, int] = {}
        for value, cap in config.keep.items():
            code = self.attribute.code(value)
            if code in caps:
                raise ValueError(f"keep names the value {self.attribute.values[code]!r} of {config.attribute!r} twice")
            caps[code] = cap
        taken = [self.rows[~np.isin(self.codes, list(caps))]]
        for code, cap in caps.items():
            group = self.side(code, inside=True, balanced=False)
            shortage = group.shortage(cap)
            if shortage:
                raise ValueError(
                    f"keep: {{{self.attribute.values[code]}: {cap}}} asks for {shortage}; "
                    f"the largest size possible for this group is {group.capacity:,}"
                )
            taken.append(group.first(cap))
        return np.concatenate(taken)


def _largest_size(share: float, majority_capacity: int, rest_capacity: int) -> int:
    """Find the largest size whose two parts both exist; both grow with the size, so bisection finds it."""
    low, high = 0, majority_capacity + rest_capacity
    while low < high:
        middle = (low + high + 1) // 2
        majority = portion(share, middle)
        if majority <= majority_capacity and middle - majority <= rest_capacity:
            low = middle
        else:
            high = middle - 1
    return low
