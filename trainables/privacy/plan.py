"""The interface of a privacy plan, for any unit of privacy."""

from __future__ import annotations

from typing import Any, Protocol

import dp_accounting

from fairsweep.trainables.privacy.accounting import Epsilon
from fairsweep.trainables.privacy.privacy_statement import Mode, PrivacyStatement


class Outlook(Protocol):
    """What is known of a training's cost before it starts."""

    @property
    def largest_rate(self) -> float:
        """The largest probability with which any unit joins a step: the one that is accounted."""
        ...

    @property
    def steps(self) -> int:
        """Number of steps of the whole training."""
        ...

    @property
    def noise_multiplier(self) -> float:
        """Standard deviation of the noise over the clipping norm, of all queries of a step together."""
        ...

    @property
    def delta(self) -> float:
        """In (0, 1)."""
        ...

    @property
    def remark(self) -> str:
        """What a table says beside these numbers; empty where they say all."""
        ...

    def epsilon(self) -> Epsilon:
        """Return what the whole training costs."""
        ...


class Plan(Outlook, Protocol):
    """What a training does and therefore what it costs: made before the start, public, JSON by ``model_dump_json``."""

    @property
    def guarantees(self) -> bool:
        """False if epsilon is infinite."""
        ...

    def event(self, steps: int | None = None) -> dp_accounting.DpEvent:
        """Return the event of the first ``steps`` steps (default: of all)."""
        ...

    def epsilon(self, steps: int | None = None) -> Epsilon:
        """Return what the first ``steps`` steps (default: all) cost."""
        ...

    def statement(self, steps_done: int, mode: Mode) -> PrivacyStatement:
        """Says what has been spent and under which assumptions."""
        ...

    def model_dump_json(self) -> str:
        """Return the plan as text: equal plans have equal texts."""
        ...

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """Return the plan as JSON values."""
        ...
