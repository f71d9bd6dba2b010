"""Figures of the report with their captions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from fairsweep.analysis.figures import plots
from fairsweep.analysis.report.baselines import comparisons as baselines
from fairsweep.analysis.report.summary_table import DISPARITIES_SHOWN, is_defined
from fairsweep.analysis.results.imbalance_design import ImbalanceDesign, named
from fairsweep.analysis.results.pairs import TWIN
from fairsweep.analysis.results.results import SweepResults

_MOST_RARE = 2
_MOST_PANELS = 6
_MOST_CLASSES = 10
_MOST_CONFUSIONS = 3
_FEWEST_POINTS, _MOST_LEVELS = 3, 3


@dataclass(frozen=True)
class Figure:
    """A figure with its caption.

    Attributes:
        name: unique in the report.
        figure: what is drawn.
        caption: how to read it.
    """

    name: str
    figure: go.Figure
    caption: str


def trends(results: SweepResults, design: ImbalanceDesign) -> tuple[Figure, ...]:
    """Return the accuracy of each group over the levels, or as bars if there is one level."""
    caption = (
        f"Dark bands cover the sampling of test {results.unit}s only; light bands add a t interval over replicates "
        "(95%). More than two groups have bars of the whole interval instead. A triangle marks an interval that goes "
        "on beyond the axis. Small dots are single trials."
        if design.is_trend
        else "Bars are 95% intervals that combine a t interval over replicates with the sampling of test "
        f"{results.unit}s."
    )
    figures = []
    for attribute in design.groupings:
        if design.is_trend:
            drawn = plots.rate_by_level(results, attribute)
            text = f"Test accuracy by {attribute}, one panel per learner; imbalance increases to the right. {caption}"
        else:
            drawn = plots.rate_by_group(results, attribute)
            text = f"Test accuracy by {attribute} and learner. {caption}"
        figures.append(Figure(f"accuracy-{attribute}", drawn, text))
    served = plots.client_accuracy(results, design.attribute)
    if served is not None:
        text = (
            f"Accuracy of federated clients on their own held-out {results.unit}s after the last iteration; a client "
            f"counts towards the {design.attribute} of most of its {results.unit}s. Dotted: the worst tenth of the "
            "clients. Means over clients and replicates, without intervals. These are exact functions of the training "
            f"{results.unit}s, recorded in research mode only and not covered by ε."
        )
        figures.append(Figure("clients", served, text))
    return tuple(figures)


def overviews(results: SweepResults, design: ImbalanceDesign) -> tuple[Figure, ...]:
    """Return overviews of all learners and levels: accuracy of rare groups, and accuracy against the gap."""
    figures = []
    several = len(plots.series_of(results)) > 1
    if several and design.is_trend:
        for group in design.rare[:_MOST_RARE] or (None,):
            whose = f"all test {results.unit}s" if group is None else named(results, design.attribute, group)
            drawn = plots.heat_map(results, attribute=design.attribute, group=group)
            text = f"Accuracy for {whose} by learner and level; ± is the half-width of the 95% interval."
            figures.append(Figure(f"heat-map-{group or 'all'}", drawn, text))
    settings = results.trials[results.trials["level"] == design.levels[-1].text]["setting"].nunique()
    if settings >= _FEWEST_POINTS and len(results.vocabulary(design.attribute).values) > 1:
        level = None if len(design.levels) <= _MOST_LEVELS else design.levels[-1].text
        text = (
            f"Accuracy against the accuracy gap by {design.attribute}, one point per setting; a line joins the Pareto "
            "front. This is the test split: select settings on the validation split. A collapsed setting predicts one "
            f"class for every test {results.unit} and is on no front."
        )
        figures.append(Figure("pareto", plots.pareto_front(results, design.attribute, level=level), text))
    return tuple(figures)


def predictions(results: SweepResults, design: ImbalanceDesign) -> tuple[Figure, ...]:
    """Return confusion matrices and reliability diagrams at the most imbalanced level."""
    figures = []
    groups = len(results.vocabulary(design.attribute).values)
    if not design.of_label and groups <= _MOST_PANELS and len(results.classes) <= _MOST_CLASSES:
        for series in plots.series_of(results)[:_MOST_CONFUSIONS]:
            drawn = plots.confusion(results, series, design.attribute)
            if drawn is not None:
                text = f"{series}, {design.levels[-1].text}: confusion matrix by group."
                figures.append(Figure(f"confusion-{series}", drawn, text))
    sure = plots.reliability_by_group(results, design.attribute)
    if sure is not None:
        text = (
            f"Accuracy against confidence by {design.attribute} at {design.levels[-1].text}, replicates pooled; below "
            "the diagonal a model is overconfident."
        )
        figures.append(Figure("reliability", sure, text))
    return tuple(figures)


def disparities(results: SweepResults, design: ImbalanceDesign) -> tuple[Figure, ...]:
    """Return the disparities over the levels and, if ε varies, over ε."""
    if not design.is_trend:
        return ()
    names = [name for name in DISPARITIES_SHOWN if name != "base_rate_difference" and is_defined(results, name)]
    text = (
        "Largest differences between groups, with simultaneous 95% intervals over all pairs of groups, cut at 0: a gap "
        "has no sign, as a signed difference in a sentence has. The dotted line "
        "is the difference that equal groups of these sizes would show by chance; it is not subtracted."
    )
    figures = [Figure("disparity", plots.disparity_by_level(results, design.attribute, names), text)]
    by_epsilon = plots.disparity_by_epsilon(results, design.attribute)
    if by_epsilon is not None:
        figures.append(Figure("epsilon", by_epsilon, "Accuracy gap against the ε spent, one line per level."))
    return tuple(figures)


def comparisons(results: SweepResults, design: ImbalanceDesign) -> tuple[Figure, ...]:
    """Return the changes relative to each baseline, matched twins first."""
    draw: Callable[..., go.Figure | None] = plots.change_by_level if design.is_trend else plots.change_by_group
    figures = []
    found = baselines(results)
    for baseline in dict.fromkeys(comparison.baseline for comparison in found):
        learners = [comparison.learner for comparison in found if comparison.baseline == baseline]
        drawn = draw(results, design.attribute, baseline=baseline, learners=learners)
        if drawn is not None:
            kinds = set(results.trials.loc[results.trials["learner"].isin(learners), "kind"])
            without = (
                "clipping and noise" if "sisa" not in kinds else "clipping and noise, or shards, slices and requests"
            )
            kind = (
                f"Matched twins: the same training and seeds, without {without}."
                if baseline == TWIN
                else f"Baseline {baseline}, separately tuned: privacy and tuning differ, seeds and test set do not."
            )
            text = f"{kind} Change in test accuracy by {design.attribute}; negative values are losses."
            figures.append(Figure(f"baseline-{baseline}", drawn, text))
    return tuple(figures)


def curves(results: SweepResults, design: ImbalanceDesign) -> tuple[Figure, ...]:
    """Return the learning curves by group, of up to so many learners as fit a page."""
    series = plots.series_of(results)[:_MOST_PANELS]
    drawn = plots.learning_curves(results, design.attribute, series=series)
    if drawn is None:
        return ()
    two = len(design.levels) > 1
    levels = f"; solid lines are {design.levels[-1].text}, dotted ones {design.levels[0].text}" if two else ""
    text = (
        f"Test accuracy by {design.attribute} after each iteration, one panel per learner{levels}. Means over "
        "replicates; bands reach from the lowest replicate to the highest. A curve that still rises at its end asks "
        "for more iterations; choose their number on the validation split."
    )
    return (Figure("learning-curves", drawn, text),)


def reasons(results: SweepResults, design: ImbalanceDesign) -> tuple[Figure, ...]:
    """Return the diagnostics of private learners by group."""
    figures = []
    private = results.trials[np.isfinite(results.trials["epsilon"])]
    for series in [name for name in dict.fromkeys(private["series"]) if name]:  # a damaged trial's is not known
        drawn = plots.diagnostics(results, series, design.attribute)
        if drawn is not None:
            extremes = (
                f"; solid lines are {design.levels[-1].text}, dotted ones {design.levels[0].text}"
                if len(design.levels) > 1
                else ""
            )
            text = (
                f"{series}: effect of clipping on the groups of {design.attribute} during training{extremes}. Exact "
                f"functions of the training {results.unit}s, recorded in research mode only and not covered by ε."
            )
            figures.append(Figure(f"diagnostics-{series}", drawn, text))
    return (*figures, *_client_reasons(results, design))


def _client_reasons(results: SweepResults, design: ImbalanceDesign) -> tuple[Figure, ...]:
    """Return the updates of federated clients by group."""
    figures = []
    for series in plots.series_of(results):
        drawn = plots.client_diagnostics(results, series, design.attribute)
        if drawn is not None:
            text = (
                f"{series}: client updates by the {design.attribute} of most of the client's {results.unit}s. "
                f"Exact functions of the training {results.unit}s, recorded in research mode only and not covered by ε."
            )
            figures.append(Figure(f"updates-{series}", drawn, text))
    return tuple(figures)


def unlearning(results: SweepResults, design: ImbalanceDesign) -> tuple[Figure, ...]:
    """Return shard placement, and cost and accuracy over the requests, of unlearning learners."""
    figures = []
    forgetful = results.trials[results.trials["kind"] == "sisa"]
    for learner in dict.fromkeys(forgetful["learner"]):
        drawn = plots.request_timeline(results, learner, design.attribute)
        if drawn is not None:
            text = (
                f"{learner}: examples retrained per request as a share of training every shard from scratch, and "
                f"accuracy by {design.attribute} after each request. Means over trials; bands are 95% intervals of one "
                f"trial's test {results.unit}s, which all requests share. Request 0 is the model before the first "
                "request."
            )
            figures.append(Figure(f"requests-{learner}", drawn, text))
        try:
            drawn = plots.placement_by_group(results, learner, design.attribute)
        except ValueError:
            drawn = None  # without examples.parquet nobody knows who belongs to which group
        if drawn is not None:
            text = (
                f"{learner}: shard placement, as training {results.unit}s by {design.attribute} in each slice, mean "
                "over trials."
            )
            figures.append(Figure(f"placement-{learner}", drawn, text))
    return tuple(figures)


def data(results: SweepResults, design: ImbalanceDesign) -> tuple[Figure, ...]:
    """Return the training images by group."""
    drawn = plots.training_counts(results, design.attribute)
    text = f"Training {results.unit}s by {design.attribute}, mean over replicates."
    figures = [] if drawn is None else [Figure("training-counts", drawn, text)]
    clients = plots.client_composition(results, design.attribute)
    if clients is not None:
        text = (
            f"Training {results.unit}s of each federated client by {design.attribute}: one bar per client, at "
            f"{design.levels[-1].text} in the first replicate, first 500 clients."
        )
        figures.append(Figure("clients-hold", clients, text))
    return tuple(figures)
