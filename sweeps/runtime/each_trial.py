"""Stacks of trials as their single trials: what Tune tells of a stack is told of each trial in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from fairsweep.sweeps.store.driver_only import DriverOnly
from fairsweep.trainables.adapter import TrialTask
from fairsweep.trainables.stacks.trial_stack import AGAIN


class StackedTrial:
    """One trial of a stack, with what callbacks and schedulers ask of a trial of Tune's.

    Attributes:
        config: as if it ran alone.
        last_result: what it has reported last; None before.
        error_file: where Tune has written why the stack's worker failed.
    """

    def __init__(self, task: TrialTask, stack: Any) -> None:  # noqa: ANN401 - a Tune trial
        self.config = {"trial": task.config.trial, "task": task}
        self.last_result: dict[str, Any] | None = None
        self._stack = stack

    @property
    def error_file(self) -> str | None:
        """See the class."""
        path: str | None = self._stack.error_file
        return path


def _is_stack(trial: Any) -> bool:  # noqa: ANN401 - a Tune trial
    return bool(trial.config["task"].others)


class _Stacks:
    """The trials of each stack that have not ended."""

    def __init__(self) -> None:
        self._left: dict[str, dict[str, StackedTrial]] = {}

    def left(self, stack: Any) -> dict[str, StackedTrial]:  # noqa: ANN401 - a Tune trial
        """Return those of a stack, by hash."""
        if stack.trial_id not in self._left:
            task: TrialTask = stack.config["task"]
            self._left[stack.trial_id] = {one.config.trial: StackedTrial(one, stack) for one in (task, *task.others)}
        return self._left[stack.trial_id]

    def forget(self, stack: Any) -> None:  # noqa: ANN401 - a Tune trial
        """Let go of a stack that has ended."""
        self._left.pop(stack.trial_id, None)

    def those_of(self, trial: Any) -> list[Any]:  # noqa: ANN401 - a Tune trial
        """Return those of a stack; of any other trial that one."""
        return list(self.left(trial).values()) if _is_stack(trial) else [trial]

    def reported(self, stack: Any, result: Mapping[str, Any]) -> Iterator[tuple[StackedTrial, dict[str, Any]]]:  # noqa: ANN401
        """Give each trial of a result with what it reports; one that is done is in no later one."""
        left = self.left(stack)
        for trial, metrics in result.get("trials", ()):
            if trial in left and metrics.get(AGAIN):
                del left[trial]  # its end is yet to come
            elif trial in left:
                left[trial].last_result = dict(metrics)
                yield left[trial], left[trial].last_result  # type: ignore[misc]
                if metrics["done"]:
                    del left[trial]


class EachTrial(DriverOnly, tune.Callback):
    """Tells a callback of each trial of a stack what Tune tells of the stack, and of all others what Tune tells.

    The death of a stack's worker is told of one trial: it is one failure. What becomes of the others is seen when they
    start again.

    Attributes:
        inner: what is told.
    """

    def __init__(self, inner: tune.Callback) -> None:
        self.inner, self._stacks = inner, _Stacks()

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:  # noqa: ANN401
        """Pass on."""
        self.inner.on_step_begin(iteration, trials, **info)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:  # noqa: ANN401
        """Pass on."""
        self.inner.on_step_end(iteration, trials, **info)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401
        """Pass on, for each trial that has not ended."""
        for one in self._stacks.those_of(trial):
            self.inner.on_trial_start(iteration, trials, one, **info)

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Any],
        trial: Any,  # noqa: ANN401
        result: dict[str, Any],
        **info: Any,  # noqa: ANN401
    ) -> None:
        """Pass on, for each trial that reports, and that those which are done have ended."""
        if not _is_stack(trial):
            self.inner.on_trial_result(iteration, trials, trial, result, **info)
            return
        for one, metrics in self._stacks.reported(trial, result):
            self.inner.on_trial_result(iteration, trials, one, metrics, **info)  # type: ignore[arg-type]
            if metrics["done"]:
                self.inner.on_trial_complete(iteration, trials, one, **info)  # type: ignore[arg-type]

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401
        """Pass on; the end of each trial of a stack has been told with its last result."""
        if _is_stack(trial):
            self._stacks.forget(trial)
        else:
            self.inner.on_trial_complete(iteration, trials, trial, **info)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401
        """Pass on, for one trial of a stack."""
        for one in self._stacks.those_of(trial)[:1]:
            self.inner.on_trial_recover(iteration, trials, one, **info)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401
        """Pass on; the trials of a stack start once more, each alone."""
        if _is_stack(trial):
            self.on_trial_recover(iteration, trials, trial, **info)
            self._stacks.forget(trial)
        else:
            self.inner.on_trial_error(iteration, trials, trial, **info)


class EachScheduled(DriverOnly, FIFOScheduler):
    """Shows a scheduler that only judges the results of each trial of a stack.

    Args:
        scheduler: sees results; to it, every trial goes on.
    """

    def __init__(self, scheduler: TrialScheduler) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._scheduler, self._stacks = scheduler, _Stacks()

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:  # noqa: ANN401
        """Show what a trial has reported."""
        if not _is_stack(trial):
            return self._scheduler.on_trial_result(tune_controller, trial, result)
        self._show(tune_controller, trial, result)
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:  # noqa: ANN401
        """Show what a trial has reported last."""
        if not _is_stack(trial):
            self._scheduler.on_trial_complete(tune_controller, trial, result)
        else:
            self._show(tune_controller, trial, result)
            self._stacks.forget(trial)

    def _show(self, tune_controller: Any, stack: Any, result: dict[str, Any]) -> None:  # noqa: ANN401
        for one, metrics in self._stacks.reported(stack, result):
            tell = self._scheduler.on_trial_complete if metrics["done"] else self._scheduler.on_trial_result
            tell(tune_controller, one, metrics)  # type: ignore[arg-type]
