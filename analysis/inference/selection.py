"""Model selection by validation means over replicates, reported on test.

Settings are selected, never single trials: a lucky seed is no property of a method. The best result on a split is
optimistically biased there, so it is reported on another split, or corrected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from fairsweep.analysis.metrics.catalogue import METRICS, resolve
from fairsweep.analysis.metrics.rates import Floats
from fairsweep.analysis.results.replicates import average
from fairsweep.analysis.statistics.bootstrap_draws import keyed_generator

if TYPE_CHECKING:
    from fairsweep.analysis.results.results import SweepResults
    from fairsweep.analysis.results.sweep_frames import At

Direction = Literal["higher", "lower"]
_KEYS = ["learner", "series", "setting", "level", "epsilon"]


def settings_table(
    results: SweepResults,
    metrics: Sequence[str],
    *,
    by: str | Sequence[str] = (),
    at: At = "last",
    states: Sequence[str] | None = ("done",),
) -> pd.DataFrame:
    """Return one row per setting: the means of some metrics over replicates, on validation and on test.

    Args:
        results: the sweep.
        metrics: rates and scores of all examples together, and disparities between the groups of ``by``.
        by: the groups that disparities compare.
        at: see `SweepResults.evaluations`.
        states: see `SweepResults.evaluations`.

    Returns:
        ``learner``, ``series``, ``setting``, ``level``, ``epsilon``, ``replicates``, ``seconds`` (mean over replicates,
        a cost), ``collapsed`` (in how many replicates the model predicts one class for every validation example,
        see `SweepResults.collapsed`), and for each metric ``validation NAME``, ``test NAME``, ``test NAME low``, ``test
        NAME high`` and ``test NAME n`` (images behind it, of a disparity those of the smallest group).
    """
    known = {name: resolve(name, results.classes).name for name in metrics}
    whole = [name for name in metrics if name.split("[")[0] not in _disparities()]
    between = [name for name in metrics if name not in whole]
    table: pd.DataFrame | None = None
    for split in ("validation", "test"):
        parts = [results.rates(whole, by=(), split=split, at=at, states=states)] if whole else []
        if between:
            parts.append(
                results.disparities(between, by=by, split=split, at=at, states=states, expected_if_equal=False)
            )
        means = average(pd.concat(parts, ignore_index=True), results=results)
        if table is None:
            table = means.drop_duplicates("setting")[[*_KEYS, "replicates"]].reset_index(drop=True)
        for name in metrics:
            mine = means[means["metric"].astype(str) == known[name]].set_index("setting")
            columns = {f"{split} {name}": "value"}
            if split == "test":
                columns |= {f"test {name} low": "low", f"test {name} high": "high", f"test {name} n": "n_min"}
            for column, source in columns.items():
                table[column] = mine[source].reindex(table["setting"]).to_numpy()
    if table is None:
        raise ValueError("metrics must name at least one metric, but are empty")
    seconds = results.trials.groupby("setting")["seconds"].mean()
    runs = results.collapsed(split="validation", at=at, states=states)["setting"].astype(str).value_counts()
    collapsed = runs.reindex(table["setting"].astype(str), fill_value=0).to_numpy(np.int64)
    return table.assign(seconds=seconds.reindex(table["setting"]).to_numpy(), collapsed=collapsed)


def _disparities() -> frozenset[str]:
    from fairsweep.analysis.metrics.disparities import DISPARITIES

    return frozenset(DISPARITIES)


def direction_of(column: str) -> Direction:
    """Return which direction of a column of `settings_table` is good; ε and seconds are costs.

    Raises:
        ValueError: for a metric without a direction.
    """
    name = column.removeprefix("validation ").removeprefix("test ").split("[")[0]
    better = METRICS[name].better if name in METRICS else "lower"
    if better == "none":
        raise ValueError(f"{name} has no better direction; give one, such as a disparity of it")
    return better


def best_setting(
    table: pd.DataFrame,
    maximise: str,
    *,
    subject_to: Mapping[str, tuple[Literal["<=", ">="], float]] | None = None,
) -> pd.Series[float]:
    """Return the best setting by a validation mean, among those whose validation means meet the constraints.

    A setting of which a replicate has collapsed is the best only where all have: its gap between groups is 0 for
    nothing that it has learnt.

    Args:
        table: of `settings_table`.
        maximise: a column, such as ``validation accuracy``; one for which lower is better is minimised.
        subject_to: column -> comparison and bound: ``{"epsilon": ("<=", 3), "validation accuracy_difference": ("<=",
            0.05)}``.

    Returns:
        The row; its test columns are the report.

    Raises:
        ValueError: if a column is of the test split, or no setting meets the constraints.
    """
    constraints = subject_to or {}
    leaks = [column for column in (maximise, *constraints) if column.startswith("test ")]
    if leaks:
        raise ValueError(f"selection must not see the test split, but uses {leaks}; take the validation columns")
    meets = np.isfinite(table[maximise].to_numpy(np.float64))
    for column, (comparison, bound) in constraints.items():
        values = table[column].to_numpy(np.float64)
        meets &= values <= bound if comparison == "<=" else values >= bound
    if not meets.any():
        raise ValueError(f"no setting meets {dict(constraints)}; loosen one, or look at pareto_front")
    if "collapsed" in table:
        sound = meets & (table["collapsed"] == 0).to_numpy()
        meets = sound if sound.any() else meets
    values = table[maximise].to_numpy(np.float64) * (1 if direction_of(maximise) == "higher" else -1)
    return table.iloc[int(np.argmax(np.where(meets, values, -np.inf)))]


def pareto_front(table: pd.DataFrame, columns: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Return which settings are on the Pareto front of some columns.

    Args:
        table: of `settings_table`.
        columns: such as ``validation accuracy``, ``validation accuracy_difference``, ``epsilon``, ``seconds``; their
            directions are those of `direction_of`.

    Returns:
        bool, one a row; settings with an undefined value are not on the front.
    """
    values = _costs(table, columns)
    no_worse = (values[:, None] <= values[None]).all(-1)
    beaten = (no_worse & (values[:, None] < values[None]).any(-1)).any(0)
    return np.asarray(~beaten & ~np.isnan(values).any(1))


def distance_to_ideal(table: pd.DataFrame, columns: Sequence[str]) -> Floats:
    """Euclidean distance of each setting from the best value of every column, each on the scale of its range.

    A setting that is best in all has 0. Infinite ε is as far from the least as a range is long, also where one finite
    value is all there is.

    References:
        Zong et al. 2023, arXiv 2210.01725, section 3.3 (DTO); Han et al. 2022, arXiv 2205.01876 (fairlib).
    """
    costs = _costs(table, columns)
    finite = np.where(np.isinf(costs), np.nan, costs)
    most, least = np.nanmax(finite, axis=0), np.nanmin(finite, axis=0)
    scaled = (costs - least) / np.where(most > least, most - least, 1)
    return np.asarray(np.sqrt(np.square(np.where(np.isposinf(costs), 1.0, scaled)).sum(1)))


def _costs(table: pd.DataFrame, columns: Sequence[str]) -> Floats:
    """Return the columns as costs, float64 [settings, columns]: lower is better."""
    signs = np.array([1.0 if direction_of(column) == "lower" else -1.0 for column in columns])
    return np.asarray(table[list(columns)].to_numpy(np.float64) * signs)


@dataclass(frozen=True)
class CorrectedWinner:
    """Bias-corrected value of the best setting when selection and reporting share a split.

    Attributes:
        winner: position of the best setting.
        naive: its value there, optimistically biased (winner's curse).
        corrected: the mean out-of-sample value of whichever setting wins in a resample.
        low: percentile bound of the value of such a run.
        high: likewise.
    """

    winner: int
    naive: float
    corrected: float
    low: float
    high: float


def corrected_winner(
    outcomes: npt.ArrayLike,
    *,
    users: npt.ArrayLike | None = None,
    draws: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> CorrectedWinner:
    """Correct the value of the best of several settings for having been chosen on the runs and images that report it.

    Images are resampled and one replicate is left out: the setting that wins with the others on the images drawn is
    scored by the replicate left out on the images not drawn. So luck of training is corrected like luck of images; it
    is that of a choice by one replicate less than there are.

    Args:
        outcomes: value of each setting and replicate on each image, higher is better, float [settings, replicates, N].
        users: user of each image, int [N], drawn whole.
        draws: number of resamples.
        seed: of the draws.
        confidence: of the percentile interval.

    Raises:
        ValueError: with fewer than two replicates, which do not show how lucky the winner's training was.

    References:
        Tsamardinos, Greasidou & Borboudakis 2018, doi 10.1007/s10994-018-5714-4 (BBC-CV).
    """
    values = np.asarray(outcomes, np.float64)
    if values.ndim != 3 or values.shape[1] < 2:
        raise ValueError(
            "outcomes must be [settings, replicates, images] with at least two replicates, but have the shape "
            f"{values.shape}: one run does not show how lucky the winner's training was; add seeds"
        )
    settings, replicates, size = values.shape
    place = np.arange(size) if users is None else np.unique(np.asarray(users), return_inverse=True)[1]
    units = int(place.max()) + 1
    generator = keyed_generator("winner", seed, values.shape)
    weights = generator.multinomial(units, np.full(units, 1 / units), draws)[:, place].astype(np.float64)
    weights = weights[(weights == 0).any(1)]
    flat = values.reshape(-1, size).T
    shape = (len(weights), settings, replicates)
    left = (weights == 0).astype(np.float64)
    inside = (weights @ flat / weights.sum(1, keepdims=True)).reshape(shape)
    outside = (left @ flat / left.sum(1, keepdims=True)).reshape(shape)
    held = generator.integers(0, replicates, len(weights))
    draw = np.arange(len(weights))
    chosen = (inside.sum(-1) - inside[draw, :, held]).argmax(1)
    won = outside[draw, chosen, held]
    values = values.mean(1)
    winner = int(values.mean(1).argmax())
    low, high = np.quantile(won, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return CorrectedWinner(winner, float(values[winner].mean()), float(won.mean()), float(low), float(high))
