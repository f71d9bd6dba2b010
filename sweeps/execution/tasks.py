"""The per-trial input of workers: privacy plans and gradient modes, determined once for the whole sweep."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fairsweep.analysis.records.file_names import TRIALS
from fairsweep.analysis.records.files import RecordError, read_json, write_json
from fairsweep.analysis.records.trial_folder import TrialFolder
from fairsweep.datasets.feeds.feed_choice import FeedChoice
from fairsweep.sweeps.planning.expand import PlannedTrial
from fairsweep.sweeps.planning.machines import beside_readers, inner_workers, machines
from fairsweep.sweeps.planning.objectives import meaning_of
from fairsweep.sweeps.planning.preflight import SweepPlan
from fairsweep.sweeps.search.stopping_rules import TrialWatch, steps_within
from fairsweep.sweeps.store.ledger import Entry, Ledger
from fairsweep.trainables.adapter import TrialTask
from fairsweep.trainables.dpsgd.mode_names import current_mode
from fairsweep.trainables.learning.learner_config import MeasuredChoice
from fairsweep.trainables.learning.measures import SPENT
from fairsweep.trainables.privacy.plan import PrivacyPlan
from fairsweep.trainables.trial.trial_config import TrialConfig
from fairsweep.trainables.trial.trial_secret import ids_key

GRADIENT_MODES_FILE = "gradient_modes.json"


def trial_tasks(
    plan: SweepPlan,
    trials: Sequence[PlannedTrial],
    queued: Mapping[str, Entry],
    privacy: Mapping[str, PrivacyPlan],
    output: Path,
    feed: FeedChoice,
    at_once: int = 1,
    modes: GradientModes | None = None,
) -> dict[str, TrialTask]:
    """Return the tasks of trials, by hash.

    Args:
        plan: the checked sweep.
        trials: those that will run.
        queued: their entries in the ledger.
        privacy: the privacy plan of each private trial.
        output: the output folder; the gradient modes that were measured are kept there.
        feed: where images come from.
        at_once: how many trials run at once; they share the budget for checkpoints.
        modes: what is known of gradient modes, where trials come a few at a time; None looks at the folder.
    """
    publisher = None
    if plan.sweep.remote is not None:
        from fairsweep.sweeps.copies.publishing import publisher_of

        publisher = publisher_of(plan.sweep.remote, plan.sweep.privacy.mode)
    limits = plan.sweep.checkpoints
    held = 0 if limits.budget is None else Ledger(output).waiting_bytes(at_once)  # looks at every trial
    policy = limits.policy(at_once, held)
    watches = Watches(plan)
    modes = modes or GradientModes(output / GRADIENT_MODES_FILE)
    modes.look_again()
    available = beside_readers(machines(), feed.kind)
    tasks, key = {}, ids_key(output / TRIALS / "any")
    for trial in trials:
        entry = queued[trial.trial]
        config = modes.fixed(trial, plan)
        workers = inner_workers(trial, available)
        tasks[trial.trial] = TrialTask(
            config=config,
            folder=entry.folder,
            run=entry.state.run,
            plan=privacy.get(trial.trial),
            cpu=trial.resources.cpu,
            gpu=trial.resources.gpu,
            workers=workers.count,
            worker_cpu=workers.cpu,
            worker_gpu=workers.gpu,
            checkpoints=policy,
            feed=feed,
            publisher=publisher,
            watch=watches.of(privacy.get(trial.trial)),
            ids_key=key,
            scheduled=plan.sweep.scheduler.kind != "none",
            report_seconds=0.0 if plan.sweep.scheduler.kind != "none" else TrialTask.report_seconds,
        )
    if private := {trial: privacy[trial] for trial in tasks if trial in privacy}:
        from fairsweep.sweeps.planning.running_epsilon import write_plans

        write_plans(output, private)
    return tasks


class Watches:
    """What is watched of each trial of a sweep.

    Args:
        plan: the checked sweep.
    """

    def __init__(self, plan: SweepPlan) -> None:
        sweep, meaning = plan.sweep, meaning_of(plan.sweep, plan.dataset)
        aims = [*sweep.search.objectives, *sweep.scheduler.objectives]
        settled = [aim.measure.settled(meaning) for aim in aims if aim.measure.metric not in SPENT]
        own = {"metrics": sweep.metrics, "own_code": sweep.own_code} if sweep.metrics else {}
        self._watch = TrialWatch(
            sweep.dataset.label, sweep.dataset.groups, tuple(dict.fromkeys(settled)), stop=sweep.stop, own=own
        )
        self._steps: dict[str, int] = {}
        self._needed = bool(settled) or sweep.stop.rules

    def of(self, plan: PrivacyPlan | None) -> TrialWatch | None:
        """Return the watch over a trial with a privacy plan, or none; None where there is nothing to watch."""
        if not self._needed:
            return None
        epsilon = self._watch.stop.epsilon
        if epsilon is None or plan is None or not plan.guarantees:
            return self._watch
        return replace(self._watch, most_steps=self._steps_within(plan, epsilon))

    def _steps_within(self, plan: PrivacyPlan, epsilon: float) -> int:
        """Each distinct plan is looked at once, for the accountant takes its time."""
        text = plan.model_dump_json()
        if text not in self._steps:
            self._steps[text] = steps_within(plan, epsilon)
        return self._steps[text]


class GradientModes:
    """The gradient modes that were chosen by measuring, kept with the sweep.

    Two workers that measured on their own could choose differently, and their results would differ by rounding. Only
    modes on the CPU are chosen here: the driver may lack the workers' accelerator. What trials of the sweep have
    recorded comes first, so that an extension trains as the sweep did, also where the file is lost.

    Args:
        path: the file that keeps them, in the output folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._chosen: dict[str, str] = {}
        self._found: dict[str, str] = {}
        self._is_looked_through = False
        with suppress(FileNotFoundError, RecordError):
            self._chosen = {key: str(current_mode(mode)) for key, mode in read_json(path).items()}

    def look_again(self) -> None:
        """Let the next mode that is not known be looked for in what trials have recorded meanwhile."""
        self._is_looked_through = False

    def _recorded(self, key: str) -> str | None:
        """Return the mode that trials on disk have trained with; what has been found once is not looked for again."""
        if key not in self._found and not self._is_looked_through:
            self._found = self._all_recorded() | self._found
            self._is_looked_through = True
        return self._found.get(key)

    def _all_recorded(self) -> dict[str, str]:
        """Return the modes of all trials on disk, by learner, model, clipping, precision and device."""
        found: dict[str, str] = {}
        for entry in Ledger(self._path.parent).entries().values():
            with suppress(OSError, RecordError, KeyError, TypeError):
                trial = TrialFolder(entry.folder)
                config, data = trial.config or {}, trial.data or {}
                learner = config["learner"]
                choice = f"{learner['clipping']} {learner['performance'].get('precision', 'float32')}"
                key = _recorded_key(learner["name"], config["model"], choice, data["device"])
                found.setdefault(key, str(current_mode(data["gradient_mode"])))
        return found

    def fixed(self, trial: PlannedTrial, plan: SweepPlan) -> TrialConfig:
        """Return the trial's config with ``auto`` replaced by the mode that is chosen.

        The mode is no part of the trial's identity.
        """
        config, learner = trial.config, trial.config.learner
        device = "cuda" if trial.resources.gpu else "cpu"
        choice = learner.choice(config.model, torch.device(device))
        if choice is None:
            return config
        key = _recorded_key(learner.name, config.model.record(), choice.name, device)
        mode = self._recorded(key)
        if mode is None and device == "cpu":
            mode = self._found[key] = self._measured(config, choice, plan)
        return config if mode is None else config.model_copy(update={"learner": choice.settle(mode)})

    def _measured(self, config: TrialConfig, choice: MeasuredChoice, plan: SweepPlan) -> str:
        key = f"cpu {config.model.model_dump_json()} {choice.key}"
        if key not in self._chosen:
            classes = len(plan.dataset.attribute(config.dataset.label).values)
            self._chosen[key] = choice.measure(plan.dataset.info.image_shape, classes)
            write_json(self._path, self._chosen)
        return self._chosen[key]


def _recorded_key(learner: str, model: Mapping[str, Any], choice: str, device: str) -> str:
    return json.dumps([learner, model, choice, device], sort_keys=True)
