"""Results of the predictions of any other program: written as records, then opened as a sweep's."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from fairsweep.analysis.records.cell_records import count_cells, write_cells
from fairsweep.analysis.records.file_names import (
    CELLS,
    CONFIG,
    DATA,
    EXAMPLES,
    PREDICTIONS,
    STATE,
    SWEEP_JSON,
    TRAINING,
    TRIALS,
)
from fairsweep.analysis.records.files import FORMAT_VERSION, write_json
from fairsweep.analysis.records.prediction_records import predictions_table, write_examples, write_predictions
from fairsweep.analysis.records.training_records import training_table, write_training
from fairsweep.analysis.records.vocabularies import Vocabulary
from fairsweep.analysis.results.results import SweepResults, load

Codes = npt.NDArray[np.int64]
Groups = Mapping[str, npt.ArrayLike] | pd.DataFrame
_NAMES = frozenset({"id", "image", "split", "user", "source_path"})
_TOTAL = 1e-3


def from_predictions(
    y_true: npt.ArrayLike,
    y_pred: npt.ArrayLike | None = None,
    groups: Groups | None = None,
    *,
    probabilities: npt.ArrayLike | None = None,
    classes: tuple[Any, ...] | None = None,
    example: npt.ArrayLike | None = None,
    user: npt.ArrayLike | None = None,
    trial: npt.ArrayLike | str = "predictions",
    learner: npt.ArrayLike | str | None = None,
    seed: npt.ArrayLike | int | None = None,
    label: str = "label",
    name: str = "predictions",
    unit: str = "example",
    to: str | Path | None = None,
    min_group_size: int | None = None,
) -> SweepResults:
    """Return results of test predictions that any program has made, of one or several trained models.

    All rates, disparities, intervals, comparisons, plots and the report are then those of a sweep.

    Args:
        y_true: true classes, [N], any values.
        y_pred: predicted classes, [N]. They count as certain: AUC is that of hard labels, and log loss is infinite
            where one is wrong.
        groups: for each attribute the group of each row, [N] each.
        probabilities: instead of ``y_pred``: float [N, K], in the order of ``classes``; of two classes also [N], of the
            second. The likeliest class is the prediction.
        classes: of the label; default those of ``y_true`` (and ``y_pred``) in ascending order.
        example: which example a row is of, [N] integers, so that trials are compared on the same ones; default: each
            trial has the same examples in the same order.
        user: which person an example is of, [N]; people are resampled as one.
        trial: which trained model a row is of, [N]; or one name.
        learner: which method the trial is a run of, [N] or one name; default the trial's own name.
        seed: of the trial, [N] or one: runs of two learners with one seed are paired. Default: the runs of each learner
            are numbered.
        label: what is predicted.
        name: of the results.
        unit: what a row of one trial is, in the singular: ``patient``; sentences count these.
        to: folder to write the records to, which then is a sweep's for every command; default one that is removed when
            the results are no longer used.
        min_group_size: see `fairsweep.analysis.load`.

    Raises:
        ValueError: if lengths differ, or something contradicts itself.

    >>> results = from_predictions([0, 1, 1, 0], [0, 1, 0, 0], {"tone": ["light", "light", "dark", "dark"]})
    >>> results.rates(["accuracy"], by="tone")["value"].tolist()
    [0.5, 1.0]
    """
    rows = _Rows.of(y_true, y_pred, groups, probabilities, classes, label)
    size = len(rows.label)
    trials = _column("trial", trial, size)
    ids = _examples(example, trials)
    examples = _check_examples(rows, ids, None if user is None else _codes(_column("user", user, size))[0])
    learners = trials if learner is None else _column("learner", learner, size)
    seeds = None if seed is None else _column("seed", seed, size)
    folder = Path(tempfile.mkdtemp(prefix="fairsweep-") if to is None else to)
    if to is not None and folder.exists() and any(folder.iterdir()):
        raise ValueError(f"to must be a new or an empty folder, but {folder} has files")
    (folder / TRIALS).mkdir(parents=True)
    write_examples(folder / EXAMPLES, examples)
    runs = _runs(trials, learners, seeds)
    dataset: dict[str, Any] = {
        "name": name,
        "path": "",
        "content_hash": _hash(*ids[:100], *rows.label[:100], size),
        "label": label,
        "unit": unit,
    }
    dataset |= {"groups": list(rows.groups)}
    for run in runs:
        inside = trials == run.name
        _write_trial(folder / TRIALS / f"{run.file_name}", run, rows.at(inside), ids[inside], dataset)
    listed = [{"name": one} for one in dict.fromkeys(run.learner for run in runs)]
    described = {"format_version": FORMAT_VERSION, "name": name, "trials": len(runs), "dataset": dataset}
    write_json(folder / SWEEP_JSON, described | {"sweep": {"learners": listed}})
    results = load(folder, min_group_size=min_group_size)
    if to is None:
        weakref.finalize(results, shutil.rmtree, folder, ignore_errors=True)
    return results


@dataclass(frozen=True)
class _Rows:
    """Rows in codes.

    Attributes:
        label: int64 [N].
        log_p: float64 [N, K].
        groups: codes of each attribute, int64 [N].
        vocabularies: of the attributes and the label.
        name: of the label.
    """

    label: Codes
    log_p: npt.NDArray[np.float64]
    groups: dict[str, Codes]
    vocabularies: tuple[Vocabulary, ...]
    name: str

    @classmethod
    def of(
        cls,
        y_true: npt.ArrayLike,
        y_pred: npt.ArrayLike | None,
        groups: Groups | None,
        probabilities: npt.ArrayLike | None,
        classes: tuple[Any, ...] | None,
        name: str,
    ) -> _Rows:
        if (y_pred is None) == (probabilities is None):
            raise ValueError("give y_pred or probabilities, and not both: the likeliest class is the prediction")
        truth = pd.Series(np.asarray(y_true))
        predicted = truth[:0] if y_pred is None else pd.Series(np.asarray(y_pred))
        if y_pred is not None and len(predicted) != len(truth):
            raise ValueError(f"y_pred must have one entry for each of {len(truth)} of y_true, but has {len(predicted)}")
        values = list(classes) if classes is not None else _ascending(pd.concat([truth, predicted]))
        label, prediction = (_places(what, part, values) for what, part in (("y_true", truth), ("y_pred", predicted)))
        log_p = _hard(prediction, len(values)) if probabilities is None else _logarithms(probabilities, truth, values)
        found, vocabularies = {}, []
        for attribute, column in (groups if groups is not None else {}).items():
            if str(attribute) in _NAMES or str(attribute) == name:
                raise ValueError(f"a group must have a name of its own, but is called {attribute!r}")
            found[str(attribute)], words = _codes(_column(str(attribute), column, len(truth)))
            vocabularies.append(Vocabulary(str(attribute), words))
        known = (*vocabularies, Vocabulary(name, tuple(str(value) for value in values)))
        return cls(label, log_p, found, known, name)

    def at(self, chosen: npt.NDArray[np.bool_]) -> _Rows:
        """Return some of the rows."""
        groups = {attribute: codes[chosen] for attribute, codes in self.groups.items()}
        return _Rows(self.label[chosen], self.log_p[chosen], groups, self.vocabularies, self.name)


@dataclass(frozen=True)
class _Run:
    """One trained model: its name, its learner, the seed and number of its replicate."""

    name: str
    learner: str
    seed: int
    replicate: int

    @property
    def file_name(self) -> str:
        """Return the name of its folder."""
        plain = "".join(one if one.isalnum() or one in "._-=" else "_" for one in self.name).lstrip(".")
        return plain if plain == self.name else f"{plain}-{_hash(self.name)[:8]}"


def _ascending(values: pd.Series) -> list[Any]:
    """Return the distinct values, ascending."""
    return sorted(pd.unique(values.dropna()).tolist())


def _column(what: str, values: npt.ArrayLike | str | int, size: int) -> npt.NDArray[Any]:
    """Return one value for each row."""
    array = np.asarray(values)
    array = np.repeat(array, size) if array.ndim == 0 else array
    if array.shape != (size,):
        raise ValueError(f"{what} must have one entry for each of {size} rows, but has the shape {list(array.shape)}")
    if pd.isna(array).any():
        raise ValueError(f"{what} must be known for every row, but is missing in {int(pd.isna(array).sum())}")
    return array


def _codes(column: npt.NDArray[Any]) -> tuple[Codes, tuple[str, ...]]:
    """Return the codes of values, and their names, ascending."""
    values = _ascending(pd.Series(column))
    return _places("groups", pd.Series(column), values), tuple(str(value) for value in values)


def _places(what: str, values: pd.Series, known: list[Any]) -> Codes:
    places = pd.Index(known).get_indexer(pd.Index(values))
    if (places < 0).any():
        raise ValueError(f"{what} must be among {known}, but holds {values[places < 0].iloc[0]!r}")
    return np.asarray(places, np.int64)


def _hard(prediction: Codes, classes: int) -> npt.NDArray[np.float64]:
    certain = np.full((len(prediction), classes), -np.inf)
    certain[np.arange(len(prediction)), prediction] = 0
    return certain


def _logarithms(probabilities: npt.ArrayLike, truth: pd.Series, classes: list[Any]) -> npt.NDArray[np.float64]:
    given = np.asarray(probabilities, np.float64)
    rows, of_two = len(truth), len(classes) == 2
    p = np.stack([1 - given, given], 1) if given.ndim == 1 and of_two else given
    if p.shape != (rows, len(classes)):
        raise ValueError(
            f"probabilities must have the shape [{rows}, {len(classes)}], a row for each of y_true and a column for "
            f"each of the classes {classes}{f', or [{rows}], those of {classes[1]!r}' if of_two else ''}, but have the "
            f"shape {list(given.shape)}; name the classes with classes="
        )
    wrong = ~((p >= 0).all(1) & (np.abs(p.sum(1) - 1) <= _TOTAL))
    if wrong.any():
        raise ValueError(
            "probabilities must be in [0, 1], and those of a row add up to 1, but row "
            f"{np.argmax(wrong)} is {given[wrong][0]}"
        )
    with np.errstate(divide="ignore"):
        return np.log(p)


def _examples(example: npt.ArrayLike | None, trials: npt.NDArray[Any]) -> Codes:
    """Return the id of each row's example."""
    if example is None:
        return np.asarray(pd.Series(trials).groupby(trials).cumcount(), np.int64)
    ids = _column("example", example, len(trials))
    if ids.dtype.kind not in "iu" or (ids < 0).any():
        raise ValueError("example must be integers of at least 0; number your examples")
    if pd.DataFrame({"trial": trials, "id": ids}).duplicated().any():
        raise ValueError("each example must stand once in a trial, but one stands twice; tell trials apart with trial=")
    return ids.astype(np.int64)


def _check_examples(rows: _Rows, ids: Codes, user: Codes | None) -> pa.Table:
    """Return ``examples.parquet``; each example must be the same in all trials."""
    columns = {"id": ids, **rows.groups, rows.name: rows.label} | ({} if user is None else {"user": user})
    distinct = pd.DataFrame(columns).drop_duplicates()
    again = distinct["id"].duplicated()
    if again.any():
        raise ValueError(
            "an example must have one label, group and user in all trials, but number "
            f"{int(distinct['id'][again].iloc[0])} has several; say with example= which rows are of one example"
        )
    distinct = distinct.sort_values("id").astype(dict.fromkeys((*rows.groups, rows.name), np.int16))
    distinct.insert(1, "split", "test")
    return pa.Table.from_pandas(distinct, preserve_index=False).cast(
        pa.schema(
            [pa.field(n, pa.string() if n == "split" else pa.from_numpy_dtype(distinct[n].dtype)) for n in distinct]
        )
    )


def _runs(trials: npt.NDArray[Any], learners: npt.NDArray[Any], seeds: npt.NDArray[Any] | None) -> list[_Run]:
    """Return the trials, in the order of their first rows."""
    columns = {"trial": trials, "learner": learners} | ({} if seeds is None else {"seed": seeds})
    table = pd.DataFrame(columns).drop_duplicates()
    if table["trial"].duplicated().any():
        name = table["trial"][table["trial"].duplicated()].iloc[0]
        raise ValueError(
            f"a trial must be of one learner and one seed, but {name!r} has several: tell trials apart by trial="
        )
    number = table.groupby("learner").cumcount()
    seed = number if seeds is None else table["seed"]
    columns_of = (table["trial"], table["learner"], seed, number)
    return [_Run(str(one), str(learner), int(s), int(n)) for one, learner, s, n in zip(*columns_of, strict=True)]


def _write_trial(place: Path, run: _Run, rows: _Rows, ids: Codes, dataset: Mapping[str, Any]) -> None:
    """Write the records of one trial."""
    place.mkdir()
    prediction = rows.log_p.astype(np.float32).argmax(1)
    config = {
        "format_version": FORMAT_VERSION,
        "learner": {"name": run.learner, "kind": "imported", "twin_of": None},
        "model": {"name": "imported"},
        "imbalance": None,
        "dataset": dict(dataset),
        "evaluation": {},
        "seeds": {"data": run.seed, "train": run.seed},
        "replicate": run.replicate,
        "mode": "research",
        "setting": _hash(run.learner),
        "trial": _hash(run.learner, run.name),
    }
    write_json(place / CONFIG, config)
    common = {"iteration": 1, "split": "test", "label": rows.label, "prediction": prediction}
    write_cells(place / CELLS, count_cells(groups=rows.groups, **common), rows.vocabularies, rows.name)
    write_predictions(place / PREDICTIONS, predictions_table(ids=ids, log_probabilities=rows.log_p, **common))
    write_training(place / TRAINING, training_table([{"iteration": 1, "loss": None, "seconds": 0.0, "examples": None}]))
    write_json(place / DATA, {"format_version": FORMAT_VERSION, "size": None, "counts": [], "hashes": {}})
    state = {"trial": config["trial"], "state": "done", "attempt": 1, "iteration": 1, "iterations": 1, "seconds": 0.0}
    write_json(place / STATE, {"format_version": FORMAT_VERSION, **state, "error": None})


def _hash(*parts: object) -> str:
    return hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).hexdigest()
