"""One or several output folders opened together, with each trial once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fairsweep.analysis.records.file_names import CELLS, SWEEP_JSON, SWEEP_YAML, TRIALS
from fairsweep.analysis.records.files import RecordError, SweepLocation
from fairsweep.analysis.records.loading import Problem, left_out, read_each, read_trial_folders
from fairsweep.analysis.records.membership import members_of
from fairsweep.analysis.records.record_cache import LEAST_TRIALS, RecordCache
from fairsweep.analysis.records.trial_cells import CellSchema, TrialCells
from fairsweep.analysis.records.trial_folder import TrialFolder

_DATASET = "dataset.json"
CellsByTrial = dict[str, tuple[CellSchema, TrialCells]]


@dataclass
class OpenedSweep:
    """One opened output folder.

    Attributes:
        location: the folder.
        sweep: ``sweep.json``, or an empty mapping.
        cache: of a local folder, unless it is not wanted.
        folders: its trials, as far as they are taken from this folder.
        former: names of the folders of trials that belong to earlier versions of the sweep and are left out.
        problems: what could not be read.
    """

    location: SweepLocation
    sweep: dict[str, Any] = field(default_factory=dict)
    cache: RecordCache | None = None
    folders: list[TrialFolder] = field(default_factory=list)
    former: frozenset[str] = frozenset()
    problems: list[Problem] = field(default_factory=list)

    @classmethod
    def open(cls, location: SweepLocation, *, cache: bool, former: bool = False) -> OpenedSweep:
        """Read the small records of a sweep.

        Args:
            location: the folder.
            cache: whether there may be one.
            former: whether trials of earlier versions of the sweep are taken too.

        Raises:
            FileNotFoundError: if there is no such folder.
        """
        if not location.exists():
            raise FileNotFoundError(f"{location.path} must be the output folder of a sweep, but does not exist")
        _check_kind(location)
        source = cls(location, cache=RecordCache(location.local) if cache and location.local else None)
        try:
            source.sweep = (location / SWEEP_JSON).json() or {}
        except (RecordError, OSError) as error:
            source.problems.append(Problem.of_sweep(location, SWEEP_JSON, error))
        source.problems += source.file_problems()
        folders, problems = read_trial_folders(location, source.cache)
        members = None if former else members_of(source.sweep)
        # A trial that cannot be read has no hash: it stays, among the problems.
        source.folders = [f for f in folders if members is None or f.hash is None or f.hash in members]
        source.former = frozenset(f.folder_name for f in folders) - {f.folder_name for f in source.folders}
        source.problems += left_out(location)
        taken = {folder.name for folder in source.folders}
        source.problems += [problem for problem in problems if problem.trial in taken]
        return source

    def file_problems(self) -> list[Problem]:
        """Return a ``sweep.yaml`` that is not as ``sweep.json`` knows it."""
        known = self.sweep.get("file")
        if known is None:
            return []
        try:
            if (self.location / SWEEP_YAML).content() == str(known).encode():
                return []
            error = f"{SWEEP_YAML} has changed since it was written: it is damaged, or was edited"
        except (FileNotFoundError, OSError):
            error = f"{SWEEP_YAML} is missing"
        return [Problem.of_sweep(self.location, SWEEP_YAML, error)]

    @property
    def name(self) -> str:
        """Return the name of the sweep; without ``sweep.json`` the name of its folder."""
        return str(self.sweep.get("name") or self.location.path.rsplit("/", 1)[-1])

    def cells(self) -> CellsByTrial:
        """Return the cells of every trial that has some, from the cache where they stand there."""
        folders = {folder.folder_name: folder for folder in self.folders}
        cached = [] if self.cache is None else [name for name, folder in folders.items() if folder.is_cached]
        known = {} if self.cache is None else self.cache.cells(cached)
        found = {folders[name].name: cells for name, cells in known.items()}
        others = [folder for folder in self.folders if folder.name not in found]
        read, problems = read_each(others, CELLS, _read_cells)
        self.problems += problems
        found |= read
        self._write_cache(found)
        return found

    def _write_cache(self, cells: CellsByTrial) -> None:
        """Write the cache anew once a twentieth of the finished trials is missing from it, or one in it has changed."""
        if self.cache is None or len(self.folders) < LEAST_TRIALS:
            return
        damaged = {problem.trial for problem in self.problems}
        done = [f for f in self.folders if f.stage == "done" and f.name in cells and f.name not in damaged]
        fresh = sum(not folder.is_cached for folder in done)
        outdated = self.cache.names - self.former - {folder.folder_name for folder in done if folder.is_cached}
        if not outdated and fresh <= len(done) / 20:
            return
        self.cache.write(done, cells)


def open_sweeps(locations: Sequence[SweepLocation], *, cache: bool, former: bool = False) -> list[OpenedSweep]:
    """Open several sweeps; a trial that stands in two of them is taken once, from where it is done.

    Trials are the same where their hashes are. Trials of one name that are not the same are distinguished by the name
    of their sweep.

    Args:
        locations: their folders.
        cache: whether there may be one.
        former: whether trials of earlier versions of the sweeps are taken too.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if none is named, or if two ran on different data.
    """
    if not locations:
        raise ValueError("load needs at least one folder")
    sources = [OpenedSweep.open(location, cache=cache and len(locations) == 1, former=former) for location in locations]
    contents = {str((source.sweep.get("dataset") or {}).get("content_hash")): source.name for source in sources}
    if len(contents.keys() - {"None"}) > 1:
        raise ValueError(
            f"sweeps that are loaded together must have run on the same dataset, but {list(contents.values())} did "
            "not: one id would mean two images; load each by itself, or compare them with analysis.compare"
        )
    names = _distinct([source.name for source in sources])
    kept: dict[str, TrialFolder] = {}
    for source, name in zip(sources, names, strict=True):
        for folder in source.folders:
            folder.sweep = name
            key = str((folder.config or {}).get("trial") or f"{name}/{folder.name}")
            if key not in kept or (kept[key].stage != "done" and folder.stage == "done"):
                kept[key] = folder
    chosen = {id(folder) for folder in kept.values()}
    taken: set[str] = set()
    for source, name in zip(sources, names, strict=True):
        source.folders = [folder for folder in source.folders if id(folder) in chosen]
        for folder in source.folders:
            if folder.name in taken:
                folder.name = f"{name}/{folder.name}"
            taken.add(folder.name)
    return sources


def joined_sweep(sources: Sequence[OpenedSweep]) -> dict[str, Any]:
    """Return ``sweep.json`` of one sweep; of several that of the first, with the names and the learners of all."""
    first = dict(sources[0].sweep)
    if len(sources) == 1:
        return first
    learners = {
        str(learner.get("name")): learner
        for source in sources
        for learner in source.sweep.get("sweep", {}).get("learners", [])
    }
    name = " + ".join(source.name for source in sources)
    return first | {"name": name, "sweep": first.get("sweep", {}) | {"learners": list(learners.values())}}


def _distinct(names: Sequence[str]) -> list[str]:
    """Return the names, numbered from the second on where several are alike."""
    return [
        name if names.index(name) == i else f"{name} ({list(names[:i]).count(name) + 1})"
        for i, name in enumerate(names)
    ]


def _read_cells(trial: TrialFolder) -> tuple[CellSchema, TrialCells] | None:
    file = trial.cells(("split",))
    return None if file is None else (CellSchema.of(file), TrialCells.of(file))


def _check_kind(location: SweepLocation) -> None:
    """Refuse a local place that is no sweep's output: a file, a prepared dataset, or the folder above sweeps.

    A folder without records is taken: its sweep may be about to begin.

    Raises:
        ValueError: with what it is.
    """
    folder = location.local
    if folder is None:
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} must be the output folder of a sweep, but is a file; give its folder")
    if (folder / SWEEP_JSON).exists() or (folder / TRIALS).exists():
        return
    if (folder / _DATASET).exists():
        raise ValueError(f"{folder} must be the output folder of a sweep, but is a prepared dataset; give runs/NAME")
    inside = next((one for one in sorted(folder.iterdir()) if (one / SWEEP_JSON).exists()), None)
    if inside is not None:
        raise ValueError(
            f"{folder} is a folder of sweeps, not a sweep folder: load one of them, such as {inside}, or a list of them"
        )
