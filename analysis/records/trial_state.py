"""``state.json``: where a trial stands."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pyarrow.fs as pafs

from fairsweep.analysis.records.files import FORMAT_VERSION, RecordError, read_json

Stage = Literal["queued", "running", "done", "stopped", "failed"]
STAGES: tuple[Stage, ...] = ("queued", "running", "done", "stopped", "failed")
ENDED: tuple[Stage, ...] = ("done", "stopped", "failed")
StoppedBy = Literal["scheduler", "stopper", "user"]


@dataclass(frozen=True)
class TrialState:
    """What ``state.json`` holds.

    Attributes:
        trial: the trial's hash.
        state: queued (waits for a worker), running, done, failed (with its cause), stopped.
        by: who stopped it: a scheduler or a stopper (then it has ended) or the user (then it goes on when resumed).
        reason: one line on why it was stopped.
        stop_at: iteration after which the driver's scheduler wants it to end; None to go on. A worker that is started
            again obeys it too.
        run: number of drivers that have queued the trial.
        attempt: `run` and the number of starts together: each takes a number.
        iteration: iterations done and recorded.
        iterations: iterations in all; 0 until the trial has started once.
        metrics: of the last iteration: loss, accuracy and worst group on the validation split, epsilon spent.
        node: id of the machine in a Ray cluster on which the last attempt ran; None outside of Ray.
        timed: whether times are recorded; in release mode they are not, for they tell who took part in which step.
        seconds: seconds in training, over all attempts that count; None where times are not recorded.
        examples: examples that training has seen, with repetition; the expected number in release mode.
        host_peak_bytes: the most resident memory of the trial's process; None where it is not measured or recorded.
        device_peak_bytes: the most memory that it reserved on a GPU; None without one.
        error: one line on the cause of a failure.
        traceback: the whole of it.
        secrets: of release mode: for each secret under which steps may have been taken, by its fingerprint, the attempt
            that stored it; more than one where a secret was lost.
        recovered: what the last start that met damaged files went back to, one line; None where none did.
        updated: seconds since 1970; None where times are not recorded.
    """

    trial: str
    format_version: int = FORMAT_VERSION
    state: Stage = "queued"
    by: StoppedBy | None = None
    reason: str | None = None
    stop_at: int | None = None
    run: int = 0
    attempt: int = 0
    iteration: int = 0
    iterations: int = 0
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    node: str | None = None
    timed: bool = True
    seconds: float | None = 0.0
    examples: int = 0
    host_peak_bytes: int | None = None
    device_peak_bytes: int | None = None
    error: str | None = None
    traceback: str | None = None
    secrets: Mapping[str, int] = field(default_factory=dict)
    recovered: str | None = None
    updated: float | None = 0.0

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> TrialState:
        """Return the state that a mapping holds, further keys left out.

        Raises:
            ValueError: if a value is not of its kind.

        >>> TrialState.of({"trial": "9af3", "state": "done", "iteration": 8}).ended
        True
        """
        known = {name: content[name] for name in _kinds() if name in content}
        metrics = known.get("metrics")
        if isinstance(metrics, Mapping):  # JSON has no infinity: it stands as a text
            known["metrics"] = {n: float(v) if isinstance(v, str) else v for n, v in metrics.items()}
        wrong = [name for name, value in known.items() if not _fits(value, _kinds()[name])]
        if wrong or "trial" not in known:
            said = (f"{name} must be {cls.__annotations__[name]}, but is {known[name]!r}" for name in wrong)
            raise ValueError("; ".join(said) or "trial must be there: its hash")
        return cls(**known)

    @property
    def ended(self) -> bool:
        """Whether the trial is over and recorded whole: done, or stopped by a scheduler or a stopper."""
        return self.state == "done" or (self.state == "stopped" and self.by in ("scheduler", "stopper"))

    @property
    def may_go_on(self) -> bool:
        """Return whether a later run takes up the trial again though it has ended: it failed, or was stopped."""
        return self.state in ENDED and not self.ended

    @property
    def starts(self) -> int:
        """Return how often workers have started it; a driver that queues a trial takes a number of an attempt too."""
        return max(0, self.attempt - self.run)

    @property
    def cause(self) -> str | None:
        """Return why it failed or was stopped, one line; None where neither holds."""
        return {"failed": self.error, "stopped": self.reason}.get(self.state)


def read_state(path: str | Path, filesystem: pafs.FileSystem | None = None) -> TrialState:
    """Read ``<trial>/state.json``.

    Args:
        path: the file.
        filesystem: where it is; None for a local file.

    Raises:
        RecordError: if the file is damaged.
        FileNotFoundError: if there is none (yet).
    """
    content = read_json(path, filesystem)
    try:
        return TrialState.of(content)
    except ValueError as error:
        raise RecordError(f"{path} is damaged: {error}") from error


@functools.cache
def _kinds() -> dict[str, Any]:
    return get_type_hints(TrialState)


def _fits(value: object, kind: Any) -> bool:  # noqa: ANN401 - an annotation
    """Return whether a JSON value is what an annotation of `TrialState` says."""
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is Mapping:
        return isinstance(value, Mapping) and all(_fits(item, get_args(kind)[1]) for item in value.values())
    if get_args(kind):
        return any(_fits(value, one) for one in get_args(kind))
    return type(value) is kind or (kind is float and type(value) is int)
