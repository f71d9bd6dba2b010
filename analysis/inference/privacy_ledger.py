"""Privacy guarantees of the trials of a sweep, one by one and composed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fairsweep.analysis.results.sweep_records import SweepRecords

_RESEARCH = "simulated (research mode)"
_DEPLOYMENT = "simulation of a larger deployment"


def epsilon_text(epsilon: float) -> str:
    """Return an ε as text: ``2.95``, ``∞``, or ``n/a`` if it is not known yet."""
    if np.isnan(epsilon):
        return "n/a"
    return "∞" if np.isinf(epsilon) else f"{epsilon:.3g}"


@dataclass(frozen=True)
class PrivacyLedger:
    """Privacy guarantees of a sweep.

    Attributes:
        statements: one row per private series and level: ε by both accountants, δ, noise and sampling.
        headline: The guarantee of all trials together.
        assumptions: Assumptions behind the ε, each once.
    """

    statements: pd.DataFrame
    headline: tuple[str, ...]
    assumptions: tuple[str, ...]


def privacy_ledger(results: SweepRecords) -> PrivacyLedger | None:
    """Collect the statements of a sweep; None if no trial has made one."""
    stated = [folder for folder in results.folders if folder.privacy]
    if not stated:
        return None
    names = results.trials.set_index("trial")
    rows, assumptions = [], []
    for folder in stated:
        statement = folder.privacy or {}
        epsilon = statement.get("epsilon") or {}
        rows.append(
            {
                "learner": names.loc[folder.name, "series"],
                "level": names.loc[folder.name, "level"],
                "ε (PLD)": float(epsilon.get("pld") or np.nan),
                "ε (RDP)": float(epsilon.get("rdp") or np.nan),
                "δ": float(statement.get("delta") or np.nan),
                "noise multiplier": float(statement.get("noise_multiplier") or 0.0),
                "clipping norm": statement.get("l2_clip_norm"),
                "sampling rate": float(statement.get("sampling_rate") or np.nan),
                "steps": statement.get("steps"),
                "guarantee": _guarantee(statement),
            }
        )
        assumptions += [
            f"Unit: {statement.get('unit')}. Relation between neighbouring training sets: {statement.get('relation')}."
        ]
        assumptions += list(statement.get("assumptions") or ())
    table = pd.DataFrame(rows)
    headline = _headline(results, table)
    table = table.groupby(["learner", "level"], sort=False, dropna=False).agg(
        **{name: (name, "max" if name.startswith("ε") else "first") for name in table.columns[2:]},
        trials=("δ", "size"),
    )
    for name in ("ε (PLD)", "ε (RDP)"):
        table[name] = [epsilon_text(value) for value in table[name]]
    has_none = table["ε (PLD)"] == epsilon_text(float("inf"))
    table.loc[has_none, "guarantee"] = "none: no clipping or no noise"
    return PrivacyLedger(table.reset_index(), headline, tuple(dict.fromkeys(assumptions)))


def _guarantee(statement: Mapping[str, Any]) -> str:
    if statement.get("simulation"):
        return _DEPLOYMENT
    return _RESEARCH if statement.get("mode") == "research" else "release mode"


def _headline(results: SweepRecords, statements: pd.DataFrame) -> tuple[str, ...]:
    """Return sentences on the composition of all trials, which a page that shows all of them reveals."""
    finite = statements[np.isfinite(statements["ε (PLD)"])]
    without = int((results.trials["state"] != "queued").sum()) - len(finite)
    listed = [
        "Each ε below holds for one trial. This page shows every trial, so an example that several trials trained on "
        "is covered only by their composition, whose ε is larger than that of any one trial."
    ]
    if len(finite):
        total, delta = finite["ε (PLD)"].sum(), finite["δ"].sum()
        listed.append(
            f"By basic composition, the {len(finite)} private trials together spend at most ε = {total:.3g} at "
            f"δ = {delta:.2g}; a tighter composition needs their events, which are in each privacy.json."
        )
    if without:
        listed.append(
            f"{without} trials on the same data were trained without a guarantee, and their results are shown too: "
            "for the sweep as a whole ε is infinite."
        )
    if (statements["guarantee"] == _DEPLOYMENT).any():
        listed.append(
            "Simulation of a larger deployment: ε and δ are those of the deployment that privacy.json names, with its "
            "number of clients. The trials here add less noise and protect their own clients far less "
            "(epsilon_of_this_training)."
        )
    if statements["guarantee"].isin([_RESEARCH, _DEPLOYMENT]).any():
        listed.append(
            "Research mode: the noise follows from a recorded key, so that results repeat. The guarantee is simulated; "
            "it shows what the same training would promise with secret noise."
        )
    return tuple(listed)
