"""The questions that a report answers, and their verdicts as one family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from fairsweep.analysis.inference.trends import LOG_MINORITY, Trend, trends_by_group
from fairsweep.analysis.records.counts import ALL
from fairsweep.analysis.report.baselines import comparisons
from fairsweep.analysis.results.imbalance_design import ImbalanceDesign
from fairsweep.analysis.results.outcome_table import OutcomeTable
from fairsweep.analysis.results.results import SweepResults
from fairsweep.analysis.results.sweep_frames import At
from fairsweep.analysis.statistics.variance_components import without_rounding
from fairsweep.analysis.verdicts.verdict import Finding, Question, Verdict, decide

MOST_RARE = 2
"""Rare groups that are compared."""

MOST_SERIES = 6
"""Series up to which all pairs are compared."""

_COLLAPSED = "{} predicts one class for every test {}{}"


@dataclass(frozen=True)
class PageVerdicts:
    """The verdicts of one report.

    Attributes:
        found: by question.
        margin: largest difference that does not matter, as a share; None without one.
    """

    found: Mapping[Question, Verdict]
    margin: float | None

    @property
    def family(self) -> int:
        """Return the number of questions that were tested."""
        return max((one.family for one in self.found.values()), default=0)

    def of(self, question: Question) -> Verdict | None:
        """Return the verdict on a question, or on the reversed one with the other sign; None if it was not asked."""
        if question in self.found:
            return self.found[question]
        back = self.found.get(question.reversed()) if question.baseline else None
        return None if back is None else back.reversed()

    def kind(self, kind: str) -> tuple[Verdict, ...]:
        """Return the verdicts on all questions of one kind."""
        return tuple(one for one in self.found.values() if one.question.kind == kind)


def ranked_rare(results: SweepResults, design: ImbalanceDesign) -> tuple[str, ...]:
    """Return the rare groups that are large enough to be compared; empty if none is, or none is rare."""
    small = results.small_groups(design.attribute)
    return tuple(group for group in design.rare if group not in small)


def margin_of(results: SweepResults) -> float | None:
    """Return the margin of equivalence that the sweep's file states; None if it states none."""
    margin = (results.sweep.get("sweep", {}).get("analysis") or {}).get("margin")
    return None if margin is None else float(margin)


def page_verdicts(
    results: SweepResults, design: ImbalanceDesign, *, at: At = "last", margin: float | None = None
) -> PageVerdicts:
    """Return the verdicts on all questions that the report of a sweep answers.

    Args:
        results: the sweep.
        design: its imbalance.
        at: see `SweepResults.evaluations`.
        margin: largest difference that does not matter, as a share; None takes that of the sweep's file.
    """
    chosen = margin if margin is not None else margin_of(results)
    asked = _Asked(results, design, OutcomeTable.of(results, design.attribute, at=at), results.collapsed(at=at), at)
    found = (replace(one, unit=results.unit) for one in decide(list(asked.findings()), margin=chosen))
    return PageVerdicts({one.question: one for one in found}, chosen)


def baseline_series(results: SweepResults, learner: str, baseline: str, level: str) -> list[tuple[str, str]]:
    """Return which series of a learner is compared with which one of its baseline, at a level."""
    trials = results.trials.set_index("trial")
    pairs = results.pairs(baseline).pairs
    table = pd.DataFrame(
        {
            "learner": trials["learner"].reindex(pairs["trial"]).to_numpy(),
            "level": trials["level"].reindex(pairs["trial"]).to_numpy(),
            "series": trials["series"].reindex(pairs["trial"]).to_numpy(),
            "other": trials["series"].reindex(pairs["baseline_trial"]).to_numpy(),
        }
    )
    chosen = table[(table["learner"] == learner) & (table["level"] == level)]
    return [(str(one), str(other)) for one, other in dict.fromkeys(zip(chosen["series"], chosen["other"], strict=True))]


def series_names(results: SweepResults) -> list[str]:
    """Return the series that have a finished trial."""
    done = results.trials[results.trials["state"] == "done"]
    return [str(name) for name in dict.fromkeys(done["series"]) if name]


@dataclass(frozen=True)
class _Asked:
    """The questions about one sweep."""

    results: SweepResults
    design: ImbalanceDesign
    table: OutcomeTable
    collapsed: pd.DataFrame
    at: At

    @property
    def rare(self) -> tuple[str, ...]:
        """Return the rare groups that are large enough to be compared."""
        return tuple(group for group in self.design.rare if group in self.ranked)

    @property
    def ranked(self) -> tuple[str, ...]:
        """Return the groups that are large enough to be compared, and those without any test image: undefined."""
        none = self.table.counts.max(0, initial=0) == 0
        kept = self.table.ranked | none
        return tuple(name for name, is_kept in zip(self.table.groups, kept, strict=True) if is_kept)

    def findings(self) -> Iterator[Finding]:
        """Yield every question with its numbers; a pair that is asked twice once."""
        last = self.design.levels[-1].text
        groups = self.rare or self.ranked
        seen: set[Question] = set()
        for one, other, wanted in self._pairs(last, groups):
            for group in wanted:
                question = Question("difference", one, other, self.design.attribute, group, last)
                if question not in seen and question.reversed() not in seen:
                    seen.add(question)
                    yield from self._difference(question)
        for one, other in self._baselines(last):
            for group in self.rare:
                question = Question("excess", one, other, self.design.attribute, group, last)
                if question not in seen:
                    seen.add(question)
                    yield from self._contrast(question, last, last, (-1.0, 1.0), others=-1.0)
        for series in series_names(self.results):
            yield from self._of_series(series, last)
        if self.design.is_trend:
            yield from self._slopes()

    def _pairs(self, last: str, groups: tuple[str, ...]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        for one, other in self._baselines(last):
            yield one, other, groups
        names = series_names(self.results)
        if len(names) <= MOST_SERIES:
            wanted = self.rare[:MOST_RARE] or (ALL,)
            for i, one in enumerate(names):
                for other in names[i + 1 :]:
                    yield one, other, wanted

    def _baselines(self, last: str) -> list[tuple[str, str]]:
        return [
            pair
            for comparison in comparisons(self.results)
            for pair in baseline_series(self.results, comparison.learner, comparison.baseline, last)
        ]

    def _of_series(self, series: str, last: str) -> Iterator[Finding]:
        first = self.design.levels[0].text
        attribute = self.design.attribute
        if self.design.is_trend:
            for group in self.rare:
                question = Question("growth", series, "", attribute, group)
                yield from self._contrast(question, last, first, (-1.0, 1.0), others=-1.0)
        for group in self.rare or self.ranked[:1]:
            yield from self._contrast(
                Question("gap", series, "", attribute, group, last), last, None, (1.0,), others=-1
            )

    def _difference(self, question: Question) -> Iterator[Finding]:
        return self._contrast(question, question.level, question.level, (1.0, -1.0), others=0.0)

    def _contrast(
        self, question: Question, level: str, other: str | None, coefficients: tuple[float, ...], *, others: float
    ) -> Iterator[Finding]:
        """Yield the finding of trials of one level, and of the baseline's or another level, if both share seeds."""
        parts = [self.table.rows(question.learner, level)]
        if other is not None:
            parts.append(self.table.rows(question.baseline or question.learner, other))
        found = self.table.effect(parts, coefficients, self.table.weights(question.group, others=others))
        if found is None:
            return
        effect, beats = found
        notes = [
            self._collapse(name, at) for name, at in ((question.learner, level), (question.baseline, level)) if name
        ]
        note = " and ".join(text for text in notes if text)
        if not np.isfinite(effect.estimate):
            yield Finding(question, None, note=f"fewer than two groups have test {self.results.unit}s")
        elif question.kind in ("gap", "growth") and note:
            yield Finding(question, None, note=f"{note}, so its groups cannot be compared")
        else:
            yield Finding(question, effect, beats if question.kind in ("difference", "gap") else None, note)

    def _slopes(self) -> Iterator[Finding]:
        for (series, group), one in page_trends(self.results, self.design, at=self.at).items():
            yield from self._slope(Question("slope", series, "", self.design.attribute, group), one)

    def _slope(self, question: Question, trend: Trend) -> Iterator[Finding]:
        known = np.isfinite(trend.x)
        centred = trend.x[known] - trend.x[known].mean()
        scale = step_of(trend, self.design)[1]
        coefficients = scale * centred / np.square(centred).sum()
        levels = [float(str(level)) for level, is_known in zip(trend.table.levels, known, strict=True) if is_known]
        parts = [self.table.rows(question.learner, level) for level in levels]
        found = self.table.effect(parts, coefficients.tolist(), self.table.weights(question.group))
        if found is None:
            return
        texts = dict.fromkeys(level.text for level in self.design.levels)
        notes = [text for text in (self._collapse(question.learner, level) for level in texts) if text]
        if len(notes) == len(texts) and not without_rounding(found[0].estimate).any():
            note = _COLLAPSED.format(question.learner, self.results.unit, " at every level")
            yield Finding(question, None, note=note)
        else:
            yield Finding(question, found[0], note=notes[-1] if notes else "")

    def _collapse(self, series: str, level: str) -> str:
        """Return a note if all runs of a series at a level predict one class."""
        runs = self.collapsed
        collapsed = ((runs["series"].astype(str) == series) & (runs["level"] == level)).sum()
        done = len(self.table.rows(series, level))
        return _COLLAPSED.format(series, self.results.unit, f" at {level}") if done and collapsed >= done else ""


def page_trends(results: SweepResults, design: ImbalanceDesign, *, at: At = "last") -> Mapping[tuple[str, str], Trend]:
    """Return the trends that the report shows, by series and group."""
    groups = ranked_rare(results, design)[:MOST_RARE]
    return trends_by_group(results, by=design.attribute if groups else (), groups=groups or None, at=at)


def step_of(trend: Trend, design: ImbalanceDesign) -> tuple[str, float]:
    """Return one step towards imbalance in words, and by what a slope is multiplied to be its change."""
    if trend.x_name == LOG_MINORITY:
        return "a tenfold smaller minority", -1.0
    ends = trend.x[0], trend.x[-1]
    first, last = ends if design.levels[0].value <= design.levels[-1].value else ends[::-1]
    return f"going from {first:g} to {last:g} ({design.level_name})", float(last - first)
