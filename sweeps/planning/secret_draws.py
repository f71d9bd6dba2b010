"""The draws of which only the winner is published: how many, their settings and seeds, all from one secret key."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from scipy import optimize

from fairsweep.datasets.selection.randomness import derive, generator
from fairsweep.sweeps.planning.expand import PlannedTrial, trials_at
from fairsweep.sweeps.planning.preflight import SweepPlan, plan_trials
from fairsweep.sweeps.planning.winner_price import WinnerPrice
from fairsweep.sweeps.spec.search_section import DrawsSection
from fairsweep.sweeps.spec.search_space import Chosen
from fairsweep.sweeps.spec.sections import SHARED, draw_purpose, learner_sections
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.sweeps.syntax.dimensions import Point, Space
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.trainables.trial.trial_config import Seeds

# Analysis reads seeds as floats too; two draws with one setting and one seed would be one trial.
_SEED_BITS = 53
_MOST_REFUSED = 1_000


def number_of_draws(draws: DrawsSection, key: bytes) -> int:
    """Return K.

    Args:
        draws: its distribution.
        key: the secret.

    References:
        Papernot & Steinke 2022, arXiv 2110.03620, definition 1 (eta = 1 is geometric, eta = 0 logarithmic).
    """
    numbers, mean = generator(key, "number of draws"), draws.mean
    if draws.law == "poisson":
        return int(numbers.poisson(mean))
    if draws.law == "geometric":
        return int(numbers.geometric(1 / mean))
    return int(numbers.logseries(1 - _logarithmic_gamma(mean)))


def secret_draws(plan: SweepPlan, price: WinnerPrice, key: bytes, count: int) -> SweepPlan:
    """Return a plan whose trials are the draws.

    Each draws a value for each dimension and a training seed. One that cannot run, or would not cost what was said, is
    drawn again: the distribution is that of the others, and depends on nobody's data.

    Args:
        plan: the checked sweep, whose trials are the ends of its dimensions.
        price: what was said.
        key: the secret.
        count: how many.

    Raises:
        SweepError: if hardly any draw can run.
    """
    trials: dict[str, PlannedTrial] = {}
    refused, cause = 0, ""
    for chosen, seed in _drawn(plan.sweep, key):
        if len(trials) == count:
            break
        try:
            drawn = trials_at(plan.sweep, plan.dataset, plan.other, [chosen], Seeds(data=0, train=seed))
            plan.add(plan_trials(plan.sweep, plan.dataset, plan.other, drawn))
            is_sound = price.holds_for(plan, drawn)
        except ValueError as error:  # a SweepError, or whatever else a lower package refuses
            is_sound, cause = False, str(error)
        if is_sound:
            refused = 0
            trials |= {trial.trial: trial for trial in drawn}
            continue
        refused += 1
        if refused >= _MOST_REFUSED:
            raise SweepError(
                f"{refused:,} draws in a row cannot run: {cause or 'they cost something else'}; change the dimensions "
                "so that their values go together"
            )
    return replace(plan, trials=tuple(trials.values()))


def _drawn(sweep: SweepSpec, key: bytes) -> Iterator[tuple[Chosen, int]]:
    """Yield settings, each with a training seed, without end."""
    values, seeds = derive(key, "settings"), derive(key, "training seeds")
    (section,) = learner_sections(sweep)
    number = 0
    while True:
        imbalance, split, model = (_point(getattr(sweep, name), number, values, name) for name in SHARED)
        own = _point(section.space, number, values, draw_purpose(section))
        seed = int.from_bytes(derive(seeds, "seed", number)[:8], "little") >> (64 - _SEED_BITS)
        yield Chosen((imbalance, split, model), ((section, own),)), seed
        number += 1


def _point(space: Space | None, number: int, key: bytes, purpose: str) -> Point:
    return Point() if space is None else next(space.points(number, key, purpose))


def _logarithmic_gamma(mean: float) -> float:
    """Return gamma of the logarithmic distribution with a mean above 1, which is (1 / gamma - 1) / log(1 / gamma)."""

    def excess(negative_log: float) -> float:
        return math.expm1(negative_log) / negative_log - mean

    return math.exp(-optimize.brentq(excess, 1e-9, 60.0))
