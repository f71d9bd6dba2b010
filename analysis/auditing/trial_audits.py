"""What the audits of a sweep's trials say: each claim beside the lower bound that its canaries give."""

from __future__ import annotations

import dp_accounting
import numpy as np
import pandas as pd
import pyarrow as pa

from fairsweep.analysis.accounting.epsilons import epsilon_of
from fairsweep.analysis.accounting.statement_charges import stated_charge
from fairsweep.analysis.auditing.claims import claim_of
from fairsweep.analysis.auditing.one_run import AuditBound, audit_groups, audit_scores
from fairsweep.analysis.records.file_names import AUDIT
from fairsweep.analysis.records.trial_folder import TrialFolder
from fairsweep.analysis.results.results import SweepResults

AUDIT_COLUMNS = (
    *("trial", "learner", "series", "level", "replicate", "kind", "group"),
    *("canaries", "included", "delta", "claimed", "bound", "gaussian", "refuted", "significance"),
)
ALL = "all"


def audits(results: SweepResults, confidence: float = 0.95) -> pd.DataFrame:
    """Return the claims and lower bounds of all audited trials.

    Args:
        results: the sweep.
        confidence: with which all bounds of one trial hold together: half of the rest is for the bound of all its
            canaries, half is divided among its groups.

    Returns:
        The columns `AUDIT_COLUMNS`: for each trial a row with ``group`` ``all``, and one for each group where canaries
        were drawn by groups. ``claimed`` is epsilon at ``delta`` (of a group with a sampling rate of its own, its own;
        infinite where nothing is claimed), ``bound`` the lower bound, ``gaussian`` the one for Gaussian mechanisms,
        ``refuted`` whether the claim's trade-off function is refuted, ``significance`` that of the row.
    """
    found = results.read_each(
        [f for f in results.folders if ((f.config or {}).get("learner") or {}).get("audit")], AUDIT, TrialFolder.audit
    )
    folders = {folder.name: folder for folder in results.folders}
    rows = [row for trial, table in found.items() for row in _rows(folders[trial], table, 1 - confidence)]
    names = ["trial", "learner", "series", "level", "replicate"]
    own = [name for name in AUDIT_COLUMNS if name not in names[1:]]
    frame = pd.DataFrame(rows, columns=own)
    return frame.merge(results.trials[names], on="trial", how="left")[list(AUDIT_COLUMNS)]


def _rows(folder: TrialFolder, table: pa.Table, significance: float) -> list[dict[str, object]]:
    config, statement = folder.config or {}, folder.privacy or {}
    if not statement.get("events"):
        return []
    scores, coins = table["score"].to_numpy(), table["included"].to_numpy(zero_copy_only=False)
    charge, groups = stated_charge(config, statement), table["group"].to_pylist()
    claim = None if isinstance(charge.event, dp_accounting.NonPrivateDpEvent) else claim_of(charge.event)
    by_group = groups and groups[0] is not None
    significance = significance / 2 if by_group else significance
    numbers = {"delta": charge.delta, "significance": significance}
    bounds: dict[object, AuditBound] = {ALL: audit_scores(scores, coins, **numbers, claim=claim)}
    if by_group:
        bounds |= audit_groups(scores, coins, np.array(groups, object).astype(str), **numbers, claim=claim)
    of_groups = {
        str(entry["value"]): float((entry.get("epsilon") or {}).get("pld") or np.nan)
        for entry in statement.get("epsilon_by_group") or ()
        if entry.get("attribute") == config["learner"]["audit"].get("by")
    }
    claimed = epsilon_of(charge.event, charge.delta).pld
    return [
        {
            "trial": folder.name,
            "kind": config["learner"]["audit"].get("kind", "gradient"),
            "group": group,
            "canaries": bound.canaries,
            "included": bound.included,
            "delta": charge.delta,
            "claimed": claimed if group == ALL else of_groups.get(str(group), of_groups.get("None", claimed)),
            "bound": bound.epsilon,
            "gaussian": bound.gaussian,
            "refuted": bound.refuted,
            "significance": bound.significance,
        }
        for group, bound in bounds.items()
    ]
