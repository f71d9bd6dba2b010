"""The cost of a trial, measured on a few of its steps; nothing that it learns is kept.

Steps are timed where a learner asks its feed for them, so an epoch of an hour need not be run to the end.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from fairsweep.datasets.feeds.feed import Batch, Feed, step_range
from fairsweep.datasets.feeds.feed_choice import FeedChoice
from fairsweep.datasets.selection.randomness import KEY_BYTES
from fairsweep.datasets.selection.sampling import Sampler
from fairsweep.trainables.learners import build_learner
from fairsweep.trainables.learning.gpu_memory import PeakMemory, peak_memory
from fairsweep.trainables.learning.learner import Learner
from fairsweep.trainables.learning.tensor_bytes import encode
from fairsweep.trainables.privacy.plan import PrivacyPlan
from fairsweep.trainables.trial.checkpoint import CheckpointFolder
from fairsweep.trainables.trial.trial_config import TrialConfig
from fairsweep.trainables.trial.trial_data import TrialData, learning_task


@dataclass(frozen=True)
class TrialCost:
    """What one trial costs by itself, in one process.

    Attributes:
        open_seconds: to open its data and build its model.
        iteration_seconds: of training in one iteration, the mean over all.
        evaluation_seconds: of one evaluation of the validation and test sets.
        checkpoint_seconds: to serialise, check and write its state once.
        privacy_seconds: to settle what it has spent, once at the end.
        iterations: how many it has.
        checkpoint_bytes: size of its state.
        weights_bytes: size of its final weights and, of a forgetful learner, of the checkpoints of its slices.
        predictions_bytes: size of the predictions of one evaluation, as recorded.
        cells_bytes: size of the counts of one evaluation, as recorded.
        measured_steps: steps that were timed.
    """

    open_seconds: float
    iteration_seconds: float
    evaluation_seconds: float
    checkpoint_seconds: float
    privacy_seconds: float
    iterations: int
    checkpoint_bytes: int
    weights_bytes: int
    predictions_bytes: int
    cells_bytes: int
    measured_steps: int

    @property
    def record_bytes(self) -> int:
        """Size of the records of the whole trial, at most: predictions of two evaluations, counts of all."""
        return 2 * self.predictions_bytes + self.iterations * self.cells_bytes

    def seconds(self, every: int, checkpoint_every_seconds: float) -> float:
        """Wall-clock time of the whole trial with checkpoints at most so often."""
        each = self.iteration_seconds + self.evaluation_seconds
        learning = self.iterations * each
        count = self.iterations / every
        if checkpoint_every_seconds > 0:
            count = min(count, learning / checkpoint_every_seconds)
        return self.open_seconds + learning + count * self.checkpoint_seconds + self.privacy_seconds


def measure_trial(
    config: TrialConfig, folder: Path, *, feed: FeedChoice, plan: PrivacyPlan | None, device: str, limit_seconds: float
) -> TrialCost:
    """Measure a trial: some steps, one evaluation, one checkpoint.

    Args:
        config: the trial's config.
        folder: an empty folder, for what is written.
        feed: where images come from.
        plan: its privacy plan; None for learners without one.
        device: where it would train.
        limit_seconds: about how long to time steps; two steps at least, one of them to warm up.
    """
    began = time.perf_counter()
    data = TrialData.open(config, feed, torch.device(device))
    probe = ProbeFeed(data.feeds["train"], limit_seconds)
    # Nothing of what is learnt here leaves this function: neither secret nor noise matter.
    keys = config.seeds.keys(secret=bytes(KEY_BYTES))
    task = replace(learning_task(config, data, keys, torch.device(device), folder), feed=probe)
    learner = build_learner(config.learner, task, plan)
    opened = time.perf_counter() - began
    try:
        iteration = _iteration_seconds(learner, probe, config)
        evaluation, predictions, cells = _evaluate(learner, data)
        checkpoint, state_bytes = _checkpoint(learner, folder)
        began = time.perf_counter()
        learner.privacy()
        return TrialCost(
            open_seconds=opened,
            iteration_seconds=iteration,
            evaluation_seconds=evaluation,
            checkpoint_seconds=checkpoint,
            privacy_seconds=time.perf_counter() - began,
            iterations=learner.iterations,
            checkpoint_bytes=state_bytes,
            weights_bytes=_kept_bytes(learner, config),
            predictions_bytes=_recorded_bytes(predictions),
            cells_bytes=_recorded_bytes(cells),
            measured_steps=probe.steps,
        )
    finally:
        learner.close()
        data.close()


def measure_warm(
    config: TrialConfig, *, feed: FeedChoice, plan: PrivacyPlan | None, device: str, limit_seconds: float
) -> tuple[TrialCost, PeakMemory]:
    """Measure a trial and the GPU memory that it takes, in a temporary folder; see `measure_trial`.

    A first try, which does not count, builds the decoded copy, chooses a gradient mode by trying all of them, and loads
    what the first use of a library loads.
    """
    with tempfile.TemporaryDirectory(prefix="fairsweep-") as folder:
        for number, limit in enumerate((0.0, limit_seconds)):
            place = Path(folder, str(number))
            place.mkdir()
            with peak_memory(device) as memory:
                cost = measure_trial(config, place, feed=feed, plan=plan, device=device, limit_seconds=limit)
    return cost, memory


class ProbeFeed:
    """A feed that times the steps for which batches are taken from it, and gives few more once it knows enough.

    Args:
        feed: the feed behind it.
        limit_seconds: how long to give every batch; then each call gives its first one only.
    """

    def __init__(self, feed: Feed, limit_seconds: float) -> None:
        self._feed = feed
        self._limit = limit_seconds
        self._began = time.perf_counter()
        self.steps = 0
        self.seconds = 0.0
        self.asked = 0
        self.is_cut = False

    def batches(
        self, rows: NDArray[np.int64], sampler: Sampler, start: int = 0, stop: int | None = None
    ) -> Iterator[Batch]:
        """Return the feed's batches, or the first ones of them; see `Feed`."""
        self.asked += len(step_range(sampler, start, stop))
        before = time.perf_counter()
        for number, batch in enumerate(self._feed.batches(rows, sampler, start, stop)):
            now = time.perf_counter()
            # The first step of all warms up.
            if number > 1 or (number == 1 and self.steps):
                self.steps += 1
                self.seconds += now - before
            if number and self.steps and now - self._began > self._limit:
                self.is_cut = True
                return
            before = now
            yield batch

    def images(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Images by row; see `Feed`."""
        return self._feed.images(rows)

    def close(self) -> None:
        """Do nothing: the feed belongs to the trial and stays open."""

    def __enter__(self) -> Self:
        """Return the feed."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing: the feed belongs to the trial and stays open."""


def _iteration_seconds(learner: Learner, probe: ProbeFeed, config: TrialConfig) -> float:
    """Of one iteration, the mean over all: timed whole where that is quick, else by its steps."""
    began = time.perf_counter()
    learner.step()
    seconds = time.perf_counter() - began
    growth = config.learner.growth()
    if not probe.is_cut and growth is None and learner.iteration < learner.iterations:
        asked, began = probe.asked, time.perf_counter()
        learner.step()  # the first one warmed up
        seconds = time.perf_counter() - began
        probe.asked -= asked
    if probe.is_cut:
        seconds = probe.seconds / probe.steps * probe.asked
    return seconds * (growth or 1.0)


def _evaluate(learner: Learner, data: TrialData) -> tuple[float, list[pa.Table], list[pa.Table]]:
    began = time.perf_counter()
    values = {name: s.log_probabilities(learner, data.feeds[name]) for name, s in data.evaluations.items()}
    seconds = time.perf_counter() - began
    sets = data.evaluations.items()
    return seconds, [s.predictions(1, values[n]) for n, s in sets], [s.cells(1, values[n]) for n, s in sets]


def _checkpoint(learner: Learner, folder: Path) -> tuple[float, int]:
    began = time.perf_counter()
    state = learner.state()
    checkpoints = CheckpointFolder(folder / "checkpoints")
    checkpoints.save(1, state)
    return time.perf_counter() - began, sum(path.stat().st_size for path in checkpoints.folder.iterdir())


def _kept_bytes(learner: Learner, config: TrialConfig) -> int:
    return len(encode(learner.weights())) * (1 + config.learner.kept_models().copies)


def _recorded_bytes(tables: list[pa.Table]) -> int:
    buffer = io.BytesIO()
    pq.write_table(pa.concat_tables(tables), buffer, compression="zstd")
    return buffer.tell()
