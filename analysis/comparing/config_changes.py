"""Differences between two sweeps other than results: configs, dataset, versions, commit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from fairsweep.analysis.comparing.matching import Matching
from fairsweep.analysis.results.sweep_records import SweepRecords
from fairsweep.analysis.results.trials import NUMERIC_FIELDS

COLUMNS = ("what", "where", "key", "a", "b")
_ABSENT = "(not set)"
# Of one trial or machine, or without effect on a number.
_SPEED = ".performance."
_IGNORED = frozenset({"format_version", "setting", "trial", "seeds", "replicate", "dataset"})


def config_changes(a: SweepRecords, b: SweepRecords, matching: Matching) -> pd.DataFrame:
    """Return what differs, one row per key.

    Returns:
        Columns ``what`` (``config``, ``dataset``, ``version`` or ``code``), ``where`` (the learners that it concerns,
        or empty for all of them), ``key``, ``a`` and ``b`` as texts.
    """
    rows = [*_configs(a, b, matching)]
    for what, key in (("dataset", "dataset"), ("version", "versions"), ("code", "git")):
        one, other = (_flat(results.sweep.get(key) or {}) for results in (a, b))
        rows += [(what, "", name, old, new) for name, old, new in _differing(one, other) if name != "path"]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _configs(a: SweepRecords, b: SweepRecords, matching: Matching) -> list[tuple[str, str, str, str, str]]:
    """Return the differences of matched settings; one that several learners share stands once."""
    both = matching.settings[(matching.settings["setting_a"] != "") & (matching.settings["setting_b"] != "")]
    first, second = (_by_setting(results) for results in (a, b))
    concerned: dict[tuple[str, str, str], list[str]] = {}
    for row in both.itertuples():
        for change in _differing(first[str(row.setting_a)], second[str(row.setting_b)]):
            if _SPEED in change[0] and not _is_numeric(*change):
                continue
            concerned.setdefault(change, []).append(str(row.learner))
    everyone = set(both["learner"])
    return [
        ("config", "" if set(names) == everyone else ", ".join(dict.fromkeys(names)), *change)
        for change, names in concerned.items()
    ]


def _is_numeric(key: str, old: str, new: str) -> bool:
    """Whether a change of ``performance`` is one of precision or its like; earlier versions had the defaults."""
    return key.rpartition(".")[2] in NUMERIC_FIELDS and _ABSENT not in (old, new)


def _by_setting(results: SweepRecords) -> dict[str, dict[str, str]]:
    configs = (folder.config for folder in results.folders if folder.config)
    return {
        str(config.get("setting")): _flat({key: value for key, value in config.items() if key not in _IGNORED})
        for config in configs
    }


def _differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[tuple[str, str, str]]:
    keys = dict.fromkeys([*one, *other])
    pairs = ((key, one.get(key, _ABSENT), other.get(key, _ABSENT)) for key in keys)
    return [(key, old, new) for key, old, new in pairs if old != new]


def _flat(value: Any, name: str = "") -> dict[str, str]:  # noqa: ANN401 - any JSON value
    if isinstance(value, Mapping):
        inner = (_flat(item, f"{name}.{key}" if name else str(key)) for key, item in value.items())
        return {key: text for part in inner for key, text in part.items()}
    return {name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}
