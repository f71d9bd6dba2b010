"""Section on exposure: who is recognised as trained on, with and without privacy, and whether what was forgotten is."""

from __future__ import annotations

from fairsweep.analysis.auditing.sweep_exposure import Of
from fairsweep.analysis.figures import plots
from fairsweep.analysis.report.report_figures import Figure
from fairsweep.analysis.report.report_section import ReportSection
from fairsweep.analysis.results.imbalance_design import ImbalanceDesign
from fairsweep.analysis.results.results import SweepResults

_TITLE = "Exposure: who is recognised as trained on"
_ASKED: dict[Of, str] = {
    "members": "Members of the training set against others",
    "forgotten": "Models that trained on an example and forgot it against models that never saw it",
}


def exposure_section(results: SweepResults, design: ImbalanceDesign) -> ReportSection | None:
    """Return how exposed each group is; None for a sweep without shadows."""
    if not any((folder.config or {}).get("shadow_candidates") for folder in results.folders):
        return None
    level, attribute = design.levels[-1].text, design.attribute
    figures = []
    try:
        for of, asked in _ASKED.items():
            for rate in ("auc", "tpr"):
                drawn = plots.exposure_by_group(results, attribute, rate=rate, of=of)
                if drawn is not None:
                    text = (
                        f"{asked}: {'AUC' if rate == 'auc' else 'true positives at 1% false ones'} of LiRA by "
                        f"{attribute} at {level}, with 95% intervals over shadows and examples; the line is chance. "
                        "Thresholds are chosen, and the attack is calibrated, inside each group."
                    )
                    figures.append(Figure(f"exposure-{of}-{rate}", drawn, text))
    except ValueError as error:
        return ReportSection("exposure", "Exposure", _TITLE, (f"Not shown: {error}.",))
    if not figures:
        return None  # too few shadows have ended
    said = (
        "Each model was attacked with the others as shadows. What is recorded for this is an exact function of "
        f"training {results.unit}s, in research mode only, and not covered by ε. `fairsweep audit` prints all attacks "
        "and a test whether groups differ."
    )
    return ReportSection("exposure", "Exposure", _TITLE, (said,), figures=tuple(figures))
