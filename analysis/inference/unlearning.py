"""Cost and effect of unlearning by group: tables over the requests that trials served."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from fairsweep.analysis.records.cell_records import group_column
from fairsweep.analysis.records.file_names import COST, PLACEMENT
from fairsweep.analysis.records.trial_folder import TrialFolder
from fairsweep.analysis.results.results import SweepResults

_WORK = ("examples", "steps", "seconds", "bytes")
PLACEMENT_COLUMNS = ("trial", "learner", "shard", "slice", "count", "deleted")
REQUEST_COLUMNS = (
    *("trial", "learner", "series", "replicate", "number", "iteration", "asked", "deleted", "affected_shards"),
    *_WORK,
    *(f"full_{name}" for name in _WORK),
    "speedup",
)


def requests(results: SweepResults) -> pd.DataFrame:
    """Return the requests that trials served, one row per request.

    Returns:
        The columns `REQUEST_COLUMNS`: ``asked`` ids of which ``deleted`` were new, ``affected_shards``, what it cost
        (``examples`` with repetition, ``steps``, ``seconds`` of training summed over shards, ``bytes`` of checkpoints),
        the same for training everything again (``full_…``; its seconds are an estimate), and ``speedup``, the ratio of
        the examples (NaN where nothing was trained). ``iteration`` is the one after the request, 0 for one that was
        served when the trial had ended.
    """
    found = results.read_each(_forgetful(results), COST, lambda folder: folder.cost)
    rows = [_request_row(trial, entry) for trial, cost in found.items() for entry in cost.get("requests", [])]
    frame = pd.DataFrame(rows, columns=[name for name in REQUEST_COLUMNS if name not in _OF_TRIAL])
    return frame.merge(results.trials[["trial", *_OF_TRIAL]], on="trial", how="left")[list(REQUEST_COLUMNS)]


def placements(results: SweepResults, by: str | Sequence[str]) -> pd.DataFrame:
    """Return the shard placement, one row per trial, shard, slice and group.

    Args:
        results: the sweep.
        by: an attribute of ``examples.parquet``, or several.

    Returns:
        Columns ``trial``, ``learner``, ``shard``, ``slice`` (both from 1), one for each attribute (names of the
        sweep's groups and label, else codes; ``group:count`` for one called ``count``, see
        `fairsweep.analysis.records.cell_records.group_column`), ``count`` at the start and ``deleted`` of them.

    Raises:
        ValueError: if the sweep has no ``examples.parquet``, or it lacks an attribute.
    """
    names = [by] if isinstance(by, str) else list(by)
    examples = results.examples
    if examples is None or not {"id", *names} <= set(examples.column_names):
        known = [] if examples is None else examples.column_names
        raise ValueError(f"examples.parquet must have the columns {names}, but has {known}: name one of these")
    own = {name: group_column(name, PLACEMENT_COLUMNS) for name in names}
    attributes = examples.select(["id", *names]).to_pandas().rename(columns=own)
    found = results.read_each(_forgetful(results), PLACEMENT, TrialFolder.placement)
    parts = []
    for trial, table in found.items():
        joined = table.to_pandas().merge(attributes, on="id", how="left")
        grouped = joined.groupby(["shard", "slice", *own.values()])["deleted"].agg(["size", "sum"]).reset_index()
        parts.append(grouped.rename(columns={"size": "count", "sum": "deleted"}).assign(trial=trial))
    columns = ["trial", "shard", "slice", *own.values(), "count", "deleted"]
    frame = pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)
    for name in set(names) & set(results.all_cells.vocabularies):
        values = np.array(results.vocabulary(name).values, object)
        frame[own[name]] = values[frame[own[name]].to_numpy(np.int64)]
    return frame.merge(results.trials[["trial", "learner"]], on="trial", how="left")[["trial", "learner", *columns[1:]]]


def along_requests(results: SweepResults, metrics: Sequence[str], by: str) -> pd.DataFrame:
    """Return the rates and disparities after each request, with its number; 0 is the model before the first.

    Args:
        results: the sweep.
        metrics: names in `fairsweep.analysis.METRICS`.
        by: a group attribute.

    Returns:
        The rows of `SweepResults.frame` at these iterations, with the column ``request``.
    """
    served = requests(results)
    served = served[served["iteration"] > 0][["trial", "iteration", "number"]].rename(columns={"number": "request"})
    before = served[served["request"] == 1].assign(iteration=lambda rows: rows["iteration"] - 1, request=0)
    numbers = pd.concat([before, served], ignore_index=True)
    frame = results.frame(list(metrics), by=by, at="all")
    return frame.merge(numbers, on=["trial", "iteration"], how="inner")


_OF_TRIAL = ("learner", "series", "replicate")


def _forgetful(results: SweepResults) -> list[TrialFolder]:
    return [folder for folder in results.folders if folder.kind == "sisa"]


def _request_row(trial: str, entry: dict[str, Any]) -> dict[str, Any]:
    row = {"trial": trial, "affected_shards": len(entry["shards"])}
    row |= {name: entry[name] for name in ("number", "iteration", "asked", "deleted", *_WORK)}
    row |= {f"full_{name}": entry["full"][name] for name in _WORK}
    speedup = entry["full"]["examples"] / entry["examples"] if entry["examples"] else float("nan")
    return row | {"speedup": speedup}
