"""Comparison of two sweeps: matched settings, config changes, and differences in results by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from fairsweep.analysis.comparing.config_changes import config_changes
from fairsweep.analysis.comparing.matching import BOTH, SAME_TRIALS, UNPAIRED, Matching, match
from fairsweep.analysis.comparing.two_sweeps import A, B, TwoSweeps
from fairsweep.analysis.metrics.catalogue import resolve
from fairsweep.analysis.metrics.disparities import Disparity
from fairsweep.analysis.report.summary_table import DISPARITIES_SHOWN, is_defined
from fairsweep.analysis.results.differences import difference_rows
from fairsweep.analysis.results.replicates import average, average_of_tables
from fairsweep.analysis.results.results import SweepResults, load
from fairsweep.analysis.results.sweep_frames import At
from fairsweep.analysis.statistics.effects import Effect
from fairsweep.analysis.statistics.intervals import NORMAL_95, subtract
from fairsweep.analysis.verdicts.verdict import Finding, Question, decide
from fairsweep.analysis.wording import counted

_KEYS = ["setting", "attribute", "group", "metric"]
DIFFERENCE_COLUMNS = (
    "learner",
    "level",
    "setting",
    "attribute",
    "group",
    "metric",
    "a",
    "b",
    "difference",
    "low",
    "high",
    "replicates",
    "n_min",
    "pairing",
    "images",
    "verdict",
)
"""Columns of `SweepComparison.differences`.

``difference`` is b minus a with its 95% interval. ``replicates`` counts the pairs, or the fewer replicates of the two
where nothing pairs; ``pairing`` is that of `Matching`. ``images`` says whether the two saw the same test images and the
interval uses it (``paired``). ``verdict`` is ``different``, ``undecided`` or ``undefined``, corrected over all rows
(Holm); with one replicate it is undecided. Where all pairs are one trial with the same outcome it is ``equivalent``.
"""
_PLAIN = [name for name in DIFFERENCE_COLUMNS if name != "verdict"]
_ERRORS = ["seed_variance", "image_width"]


@dataclass(frozen=True)
class SweepComparison:
    """Result of `compare`; A is the earlier sweep, B the later one.

    Attributes:
        a: the first sweep.
        b: the second sweep.
        settings: see `fairsweep.analysis.comparing.matching.Matching`.
        trials: the pairs of trials: ``trial_a``, ``trial_b``, ``setting_b``, ``pairing``, and ``identical``: whether
            every cell of the last test evaluation has the same count.
        differences: one row per matched setting, group and metric; columns `DIFFERENCE_COLUMNS`.
        changes: see `fairsweep.analysis.comparing.config_changes.config_changes`.
    """

    a: SweepResults
    b: SweepResults
    settings: pd.DataFrame
    trials: pd.DataFrame
    differences: pd.DataFrame
    changes: pd.DataFrame

    def sentences(self) -> tuple[str, ...]:
        """Return a summary in sentences."""
        same = self.trials[self.trials["pairing"] == SAME_TRIALS]
        listed = []
        if len(same):
            equal = int(same["identical"].sum())
            text = f"{counted(len(same), 'trial')} {'is' if len(same) == 1 else 'are'} in both sweeps (same hash); "
            of_them = f"{'all' if equal == len(same) else equal} of them have"
            if len(same) == 1:
                of_them = "it has" if equal else "it does not have"
            listed.append(f"{text}{of_them} the same test counts to the last image.")
        seeds = len(self.trials) - len(same)
        if seeds:
            said = "shares its seeds and differs in its" if seeds == 1 else "share their seeds and differ in their"
            listed.append(f"{seeds:,} pair{'' if seeds == 1 else 's'} of trials {said} config.")
        where = self.settings["where"].value_counts()
        counts = [int(where.get(name, 0)) for name in ("both", "A", "B")]
        listed.append(f"Settings in both sweeps: {counts[0]}; only in A: {counts[1]}; only in B: {counts[2]}.")
        if not counts[0]:
            listed.append(
                "Nothing is compared: settings match by hash, else by learner, level and what a sweep varies; none did."
            )
        listed += self._left_out()
        # Where all pairs are identical there is nothing to tell from noise.
        known = self.differences[self.differences["low"] < self.differences["high"]]
        if len(known):
            different = int((known["verdict"] == "different").sum())
            listed.append(
                f"{different} of {len(known)} differences are statistically significant, corrected for their number "
                "(Holm): if nothing differed, any would be in at most one comparison of 20."
            )
        single = int((known["replicates"] < 2).sum())
        if single:
            which = "They all rest" if single == len(known) else f"{single} of them rest"
            listed.append(
                f"{which} on one replicate: the interval covers the test images alone, and what other seeds would show "
                "is unknown. More of them: fairsweep extend SWEEP --seeds 5, for both."
            )
        if self.changes.empty:
            listed.append(self.unchanged)
        return tuple(listed)

    @property
    def unchanged(self) -> str:
        """Return what is the same in both sweeps, where `changes` is empty."""
        shared = self.settings["where"] == BOTH
        configs = "Configs, data set" if shared.all() else "Configs of settings in both, data set"
        return f"{configs if shared.any() else 'Data set'}, versions and commit are the same."

    def _left_out(self) -> list[str]:
        """Return which learners are excluded, and why."""
        learners = self.settings.groupby("learner", sort=False)
        listed = []
        for side in ("A", "B"):
            alone = [str(name) for name, rows in learners if (rows["where"] == side).all()]
            if alone:
                listed.append(f"Not compared because only {side} has them: {', '.join(alone)}.")
        both = {str(name) for name, rows in learners if (rows["where"] == BOTH).any()}
        waiting = sorted(both - set(self.differences["learner"].astype(str)))
        if waiting:
            listed.append(f"Not compared because they are not finished in both sweeps: {', '.join(waiting)}.")
        return listed

    def __repr__(self) -> str:
        return "\n".join((f"{type(self).__name__}({self.a.name!r}, {self.b.name!r})", *self.sentences()))

    def _repr_html_(self) -> str:
        lines = "".join(f"<li>{text}</li>" for text in self.sentences())
        columns = ["learner", "level", "attribute", "group", "metric", "a", "b", "difference", "low", "high"]
        table = self.differences[columns].round(4)
        return (
            f"<p>A: {_escaped(self.a.name)}; B: {_escaped(self.b.name)}</p><ul>{lines}</ul>{table.to_html(index=False)}"
        )


def compare(
    a: str | Path | SweepResults,
    b: str | Path | SweepResults,
    metrics: str | Sequence[str] | None = None,
    *,
    by: str | Sequence[str] | None = None,
    at: At = "last",
) -> SweepComparison:
    """Compare two sweeps, B minus A.

    Settings and trials are matched as `fairsweep.analysis.comparing.matching.match` says. A difference of paired trials
    is taken pair by pair: its interval joins a t interval over the pairs with the error of the test images, which for
    rates accounts for the shared test images; it has no width where all pairs are one trial twice, with the same
    counts. Where nothing pairs, the two means are subtracted as if independent.

    Args:
        a: output folder or URI of a sweep, or what `load` returned.
        b: the other one.
        metrics: names in `METRICS`; None takes the accuracy and the disparities that the report shows.
        by: an attribute or several, each compared by its groups; None takes every group attribute that both have.
        at: see `SweepResults.evaluations`.

    Raises:
        ValueError: if the two predict different labels, or share no group.
        RecordError: if one of them has no finished trial.
    """
    one, other = (sweep if isinstance(sweep, SweepResults) else load(sweep) for sweep in (a, b))
    if (one.label, one.classes) != (other.label, other.classes):
        raise ValueError(
            f"two sweeps that are compared must predict the same label, but {one.name} predicts {one.label} "
            f"{list(one.classes)} and {other.name} predicts {other.label} {list(other.classes)}"
        )
    shared = [name for name in other.groups or (other.label,) if _shared(one, other, name)]
    attributes = shared if by is None else [by] if isinstance(by, str) else list(by)
    if not attributes:
        raise ValueError(f"the sweeps must share a group attribute, but have {one.groups} and {other.groups}")
    matching = match(one, other)
    chosen = [metrics] if isinstance(metrics, str) else metrics
    names = _shown_metrics(other) if chosen is None else list(chosen)
    frames = [_frame(results, side, names, attributes, at) for results, side in ((one, A), (other, B))]
    trials = matching.pairs.assign(identical=_identical(one, other, matching.pairs, attributes, at))
    parts = [_exact(_paired(one, other, matching, frames), trials), _unpaired(matching, (one, other), frames)]
    # An empty part has columns of no type, and would make the others' numbers objects.
    known = [part for part in parts if len(part)]
    differences = _in_order(pd.concat(known, ignore_index=True) if known else parts[0], matching)
    changes = config_changes(one, other, matching)
    return SweepComparison(one, other, matching.settings, trials, _judged(differences), changes)


def _shared(a: SweepResults, b: SweepResults, attribute: str) -> bool:
    known = attribute in (*a.groups, a.label)
    return known and a.vocabulary(attribute).values == b.vocabulary(attribute).values


def _shown_metrics(results: SweepResults) -> list[str]:
    names = ["accuracy", "worst_group_accuracy", *DISPARITIES_SHOWN]
    return [name for name in names if name != "base_rate_difference" and is_defined(results, name)]


def _frame(results: SweepResults, side: str, metrics: Sequence[str], by: Sequence[str], at: At) -> pd.DataFrame:
    """Return the rates of all, and rates and disparities of each attribute; trials carry the letter of their sweep."""
    plain = [name for name in metrics if not isinstance(resolve(name, results.classes).row, Disparity)]
    parts = [results.rates(plain, by=(), at=at)] if plain else []
    parts += [results.frame(metrics, by=attribute, at=at) for attribute in by]
    frame = pd.concat(parts, ignore_index=True)
    return frame.assign(trial=side + frame["trial"].astype(str))


def _paired(a: SweepResults, b: SweepResults, matching: Matching, frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the differences of settings whose trials pair, pair by pair and averaged."""
    pairs = matching.pairs
    if pairs.empty:
        return pd.DataFrame(columns=[*_PLAIN, *_ERRORS])
    named = pd.DataFrame(
        {"trial": B + pairs["trial_b"], "baseline_trial": A + pairs["trial_a"], "baseline": a.name or "A"}
    )
    both = cast("SweepResults", TwoSweeps(a, b))
    rows = difference_rows(both, pd.concat(frames, ignore_index=True), named)
    means = average_of_tables(rows)
    setting = dict(zip(named["baseline_trial"], pairs["setting_b"], strict=True))
    before = frames[0][frames[0]["trial"].isin(named["baseline_trial"])]
    before = average(before.assign(setting=before["trial"].map(setting)))
    after = average(frames[1][frames[1]["trial"].isin(named["trial"])])
    means = means.merge(_values(before, "a"), on=_KEYS, how="left").merge(_values(after, "b"), on=_KEYS, how="left")
    kinds = rows.assign(images=rows["interval"] == "paired").groupby(_KEYS, sort=False)["images"].all().reset_index()
    means = means.merge(kinds, on=_KEYS, how="left")
    means["images"] = np.where(means["images"], "paired", "as if independent")
    pairing = dict(zip(matching.settings["setting_b"], matching.settings["pairing"], strict=True))
    means = means.rename(columns={"value": "difference"}).assign(pairing=means["setting"].map(pairing))
    means["seed_variance"] = np.square(means["std"].to_numpy(np.float64)) / means["replicates"]
    means["image_width"] = (means["images_high"] - means["images_low"]) / 2
    return means.assign(learner=means["series"])[[*_PLAIN, *_ERRORS]]


def _exact(differences: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """Set the interval to [0, 0] if every pair of a setting is the same trial with the same outcome.

    Different trainings that happen to agree on all test images keep their interval.
    """
    same = trials.assign(same=trials["identical"] & (trials["pairing"] == SAME_TRIALS))
    equal = same.groupby("setting_b")["same"].all()
    exact = differences["setting"].map(equal).fillna(False).astype(bool) & differences["difference"].notna()
    differences.loc[exact, ["low", "high"]] = 0.0
    return differences


def _unpaired(
    matching: Matching, sweeps: tuple[SweepResults, SweepResults], frames: Sequence[pd.DataFrame]
) -> pd.DataFrame:
    """Return the differences of means, where no trial of one setting has a partner in the other sweep."""
    settings = matching.settings
    alone = settings[(settings["pairing"] == UNPAIRED) & (settings[["done_a", "done_b"]].min(axis=1) > 0)]
    if alone.empty:
        return pd.DataFrame(columns=[*_PLAIN, *_ERRORS])
    partner = dict(zip(alone["setting_a"], alone["setting_b"], strict=True))
    # Each sweep knows its trials without the letter.
    plain = (frame.assign(trial=frame["trial"].str[len(side) :]) for frame, side in zip(frames, (A, B), strict=True))
    first_frame, second_frame = (
        frame[frame["setting"].isin(known)] for frame, known in zip(plain, (partner, partner.values()), strict=True)
    )
    before = average(first_frame.assign(setting=first_frame["setting"].map(partner)), results=sweeps[0])
    after = average(second_frame, results=sweeps[1])
    means = after.merge(before, on=_KEYS, suffixes=("", "_a"))
    names = ("value", "low", "high")
    second = tuple(means[f"{name}_a"].to_numpy(np.float64) for name in names)
    first = tuple(means[name].to_numpy(np.float64) for name in names)
    low, high = subtract((first[0], first[1], first[2]), (second[0], second[1], second[2]))
    means = means.assign(a=second[0], b=first[0], difference=first[0] - second[0], low=low, high=high)
    means["seed_variance"] = sum(np.square(means[f"std{side}"]) / means[f"replicates{side}"] for side in ("", "_a"))
    first_width, second_width = (
        (means[f"images_high{side}"] - means[f"images_low{side}"]).to_numpy(np.float64) / 2 for side in ("", "_a")
    )
    means["image_width"] = np.hypot(first_width, second_width)
    means["replicates"] = means[["replicates", "replicates_a"]].min(axis=1)
    means["n_min"] = means[["n_min", "n_min_a"]].min(axis=1)
    means = means.assign(pairing=UNPAIRED, images="as if independent", learner=means["series"])
    return means[[*_PLAIN, *_ERRORS]]


def _judged(differences: pd.DataFrame) -> pd.DataFrame:
    """Return the differences with verdicts, corrected over all of them; pairs of one trial with itself take no part."""
    columns = ["difference", *_ERRORS, "replicates", "n_min"]
    findings = []
    for i, (value, seeds, images, replicates, n) in enumerate(differences[columns].itertuples(index=False, name=None)):
        is_exact = differences["low"].iloc[i] == differences["high"].iloc[i]
        numbers = (value, seeds, np.square(images / NORMAL_95), 0.0, replicates - 1, np.inf)
        estimate, between, of_images, both, df, image_df = (np.asarray(number, np.float64) for number in numbers)
        effect = Effect(estimate, between, of_images, both, df, image_df, int(replicates), int(n))
        findings.append(Finding(Question("difference", B, A, group=str(i)), None if is_exact else effect))
    words = [
        one.word if finding.effect else "equivalent" for one, finding in zip(decide(findings), findings, strict=True)
    ]
    return differences.assign(verdict=words)[list(DIFFERENCE_COLUMNS)]


def _values(means: pd.DataFrame, name: str) -> pd.DataFrame:
    return means[[*_KEYS, "value"]].rename(columns={"value": name})


def _in_order(differences: pd.DataFrame, matching: Matching) -> pd.DataFrame:
    """Return the rows in the order of the settings."""
    place = {setting: i for i, setting in enumerate(matching.settings["setting_b"])}
    order = differences["setting"].map(place).sort_values(kind="stable").index
    return differences.loc[order].reset_index(drop=True)


def _identical(a: SweepResults, b: SweepResults, pairs: pd.DataFrame, by: Sequence[str], at: At) -> list[bool]:
    """Return whether every cell of the last test evaluation has the same count in both trials of a pair."""
    if pairs.empty:
        return []
    counts = [results.counts(by, at=at) for results in (a, b)]
    places = [{str(name): i for i, name in enumerate(count.evaluations.trial)} for count in counts]
    return [
        bool(np.array_equal(counts[0].values[places[0][one]], counts[1].values[places[1][other]]))
        for one, other in zip(pairs["trial_a"], pairs["trial_b"], strict=True)
    ]


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
