"""Trials that train side by side in one process, each with records, checkpoints, privacy and an end of its own."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Protocol

from fairsweep.trainables.learning.iteration_report import IterationReport
from fairsweep.trainables.learning.stack_member import StackableLearner
from fairsweep.trainables.stacks.stack import step_together
from fairsweep.trainables.trial.published_trial import PublishedTrial
from fairsweep.trainables.trial.trial import Trial

AGAIN = "again"
"""Of a trial that has left its stack."""


class ClosedTrial(Protocol):
    """A trial that can be opened."""

    def open(self) -> Trial | PublishedTrial:
        """Build the trial, or continue it from its newest checkpoint."""
        ...

    def outcome(self) -> dict[str, Any] | None:
        """Return the last metrics of a trial that has ended or failed already; None for any other."""
        ...


class TrialStack:
    """Trains trials side by side, each as if it were alone.

    Args:
        trials: by hash.
        permanent: errors that a second attempt would meet again: the trial ends as failed, and the others go on. Any
            other error may lie in the company, as where memory is lacking: the trial leaves the stack, to start once
            more.
        scheduled: whether the driver's scheduler may end them.
    """

    def __init__(
        self, trials: Mapping[str, ClosedTrial], permanent: tuple[type[Exception], ...], *, scheduled: bool
    ) -> None:
        self._waiting, self._permanent, self._scheduled = dict(trials), permanent, scheduled
        self._open: dict[str, Trial] = {}

    @property
    def done(self) -> bool:
        """Whether every trial has ended."""
        return not self._waiting and not self._open

    def iterate(self) -> dict[str, dict[str, Any]]:
        """Do one iteration of each trial that has not ended.

        Returns:
            By hash, what `Trial.iterate` returns, and ``failed``; a trial that has failed for good has ``done`` and
            ``failed`` alone, and one that shall start once more `AGAIN` besides.

        Raises:
            RuntimeError: if steps that trials take together fail; none of them has taken them then.
        """
        found: dict[str, dict[str, Any]] = {}
        for name in list(self._waiting):
            self._begin(name, found)
        ended = self._ended(found)
        reports = self._reports({name: trial for name, trial in self._open.items() if name not in ended})
        for name, trial in list(self._open.items()):
            try:
                metrics = trial.end(ended[name]) if name in ended else trial.iterate(reports.get(name))
            except self._permanent:
                self._drop(name, found)
                continue
            except Exception:  # noqa: BLE001 - it lies in its state; alone it meets it again, or not
                self._drop(name, found, again=True)
                continue
            found[name] = {**metrics, "failed": 0.0, "done": bool(metrics["done"])}
            if metrics["done"]:
                self._open.pop(name).close()
        return found

    def close(self) -> None:
        """Let go of all trials; may be called twice."""
        while self._open:
            self._open.popitem()[1].close()

    def _begin(self, name: str, found: dict[str, dict[str, Any]]) -> None:
        trial = self._waiting.pop(name)
        try:
            if (outcome := trial.outcome()) is not None:
                found[name] = outcome
            else:
                opened = trial.open()
                if not isinstance(opened, Trial):
                    raise TypeError("trials whose records are published elsewhere train alone")
                self._open[name] = opened
        except self._permanent:
            self._drop(name, found)
        except Exception:  # noqa: BLE001
            self._drop(name, found, again=True)

    def _drop(self, name: str, found: dict[str, dict[str, Any]], *, again: bool = False) -> None:
        found[name] = {"done": True, "failed": 1.0, **({AGAIN: True} if again else {})}
        if (trial := self._open.pop(name, None)) is not None:
            trial.close()

    def _ended(self, found: dict[str, dict[str, Any]]) -> dict[str, str]:
        """Return why the driver's scheduler wants trials to end, by hash."""
        wishes: dict[str, str] = {}
        for name, trial in list(self._open.items()) if self._scheduled else ():
            try:
                if (reason := trial.wish()) is not None:
                    wishes[name] = reason
            except self._permanent:
                self._drop(name, found)
            except Exception:  # noqa: BLE001
                self._drop(name, found, again=True)
        return wishes

    def _reports(self, trials: Mapping[str, Trial]) -> dict[str, IterationReport]:
        """Do an iteration of those that can do one together; the others are left out."""
        kinds: dict[Hashable, list[str]] = {}
        for name, trial in trials.items():
            learner, config = trial.learner, trial.config
            if isinstance(learner, StackableLearner) and not trial.done and (kind := learner.stack_kind()) is not None:
                images = config.dataset.content_hash, config.model.model_dump_json()
                kinds.setdefault((kind, images), []).append(name)
        reports: dict[str, IterationReport] = {}
        for names in kinds.values():
            learners = [trials[name].learner for name in names]
            if len(names) > 1:
                try:
                    found = step_together([one for one in learners if isinstance(one, StackableLearner)])
                except Exception as error:
                    raise RuntimeError(f"a step of {len(names)} trials together failed: {error}") from error
                reports |= dict(zip(names, found, strict=True))
        return reports
