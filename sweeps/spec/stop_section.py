"""The section ``stop`` of a sweep file: rules by which a trial ends before its last iteration."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from fairsweep.sweeps.spec.conditions import ConditionField
from fairsweep.sweeps.syntax.section import Section
from fairsweep.trainables.learning.measures import SPENT
from fairsweep.trainables.learning.objectives import Objective


class PlateauSection(Section):
    """End a trial that no longer improves."""

    objective: Objective = Field(description="What must improve: `{max: accuracy}`. Required.")
    patience: int = Field(ge=1, description="Number of iterations without improvement before it ends. Required.")
    min_delta: float = Field(default=0.0, ge=0, description="An improvement must be larger than this.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_live(self.objective)
        return self


class StopSection(Section):
    """When a trial ends before its last iteration: as soon as one rule holds, on the validation split alone.

    It is recorded in full and counts as done. A private one is charged for the steps that it took where `epsilon` ended
    it, which is a public rule. Where any other rule did it is charged for all steps that it could have taken, since
    when it ended depends on the private model or on time. The rules are not part of a trial's identity: a trial that
    has ended stays as it is when they change.
    """

    plateau: PlateauSection | None = Field(default=None, description="End a trial that no longer improves.")
    seconds: float | None = Field(
        default=None,
        gt=0,
        description="End it after this many seconds of training; results then depend on the machine.",
    )
    epsilon: float | None = Field(
        default=None,
        gt=0,
        description="End a private trial before the iteration that would exceed this epsilon (PLD), but not "
        "before the first.",
    )
    target: tuple[ConditionField, ...] = Field(
        default=(), description="End it once all of these hold: `worst_group_accuracy by tone >= 0.9`."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for condition in self.target:
            check_live(condition)
        return self

    @property
    def rules(self) -> bool:
        """Whether there is any."""
        return self.plateau is not None or bool(self.seconds or self.epsilon or self.target)


def check_live(aim: Objective | ConditionField) -> None:
    """Refuse what is not a function of an iteration's cells.

    Raises:
        ValueError: with the remedy.
    """
    if aim.measure.metric in SPENT:
        raise ValueError(
            f"{aim.measure} is not a metric of the validation split, which is what decides here; "
            "write stop: {epsilon: …} or stop: {seconds: …}, or name a rate or disparity"
        )
