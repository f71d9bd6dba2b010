"""The observer of a trial: called after each iteration, it reports measures and may end the trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from fairsweep.analysis.records.vocabularies import Vocabulary
from fairsweep.trainables.learning.validation_predictions import ValidationPredictions


@dataclass(frozen=True)
class Ending:
    """Why a trial shall end before its last iteration.

    Attributes:
        reason: In words.
        is_public: Whether it follows from public numbers alone, and not from the model or from time.
    """

    reason: str
    is_public: bool = False


class Watcher(Protocol):
    """Looks at one trial. What it says depends on what it was shown alone, so a resumed trial hears the same."""

    def see(
        self, cells: pa.Table, predictions: ValidationPredictions | None, known: Mapping[str, float] | None = None
    ) -> Mapping[str, float]:
        """Take in the next iteration of the validation split; returns the measures that are reported.

        Args:
            cells: its counts.
            predictions: its predictions; None where the iteration is one that an earlier attempt recorded.
            known: what was reported of that iteration then, for measures that cells do not suffice for.
        """
        ...

    @property
    def most_steps(self) -> int | None:
        """Steps that public numbers allow, whatever the model does; None where they set no bound."""
        ...

    def verdict(self, *, seconds: float, steps: int, next_steps: int) -> Ending | None:
        """Why the trial shall end now; None to go on.

        Args:
            seconds: of training so far.
            steps: done so far.
            next_steps: that another iteration would take.
        """
        ...


class Watch(Protocol):
    """What is watched; goes to a worker with the trial's task."""

    def begin(self, vocabularies: Sequence[Vocabulary]) -> Watcher:
        """Begin with a trial at its first iteration."""
        ...
