"""Records of trials, and what can be concluded from them: rates, disparities, intervals, plots, report.

Names are imported when they are first used: whoever only writes records (every trial does) loads neither pandas nor
plotly.
"""

from typing import TYPE_CHECKING

from fairsweep.analysis.lazy import lazy_names

if TYPE_CHECKING:
    from fairsweep.analysis.calibration import reliability_frame
    from fairsweep.analysis.comparison import SweepComparison, compare
    from fairsweep.analysis.comparisons import compare_learners, compare_over_datasets
    from fairsweep.analysis.criteria import MEDFAIR, SUBPOPBENCH
    from fairsweep.analysis.crossed import crossed_frame
    from fairsweep.analysis.excess import excess_loss, excess_loss_by_trial
    from fairsweep.analysis.fluctuations import Fluctuations, explain_fluctuations
    from fairsweep.analysis.metric_frames import to_metric_frame
    from fairsweep.analysis.metrics import METRICS, describe
    from fairsweep.analysis.permutation_frames import permutation_frame
    from fairsweep.analysis.records import RecordError
    from fairsweep.analysis.replicates import average
    from fairsweep.analysis.report import write_report
    from fairsweep.analysis.resampling import bootstrap_frame
    from fairsweep.analysis.result_table import ResultTable
    from fairsweep.analysis.results import SweepResults, load
    from fairsweep.analysis.selection import (
        best_setting,
        corrected_winner,
        distance_to_ideal,
        pareto_front,
        settings_table,
    )
    from fairsweep.analysis.table import SummaryTable, summary_tables
    from fairsweep.analysis.thresholds import choose_thresholds, thresholded_counts
    from fairsweep.analysis.trends import mixed_trend, trend

__all__ = [
    "MEDFAIR",
    "METRICS",
    "SUBPOPBENCH",
    "Fluctuations",
    "RecordError",
    "ResultTable",
    "SummaryTable",
    "SweepComparison",
    "SweepResults",
    "average",
    "best_setting",
    "bootstrap_frame",
    "choose_thresholds",
    "compare",
    "compare_learners",
    "compare_over_datasets",
    "corrected_winner",
    "crossed_frame",
    "describe",
    "distance_to_ideal",
    "excess_loss",
    "excess_loss_by_trial",
    "explain_fluctuations",
    "load",
    "mixed_trend",
    "pareto_front",
    "permutation_frame",
    "reliability_frame",
    "settings_table",
    "summary_tables",
    "thresholded_counts",
    "to_metric_frame",
    "trend",
    "write_report",
]

_HOMES = {
    "MEDFAIR": "criteria",
    "METRICS": "metrics",
    "SUBPOPBENCH": "criteria",
    "Fluctuations": "fluctuations",
    "RecordError": "records",
    "ResultTable": "result_table",
    "SummaryTable": "table",
    "SweepComparison": "comparison",
    "SweepResults": "results",
    "average": "replicates",
    "best_setting": "selection",
    "bootstrap_frame": "resampling",
    "choose_thresholds": "thresholds",
    "compare": "comparison",
    "compare_learners": "comparisons",
    "compare_over_datasets": "comparisons",
    "corrected_winner": "selection",
    "crossed_frame": "crossed",
    "describe": "metrics",
    "distance_to_ideal": "selection",
    "excess_loss": "excess",
    "excess_loss_by_trial": "excess",
    "explain_fluctuations": "fluctuations",
    "load": "results",
    "mixed_trend": "trends",
    "pareto_front": "selection",
    "permutation_frame": "permutation_frames",
    "reliability_frame": "calibration",
    "settings_table": "selection",
    "summary_tables": "table",
    "thresholded_counts": "thresholds",
    "to_metric_frame": "metric_frames",
    "trend": "trends",
    "write_report": "report",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
