"""Evaluation sets: fixed for a whole sweep, with the same ids for every imbalance and seed."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fairsweep.datasets.selection.randomness import first_by_priority, seed_key
from fairsweep.datasets.storage.prepared import PreparedDataset


class SplitEvaluation(BaseModel):
    """How the evaluation set of one split is chosen.

    Attributes:
        balance: Attributes whose every combination of values gets equally many examples; None takes the whole split.
        per_cell: Examples of each combination; None takes as many as the scarcest one has.
        extra_random: Further examples, at random from the rest of the split.
        key: Public number that keys the choice; another one gives another set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    balance: tuple[str, ...] | None = None
    per_cell: int | None = Field(default=None, ge=1)
    extra_random: int = Field(default=0, ge=0)
    key: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> SplitEvaluation:
        if self.balance is None and (self.per_cell is not None or self.extra_random):
            raise ValueError(
                "per_cell and extra_random need balance: name the attributes to balance, "
                "for example balance: [tone, smiling]; without it the whole split is taken"
            )
        if self.balance is not None and (not self.balance or len(set(self.balance)) != len(self.balance)):
            raise ValueError(f"balance must name each attribute once and at least one, but got {list(self.balance)}")
        return self


class EvaluationConfig(SplitEvaluation):
    """The `evaluation` block of a sweep: the test set, and in `validation` the validation set.

    Attributes:
        validation: The validation set; by default the whole natural split.
        dataset: Another prepared dataset to take the test set from, with the same values of label and groups; null
            takes it from the one that is trained on. Validation stays with that one.
        part: What the test set is taken from there: its `test` split, or `all` its examples.
    """

    validation: SplitEvaluation = SplitEvaluation()
    dataset: Path | None = None
    part: Literal["test", "all"] = "test"

    @model_validator(mode="after")
    def _check_part(self) -> EvaluationConfig:
        if self.part == "all" and self.dataset is None:
            raise ValueError(
                "part: all needs dataset: testing on all examples would include those that are trained on; "
                "for a test set out of all of them write split: {kind: rest}"
            )
        return self


def evaluation_rows(
    dataset: PreparedDataset,
    config: EvaluationConfig,
    split: Literal["validation", "test"],
    pool: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Chooses the evaluation set of a split.

    Args:
        dataset: The prepared dataset.
        config: The `evaluation` block.
        split: Which set.
        pool: int64 rows to choose from, ascending; None takes the dataset's own split.

    Returns:
        int64 rows, ascending. They depend on the dataset and the config alone.

    Raises:
        ValueError: The split is empty, an attribute is unknown, or a combination has too few examples: the message then
            gives the largest `per_cell` possible.
    """
    chosen = config.validation if split == "validation" else config
    rows = dataset.split(split) if pool is None else pool
    if not len(rows):
        counts = ", ".join(f"{count:,} {name}" for name, count in dataset.info.counts.items())
        raise ValueError(
            f"dataset {dataset.info.name!r} has no example in its {split} split ({counts}): prepare it with one, or "
            "divide it in the sweep, for example with split: {kind: hold_out}"
        )
    if chosen.balance is None:
        return rows
    key = seed_key(chosen.key, "evaluation")
    order = rows[first_by_priority(key, "balance", dataset.ids[rows])]
    taken = _balanced(dataset, chosen, split, order)
    rest = np.setdiff1d(rows, taken, assume_unique=True)
    if chosen.extra_random > len(rest):
        raise ValueError(
            f"extra_random={chosen.extra_random:,} asks for more than the {len(rest):,} examples of the {split} split "
            "that remain beside the balanced ones"
        )
    extra = rest[first_by_priority(key, "extra", dataset.ids[rest], chosen.extra_random)]
    return np.sort(np.concatenate([taken, extra]))


def _balanced(
    dataset: PreparedDataset, chosen: SplitEvaluation, split: str, order: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Take the first `per_cell` rows of each combination of values, in the order given."""
    attributes = [dataset.attribute(name) for name in chosen.balance or ()]
    shape = tuple(len(attribute.values) for attribute in attributes)
    cells = np.ravel_multi_index([dataset.codes(a.name)[order].astype(np.int64) for a in attributes], shape)
    counts = np.bincount(cells, minlength=int(np.prod(shape)))
    scarcest = int(counts.argmin())
    per_cell = int(counts.min()) if chosen.per_cell is None else chosen.per_cell
    if per_cell < 1 or per_cell > counts.min():
        codes = np.unravel_index(scarcest, shape)
        cell = ", ".join(f"{a.name} = {a.values[int(code)]}" for a, code in zip(attributes, codes, strict=True))
        raise ValueError(
            f"per_cell={max(per_cell, 1):,} asks for more than the {split} split has: {int(counts[scarcest]):,} "
            f"examples with {cell}; the largest per_cell possible is {int(counts.min()):,}"
        )
    grouped = np.argsort(cells, kind="stable")
    starts = np.cumsum(counts) - counts
    rank = np.arange(len(cells)) - starts[cells[grouped]]
    return order[grouped[rank < per_cell]]
