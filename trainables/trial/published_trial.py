"""A trial whose records are published from its node to a remote output, while it runs and at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from fairsweep.analysis.records.trial_state import TrialState
from fairsweep.trainables.trial.state import StaleAttemptError
from fairsweep.trainables.trial.trial import Metrics, Trial


class Publication(Protocol):
    """Where one trial works on this node, and how its folder is published.

    Attributes:
        folder: the trial's folder on this node, with what was published of it elsewhere.
    """

    folder: Path

    @property
    def ended(self) -> TrialState | None:
        """The trial's state if it has ended already."""
        ...

    def publish(self, *, now: bool = False) -> None:
        """Publish the folder if that is due, or in any case."""
        ...

    def close(self) -> None:
        """Let go of the folder."""
        ...


class Publisher(Protocol):
    """Opens publications; travels to workers."""

    def open(self, name: str, trial: str, run: int) -> Publication:
        """Take a trial over on this node."""
        ...


class PublishedTrial:
    """A trial and its publication, with the methods of `Trial` that a worker uses.

    Args:
        publication: of the trial.
        open_trial: builds the trial in a folder.

    Raises:
        StaleAttemptError: if another worker has taken the trial over.
    """

    def __init__(self, publication: Publication, open_trial: Callable[[Path], Trial]) -> None:
        self._publication = publication
        self._trial: Trial | None = None
        if publication.ended is None:
            with self._failing():
                self._trial = open_trial(publication.folder)
            # From here on no worker elsewhere publishes an earlier attempt.
            publication.publish(now=True)

    def iterate(self) -> Metrics:
        """Do one iteration; see `Trial.iterate`."""
        if self._trial is None:
            return self._say_ended()
        with self._failing():
            metrics = self._trial.iterate()
        self._publication.publish(now=bool(metrics["done"]))
        return metrics

    def state(self) -> dict[str, Any]:
        """See `Trial.state`. Raises: ValueError if the trial had ended before."""
        return self._running().state()

    def load(self, state: dict[str, Any]) -> None:
        """See `Trial.load`. Raises: ValueError if the trial had ended before."""
        self._running().load(state)

    def close(self) -> None:
        """Let go of the trial, and of its folder on this node once all of it is published."""
        if self._trial is not None:
            self._trial.close()
        self._publication.close()

    def _running(self) -> Trial:
        if self._trial is None:
            raise ValueError(f"the trial in {self._publication.folder} has ended; there is nothing left to train")
        return self._trial

    def _say_ended(self) -> Metrics:
        """Its last worker died between the end of the trial and of its publication."""
        self._publication.publish(now=True)
        ended = self._publication.ended
        return {**(ended.metrics if ended else {}), "done": 1.0}

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Publish the cause of an error, which the trial has written into its folder, before the error goes on."""
        try:
            yield
        except Exception:
            with suppress(OSError, StaleAttemptError):
                self._publication.publish(now=True)
            raise
