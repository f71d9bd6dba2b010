"""What one trial learns from and is evaluated on: the same for every trial of a sweep but for the training set."""

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairsweep.analysis.records import FORMAT_VERSION, Vocabulary
from fairsweep.datasets.evaluation import evaluation_rows
from fairsweep.datasets.imbalance import KeepImbalance, TrainingPlan, plan_training
from fairsweep.datasets.layout import INFO_FILE, DatasetError
from fairsweep.datasets.prepared import PreparedDataset
from fairsweep.datasets.randomness import first_by_priority, seed_key
from fairsweep.trainables.evaluation import EvaluationSet
from fairsweep.trainables.trial_config import TrialConfig

# Training examples whose predictions are recorded (research mode), the same ones wherever the training set has them.
_SUBSET_SIZE = 500


def open_dataset(path: Path, content_hash: str) -> PreparedDataset:
    """Open a prepared dataset; a process that runs trials one after another opens it once.

    Raises:
        DatasetError: if it is missing, damaged, or has another content hash.
    """
    try:
        changed = (path / INFO_FILE).stat().st_mtime_ns
    except OSError:
        changed = 0
    dataset = _open_once(path, changed)
    if dataset.info.content_hash != content_hash:
        raise DatasetError(
            f"the dataset at {path} has changed since the sweep was planned: prepare the former one again, "
            "or run the sweep into another output folder"
        )
    return dataset


def training_plan(dataset: PreparedDataset, config: TrialConfig) -> TrainingPlan:
    """The training set of a trial.

    Raises:
        ValueError: if it asks for more than the dataset has.
    """
    key = seed_key(config.seeds.data, "data")
    return plan_training(dataset, config.imbalance, label=config.dataset.label, data_key=key)


def evaluation_sets(dataset: PreparedDataset, config: TrialConfig) -> dict[str, EvaluationSet]:
    """The validation and the test set of a trial: the same for every level and seed.

    Raises:
        ValueError: if a split is missing or too small.
    """
    return {
        "validation": _subset(dataset, config, "validation", evaluation_rows(dataset, config.evaluation, "validation")),
        "test": _subset(dataset, config, "test", evaluation_rows(dataset, config.evaluation, "test")),
    }


def training_subset(dataset: PreparedDataset, config: TrialConfig, plan: TrainingPlan) -> EvaluationSet | None:
    """Fixed training examples to predict at the end; None in release mode, where they are private."""
    if config.mode == "release":
        return None
    key = seed_key(config.evaluation.key, "evaluation")
    first = first_by_priority(key, "training subset", plan.ids, _SUBSET_SIZE)
    return _subset(dataset, config, "train", np.sort(plan.rows[first]))


def vocabularies(dataset: PreparedDataset, config: TrialConfig) -> list[Vocabulary]:
    """The vocabularies that the cells of a trial need, each once."""
    names = dict.fromkeys((*config.dataset.groups, config.dataset.label))
    attributes = [dataset.attribute(name) for name in names]
    return [Vocabulary(a.name, a.values, a.display or ()) for a in attributes]


def describe_data(
    dataset: PreparedDataset, config: TrialConfig, plan: TrainingPlan, evaluations: Mapping[str, EvaluationSet]
) -> dict[str, Any]:
    """What ``data.json`` holds: realised counts by group and label, and hashes of all sets of ids.

    Args:
        dataset: the prepared dataset.
        config: the trial's config.
        plan: its training set.
        evaluations: its validation and test sets.
    """
    label, groups = config.dataset.label, config.dataset.groups
    codes = [dataset.codes(name)[plan.rows] for name in (*groups, label)]
    distinct, counts = np.unique(np.stack(codes, axis=1), axis=0, return_counts=True)
    rows = [
        {**dict(zip(groups, row[:-1], strict=True)), "label": row[-1], "count": count}
        for row, count in zip(distinct.tolist(), counts.tolist(), strict=True)
    ]
    return {
        "format_version": FORMAT_VERSION,
        "size": len(plan),
        "counts": rows,
        "hashes": {"training": hash_ids(plan.ids)} | {name: hash_ids(s.ids) for name, s in evaluations.items()},
        "minority": _minority(dataset, config, plan),
    }


def hash_ids(ids: NDArray[np.int64]) -> str:
    """A hash of a set of ids, 32 hexadecimal digits; their order does not matter."""
    return hashlib.blake2b(np.sort(ids).astype("<i8").tobytes(), digest_size=16).hexdigest()


def _subset(dataset: PreparedDataset, config: TrialConfig, split: str, rows: NDArray[np.int64]) -> EvaluationSet:
    return EvaluationSet.of(dataset, split, rows, config.dataset.label, config.dataset.groups)


def _minority(dataset: PreparedDataset, config: TrialConfig, plan: TrainingPlan) -> dict[str, Any] | None:
    """The values that the imbalance makes rare, and how many training examples have one of them."""
    imbalance = config.imbalance
    if imbalance is None:
        return None
    attribute = dataset.attribute(imbalance.attribute)
    if isinstance(imbalance, KeepImbalance):
        rare = {attribute.code(value) for value in imbalance.keep}
    else:
        rare = set(range(len(attribute.values))) - {attribute.code(imbalance.majority)}
    count = int(np.isin(dataset.codes(attribute.name)[plan.rows], sorted(rare)).sum())
    return {"attribute": attribute.name, "values": [attribute.values[code] for code in sorted(rare)], "count": count}


@functools.lru_cache(maxsize=2)
def _open_once(path: Path, _changed: int) -> PreparedDataset:
    return PreparedDataset.open(path)
