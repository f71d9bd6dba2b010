"""Records of trials, and what can be concluded from them: rates, disparities, intervals, plots, report."""

from fairsweep.analysis.excess import excess_loss, excess_loss_by_trial
from fairsweep.analysis.metrics import METRICS, describe
from fairsweep.analysis.records import RecordError
from fairsweep.analysis.replicates import average
from fairsweep.analysis.report import write_report
from fairsweep.analysis.results import SweepResults, load
from fairsweep.analysis.table import SummaryTable, summary_tables

__all__ = [
    "METRICS",
    "RecordError",
    "SummaryTable",
    "SweepResults",
    "average",
    "describe",
    "excess_loss",
    "excess_loss_by_trial",
    "load",
    "summary_tables",
    "write_report",
]
