"""Matching of settings and trials of two sweeps: by hash, otherwise by learner, level and swept fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from fairsweep.analysis.results.sweep_records import SweepRecords
from fairsweep.analysis.results.trials import varying_fields

SAME_TRIALS = "same trials"
SAME_SEEDS = "same seeds"
UNPAIRED = "unpaired"
BOTH = "both"


@dataclass(frozen=True)
class Matching:
    """Settings and trials of two sweeps, side by side.

    Attributes:
        settings: one row per setting: ``learner``, ``level``, ``where`` (``both``, or the letter of the only sweep that
            has it), ``setting_a`` and ``setting_b`` (hashes, one empty where the other sweep lacks it), ``done_a`` and
            ``done_b`` (trials that are done), ``pairs``, and ``pairing``: ``same trials`` (hashes agree), ``same
            seeds``, ``unpaired`` (no seeds in common), or empty.
        pairs: one row per pair of trials that are done: ``trial_a``, ``trial_b``, ``setting_b``, ``pairing``.
    """

    settings: pd.DataFrame
    pairs: pd.DataFrame


def match(a: SweepRecords, b: SweepRecords) -> Matching:
    """Match two sweeps.

    Settings of one hash are the same. The others match where learner, level and every field that takes several values
    within either sweep agree, and nothing else on the same side does: what differs then is what was changed between the
    two sweeps. Trials of matched settings pair by their hash, else by their seeds.
    """
    first, second = _table(a), _table(b)
    partners = _partners(a, b, first, second)
    rows, pairs = [], []
    for one, other in partners:
        mine, theirs = (_done(table, setting) for table, setting in ((first, one), (second, other)))
        found = _pairs(mine, theirs) if one and other else []
        pairs += [(trial_a, trial_b, other, pairing) for trial_a, trial_b, pairing in found]
        table = second if other else first
        shown = table[table["setting"] == (other or one)].iloc[0]
        rows.append(
            {
                "learner": shown["series"],
                "level": shown["level"],
                "where": BOTH if one and other else "A" if one else "B",
                "setting_a": one,
                "setting_b": other,
                "done_a": len(mine),
                "done_b": len(theirs),
                "pairs": len(found),
                "pairing": _pairing([pair[2] for pair in found]) if one and other else "",
            }
        )
    return Matching(pd.DataFrame(rows), pd.DataFrame(pairs, columns=["trial_a", "trial_b", "setting_b", "pairing"]))


def _table(results: SweepRecords) -> pd.DataFrame:
    """Return the trials with their hashes."""
    hashes = [str((folder.config or {}).get("trial", "")) for folder in results.folders]
    return results.trials.assign(hash=hashes)


def _done(table: pd.DataFrame, setting: str) -> pd.DataFrame:
    return table[(table["setting"] == setting) & (table["state"] == "done") & (setting != "")]


def _partners(a: SweepRecords, b: SweepRecords, first: pd.DataFrame, second: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the pairs of settings, in the order of the second sweep; an empty text where there is no partner."""
    in_a, in_b = (list(dict.fromkeys(setting for setting in t["setting"] if setting)) for t in (first, second))
    found = {setting: setting for setting in in_b if setting in set(in_a)}
    swept = _swept(a) | _swept(b)
    keys_a, keys_b = (_keys(results, swept) for results in (a, b))
    left_a, left_b = [s for s in in_a if s not in found], [s for s in in_b if s not in found]
    for setting in left_b:
        alike = [other for other in left_a if keys_a[other] == keys_b[setting]]
        if len(alike) == 1 and sum(keys_b[other] == keys_b[setting] for other in left_b) == 1:
            found[setting] = alike[0]
    taken = set(found.values())
    return [(found.get(setting, ""), setting) for setting in in_b] + [(s, "") for s in in_a if s not in taken]


def _swept(results: SweepRecords) -> frozenset[tuple[str, str]]:
    """(learner, field) of every field that takes several values under a learner's name."""
    seen: dict[tuple[str, str], set[str]] = {}
    for name, fields in _fields(results).values():
        for key, value in fields.items():
            seen.setdefault((name, key), set()).add(value)
    return frozenset(key for key, values in seen.items() if len(values) > 1)


def _fields(results: SweepRecords) -> dict[str, tuple[str, Mapping[str, str]]]:
    """Return the learner and fields of each setting."""
    configs: Iterable[dict[str, object]] = (folder.config for folder in results.folders if folder.config)
    return {str(c.get("setting")): (str(_named(c.get("learner"))), varying_fields(c)) for c in configs}


def _named(learner: object) -> object:
    return learner.get("name", "") if isinstance(learner, Mapping) else ""


def _keys(results: SweepRecords, swept: frozenset[tuple[str, str]]) -> dict[str, tuple[object, ...]]:
    levels = dict(zip(results.trials["setting"], results.trials["level"], strict=True))
    return {
        setting: (name, levels[setting], tuple(sorted(item for item in fields.items() if (name, item[0]) in swept)))
        for setting, (name, fields) in _fields(results).items()
    }


def _pairs(mine: pd.DataFrame, theirs: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Return the trials by hash, else by seeds; each at most once."""
    columns = ["trial", "hash", "data_seed", "train_seed"]
    one, other = (list(table[columns].itertuples(index=False, name=None)) for table in (mine, theirs))
    by_hash = {row[1]: row[0] for row in one}
    found = [(by_hash[row[1]], row[0], SAME_TRIALS) for row in other if row[1] in by_hash]
    taken = {name for pair in found for name in (("a", pair[0]), ("b", pair[1]))}
    by_seeds: dict[tuple[float, float], list[str]] = {}
    for name, _, *seeds in one:
        if ("a", name) not in taken:
            by_seeds.setdefault((seeds[0], seeds[1]), []).append(name)
    for name, _, *seeds in other:
        fitting = by_seeds.get((seeds[0], seeds[1]), [])
        if ("b", name) not in taken and len(fitting) == 1:
            found.append((fitting.pop(), name, SAME_SEEDS))
    return found


def _pairing(kinds: list[str]) -> str:
    if not kinds:
        return UNPAIRED
    return SAME_TRIALS if set(kinds) == {SAME_TRIALS} else SAME_SEEDS
