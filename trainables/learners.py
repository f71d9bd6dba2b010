"""The table of learners: to add one, write its file, then one row here. Installed packages need no row."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any

from pydantic import PlainValidator, SerializeAsAny

from fairsweep.datasets.storage.layout import nearest
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

_PATH = re.compile(r"[\w.]+:\w+")

LEARNERS: dict[str, type[Learner]] = {
    "sgd": Sgd,
    "dpsgd": Dpsgd,
    "dpfedavg": Dpfedavg,
    "fedavg": Fedavg,
    "sisa": Sisa,
    "pbt": Pbt,
}


ENTRY_POINTS = "fairsweep.learners"
"""Group of entry points by which installed packages offer learners of their own."""


def learner_type(kind: object) -> type[Learner]:
    """Return the learner of a kind: a row of the table, or one of an installed package.

    Args:
        kind: A row of `LEARNERS`, the name of an entry point in the group ``fairsweep.learners``, or
            ``package.module:Class``. Such a package has to be installed wherever trials run.

    Raises:
        ValueError: If there is none; the message names the nearest, or what is wrong with the package's.
    """
    if isinstance(kind, str) and kind in LEARNERS:
        return LEARNERS[kind]
    offered = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    if isinstance(kind, str) and _PATH.fullmatch(kind):
        offered[kind] = EntryPoint(kind, kind, ENTRY_POINTS)
    if not isinstance(kind, str) or kind not in offered:
        near = nearest(str(kind), [*LEARNERS, *offered])
        raise ValueError(f"there is no learner of kind {kind!r}: {near}; one of your own is package.module:Class")
    try:
        found = offered[kind].load()
    except Exception as error:  # whatever the package raises
        raise ValueError(f"the learner {kind!r} does not import: {type(error).__name__}: {error}") from error
    if not isinstance(found, type) or not issubclass(found, Learner) or inspect.isabstract(found):
        raise ValueError(
            f"{kind!r} must be a class that inherits from fairsweep.trainables.Learner, but is {found!r:.80}"
        )
    if not issubclass(getattr(found, "config", object), LearnerConfig):
        raise ValueError(
            f"{kind!r} must have a class attribute config, a subclass of fairsweep.trainables.LearnerConfig"
        )
    return found


def _read(given: Any) -> LearnerConfig:  # noqa: ANN401 - pydantic hands over whatever was given
    if isinstance(given, LearnerConfig):
        return given
    kind = given.get("kind") if isinstance(given, Mapping) else given
    return learner_type(kind).config.model_validate(given)


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
    make = learner_type(config.kind)
    return make(config, task) if plan is None else make(config, task, plan)


def forgetful(kind: object) -> type[ForgetfulLearner] | None:
    """Return the learner of a kind if examples can be deleted from its trials, else None."""
    try:
        found = learner_type(kind)
    except ValueError:
        return None
    return found if issubclass(found, ForgetfulLearner) else None


def plan_privacy(config: LearnerConfig, units: int) -> PrivacyPlan | None:
    """Make the privacy plan of a config; see `LearnerConfig.plan`."""
    return config.plan(units)


def check(model: ModelConfig, config: LearnerConfig) -> None:
    """Refuse a model that the learner cannot train; see `LearnerConfig.check_model`."""
    config.check_model(model)


def twin_of(config: LearnerConfig, name: str) -> LearnerConfig:
    """Return the config that differs in its privacy fields alone; see `LearnerConfig.twin`."""
    return config.twin(name)
