"""Canaries: training units of which a fair coin decides whether they contribute, and who is one.

A canary takes the place of a training unit. Sampling, batch sizes, the number of units and every constant of the plan
are those of the training without an audit; a canary that is out contributes nothing, as the zero-out relation has it.
So what the plan claims holds for canaries exactly as it does for everybody else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from fairsweep.analysis.wording import counted
from fairsweep.datasets.selection.randomness import first_by_priority, generator
from fairsweep.datasets.selection.sampling import Sampler
from fairsweep.datasets.storage.layout import nearest
from fairsweep.trainables.learning.roles import Roles

CanaryKind = Literal["gradient", "mislabelled", "example"]


class AuditConfig(BaseModel):
    """Canaries of an audited training, from which a lower bound on epsilon follows.

    Attributes:
        canaries: How many units become canaries; at most half of them.
        kind: What a canary contributes, if it is in. ``gradient``: not its own gradient (or update), but one of the
            greatest norm that clipping allows, along coordinates of its own; who sees the model after every step looks
            for it there. ``example``: its own; who sees the final model looks at its loss. ``mislabelled``: the same
            with a wrong label. Clients are ``gradient`` canaries only.
        by: A group attribute (of clients: the value that most of their examples have) whose values get equally many
            canaries; null draws them from all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    canaries: int = Field(ge=8)
    kind: CanaryKind = "gradient"
    by: str | None = None

    def check_values(self, roles: Roles) -> None:
        """Refuse groups that the sweep does not have. Raises: ValueError with the nearest name."""
        check_groups(self.by, roles)

    def check_units(self, count: int, groups: Mapping[str, NDArray[np.integer]]) -> None:
        """Refuse more canaries than so many units allow.

        Args:
            count: Number of units.
            groups: For each group attribute the code of each unit, int [n].

        Raises:
            ValueError: As `Canaries.draw`.
        """
        check_units(self.canaries, self.by, count, groups)


class ShardedAuditConfig(BaseModel):
    """What is tested of a learner of many shards: what its trainings reveal, and whether what it forgot is forgotten.

    Attributes:
        canaries: With a private inner learner: how many examples become canaries, at most half of them. In every
            training of its shard that its example would join, a canary that is in adds a gradient of the greatest norm
            that clipping allows, along coordinates of its own. Null: none.
        by: A group attribute whose values get equally many canaries; null draws them from all.
        forgotten: Of shadows, in research mode: whether a candidate that a shadow has forgotten is predicted all the
            same by the models that forgot it, so that `fairsweep audit` can compare these with models that never saw
            it. Those predictions stay until an erasure. Needs ``shadows``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    canaries: int | None = Field(default=None, ge=8)
    by: str | None = None
    forgotten: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.canaries is None and (self.by is not None or not self.forgotten):
            raise ValueError("an audit of shards has canaries, or forgotten: true: give at least one of both")
        return self

    def check_values(self, roles: Roles) -> None:
        """Refuse groups that the sweep does not have. Raises: ValueError with the nearest name."""
        check_groups(self.by, roles)

    def check_units(self, count: int, groups: Mapping[str, NDArray[np.integer]]) -> None:
        """Refuse more canaries than so many examples allow; see `AuditConfig.check_units`."""
        if self.canaries is not None:
            check_units(self.canaries, self.by, count, groups)


def check_groups(by: str | None, roles: Roles) -> None:
    """Refuse an attribute that is none of a sweep's groups.

    Raises:
        ValueError: With the nearest name.
    """
    known = [attribute.name for attribute in roles.groups]
    if by is not None and by not in known:
        raise ValueError(f"audit.by must be one of the sweep's groups, but got {by!r}: {nearest(by, known)}")


def check_units(canaries: int, by: str | None, count: int, groups: Mapping[str, NDArray[np.integer]]) -> None:
    """Refuse more canaries than so many units allow; see `AuditConfig.check_units`."""
    codes = None if by is None or by not in groups else np.asarray(groups[by], np.int64)
    Canaries.draw(canaries, np.arange(count), codes, bytes(32), bytes(32))


@dataclass(frozen=True, eq=False)
class Canaries:
    """Who is a canary, and who of them is in.

    Attributes:
        positions: int64 [m], ascending.
        coins: bool [m], whether each contributes: independent and fair.
    """

    positions: NDArray[np.int64]
    coins: NDArray[np.bool_]

    @classmethod
    def draw(
        cls, count: int, names: NDArray[np.int64], codes: NDArray[np.int64] | None, public: bytes, secret: bytes
    ) -> Canaries:
        """Choose canaries and throw their coins.

        Args:
            count: How many, in equal parts for the values of ``codes``; a remainder goes to the first ones.
            names: int64 [n], unique: the same units are chosen wherever they have the same names.
            codes: int64 [n], the group of each unit; None makes no difference.
            public: 32 bytes; who is a canary follows from it.
            secret: 32 bytes; the coins follow from it.

        Raises:
            ValueError: If they would be more than half of the units, or a group has too few.
        """
        if 2 * count > len(names):
            raise ValueError(
                f"at most half of the {len(names)} units can be canaries, but got canaries={count}: give fewer"
            )
        strata = np.zeros(len(names), np.int64) if codes is None else np.asarray(codes, np.int64)
        values = np.unique(strata)
        chosen = []
        for index, value in enumerate(values.tolist()):
            wanted = count // len(values) + (index < count % len(values))
            members = np.flatnonzero(strata == value)
            if len(members) < wanted:
                raise ValueError(
                    f"an audit by groups takes {wanted} canaries from each, "
                    f"but the group of code {value} has {counted(len(members), 'unit')}: give fewer canaries"
                )
            chosen.append(members[first_by_priority(public, "canaries", names[members], wanted)])
        positions = np.sort(np.concatenate(chosen)).astype(np.int64)
        coins = generator(secret, "canary coins").random(len(positions)) < 0.5
        return cls(positions, coins)

    def contributing(self, size: int, *, themselves: bool) -> NDArray[np.bool_]:
        """Return which of all units train as they would without an audit, bool [size].

        Args:
            size: Number of units.
            themselves: Whether canaries that are in do.
        """
        contributes = np.ones(size, np.bool_)
        contributes[self.positions] = self.coins & themselves
        return contributes


@dataclass(frozen=True, eq=False)
class Contributing:
    """A sampler without the units that contribute nothing; everybody else joins the steps that they would have joined.

    Attributes:
        sampler: Who joins which step.
        contributes: bool [n].
    """

    sampler: Sampler
    contributes: NDArray[np.bool_]

    @property
    def steps(self) -> int:
        """Number of steps of the whole run."""
        return self.sampler.steps

    def positions(self, step: int) -> NDArray[np.int64]:
        """Return who joins a step and contributes, int64 [B]."""
        drawn = self.sampler.positions(step)
        return drawn[self.contributes[drawn]]
