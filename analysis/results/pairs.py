"""Pairs of trials and baselines: twins, and separately tuned learners of the same imbalance, model and seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fairsweep.analysis.records.trial_folder import TrialFolder
from fairsweep.analysis.results.trials import PRIVACY_FIELDS, varying_fields

TWIN = "twin"


@dataclass(frozen=True)
class Pairing:
    """Pairs of trials that share imbalance, model and seeds.

    Attributes:
        pairs: columns ``trial``, ``baseline_trial`` (names of trials) and ``baseline`` (the baseline's learner).
        unmatched: columns ``trial``, ``reason``: the trials that should have a baseline and have none.
    """

    pairs: pd.DataFrame
    unmatched: pd.DataFrame


def pair_trials(folders: Sequence[TrialFolder], baseline: str) -> Pairing:
    """Find each trial's baseline.

    Args:
        folders: the small records of the trials.
        baseline: ``"twin"`` compares each trial with the one whose ``twin_of`` names its learner: the two differ in
            their privacy fields only. A learner's name compares every other trial with that learner; unless the
            two are twins they are *separately tuned*, and a difference mixes privacy with tuning.

    Raises:
        ValueError: if there is no such learner.
    """
    known = [folder for folder in folders if folder.config is not None]
    names = {_learner(folder)["name"] for folder in known}
    if baseline != TWIN and baseline not in names:
        raise ValueError(f"baseline must be 'twin' or one of the learners {sorted(names)}, but got {baseline!r}")
    candidates: dict[tuple[str, str], list[TrialFolder]] = {}
    for folder in known:
        name = _learner(folder).get("twin_of") if baseline == TWIN else _learner(folder)["name"]
        if name is not None:
            candidates.setdefault((name, _surroundings(folder)), []).append(folder)
    has_baseline = {name for name, _ in candidates} if baseline == TWIN else names - {baseline}
    pairs, unmatched = [], []
    for folder in known:
        name = _learner(folder)["name"]
        if name not in has_baseline:
            continue
        found = candidates.get((name if baseline == TWIN else baseline, _surroundings(folder)), [])
        close = [other for other in found if _common(other, folder)]
        chosen = close if baseline == TWIN or len(found) > 1 else found
        if len(chosen) == 1:
            pairs.append((folder.name, chosen[0].name, _learner(chosen[0])["name"]))
        else:
            reason = "no trial of the same imbalance, model and seeds" if not chosen else f"{len(chosen)} trials fit"
            unmatched.append((folder.name, reason))
    return Pairing(
        pd.DataFrame(pairs, columns=["trial", "baseline_trial", "baseline"], dtype=object),
        pd.DataFrame(unmatched, columns=["trial", "reason"], dtype=object),
    )


def _learner(folder: TrialFolder) -> dict[str, Any]:
    return dict((folder.config or {}).get("learner", {"name": ""}))


def _surroundings(folder: TrialFolder) -> str:
    """Return what a trial and its baseline share whatever their learners are."""
    config = folder.config or {}
    shared = ("imbalance", "model", "split", "evaluation", "test_content", "seeds")
    return json.dumps([config.get(name) for name in shared], sort_keys=True)


def _common(first: TrialFolder, second: TrialFolder) -> bool:
    """Return whether two learners agree in every field that both have and that is no privacy field."""
    one, two = (varying_fields({"learner": _learner(folder)}) for folder in (first, second))
    shared = {key for key in one.keys() & two.keys() if key.split(".")[1] not in PRIVACY_FIELDS}
    return all(one[key] == two[key] for key in shared)
