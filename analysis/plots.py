"""Figures of a sweep, as plotly figures: what a notebook shows and the report prints.

Group colours and learner marks are the same in every figure. Intervals are the joint ones of `average`: t over
replicates and the error of the test images, which a trend also shows by itself as the darker band.
"""

from fairsweep.analysis.bar_plots import change_by_group, rate_by_group, training_counts
from fairsweep.analysis.client_plots import client_accuracy, client_composition
from fairsweep.analysis.diagnostic_plots import client_diagnostics, diagnostics
from fairsweep.analysis.looks import series_of
from fairsweep.analysis.trend_plots import change_by_level, disparity_by_epsilon, disparity_by_level, rate_by_level
from fairsweep.analysis.unlearning_plots import placement_by_group, request_timeline

__all__ = [
    "change_by_group",
    "change_by_level",
    "client_accuracy",
    "client_composition",
    "client_diagnostics",
    "diagnostics",
    "disparity_by_epsilon",
    "disparity_by_level",
    "placement_by_group",
    "rate_by_group",
    "rate_by_level",
    "request_timeline",
    "series_of",
    "training_counts",
]
