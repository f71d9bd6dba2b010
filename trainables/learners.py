"""The table of learners: to add one, write its file, then one row here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import PlainValidator, SerializeAsAny

from fairsweep.trainables.dpsgd.dpsgd_learner import Dpsgd
from fairsweep.trainables.federated.dpfedavg import Dpfedavg, Fedavg
from fairsweep.trainables.learning.learner import Learner, LearningTask
from fairsweep.trainables.learning.learner_config import LearnerConfig
from fairsweep.trainables.models.model import ModelConfig
from fairsweep.trainables.population.pbt import Pbt
from fairsweep.trainables.privacy.plan import PrivacyPlan
from fairsweep.trainables.sgd.sgd_learner import Sgd
from fairsweep.trainables.unlearning.forgetful_learner import ForgetfulLearner
from fairsweep.trainables.unlearning.sisa import Sisa

LEARNERS: dict[str, type[Learner]] = {
    "sgd": Sgd,
    "dpsgd": Dpsgd,
    "dpfedavg": Dpfedavg,
    "fedavg": Fedavg,
    "sisa": Sisa,
    "pbt": Pbt,
}


def _read(given: Any) -> LearnerConfig:  # noqa: ANN401 - pydantic hands over whatever was given
    if isinstance(given, LearnerConfig):
        return given
    kind = given.get("kind") if isinstance(given, Mapping) else given
    if not isinstance(kind, str) or kind not in LEARNERS:
        raise ValueError(f"the kind of a learner must be one of {', '.join(map(repr, LEARNERS))}, but got {kind!r}")
    return LEARNERS[kind].config.model_validate(given)


AnyLearner = Annotated[SerializeAsAny[LearnerConfig], PlainValidator(_read)]
"""A field that takes the config of any learner of the table."""


def build_learner(config: LearnerConfig, task: LearningTask, plan: PrivacyPlan | None = None) -> Learner:
    """Make a learner.

    Args:
        config: A learner's config.
        task: What it learns from.
        plan: Its privacy plan, if `plan_privacy` made it before; it is verified against config and task.

    Returns:
        The learner, with no iteration done.

    Raises:
        ValueError: If the model is not for this learner, or the plan is not of this config and training set.
    """
    if plan is not None and not config.has_plan:
        raise ValueError(
            f"a learner of kind {config.kind!r} has no privacy plan, but one was given for {config.name!r}"
        )
    config.check_model(task.model)
    make = LEARNERS[config.kind]
    return make(config, task) if plan is None else make(config, task, plan)


def forgetful(kind: object) -> type[ForgetfulLearner] | None:
    """Return the learner of a kind if examples can be deleted from its trials, else None."""
    found = LEARNERS.get(kind) if isinstance(kind, str) else None
    return found if found is not None and issubclass(found, ForgetfulLearner) else None


def plan_privacy(config: LearnerConfig, units: int) -> PrivacyPlan | None:
    """Make the privacy plan of a config; see `LearnerConfig.plan`."""
    return config.plan(units)


def check(model: ModelConfig, config: LearnerConfig) -> None:
    """Refuse a model that the learner cannot train; see `LearnerConfig.check_model`."""
    config.check_model(model)


def twin_of(config: LearnerConfig, name: str) -> LearnerConfig:
    """Return the config that differs in its privacy fields alone; see `LearnerConfig.twin`."""
    return config.twin(name)
