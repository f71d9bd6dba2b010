"""Checks before anything starts, and the resulting plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairsweep.analysis.own_code import OwnCodeError
from fairsweep.analysis.records.file_names import TRIALS
from fairsweep.datasets.selection.randomness import seed_key
from fairsweep.datasets.selection.user_units import most_of_one_user
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.sweeps.planning.expand import PlannedTrial, expand, trials_at
from fairsweep.sweeps.planning.label_checks import check_attributes, check_labels
from fairsweep.sweeps.planning.objectives import aims_of, check_aims, check_reachable
from fairsweep.sweeps.planning.release_checks import check_release, division_key
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.sweeps.syntax.errors import Location, SweepError
from fairsweep.trainables.learners import LEARNERS
from fairsweep.trainables.learning.roles import Roles
from fairsweep.trainables.models.examination import Examined, examine
from fairsweep.trainables.models.frozen_body import WeightCounts
from fairsweep.trainables.privacy.plan import Outlook, PrivacyPlan
from fairsweep.trainables.rehearsal import rehearse
from fairsweep.trainables.trial.trial_data import evaluation_sets, training_columns, training_plan

if TYPE_CHECKING:
    from fairsweep.sweeps.spec.search_space import Chosen

# What Parquet and JSON records of one trial take beside weights and predictions.
_RECORD_BYTES = 100_000


@dataclass(frozen=True)
class SweepPlan:
    """A sweep that can run.

    Attributes:
        sweep: the sweep.
        dataset: its dataset, opened.
        other: the dataset that it is tested on, opened, if that is another one.
        trials: all trials.
        sizes: number of training examples of each trial, by its hash.
        units: number of privacy units of each trial, examples or clients.
        evaluated: number of examples evaluated after each iteration.
        weights: how many weights each setting's model keeps and trains.
        refused: of the settings that a search drew and that cannot run how many, by cause; they have no trials.
        of_one_user: the most training examples of one user, by hash of the trial, in the draw of its first seed; empty
            where the dataset knows no users.
        calibrated: privacy plans that are known, by learner and number of units; see `privacy_plans`.
    """

    sweep: SweepSpec
    dataset: PreparedDataset
    other: PreparedDataset | None
    trials: tuple[PlannedTrial, ...]
    sizes: dict[str, int]
    units: dict[str, int]
    evaluated: int
    weights: dict[str, WeightCounts]
    refused: Mapping[str, int] = field(default_factory=dict)
    of_one_user: dict[str, int] = field(default_factory=dict)
    calibrated: dict[tuple[str, int], PrivacyPlan | None] = field(default_factory=dict)

    def add(self, other: SweepPlan) -> None:
        """Take up what is known of further trials; ``trials`` stays as it is."""
        self.sizes.update(other.sizes)
        self.of_one_user.update(other.of_one_user)
        self.units.update(other.units)
        self.weights.update(other.weights)

    @property
    def datasets(self) -> tuple[PreparedDataset, ...]:
        """What trials read images from."""
        return (self.dataset,) if self.other is None else (self.dataset, self.other)

    @property
    def content(self) -> tuple[str, ...]:
        """Hashes by which these datasets are recorded."""
        trained = self.dataset.recorded_hash(self.sweep.privacy.mode)
        return (trained,) if self.other is None else (trained, self.other.info.content_hash)

    @property
    def former_content(self) -> tuple[str, ...]:
        """The same as earlier versions recorded them: a release named the content of its dataset too."""
        return tuple(dataset.info.content_hash for dataset in self.datasets)

    def trial_bytes(self, trial: PlannedTrial) -> int:
        """Estimate of what a finished trial leaves on disk."""
        kept = trial.config.learner.kept_models()
        copies = kept.copies + self.sweep.checkpoints.keep_final_weights
        weights = 4 * self.weights[trial.setting].kept * kept.trained * copies
        classes = len(self.dataset.attribute(self.sweep.dataset.label).values)
        return weights + _RECORD_BYTES + 2 * self.evaluated * (16 + 4 * classes)

    def checkpoint_bytes(self, trial: PlannedTrial) -> int:
        """Estimate of one checkpoint: weights and up to two moments of an optimiser, of each model that it holds."""
        weights = self.weights[trial.setting]
        return (4 * weights.kept + 8 * weights.trained) * trial.config.learner.kept_models().in_checkpoint

    def needed_bytes(self, trials: Iterable[PlannedTrial]) -> int:
        """Estimate of what trials write, the checkpoints of those that run at once included."""
        listed = list(trials)
        if not listed:
            return 0
        # One more checkpoint is written before one is deleted.
        largest = max(map(self.checkpoint_bytes, listed))
        return sum(map(self.trial_bytes, listed)) + largest * (self.sweep.checkpoints.keep + 1)


def check_sweep(sweep: SweepSpec) -> SweepPlan:
    """Open the dataset, enumerate the trials, and check each distinct part of them once.

    The settings of a guided search become known while it runs: what is checked are the ends of its dimensions.

    Raises:
        SweepError: on the first thing that cannot work, in one line.
    """
    plan = _check(sweep)
    _rehearse_own(sweep, plan)
    if sweep.privacy.delta_sweep is None and sweep.privacy.epsilon_sweep is None:
        return plan
    from fairsweep.sweeps.planning.planned_charges import check_delta_sweep, noise_of_budget

    if sweep.privacy.delta_sweep is not None:
        check_delta_sweep(sweep.privacy.delta_sweep, privacy_plans(plan, plan.trials).values())
    if sweep.privacy.epsilon_sweep is None:
        return plan
    noise = noise_of_budget(sweep, list(outlooks(plan)), privacy_plans(plan, plan.trials))
    return _check(sweep.model_copy(update={"privacy": sweep.privacy.with_shared_noise(noise)}))


def _check(sweep: SweepSpec) -> SweepPlan:
    dataset = _open(sweep.dataset.path, ("dataset", "path"))
    place: Location = ("evaluation", "dataset")
    other = None if sweep.evaluation.dataset is None else _open(sweep.evaluation.dataset, place)
    check_attributes(sweep, dataset)
    check_aims(sweep, dataset)
    check_reachable(sweep, dataset)
    if sweep.search.is_drawn:
        return _plan_drawn(sweep, dataset, other)
    if sweep.search.is_guided or sweep.search.is_secret:
        from fairsweep.sweeps.spec.search_space import SearchSpace

        trials = trials_at(sweep, dataset, other, SearchSpace(sweep).probes())
    else:
        trials = expand(sweep, dataset, other)
    return plan_trials(sweep, dataset, other, trials)


def _plan_drawn(sweep: SweepSpec, dataset: PreparedDataset, other: PreparedDataset | None) -> SweepPlan:
    """Plan what was drawn beforehand; what cannot run is left out."""
    from fairsweep.sweeps.planning.drawn_settings import drawn_settings, sound_settings

    def plan(settings: Sequence[Chosen]) -> SweepPlan:
        planned = plan_trials(sweep, dataset, other, trials_at(sweep, dataset, other, settings))
        privacy_plans(planned, planned.trials)
        return planned

    settings = drawn_settings(sweep)
    try:
        return plan(settings)
    except ValueError:
        sound = sound_settings(sweep, settings, plan)
        return replace(plan(sound.settings), refused=sound.refused)


def plan_trials(
    sweep: SweepSpec, dataset: PreparedDataset, other: PreparedDataset | None, trials: tuple[PlannedTrial, ...]
) -> SweepPlan:
    """Check each distinct part of some trials once.

    Args:
        sweep: the sweep.
        dataset: its dataset, opened.
        other: the dataset that it is tested on, opened, if that is another one.
        trials: its trials, or some of them.

    Raises:
        SweepError: on the first thing that cannot work, in one line.
    """
    check_release(sweep, trials)
    sizes, of_one_user = _training_sizes(dataset, trials)
    weights = _check_models(sweep, dataset, trials)
    _check_values(sweep, dataset, trials)
    _check_claims(sweep, trials)
    units = _privacy_units(sweep, dataset, trials, sizes)
    _check_stop(sweep, trials, units)
    evaluated = _evaluated(sweep, dataset, other, trials)
    return SweepPlan(sweep, dataset, other, trials, sizes, units, evaluated, weights, of_one_user=of_one_user)


def privacy_plans(plan: SweepPlan, trials: Iterable[PlannedTrial]) -> dict[str, PrivacyPlan]:
    """Return the privacy plan of each private trial, by its hash; each distinct one is calibrated once.

    Raises:
        SweepError: if a setting has no plan, for example a batch larger than its training set.
    """
    found: dict[str, PrivacyPlan] = {}
    made = plan.calibrated
    for trial in trials:
        units = plan.units[trial.trial]
        key = trial.config.learner.model_dump_json(), units
        if key not in made:
            try:
                made[key] = trial.config.learner.plan(units)
            except ValueError as error:
                raise SweepError(f"{trial.config.learner.name}: {error}", _learner_place(plan.sweep, trial)) from error
        known = made[key]
        if known is not None:
            found[trial.trial] = known
    return found


def outlooks(plan: SweepPlan) -> Iterator[tuple[PlannedTrial, Outlook]]:
    """Yield each trial of which a cost is known, with its privacy plan or what is known instead."""
    plans = privacy_plans(plan, plan.trials)
    for trial in plan.trials:
        outlook = plans.get(trial.trial) or trial.config.learner.outlook(plan.units[trial.trial])
        if outlook is not None:
            yield trial, outlook


def _open(path: Path, place: Location) -> PreparedDataset:
    try:
        return PreparedDataset.open(path)
    except ValueError as error:
        raise SweepError(str(error), place) from error


def _training_sizes(dataset: PreparedDataset, trials: Iterable[PlannedTrial]) -> tuple[dict[str, int], dict[str, int]]:
    """Draw each distinct training set once; but for a hold-out its size is the same for every seed.

    Returns:
        The size of each trial's, and the most examples of one user in it where users are known.
    """
    drawn: dict[str, tuple[int, int | None]] = {}
    sizes, of_one_user = {}, {}
    for trial in trials:
        imbalance = trial.config.imbalance
        key = f"{'' if imbalance is None else imbalance.model_dump_json()} {division_key(trial)}"
        if key not in drawn:
            try:
                plan = training_plan(dataset, trial.config)
            except ValueError as error:
                raise SweepError(str(error), ("imbalance",) if imbalance is not None else ("split",)) from error
            check_labels(dataset, trial, dataset.codes(trial.config.dataset.label)[plan.rows], "training")
            users = None if dataset.users is None else dataset.users[plan.rows]
            drawn[key] = len(plan), most_of_one_user(users)
        sizes[trial.trial], most = drawn[key]
        if most is not None:
            of_one_user[trial.trial] = most
    return sizes, of_one_user


def _privacy_units(
    sweep: SweepSpec, dataset: PreparedDataset, trials: Iterable[PlannedTrial], sizes: Mapping[str, int]
) -> dict[str, int]:
    """Count what each trial's privacy protects, and let its learner refuse a training set that it cannot divide."""
    counted: dict[str, int] = {}
    units = {}
    for trial in trials:
        config = trial.config
        if not config.learner.divides_data:
            units[trial.trial] = sizes[trial.trial]
            continue
        imbalance = "" if config.imbalance is None else config.imbalance.model_dump_json()
        learner = config.learner.model_dump_json(exclude={"name"})
        key = f"{learner} {imbalance} {division_key(trial)} {config.seeds.data} {config.dataset.groups}"
        if key not in counted:
            columns = training_columns(dataset, config, training_plan(dataset, config))
            try:
                counted[key] = config.learner.count_units(columns, seed_key(config.seeds.data, "data"))
            except ValueError as error:
                raise SweepError(f"{config.learner.name}: {error}", _learner_place(sweep, trial)) from error
        units[trial.trial] = counted[key]
    return units


def _evaluated(
    sweep: SweepSpec, dataset: PreparedDataset, other: PreparedDataset | None, trials: Iterable[PlannedTrial]
) -> int:
    """Check each distinct pair of evaluation sets; returns the most examples that a trial evaluates at once."""
    most, checked = 0, set()
    for trial in trials:
        key = division_key(trial)
        if key in checked:
            continue
        checked.add(key)
        try:
            sets = evaluation_sets(dataset, trial.config, other)
        except ValueError as error:
            raise SweepError(str(error), ("evaluation",)) from error
        for name, chosen in sets.items():
            check_labels(dataset, trial, chosen.labels, name)
        if any(aims_of(sweep)):
            from fairsweep.sweeps.planning.undefined_objectives import check_defined

            check_defined(sweep, dataset, sets["validation"])
        most = max(most, sum(len(chosen.rows) for chosen in sets.values()))
    return most


def _check_models(
    sweep: SweepSpec, dataset: PreparedDataset, trials: Iterable[PlannedTrial]
) -> dict[str, WeightCounts]:
    """Examine each distinct model once, and ask each learner whether it can train it; count what it trains of it."""
    known: dict[str, Examined] = {}
    weights: dict[str, WeightCounts] = {}
    classes = len(dataset.attribute(sweep.dataset.label).values)
    for trial in trials:
        if trial.setting in weights:
            continue
        model, learner = trial.config.model, trial.config.learner
        _refuse_ignored(sweep, trial)
        key = model.model_dump_json()
        try:
            learner.check_model(model)
            learner.check_images(dataset.info.image_shape)
            if key not in known:
                known[key] = examine(model, dataset.info.image_shape, classes)
            learner.check_network(model.name, known[key])
            tail = learner.frozen_body(model, dataset.info.image_shape, classes).tail
        except (ValueError, OSError) as error:
            raise SweepError(f"learner {learner.name!r}: {error}", ("model",)) from error
        weights[trial.setting] = WeightCounts.of(known[key].network, tail)
    return weights


def _refuse_ignored(sweep: SweepSpec, trial: PlannedTrial) -> None:
    """Refuse fields without effect: they would train one model twice. A sweep that had them before may go on."""
    model = trial.config.model
    if model.ignored and not (sweep.folder / TRIALS / trial.folder_name).exists():
        name = next(iter(model.ignored))
        raise SweepError(
            f"{model.name} has no {name}, so {name}: {model.ignored[name]} would train the same model under another "
            f"name: leave it out; where models have fields of their own, write model: {{grid: [{{name: {model.name}}}, "
            f"{{name: cnn, width: 8}}]}}",
            ("model", name),
        )


def _check_values(sweep: SweepSpec, dataset: PreparedDataset, trials: Iterable[PlannedTrial]) -> None:
    """Ask each learner whether the attributes and values that its config names exist."""
    roles = Roles.of(dataset, sweep.dataset.label, sweep.dataset.groups)
    for trial in {trial.setting: trial for trial in trials}.values():
        try:
            trial.config.learner.check_values(roles)
        except ValueError as error:
            raise SweepError(f"{trial.config.learner.name}: {error}", _learner_place(sweep, trial)) from error


def _rehearse_own(sweep: SweepSpec, plan: SweepPlan) -> None:
    """Try each learner of the user's own in one of its settings."""
    roles = Roles.of(plan.dataset, sweep.dataset.label, sweep.dataset.groups)
    own = [trial for trial in plan.trials if trial.config.learner.kind not in LEARNERS]
    for trial in {trial.config.learner.name: trial for trial in reversed(own)}.values():
        try:
            rehearse(trial.config.learner, trial.config.model, plan.dataset.info.image_shape, roles)
        except OwnCodeError as error:
            raise SweepError(str(error), (*_learner_place(sweep, trial), "kind")) from error


def _check_claims(sweep: SweepSpec, trials: Iterable[PlannedTrial]) -> None:
    """Ask each learner whether what it claims would hold. A sweep that has such a trial already may go on."""
    for trial in trials:
        try:
            trial.config.learner.check_claims()
        except ValueError as error:
            if not (sweep.folder / TRIALS / trial.folder_name).exists():
                raise SweepError(f"{trial.config.learner.name}: {error}", _learner_place(sweep, trial)) from error


def _check_stop(sweep: SweepSpec, trials: Iterable[PlannedTrial], units: Mapping[str, int]) -> None:
    """Refuse a bound on epsilon for private learners without one plan of all steps, which nothing would end."""
    for trial in {trial.setting: trial for trial in trials}.values() if sweep.stop.epsilon else ():
        learner = trial.config.learner
        if learner.outlook(units[trial.trial]) is not None:
            raise SweepError(
                f"stop.epsilon must be left out where a learner is charged by slices, as {learner.name!r} is: what an "
                f"example spends depends on its slice and on later requests, but got stop.epsilon="
                f"{sweep.stop.epsilon:g}; give its inner learner more noise, or it fewer epochs",
                ("stop", "epsilon"),
            )


def _learner_place(sweep: SweepSpec, trial: PlannedTrial) -> tuple[Any, ...]:
    name = trial.config.learner.name
    names = [space.raw.get("name", space.raw.get("kind")) for space in sweep.learners]
    return ("learners", names.index(name)) if name in names else ("learners",)
