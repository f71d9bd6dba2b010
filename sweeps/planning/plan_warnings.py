"""Warnings of a plan that refuse nothing: what a user should know before hours are spent on a sweep."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fairsweep.datasets.selection.division import OfficialSplit, RestSplit, users_tested
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.sweeps.planning.expand import PlannedTrial
from fairsweep.sweeps.spec.sections import SHARED
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.trainables.trial.trial_data import division_of


def plan_warnings(dataset: PreparedDataset, trials: Iterable[PlannedTrial]) -> tuple[str, ...]:
    """Look at the splits of a sweep.

    Args:
        dataset: the dataset that is learnt from.
        trials: the sweep's trials.
    """
    said = [] if dataset.users is None else _of_users(dataset, trials)
    said += [
        f"images of the {second} split that are identical to images of the {first} split: {count:,}"
        for (first, second), count in dataset.info.identical_images()
        if count
    ]
    return tuple(said)


def idle_settings(sweep: SweepSpec, trials: Sequence[PlannedTrial], sizes: Mapping[str, int]) -> tuple[str, ...]:
    """Look for what a sweep file asks for that will have no effect.

    Args:
        sweep: the sweep.
        trials: its trials, or those by which the ends of its dimensions were checked.
        sizes: number of training examples of each trial, by its hash.
    """
    said = []
    search, scheduler = sweep.search, sweep.scheduler
    if search.startup_trials is not None and search.startup_trials >= (search.samples or 0):
        said.append(
            f"search.startup_trials={search.startup_trials} is not below search.samples={search.samples}: "
            f"every setting is drawn at random, and the part that {search.algorithm} guides never begins"
        )
    spaces = [*sweep.learners, *(getattr(sweep, name) for name in SHARED)]
    if search.samples is not None and not any(space.drawn for space in spaces if space is not None):
        said.append(
            f"search.samples={search.samples} has nothing to draw: no field is written as choice, uniform, loguniform, "
            "quniform, randint or lograndint"
        )
    lengths = [length for trial in trials if (length := _iterations(trial)) is not None]
    if scheduler.kind != "none" and lengths and len(lengths) == len(trials) and scheduler.grace_period >= max(lengths):
        said.append(
            f"scheduler.grace_period={scheduler.grace_period} is not below the {max(lengths)} iterations of a trial: "
            f"{scheduler.kind} will stop none early"
        )
    windows = [_long_window(trial.config.learner, sizes[trial.trial]) for trial in trials]
    return (*said, *dict.fromkeys(words for words in windows if words))


def _long_window(learner: Any, examples: int) -> str:  # noqa: ANN401 - a member of the union LearnerConfig
    """Return what is said of a weight average that reaches further back than there are steps; nothing where none is."""
    inner, what = getattr(learner, "inner", learner), "steps of a trial"
    if "ema" not in inner.later or (decay := inner.ema) is None:  # a field of that name in an own learner is its own
        return ""
    if hasattr(learner, "slices"):
        examples, what = -(-examples // (learner.shards * learner.slices)), "steps of a shard's first slice"
    rounds = getattr(inner, "rounds", None)
    steps = rounds if rounds is not None else inner.epochs * -(-examples // inner.batch_size)
    if (window := 1 / (1 - decay)) <= steps:
        return ""
    return (
        f"ema={decay:g} of {learner.name} averages over about {window:,.0f} steps, more than the {steps:,} "
        f"{'rounds' if rounds is not None else what}: what is evaluated stays near the first weights; choose it below "
        f"1 - 1 / {steps:,}"
    )


def _iterations(trial: PlannedTrial) -> int | None:
    """Return the iterations of a trial where its config says them."""
    learner: Any = trial.config.learner
    rounds, epochs = getattr(learner, "rounds", None), getattr(learner, "epochs", None)
    if rounds is not None:
        return math.ceil(int(rounds) / int(learner.rounds_per_iteration))
    return None if epochs is None or hasattr(learner, "slices") else int(epochs)


def _of_users(dataset: PreparedDataset, trials: Iterable[PlannedTrial]) -> list[str]:
    """Whether images of one user are both learnt from and tested on."""
    configs = [trial.config for trial in trials]
    said = []
    if any(not isinstance(config.split, OfficialSplit) for config in configs):
        said.append("the dataset knows users: folds and hold-outs keep all images of one user in one part")
    # These divide alike for every seed.
    fixed = [config for config in configs if isinstance(config.split, OfficialSplit | RestSplit)]
    distinct = {(repr(config.split), repr(config.evaluation)): config for config in fixed}
    divisions = [division_of(dataset, config) for config in distinct.values()]
    if left_out := max((len(division.left_out) for division in divisions), default=0):
        said.append(
            f"examples that are neither learnt from nor tested on, since their users are tested on: {left_out:,}"
        )
    if both := max((len(users_tested(dataset, division)) for division in divisions), default=0):
        said.append(
            f"users with images in both the train and the test split of the dataset: {both:,}; "
            "split: {kind: hold_out} keeps them together"
        )
    return said
