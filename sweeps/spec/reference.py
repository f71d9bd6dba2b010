"""The reference page of the sweep file, generated from the models: every field, its default, its meaning."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from fairsweep.datasets.selection.division import SPLIT_KINDS
from fairsweep.datasets.selection.imbalance import KeepImbalance, MinoritySizeImbalance, ShareImbalance
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.sweeps.syntax.validation import models_of
from fairsweep.trainables.learners import LEARNERS
from fairsweep.trainables.models.models import FAMILIES, MODELS

_KIND = "Which training method."
_INTRODUCTION = """\
# The sweep file

YAML 1.2: `no` is a word, `1e-3` a number. Unknown keys are errors. Any field of a learner, the model, the imbalance or
the split can be a search dimension instead of a value:

| written as | meaning | needs |
|---|---|---|
| `{grid: [a, b, …]}` | each value, crossed with all other grids | |
| `{choice: [a, b, …]}` | one of the values | `search: {algorithm: …, samples: N}` |
| `{uniform: [a, b]}` | a real number from a to b | the same |
| `{loguniform: [a, b]}` | the same, uniform in its logarithm | the same |
| `{quniform: [a, b, q]}` | a, a + q, a + 2q, … up to b | the same |
| `{randint: [a, b]}` | a whole number in [a, b) | the same |
| `{lograndint: [a, b]}` | the same, uniform in its logarithm | the same |

A value of a grid or choice may have dimensions of its own, which exist only where that value is taken; the imbalance,
the model and the split may be dimensions as a whole. `evaluation` may not: all trials share it.

```yaml
imbalance: {grid: [{attribute: tone, majority: light, share: 0.9, size: 4000}, null]}
search:    {algorithm: random, samples: 8}
learners:
  - name: tuned
    kind: sgd
    epochs: 8
    optimizer: {choice: [{name: sgd, momentum: {uniform: [0, 0.95]}}, {name: adam, lr: {loguniform: [1e-4, 1e-2]}}]}
```

Relative paths are taken from the folder where fairsweep is started, and `~` is your home folder. Names of the sweep and
of learners become folders: letters, digits, `.`, `_` and `-`, not first a dot, at most 80 characters.

How `random`, `sobol` and searches guided by results choose them is told in [search.md](search.md).

An entry of `learners` has a `name` and either a `kind` with that kind's fields, or `twin_of: NAME`; it may have
`resources` of its own.

A fold is a dimension like any other: each is a setting of its own, tested on examples that train the other folds.
`split: {kind: folds, folds: 5}` trains on every fold; `fold: 0` or `fold: {grid: [0, 1]}` on some. Replicates of one
fold share its test examples; those of a `hold_out` do not. Where the dataset has a `user` column, both keep all images
of one user in one part, each user in the stratum of most of its images.

This page is made from the code by `python -m fairsweep.sweeps.spec.reference`.
"""


def reference() -> str:
    """Return the page, in Markdown."""
    parts = [_INTRODUCTION, _section("The file", SweepSpec)]
    for name, field in SweepSpec.model_fields.items():
        parts += [_section(f"`{name}`", model) for model in models_of(field.annotation) if model is not SweepSpec]
    forms: dict[str, type[BaseModel]] = {
        "share": ShareImbalance,
        "minority_size": MinoritySizeImbalance,
        "keep": KeepImbalance,
    }
    parts += [_section(f"`imbalance`, form `{name}`", model) for name, model in forms.items()]
    parts += [
        _section(f"`split`, kind `{kind}`", row, leave_out="kind")
        for kind, row in SPLIT_KINDS.items()
        if len(row.model_fields) > 1
    ]
    parts += [_section(f"`model`, name `{name}`", model) for name, model in MODELS.items()]
    parts += [_section(f"`model`, name: {name}", model, leave_out="source") for name, model in FAMILIES.items()]
    parts += [_section(f"`learners`, kind `{kind}`", row.config) for kind, row in LEARNERS.items()]
    return "\n".join(parts)


def _section(title: str, model: type[BaseModel], leave_out: str = "") -> str:
    lines = [f"## {title}\n", "| field | default | meaning |", "|---|---|---|"]
    lines += [
        f"| `{name}` | {default} | {meaning} |" for name, default, meaning in _fields(model, "") if name != leave_out
    ]
    return "\n".join(lines) + "\n"


def _fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    """Name, default and meaning of each field; those of a model inside it follow behind a dot."""
    meanings = _documented(model)
    for name, field in model.model_fields.items():
        meaning = field.description or meanings.get(name, _KIND if name == "kind" else "")
        inner = [m for m in models_of(field.annotation) if m is not model] if prefix or model is not SweepSpec else []
        required = field.is_required()
        value = None if required else field.get_default(call_default_factory=True)
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        default = "required" if required else _shown(extra.get("default", value))
        if len(inner) == 1 and value is not None:
            default = "see below"
        yield prefix + name, default, _one_line(meaning)
        # Members of a union share fields, which are explained once.
        yield from dict.fromkeys(row for nested in inner for row in _fields(nested, f"{prefix}{name}."))


def _documented(model: type[BaseModel]) -> dict[str, str]:
    """Return the meanings that a model's docstring lists under Attributes, those of its parents included."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if not (issubclass(cls, BaseModel) and cls.__doc__) or cls is BaseModel:
            continue
        text = cls.__doc__.partition("Attributes:")[2]
        for entry in re.finditer(r"^ {8}(\w+): (.*(?:\n {12}.*)*)", text, re.MULTILINE):
            found[entry[1]] = entry[2]
    return found


def _one_line(text: str) -> str:
    return " ".join(text.replace("``", "`").replace("|", "\\|").split())


def _shown(value: object) -> str:
    if value is None or value is PydanticUndefined:
        return "`null`"
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    raw = getattr(value, "raw", None)  # a Space
    return f"`{raw if raw is not None else value}`"


if __name__ == "__main__":
    print(reference(), end="")  # noqa: T201 - a script
