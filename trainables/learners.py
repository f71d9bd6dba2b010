"""The table of learners: to add one, write its file, then one row and one member of `LearnerConfig` here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from fairsweep.trainables.dpsgd import Dpsgd, DpsgdConfig, check_model, matched_twin
from fairsweep.trainables.learner import Learner, LearningTask
from fairsweep.trainables.models import ModelConfig
from fairsweep.trainables.privacy import PrivacyPlan
from fairsweep.trainables.sgd import Sgd, SgdConfig

LearnerConfig = Annotated[SgdConfig | DpsgdConfig, Field(discriminator="kind")]


@dataclass(frozen=True)
class LearnerKind:
    """One row: what the core needs to know of a kind of learner. Configs are of the row's own type.

    Attributes:
        config: The config's type.
        build: Makes the learner from (config, task, plan).
        plan: Makes the privacy plan from (config, number of training examples); None for a kind that claims nothing.
        check: Refuses a model from (model,), before anything starts; None where any will do.
        twin: Makes the matched twin's config from (config, name); None for a kind that has none.
    """

    config: type[Any]
    build: Callable[[Any, LearningTask, PrivacyPlan | None], Learner]
    plan: Callable[[Any, int], PrivacyPlan] | None = None
    check: Callable[[ModelConfig], None] | None = None
    twin: Callable[[Any, str], Any] | None = None


LEARNERS: dict[str, LearnerKind] = {
    "sgd": LearnerKind(SgdConfig, lambda config, task, plan: Sgd(config, task)),
    "dpsgd": LearnerKind(DpsgdConfig, Dpsgd, PrivacyPlan.build, check_model, matched_twin),
}


def build_learner(config: LearnerConfig, task: LearningTask, plan: PrivacyPlan | None = None) -> Learner:
    """Makes a learner.

    Args:
        config: A learner's config.
        task: What it learns from.
        plan: Its privacy plan, if `plan_privacy` made it before; it is verified against config and task.

    Returns:
        The learner, with no iteration done.

    Raises:
        ValueError: If the model is not for this learner, or the plan is not of this config and training set.
    """
    row = LEARNERS[config.kind]
    if plan is not None and row.plan is None:
        raise ValueError(
            f"a learner of kind {config.kind!r} has no privacy plan, but one was given for {config.name!r}"
        )
    check(task.model, config)
    return row.build(config, task, plan)


def plan_privacy(config: LearnerConfig, size: int) -> PrivacyPlan | None:
    """Makes the privacy plan of a config for a training set of this size; None for a learner that claims nothing.

    Calibration takes seconds: do it once for all trials with the same numbers, and hand the plan over as JSON.

    Raises:
        ValueError: If the config has no plan for this size.
    """
    plan = LEARNERS[config.kind].plan
    return None if plan is None else plan(config, size)


def check(model: ModelConfig, config: LearnerConfig) -> None:
    """Refuses a model that the learner cannot train, before anything starts.

    Raises:
        ValueError: With the reason and the remedy.
    """
    refuse = LEARNERS[config.kind].check
    if refuse is not None:
        refuse(model)


def twin_of(config: LearnerConfig, name: str) -> LearnerConfig:
    """Returns the config that differs from another in its privacy fields alone.

    Raises:
        ValueError: If the kind has no such fields.
    """
    make = LEARNERS[config.kind].twin
    if make is None:
        kinds = [kind for kind, row in LEARNERS.items() if row.twin is not None]
        raise ValueError(
            f"twin_of must name a learner with privacy fields (kind {' or '.join(kinds)}), but {config.name!r} is "
            f"of kind {config.kind!r}: name another, or write this learner out"
        )
    twin: LearnerConfig = make(config, name)
    return twin
