"""The tables of audits that ``fairsweep audit`` prints."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from rich.console import Console

from fairsweep.analysis.auditing.sweep_exposure import exposure_frame
from fairsweep.analysis.auditing.trial_audits import audits
from fairsweep.analysis.inference.privacy_ledger import epsilon_text
from fairsweep.analysis.results.results import SweepResults
from fairsweep.sweeps.cli.privacy_tables import print_frame, print_sentences


def print_audit(results: SweepResults, by: Sequence[str] | None, confidence: float, console: Console) -> None:
    """Print the audits of a sweep, or how to have some."""
    bounds, exposed = audits(results, confidence), exposure_frame(results, by, confidence=confidence)
    forgotten = exposure_frame(results, by, confidence=confidence, of="forgotten")
    if not bounds.empty:
        print_frame("Lower bounds on ε from canaries", _bounds(bounds), console)
        print_sentences(_bound_sentences(bounds, confidence), console)
    if not exposed.empty:
        print_frame("Membership inference from shadows", _exposures(exposed), console)
        print_sentences(_exposure_sentences(exposed, confidence), console)
    if not forgotten.empty:
        print_frame("Forgotten examples, told from those never seen", _exposures(forgotten), console)
        print_sentences(_forgotten_sentences(forgotten, confidence), console)
    if bounds.empty and exposed.empty:
        privacy = (results.sweep.get("sweep") or {}).get("privacy") or {}
        line = (
            "No trial of this sweep was audited, and none of a release is: an audit records what no guarantee covers. "
            "Run the same learners in mode: research, into another output folder, with an audit."
            if privacy.get("mode") == "release"
            else "No trial of this sweep was audited: give a private learner `audit: {canaries: 200}`, or the sweep "
            "`shadows: 32` in the place of seeds, and run it again."
        )
        print_sentences([line], console)


def _bounds(found: pd.DataFrame) -> pd.DataFrame:
    shown = found[["series", "level", "replicate", "group", "kind"]].rename(
        columns={"series": "learner", "kind": "canaries"}
    )
    shown["in / all"] = [f"{i} / {m}" for m, i in zip(found["canaries"], found["included"], strict=True)]
    shown["δ"] = [f"{delta:.2g}" for delta in found["delta"]]
    shown["claimed ε"] = [epsilon_text(value) for value in found["claimed"]]
    shown["ε at least"] = [f"{value:.3f}" for value in found["bound"]]
    shown["if Gaussian"] = [f"{value:.3f}" for value in found["gaussian"]]
    shown["claim refuted"] = ["" if value is None else "yes" if value else "no" for value in found["refuted"]]
    return shown


def _bound_sentences(found: pd.DataFrame, confidence: float) -> list[str]:
    wrong = found[(found["bound"] > found["claimed"]) | found["refuted"].eq(True)]
    verdict = "No bound exceeds what is claimed, and no claim is refuted."
    if len(wrong):
        trials = ", ".join(dict.fromkeys(wrong["trial"]))
        verdict = (
            f"Claims that an audit contradicts: {trials}. The training is not what its plan says, or it is bad luck."
        )
    return [
        f"All bounds of one trial hold together with confidence {confidence:g}, over its coins and its training. A low "
        "bound proves nothing: few canaries, or a weak attack, find little.",
        verdict,
    ]


def _exposures(found: pd.DataFrame) -> pd.DataFrame:
    shown = found[["series", "level", "shadows", "attack", "attribute", "group", "candidates"]].rename(
        columns={"series": "learner"}
    )
    for name, title in (("auc", "AUC"), ("tpr", "TPR at 1% FPR")):
        columns = (found[name], found[f"{name}_low"], found[f"{name}_high"])
        shown[title] = [f"{value:.3f} [{low:.3f}, {high:.3f}]" for value, low, high in zip(*columns, strict=True)]
    return shown


def _exposure_sentences(found: pd.DataFrame, confidence: float) -> list[str]:
    listed = [
        f"Intervals at {confidence:g}, each by itself, over shadows and candidates; chance is .5 and .01. Attacks are "
        "calibrated, and thresholds chosen, inside each group."
    ]
    for _, row in found[found["most_exposed"]].iterrows():
        listed.append(
            f"{row['series']}, {row['level']}, {row['attack']}: {row['attribute']}={row['group']} is recognised best "
            f"(AUC {row['auc']:.3f}); p = {row['p_value']:.3g} that groups differ so much by chance."
        )
    return listed


def _forgotten_sentences(found: pd.DataFrame, confidence: float) -> list[str]:
    told = found[(found["auc_low"] > 0.5) | (found["auc_high"] < 0.5)]
    verdict = "No interval excludes .5: what was forgotten is not told from what was never seen."
    if len(told):
        named = [f"{row.series}, {row.level}, {row.attack}, {row.attribute}: {row.group}" for row in told.itertuples()]
        verdict = f"Forgetting leaves traces, or it is bad luck ({len(told)} of {len(found)} rows): {'; '.join(named)}."
    return [
        f"Models that trained on an example and forgot it against models that never saw it (U-LiRA). Intervals at "
        f"{confidence:g}, each by itself; chance is .5 and .01, and after an exact deletion nothing else is possible.",
        verdict,
    ]
