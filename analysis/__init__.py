"""Records of trials, and what can be concluded from them: rates, disparities, intervals, plots, report."""

from fairsweep.analysis.excess import excess_loss, excess_loss_by_trial
from fairsweep.analysis.metrics import METRICS, describe
from fairsweep.analysis.replicates import average
from fairsweep.analysis.results import SweepResults, load

__all__ = [
    "METRICS",
    "SweepResults",
    "average",
    "describe",
    "excess_loss",
    "excess_loss_by_trial",
    "load",
]
