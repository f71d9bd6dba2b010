"""Learning-rate schedules: factors of the learning rate as functions of a step's position."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class RateSchedule(BaseModel, ABC):
    """A factor of the learning rate. It depends on a step's position alone, so that nothing needs saving.

    Attributes:
        name: Which schedule.
        warmup: Epochs, or rounds of federated training, over which the rate rises linearly from the first step on. SISA
            trains each slice with a schedule of its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    warmup: float = Field(default=0.0, ge=0)

    def factor(self, step: int, steps: int, epochs: float) -> float:
        """Return the factor of one step.

        Args:
            step: Position of the step, in [0, steps).
            steps: Number of steps of the whole training.
            epochs: Number of epochs of the whole training, the unit of ``warmup``.

        Returns:
            The schedule's factor, times (step + 1) / w in the first w steps: those of the warmup.
        """
        warm = self.warmup * steps / epochs
        rising = (step + 1) / warm if step + 1 < warm else 1.0
        return rising * self._after(step, steps, warm)

    @abstractmethod
    def _after(self, step: int, steps: int, warm: float) -> float:
        """Return the factor without that of the warmup, which takes so many steps."""

    def check_epochs(self, epochs: int) -> None:
        """Refuse a warmup that does not end before the training does.

        Raises:
            ValueError: With both lengths.
        """
        if self.warmup >= epochs:
            raise ValueError(
                f"warmup must end before the training does, but got warmup={self.warmup:g} of {epochs} epochs or "
                "rounds: lower it, or train longer"
            )


class ConstantSchedule(RateSchedule):
    """The same learning rate throughout.

    Attributes:
        name: ``constant``: the same learning rate throughout.
    """

    name: Literal["constant"] = "constant"

    def _after(self, step: int, steps: int, warm: float) -> float:
        return 1.0


class MilestoneSchedule(RateSchedule):
    """A learning rate that drops at some moments.

    Attributes:
        name: ``milestones``: the rate drops at some moments; takes ``at`` and ``by``.
        at: Fractions of the training, ascending and in (0, 1). The learning rate is multiplied by ``by`` at each of
            them: ``[0.5, 0.75]`` with the default factor gives lr, lr/10, lr/100.
        by: What it is multiplied by, positive.
    """

    name: Literal["milestones"]
    at: tuple[float, ...]
    by: float = Field(default=0.1, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if list(self.at) != sorted(set(self.at)) or not all(0 < m < 1 for m in self.at):
            raise ValueError(
                "milestones must be ascending fractions of the training inside (0, 1), such as [0.5, 0.75], "
                f"but got {list(self.at)}"
            )
        return self

    def _after(self, step: int, steps: int, warm: float) -> float:
        """Return the factor; a milestone m takes effect at the first step with ``step >= m * steps``."""
        return self.by ** sum(step >= milestone * steps for milestone in self.at)


class _Falling(RateSchedule, ABC):
    """A learning rate that falls from the end of the warmup to the end of the training.

    Attributes:
        final: Where it ends, as a share of ``lr`` in [0, 1]: after the last step.
    """

    final: float = Field(default=0.0, ge=0, le=1)

    def _after(self, step: int, steps: int, warm: float) -> float:
        share = max(0.0, step - warm) / (steps - warm) if warm < steps else 0.0
        return self.final + (1 - self.final) * self._height(share)

    @abstractmethod
    def _height(self, share: float) -> float:
        """Return the height, from 1 to 0, after a share of the way."""


class CosineSchedule(_Falling):
    """Half a period of the cosine (Loshchilov & Hutter 2017, arXiv 1608.03983, equation 5, without restarts).

    Attributes:
        name: ``cosine``: after the warmup the rate falls along half a period of the cosine; takes ``final``.
    """

    name: Literal["cosine"]

    def _height(self, share: float) -> float:
        return (1 + math.cos(math.pi * share)) / 2


class LinearSchedule(_Falling):
    """A straight line.

    Attributes:
        name: ``linear``: it falls along a straight line; takes ``final``.
    """

    name: Literal["linear"]

    def _height(self, share: float) -> float:
        return 1 - share


def _named(given: Any) -> Any:  # noqa: ANN401 - pydantic hands over whatever was given
    """Read a word as a schedule's name; a section without a name is ``constant``."""
    if isinstance(given, str):
        return {"name": given}
    return {"name": "constant", **given} if isinstance(given, Mapping) else given


_Schedules = Annotated[
    ConstantSchedule | MilestoneSchedule | CosineSchedule | LinearSchedule, Field(discriminator="name")
]
AnySchedule = Annotated[_Schedules, BeforeValidator(_named)]
"""A field that takes any schedule; one of defaults by its name alone."""
