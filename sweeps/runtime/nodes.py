"""Exclusion of machines on which trials keep failing, for the rest of a run.

Neither Tune nor Ray leaves a machine out for one job. What a machine has left is therefore reserved by the driver, in
placement groups bound to that machine that nothing runs in: no further trial finds room there. A trial that runs there,
or that Tune has given a place there already, is not disturbed. The reservations end with the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray import tune
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from fairsweep.sweeps.store.driver_only import DriverOnly
from fairsweep.sweeps.store.ledger import Entry

NODE_LABEL = "ray.io/node-id"
# These causes lie in the trial, whatever machine it runs on.
_OWN_CAUSES = ("DivergedError", "ValueError", "TypeError", "StaleAttemptError", "OutOfMemoryError")


class NodeWatch(DriverOnly, tune.Callback):
    """Counts failures in a row on each machine, and leaves out one that has too many; the last machine goes on.

    Args:
        most: failures in a row after which a machine is left out; None leaves out none.
        queued: the trials of this run; more may be queued while it lasts.
        say: shows a line to the user.
    """

    def __init__(self, most: int | None, queued: Mapping[str, Entry], say: Callable[[str], None]) -> None:
        self._most = most
        self._queued = queued
        self._say = say
        self._in_a_row: Counter[str] = Counter()
        self._reserved: dict[str, list[PlacementGroup]] = {}

    @property
    def left_out(self) -> tuple[str, ...]:
        """Ids of the machines that are left out."""
        return tuple(self._reserved)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401
        """Note that a trial's worker failed or died, and that it will be started again."""
        self._failed(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401
        """Note that a trial's worker failed or died for the last time."""
        self._failed(trial)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ANN401
        """Note that a trial has ended; if it failed for good, it has said so itself."""
        if (trial.last_result or {}).get("failed"):
            self._failed(trial)
        elif (node := self._node(trial)) is not None:
            self._in_a_row[node] = 0

    def release(self) -> None:
        """Give back what was reserved; may be called twice."""
        for groups in self._reserved.values():
            for group in groups:
                remove_placement_group(group)
        self._reserved.clear()

    def _failed(self, trial: Any) -> None:  # noqa: ANN401 - a Tune trial
        state = self._state(trial)
        if state is None or state.node is None or (state.error or "").startswith(_OWN_CAUSES):
            return
        self._in_a_row[state.node] += 1
        if self._most is None or self._in_a_row[state.node] < self._most or state.node in self._reserved:
            return
        listed = ray.nodes()  # type: ignore[no-untyped-call]
        nodes = {node["NodeID"]: node for node in listed if node["Alive"] and node["Resources"].get("CPU")}
        if not nodes.keys() - self._reserved.keys() - {state.node}:
            return  # where would the trials go?
        self._reserved[state.node] = reserve(state.node, nodes.get(state.node, {}).get("Resources", {}))
        address = nodes.get(state.node, {}).get("NodeManagerAddress", "?")
        self._say(
            f"failures in a row on the machine {address} (node {state.node[:8]}): {self._in_a_row[state.node]}; it is "
            f"excluded from this run; last cause: {state.error or 'the worker died'}"
        )

    def _node(self, trial: Any) -> str | None:  # noqa: ANN401 - a Tune trial
        state = self._state(trial)
        return None if state is None else state.node

    def _state(self, trial: Any) -> Any:  # noqa: ANN401 - a TrialState, or None
        entry = self._queued.get(trial.config["trial"])
        return None if entry is None else entry.now()


def reserve(node: str, resources: Mapping[str, float]) -> list[PlacementGroup]:
    """Reserve all CPUs and GPUs of a machine, each by itself: those in use now as soon as they are free.

    Args:
        node: id of the machine.
        resources: what it has in all, ``CPU`` and ``GPU``.
    """
    units = [{name: 1.0} for name in ("CPU", "GPU") for _ in range(int(resources.get(name, 0)))]
    return [placement_group([unit], bundle_label_selector=[{NODE_LABEL: node}]) for unit in units]
