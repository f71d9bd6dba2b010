"""Everything that can be known to be wrong before anything starts, and the plan of what will."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fairsweep.datasets.prepared import PreparedDataset
from fairsweep.datasets.randomness import seed_key
from fairsweep.sweeps.errors import SweepError
from fairsweep.sweeps.expand import PlannedTrial, expand
from fairsweep.sweeps.spec import Sweep
from fairsweep.trainables import learners
from fairsweep.trainables.models import build_model
from fairsweep.trainables.privacy import PrivacyPlan
from fairsweep.trainables.trial_data import evaluation_sets, training_plan

# What Parquet and JSON records of one trial take beside weights and predictions.
_RECORD_BYTES = 100_000


@dataclass(frozen=True)
class SweepPlan:
    """A sweep that can run.

    Attributes:
        sweep: the sweep.
        dataset: its dataset, opened.
        trials: all trials.
        sizes: number of training examples of each setting, by the setting's hash.
        evaluated: number of examples evaluated after each iteration.
        parameters: number of model parameters of each setting.
    """

    sweep: Sweep
    dataset: PreparedDataset
    trials: tuple[PlannedTrial, ...]
    sizes: dict[str, int]
    evaluated: int
    parameters: dict[str, int]

    def trial_bytes(self, trial: PlannedTrial) -> int:
        """Estimate of what a finished trial leaves on disk."""
        weights = 4 * self.parameters[trial.setting] if self.sweep.checkpoints.keep_final_weights else 0
        classes = len(self.dataset.attribute(self.sweep.dataset.label).values)
        return weights + _RECORD_BYTES + 2 * self.evaluated * (16 + 4 * classes)

    def needed_bytes(self, trials: Iterable[PlannedTrial]) -> int:
        """Estimate of what trials write, the checkpoints of those that run at once included."""
        listed = list(trials)
        if not listed:
            return 0
        # A checkpoint holds weights and up to two moments of an optimiser; one more is written before one is deleted.
        largest = max(12 * self.parameters[trial.setting] for trial in listed)
        return sum(map(self.trial_bytes, listed)) + largest * (self.sweep.checkpoints.keep + 1)


def check_sweep(sweep: Sweep) -> SweepPlan:
    """Open the dataset, enumerate the trials, and check each distinct part of them once.

    Raises:
        SweepError: on the first thing that cannot work, in one line.
    """
    dataset = _open(sweep)
    _check_attributes(sweep, dataset)
    trials = expand(sweep, dataset)
    sizes = _training_sizes(dataset, trials)
    parameters = _check_models(sweep, dataset, trials)
    try:
        evaluated = sum(len(s.rows) for s in evaluation_sets(dataset, trials[0].config).values())
    except ValueError as error:
        raise SweepError(str(error), ("evaluation",)) from error
    return SweepPlan(sweep, dataset, trials, sizes, evaluated, parameters)


def privacy_plans(plan: SweepPlan, trials: Iterable[PlannedTrial]) -> dict[str, PrivacyPlan]:
    """The privacy plan of each private setting, by the setting's hash; each distinct one is calibrated once.

    Raises:
        SweepError: if a setting has no plan, for example a batch larger than its training set.
    """
    found: dict[str, PrivacyPlan] = {}
    for trial in trials:
        if trial.setting in found:
            continue
        try:
            made = learners.plan_privacy(trial.config.learner, plan.sizes[trial.setting])
        except ValueError as error:
            raise SweepError(f"{trial.config.learner.name}: {error}", _learner_place(plan.sweep, trial)) from error
        if made is not None:
            found[trial.setting] = made
    return found


def _open(sweep: Sweep) -> PreparedDataset:
    try:
        return PreparedDataset.open(sweep.dataset.path.resolve())
    except ValueError as error:
        raise SweepError(str(error), ("dataset", "path")) from error


def _check_attributes(sweep: Sweep, dataset: PreparedDataset) -> None:
    named = [(sweep.dataset.label, ("dataset", "label"))]
    named += [(group, ("dataset", "groups")) for group in sweep.dataset.groups]
    for name, place in named:
        try:
            attribute = dataset.attribute(name)
        except ValueError as error:
            raise SweepError(str(error), place) from error
        if place[-1] == "label" and len(attribute.values) < 2:
            raise SweepError(f"a label needs at least two values, but {name!r} has {attribute.values}", place)


def _training_sizes(dataset: PreparedDataset, trials: Iterable[PlannedTrial]) -> dict[str, int]:
    """Draw each distinct training set once; its size is the same for every seed."""
    by_imbalance: dict[str, int] = {}
    sizes = {}
    for trial in trials:
        imbalance = trial.config.imbalance
        key = "" if imbalance is None else imbalance.model_dump_json()
        if key not in by_imbalance:
            try:
                by_imbalance[key] = len(training_plan(dataset, trial.config))
            except ValueError as error:
                raise SweepError(str(error), ("imbalance",)) from error
        sizes[trial.setting] = by_imbalance[key]
    return sizes


def _check_models(sweep: Sweep, dataset: PreparedDataset, trials: Iterable[PlannedTrial]) -> dict[str, int]:
    """Build each distinct model once, and ask each learner whether it can train it."""
    counted: dict[str, int] = {}
    parameters = {}
    classes = len(dataset.attribute(sweep.dataset.label).values)
    for trial in trials:
        if trial.setting in parameters:
            continue
        model = trial.config.model
        key = model.model_dump_json()
        try:
            learners.check(model, trial.config.learner)
            if key not in counted:
                built = build_model(model, dataset.info.image_shape, classes, seed_key(0, "preflight"))
                counted[key] = sum(parameter.numel() for parameter in built.parameters())
        except (ValueError, OSError) as error:
            raise SweepError(f"learner {trial.config.learner.name!r}: {error}", ("model",)) from error
        parameters[trial.setting] = counted[key]
    return parameters


def _learner_place(sweep: Sweep, trial: PlannedTrial) -> tuple[Any, ...]:
    name = trial.config.learner.name
    names = [space.raw.get("name", space.raw.get("kind")) for space in sweep.learners]
    return ("learners", names.index(name)) if name in names else ("learners",)
