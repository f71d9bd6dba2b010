"""Figures of a sweep: for screens as plotly figures (the default), for papers as matplotlib figures.

Every function has the keyword ``backend``: ``"plotly"`` or ``"matplotlib"``. Group colours and learner marks are the
same in every figure, and are distinguishable for colour-blind readers. Intervals are the joint ones of `average`: t
over replicates and the error of the test images, which a trend also shows by itself as the darker band. On screens the
counts behind each point stand under the pointer.

What `fairsweep.analysis.trend` tests is drawn by `slopes`, what `best_setting` and `fairsweep.analysis.pareto_front`
choose by `selection`, what `explain_fluctuations` finds by `fluctuations`.

Figures of deep-learning-fairness (Farrand et al. 2020, arXiv 2009.06389) and where they are drawn:

    accuracy over the share of the majority, by group      `rate_by_level`
    precision, recall, F1 over the share                   `rate_by_level` with ``metric=``
    difference from the model without privacy              `change_by_level`, `change_by_group`
    equal opportunity, parity, odds over the share         `disparity_by_level`
    disparity and accuracy against ε                       `disparity_by_epsilon`, `rate_by_field`
    accuracy against the clipping norm                     `rate_by_field` with ``field="l2_clip_norm"``
    confusion matrices of all, of each group               `confusion`
    accuracy over training, by group                       `learning_curves`
    mean gradient norms and cosines by class               `diagnostics`

Figures of unlearning-fairness:

    accuracy by race, each the mean over age bins          `rate_by_group` with ``mean_over=``
    accuracy by age bin and race                           `rate_by_two_groups`
    what the slices of each shard are made of              `placement_by_group`
    and, which it did not draw, what requests cost         `request_timeline`
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from fairsweep.analysis.drawing.drawing import Drawing
from fairsweep.analysis.drawing.render import drawn
from fairsweep.analysis.figures import (
    bars,
    clients,
    disagreement_lines,
    exposure_bars,
    fluctuation_lines,
    heat_maps,
    mean_ranks,
    reliability,
    seed_slopes,
    selection_plots,
    tradeoffs,
    training_diagnostics,
    trend_lines,
    unlearning_costs,
)
from fairsweep.analysis.figures.line_styles import series_of
from fairsweep.analysis.results.results import SweepResults
from fairsweep.analysis.results.sweep_records import one_of

__all__ = [
    "arbitrariness_by_level",
    "change_by_group",
    "change_by_level",
    "client_accuracy",
    "client_composition",
    "client_diagnostics",
    "confusion",
    "critical_difference",
    "diagnostics",
    "disparity_by_epsilon",
    "disparity_by_level",
    "exposure_by_group",
    "fluctuations",
    "heat_map",
    "learning_curves",
    "pareto_front",
    "placement_by_group",
    "rate_by_field",
    "rate_by_group",
    "rate_by_level",
    "rate_by_two_groups",
    "reliability_by_group",
    "request_timeline",
    "selection",
    "series_of",
    "slopes",
    "training_counts",
]


def __dir__() -> list[str]:
    """List the figures."""
    return list(__all__)


def _known(results: SweepResults) -> dict[str, list[str]]:
    """Return what an argument of a figure may name, by the argument's name."""
    series, learners = series_of(results), [name for name in results.trials["learner"] if name]
    attributes = list(results.attributes)
    return {
        "attribute": attributes,
        "colour": attributes,
        "series": series,
        "learner": learners,
        "learners": [*learners, *series],
        "level": results.trials["level"].astype(str).tolist(),
    }


def _figure(describe: Callable[..., Drawing | None]) -> Callable[..., Any]:
    """Return the function that draws what another one describes, and refuses names that the sweep does not know.

    None means that there is nothing to draw, which a misspelt name must not look like.
    """
    arguments = tuple(inspect.signature(describe).parameters)

    @functools.wraps(describe)
    def checked(*args: Any, **options: Any) -> Drawing | None:  # noqa: ANN401 - those of the description
        given = dict(zip(arguments, args, strict=False)) | options
        if isinstance(results := given.get("results"), SweepResults):
            for argument, names in _known(results).items():
                named = given.get(argument)
                for name in [] if named is None else [named] if isinstance(named, str) else named:
                    one_of(name, dict.fromkeys(names), argument)
        return describe(*args, **options)

    return drawn(checked)


rate_by_level = _figure(trend_lines.rate_by_level)
change_by_level = _figure(trend_lines.change_by_level)
disparity_by_level = _figure(trend_lines.disparity_by_level)
slopes = _figure(seed_slopes.slopes)
arbitrariness_by_level = _figure(disagreement_lines.arbitrariness_by_level)

disparity_by_epsilon = _figure(tradeoffs.disparity_by_epsilon)
rate_by_field = _figure(tradeoffs.rate_by_field)
pareto_front = _figure(tradeoffs.pareto_front)
selection = _figure(selection_plots.selection)

rate_by_group = _figure(bars.rate_by_group)
rate_by_two_groups = _figure(bars.rate_by_two_groups)
change_by_group = _figure(bars.change_by_group)
training_counts = _figure(bars.training_counts)

heat_map = _figure(heat_maps.heat_map)
confusion = _figure(heat_maps.confusion)
reliability_by_group = _figure(reliability.reliability)
critical_difference = _figure(mean_ranks.critical_difference)
fluctuations = _figure(fluctuation_lines.fluctuations)

learning_curves = _figure(training_diagnostics.learning_curves)
diagnostics = _figure(training_diagnostics.diagnostics)
client_diagnostics = _figure(training_diagnostics.client_diagnostics)
client_accuracy = _figure(clients.client_accuracy)
client_composition = _figure(clients.client_composition)

placement_by_group = _figure(unlearning_costs.placement_by_group)
request_timeline = _figure(unlearning_costs.request_timeline)
exposure_by_group = _figure(exposure_bars.exposure_by_group)
