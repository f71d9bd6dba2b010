"""What release mode refuses of a sweep: whatever would publish an exact function of private data."""

from __future__ import annotations

from collections.abc import Sequence

from fairsweep.datasets.selection.division import HoldOutSplit
from fairsweep.sweeps.planning.expand import PlannedTrial
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.sweeps.syntax.errors import SweepError


def check_release(sweep: SweepSpec, trials: Sequence[PlannedTrial]) -> None:
    """Refuse what no guarantee covers; research mode refuses nothing.

    Raises:
        SweepError: with the reason.
    """
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


def division_key(trial: PlannedTrial) -> str:
    """Return what decides the division of the dataset; only a hold-out depends on the seed."""
    split = trial.config.split
    is_drawn = isinstance(split, HoldOutSplit) or trial.config.shadow_candidates is not None
    seed = trial.config.seeds.data if is_drawn else ""
    return f"{split.model_dump_json()} {seed}"
