"""The table of learners: to add one, write its file, then one row here. Those of the user's own need none."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import PlainValidator, SerializeAsAny, create_model

from fairsweep.analysis.own_code import OwnCode, OwnCodeError, is_file, load_offered
from fairsweep.trainables.dpsgd.dpsgd_learner import Dpsgd
from fairsweep.trainables.federated.dpfedavg import Dpfedavg, Fedavg
from fairsweep.trainables.learning.learner import Learner, LearningTask
from fairsweep.trainables.learning.learner_config import LearnerConfig, OwnLearnerFields
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


ENTRY_POINTS = "fairsweep.learners"
"""Group of entry points by which installed packages offer learners of their own."""


def learner_type(kind: object, source: str | None = None) -> type[Learner]:
    """Return the learner of a kind: a row of the table, one of an installed package, or one of a file.

    Args:
        kind: A row of `LEARNERS`, the name of an entry point in the group ``fairsweep.learners``,
            ``package.module:Class``, whose package has to be installed wherever trials run, or ``FILE.py:Class``.
        source: Text of the file.

    Raises:
        ValueError: If there is none; the message names the nearest, or what is wrong with it.
    """
    if isinstance(kind, str) and kind in LEARNERS:
        return LEARNERS[kind]
    if is_file(kind):
        return _of_file(str(kind), source)
    return _checked(kind, load_offered("learner of kind", kind, ENTRY_POINTS, LEARNERS))


def _checked(kind: object, found: object) -> type[Learner]:
    if not isinstance(found, type) or not issubclass(found, Learner) or inspect.isabstract(found):
        lacking = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
        raise OwnCodeError(
            f"{kind!r} must be a class that inherits from fairsweep.trainables.Learner"
            + (f" and has {lacking}" if lacking and issubclass(found, Learner) else "")  # type: ignore[arg-type]
            + f", but is {found!r:.80}"
        )
    config = getattr(found, "config", None)
    if not isinstance(config, type) or not issubclass(config, LearnerConfig):
        raise OwnCodeError(
            f"{kind!r} must have a class attribute config, a subclass of fairsweep.trainables.LearnerConfig"
        )
    return found


class _OfFile(OwnLearnerFields):
    """A config that goes to another process as its values: the module of its class is not there."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _read, (self.model_dump(mode="json"),)


@functools.cache  # so that a process has one class of each
def _of_file(kind: str, source: str | None) -> type[Learner]:
    """Return a learner of a file, whose config has the text of the file besides."""
    found = _checked(kind, OwnCode(kind, source).load())
    config = found.config
    if "source" in config.model_fields:
        raise OwnCodeError(
            f"the config of {kind} must have no field source, which holds the text of its file: rename it"
        )
    both = create_model(config.__name__, __base__=(_OfFile, config), __doc__=config.__doc__)
    return type(found.__name__, (found,), {"config": both, "__doc__": found.__doc__, "__module__": found.__module__})


def type_of(config: LearnerConfig) -> type[Learner]:
    """Return the learner of a config."""
    return learner_type(config.kind, getattr(config, "source", None))


def _read(given: Any) -> LearnerConfig:  # noqa: ANN401 - pydantic hands over whatever was given
    if isinstance(given, LearnerConfig):
        return given
    kind = given.get("kind") if isinstance(given, Mapping) else given
    source = given.get("source") if isinstance(given, Mapping) and is_file(kind) else None
    return learner_type(kind, source).config.model_validate(given)


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
    make = type_of(config)
    return make(config, task) if plan is None else make(config, task, plan)


def forgetful(kind: object, source: str | None = None) -> type[ForgetfulLearner] | None:
    """Return the learner of a kind if examples can be deleted from its trials, else None."""
    try:
        found = learner_type(kind, source)
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
