"""Notices about undefined measures: no plateau, target or scheduler acts on a value that is undefined."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray import tune

from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.sweeps.store.driver_only import DriverOnly


class UndefinedValues(DriverOnly, tune.Callback):
    """Names each measure once that a rule or scheduler looks at and that a trial has no value of.

    Args:
        sweep: the sweep.
        say: shows a line to the user.
    """

    def __init__(self, sweep: SweepSpec, say: Callable[[str], None]) -> None:
        stop = sweep.stop
        measures = [objective.measure for objective in sweep.scheduler.objectives]
        measures += [condition.measure for condition in stop.target]
        measures += [stop.plateau.objective.measure] if stop.plateau else []
        self._metrics = {measure.metric for measure in measures}
        self._say = say

    def on_trial_result(
        self,
        iteration: int,
        trials: list[Any],
        trial: Any,  # noqa: ANN401
        result: Mapping[str, Any],
        **info: Any,  # noqa: ANN401
    ) -> None:
        """Look at what a trial has reported."""
        if not self._metrics or result.get("failed"):
            return
        for name, value in result.items():
            if value is None and (metric := name.split(" ")[0]) in self._metrics:
                self._metrics.discard(metric)
                self._say(
                    f"{name} is undefined in iteration {result.get('iteration')} of a trial: no rule and no scheduler "
                    "ends a trial by it while it is"
                )
