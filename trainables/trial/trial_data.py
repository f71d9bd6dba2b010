"""The data of one trial: all but the training set is the same for every trial of a sweep."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from fairsweep.analysis.records.cell_records import group_column
from fairsweep.analysis.records.files import FORMAT_VERSION
from fairsweep.analysis.records.vocabularies import Vocabulary
from fairsweep.datasets.feeds.feed import Feed
from fairsweep.datasets.feeds.feed_choice import FeedChoice, open_feed
from fairsweep.datasets.selection.division import Division, divide
from fairsweep.datasets.selection.evaluation import evaluation_rows
from fairsweep.datasets.selection.imbalance import KeepImbalance, TrainingPlan, plan_training
from fairsweep.datasets.selection.partitions import TrainingColumns
from fairsweep.datasets.selection.randomness import first_by_priority, priorities, seed_key
from fairsweep.datasets.storage.layout import INFO_FILE, DatasetError
from fairsweep.datasets.storage.location import Location
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.trainables.learning.evaluation import EvaluationSet, Predictor
from fairsweep.trainables.learning.frozen_features import open_features
from fairsweep.trainables.learning.learner import CohortWorkers, LabelledRows, LearningTask, TrialKeys
from fairsweep.trainables.models.frozen_body import FrozenBody, Tail
from fairsweep.trainables.trial.other_dataset import check_other
from fairsweep.trainables.trial.trial_config import TrialConfig

# Training examples whose predictions are recorded (research mode), the same ones wherever the training set has them.
_SUBSET_SIZE = 500
_HALF = np.uint64(2**63)
CPU = torch.device("cpu")


@dataclass(frozen=True)
class TrialData:
    """The data of one trial, with its feeds open.

    Attributes:
        dataset: what is trained on.
        training: the training set.
        evaluations: validation and test set.
        subset: training examples that are predicted at the end; None in release mode, where they are private.
        candidates: of a shadow trial: examples that are predicted at the end, trained on or not; None for others.
        feeds: where the images of each split come from, or their features.
        tail: what features go into; None where the feeds give images.
    """

    dataset: PreparedDataset
    training: TrainingPlan
    evaluations: Mapping[str, EvaluationSet]
    subset: EvaluationSet | None
    feeds: Mapping[str, Feed]
    candidates: EvaluationSet | None = None
    tail: Tail | None = None

    @classmethod
    def open(cls, config: TrialConfig, choice: FeedChoice, device: torch.device = CPU) -> TrialData:
        """Open datasets and feeds.

        Args:
            config: the trial's config.
            choice: which feed.
            device: where features of a frozen body are computed.

        Raises:
            DatasetError: if a dataset is missing, damaged, or not the one that the config names.
            StreamError: if a stream has no Ray to read with.
            ValueError: if the training set or an evaluation set asks for more than there is.
        """
        dataset, other = open_dataset(config.dataset.path, config.dataset.content_hash), open_test_dataset(config)
        training, evaluations = training_plan(dataset, config), evaluation_sets(dataset, config, other)
        validation, test = evaluations["validation"].rows, evaluations["test"].rows
        opening = partial(_open_input, config, device=device)
        with ExitStack() as opened:
            if other is None:
                again = np.concatenate([validation, test])
                feeds = dict.fromkeys(("train", "validation", "test"), opening(dataset, choice, again))
            else:
                choice = _halved(choice)
                feed = opened.enter_context(opening(dataset, choice, validation))
                feeds = {"train": feed, "validation": feed, "test": opening(other, choice, test)}
            opened.pop_all()
        subset, candidates = training_subset(dataset, config, training), shadow_candidates(dataset, config)
        tail = frozen_body_of(config, dataset).tail
        return cls(dataset, training, evaluations, subset, feeds, candidates, tail)

    def membership(
        self, learner: Predictor, iteration: int, gone: NDArray[np.int64], *, keep_gone: bool
    ) -> pa.Table | None:
        """Return what a model says of a shadow trial's candidates, and who was trained on; None for other trials.

        Args:
            learner: the model.
            iteration: iterations done.
            gone: int64 [k], ids of training examples that were deleted: the model never saw them.
            keep_gone: whether they are predicted all the same; see `LearnerConfig.predicts_forgotten`.
        """
        chosen = self.candidates
        if chosen is not None and not keep_gone:
            chosen = chosen.without(gone)
        if chosen is None:
            return None
        values = chosen.log_probabilities(learner, self.feeds["train"])
        included = np.isin(chosen.ids, np.setdiff1d(self.training.ids, gone))
        return chosen.predictions(iteration, values).append_column("included", pa.array(included))

    def check_content(self, known: str | None) -> None:
        """Refuse to go on with other examples than a state was made with. Raises: DatasetError if they differ."""
        if known not in (None, self.dataset.info.content_hash):
            raise DatasetError(
                f"the dataset at {self.dataset.location} has changed since the trial began: prepare the previous "
                "version again, or run the sweep into another output folder"
            )

    def close(self) -> None:
        """Let go of the feeds; may be called twice."""
        for feed in self.feeds.values():
            feed.close()


def open_dataset(path: Path, content_hash: str) -> PreparedDataset:
    """Open a prepared dataset; a process that runs trials one after another opens it once.

    Raises:
        DatasetError: if it is missing, damaged, or has another content hash.
    """
    try:
        changed = Location.of(path).describe(INFO_FILE).mtime_ns or 0
    except OSError:
        changed = 0
    dataset = _open_once(path, changed)
    if content_hash not in (dataset.info.content_hash, dataset.public_hash):
        raise DatasetError(
            f"the dataset at {path} has changed since the sweep was planned: prepare the previous version again, "
            "or run the sweep into another output folder"
        )
    return dataset


def open_training_feed(config: TrialConfig, choice: FeedChoice, device: torch.device) -> Feed:
    """Open what a trial trains on once more, in another process; raises as `TrialData.open`."""
    dataset = open_dataset(config.dataset.path, config.dataset.content_hash)
    return _open_input(config, dataset, choice, device=device)


def _open_input(
    config: TrialConfig,
    dataset: PreparedDataset,
    choice: FeedChoice,
    again: NDArray[np.int64] | None = None,
    *,
    device: torch.device,
) -> Feed:
    """Open the images of a dataset, or their features where a trial learns from these."""
    tail = frozen_body_of(config, dataset).tail
    opening = partial(open_feed, dataset, choice, again)
    if tail is None:
        return opening()
    classes = len(dataset.attribute(config.dataset.label).values)
    return open_features(config.model, classes, dataset, tail, device, opening)


def frozen_body_of(config: TrialConfig, dataset: PreparedDataset) -> FrozenBody:
    """Return what a trial learns from in the place of images, or why it needs the images."""
    classes = len(dataset.attribute(config.dataset.label).values)
    return config.learner.frozen_body(config.model, dataset.info.image_shape, classes)


def open_test_dataset(config: TrialConfig) -> PreparedDataset | None:
    """Open the other dataset that a trial is tested on, if it names one; raises as `open_dataset`."""
    path, content = config.evaluation.dataset, config.test_content
    return None if path is None or content is None else open_dataset(path, content)


def division_of(dataset: PreparedDataset, config: TrialConfig) -> Division:
    """Return the parts of its dataset that a trial learns from, is validated on and is tested on."""
    return divide(
        dataset,
        config.split,
        config.evaluation,
        label=config.dataset.label,
        groups=config.dataset.groups,
        data_key=seed_key(config.draw_seed, "data"),
    )


def published_examples(
    examples: pa.Table, dataset: PreparedDataset, config: TrialConfig, other: PreparedDataset | None
) -> pa.Table:
    """Return what a release says of examples: label, groups, user and split of who is evaluated.

    Args:
        examples: what `recorded_examples` returns.
        dataset: the dataset that is trained on.
        config: of one trial; in a release all evaluate the same examples.
        other: the dataset that is tested on, if it is another.
    """
    evaluated = np.concatenate([chosen.ids for chosen in evaluation_sets(dataset, config, other).values()])
    public = {"id", "split", "user", config.dataset.label, *config.dataset.groups}
    columns = [name for name in examples.column_names if name in public]
    return examples.select(columns).filter(pc.is_in(examples.column("id"), pa.array(evaluated)))


def training_plan(dataset: PreparedDataset, config: TrialConfig) -> TrainingPlan:
    """Return the training set of a trial, drawn from the training part of its split; of a shadow trial half of it.

    Raises:
        ValueError: if it asks for more than the dataset has.
    """
    drawn = drawn_plan(dataset, config)
    if config.shadow_candidates is None:
        return drawn
    coins = priorities(seed_key(config.seeds.data, "data"), "shadow coins", drawn.ids) < _HALF
    if not coins.any():
        raise ValueError(f"a shadow trial trains on half of its training set, but {len(drawn)} examples have no half")
    return TrainingPlan(ids=drawn.ids[coins], rows=drawn.rows[coins])


def drawn_plan(dataset: PreparedDataset, config: TrialConfig) -> TrainingPlan:
    """Return the training set that a trial trains on, or a shadow trial on half of; raises as `training_plan`."""
    key = seed_key(config.draw_seed, "data")
    pool = division_of(dataset, config).train
    return plan_training(dataset, config.imbalance, label=config.dataset.label, data_key=key, pool=pool)


def shadow_candidates(dataset: PreparedDataset, config: TrialConfig) -> EvaluationSet | None:
    """Return the examples that a shadow trial predicts; None for others.

    They are the same for all shadows of a setting: in equal parts from each combination of groups and label, as far as
    it has enough.
    """
    if config.shadow_candidates is None:
        return None
    plan, label, groups = drawn_plan(dataset, config), config.dataset.label, config.dataset.groups
    names = tuple(dict.fromkeys((*groups, label)))
    codes = np.stack([dataset.codes(name)[plan.rows] for name in names], axis=1)
    _, cells = np.unique(codes, axis=0, return_inverse=True)
    order = first_by_priority(seed_key(config.evaluation.key, "evaluation"), "shadow candidates", plan.ids)
    # The k-th of its cell comes before the k+1-th of any other.
    turn = np.empty(len(order), np.int64)
    for cell in np.unique(cells):
        members = order[cells.reshape(-1)[order] == cell]
        turn[members] = np.arange(len(members))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    chosen = np.lexsort((rank, turn))[: config.shadow_candidates]
    return EvaluationSet.of(dataset, "train", np.sort(plan.rows[chosen]), label, groups)


def training_columns(dataset: PreparedDataset, config: TrialConfig, plan: TrainingPlan) -> TrainingColumns:
    """Return what is known of each training example beside its image."""
    rows = plan.rows
    return TrainingColumns(
        rows=rows,
        labels=dataset.codes(config.dataset.label)[rows].astype(np.int64),
        attributes={attribute.name: dataset.codes(attribute.name)[rows] for attribute in dataset.info.attributes},
        users=None if dataset.users is None else dataset.users[rows],
        ids=dataset.ids[rows],
        value_names={attribute.name: attribute.values for attribute in dataset.info.attributes},
        groups=tuple(dict.fromkeys((*config.dataset.groups, config.dataset.label))),
    )


def learning_task(
    config: TrialConfig,
    data: TrialData,
    keys: TrialKeys,
    device: torch.device,
    folder: Path | None = None,
    workers: CohortWorkers | None = None,
) -> LearningTask:
    """Return what the learner of a trial learns from.

    Args:
        config: the trial's config.
        data: its data, open.
        keys: all randomness follows from them.
        device: where training happens.
        folder: where a learner may keep files of its own; None keeps none.
        workers: further processes for federated clients; None trains them in this one.
    """
    dataset, rows, label = data.dataset, data.training.rows, config.dataset.label
    columns = training_columns(dataset, config, data.training)
    validation = data.evaluations["validation"]
    return LearningTask(
        model=config.model,
        classes=len(dataset.attribute(label).values),
        image_shape=dataset.info.image_shape,
        rows=rows,
        labels=columns.labels,
        groups={name: columns.attributes[name] for name in config.dataset.groups},
        feed=data.feeds["train"],
        keys=keys,
        device=device,
        diagnostics=config.mode == "research",
        ids=dataset.ids[rows],
        users=columns.users,
        label=label,
        value_names={attribute.name: attribute.values for attribute in dataset.info.attributes},
        attributes=columns.attributes,
        validation=LabelledRows(validation.rows, validation.labels.astype(np.int64), validation.groups),
        folder=folder,
        workers=workers,
        drawn_by=config.drawn_by,
        tail=data.tail,
    )


def evaluation_sets(
    dataset: PreparedDataset, config: TrialConfig, other: PreparedDataset | None = None
) -> dict[str, EvaluationSet]:
    """Return the validation and the test set of a trial.

    They are the same for every level and, unless held out anew, for every seed.

    Args:
        dataset: the dataset that is trained on.
        config: the trial's config.
        other: the dataset that is tested on, where the config names one.

    Raises:
        ValueError: if a part of the split is missing or too small, or the other dataset does not fit.
    """
    label, groups, evaluation = config.dataset.label, config.dataset.groups, config.evaluation
    division = division_of(dataset, config)
    rows = evaluation_rows(dataset, evaluation, "validation", division.validation)
    validation = EvaluationSet.of(dataset, "validation", rows, label, groups)
    if other is None:
        rows = evaluation_rows(dataset, evaluation, "test", division.test)
        return {"validation": validation, "test": EvaluationSet.of(dataset, "test", rows, label, groups)}
    check_other(dataset, other, label, groups)
    pool = other.split("test") if evaluation.part == "test" else np.arange(len(other), dtype=np.int64)
    if not len(pool):
        raise ValueError(
            f"dataset {other.info.name!r} has no example in its test split: prepare it with one, or write part: all"
        )
    rows = evaluation_rows(other, evaluation, "test", pool)
    test = EvaluationSet.of(other, "test", rows, label, groups, foreign=True)
    return {"validation": validation, "test": test}


def training_subset(dataset: PreparedDataset, config: TrialConfig, plan: TrainingPlan) -> EvaluationSet | None:
    """Return the fixed training examples to predict at the end; None in release mode, where they are private."""
    if config.mode == "release":
        return None
    key = seed_key(config.evaluation.key, "evaluation")
    first = first_by_priority(key, "training subset", plan.ids, _SUBSET_SIZE)
    rows = np.sort(plan.rows[first])
    return EvaluationSet.of(dataset, "train", rows, config.dataset.label, config.dataset.groups)


def vocabularies(dataset: PreparedDataset, config: TrialConfig) -> list[Vocabulary]:
    """Return the vocabularies that the cells of a trial need, each once."""
    names = dict.fromkeys((*config.dataset.groups, config.dataset.label))
    attributes = [dataset.attribute(name) for name in names]
    return [Vocabulary(a.name, a.values, a.display or ()) for a in attributes]


def describe_data(data: TrialData, config: TrialConfig, key: bytes | None) -> dict[str, Any]:
    """Return what ``data.json`` holds: realised counts by group and label, and hashes of all sets of ids.

    Args:
        data: what the trial learns from and is evaluated on.
        config: the trial's config.
        key: keys the hashes; None leaves them out.
    """
    sets = {"training": data.training.ids} | {name: s.ids for name, s in data.evaluations.items()}
    left_out = len(division_of(data.dataset, config).left_out)
    return {
        "format_version": FORMAT_VERSION,
        "image_shape": list(data.dataset.info.image_shape),
        **count_training(data.dataset, data.training, config),
        **({"hashes": hash_sets(sets, key)} if key else {}),
        **({"left_out": left_out} if left_out else {}),
    }


def count_training(dataset: PreparedDataset, plan: TrainingPlan, config: TrialConfig) -> dict[str, Any]:
    """Return size, counts by group and label, and the minority of a training set."""
    label, groups = config.dataset.label, config.dataset.groups
    codes = [dataset.codes(name)[plan.rows] for name in (*groups, label)]
    distinct, counts = np.unique(np.stack(codes, axis=1), axis=0, return_counts=True)
    rows = [
        {**dict(zip(map(group_column, groups), row[:-1], strict=True)), "label": row[-1], "count": count}
        for row, count in zip(distinct.tolist(), counts.tolist(), strict=True)
    ]
    return {"size": len(plan), "counts": rows, "minority": minority_of(dataset, config, plan)}


def hash_sets(sets: Mapping[str, NDArray[np.int64]], key: bytes) -> dict[str, str]:
    """Return a keyed hash of each set of ids, 32 hexadecimal digits; their order does not matter.

    Trials of one sweep have a set in common where its hashes are equal. Without the key a hash says nothing, so that
    nobody can try candidates for ids that were erased.
    """
    contents = {name: np.sort(ids).astype("<i8").tobytes() for name, ids in sets.items()}
    return {name: hashlib.blake2b(content, key=key, digest_size=16).hexdigest() for name, content in contents.items()}


def _halved(choice: FeedChoice) -> FeedChoice:
    """For two feeds of one trial: the limits are the trial's."""
    limits = choice.limits
    half = {
        "memory_bytes": max(1, limits.memory_bytes // 2),
        "scratch_bytes": limits.scratch_bytes // 2,
    }
    return replace(choice, limits=limits.model_copy(update=half))


def minority_of(dataset: PreparedDataset, config: TrialConfig, plan: TrainingPlan) -> dict[str, Any] | None:
    """Return the values that the imbalance makes rare, and how many training examples have one of them."""
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


@functools.lru_cache(maxsize=4)
def _open_once(path: Path, _changed: int) -> PreparedDataset:
    return PreparedDataset.open(path)
