"""The section ``search`` of a sweep file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from fairsweep.analysis.extras import is_installed, needs
from fairsweep.sweeps.spec.conditions import ConditionField
from fairsweep.sweeps.syntax.section import Section
from fairsweep.trainables.learning.objectives import Objective

Algorithm = Literal["grid", "random", "sobol", "tpe", "cmaes", "nsga2", "nsga3", "gp"]
GUIDED: tuple[Algorithm, ...] = ("tpe", "cmaes", "nsga2", "nsga3", "gp")
"""Algorithms that look at results: Optuna's samplers."""
SQLITE = (".db", ".sqlite", ".sqlite3")
"""Endings of files that are databases."""


class DrawsSection(Section):
    """How many draws a winner is the best of: a secret number, of a public distribution with a public mean."""

    logarithmic: float | None = Field(default=None, gt=1, description="Mean of a logarithmic number: the least price.")
    geometric: float | None = Field(default=None, gt=1, description="Mean of a geometric number.")
    poisson: float | None = Field(
        default=None,
        ge=1,
        description="Mean of a Poisson number, which varies least; if it is 0, nothing is published.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = {name: mean for name, mean in self.model_dump().items() if mean is not None}
        if len(given) != 1:
            raise ValueError(
                "draws has one distribution with its mean, such as {geometric: 200}, but got "
                f"{', '.join(given) or 'none'}: give one of logarithmic, geometric and poisson"
            )
        return self

    @property
    def law(self) -> Literal["logarithmic", "geometric", "poisson"]:
        """Name of the distribution."""
        return "poisson" if self.poisson else "geometric" if self.geometric else "logarithmic"

    @property
    def mean(self) -> float:
        """Its mean."""
        return float(self.poisson or self.geometric or self.logarithmic or 0.0)


class SearchSection(Section):
    """How the search dimensions get their values; see `docs/search.md`."""

    algorithm: Algorithm = Field(
        default="grid",
        description="`grid` enumerates every `{grid: …}`. All others also draw values for `choice`, `uniform`, "
        "`loguniform` and `randint`: `random` and `sobol` (evenly spread) in advance; `tpe`, `cmaes`, `nsga2`, "
        "`nsga3` and `gp` (Optuna's) guided by the results so far.",
    )
    samples: int | None = Field(
        default=None,
        ge=1,
        description="Number of settings to try for each combination of grid values; random and sobol try every "
        "learner at each.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the draws; another seed draws other settings.")
    objectives: tuple[Objective, ...] = Field(
        default=(),
        description="What a guided search improves, on the validation split: `{max: accuracy}`, `{min: "
        "equalized_odds_difference by tone}`.",
    )
    constraints: tuple[ConditionField, ...] = Field(
        default=(), description="What a setting must satisfy on the validation split: `epsilon <= 3`."
    )
    batch: int | None = Field(
        default=None,
        ge=1,
        description="How many settings of one combination of grid values run at once; null takes what the first run "
        "has room for. It affects what is proposed.",
    )
    population: int | None = Field(
        default=None, ge=2, description="Of nsga2 and nsga3: settings per generation; null takes a fifth of `samples`."
    )
    startup_trials: int | None = Field(
        default=None,
        ge=1,
        description="Of tpe, gp and cmaes: number of settings drawn at random first; null uses Optuna's default.",
    )
    storage: str | None = Field(
        default=None,
        description="Where Optuna keeps a guided search: a file (`….db` for SQLite, else a journal) or the URL of a "
        "database; null takes `search.journal` in the output folder.",
    )

    release: Literal["all", "winner"] = Field(
        default="all",
        description="Of release mode: `winner` trains a secret, random number of independent draws (see `draws`) and "
        "publishes only the best on the validation split (by `objectives`, else by accuracy), at the price of "
        "selection instead of that of all trials; see `docs/privacy.md`. `all` publishes every trial.",
    )
    draws: DrawsSection | None = Field(
        default=None,
        description="Of `release: winner`, in the place of `samples`: the distribution of the number of draws and its "
        "mean, such as `{geometric: 200}`.",
    )

    @property
    def is_secret(self) -> bool:
        """Whether settings are drawn in secret, and only the winner is published."""
        return self.release == "winner"

    @property
    def is_guided(self) -> bool:
        """Whether settings depend on the results of others, so that they become known while the sweep runs."""
        return self.algorithm in GUIDED

    @property
    def is_drawn(self) -> bool:
        """Whether all settings are drawn before anything runs."""
        return self.algorithm in ("random", "sobol") and not self.is_secret

    @property
    def is_in_database(self) -> bool:
        """Whether Optuna keeps a guided search in a database, and with each setting when it began and ended."""
        return self.storage is not None and ("://" in self.storage or self.storage.endswith(SQLITE))

    @model_validator(mode="before")
    @classmethod
    def _settle(cls, given: object) -> object:
        if isinstance(given, Mapping) and given.get("release") == "winner" and "algorithm" not in given:
            return {**given, "algorithm": "random"}
        return given

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.is_secret or self.draws is not None:
            self._check_winner()
            return self
        if (self.algorithm != "grid") != (self.samples is not None):
            raise ValueError(
                "samples is the number of settings to try: every algorithm but grid needs it, and grid takes none, "
                f"but got algorithm={self.algorithm!r}, samples={self.samples}"
            )
        if not self.is_guided:
            self._check_unguided()
            return self
        if not self.objectives:
            raise ValueError(f"{self.algorithm} needs objectives, but got none; write objectives: [{{max: accuracy}}]")
        if self.algorithm == "cmaes" and (len(self.objectives) > 1 or self.constraints):
            raise ValueError(
                f"cmaes takes one objective and no constraints, but got {len(self.objectives)} and "
                f"{len(self.constraints)}; use tpe, gp, nsga2 or nsga3"
            )
        if len({str(objective.measure) for objective in self.objectives}) < len(self.objectives):
            raise ValueError(f"objectives must differ, but got {', '.join(map(str, self.objectives))}")
        self._check_tuning()
        if self.algorithm == "cmaes" and not is_installed("cmaes"):
            raise ValueError(needs("a search by cmaes", "cmaes"))
        return self

    def _check_winner(self) -> None:
        if not self.is_secret or self.draws is None:
            raise ValueError(
                "release: winner and draws belong together, but one of them is missing: write "
                "search: {release: winner, draws: {geometric: 200}}"
            )
        if self.algorithm != "random" or self.samples is not None or self.seed:
            raise ValueError(
                "the draws of release: winner are independent and follow a secret key, so it takes no samples, no seed "
                "and no algorithm but random"
            )
        if len(self.objectives) > 1:
            raise ValueError(f"release: winner takes at most one objective, but got {len(self.objectives)}")
        self._check_unguided(takes_objectives=True)

    def _check_unguided(self, *, takes_objectives: bool = False) -> None:
        given = [
            name
            for name in ("objectives", "constraints", "batch", "population", "startup_trials")
            if getattr(self, name) and not (takes_objectives and name == "objectives")
        ]
        given += ["storage"] if self.storage is not None else []
        if given:
            raise ValueError(
                f"{self.algorithm} does not use results, so it takes no {given[0]}: "
                f"use one of {', '.join(GUIDED)}, or delete {given[0]}"
            )

    def _check_tuning(self) -> None:
        if self.population is not None and self.algorithm not in ("nsga2", "nsga3"):
            raise ValueError(f"population belongs to nsga2 and nsga3, but got algorithm={self.algorithm!r}; delete it")
        if self.startup_trials is not None and self.algorithm in ("nsga2", "nsga3"):
            raise ValueError(f"startup_trials belongs to tpe, gp and cmaes, but got {self.algorithm!r}; set population")
