"""Settings drawn in advance (random, Sobol'), and the refusal of those whose values are not valid together.

As in a guided search, a draw that cannot run is left out and counted. What the sweep file lists itself is never left
out in silence: where no draw at all can run for a learner and a combination of grid values, that is an error.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fairsweep.analysis.records.failed_trials import counted_causes
from fairsweep.sweeps.spec.search_space import Chosen
from fairsweep.sweeps.spec.sections import SHARED, draw_purpose, learner_sections, listed_part, points, samples
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.sweeps.syntax.dimensions import Point, Space
from fairsweep.sweeps.syntax.errors import SweepError


@dataclass(frozen=True)
class SoundSettings:
    """What is left of the drawn settings.

    Attributes:
        settings: those that can run.
        refused: of the others how many, by cause, the most frequent first.
    """

    settings: tuple[Chosen, ...]
    refused: Mapping[str, int]


def drawn_settings(sweep: SweepSpec) -> tuple[Chosen, ...]:
    """Every setting that is drawn, each once, with the twins of its learner."""
    learners = learner_sections(sweep)
    found: dict[str, Chosen] = {}
    for sample in samples(sweep):
        shared = itertools.product(*(list(points(sweep, getattr(sweep, name), sample, name)) for name in SHARED))
        for (imbalance, split, model), learner in itertools.product(
            shared, (one for one in learners if not one.original)
        ):
            twins = [one for one in learners if one.original == learner.name]
            for own in points(sweep, learner.space, sample, draw_purpose(learner)):
                chosen = Chosen((imbalance, split, model), tuple((one, own) for one in (learner, *twins)))
                found.setdefault(repr((learner.name, own, imbalance, split, model)), chosen)
    return tuple(found.values())


def sound_settings(
    sweep: SweepSpec, settings: Sequence[Chosen], check: Callable[[Sequence[Chosen]], object]
) -> SoundSettings:
    """Leave out the settings that cannot run.

    Args:
        sweep: the sweep.
        settings: those that were drawn.
        check: raises a ValueError if one of some settings cannot run.

    Raises:
        SweepError: if nothing is left of a learner at a combination of grid values.
    """
    errors = {id(setting): error for setting, error in _refused(settings, check)}
    alike: dict[str, list[Chosen]] = {}
    for setting in settings:
        alike.setdefault(_listed(sweep, setting), []).append(setting)
    for group in alike.values():
        if all(id(setting) in errors for setting in group):
            raise _none_left(sweep, group[0], [errors[id(setting)] for setting in group])
    kept = tuple(setting for setting in settings if id(setting) not in errors)
    return SoundSettings(kept, counted_causes(str(error) for error in errors.values()))


def _refused(
    settings: Sequence[Chosen], check: Callable[[Sequence[Chosen]], object]
) -> Iterator[tuple[Chosen, SweepError]]:
    """By halves: most settings can run, and what they have in common is checked once."""
    try:
        check(settings)
    except ValueError as error:  # a SweepError, or whatever else a lower package refuses
        if len(settings) == 1:
            yield settings[0], error if isinstance(error, SweepError) else SweepError(str(error))
            return
        middle = len(settings) // 2
        yield from _refused(settings[:middle], check)
        yield from _refused(settings[middle:], check)


def _listed(sweep: SweepSpec, setting: Chosen) -> str:
    """Return what of a setting the sweep file lists: its learner and the values of its grids."""
    section, own = setting.learners[0]
    spaces: list[tuple[Space | None, Point]] = [(section.space, own)]
    spaces += [(getattr(sweep, name), point) for name, point in zip(SHARED, setting.shared, strict=True)]
    return repr((section.name, *(listed_part(space, point) for space, point in spaces)))


def _none_left(sweep: SweepSpec, setting: Chosen, errors: Sequence[SweepError]) -> SweepError:
    first = errors[0]
    if len(errors) == 1:
        return first
    causes = "; ".join(counted_causes(error.message for error in errors))
    return SweepError(
        f"all {len(errors)} settings that {sweep.search.algorithm} drew for learner {setting.learners[0][0].name!r} at "
        f"one combination of grid values are refused, so nothing was started: {causes}; change the dimensions so that "
        "their values go together",
        first.location,
        first.others,
    )
