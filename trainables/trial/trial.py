"""One trial, from its config to its records, without Ray.

In a notebook: ``Trial(config, folder).run()``. A trial that was interrupted continues from its newest checkpoint; what
it records is the same, number for number, as if it had never stopped.
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from fairsweep.analysis.records.file_names import CONFIG, MEMBERSHIP, SHARD_PREDICTIONS, WEIGHTS
from fairsweep.analysis.records.files import RecordError, written_together
from fairsweep.analysis.records.learner_records import write_shard_predictions
from fairsweep.analysis.records.prediction_records import write_membership
from fairsweep.analysis.records.trial_state import StoppedBy
from fairsweep.datasets.feeds.feed_choice import FeedChoice
from fairsweep.datasets.selection.randomness import fingerprint
from fairsweep.trainables.learners import build_learner
from fairsweep.trainables.learning.evaluation import DivergedError, Evaluated
from fairsweep.trainables.learning.iteration_report import IterationReport
from fairsweep.trainables.learning.learner import CohortWorkers, Learner
from fairsweep.trainables.learning.memory_use import MemoryUse
from fairsweep.trainables.learning.trial_watch import Ending, Watch
from fairsweep.trainables.learning.validation_predictions import ValidationPredictions
from fairsweep.trainables.privacy.plan import PrivacyPlan
from fairsweep.trainables.trial.checkpoint import CheckpointFolder, CheckpointPolicy, save_weights
from fairsweep.trainables.trial.state import StaleAttemptError, TrialStateFile
from fairsweep.trainables.trial.trial_config import TrialConfig
from fairsweep.trainables.trial.trial_data import (
    TrialData,
    describe_data,
    learning_task,
    open_training_feed,
    vocabularies,
)
from fairsweep.trainables.trial.trial_files import CHECKPOINTS, clean_up
from fairsweep.trainables.trial.trial_records import TrialRecords
from fairsweep.trainables.trial.trial_secret import ids_key as own_ids_key
from fairsweep.trainables.trial.trial_secret import trial_secret

__all__ = ["Metrics", "Trial", "TrialConfig"]


Metrics = dict[str, float | None]


class Trial:
    """Trains and evaluates one learner on one setting, and records it.

    Args:
        config: what to do.
        folder: the trial's folder; made if missing. A trial that has begun there continues.
        plan: the privacy plan, calibrated beforehand; None builds it here if the learner is private.
        device: where training happens.
        checkpoints: which checkpoints to write and keep.
        run: number of the driver that started this worker; None without a driver.
        feed: where images come from: the machine's decoded copy, or a stream, which needs a running Ray.
        workers: further processes over which a federated learner spreads its clients; it ends them with the trial.
        node: id of this machine in a Ray cluster; None outside of one.
        watch: what is looked at after each iteration, and may end the trial before its last one.
        ids_key: keys the hashes of sets of ids in its records; None takes its sweep's, if any.

    Raises:
        StreamError: if the feed is a stream and Ray is not running.
        DatasetError: if the dataset is missing, damaged, or not the one that the config names.
        StaleAttemptError: if another driver has taken the trial over.
    """

    def __init__(
        self,
        config: TrialConfig,
        folder: str | Path,
        *,
        plan: PrivacyPlan | None = None,
        device: str = "cpu",
        checkpoints: CheckpointPolicy | None = None,
        run: int | None = None,
        feed: FeedChoice | None = None,
        workers: CohortWorkers | None = None,
        node: str | None = None,
        watch: Watch | None = None,
        ids_key: bytes | None = None,
    ) -> None:
        self.config = config
        self.folder = Path(folder)
        self._policy = checkpoints or CheckpointPolicy()
        self._workers = workers
        if config.mode == "release":
            config.learner.check_release()
        state = TrialStateFile(self.folder)
        self._attempt = state.begin(config.trial, run, node, timed=config.mode == "research")
        with self._failing():
            if not (self.folder / CONFIG).exists():  # what an earlier version began may go on
                config.learner.check_claims()
            self._choice = feed or FeedChoice()
            self._memory = MemoryUse(torch.device(device))
            self._data = TrialData.open(config, self._choice, torch.device(device))
            self._evaluations, self._subset = self._data.evaluations, self._data.subset
            self._learner = self._build_learner(plan, torch.device(device))
            words = vocabularies(self._data.dataset, config)
            owned, own = self._attempt.owned, self._learner.files
            self._records = TrialRecords(self.folder, words, config, owned, own)
            self._checkpoints = CheckpointFolder(
                self.folder / CHECKPOINTS,
                keep=self._policy.keep,
                budget_bytes=self._policy.budget_bytes,
                owned=self._attempt.owned,
            )
            self._selected: Evaluated | None = None
            self._gone = 0
            self._seconds, self._examples, self._steps, self._last_steps = 0.0, 0, 0, 0
            self._charged: float | None = None
            self._looks: list[dict[str, float]] = []
            self._resume()
            self._watcher = None if watch is None else watch.begin(words)
            self._watched: dict[str, float | None] = {}
            known, self._looks = self._looks, []
            for number, cells in enumerate(self._records.recorded("validation")):
                self._look(cells, None, known[number] if number < len(known) else {})
            self._saved = (self.iteration, time.monotonic())
            key = ids_key or own_ids_key(self.folder)
            self._records.start(describe_data(self._data, config, key) | self._learner.facts())

    @property
    def iteration(self) -> int:
        """Iterations done."""
        return self._learner.iteration

    @property
    def iterations(self) -> int:
        """Iterations in all."""
        return self._learner.iterations

    @property
    def done(self) -> bool:
        """Whether the last iteration is done."""
        return self.iteration >= self.iterations

    def run(self) -> Path:
        """Train to the end and return the folder with the records."""
        try:
            while True:
                if self.iterate()["done"]:
                    return self.folder
        finally:
            self.close()

    @property
    def learner(self) -> Learner:
        """What is trained."""
        return self._learner

    def iterate(self, report: IterationReport | None = None) -> Metrics:
        """Do one iteration: train, evaluate, record, checkpoint; after the last one, finish.

        Args:
            report: of the iteration that the learner has just done beside others; None lets it do one.

        Returns:
            iteration, iterations, loss (None in release mode), accuracy, worst_group and predicted_classes (validation
            split; 1 where the learner has collapsed), epsilon
            (None until done, and where none is claimed), steps, seconds, done and stopped (0 or 1), what is watched.

        Raises:
            DivergedError: if loss or outputs are not finite.
            StaleAttemptError: if another worker has taken the trial over.
        """
        with self._failing():
            if report is None and not self.done:
                report = self._learner.step()
            self._drop_forgotten()
            evaluated = self._evaluate()
            if report is not None:
                self._check_finite(report)
                self._record(report, evaluated)
            ending = None if self.done else self._verdict()
            if ending is not None:
                return self._end_early("stopper", ending, report, evaluated)
            metrics = self._metrics(report, evaluated, ended=self.done)
            if self.done:
                self._finish(evaluated, metrics, {"state": "done"})
            else:
                self._save_if_due(metrics)
            return metrics

    def wish(self) -> str | None:
        """Why the driver's scheduler wants the trial to end now; None to go on."""
        with self._attempt.owned() as state:
            wanted = not self.done and 0 < (state.stop_at or 0) <= self.iteration
            return (state.reason or "others did better") if wanted else None

    def end(self, reason: str) -> Metrics:
        """End the trial here, for a scheduler: it is recorded whole, and charged for the steps that were planned.

        Raises:
            StaleAttemptError: if another worker has taken the trial over.
        """
        with self._failing():
            return self._end_early("scheduler", Ending(reason), None, self._evaluate())

    def state(self) -> dict[str, Any]:
        """All that a resume needs beyond the records: tensors and JSON values."""
        selected = self._selected
        return {
            "trial": self.config.trial,
            "content": self._data.dataset.info.content_hash,
            "learner": self._learner.state(),
            "seconds": self._seconds,
            "examples": self._examples,
            "memory": self._memory.peaks(),
            "steps": self._steps,
            "looks": self._looks,
            "selected": None if selected is None else selected.state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a state.

        Raises:
            ValueError: if it is the state of another trial.
        """
        if state.get("trial") != self.config.trial:
            raise ValueError(f"this is trial {self.config.trial}, but the state is of trial {state.get('trial')}")
        self._data.check_content(state.get("content"))
        self._learner.load(state["learner"])
        self._seconds = float(state["seconds"])
        self._examples = int(state.get("examples", 0))
        self._memory.add(state.get("memory", {}))
        self._steps = int(state["steps"])
        self._looks = [dict(values) for values in state.get("looks", ())]
        self._drop_forgotten()
        selected = None if state["selected"] is None else Evaluated.from_state(state["selected"])
        self._selected = selected if selected is not None and selected.covers(self._subset) else None

    def close(self) -> None:
        """Let go of the learner's workers and the feeds; may be called twice."""
        self._learner.close()
        self._data.close()

    # --- inside ---

    def _build_learner(self, plan: PrivacyPlan | None, device: torch.device) -> Learner:
        config = self.config
        secret = trial_secret(self.folder, mode=config.mode, key=config.key, trial=config.trial)
        keys = config.seeds.keys(secret)
        lost = self._attempt.note_secret(fingerprint(secret)) if config.mode == "release" else ()
        reopen = partial(open_training_feed, config, self._choice, device)
        task = learning_task(config, self._data, keys, device, self.folder, self._workers)
        task = replace(task, open_feed=reopen, former_secrets=lost)
        return build_learner(config.learner, task, plan)

    def _resume(self) -> None:
        newest = self._checkpoints.newest()
        damaged = [f"{CHECKPOINTS}/{name}" for name in self._checkpoints.damaged]
        if newest is not None:
            # A checkpoint without the records up to it is of no use: the trial starts over.
            lacking = self._records.restore(newest.iteration)
            if lacking is None:
                self.load(newest.state)
            else:
                damaged.append(lacking)
                self._checkpoints.clear()
        if damaged:
            self._attempt.update(recovered=f"damaged {', '.join(damaged)}: went on from iteration {self.iteration}")

    def _drop_forgotten(self) -> None:
        """Let go of predictions of examples that were deleted, and of what models say that saw them."""
        subset, gone = self._subset, self._learner.forgotten()
        if len(gone) != self._gone:
            self._gone, self._selected = len(gone), None
            self._subset = None if subset is None else subset.without(gone)

    def _save_if_due(self, metrics: Metrics) -> None:
        iteration, moment = self._saved
        now = time.monotonic()
        if self.iteration - iteration < self._policy.every or now - moment < self._policy.seconds:
            return
        self._saved = (self.iteration, now)
        # Records first: a checkpoint is of use only with the records up to it.
        self._records.write()
        self._checkpoints.save(self.iteration, self.state(), score=metrics["accuracy"])
        self._attempt.update(iteration=self.iteration, iterations=self.iterations, metrics=metrics, **self._spent())

    def _spent(self) -> dict[str, Any]:
        """Return seconds and examples of the training, and the peaks of memory."""
        return {"seconds": self._seconds, "examples": self._examples, **self._memory.peaks()}

    def _evaluate(self) -> Evaluated:
        feeds = self._data.feeds
        values = {name: s.log_probabilities(self._learner, feeds[name]) for name, s in self._evaluations.items()}
        evaluated = Evaluated(self.iteration, values)
        best = self._selected
        validation = self._evaluations["validation"]
        better = best is None or validation.accuracy(values["validation"]) > validation.accuracy(
            best.log_probabilities["validation"]
        )
        # A resume at the last iteration evaluates once more what was selected already.
        if better or (best is not None and best.iteration == self.iteration) or self.done:
            if self._subset is not None:
                values["train"] = self._subset.log_probabilities(self._learner, feeds["train"])
            if better:
                self._selected = evaluated
        return evaluated

    def _check_finite(self, report: IterationReport) -> None:
        measured = self.config.mode == "research" and report.examples > 0
        if measured and not math.isfinite(report.loss):
            raise DivergedError(
                f"the training loss is {report.loss} in iteration {report.iteration}: lower the learning rate, or clip"
            )

    def _record(self, report: IterationReport, evaluated: Evaluated) -> None:
        self._seconds += report.seconds
        self._examples += report.examples
        self._steps += report.steps
        self._last_steps = report.steps
        cells = [s.cells(self.iteration, evaluated.log_probabilities[name]) for name, s in self._evaluations.items()]
        self._records.add(report, cells)
        validation, values = self._evaluations["validation"], evaluated.log_probabilities["validation"]
        place = list(self._evaluations).index("validation")
        self._look(cells[place], validation.validation_predictions(values), {})

    def _look(self, cells: pa.Table, predictions: ValidationPredictions | None, known: Mapping[str, float]) -> None:
        if self._watcher is not None:
            values = self._watcher.see(cells, predictions, known)
            self._looks.append(dict(values))
            self._watched = {name: None if math.isnan(value) else value for name, value in values.items()}

    def _verdict(self) -> Ending | None:
        if self._watcher is None:
            return None
        return self._watcher.verdict(seconds=self._seconds, steps=self._steps, next_steps=self._last_steps)

    def _end_early(self, by: StoppedBy, ending: Ending, report: IterationReport | None, last: Evaluated) -> Metrics:
        if not ending.is_public:
            # When it ends depends on the private model: it is charged for what it would have taken at most.
            self._charged = self._most_steps()
        metrics = self._metrics(report, last, ended=True) | {"stopped": 1.0}
        if self._subset is not None and "train" not in last.log_probabilities:
            last.log_probabilities["train"] = self._subset.log_probabilities(self._learner, self._data.feeds["train"])
        self._finish(last, metrics, {"state": "stopped", "by": by, "reason": ending.reason})
        return metrics

    def _most_steps(self) -> float:
        """Return how many steps the trial could have taken by public rules alone."""
        most = None if self._watcher is None else self._watcher.most_steps
        return math.inf if most is None else most

    def _metrics(self, report: IterationReport | None, evaluated: Evaluated, *, ended: bool) -> Metrics:
        validation = self._evaluations["validation"]
        values = evaluated.log_probabilities["validation"]
        # What has been spent is a function of the steps; the accountants take a second, so it is settled at the end.
        privacy = self._learner.privacy(self._charged) if ended else None
        loss = None if report is None or math.isnan(report.loss) else report.loss
        return {
            "iteration": self.iteration,
            "iterations": self.iterations,
            "loss": loss,
            "accuracy": validation.accuracy(values),
            "worst_group": validation.worst_group_accuracy(values),
            "predicted_classes": validation.predicted_classes(values),
            "epsilon": None if privacy is None else privacy.epsilon.pld,
            "steps": self._steps,
            "seconds": self._seconds,
            "done": float(ended),
            "stopped": 0.0,
            **self._watched,
        }

    def _finish(self, last: Evaluated, metrics: Metrics, ended: Mapping[str, Any]) -> None:
        """Write the final records, say how the trial has ended, then delete what only a resume would need."""
        selected = self._selected or last
        shown = [last] if selected.iteration == last.iteration else [selected, last]
        sets = dict(self._evaluations) | ({} if self._subset is None else {"train": self._subset})
        tables = [
            s.predictions(evaluated.iteration, evaluated.log_probabilities[name])
            for evaluated in shown
            for name, s in sets.items()
        ]
        privacy, parts = self._learner.privacy(self._charged), self._learner.parts()
        test, feed = self._evaluations["test"], self._data.feeds["test"]
        by_part = [test.predictions(last.iteration, test.log_probabilities(part, feed)) for part in parts]
        with self._attempt.owned():
            with written_together():
                gone, keep = self._learner.forgotten(), self.config.learner.predicts_forgotten
                membership = self._data.membership(self._learner, last.iteration, gone, keep_gone=keep)
                if membership is not None:
                    write_membership(self.folder / MEMBERSHIP, membership)
                if by_part:
                    write_shard_predictions(self.folder / SHARD_PREDICTIONS, by_part)
                self._records.finish(tables, None if privacy is None else privacy.model_dump(mode="json"))
                if self._policy.keep_final_weights:
                    save_weights(self.folder / WEIGHTS, self._learner.weights())
                self._attempt.update(
                    **ended,
                    iteration=self.iteration,
                    iterations=self.iterations,
                    metrics=metrics,
                    **self._spent(),
                    traceback=None,
                )
            clean_up(self.folder)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Write the cause of an error into the trial's state before the error goes on."""
        try:
            yield
        except StaleAttemptError:
            raise
        except Exception as error:
            if isinstance(error, DivergedError):
                self._records.write()
            cause = f"{type(error).__name__}: {' '.join(str(error).split())}"
            text = "".join(traceback.format_exception(error))
            # A disk that is full, or a state that is damaged, takes no cause either, and must not hide it.
            with suppress(OSError, RecordError):
                self._attempt.update(state="failed", error=cause, traceback=text)
            raise
