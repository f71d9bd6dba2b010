"""Membership inference on a finished sweep whose settings were trained as shadows of each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from fairsweep.analysis.auditing.exposure import exposures, most_exposed
from fairsweep.analysis.auditing.shadow_scores import ATTACKS, FEWEST_SHADOWS
from fairsweep.analysis.records.file_names import AUDIT, MEMBERSHIP, PLACEMENT
from fairsweep.analysis.records.trial_folder import TrialFolder
from fairsweep.analysis.results.results import SweepResults
from fairsweep.analysis.results.sweep_records import one_of

EXPOSURE_COLUMNS = (
    *("learner", "series", "level", "shadows", "attack", "attribute", "group"),
    *("candidates", "pairs", "auc", "auc_low", "auc_high", "tpr", "tpr_low", "tpr_high", "most_exposed", "p_value"),
)
ALL = "all"
Of = Literal["members", "forgotten"]


def exposure_frame(
    results: SweepResults,
    by: str | Sequence[str] | None = None,
    *,
    attacks: Sequence[str] = tuple(ATTACKS),
    confidence: float = 0.95,
    draws: int = 200,
    permutations: int = 500,
    seed: int = 0,
    of: Of = "members",
) -> pd.DataFrame:
    """Return how well membership in the training set is inferred, by group, for every setting with shadows.

    With ``of="forgotten"`` the same attacks tell models that have trained on an example and forgotten it from models
    that never saw it (U-LiRA): after an exact deletion nothing is left to tell, whatever the group.

    Args:
        results: the sweep.
        by: an attribute or several, whose values are the groups; None takes the sweep's.
        attacks: names in `ATTACKS`.
        confidence: of the intervals, each by itself.
        draws: bootstrap draws of the intervals.
        permutations: of the test whether groups differ; 0 leaves it out.
        seed: of both.
        of: whom the attacks look for among those that a model was never trained on: its ``members``, of whom those that
            were forgotten are left out, or those that it has ``forgotten``, of learners with ``audit: {forgotten:
            true}``.

    Returns:
        The columns `EXPOSURE_COLUMNS`: for each setting, attack and attribute a row for all candidates and one for each
        group. ``auc`` and ``tpr`` (true positives at 1% false ones) with intervals over shadows and candidates;
        ``most_exposed``, whether the group has the largest AUC; ``p_value`` of the largest gap between the groups of
        the attribute. Canaries count as out where their own gradient was not used. Settings with fewer than 8 shadows,
        and those whose canaries are clients, are left out.

    Raises:
        ValueError: if the sweep has no ``examples.parquet``, or it lacks an attribute; if there is no such attack, or
            none looks for such examples.

    References:
        Hayes et al. 2024, "Inexact unlearning needs more careful evaluations to avoid a false sense of privacy", arXiv
        2403.01218, section 4 (U-LiRA); Kurmanji et al. 2023, arXiv 2302.09880 (forgotten against never seen).
    """
    one_of(of, get_args(Of), "of")
    for attack in attacks:
        one_of(attack, ATTACKS, "attack")
    attributes = [by] if isinstance(by, str) else by
    shadows = [f for f in results.folders if (f.config or {}).get("shadow_candidates")]
    remembering = [f for f in shadows if _audit(f).get("forgotten")]
    found = results.read_each(shadows if of == "members" else remembering, MEMBERSHIP, TrialFolder.membership)
    deleted = results.read_each(remembering, PLACEMENT, _deleted)
    audited = results.read_each([f for f in results.folders if f.name in found and _audit(f)], AUDIT, TrialFolder.audit)
    settings: dict[str, list[str]] = {}
    configs = {folder.name: folder.config or {} for folder in results.folders}
    for trial in found:
        if configs[trial]["learner"].get("clients") and trial in audited:
            continue  # whose examples a canary client holds is not recorded
        settings.setdefault(str(configs[trial].get("setting")), []).append(trial)
    rows: list[dict[str, object]] = []
    names = results.trials.set_index("trial")
    for trials in settings.values():
        if len(trials) < FEWEST_SHADOWS:
            continue
        log_p, included, ids = _stacked([found[trial] for trial in trials])
        for place, trial in enumerate(trials):
            if trial in audited:
                included[place] &= ~np.isin(ids, _untrained(audited[trial], configs[trial]))
            gone = np.isin(ids, deleted.get(trial, ids[:0]))
            log_p[place, included[place] if of == "forgotten" else gone] = np.nan
            if of == "forgotten":
                included[place] = gone
        shared = {name: names.loc[trials[0], name] for name in ("learner", "series", "level")}
        for attribute in attributes or tuple((configs[trials[0]].get("dataset") or {}).get("groups") or ()):
            codes = _codes(results, ids, attribute)
            for attack in attacks:
                scores, generator = ATTACKS[attack](log_p, included, codes), np.random.default_rng(seed)
                measured = exposures(scores, included, codes, generator=generator, draws=draws, confidence=confidence)
                worst, p_value = None, float("nan")
                if permutations and sum(not np.isnan(each.auc) for each in measured[1:]) > 1:
                    worst, p_value = most_exposed(scores, included, codes, generator=generator, draws=permutations)
                common = shared | {"shadows": len(trials), "attack": attack, "attribute": attribute}
                for each in measured:
                    group = ALL if each.group is None else _name(results, attribute, each.group)
                    own = {"group": group, "most_exposed": each.group is not None and each.group == worst}
                    rows.append(asdict(each) | common | own | {"p_value": p_value})
    return pd.DataFrame(rows, columns=list(EXPOSURE_COLUMNS))


def _audit(folder: TrialFolder) -> dict[str, Any]:
    return ((folder.config or {}).get("learner") or {}).get("audit") or {}


def _deleted(folder: TrialFolder) -> NDArray[np.int64] | None:
    """Return the ids of the training examples that a trial has forgotten."""
    placed = folder.placement()
    if placed is None:
        return None
    ids: NDArray[np.int64] = placed.filter(placed.column("deleted")).column("id").to_numpy()
    return ids


def _untrained(canaries: pa.Table, config: Mapping[str, Any]) -> NDArray[np.int64]:
    """Return the ids of canaries on which a trial has not trained as they are, though they are in its training set."""
    table = canaries.to_pandas()
    is_itself = table["included"] & (config["learner"]["audit"].get("kind") == "example")
    ids: NDArray[np.int64] = table["unit"][~is_itself].to_numpy(np.int64)
    return ids


def _stacked(tables: Sequence[pa.Table]) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    """Return log probabilities of the true class [S, N], NaN where a trial has none, who was in [S, N], and ids [N]."""
    ids = np.unique(np.concatenate([table.column("id").to_numpy() for table in tables])).astype(np.int64)
    log_p, included = np.full((len(tables), len(ids)), np.nan), np.zeros((len(tables), len(ids)), np.bool_)
    for number, table in enumerate(tables):
        frame, places = table.to_pandas(), np.searchsorted(ids, table.column("id").to_numpy())
        values = np.stack(frame["log_probabilities"].to_list()).astype(np.float64)
        log_p[number, places] = values[np.arange(len(values)), frame["label"].to_numpy(np.int64)]
        included[number, places] = frame["included"].to_numpy(bool)
    return log_p, included, ids


def _codes(results: SweepResults, ids: NDArray[np.int64], attribute: str) -> NDArray[np.int64]:
    examples = results.examples
    if examples is None or not {"id", attribute} <= set(examples.column_names):
        known = [] if examples is None else examples.column_names
        raise ValueError(f"examples.parquet must have the column {attribute!r}, but has {known}: name one of these")
    series = examples.select(["id", attribute]).to_pandas().set_index("id")[attribute]
    codes: NDArray[np.int64] = series.loc[ids].to_numpy(np.int64)
    return codes


def _name(results: SweepResults, attribute: str, code: int) -> str:
    if attribute in results.all_cells.vocabularies:
        return str(results.vocabulary(attribute).values[code])
    return str(code)
