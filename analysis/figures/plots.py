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


rate_by_level = drawn(trend_lines.rate_by_level)
change_by_level = drawn(trend_lines.change_by_level)
disparity_by_level = drawn(trend_lines.disparity_by_level)
slopes = drawn(seed_slopes.slopes)
arbitrariness_by_level = drawn(disagreement_lines.arbitrariness_by_level)

disparity_by_epsilon = drawn(tradeoffs.disparity_by_epsilon)
rate_by_field = drawn(tradeoffs.rate_by_field)
pareto_front = drawn(tradeoffs.pareto_front)
selection = drawn(selection_plots.selection)

rate_by_group = drawn(bars.rate_by_group)
rate_by_two_groups = drawn(bars.rate_by_two_groups)
change_by_group = drawn(bars.change_by_group)
training_counts = drawn(bars.training_counts)

heat_map = drawn(heat_maps.heat_map)
confusion = drawn(heat_maps.confusion)
reliability_by_group = drawn(reliability.reliability)
critical_difference = drawn(mean_ranks.critical_difference)
fluctuations = drawn(fluctuation_lines.fluctuations)

learning_curves = drawn(training_diagnostics.learning_curves)
diagnostics = drawn(training_diagnostics.diagnostics)
client_diagnostics = drawn(training_diagnostics.client_diagnostics)
client_accuracy = drawn(clients.client_accuracy)
client_composition = drawn(clients.client_composition)

placement_by_group = drawn(unlearning_costs.placement_by_group)
request_timeline = drawn(unlearning_costs.request_timeline)
exposure_by_group = drawn(exposure_bars.exposure_by_group)
