"""The section ``scheduler`` of a sweep file."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from fairsweep.sweeps.spec.stop_section import check_live
from fairsweep.sweeps.syntax.section import Section
from fairsweep.trainables.learning.objectives import Objective


class SchedulerSection(Section):
    """Which trials end early because others do better on the validation split.

    A trial that a scheduler ended is recorded in full and is not run again. A private one is charged for all steps that
    it could have taken, since when it ended depends on private models.
    """

    kind: Literal["none", "asha", "hyperband", "median", "pareto-asha"] = Field(
        default="none",
        description="`asha`: at iterations `grace_period * reduction^k` the best `1 / reduction` continue (Li et al. "
        "2020, arXiv 1810.05934). `hyperband`: the same in several brackets, each starting later. `median`: a trial "
        "ends that is worse than the median of the others' running means (Golovin et al. 2017). `pareto-asha`: asha by "
        "non-dominated rank with several objectives; crowding distance breaks ties.",
    )
    objectives: tuple[Objective, ...] = Field(
        default=(),
        description="What is compared: one for `asha`, `hyperband`, `median`, two or more for `pareto-asha`.",
    )
    grace_period: int = Field(default=1, ge=1, description="Iterations that every trial runs at least.")
    reduction: float = Field(
        default=3.0, gt=1, description="Of asha, hyperband and pareto-asha: one trial in this many continues."
    )
    brackets: int = Field(default=3, ge=1, description="Of hyperband: number of brackets.")
    min_trials: int = Field(
        default=3, ge=1, description="Of median: number of other trials with values before a trial is compared."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind == "none":
            if self.objectives:
                raise ValueError("without a scheduler there is nothing to compare: delete objectives, or give a kind")
            return self
        if self.kind == "pareto-asha" and len(self.objectives) < 2:
            raise ValueError(
                f"pareto-asha needs two objectives or more, but got {len(self.objectives)}; "
                "write objectives: [{max: accuracy}, {min: accuracy_difference by tone}], or use asha"
            )
        if self.kind != "pareto-asha" and len(self.objectives) != 1:
            raise ValueError(
                f"{self.kind} needs one objective, but got {len(self.objectives)}; "
                "write objectives: [{max: accuracy}], or use pareto-asha for several"
            )
        for objective in self.objectives:
            check_live(objective)
        return self
