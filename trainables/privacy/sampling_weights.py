"""Sampling weights: how much more often some groups join private steps than others."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from fairsweep.datasets.selection.imbalance import ValueReference


class SamplingWeights(BaseModel):
    """Constants: an example joins a step with probability weight * q, where q = batch_size / N.

    Attributes:
        attribute: The label or one of the sweep's groups.
        weights: Weight of each named value, above 0. Values that are not named weigh 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    attribute: str
    weights: dict[ValueReference, Annotated[float, Field(gt=0)]] = Field(min_length=1)

    @property
    def largest(self) -> float:
        """The largest weight that the config allows any example, whichever examples there are."""
        return max(1.0, *self.weights.values())
