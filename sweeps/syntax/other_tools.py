"""Syntax of other tools in a sweep file: an error that shows ours."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from fairsweep.sweeps.syntax.errors import Location, SweepError

_LISTED = "{grid: [a, b]} to cross all values, or {choice: [a, b]} to try one of them"
_RANGE = "{uniform: [a, b]}, {loguniform: [a, b]}, {randint: [a, b]} or {lograndint: [a, b]}"
_OURS: Mapping[str, str] = {
    "grid_search": "{grid: [a, b]}",
    "categorical": _LISTED,
    "choices": _LISTED,
    "options": _LISTED,
    "sample_from": _LISTED,
    "float": _RANGE,
    "int": "{randint: [a, b]} or {lograndint: [a, b]}",
    "log_uniform": "{loguniform: [a, b]}",
    "log_uniform_values": "{loguniform: [a, b]}",
    "int_uniform": "{randint: [a, b]}",
    "q_uniform": "{quniform: [a, b, q]}",
    "qloguniform": "{quniform: [a, b, q]} or {loguniform: [a, b]}",
    "qrandint": "{quniform: [a, b, q]} with whole numbers",
    "qlograndint": "{lograndint: [a, b]}",
    "randn": _RANGE,
    "normal": _RANGE,
    "range": _RANGE,
}
KINDS = ("grid", "choice", "uniform", "loguniform", "quniform", "randint", "lograndint")
_THOUSANDS = re.compile(r"[1-9][0-9]{0,2}(,[0-9]{3})+")
_OPTIONS = ("log", "q", "step", "base")
# The fields of a range that populations explore are named low, high and log, and of an objective min and max.
_OWN_FIELDS = ("explore", "objective")


_FILES: Mapping[str, tuple[frozenset[str], int]] = {
    "a W&B sweep file": (frozenset({"program", "method", "parameters", "metric", "early_terminate"}), 2),
    "a Hydra config": (frozenset({"defaults", "hydra"}), 1),
    "an MLflow project": (frozenset({"entry_points"}), 1),
    "a config of a Ray cluster": (frozenset({"cluster_name", "available_node_types", "head_node_type"}), 2),
}
"""Keys of other tools' files, and how many of them tell."""
_OWN_KEY = "learners"


def check_file(content: Mapping[str, object]) -> None:
    """Refuse a whole file of another tool: to name the nearest key for each of its own would mislead.

    Raises:
        SweepError: with what it seems to be and how to begin.
    """
    if _OWN_KEY in content:
        return
    for tool, (keys, least) in _FILES.items():
        found = [key for key in content if key in keys]
        if len(found) >= least:
            raise SweepError(
                f"this looks like {tool} ({', '.join(found)}), not a sweep file of fairsweep, which has the keys "
                "dataset, model, learners, …: write a starter file with `fairsweep init celeba`, or utkface, faces, "
                "folder"
            )


def check_words(raw: Mapping[object, object], location: Location) -> None:
    """Refuse a mapping that is a search dimension in the words of W&B, Ray Tune or Optuna.

    Args:
        raw: any mapping of a section with search dimensions.
        location: its place.

    Raises:
        SweepError: with what to write instead.
    """
    if any(part in _OWN_FIELDS for part in location):
        return
    ours = _remedy(raw)
    if ours is not None:
        raise SweepError(f"a search dimension is not written as {dict(raw)!r}: write {ours}", location)
    for value in raw.values():
        if isinstance(value, str) and value.startswith(("tune.", "np.random", "trial.suggest", "optuna.")):
            raise SweepError(f"a search dimension is not written as {value!r}: write {_LISTED}, or {_RANGE}", location)


def instead_of_number(value: object, *, searchable: bool) -> str:
    """Return the end of a message that a number was due: how we write what was probably meant.

    Empty where that is unknown.

    Args:
        value: what was given.
        searchable: whether the field can be a search dimension.

    >>> instead_of_number("90%", searchable=False)
    '; write 0.9'
    >>> instead_of_number("0.1,0.01", searchable=True)
    '; to try each, write {grid: [0.1, 0.01]}'
    """
    if isinstance(value, str) and value.strip().endswith("%"):
        share = _number(value.strip()[:-1])
        return "" if share is None else f"; write {share / 100:g}"
    if isinstance(value, str) and _THOUSANDS.fullmatch(value.strip()):
        return f"; write {value.strip().replace(',', '')}"
    if searchable and isinstance(value, Mapping) and len(value) == 1:
        ((kind, inside),) = value.items()
        near = difflib.get_close_matches(str(kind), KINDS, n=1)
        return f"; did you mean {{{near[0]}: {inside}}}?" if near else ""
    values = value.split(",") if isinstance(value, str) else value
    if not searchable or not isinstance(values, list | tuple) or len(values) < (2 if isinstance(value, str) else 1):
        return ""
    numbers = [_number(item) for item in values]
    if None in numbers:
        return ""
    return f"; to try each, write {{grid: [{', '.join(f'{number:g}' for number in numbers if number is not None)}]}}"


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _remedy(raw: Mapping[object, object]) -> str | None:
    """Say how we write it; None for an ordinary mapping."""
    known = [name for name in raw if name in KINDS]
    more = sorted(str(name) for name in raw if name in _OPTIONS)
    if known and more:
        return f"{{{known[0]}: […]}} without {', '.join(more)}; there are loguniform, lograndint, quniform [a, b, q]"
    if isinstance(raw.get("values"), list | tuple):
        return _LISTED
    ends = [raw.get("min"), raw.get("max")] if "min" in raw else [raw.get("low"), raw.get("high")]
    if all(isinstance(end, int | float) for end in ends):
        return _RANGE
    (name, value), *more_fields = list(raw.items()) or [(None, None)]
    if not more_fields and isinstance(value, list | tuple) and str(name).lower() in _OURS:
        return _OURS[str(name).lower()]
    return None
