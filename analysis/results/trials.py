"""The table of trials: one row each, from their small records."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from fairsweep.analysis.own_code import OwnCode
from fairsweep.analysis.records.trial_folder import TrialFolder

# Fields of a learner by which a trial and its twin differ, and those that name or speed up only.
PRIVACY_FIELDS = frozenset({"epsilon", "noise_multiplier", "delta", "l2_clip_norm", "clipping", "deployment_cohort"})
_NAMING_FIELDS = frozenset({"name", "kind", "twin_of", "performance"})
NUMERIC_FIELDS = {"precision": "float32", "compile": False, "channels_last": "auto", "tf32": True}
"""Fields of ``performance`` that change more than speed, with what trials of earlier versions had."""
_BEFORE = {"cnn": {"initial": "he"}}
"""By model, what trials of earlier versions had in fields of it that their records lack."""
# The field of each form of imbalance that is its level, on the x axis.
_LEVEL_FIELDS = ("share", "minority_size", "keep")
# What a field that is not recorded says, where that is neither null nor false: records of versions that lacked it.
_UNSAID = {
    **{"schedule.name": "constant", "schedule.warmup": "0", "augmentation_multiplicity": "1", "model.train": "all"},
    **{"optimizer.momentum": "0", "optimizer.betas": "[0.9, 0.999]"},
}
# In the name of a series, as papers write them.
_SIMULATED, _DEPLOYMENT = "simulated deployment's ε", "learner.deployment_cohort"
_SYMBOLS = {"epsilon": "ε", "noise_multiplier": "z", "l2_clip_norm": "clip", "batch_size": "batch"}

_REPETITION = 1_000_000
_KINDS = 1_000

COLUMNS = (
    "trial",
    "learner",
    "series",
    "kind",
    "twin_of",
    "state",
    "stopped_by",
    "setting",
    "replicate",
    "data_seed",
    "train_seed",
    "attribute",
    "majority",
    "share",
    "minority_size",
    "keep",
    "level",
    "level_name",
    "level_value",
    "train_size",
    "minority_count",
    "epsilon",
    "epsilon_rdp",
    "delta",
    "noise_multiplier",
    "iteration",
    "iterations",
    "seconds",
    "examples_per_second",
    "host_peak_bytes",
    "device_peak_bytes",
    "attempt",
    "error",
    "sweep",
)
_OF_STATE = ("iteration", "iterations", "seconds", "host_peak_bytes", "device_peak_bytes", "attempt", "error")
_TEXTS = frozenset(
    {"trial", "learner", "series", "kind", "twin_of", "state", "stopped_by", "setting", "attribute", "majority", "keep"}
    | {"level", "level_name", "error", "sweep"}
)


def trials_table(folders: Iterable[TrialFolder], shown: Mapping[str, Mapping[str, str]] | None = None) -> pd.DataFrame:
    """Return one row per trial, in the order of the folders.

    Columns: ``trial`` (name of the folder), ``learner``, ``series`` (the learner, with the values of the fields that
    vary under its name), ``kind``, ``twin_of``, ``state`` (done also where a stopper ended it), ``stopped_by``
    (scheduler, stopper, user, or empty), ``setting``, ``replicate``, ``data_seed``, ``train_seed``
    (a million more for each repetition under further noise, which is a training as any other);
    of the imbalance ``attribute``, ``majority``, ``share``, ``minority_size``, ``keep`` and, whatever its form, the
    ``level`` in words with ``level_name`` and ``level_value``; ``train_size`` and ``minority_count`` as realised;
    ``epsilon`` (PLD), ``epsilon_rdp``, ``delta``, ``noise_multiplier`` as spent (epsilon is infinite for a learner
    without privacy); ``iteration`` of ``iterations``; ``seconds`` and ``examples_per_second`` of training,
    ``host_peak_bytes`` and ``device_peak_bytes``; ``attempt``, ``error``; the ``sweep`` it stands in.
    What is not known yet is NaN or an empty text.

    Args:
        folders: the trials.
        shown: of attributes whose values are shown by other names, those names by value; None for none.
    """
    listed = list(folders)
    series = _series([folder.config for folder in listed])
    rows = [_row(folder, shown or {}) | {"series": name} for folder, name in zip(listed, series, strict=True)]
    columns = {name: [row.get(name) for row in rows] for name in COLUMNS}
    return pd.DataFrame(
        {name: _texts(values) if name in _TEXTS else _numbers(values) for name, values in columns.items()}
    )


def _texts(values: Sequence[Any]) -> pd.Series[str]:
    return pd.Series(["" if value is None else str(value) for value in values], dtype="str")


def _numbers(values: Sequence[Any]) -> pd.Series[float]:
    """Return integers where all are known and whole, else floats with NaN."""
    array = np.array([np.nan if value is None else value for value in values], np.float64)
    return pd.Series(array.astype(np.int64) if all(isinstance(value, int) for value in values) else array)


def _row(folder: TrialFolder, shown: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    config, data = folder.config or {}, folder.data or {}
    learner, seeds = config.get("learner", {}), config.get("seeds", {})
    row = {
        "trial": folder.name,
        "learner": learner.get("name"),
        "kind": learner.get("kind"),
        "twin_of": learner.get("twin_of"),
        "state": folder.stage,
        "sweep": folder.sweep,
        "stopped_by": folder.stopped_by,
        "setting": config.get("setting"),
        "replicate": config.get("replicate"),
        "data_seed": seeds.get("data"),
        "train_seed": _train_seed(seeds),
        "train_size": data.get("size"),
        "minority_count": (data.get("minority") or {}).get("count"),
    }
    row |= {name: getattr(folder.state, name, None) for name in _OF_STATE}
    if folder.state is not None and folder.state.seconds and folder.state.examples:
        row["examples_per_second"] = folder.state.examples / folder.state.seconds
    return row | _level(config, shown) | _privacy(folder)


def _train_seed(seeds: Mapping[str, int]) -> int | None:
    """Return the training seed, with the numbers of a repetition under further noise, order or initial weights."""
    train = seeds.get("train")
    number = (seeds.get("order", 0) * _KINDS + seeds.get("init", 0)) * _KINDS + seeds.get("noise", 0)
    return None if train is None else train + _REPETITION * number


def _level(config: Mapping[str, Any], shown: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return the imbalance of a trial: its fields, and its level in words and as a number."""

    def words(value: object) -> str:
        """Return a value as it is shown: ``female``; ``digit 8`` where it has no name of its own."""
        return shown.get(str(attribute), {}).get(str(value)) or f"{attribute} {value}"

    imbalance = config.get("imbalance")
    if imbalance is None:
        return {"level": "natural" if config else ""}
    attribute = imbalance.get("attribute")
    row = {"attribute": attribute, "majority": imbalance.get("majority")}
    if "keep" in imbalance:
        kept = {str(value): int(cap) for value, cap in imbalance["keep"].items()}
        caps = ", ".join(f"{cap:,} of {words(value)}" for value, cap in kept.items())
        row |= {"keep": json.dumps(kept), "level": f"at most {caps}"}
        if len(kept) == 1:
            row |= {"level_name": f"images kept of {words(next(iter(kept)))}", "level_value": min(kept.values())}
        return row
    if "share" in imbalance:
        share = imbalance["share"]
        name = f"share of {words(row['majority'])}"
        return row | {"share": share, "level": f"share {share:g}", "level_name": name, "level_value": share}
    size = imbalance.get("minority_size")
    name = f"images not {words(row['majority'])}"
    return row | {"minority_size": size, "level": f"minority size {size:,}", "level_name": name, "level_value": size}


def _privacy(folder: TrialFolder) -> dict[str, Any]:
    """Return what was spent; infinite where nothing was promised, NaN where it is not known (yet)."""
    spent = folder.privacy
    if spent is None:
        learner = (folder.config or {}).get("learner", {"noise_multiplier": None})
        is_private = "noise_multiplier" in learner.get("inner", learner)
        return {} if is_private else {"epsilon": float("inf"), "epsilon_rdp": float("inf")}
    return {
        "epsilon": folder.epsilon,
        "epsilon_rdp": _number(folder.spent.get("rdp")),
        "delta": _number(spent.get("delta")),
        "noise_multiplier": _number(spent.get("noise_multiplier")),
    }


def _number(value: Any) -> float:  # noqa: ANN401 - a number, the text "inf", or null
    return float("nan") if value is None else float(value)


def _series(configs: Sequence[Mapping[str, Any] | None]) -> list[str]:
    """Return a learner's name, followed by the fields that take several values under that name (the level left out)."""
    flat = _varying_by_setting(configs)
    names = [(config or {}).get("learner", {}).get("name", "") for config in configs]
    # Replicates of a setting share one mapping of fields, which is looked at once.
    each = {(name, id(fields)): fields or {} for name, fields in zip(names, flat, strict=True)}
    seen: dict[tuple[str, str], list[str]] = {}
    for (name, _), fields in each.items():
        for key, value in fields.items():
            seen.setdefault((name, key), []).append(value)
    settings = Counter(name for name, _ in each)
    # Whether all of a learner's settings have a field: where some lack it, its former value names nothing.
    vary = {place: len(values) == settings[place[0]] for place, values in seen.items() if len(set(values)) > 1}
    text = {}
    for (name, number), fields in each.items():
        varied = [
            (_short(key), value)
            for key, value in fields.items()
            if (name, key) in vary and (vary[name, key] or _is_said(key, value))
        ]
        # The budget that is given is that of the deployment; what is spent here is another number.
        symbols = _SYMBOLS | ({"epsilon": _SIMULATED} if fields.get(_DEPLOYMENT, "None") != "None" else {})
        text[name, number] = ", ".join([name, *(f"{symbols.get(key, key)}={value}" for key, value in varied)])
    alike: dict[str, list[tuple[str, int]]] = {}
    for entry, label in text.items():
        alike.setdefault(label, []).append(entry)
    for label, entries in alike.items():
        for entry, more in zip(entries, _told_apart([each[entry] for entry in entries]), strict=True):
            text[entry] = ", ".join([label, *more])
    return [text[name, id(fields)] for name, fields in zip(names, flat, strict=True)]


def _told_apart(listed: Sequence[Mapping[str, str]]) -> list[list[str]]:
    """Return, for each of some settings of one label, the fields of learner and model that others of them lack."""
    said = [
        {key: value for key, value in fields.items() if key.startswith(("learner.", "model.")) and _is_said(key, value)}
        for fields in listed
    ]
    partly = [key for key in dict.fromkeys(chain(*said)) if len({fields.get(key) for fields in said}) > 1]
    return [[f"{_short(key)}={fields[key]}" for key in partly if key in fields] for fields in said]


def _short(key: str) -> str:
    """Return a field without the sections that it stands in; what is called a name has that of its section.

    >>> _short("learner.optimizer.lr"), _short("learner.optimizer.schedule.name")
    ('lr', 'schedule')
    """
    *_, section, field = key.split(".")
    return section if field == "name" else field


def _is_said(key: str, value: str) -> bool:
    """Return whether a field has another value than it would have where it is not recorded."""
    unsaid = next((former for ending, former in _UNSAID.items() if key.endswith(f".{ending}")), None)
    return value not in ({"None", "False", "[]"} if unsaid is None else {unsaid})


def _varying_by_setting(configs: Sequence[Mapping[str, Any] | None]) -> list[dict[str, str] | None]:
    """Return the varying fields of each config, worked out once a setting: replicates differ in their seeds only."""
    known: dict[str, dict[str, str]] = {}
    found: list[dict[str, str] | None] = []
    for config in configs:
        setting = (config or {}).get("setting")
        if config is None or setting is None:
            found.append(None if config is None else varying_fields(config))
            continue
        if setting not in known:
            known[setting] = varying_fields(config)
        found.append(known[setting])
    return found


def varying_fields(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of learner, model, imbalance and split that may be swept, as texts by dotted name."""
    learner = {key: value for key, value in config.get("learner", {}).items() if key not in _NAMING_FIELDS}
    if (source := learner.pop("source", None)) is not None:
        learner["source_hash"] = OwnCode("", str(source)).source_hash
    computed = config.get("learner", {}).get("performance") or {}
    learner |= {"performance": {key: computed.get(key, before) for key, before in NUMERIC_FIELDS.items()}}
    imbalance = {key: value for key, value in (config.get("imbalance") or {}).items() if key not in _LEVEL_FIELDS}
    split = {key: value for key, value in (config.get("split") or {}).items() if key != "kind"}
    model = {key: value for key, value in (config.get("model") or {}).items() if key != "source"}
    model = _BEFORE.get(str(model.get("name")), {}) | model
    parts = {"learner": learner, "model": model, "imbalance": imbalance, "split": split}
    return {key: value for name, part in parts.items() for key, value in _flatten(part, name).items()}


def _flatten(value: Any, name: str) -> dict[str, str]:  # noqa: ANN401 - any JSON value
    if isinstance(value, Mapping):
        value = _with_schedule(value) if "milestones" in value else value
        return {key: text for inner, item in value.items() for key, text in _flatten(item, f"{name}.{inner}").items()}
    return {name: f"{value:g}" if isinstance(value, float) else str(value)}


def _with_schedule(optimizer: Mapping[str, Any]) -> dict[str, Any]:
    """Return an optimiser of a version that had milestones alone, with the schedule that they are."""
    kept = {key: value for key, value in optimizer.items() if key not in ("milestones", "milestone_factor")}
    schedule = {"name": "constant", "warmup": 0.0}
    if at := optimizer["milestones"]:
        schedule |= {"name": "milestones", "at": at, "by": optimizer.get("milestone_factor", 0.1)}
    return kept | {"schedule": schedule}
