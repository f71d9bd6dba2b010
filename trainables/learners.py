"""The table of learners: to add one, write its file, then one row and one member of `LearnerConfig` here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from fairsweep.datasets.selection.partitions import TrainingColumns
from fairsweep.trainables.dpsgd import dpsgd_learner as dpsgd
from fairsweep.trainables.dpsgd.dpsgd_learner import Dpsgd, DpsgdConfig, check_model, matched_twin
from fairsweep.trainables.federated import dpfedavg, fedavg_config
from fairsweep.trainables.federated.client_privacy import ClientPlan
from fairsweep.trainables.federated.dpfedavg import Dpfedavg
from fairsweep.trainables.federated.fedavg_config import DpfedavgConfig, FedavgConfig
from fairsweep.trainables.learning.evaluation import Predictor
from fairsweep.trainables.learning.learner import Learner, LearningTask
from fairsweep.trainables.learning.roles import Roles
from fairsweep.trainables.models.models import ModelConfig
from fairsweep.trainables.population import pbt_config
from fairsweep.trainables.population.pbt import Pbt
from fairsweep.trainables.population.pbt_config import PbtConfig
from fairsweep.trainables.privacy.plan import Outlook, Plan
from fairsweep.trainables.privacy.private_training import PrivacyPlan
from fairsweep.trainables.sgd import sgd_learner as sgd
from fairsweep.trainables.sgd.sgd_learner import Sgd, SgdConfig
from fairsweep.trainables.unlearning.sisa import Sisa
from fairsweep.trainables.unlearning.sisa_config import SisaConfig, count_examples, whole_twin
from fairsweep.trainables.unlearning.sisa_privacy import FirstTraining

LearnerConfig = Annotated[
    SgdConfig | DpsgdConfig | DpfedavgConfig | FedavgConfig | SisaConfig | PbtConfig, Field(discriminator="kind")
]


@dataclass(frozen=True)
class LearnerKind:
    """One row: what the core needs to know of a kind of learner. Configs are of the row's own type.

    Attributes:
        config: The config's type.
        build: Makes the learner from (config, task, plan).
        plan: Makes the privacy plan from (config, number of privacy units); None for a kind that claims nothing.
        check: Refuses a model from (model,), before anything starts; None where any will do.
        twin: Makes the matched twin's config from (config, name); None for a kind that has none.
        units: Counts the privacy units of a training set from (config, its columns, data key) and refuses one that the
            learner cannot be trained on; None where every example is a unit.
        check_values: Refuses attributes and values that do not exist from (config, roles), before anything starts; None
            for a kind whose configs name none.
        facts: Says in JSON values what ``data.json`` shows of how (learner,) uses the training set; None for nothing.
        files: Gives the records of its own that (learner,) keeps: for each name what writes it; None for none.
        close: Lets go of workers that (learner,) holds; None where it holds none.
        parts: Gives the models that (learner,) aggregates, each of which predicts by itself; None for a single one.
        outlook: Says, where there is no plan, what is known of the cost before the start from (config, number of
            privacy units); gives None for a config that claims nothing.
    """

    config: type[Any]
    build: Callable[[Any, LearningTask, Any], Learner]
    plan: Callable[[Any, int], Plan] | None = None
    check: Callable[[ModelConfig], None] | None = None
    twin: Callable[[Any, str], Any] | None = None
    units: Callable[[Any, TrainingColumns, bytes], int] | None = None
    facts: Callable[[Any], Mapping[str, Any]] | None = None
    check_values: Callable[[Any, Roles], None] | None = None
    files: Callable[[Any], Mapping[str, Callable[[Path], None]]] | None = None
    close: Callable[[Any], None] | None = None
    parts: Callable[[Any], Sequence[Predictor]] | None = None
    outlook: Callable[[Any, int], Outlook | None] | None = None
    workload: Callable[[Any, int], str] | None = None
    models: Callable[[Any], int] | None = None


LEARNERS: dict[str, LearnerKind] = {
    "sgd": LearnerKind(SgdConfig, lambda config, task, plan: Sgd(config, task), check_values=sgd.check_values),
    "dpsgd": LearnerKind(
        DpsgdConfig,
        Dpsgd,
        PrivacyPlan.build,
        check_model,
        matched_twin,
        facts=Dpsgd.facts,
        check_values=dpsgd.check_values,
    ),
    "dpfedavg": LearnerKind(
        DpfedavgConfig,
        Dpfedavg,
        ClientPlan.build,
        dpfedavg.check_model,
        fedavg_config.matched_twin,
        dpfedavg.count_clients,
        dpfedavg.describe_clients,
        close=Dpfedavg.close,
    ),
    "fedavg": LearnerKind(
        FedavgConfig,
        Dpfedavg,
        ClientPlan.build,
        dpfedavg.check_model,
        units=dpfedavg.count_clients,
        facts=dpfedavg.describe_clients,
        close=Dpfedavg.close,
    ),
    "sisa": LearnerKind(
        SisaConfig,
        lambda config, task, plan: Sisa(config, task, build_learner),
        outlook=FirstTraining.of,
        twin=whole_twin,
        units=count_examples,
        files=Sisa.files,
        close=Sisa.close,
        parts=Sisa.parts,
        check_values=lambda config, roles: check_values(config.inner, roles),
    ),
    "pbt": LearnerKind(
        PbtConfig,
        lambda config, task, plan: Pbt(config, task),
        check_values=pbt_config.check_values,
        files=Pbt.files,
        workload=pbt_config.workload,
        models=lambda config: int(config.population),
    ),
}


def build_learner(config: LearnerConfig, task: LearningTask, plan: Plan | None = None) -> Learner:
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
    row = LEARNERS[config.kind]
    if plan is not None and row.plan is None:
        raise ValueError(
            f"a learner of kind {config.kind!r} has no privacy plan, but one was given for {config.name!r}"
        )
    check(task.model, config)
    return row.build(config, task, plan)


def count_units(config: LearnerConfig, columns: TrainingColumns, data_key: bytes) -> int:
    """Count what a learner's privacy protects in a training set: examples, or clients.

    Args:
        config: A learner's config.
        columns: The training examples.
        data_key: 32 bytes, public.

    Raises:
        ValueError: If the training set cannot be divided as the learner asks.
    """
    count = LEARNERS[config.kind].units
    return len(columns.rows) if count is None else count(config, columns, data_key)


def plan_privacy(config: LearnerConfig, units: int) -> Plan | None:
    """Make the privacy plan of a config for so many units; None for a learner that claims nothing.

    Calibration takes seconds: do it once for all trials with the same numbers, and hand the plan over as JSON.

    Raises:
        ValueError: If the config has no plan for so many.
    """
    plan = LEARNERS[config.kind].plan
    return None if plan is None else plan(config, units)


def privacy_outlook(config: LearnerConfig, units: int) -> Outlook | None:
    """Return what can be known beforehand of the cost of a learner without a plan; None where nothing is claimed."""
    outlook = LEARNERS[config.kind].outlook
    return None if outlook is None else outlook(config, units)


def workload(config: LearnerConfig, examples: int) -> str | None:
    """Return what a trial does where its config's epochs are not all of it, in words; None elsewhere.

    Args:
        config: A learner's config.
        examples: Size of the training set.
    """
    say = LEARNERS[config.kind].workload
    return None if say is None else say(config, examples)


def state_models(config: LearnerConfig) -> int:
    """Return how many models, each with its optimiser, a checkpoint holds."""
    count = LEARNERS[config.kind].models
    return 1 if count is None else count(config)


def learner_files(learner: Learner) -> Mapping[str, Callable[[Path], None]]:
    """Return the records of its own that a learner keeps: for each name what writes it; mostly none."""
    row = LEARNERS.get(learner.kind)
    return {} if row is None or row.files is None else row.files(learner)


def learner_parts(learner: Learner) -> Sequence[Predictor]:
    """Return the models that a learner aggregates; none where it is a single one."""
    row = LEARNERS.get(learner.kind)
    return () if row is None or row.parts is None else row.parts(learner)


def close_learner(learner: Learner) -> None:
    """Lets go of workers that a learner holds; may be called twice."""
    row = LEARNERS.get(learner.kind)
    if row is not None and row.close is not None:
        row.close(learner)


def learner_facts(learner: Learner) -> dict[str, Any]:
    """Return what ``data.json`` shows of how a learner uses its training set, in JSON values; mostly nothing."""
    row = LEARNERS.get(learner.kind)
    return {} if row is None or row.facts is None else dict(row.facts(learner))


def check(model: ModelConfig, config: LearnerConfig) -> None:
    """Refuses a model that the learner cannot train, before anything starts.

    Raises:
        ValueError: With the reason and the remedy.
    """
    refuse = LEARNERS[config.kind].check
    if refuse is not None:
        refuse(model)
    if isinstance(config, SisaConfig):
        check(model, config.inner)


def check_values(config: LearnerConfig, roles: Roles) -> None:
    """Refuses a config that names attributes or values which do not exist, before anything starts.

    Raises:
        ValueError: With the nearest name.
    """
    refuse = LEARNERS[config.kind].check_values
    if refuse is not None:
        refuse(config, roles)
    if isinstance(config, SisaConfig):
        check_values(config.inner, roles)


def twin_of(config: LearnerConfig, name: str) -> LearnerConfig:
    """Return the config that differs from another in its privacy fields alone.

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
