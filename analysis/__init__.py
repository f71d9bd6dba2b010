"""Records of trials and their analysis: rates, disparities, intervals, plots, report.

Names are imported on first use, so that trials, which only write records, load neither pandas nor plotly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairsweep.analysis.lazy import lazy_names

if TYPE_CHECKING:
    from fairsweep.analysis.comparing.comparison import SweepComparison, compare
    from fairsweep.analysis.contrasts.reference_groups import reference_frame
    from fairsweep.analysis.contrasts.strata import controlled_frame
    from fairsweep.analysis.contrasts.weights import weighted_frame
    from fairsweep.analysis.disagreement.arbitrariness import arbitrariness
    from fairsweep.analysis.figures import plots
    from fairsweep.analysis.gaps.gap_agreement import gap_agreement
    from fairsweep.analysis.gaps.metric_verdicts import metric_verdicts
    from fairsweep.analysis.importing.metric_frames import to_metric_frame
    from fairsweep.analysis.importing.predictions import from_predictions
    from fairsweep.analysis.inference.calibration import reliability_frame
    from fairsweep.analysis.inference.comparisons import compare_learners, compare_over_datasets, corrected_fold_test
    from fairsweep.analysis.inference.criteria import MEDFAIR, SUBPOPBENCH
    from fairsweep.analysis.inference.difference_in_differences import excess_loss, excess_loss_by_trial
    from fairsweep.analysis.inference.fluctuations import Fluctuations, explain_fluctuations
    from fairsweep.analysis.inference.ledger_view import PrivacyLedger
    from fairsweep.analysis.inference.permutation_frames import permutation_frame
    from fairsweep.analysis.inference.privacy_ledger import privacy_ledger
    from fairsweep.analysis.inference.resampling import bootstrap_frame
    from fairsweep.analysis.inference.selection import (
        best_setting,
        corrected_winner,
        distance_to_ideal,
        pareto_front,
        settings_table,
    )
    from fairsweep.analysis.inference.thresholds import choose_thresholds, thresholded_counts
    from fairsweep.analysis.inference.trends import mixed_trend, trend
    from fairsweep.analysis.metrics.catalogue import METRICS, describe
    from fairsweep.analysis.metrics.own_metrics import Metric
    from fairsweep.analysis.records.files import RecordError
    from fairsweep.analysis.report.report_page import write_report
    from fairsweep.analysis.report.summary_table import SummaryTable, summary_tables
    from fairsweep.analysis.results.replicates import average, crossed_frame, mean_differences
    from fairsweep.analysis.results.result_table import ResultTable
    from fairsweep.analysis.results.results import SweepResults, load

__all__ = [
    "MEDFAIR",
    "METRICS",
    "SUBPOPBENCH",
    "Fluctuations",
    "Metric",
    "PrivacyLedger",
    "RecordError",
    "ResultTable",
    "SummaryTable",
    "SweepComparison",
    "SweepResults",
    "arbitrariness",
    "average",
    "best_setting",
    "bootstrap_frame",
    "choose_thresholds",
    "compare",
    "compare_learners",
    "compare_over_datasets",
    "controlled_frame",
    "corrected_fold_test",
    "corrected_winner",
    "crossed_frame",
    "describe",
    "distance_to_ideal",
    "excess_loss",
    "excess_loss_by_trial",
    "explain_fluctuations",
    "from_predictions",
    "gap_agreement",
    "load",
    "mean_differences",
    "metric_verdicts",
    "mixed_trend",
    "pareto_front",
    "permutation_frame",
    "plots",
    "privacy_ledger",
    "reference_frame",
    "reliability_frame",
    "settings_table",
    "summary_tables",
    "thresholded_counts",
    "to_metric_frame",
    "trend",
    "weighted_frame",
    "write_report",
]

_HOMES = {
    "MEDFAIR": "inference.criteria",
    "METRICS": "metrics.catalogue",
    "SUBPOPBENCH": "inference.criteria",
    "Fluctuations": "inference.fluctuations",
    "Metric": "metrics.own_metrics",
    "PrivacyLedger": "inference.ledger_view",
    "RecordError": "records.files",
    "ResultTable": "results.result_table",
    "SummaryTable": "report.summary_table",
    "SweepComparison": "comparing.comparison",
    "SweepResults": "results.results",
    "arbitrariness": "disagreement.arbitrariness",
    "average": "results.replicates",
    "best_setting": "inference.selection",
    "bootstrap_frame": "inference.resampling",
    "choose_thresholds": "inference.thresholds",
    "compare": "comparing.comparison",
    "compare_learners": "inference.comparisons",
    "compare_over_datasets": "inference.comparisons",
    "controlled_frame": "contrasts.strata",
    "corrected_fold_test": "inference.comparisons",
    "corrected_winner": "inference.selection",
    "crossed_frame": "results.replicates",
    "describe": "metrics.catalogue",
    "distance_to_ideal": "inference.selection",
    "excess_loss": "inference.difference_in_differences",
    "excess_loss_by_trial": "inference.difference_in_differences",
    "explain_fluctuations": "inference.fluctuations",
    "from_predictions": "importing.predictions",
    "gap_agreement": "gaps.gap_agreement",
    "load": "results.results",
    "mean_differences": "results.replicates",
    "metric_verdicts": "gaps.metric_verdicts",
    "mixed_trend": "inference.trends",
    "pareto_front": "inference.selection",
    "permutation_frame": "inference.permutation_frames",
    "plots": "figures.plots",
    "privacy_ledger": "inference.privacy_ledger",
    "reference_frame": "contrasts.reference_groups",
    "reliability_frame": "inference.calibration",
    "settings_table": "inference.selection",
    "summary_tables": "report.summary_table",
    "thresholded_counts": "inference.thresholds",
    "to_metric_frame": "importing.metric_frames",
    "trend": "inference.trends",
    "weighted_frame": "contrasts.weights",
    "write_report": "report.report_page",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
