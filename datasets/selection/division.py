"""The `split` block of a sweep: which examples a trial is trained, validated and tested on.

`official` follows the dataset's own column. The other kinds divide all examples anew, whatever that column says:
`folds` and `rest` in the same way for every seed, `hold_out` anew for each data seed. Training sets are drawn from the
training part afterwards, so they are nested within each division. Where the examples belong to users, these divide
users, each in the stratum of most of its images: all images of one user are in one part. The balanced test set of
`rest` takes single examples; the other images of their users are in no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fairsweep.datasets.selection.evaluation import EvaluationConfig, evaluation_rows
from fairsweep.datasets.selection.randomness import generator, priorities, seed_key
from fairsweep.datasets.selection.user_units import UserUnits
from fairsweep.datasets.storage.prepared import PreparedDataset

Rows = NDArray[np.int64]


class OfficialSplit(BaseModel):
    """The splits that the dataset was prepared with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["official"] = "official"


class FoldSplit(BaseModel):
    """Stratified k-fold: each example is tested in exactly one of the folds; images of one `user` are in one fold.

    The fold is a dimension like any other: `fold: {grid: [0, 1, 2, 3, 4]}` trains on each, and each is a setting of its
    own. What one fold holds out trains the others.

    Attributes:
        folds: Number of folds, >= 2.
        fold: The one that is tested on, in [0, folds).
        stratify: Attributes whose every combination of values is spread evenly over the folds; null takes the label
            and the groups.
        validation: Share of the other folds that is held back for validation, in (0, 1).
        key: Public number that keys the division; the same for every seed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["folds"]
    folds: int = Field(ge=2)
    fold: int = Field(ge=0)
    stratify: tuple[str, ...] | None = None
    validation: float = Field(default=0.1, gt=0, lt=1)
    key: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> FoldSplit:
        if self.fold >= self.folds:
            raise ValueError(f"fold must be in [0, {self.folds}), but got fold={self.fold}: the first one is 0")
        return self


class HoldOutSplit(BaseModel):
    """Repeated hold-out: test and validation examples are drawn anew with every data seed; a `user`'s stay together.

    Attributes:
        test: Share of all examples that is tested on, in (0, 1).
        validation: Share of all examples that is held back for validation, in (0, 1); both together stay below 1.
        stratify: Attributes whose every combination of values gives its share to each part; null takes the label and
            the groups.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["hold_out"]
    test: float = Field(default=0.2, gt=0, lt=1)
    validation: float = Field(default=0.1, gt=0, lt=1)
    stratify: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _check(self) -> HoldOutSplit:
        if self.test + self.validation >= 1:
            raise ValueError(
                "test and validation must together be below 1, "
                f"but got test={self.test:g}, validation={self.validation:g}"
            )
        return self


class RestSplit(BaseModel):
    """The test set is what `evaluation` takes of all examples; training and validation are the rest.

    Where the examples belong to users, those of users with an image in the test set are left out of the rest.

    Attributes:
        validation: Share of the rest that is held back for validation, in (0, 1).
        stratify: Attributes by which it is stratified; null takes the label and the groups.
        key: Public number that keys the division; the same for every seed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["rest"]
    validation: float = Field(default=0.1, gt=0, lt=1)
    stratify: tuple[str, ...] | None = None
    key: int = Field(default=0, ge=0)


SplitConfig: TypeAlias = Annotated[OfficialSplit | FoldSplit | HoldOutSplit | RestSplit, Field(discriminator="kind")]

SPLIT_KINDS: dict[str, type[BaseModel]] = {
    "official": OfficialSplit,
    "folds": FoldSplit,
    "hold_out": HoldOutSplit,
    "rest": RestSplit,
}


@dataclass(frozen=True)
class Division:
    """Rows of a dataset in three parts, int64, ascending; no row is in two of them.

    Attributes:
        train: May be learnt from.
        validation: Validation sets are taken from these.
        test: Test sets are taken from these.
        left_out: In no part, for other images of their users are tested on.
    """

    train: Rows
    validation: Rows
    test: Rows
    left_out: Rows = field(default_factory=lambda: np.empty(0, np.int64))


def divide(
    dataset: PreparedDataset,
    config: SplitConfig,
    evaluation: EvaluationConfig,
    *,
    label: str,
    groups: tuple[str, ...],
    data_key: bytes,
) -> Division:
    """Divides a dataset.

    Args:
        dataset: The dataset.
        config: How.
        evaluation: The `evaluation` block; `rest` takes the test set from it.
        label: The attribute that is predicted.
        groups: The group attributes.
        data_key: Keys a hold-out; public.

    Raises:
        ValueError: An attribute of `stratify` is unknown, a part would be empty, or `rest` has no test set to start
            from.
    """
    if isinstance(config, OfficialSplit):
        return Division(dataset.split("train"), dataset.split("validation"), dataset.split("test"))
    names = dict.fromkeys((label, *groups) if config.stratify is None else config.stratify)
    strata = [dataset.codes(name) for name in names]
    everything = np.arange(len(dataset), dtype=np.int64)
    if isinstance(config, HoldOutSplit):
        key = data_key
        test = _take(dataset, everything, strata, config.test, key, "hold-out test")
        validation_share = config.validation / (1 - config.test)
    else:
        key = seed_key(config.key, "split")
        validation_share = config.validation
        if isinstance(config, FoldSplit):
            test = _fold(dataset, everything, strata, config, key)
        else:
            test = _balanced_test(dataset, evaluation, everything)
    rest = np.setdiff1d(everything, test, assume_unique=True)
    left_out = rest[_of_users(dataset, test)[rest]]
    rest = np.setdiff1d(rest, left_out, assume_unique=True)
    validation = _take(dataset, rest, strata, validation_share, key, "validation")
    division = Division(np.setdiff1d(rest, validation, assume_unique=True), validation, test, left_out)
    for part in ("train", "validation", "test"):
        if not len(getattr(division, part)):
            raise ValueError(
                f"split: {config.kind} leaves no examples for the {part} part of the {len(dataset):,} of dataset "
                f"{dataset.info.name!r}: change its shares or folds"
            )
    return division


def users_tested(dataset: PreparedDataset, division: Division) -> Rows:
    """Return the users with images both in the training and in the test part.

    The splits of a dataset may have such users.
    """
    if dataset.users is None:
        return np.empty(0, np.int64)
    return np.intersect1d(dataset.users[division.train], dataset.users[division.test])


def _of_users(dataset: PreparedDataset, rows: Rows) -> NDArray[np.bool_]:
    """Whether each example belongs to a user of some rows, bool [N]; of a dataset without users none does."""
    if dataset.users is None:
        return np.zeros(len(dataset), bool)
    return np.isin(dataset.users, dataset.users[rows])


def _fold(dataset: PreparedDataset, rows: Rows, strata: list[NDArray[np.int16]], config: FoldSplit, key: bytes) -> Rows:
    """Deals examples out to the folds in turn, stratum by stratum: folds of one stratum, and of all, differ by <= 1.

    Users are dealt out forth and back, since each run of them ascends in their numbers of images.
    """
    ids, of_rows = dataset.ids[rows], [codes[rows] for codes in strata]
    if dataset.users is None:
        return np.sort(rows[_along_strata(ids, of_rows, key, "folds")[config.fold :: config.folds]])
    units = UserUnits.of(dataset.users[rows], of_rows)
    turn = np.arange(len(units.users)) % (2 * config.folds)
    fold = np.empty(len(units.users), np.int64)
    fold[_along_strata(units.users, units.strata, key, "folds")] = np.minimum(turn, 2 * config.folds - 1 - turn)
    tested: Rows = rows[fold[units.member] == config.fold]
    return tested


def _balanced_test(dataset: PreparedDataset, evaluation: EvaluationConfig, rows: Rows) -> Rows:
    if evaluation.balance is None or evaluation.dataset is not None:
        raise ValueError(
            "split: rest trains on what the test set leaves, so evaluation must define a test set of this dataset: "
            "evaluation: {balance: [...], per_cell: 9}"
        )
    return evaluation_rows(dataset, evaluation, "test", rows)


def _take(
    dataset: PreparedDataset, rows: Rows, strata: list[NDArray[np.int16]], share: float, key: bytes, purpose: str
) -> Rows:
    """Take a share of rows by systematic sampling along the strata; how many follows from the share alone.

    With the rows sorted by stratum, and at random inside each, one is taken every 1/share places, from a random start.
    Of a dataset with users, a share of these is taken, with all their rows.

    So each stratum deviates by less than one example from its share, every row has the same chance, and many strata
    of one example each are no special case.

    References:
        Cochran 1977, "Sampling Techniques", 3rd edition, section 8.1 (systematic sampling as stratification).
    """
    ids, of_rows = dataset.ids[rows], [codes[rows] for codes in strata]
    if dataset.users is None:
        return rows[_chosen(ids, of_rows, share, key, purpose)]
    units = UserUnits.of(dataset.users[rows], of_rows)
    return rows[_chosen(units.users, units.strata, share, key, purpose)[units.member]]


def _chosen(
    ids: NDArray[np.int64], strata: Sequence[NDArray[Any]], share: float, key: bytes, purpose: str
) -> NDArray[np.bool_]:
    """Chooses a share of ids, bool [N]."""
    order = _along_strata(ids, strata, key, purpose)
    count = round(share * len(ids))
    start = generator(key, f"{purpose} start").random()
    # In whole numbers of (1/len): `count` steps up over all of them, whatever the start.
    turns = (np.arange(len(ids) + 1) * count + int(start * len(ids))) // max(len(ids), 1)
    chosen = np.zeros(len(ids), bool)
    chosen[order[np.diff(turns) > 0]] = True
    return chosen


def _along_strata(ids: NDArray[np.int64], strata: Sequence[NDArray[Any]], key: bytes, purpose: str) -> Rows:
    """Sorts places by stratum, the first attribute first, and at random inside each."""
    keys: list[NDArray[Any]] = [ids, priorities(key, purpose, ids), *reversed(strata)]
    order: Rows = np.lexsort(keys)
    return order
