"""Which part of a GPU trials reserve whose resources say ``gpu: auto``: measured once, before the sweep starts.

Each learner is measured with each model, at its largest batch, on a whole GPU of the cluster. What was found lies in
the output folder, so a sweep that goes on takes the same parts, and measures only a learner that is new. How much of a
GPU a trial reserves is no part of its identity.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import ray
import torch

from fairsweep.analysis.records.columns import RecordError, read_json, write_json
from fairsweep.datasets.feeds.feed_choice import FeedChoice
from fairsweep.sweeps.planning.expand import PlannedTrial
from fairsweep.sweeps.planning.feed_choice import settle_feed
from fairsweep.sweeps.planning.machines import Machine, check_budget, check_resources
from fairsweep.sweeps.planning.preflight import SweepPlan, privacy_plans
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.trainables.adapter import use_threads
from fairsweep.trainables.dpsgd.dpsgd_learner import DpsgdConfig
from fairsweep.trainables.federated.fedavg_config import FederatedConfig
from fairsweep.trainables.learning.gpu_memory import PeakMemory, part_text
from fairsweep.trainables.privacy.plan import PrivacyPlan
from fairsweep.trainables.trial.profiling import measure_warm
from fairsweep.trainables.trial.trial_config import TrialConfig
from fairsweep.trainables.unlearning.sisa_config import SisaConfig

GPU_PARTS_FILE = "gpu_parts.json"

Key = tuple[str, str]
"""Names of a learner and a model."""


class NoCudaError(RuntimeError):
    """Ray has given a GPU to a process that sees no CUDA device."""


@dataclass(frozen=True)
class MeasuredPart:
    """What was measured of one learner with one model.

    Attributes:
        learner: its name.
        model: name of the model.
        kind: which method.
        batch_size: its largest batch, examples; None where each client takes all of its own.
        parameters: number of parameters of its largest model.
        peak_bytes: the most that torch held.
        context_bytes: what was taken beside it: the CUDA context, and other programs.
        total_bytes: what the GPU has.
        part: the part that its trials reserve.
    """

    learner: str
    model: str
    kind: str
    batch_size: int | None
    parameters: int
    peak_bytes: int
    context_bytes: int
    total_bytes: int
    part: float

    def __str__(self) -> str:
        """One line for people."""
        used = (self.peak_bytes + self.context_bytes) / 1e9
        return (
            f"{self.learner} ({self.model}) took {used:.2g} of {self.total_bytes / 1e9:.3g} GB at its largest batch; "
            f"{part_text(self.part)}"
        )


class GpuParts:
    """The parts that were measured for a sweep.

    Args:
        folder: its output folder, which keeps them; it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / GPU_PARTS_FILE
        try:
            listed = [MeasuredPart(**entry) for entry in read_json(self._path)["measured"]]
        except (FileNotFoundError, NotADirectoryError, RecordError, KeyError, TypeError):
            listed = []  # what is not known, or damaged, is measured again
        self.known: dict[Key, MeasuredPart] = {(entry.learner, entry.model): entry for entry in listed}

    def settled(self, trials: Iterable[PlannedTrial]) -> list[PlannedTrial]:
        """Return the trials, each with its part as far as that is known."""
        return [self._settled(trial) for trial in trials]

    def shown(self, trials: Iterable[PlannedTrial]) -> str:
        """GPUs of some trials as a plan shows them: ``0.25``, ``auto``, ``auto: 1/16 of a GPU``."""
        listed = {trial.resources.gpu: None for trial in trials if trial.resources.gpu != "auto"}
        words = [f"{gpus:g}" for gpus in listed]
        automatic = [trial for trial in trials if trial.resources.gpu == "auto"]
        if automatic:
            parts = {self.known[_key(t)].part for t in automatic if _key(t) in self.known}
            words.append("auto" + ("" if not parts else f": {', '.join(map(part_text, sorted(parts)))}"))
        return ", ".join(words)

    def add(self, found: MeasuredPart) -> None:
        """Keep what was measured."""
        self.known[found.learner, found.model] = found
        write_json(self._path, {"measured": [asdict(entry) for entry in self.known.values()]})

    def _settled(self, trial: PlannedTrial) -> PlannedTrial:
        found = self.known.get(_key(trial))
        if found is None or not trial.resources.is_measured:
            return trial
        return replace(trial, resources=trial.resources.with_part(found.part))


def with_gpu_parts(
    plan: SweepPlan, trials: Sequence[PlannedTrial], folder: Path, available: list[Machine], say: Callable[[str], None]
) -> list[PlannedTrial]:
    """Trials that know what they reserve; measures whatever is not known yet, on the Ray that is connected.

    Args:
        plan: the checked sweep.
        trials: those that will run.
        folder: the output folder, held.
        available: the machines.
        say: shows a line to the user.

    Raises:
        SweepError: if a learner cannot be measured, or does not fit with the part that it needs.
    """
    if not any(trial.resources.is_measured for trial in trials):
        return list(trials)
    parts = GpuParts(folder)
    feed = settle_feed(plan.sweep, plan.datasets, trials, available).choice
    wanted = {_key(trial) for trial in trials if trial.resources.is_measured}
    for key, trial in heaviest(plan).items():
        if key not in wanted:
            continue
        known = parts.known.get(key)
        before = known is not None and _signature(plan, trial) == (known.kind, known.batch_size, known.parameters)
        if not before:
            say(f"gpu: auto: measuring a few steps of {key[0]} ({key[1]}) on a whole GPU")
            parts.add(_measured(plan, trial, measure_on_gpu(plan, trial, feed)))
        say(f"gpu: auto: {parts.known[key]}{', as measured before' if before else ''}")
    settled = parts.settled(trials)
    check_resources(settled, available)
    check_budget(plan, settled, available)  # more of them may run at once than with whole GPUs
    return settled


def heaviest(plan: SweepPlan) -> dict[Key, PlannedTrial]:
    """For each learner with each of its models, a trial that takes as much memory as any.

    It has the learner's largest batch and the largest model of that name; no trial of a search need have both.

    Args:
        plan: the checked sweep.
    """
    learners: dict[str, list[PlannedTrial]] = {}
    groups: dict[Key, list[PlannedTrial]] = {}
    for trial in plan.trials:
        if trial.resources.is_measured:
            learners.setdefault(_key(trial)[0], []).append(trial)
            groups.setdefault(_key(trial), []).append(trial)
    configs = {name: max(own, key=_demand).config.learner for name, own in learners.items()}
    found = {}
    for key, own in groups.items():
        largest = max(own, key=lambda trial: (plan.parameters[trial.setting], plan.sizes[trial.trial]))
        found[key] = replace(largest, config=largest.config.model_copy(update={"learner": configs[key[0]]}))
    return found


def measure_peak(config: TrialConfig, feed: FeedChoice, plan: PrivacyPlan | None, cpus: float) -> PeakMemory:
    """Return what a few steps, an evaluation and a checkpoint take of the GPU that this process sees.

    Args:
        config: the trial's config.
        feed: where its images come from.
        plan: its privacy plan; None for learners without one.
        cpus: CPUs that this process has.

    Raises:
        NoCudaError: if it sees none.
    """
    if not torch.cuda.is_available():
        raise NoCudaError(f"torch {torch.__version__} sees no CUDA device on {socket.gethostname()}")
    use_threads(cpus)
    return measure_warm(config, feed=feed, plan=plan, device="cuda", limit_seconds=0.0)[1]


def measure_on_gpu(plan: SweepPlan, trial: PlannedTrial, feed: FeedChoice) -> PeakMemory:
    """Return what `measure_peak` finds in a process of its own that has a whole GPU, and that ends afterwards.

    Args:
        plan: the checked sweep.
        trial: what to measure.
        feed: where its images come from.

    Raises:
        SweepError: if it cannot be measured, with the cause and the remedy.
    """
    name = trial.config.learner.name
    privacy: Mapping[str, PrivacyPlan] = privacy_plans(plan, [trial])
    task = ray.remote(num_cpus=trial.resources.cpu, num_gpus=1, max_calls=1, max_retries=1)(measure_peak)
    asked = task.remote(trial.config, feed, privacy.get(trial.trial), trial.resources.cpu)
    try:
        found: PeakMemory = ray.get(asked)
    except KeyboardInterrupt:
        ray.cancel(asked, force=True)
        raise
    except ray.exceptions.RayError as error:
        raise SweepError(_refusal(name, getattr(error, "cause", None) or error), ("resources",)) from error
    return found


def _refusal(name: str, cause: BaseException) -> str:
    """Why a learner could not be measured, and what to do."""
    reason = " ".join(str(cause).split())[-300:]
    if isinstance(cause, NoCudaError):
        return (
            f"gpu: auto: Ray has given a GPU to measure learner {name!r} on, but {reason}: install a torch with CUDA "
            "there, or write gpu: 0 to train on CPUs"
        )
    if isinstance(cause, torch.OutOfMemoryError):
        return f"gpu: auto: learner {name!r} does not fit into a whole GPU ({reason}): lower its batch or its model"
    return (
        f"gpu: auto: learner {name!r} could not be measured ({type(cause).__name__}: {reason}): mend it, or write gpu "
        "as a number"
    )


def _measured(plan: SweepPlan, trial: PlannedTrial, memory: PeakMemory) -> MeasuredPart:
    kind, batch_size, parameters = _signature(plan, trial)
    return MeasuredPart(
        *_key(trial),
        kind,
        batch_size,
        parameters,
        memory.peak_bytes,
        memory.context_bytes,
        memory.total_bytes,
        memory.part or 1.0,
    )


def _signature(plan: SweepPlan, trial: PlannedTrial) -> tuple[str, int | None, int]:
    """Return what a learner is measured for; where it has changed, it is measured again."""
    return trial.config.learner.kind, _batch_size(trial), plan.parameters[trial.setting]


def _key(trial: PlannedTrial) -> Key:
    return trial.config.learner.name, trial.config.model.name


def _demand(trial: PlannedTrial) -> tuple[float, int]:
    """Orders the settings of one learner by the memory that they take."""
    batch_size, learner = _batch_size(trial), trial.config.learner
    physical = learner.performance.physical_batch_size if isinstance(learner, DpsgdConfig) else None
    return math.inf if batch_size is None else batch_size, physical or 0


def _batch_size(trial: PlannedTrial) -> int | None:
    learner = trial.config.learner
    if isinstance(learner, FederatedConfig):
        return learner.local.batch_size
    return learner.inner.batch_size if isinstance(learner, SisaConfig) else getattr(learner, "batch_size", None)
