"""Objectives and conditions of a sweep, checked against its dataset."""

from __future__ import annotations

from collections.abc import Iterator

from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.sweeps.spec.conditions import Condition
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.sweeps.syntax.errors import Location, SweepError
from fairsweep.trainables.learning.measures import Meaning
from fairsweep.trainables.learning.objectives import Objective


def meaning_of(sweep: SweepSpec, dataset: PreparedDataset) -> Meaning:
    """Return what the cells of a sweep's trials will mean."""
    label, groups = sweep.dataset.label, sweep.dataset.groups
    return Meaning.of(label, groups, [dataset.attribute(name) for name in dict.fromkeys((*groups, label))])


def check_aims(sweep: SweepSpec, dataset: PreparedDataset) -> None:
    """Check that every aim of a sweep names attributes, values and classes that exist.

    Raises:
        SweepError: on the first that does not, with its place.
    """
    if sweep.remote is not None and (sweep.search.is_guided or sweep.scheduler.kind != "none"):
        raise SweepError(
            "a guided search and a scheduler read what trials record in a folder of this machine, but output is "
            f"{sweep.remote}: write output: FOLDER, and mirror: {{to: {sweep.remote}}}",
            ("output",),
        )
    meaning = meaning_of(sweep, dataset)
    for place, aim in aims_of(sweep):
        try:
            aim.settled(meaning)
        except ValueError as error:
            raise SweepError(str(error), place) from error


def check_reachable(sweep: SweepSpec, dataset: PreparedDataset) -> None:
    """Check that every constraint and target of a sweep can hold: its bound lies within the values of its measure.

    Raises:
        SweepError: on the first that never can, with its place.
    """
    meaning = meaning_of(sweep, dataset)
    for place, aim in aims_of(sweep):
        if not isinstance(aim, Condition):
            continue
        low, high = aim.measure.settled(meaning).range(meaning)
        if aim.excess(low if aim.at_most else high) > 0:
            raise SweepError(
                f"{aim} can never hold, because {aim.measure.metric} lies between {low:g} and {high:g}; "
                f"{'rates are fractions of 1: ' if high == 1 else ''}choose a bound in that range",
                place,
            )


def aims_of(sweep: SweepSpec) -> Iterator[tuple[Location, Objective | Condition]]:
    """Every aim of a sweep, with its place."""
    for number, objective in enumerate(sweep.search.objectives):
        yield ("search", "objectives", number), objective
    for number, constraint in enumerate(sweep.search.constraints):
        yield ("search", "constraints", number), constraint
    for number, objective in enumerate(sweep.scheduler.objectives):
        yield ("scheduler", "objectives", number), objective
    if sweep.stop.plateau is not None:
        yield ("stop", "plateau", "objective"), sweep.stop.plateau.objective
    for number, condition in enumerate(sweep.stop.target):
        yield ("stop", "target", number), condition
