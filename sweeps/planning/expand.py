"""Expansion of a sweep into its trials: every combination of settings, learners and seeds, each once."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from fairsweep.analysis.records.trial_folder import SHORT_HASH
from fairsweep.datasets.selection.evaluation import EvaluationConfig
from fairsweep.datasets.selection.imbalance import KeepImbalance
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.sweeps.spec.resources import ResourcesSection
from fairsweep.sweeps.spec.sections import (
    SHARED,
    LearnerSection,
    draw_purpose,
    imbalance_at,
    learner_sections,
    model_at,
    points,
    samples,
    split_at,
)
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.sweeps.syntax.dimensions import Point, Space, shown_part
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.trainables.models.model import ModelConfig
from fairsweep.trainables.trial.trial_config import DatasetReference, Seeds, TrialConfig

if TYPE_CHECKING:
    from fairsweep.sweeps.spec.search_space import Chosen

# Words in folder names: these fields say enough without the name before them.
_ABBREVIATIONS = {"epsilon": "eps", "noise_multiplier": "z", "l2_clip_norm": "clip", "batch_size": "batch"}


@dataclass(frozen=True)
class PlannedTrial:
    """One trial of a sweep.

    Attributes:
        config: its config.
        folder_name: readable, stable: learner, values of its dimensions, seeds, and the start of its hash.
        label: the same without the hash, for people.
        resources: what it reserves.
        trial: hash of the config, computed once.
        setting: hash of the setting.
    """

    config: TrialConfig
    folder_name: str
    label: str
    resources: ResourcesSection
    trial: str
    setting: str


def expand(
    sweep: SweepSpec, dataset: PreparedDataset, other: PreparedDataset | None = None
) -> tuple[PlannedTrial, ...]:
    """All trials of a sweep, in the order in which they start: seed by seed, so that early results cover all settings.

    Args:
        sweep: the sweep.
        dataset: its prepared dataset, opened.
        other: the dataset that it is tested on, opened, if that is another one.

    Raises:
        SweepError: if two learners would do the very same.
    """
    return _trials(sweep, dataset, other, list(_settings(sweep)))


def trials_at(
    sweep: SweepSpec,
    dataset: PreparedDataset,
    other: PreparedDataset | None,
    chosen: Iterable[Chosen],
    seeds: Seeds | None = None,
) -> tuple[PlannedTrial, ...]:
    """Return the trials of settings that a search has chosen, each with its twins and in every replicate.

    Args:
        sweep: the sweep.
        dataset: its prepared dataset, opened.
        other: the dataset that it is tested on, opened, if that is another one.
        chosen: the settings.
        seeds: those of the only replicate; None for the replicates of the sweep.

    Raises:
        SweepError: if a setting's values are not valid together, or two learners would do the very same.
    """
    settings = [
        _setting(sweep, learner, point, learner.config(point), setting.shared)
        for setting in chosen
        for learner, point in setting.learners
    ]
    return _trials(sweep, dataset, other, settings, None if seeds is None else [(0, seeds)])


def _trials(
    sweep: SweepSpec,
    dataset: PreparedDataset,
    other: PreparedDataset | None,
    settings: list[_Setting],
    replicates: list[tuple[int, Seeds]] | None = None,
) -> tuple[PlannedTrial, ...]:
    data = _SweepData(_reference(sweep, dataset), sweep.evaluation, None if other is None else other.info.content_hash)
    settings = [
        replace(s, imbalance=_named(s.imbalance, dataset), learner=_named_requests(s.learner, dataset))
        for s in settings
    ]
    trials: dict[str, PlannedTrial] = {}
    for replicate, seeds in replicates or seed_pairs(sweep):
        for setting in settings:
            trial = _trial(sweep, data, setting, seeds, replicate)
            former = trials.setdefault(trial.trial, trial)
            if former.config.learner.name != trial.config.learner.name:
                raise SweepError(
                    f"the learners {former.config.learner.name!r} and {trial.config.learner.name!r} are identical in "
                    f"trial {trial.label}; delete one of them, or change a field",
                    ("learners",),
                )
    return tuple(trials.values())


def seed_pairs(sweep: SweepSpec) -> list[tuple[int, Seeds]]:
    """Return number and seeds of each replicate.

    They are tied for ``seeds: 5`` and for shadows, crossed for ``{data: 2, train: 5}``. Of repetitions under further
    noise, order or initial weights the first is the trial that a sweep without them has.
    """
    if sweep.shadows is not None:
        return [(seed, Seeds(data=seed, train=seed)) for seed in range(sweep.shadows.count)]
    if isinstance(sweep.seeds, int):
        return [(seed, Seeds(data=seed, train=seed)) for seed in range(sweep.seeds)]
    counts = sweep.seeds.model_dump()
    every = [dict(zip(counts, given, strict=True)) for given in itertools.product(*map(range, counts.values()))]
    repeated = ("noise", "order", "init")
    seeds = [Seeds(**given | {name: given[name] or None for name in repeated}) for given in every]
    return list(enumerate(seeds))


@dataclass(frozen=True)
class _SweepData:
    """What all trials of a sweep share."""

    reference: DatasetReference
    evaluation: EvaluationConfig
    test_content: str | None


@dataclass(frozen=True)
class _Setting:
    """What the replicates of one setting share; the label still lacks their seeds."""

    section: LearnerSection
    learner: Any  # a member of the union LearnerConfig
    imbalance: Any  # a member of the union ImbalanceConfig, or None
    split: Any  # a member of the union SplitConfig
    model: ModelConfig
    label: str


def _settings(sweep: SweepSpec) -> Iterator[_Setting]:
    learners = learner_sections(sweep)
    for sample in samples(sweep):
        methods = [
            (learner, point, learner.config(point))
            for learner in learners
            for point in points(sweep, learner.space, sample, draw_purpose(learner))
        ]
        imbalances = list(points(sweep, sweep.imbalance, sample, "imbalance"))
        splits = list(points(sweep, sweep.split, sample, "split"))
        models = list(points(sweep, sweep.model, sample, "model"))
        for shared in itertools.product(imbalances, splits, models):
            for section, own_point, learner in methods:
                yield _setting(sweep, section, own_point, learner, shared)


def _setting(
    sweep: SweepSpec,
    section: LearnerSection,
    own: Point,
    learner: Any,  # noqa: ANN401 - a member of the union LearnerConfig
    shared: tuple[Point, Point, Point],
) -> _Setting:
    imbalance = imbalance_at(sweep.imbalance, shared[0])
    split = split_at(sweep.split, shared[1])
    model = model_at(sweep, shared[2])
    return _Setting(section, learner, imbalance, split, model, _label(sweep, section, own, shared))


def _trial(sweep: SweepSpec, data: _SweepData, setting: _Setting, seeds: Seeds, replicate: int) -> PlannedTrial:
    try:
        config = TrialConfig(
            dataset=data.reference,
            imbalance=setting.imbalance,
            split=setting.split,
            model=setting.model,
            learner=setting.learner,
            twin_of=setting.section.original,
            evaluation=data.evaluation,
            test_content=data.test_content,
            seeds=seeds,
            replicate=replicate,
            mode=sweep.privacy.mode,
            key=sweep.privacy.key,
            shadow_candidates=None if sweep.shadows is None else sweep.shadows.candidates,
        )
    except ValidationError as error:  # what release mode refuses of every trial, or an audit without shadows
        place = ("privacy", "mode") if sweep.privacy.mode == "release" else ("learners",)
        raise SweepError(error.errors()[0]["msg"].removeprefix("Value error, "), place) from error
    numbers = [seeds.train] if isinstance(sweep.seeds, int) else [seeds.data, seeds.train]
    numbers += [] if seeds.noise is None else [seeds.noise]
    further = "".join(f"_{name}{n}" for name, n in (("order", seeds.order), ("init", seeds.init)) if n is not None)
    label = _safe(f"{setting.label}_s{'x'.join(map(str, numbers))}{further}")
    try:
        trial = config.trial
    except OSError as error:
        raise SweepError(f"cannot read the pretrained weights: {error}", ("model",)) from error
    name = f"{label}-{trial[:SHORT_HASH]}"
    return PlannedTrial(config, name, label, setting.section.resources, trial, config.setting)


def _named(imbalance: Any, dataset: PreparedDataset) -> Any:  # noqa: ANN401 - a member of the union ImbalanceConfig
    """Return the same with values by their names in the records where they are given as they are shown.

    Both are one setting.
    """
    known = {attribute.name: attribute for attribute in dataset.info.attributes}
    if imbalance is None or (attribute := known.get(imbalance.attribute)) is None:
        return imbalance  # an attribute that is not there is refused with its place, later
    if isinstance(imbalance, KeepImbalance):
        return imbalance.model_copy(update={"keep": {attribute.named(v): cap for v, cap in imbalance.keep.items()}})
    return imbalance.model_copy(update={"majority": attribute.named(imbalance.majority)})


def _named_requests(learner: Any, dataset: PreparedDataset) -> Any:  # noqa: ANN401 - a member of the union LearnerConfig
    """Return the same for the groups whose deletions a learner serves, if it does."""
    requests = getattr(learner, "requests", None)
    known = {attribute.name: attribute for attribute in dataset.info.attributes}
    if requests is None or not known.keys() & {*requests.group, *requests.weights}:
        return learner
    group = {name: known[name].named(value) if name in known else value for name, value in requests.group.items()}
    weights = {
        name: {known[name].named(value): weight for value, weight in of.items()} if name in known else of
        for name, of in requests.weights.items()
    }
    return learner.model_copy(update={"requests": requests.model_copy(update={"group": group, "weights": weights})})


def _reference(sweep: SweepSpec, dataset: PreparedDataset) -> DatasetReference:
    return DatasetReference(
        path=sweep.dataset.path,
        name=dataset.info.name,
        content_hash=dataset.recorded_hash(sweep.privacy.mode),
        label=sweep.dataset.label,
        groups=sweep.dataset.groups,
        has_users=dataset.info.has_user,
    )


def _label(sweep: SweepSpec, learner: LearnerSection, own: Point, shared: tuple[Point, ...]) -> str:
    """For example ``private-eps3_share.95``: the learner, its dimensions, then those of imbalance and model."""
    kept = Point(tuple((place, value) for place, value in own.values if not _is_dropped(learner, place)))
    own_part = "".join(f"-{words}" for words in _words(learner.space, kept, ""))
    spaces = [(getattr(sweep, name), point, name) for name, point in zip(SHARED, shared, strict=True)]
    shared_part = "".join(f"_{words}" for space, point, name in spaces if space for words in _words(space, point, name))
    return learner.name + own_part + shared_part


def _words(space: Space, point: Point, section: str) -> Iterator[str]:
    """Each dimension with its value; a value with dimensions of its own without these, which follow it."""
    for place, value in point.values:
        part = shown_part(value)
        if part is not None or value is None:
            yield _shown((section, *space.field(place))[-1], part)


def _is_dropped(learner: LearnerSection, place: tuple[Any, ...]) -> bool:
    """Whether a twin does not have the dimension of its original: its privacy is what it lacks."""
    return learner.original is not None and place[0] in (
        "epsilon",
        "noise_multiplier",
        "l2_clip_norm",
        "delta",
        "clipping",
        "deployment_cohort",
    )


def _shown(name: object, value: object) -> str:
    """Return a dimension's value as it stands in folder names.

    >>> _shown("share", 0.95), _shown("epsilon", 3.0), _shown("lr", 0.001)
    ('share.95', 'eps3', 'lr.001')
    >>> _shown("remedy", {"kind": "group_sampling", "attributes": ["tone"]})
    'remedy-group_sampling-tone'
    """
    word, text = _ABBREVIATIONS.get(str(name), str(name)), _text(value)
    return word + text if isinstance(value, int | float) else f"{word}-{text}"


def _text(value: object) -> str:
    """Return a value in a few characters; of a mapping its values, for their names say less."""
    if isinstance(value, float):
        text = f"{value:.4g}"
        return text[1:] if text.startswith("0.") else text
    if isinstance(value, dict):
        return "-".join(_text(part) for part in value.values())
    if isinstance(value, list | tuple):
        return "-".join(_text(part) for part in value)
    return str(value)


def _safe(text: str) -> str:
    """Only characters that every file system takes, and not too many of them."""
    return "".join(c if c.isalnum() or c in "._-+" else "-" for c in text).encode()[:120].decode(errors="ignore")
