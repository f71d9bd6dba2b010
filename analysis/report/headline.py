"""The first screen of a report: the answer in one sentence, one picture, and how far both can be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

import numpy as np

from fairsweep.analysis.figures import plots
from fairsweep.analysis.figures.line_styles import series_in
from fairsweep.analysis.inference.privacy_ledger import epsilon_text
from fairsweep.analysis.records.counts import ALL
from fairsweep.analysis.records.failed_trials import is_guided, more_seeds_command, objectives_of
from fairsweep.analysis.report.baselines import Comparison, comparisons
from fairsweep.analysis.report.page_verdicts import PageVerdicts, baseline_series, series_names
from fairsweep.analysis.report.report_figures import Figure
from fairsweep.analysis.report.statements import (
    SIGNED,
    Statement,
    StatementGroup,
    compared_with,
    level_text,
    others_text,
    statement_of,
)
from fairsweep.analysis.report.study_description import described_data
from fairsweep.analysis.results.imbalance_design import ImbalanceDesign, named, shown
from fairsweep.analysis.results.pairs import TWIN
from fairsweep.analysis.results.replicates import average
from fairsweep.analysis.results.results import SweepResults
from fairsweep.analysis.statistics.variance_components import ROUNDING
from fairsweep.analysis.verdicts.verdict import Question, Verdict
from fairsweep.analysis.verdicts.verdict_sentences import margin_text, points
from fairsweep.analysis.wording import counted

ENOUGH_SEEDS = 5
"""Seeds from which on an interval over runs says something."""

_HEIGHT = 300
_MOST_OPEN = 3
_WORDS = ("different", "equivalent", "undecided", "undefined")


@dataclass(frozen=True)
class Headline:
    """What stands above everything else.

    Attributes:
        statement: the answer.
        lead: at which training set it holds; may be empty.
        chosen: that a search has chosen what it is about, and by what; may be empty.
        collapsed: which settings are left out of it; may be empty.
        figure: accuracy of the groups, the learner beside the one that it is compared with.
        trust: terms and texts: seeds, test images, data, questions.
        more: what enough seeds would take, and the command that adds them; both empty if there are enough.
    """

    statement: Statement
    lead: str
    chosen: str
    collapsed: str
    figure: Figure
    trust: tuple[tuple[str, str], ...]
    more: tuple[str, str]


def headline(
    results: SweepResults,
    design: ImbalanceDesign,
    verdicts: PageVerdicts,
    groups: tuple[StatementGroup, ...],
    folder: str,
    chosen: Sequence[str] = (),
) -> Headline | None:
    """Return the first screen; None if the sweep answers no question.

    The answer is about the most private learner and the rarest group at the most imbalanced level, compared with its
    matched twin if there is one; without a private learner it is the first finding of the report. Learners that have
    collapsed there are passed by as long as there are others.

    Args:
        results: the sweep.
        design: its imbalance.
        verdicts: of the whole report.
        groups: its findings.
        folder: of the sweep, as its file names it.
        chosen: the series that a search has chosen; of several the best first.
    """
    fallen = collapsed_series(results, design.levels[-1].text)
    compared = _comparison(results, design, verdicts, fallen)
    first = _first(groups, chosen, fallen)
    if compared is not None and not (_is_of(compared[1], fallen) and _is_sound(first, fallen)):
        first = statement_of(_compared(results, design, *compared, verdicts), compared[1])
    if first is None or first.found is None:
        return None
    statement, series = first, (first.found.question.learner, first.found.question.baseline)
    names = tuple(name for name in series if name)
    is_gap = statement.found is not None and statement.found.question.kind == "gap"
    return Headline(
        statement,
        " ".join(text for text in (level_text(results, design), SIGNED if is_gap else "") if text),
        _chosen_by(results, chosen) if statement.found and statement.found.question.learner in chosen else "",
        _left_out(results, design, names),
        _figure(results, design, names),
        _trust(results, statement),
        more_seeds(results, folder),
    )


def opened(
    groups: tuple[StatementGroup, ...], first: Headline | None
) -> tuple[tuple[StatementGroup, ...], tuple[StatementGroup, ...]]:
    """Return the findings that are shown and those that are folded: the most certain ones first.

    The question of the headline is not asked again among the shown ones; of a search that has chosen a setting,
    findings on other settings are folded.
    """
    asked = first.statement.found.question if first is not None and first.statement.found else None
    listed = [one for group in groups for one in group.statements if one.found is None or one.found.question != asked]
    if first is not None and first.chosen and asked is not None:
        listed = [one for one in listed if one.found is None or one.found.question.learner == asked.learner]
    ranked = sorted((one for one in listed if one.found is not None), key=lambda one: _WORDS.index(one.verdict))
    noted = [one for one in listed if one.found is None]  # that a learner has collapsed: the first stands for all
    shown = {id(one) for one in [*noted[:1], *ranked][:_MOST_OPEN]}
    return _chosen(groups, shown, is_shown=True), _chosen(groups, shown, is_shown=False)


def extreme_groups(results: SweepResults, design: ImbalanceDesign, *, before: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the groups with the best and the worst accuracy at the most imbalanced level, a text for each series.

    Groups that are too small to be ranked are neither. The series ``before`` come before the others.
    """
    means = average(results.rates(["accuracy"], by=design.attribute), results=results)
    chosen = (means["level"] == design.levels[-1].text) & means["value"].notna() & (means["group"] != ALL)
    means = means[chosen & ~means["group"].isin(list(results.small_groups(design.attribute)))]
    texts, fallen = [], collapsed_series(results, design.levels[-1].text)
    for series in sorted(series_in(results, means), key=lambda name: name not in before):
        rows = means[means["series"] == series].sort_values("value", kind="stable")
        known = [
            f"{shown(results, design.attribute, str(row['group']))} {100 * row['value']:.1f}%"
            for _, row in rows.iloc[[-1, 0]].iterrows()
        ]
        epsilon = _epsilon(results, series)
        price = f" (ε = {epsilon_text(epsilon)})" if np.isfinite(epsilon) else ""
        which = f"best {known[0]}, worst {known[1]}" if len(rows) > 1 else known[0]
        if series in fallen:
            which += f"; collapsed: it predicts one class for every test {results.unit}"
        texts.append(f"{series}{price}: {which}")
    return tuple(texts)


def more_seeds(results: SweepResults, folder: str) -> tuple[str, str]:
    """Return what `ENOUGH_SEEDS` would take, in a sentence, and the command that adds them; empty if there are enough.

    The minutes are those in which the sweep's own trials ran, without pauses, for as many further ones.
    """
    spec = results.sweep.get("sweep", {})
    seeds = spec.get("seeds")
    now = seeds.get("train") if isinstance(seeds, dict) else seeds
    if not isinstance(now, int) or not 0 < now < ENOUGH_SEEDS:
        return "", ""
    text = f"{counted(now, 'seed')} so far: with fewer than {ENOUGH_SEEDS}, intervals are wide."
    if is_guided(results.sweep):
        return text, ""
    minutes = _minutes(results) * (ENOUGH_SEEDS - now) / now
    cost = ""
    if minutes > 0:
        cost = " less than a minute" if minutes < 1 else f" about {counted(max(1, round(minutes)), 'minute')}"
        cost = f" on the same machine take{'' if ENOUGH_SEEDS - now > 1 else 's'}{cost}"
    return f"{text} {ENOUGH_SEEDS - now} more{cost or ' can be added'}:", more_seeds_command(folder, ENOUGH_SEEDS)


def _comparison(
    results: SweepResults, design: ImbalanceDesign, verdicts: PageVerdicts, fallen: Set[str]
) -> tuple[Comparison, Verdict] | None:
    """Return the comparison that the answer is about: a matched twin before others, the smallest ε before larger."""
    level = design.levels[-1].text
    small = results.small_groups(design.attribute)
    known = [one for one in design.rare or results.vocabulary(design.attribute).values if one not in small]
    if not known:
        return None
    found = []
    for comparison in comparisons(results):
        for pair in baseline_series(results, comparison.learner, comparison.baseline, level):
            verdict = verdicts.of(Question("difference", *pair, design.attribute, known[0], level))
            if verdict is not None and verdict.word != "undefined":
                order = _is_of(verdict, fallen), comparison.baseline != TWIN, _epsilon(results, pair[0])
                found.append((order, comparison, verdict))
    if not found:
        return None
    _, comparison, verdict = min(found, key=lambda one: one[0])
    return comparison, verdict


def collapsed_series(results: SweepResults, level: str) -> set[str]:
    """Return the series of which every finished run at a level predicts one class for the whole test set."""
    runs = results.trials[(results.trials["state"] == "done") & (results.trials["level"] == level)]
    fallen = runs["trial"].isin(results.collapsed()["trial"])
    return {str(name) for name, every in fallen.groupby(runs["series"].astype(str)).all().items() if every}


def _chosen_by(results: SweepResults, chosen: Sequence[str]) -> str:
    done = results.trials[results.trials["state"] == "done"]
    which = "this one" if len(chosen) == 1 else f"{len(chosen)}, of which this is one,"
    of = counted(done["setting"].nunique(), "setting")
    return f"The search chose {which} of {of}: {objectives_of(results.sweep)}, on the validation split."


def _left_out(results: SweepResults, design: ImbalanceDesign, shown: Sequence[str]) -> str:
    """Return which series the answer passes by; empty if none has collapsed, or it is about one that has."""
    fallen = collapsed_series(results, design.levels[-1].text)
    if not fallen or fallen & {*shown}:
        return ""
    names = [name for name in series_names(results) if name in fallen]
    more = f" and {len(names) - _MOST_OPEN} more" if len(names) > _MOST_OPEN else ""
    verb, level = "have" if len(names) > 1 else "has", design.levels[-1].text
    return (
        f"At {level}, {len(names)} of {counted(len(series_names(results)), 'learner')} {verb} collapsed (one class is "
        f"predicted for every test {results.unit}) and {verb} no part in this answer: "
        f"{'; '.join(names[:_MOST_OPEN])}{more}."
    )


def _first(groups: Iterable[StatementGroup], chosen: Sequence[str], fallen: Set[str]) -> Statement | None:
    """Return the finding that the answer is, without a comparison: on what a search chose, or the first.

    One that is undefined is taken where there is no other; one on a learner that has collapsed only then.
    """
    known = [(one, one.found) for group in groups for one in group.statements if one.found is not None]

    def order(pair: tuple[Statement, Verdict]) -> tuple[bool, bool, int]:
        name = pair[1].question.learner
        place = chosen.index(name) if name in chosen else len(chosen)
        return _is_of(pair[1], fallen), pair[1].word == "undefined", place

    return min(known, key=order, default=(None, None))[0]


def _is_sound(one: Statement | None, fallen: Set[str]) -> bool:
    return one is not None and one.found is not None and one.verdict != "undefined" and not _is_of(one.found, fallen)


def _is_of(found: Verdict, series: Set[str]) -> bool:
    """Return whether a verdict is on one of some series, or compares with it."""
    return bool({found.question.learner, found.question.baseline} & series)


def _compared(
    results: SweepResults, design: ImbalanceDesign, comparison: Comparison, found: Verdict, verdicts: PageVerdicts
) -> str:
    """Return the answer on a private learner in a sentence."""
    asked = found.question
    name = named(results, design.attribute, asked.group)
    who = f"the rare {'class' if design.of_label else 'group'} ({name})" if design.rare else name
    training = f"Private training ({asked.learner}, ε = {epsilon_text(_epsilon(results, asked.learner))})"
    is_loss = found.estimate < 0
    low, high = (-found.high, -found.low) if is_loss else (found.low, found.high)
    bounds = f" (95% CI {points(low)} to {points(high)})" if np.isfinite(low) and np.isfinite(high) else ""
    size = f"{points(abs(found.estimate))} points"
    against = compared_with(comparison)
    others = _others(results, design, found, verdicts)
    verb = "gains" if found.estimate > ROUNDING else "costs"
    shown = _loss_or_gain(found.estimate)
    if found.word == "undecided":
        return (
            f"Whether {training.replace('Private', 'private', 1)} {verb} {who} accuracy is undecided: "
            f"{counted(found.seeds, 'seed')} {'show' if found.seeds > 1 else 'shows'} {shown}{bounds} compared "
            f"with {against}{others}."
        )
    if found.word == "equivalent" and found.margin is not None:
        return (
            f"{training} changes the accuracy of {who} by less than {margin_text(found.margin)}: "
            f"{shown}{bounds} compared with {against}{others}."
        )
    return f"{training} {verb} {who} {size} of accuracy{bounds} compared with {against}{others}."


def _others(results: SweepResults, design: ImbalanceDesign, found: Verdict, verdicts: PageVerdicts) -> str:
    """Return how the other groups fare, where the excess loss of the rare group is known."""
    excess = verdicts.of(
        Question(
            "excess",
            found.question.learner,
            found.question.baseline,
            design.attribute,
            found.question.group,
            found.question.level,
        )
    )
    if excess is None or not np.isfinite(excess.estimate):
        return ""
    change = found.estimate + excess.estimate
    names = others_text(results, design, found.question.group)
    return f"; the estimate for {names} is {_loss_or_gain(change)}"


def _loss_or_gain(change: float) -> str:
    """Return a change: ``a loss of 3.1 points``."""
    if abs(change) <= ROUNDING:
        return "no change"
    return f"{'a loss' if change < 0 else 'a gain'} of {points(abs(change))} points"


def _figure(results: SweepResults, design: ImbalanceDesign, series: tuple[str, ...]) -> Figure:
    chosen = series or tuple(series_names(results)[:1])
    if design.is_trend:
        drawn = plots.rate_by_level(results, design.attribute, series=chosen)
        caption = f"Test accuracy by {design.attribute}; imbalance increases to the right. Bands are 95% intervals."
    else:
        drawn = plots.rate_by_group(results, design.attribute, series=chosen)
        caption = f"Test accuracy by {design.attribute}. Bars are 95% intervals."
    drawn.update_layout(height=_HEIGHT)
    return Figure("answer", drawn, caption)


def _trust(results: SweepResults, statement: Statement) -> tuple[tuple[str, str], ...]:
    found = statement.found
    images = results.counts().values[:, 0].sum((-2, -1)).astype(int)
    low, high = int(images.min()), int(images.max())
    size = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    listed = []
    if found is not None and found.seeds:
        few = "" if found.seeds >= ENOUGH_SEEDS else f"; {ENOUGH_SEEDS} or more are recommended"
        listed.append(("Seeds", f"{found.seeds}{few}"))
        smallest = f", {found.images:,} in the smallest group" if found.images else ""
        size += smallest
    listed.append((f"Test {results.unit}s", size))
    listed.append(("Data", described_data(results)))
    if found is not None and found.family > 1:
        listed.append(("Questions tested", f"{found.family} in this report; verdicts are corrected for all of them"))
    return tuple(listed)


def _epsilon(results: SweepResults, series: str) -> float:
    known = results.trials.loc[results.trials["series"].astype(str) == series, "epsilon"].to_numpy(np.float64)
    finite = known[np.isfinite(known)]
    return float(finite.max()) if len(finite) else float("inf")


def _chosen(groups: Iterable[StatementGroup], shown: set[int], *, is_shown: bool) -> tuple[StatementGroup, ...]:
    kept = (
        StatementGroup(
            group.title, group.lead, tuple(one for one in group.statements if (id(one) in shown) == is_shown)
        )
        for group in groups
    )
    return tuple(group for group in kept if group.statements)


def _minutes(results: SweepResults) -> float:
    """Return how long finished trials were running, counting once what ran side by side; 0 if no times are recorded."""
    states = [folder.state for folder in results.folders if folder.stage == "done"]
    spans = sorted(
        (state.updated - state.seconds, state.updated)
        for state in states
        if state is not None and state.timed and state.updated and state.seconds
    )
    total = until = 0.0
    for start, end in spans:
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total / 60
