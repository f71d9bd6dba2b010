"""From a sweep to the list of its trials: every combination of settings, learners and seeds, each once."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fairsweep.datasets.prepared import PreparedDataset
from fairsweep.sweeps.dimensions import Point
from fairsweep.sweeps.errors import SweepError, dotted
from fairsweep.sweeps.sections import (
    LearnerSection,
    draw_purpose,
    imbalance_at,
    learner_sections,
    model_at,
    points,
    samples,
)
from fairsweep.sweeps.spec import ResourcesSection, Sweep
from fairsweep.trainables.models import ModelConfig
from fairsweep.trainables.trial_config import DatasetReference, Seeds, TrialConfig

_SHORT = 8
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


def expand(sweep: Sweep, dataset: PreparedDataset) -> tuple[PlannedTrial, ...]:
    """All trials of a sweep, in the order in which they start: seed by seed, so that early results cover all settings.

    Args:
        sweep: the sweep.
        dataset: its prepared dataset, opened.

    Raises:
        SweepError: if two learners would do the very same.
    """
    reference = _reference(sweep, dataset)
    settings = list(_settings(sweep))
    trials: dict[str, PlannedTrial] = {}
    for replicate, seeds in seed_pairs(sweep):
        for setting in settings:
            trial = _trial(sweep, reference, setting, seeds, replicate)
            former = trials.setdefault(trial.trial, trial)
            if former.config.learner.name != trial.config.learner.name:
                raise SweepError(
                    f"the learners {former.config.learner.name!r} and {trial.config.learner.name!r} are the same in "
                    f"trial {trial.label}; delete one of them, or change a field",
                    ("learners",),
                )
    return tuple(trials.values())


def seed_pairs(sweep: Sweep) -> list[tuple[int, Seeds]]:
    """Number and seeds of each replicate: tied ones for ``seeds: 5``, crossed ones for ``{data: 2, train: 5}``."""
    if isinstance(sweep.seeds, int):
        return [(seed, Seeds(data=seed, train=seed)) for seed in range(sweep.seeds)]
    pairs = itertools.product(range(sweep.seeds.data), range(sweep.seeds.train))
    return [(number, Seeds(data=data, train=train)) for number, (data, train) in enumerate(pairs)]


@dataclass(frozen=True)
class _Setting:
    """What the replicates of one setting share; the label still lacks their seeds."""

    section: LearnerSection
    learner: Any  # a member of the union LearnerConfig
    imbalance: Any  # a member of the union ImbalanceConfig, or None
    model: ModelConfig
    label: str


def _settings(sweep: Sweep) -> Iterator[_Setting]:
    learners = learner_sections(sweep)
    for sample in samples(sweep):
        methods = [
            (learner, point, learner.config(point))
            for learner in learners
            for point in points(sweep, learner.space, sample, draw_purpose(learner))
        ]
        imbalances = list(points(sweep, sweep.imbalance, sample, "imbalance"))
        models = list(points(sweep, sweep.model, sample, "model"))
        for imbalance_point, model_point in itertools.product(imbalances, models):
            imbalance = imbalance_at(sweep.imbalance, imbalance_point)
            model = model_at(sweep.model, model_point)
            for section, own_point, learner in methods:
                label = _label(section, own_point, (imbalance_point, model_point))
                yield _Setting(section, learner, imbalance, model, label)


def _trial(sweep: Sweep, reference: DatasetReference, setting: _Setting, seeds: Seeds, replicate: int) -> PlannedTrial:
    config = TrialConfig(
        dataset=reference,
        imbalance=setting.imbalance,
        model=setting.model,
        learner=setting.learner,
        twin_of=setting.section.original,
        evaluation=sweep.evaluation,
        seeds=seeds,
        replicate=replicate,
        mode=sweep.privacy.mode,
        key=sweep.privacy.key,
    )
    tied = isinstance(sweep.seeds, int)
    label = _safe(f"{setting.label}_s{seeds.train}" if tied else f"{setting.label}_s{seeds.data}x{seeds.train}")
    try:
        trial = config.trial
    except OSError as error:
        raise SweepError(f"cannot read the pretrained weights: {error}", ("model",)) from error
    return PlannedTrial(config, f"{label}-{trial[:_SHORT]}", label, setting.section.resources, trial, config.setting)


def _reference(sweep: Sweep, dataset: PreparedDataset) -> DatasetReference:
    return DatasetReference(
        path=sweep.dataset.path.resolve(),
        name=dataset.info.name,
        content_hash=dataset.info.content_hash,
        label=sweep.dataset.label,
        groups=sweep.dataset.groups,
    )


def _label(learner: LearnerSection, own: Point, shared: tuple[Point, ...]) -> str:
    """For example ``private-eps3_share.95``: the learner, its dimensions, then those of imbalance and model."""
    own_part = "".join(f"-{_shown(place[-1], value)}" for place, value in own.values if not _is_dropped(learner, place))
    shared_part = "".join(f"_{_shown(place[-1], value)}" for point in shared for place, value in point.values)
    return learner.name + own_part + shared_part


def _is_dropped(learner: LearnerSection, place: tuple[Any, ...]) -> bool:
    """Whether a twin does not have the dimension of its original: its privacy is what it lacks."""
    return learner.original is not None and place[0] in (
        "epsilon",
        "noise_multiplier",
        "l2_clip_norm",
        "delta",
        "clipping",
    )


def _shown(name: object, value: object) -> str:
    """A dimension's value as it stands in folder names.

    >>> _shown("share", 0.95), _shown("epsilon", 3.0), _shown("lr", 0.001)
    ('share.95', 'eps3', 'lr.001')
    """
    word = _ABBREVIATIONS.get(str(name), str(name))
    if isinstance(value, float):
        text = f"{value:.4g}"
        return word + (text[1:] if text.startswith("0.") else text)
    if isinstance(value, dict | list | tuple):
        text = "-".join(dotted((part,)) if isinstance(part, str) else str(part) for part in value)
        return f"{word}-{text}"
    return f"{word}{value}" if isinstance(value, int) else f"{word}-{value}"


def _safe(text: str) -> str:
    """Only characters that every file system takes, and not too many of them."""
    return "".join(c if c.isalnum() or c in "._-+" else "-" for c in text)[:120]
