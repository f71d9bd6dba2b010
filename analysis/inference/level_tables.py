"""One metric of one learner as a table of replicates x levels, with resampled test images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fairsweep.analysis.metrics.catalogue import METRICS
from fairsweep.analysis.metrics.rates import Counts, Floats, Rate
from fairsweep.analysis.results.crossed_resampling import resample
from fairsweep.analysis.results.imbalance_design import design_of
from fairsweep.analysis.results.outcome_table import OutcomeTable, is_of_images
from fairsweep.analysis.statistics.bootstrap_draws import keyed_generator
from fairsweep.analysis.statistics.effects import Effect, effect_of_resamples, effect_of_values
from fairsweep.analysis.statistics.variance_components import ReplicateSeeds

if TYPE_CHECKING:
    from fairsweep.analysis.results.results import SweepResults
    from fairsweep.analysis.results.sweep_frames import At


_SEEDS = ["data_seed", "train_seed"]
TRAINING_SEED = "training seed"
TRAINING_PARTS = {"order": "order of examples", "init": "initial weights", "noise": "privacy noise"}
"""What is redrawn where the training seed stays, by the seed of a trial's config."""


@dataclass(frozen=True)
class LevelTable:
    """Values of S replicates at L levels, in the order of the levels.

    Attributes:
        metric: its name.
        group: the group, ``all`` for all examples.
        over: what the levels are.
        levels: as a number where all are numbers, else as text, [L].
        minority: rare training images at each level, float64 [L]; NaN where unknown.
        values: float64 [S, L].
        n: count behind each value, int64 [S, L].
        seeds: of the replicates.
        noise: what resampled test images add to each value, centred, float64 [B, S, L]; NaN where unknown.
        same_images: whether all values come from the same test images, resampled alike.
        own_images: whether each value has test images of its own. If neither, that is unknown.
        training: what differs between training seeds, such as the initial weights alone.
        exact: gives `effect` from the outcomes on each image, if they are known and the metric is their mean.
        unit: the noun of what is predicted.
    """

    metric: str
    group: str
    over: str
    levels: tuple[object, ...]
    minority: Floats
    values: Floats
    n: Counts
    seeds: ReplicateSeeds
    noise: Floats
    same_images: bool
    own_images: bool = True
    training: str = TRAINING_SEED
    exact: Callable[[Floats], Effect] | None = None
    unit: str = "image"

    def effect(self, coefficients: Floats) -> Effect | None:
        """Return a weighted sum over the levels, paired by seed.

        Of test images that trials may share, with unknown outcomes, the error counts as that of separate images: it is
        at most that if outcomes agree. Where that is unknown too, so is the effect.

        Args:
            coefficients: of the levels, float64 [L].

        Returns:
            None if the error of the test images cannot be known.
        """
        if self.exact is not None:
            return self.exact(coefficients)
        values, used = self.values @ coefficients, coefficients != 0
        images = int(self.n[:, used].min())
        noise = self.noise[..., used] @ coefficients[used]
        is_rate = isinstance(METRICS.get(self.metric.split("[")[0]), Rate)
        weight = float(np.abs(coefficients).max()) / max(images, 1) if is_rate else 0.0
        if self.same_images:
            return effect_of_resamples(values, noise, self.seeds, weight=weight, images=images)
        if self.own_images and len(values) > 1:
            return effect_of_values(values, self.seeds, images=images)
        if not np.isfinite(noise).all():
            return None
        of_images = float(noise.var(0).mean()) + weight**2
        return effect_of_values(values, self.seeds, of_images=of_images, images=images, image_df=max(images - 1, 1))


def table_of_frame(
    frame: pd.DataFrame, metric: str, over: str, *, group: str | None = None, draws: int = 2000, seed: int = 0
) -> LevelTable:
    """Make the table from a tidy table of one learner: ``metric``, ``group``, ``value``, ``n`` and the levels.

    ``data_seed`` and ``train_seed`` say how seeds were varied; without them ``replicate`` ties both. Each value's test
    images are taken as its own (binomial around the mean of its level), for a tidy table does not say which they were.

    Args:
        frame: the table; other metrics and groups are left out.
        metric: its name.
        over: column of the levels.
        group: which group; needed where the table has several.
        draws: of the test images' error.
        seed: of the draws.

    Raises:
        ValueError: if a column is missing, or one replicate has two values at one level.
    """
    missing = {"metric", "group", "value", "n", over} - set(frame)
    if missing:
        raise ValueError(
            f"the table must have the columns metric, group, value, n and {over}, but lacks {sorted(missing)}"
        )
    rows = frame[(frame["metric"] == metric) & np.isfinite(frame["value"].to_numpy(np.float64)) & frame[over].notna()]
    groups = rows["group"].unique().tolist()
    if group is None and len(groups) > 1:
        raise ValueError(f"group must be one of {groups}, but none was given")
    rows = rows[rows["group"] == (group or groups[0])] if groups else rows
    table = _spread(rows, metric, over, group or (groups[0] if groups else "all"))
    generator = keyed_generator("fluctuations", seed, metric, table.group)
    row = METRICS.get(metric.split("[", maxsplit=1)[0])
    if isinstance(row, Rate):
        level_rate = (table.values * table.n).sum(0) / np.maximum(table.n.sum(0), 1)
        rate = np.broadcast_to(level_rate, table.values.shape)
        noise = generator.binomial(table.n, rate, (draws, *table.n.shape)) / np.maximum(table.n, 1) - rate
        return replace(table, noise=noise)
    return table


def table_of_results(
    results: SweepResults,
    metric: str,
    over: str,
    *,
    by: str | Sequence[str] = (),
    group: str | None = None,
    learner: str | None = None,
    split: str = "test",
    at: At = "last",
    draws: int = 1000,
    seed: int = 0,
) -> LevelTable:
    """Make the table from a sweep, with the same resamples of test images in all trials where predictions allow it.

    Args:
        results: the sweep.
        metric: a name in `METRICS`.
        over: ``share``, or another column of ``results.trials``.
        by: attribute whose group is looked at; empty for all examples, or the groups that a disparity compares.
        group: the group; of a disparity None.
        learner: a learner or series; needed where there are several.
        split: see `SweepResults.evaluations`.
        at: see `SweepResults.evaluations`.
        draws: of the test images; 0 draws none where `LevelTable.exact` is known.
        seed: of the draws.

    Raises:
        ValueError: if a choice is missing, or levels are not recorded.
    """
    frame = _rows_of(results, results.frame([metric], by=by, split=split, at=at), learner, over)
    table = table_of_frame(frame, metric, over, group=group, draws=draws, seed=seed)
    names_of = _names(frame, table, over)
    training = _training_source(results, set(names_of.ravel().tolist()))
    table = replace(table, training=training, unit=results.unit)
    if is_of_images(results, metric):
        named = names_of.ravel().tolist()
        grouping = by or design_of(results).attribute
        outcomes = OutcomeTable.of(results, grouping, metric, split=split, at=at, trials=named)
        weights = outcomes.weights(table.group)
        table = replace(table, exact=lambda each: outcomes.effect_of_trials(names_of, each, weights)[0])
        if not draws:
            return table
    drawn = resample(results, metric, names_of.ravel().tolist(), by=by, split=split, at=at, draws=draws, seed=seed)
    if drawn is None:
        return replace(table, own_images=False)
    place = list(results.all_cells.group_names((by,) if isinstance(by, str) else tuple(by)))
    column = place.index(table.group) if table.group in place else 0
    noise = np.stack([[drawn[name][:, column] for name in row] for row in names_of.tolist()])
    noise = np.moveaxis(noise, -1, 0)
    return replace(table, noise=noise - noise.mean(0), same_images=True, own_images=False)


def _rows_of(results: SweepResults, frame: pd.DataFrame, learner: str | None, over: str) -> pd.DataFrame:
    """Return the rows of the one learner or series that is meant, with the levels, seeds and counts of its trials."""
    trials = results.trials.set_index("trial")
    names = list(dict.fromkeys(trials.loc[frame["trial"].unique(), "series"]))
    chosen = [name for name in names if learner in (None, trials.loc[trials["series"] == name, "learner"].iloc[0])]
    chosen = [learner] if learner in names else chosen
    if len(chosen) != 1:
        raise ValueError(f"learner must name one of the series {names}, but {learner!r} fits {len(chosen)}")
    rows: pd.DataFrame = frame[frame["series"].astype(str) == chosen[0]].copy()
    for name in {over, "data_seed", "train_seed", "minority_count"}:
        if name not in trials:
            raise ValueError(f"over must be a column of the table of trials, such as level_value, but got {over!r}")
        rows[name] = trials[name].reindex(rows["trial"].astype(str)).to_numpy()
    return rows


def _training_source(results: SweepResults, trials: Collection[str]) -> str:
    """Return what some trials' training seeds redraw: all, or order, initial weights or noise alone."""
    seeds = [(folder.config or {}).get("seeds") or {} for folder in results.folders if folder.name in trials]
    varied = [name for name in ("train", *TRAINING_PARTS) if len({one.get(name) for one in seeds}) > 1]
    if not varied or "train" in varied:
        return TRAINING_SEED
    return " and ".join(TRAINING_PARTS[name] for name in varied)


def _spread(rows: pd.DataFrame, metric: str, over: str, group: str) -> LevelTable:
    """Return the replicates that have a value at every level; where none has, those that are first at each level."""
    rows = _with_seeds(rows)
    if rows.duplicated([*_SEEDS, over]).any():
        raise ValueError(
            f"each replicate must have one value of {metric} at each {over}; choose one learner and setting"
        )
    if rows[over].isna().all():
        raise ValueError(f"over must vary between trials, but none has a {over}; choose another column of the trials")
    wide = rows.pivot(index=_SEEDS, columns=over, values="value").sort_index(axis=1).dropna()
    if wide.empty:
        raise ValueError(f"no replicate has a value of {metric} at every {over}; finish the sweep, or leave levels out")
    kept = rows.set_index(_SEEDS).loc[wide.index].reset_index()
    n = kept.pivot(index=_SEEDS, columns=over, values="n")[wide.columns].to_numpy(np.int64)
    minority = np.full(wide.shape[1], np.nan)
    if "minority_count" in kept:
        minority = kept.groupby(over)["minority_count"].mean()[wide.columns].to_numpy(np.float64)
    seeds = ReplicateSeeds.of(*(wide.index.get_level_values(name).to_numpy(np.float64) for name in _SEEDS))
    values = wide.to_numpy(np.float64)
    unknown = np.full((1, *values.shape), np.nan)
    return LevelTable(metric, group, over, tuple(wide.columns), minority, values, n, seeds, unknown, False)


def _with_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with columns for their data and training seed; both the replicate if they are unknown."""
    if {"data_seed", "train_seed"} <= set(rows):
        return rows
    replicate = rows["replicate"].astype(float) if "replicate" in rows else pd.Series(0.0, rows.index)
    return rows.assign(data_seed=replicate, train_seed=replicate)


def _names(frame: pd.DataFrame, table: LevelTable, over: str) -> np.ndarray[tuple[int, int], np.dtype[np.object_]]:
    """Return the trial behind each value, [S, L]."""
    rows = _with_seeds(frame[(frame["group"] == table.group) & np.isfinite(frame["value"].to_numpy(np.float64))])
    wide = rows.pivot(index=_SEEDS, columns=over, values="trial").sort_index(axis=1).dropna()
    return np.array(wide.astype(str).to_numpy(), object)
