"""Objectives: one measure, to be maximised or minimised."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, model_validator

from fairsweep.trainables.learning.measures import Meaning, Measure


def _parsed(raw: object) -> Measure:
    if isinstance(raw, Measure):
        return raw
    if not isinstance(raw, str):
        raise ValueError(f"a measure is a word such as accuracy, but got {raw!r}")
    return Measure.parse(raw)


MeasureField = Annotated[Measure, PlainValidator(_parsed), PlainSerializer(str)]


class Objective(BaseModel):
    """What is to be as large or as small as possible: ``{max: accuracy}`` or ``{min: accuracy_difference by tone}``."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    max: MeasureField | None = Field(default=None, description="A measure to be maximised.")
    min: MeasureField | None = Field(default=None, description="A measure to be minimised.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.max is None) == (self.min is None):
            raise ValueError(
                f"an objective has exactly one of max and min, but got max={self.max}, min={self.min}; "
                "write {max: accuracy} or {min: accuracy_difference by tone}"
            )
        return self

    @property
    def measure(self) -> Measure:
        """What is measured."""
        measure = self.max if self.max is not None else self.min
        if measure is None:
            raise ValueError("an objective must have a measure")
        return measure

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """As Optuna calls it."""
        return "maximize" if self.max is not None else "minimize"

    @property
    def sign(self) -> float:
        """What a value is multiplied by, so that more is better."""
        return 1.0 if self.max is not None else -1.0

    def settled(self, meaning: Meaning) -> Objective:
        """Return the same, checked against a sweep. Raises: ValueError as `Measure.settled`."""
        measure = self.measure.settled(meaning)
        return Objective(max=measure) if self.max is not None else Objective(min=measure)

    def __str__(self) -> str:
        """For people and for Optuna: ``max accuracy``."""
        return f"{'max' if self.max is not None else 'min'} {self.measure}"
