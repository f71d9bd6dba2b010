"""The difference between two versions of a sweep: changed keys, and added or removed trials."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fairsweep.analysis.records.membership import members_of
from fairsweep.sweeps.planning.preflight import SweepPlan, check_sweep
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.sweeps.store.initial_weights import with_initial
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.syntax.paths import with_stored_paths

Kind = Literal["added", "removed", "changed"]
_MARKS = {"added": "+", "removed": "-", "changed": "~"}
_WIDEST = 60
# Where a sweep lies says nothing about what it does.
_IGNORED = ("output",)
_ABSENT = object()


@dataclass(frozen=True)
class Change:
    """One key that differs.

    Attributes:
        place: dotted; an entry of ``learners`` goes by its name.
        kind: whether the key is new, gone, or has another value.
        before: the value there was; None for a new key.
        after: the value there is; None for a key that is gone.
    """

    place: str
    kind: Kind
    before: Any = None
    after: Any = None

    def __str__(self) -> str:
        """One line for people.

        >>> str(Change("seeds", "changed", 5, 6))
        '~ seeds: 5 → 6'
        """
        values = {"added": (self.after,), "removed": (self.before,), "changed": (self.before, self.after)}[self.kind]
        return f"{_MARKS[self.kind]} {self.place}: {' → '.join(map(_shown, values))}"


@dataclass(frozen=True)
class SweepDifference:
    """What a new version of a sweep means for its output folder.

    Attributes:
        changes: the keys that differ.
        added: labels of trials that the folder has never heard of.
        left: names of the folders of trials that are no part of the sweep any more; they stay where they are.
        is_listed: whether that is known: a guided search finds its trials as it runs.
        is_identified_anew: whether trials of the last run have other hashes now though no key differs.
    """

    changes: tuple[Change, ...]
    added: tuple[str, ...]
    left: tuple[str, ...]
    is_listed: bool = True
    is_identified_anew: bool = False

    def lines(self) -> list[str]:
        """For people; empty where nothing has changed."""
        if not self.changes:
            return list(self.former_lines())
        said = ["Changed since the last run:", *(f"  {change}" for change in self.changes)]
        if not self.is_listed:
            return said
        counts = [f"adds {len(self.added)} {_trials(len(self.added))}"] if self.added else ["adds no trial"]
        if self.left:
            counts.append(
                f"{len(self.left)} {_trials(len(self.left))} of the previous version are not part of it; they are kept"
            )
        return [*said, f"  {'; '.join(counts)}"]

    def former_lines(self) -> tuple[str, ...]:
        """Return a line on trials that others replace, and why; empty where there are none."""
        if not (self.added and self.left and (self.changes or self.is_identified_anew)):
            return ()
        why = "has changed" if self.changes else "has not changed, but this version of fairsweep identifies trials anew"
        count, new = len(self.left), len(self.added)
        are, they = ("is a former one", "it is") if count == 1 else ("are former ones", "they are")
        return (
            f"{count} {_trials(count)} of the output folder {are}: {they} kept (fairsweep ls SWEEP --all), and {new} "
            f"{_trials(new)} will be trained; the sweep file {why}",
        )


def changes(before: object, after: object, place: str = "") -> tuple[Change, ...]:
    """Return the keys that differ between two plain values, in the order of the newer one.

    >>> [str(change) for change in changes({"seeds": 5, "key": 1}, {"seeds": 6, "name": "b"})]
    ['~ seeds: 5 → 6', '+ name: b', '- key: 1']
    """
    return tuple(_changes(before, after, place))


def difference_of(sweep: SweepSpec) -> SweepDifference:
    """Return what a sweep changes in its output folder; nothing is started or written.

    Raises:
        SweepError: if the sweep cannot run as asked.
    """
    return folder_difference(check_sweep(with_initial(sweep)), OutputFolder.at(sweep.folder))


def folder_difference(plan: SweepPlan, output: OutputFolder) -> SweepDifference:
    """Return what a checked sweep changes in an output folder."""
    former = output.description()
    found = () if former is None else changes(_comparable(former), _comparable(_described(plan)))
    if plan.sweep.search.is_guided or plan.sweep.search.is_secret:
        return SweepDifference(found, (), (), is_listed=False)
    known = {trial: entry.folder.name for trial, entry in output.ledger.entries().items()}
    now = {trial.trial for trial in plan.trials}
    added = tuple(trial.label for trial in plan.trials if trial.trial not in known)
    left = tuple(name for trial, name in known.items() if trial not in now)
    members = None if former is None else members_of(former)
    return SweepDifference(found, added, left, is_identified_anew=not found and bool((members or now) - now))


def _described(plan: SweepPlan) -> dict[str, Any]:
    return {
        "sweep": plan.sweep.model_dump(mode="json"),
        "dataset": {"path": str(plan.sweep.dataset.path)},
    }


def _comparable(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sweep with every default of this version filled in.

    The dataset's path is that of wherever the sweep was started.
    """
    content = dict(description["sweep"])
    with suppress(SweepError):  # a version that this one no longer reads is compared as it stands
        content = SweepSpec.from_mapping(with_stored_paths(description)).model_dump(mode="json")
    content["dataset"] = content["dataset"] | {"path": description["dataset"]["path"]}
    other = (content.get("evaluation") or {}).get("dataset")
    if other is not None:
        content["evaluation"] = content["evaluation"] | {"dataset": str(Path(other).name)}
    return {name: value for name, value in content.items() if name not in _IGNORED}


def _changes(before: object, after: object, place: str) -> Iterator[Change]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _between(before, after, place, lambda key: f"{place}.{key}" if place else str(key))
    elif _named(before) and _named(after):
        old, new = ({_name(item): item for item in side} for side in (before, after))  # type: ignore[attr-defined]
        yield from _between(old, new, place, lambda key: f"{place}[{key}]")
    elif before != after:
        yield Change(place, "changed", before, after)


def _between(before: Mapping[Any, Any], after: Mapping[Any, Any], place: str, inner: Any) -> Iterator[Change]:  # noqa: ANN401
    for key in (*after, *(key for key in before if key not in after)):
        old, new = before.get(key, _ABSENT), after.get(key, _ABSENT)
        if old is _ABSENT:
            yield Change(inner(key), "added", after=new)
        elif new is _ABSENT:
            yield Change(inner(key), "removed", before=old)
        else:
            yield from _changes(old, new, inner(key))


def _named(value: object) -> bool:
    """Whether a value is a list of mappings that each have a name of their own."""
    if not isinstance(value, list | tuple) or not all(isinstance(item, Mapping) for item in value):
        return False
    return None not in (names := {_name(item) for item in value}) and len(names) == len(value) > 0


def _name(item: Mapping[str, Any]) -> str | None:
    """Return what a learner is called; its kind where it has no name of its own."""
    name = item.get("name", item.get("kind"))
    return name if isinstance(name, str) else None


def _shown(value: object) -> str:
    """Return a value as it would stand in a sweep file, cut where it is long."""
    if isinstance(value, Mapping):
        text = "{" + ", ".join(f"{key}: {_shown(item)}" for key, item in value.items()) + "}"
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(_shown(item) for item in value) + "]"
    elif isinstance(value, bool) or value is None:
        text = {True: "true", False: "false", None: "null"}[value]
    else:
        text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def _trials(count: int) -> str:
    return "trial" if count == 1 else "trials"
