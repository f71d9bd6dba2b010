"""Optuna's samplers by their names in a sweep file: to add one, add a row here and a name to `Algorithm`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, NSGAIIISampler, NSGAIISampler, TPESampler

from fairsweep.sweeps.spec.search_section import SearchSection

_LEAST_POPULATION, _MOST_POPULATION = 4, 50
# What Optuna has of its own where nothing is asked for.
_TPE_STARTUP = _GP_STARTUP = 10
_CMAES_STARTUP = 1


@dataclass(frozen=True)
class SamplerRow:
    """One algorithm.

    Attributes:
        make: makes the sampler from (section, seed).
        conditional: whether it models the parameters of each learner apart. The others need all parameters in every
            setting: those of learners that a setting does not take are carried along and have no effect.
    """

    make: Callable[[SearchSection, int], BaseSampler]
    conditional: bool = False


def _tpe(section: SearchSection, seed: int) -> BaseSampler:
    return TPESampler(
        seed=seed,
        multivariate=True,
        group=True,
        constant_liar=True,
        n_startup_trials=section.startup_trials or _TPE_STARTUP,
    )


def _gp(section: SearchSection, seed: int) -> BaseSampler:
    return GPSampler(seed=seed, n_startup_trials=section.startup_trials or _GP_STARTUP, warn_independent_sampling=False)


def _cmaes(section: SearchSection, seed: int) -> BaseSampler:
    return CmaEsSampler(
        seed=seed, n_startup_trials=section.startup_trials or _CMAES_STARTUP, warn_independent_sampling=False
    )


def population(section: SearchSection) -> int:
    """Return the number of settings in a generation.

    It is a fifth of the samples, within [4, 50], so that a short search has generations too.
    """
    return section.population or min(_MOST_POPULATION, max(_LEAST_POPULATION, (section.samples or 0) // 5))


SAMPLERS: Mapping[str, SamplerRow] = {
    "tpe": SamplerRow(_tpe, conditional=True),
    "cmaes": SamplerRow(_cmaes),
    "nsga2": SamplerRow(lambda section, seed: NSGAIISampler(seed=seed, population_size=population(section))),
    "nsga3": SamplerRow(lambda section, seed: NSGAIIISampler(seed=seed, population_size=population(section))),
    "gp": SamplerRow(_gp),
}


def make_sampler(section: SearchSection, seed: int) -> BaseSampler:
    """Return the sampler of a section.

    Args:
        section: the section ``search``; its algorithm is a guided one.
        seed: in [0, 2**32); all that the sampler draws follows from it and from what it is told.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # some options are new; the version is pinned
        return SAMPLERS[section.algorithm].make(section, seed)
