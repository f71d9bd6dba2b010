"""What release mode refuses of a sweep: whatever would publish an exact function of private data."""

from __future__ import annotations

from collections.abc import Sequence

from fairsweep.datasets.selection.division import HoldOutSplit
from fairsweep.sweeps.planning.expand import PlannedTrial
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.sweeps.syntax.errors import Location, SweepError
from fairsweep.trainables.learning.measures import SPENT


def check_release(sweep: SweepSpec, trials: Sequence[PlannedTrial]) -> None:
    """Refuse what no guarantee covers; research mode refuses nothing.

    Raises:
        SweepError: with the reason.
    """
    if sweep.search.is_secret:
        _check_winner(sweep)
    if sweep.privacy.mode != "release":
        return
    for trial in {trial.setting: trial for trial in trials}.values():
        try:
            trial.config.learner.check_release()
        except ValueError as error:
            raise SweepError(str(error), ("privacy", "mode")) from error
    if sweep.stop.seconds:
        raise SweepError(
            "in release mode a trial may not end by the time that it takes, which depends on who takes part in its "
            f"steps, but got stop.seconds={sweep.stop.seconds:g}: leave it out, or give stop.epsilon or fewer epochs",
            ("stop", "seconds"),
        )
    if sweep.search.is_in_database:
        raise SweepError(
            "in release mode no time is kept, but a database keeps when each setting of a search began and ended, and "
            f"got search.storage={sweep.search.storage!r}: leave it out, or name a journal file",
            ("search", "storage"),
        )
    tested = {division_key(trial) for trial in trials}
    if len(tested) > 1:
        raise SweepError(
            "in release mode the people who are tested must be the same in every trial, since their labels are "
            f"published, but split gives {len(tested)} test sets, and who is tested in one trial trains another: use "
            "one fold, one data seed, or split: {kind: rest}",
            ("split",),
        )


def _check_winner(sweep: SweepSpec) -> None:
    """Refuse what would make draws depend on each other, or show more of them than the winner."""
    spaces = {"imbalance": sweep.imbalance, "split": sweep.split, "model": sweep.model, "learners": sweep.learners[0]}
    listed = [name for name, space in spaces.items() if space and len(space.drawn) < len(space.dimensions)]
    varying = [name for name in ("imbalance", "split") if (space := spaces[name]) and space.drawn]
    refused: list[tuple[bool, Location, str]] = [
        (
            sweep.privacy.mode != "release",
            ("privacy", "mode"),
            "needs privacy: {mode: release}: in research mode every secret follows from a recorded key",
        ),
        (len(sweep.learners) > 1, ("learners",), f"takes one learner, but got {len(sweep.learners)}"),
        (bool(listed), tuple(listed[:1]), "takes no grid: write {choice: […]}"),
        (
            bool(varying),
            tuple(varying[:1]),
            "draws settings of the learner and the model alone: every draw trains on the same examples",
        ),
        (
            sweep.seeds != 1 or sweep.shadows is not None,
            ("seeds",),
            "draws a training seed of each draw: leave seeds and shadows out",
        ),
        (sweep.scheduler.kind != "none", ("scheduler",), "takes no scheduler, which compares draws while they train"),
        (sweep.stop.rules, ("stop",), "trains every draw to its planned end: leave stop out"),
        (sweep.mirror is not None, ("mirror",), "takes no mirror, which would copy draws that lose"),
        (sweep.tracking is not None, ("tracking",), "takes no tracking, which would show draws that lose"),
        (
            sweep.remote is not None,
            ("output",),
            "needs an output folder on this machine, where what loses can be deleted",
        ),
        (
            sweep.privacy.epsilon_sweep is not None,
            ("privacy", "epsilon_sweep"),
            "takes the noise of its learner, not epsilon_sweep: give the learner an epsilon",
        ),
    ]
    for is_given, place, reason in refused:
        if is_given:
            raise SweepError(f"release: winner {reason}", place)
    for number, objective in enumerate(sweep.search.objectives):
        if objective.measure.metric in SPENT:
            raise SweepError(
                f"the winner is chosen on the validation split, but {objective.measure} is no metric of it",
                ("search", "objectives", number),
            )


def division_key(trial: PlannedTrial) -> str:
    """Return what decides the division of the dataset; only a hold-out depends on the seed."""
    split = trial.config.split
    is_drawn = isinstance(split, HoldOutSplit) or trial.config.shadow_candidates is not None
    seed = trial.config.seeds.data if is_drawn else ""
    return f"{split.model_dump_json()} {seed}"
