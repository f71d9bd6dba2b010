"""The stored description of a sweep in its output folder, rebuilt if a file of it is damaged or lost.

``sweep.json`` is the truth: the sweep with every default, and in ``file`` the sweep file as it was given. It is written
last. ``sweep.yaml`` is a copy for people. Each is rebuilt from the other, with what the trials say of their dataset.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from fairsweep.analysis.records.file_names import SWEEP_JSON, SWEEP_YAML, TRIALS
from fairsweep.analysis.records.files import NewerFormatError, RecordError, read_json
from fairsweep.analysis.records.trial_folder import TrialFolder
from fairsweep.sweeps.store.folder_kind import is_output
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.syntax.renamed_keys import with_current_names

FILE = "file"
_DISTRIBUTIONS = (
    "fairsweep",
    "torch",
    "torchvision",
    "opacus",
    "dp-accounting",
    "ray",
    "numpy",
    "pandas",
    "pyarrow",
    "scipy",
    "pydantic",
)


@dataclass(frozen=True)
class Description:
    """What is known of the sweep of an output folder.

    Attributes:
        path: the folder.
        content: as ``sweep.json`` has it; rebuilt, it lacks what nothing else knows.
        problems: which files are damaged or lost, a line each, without the remedy.
    """

    path: Path
    content: dict[str, Any]
    problems: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Description | None:
        """Return the description in a folder; None where neither ``sweep.json`` nor ``sweep.yaml`` can be read.

        Raises:
            SweepError: if a newer fairsweep wrote it.
        """
        yaml = _text(path / SWEEP_YAML)
        try:
            content = read_json(path / SWEEP_JSON)
        except (FileNotFoundError, NotADirectoryError):
            problem = f"{SWEEP_JSON} is missing"
        except NewerFormatError as error:
            raise SweepError(str(error)) from error
        except (RecordError, OSError) as error:
            problem = f"{SWEEP_JSON} is damaged ({str(error).removeprefix(f'{path / SWEEP_JSON} is damaged: ')})"
        else:
            if isinstance(content.get("sweep"), dict):
                content["sweep"] = with_current_names(content["sweep"])
            known = content.get(FILE)
            if known is None or yaml == known:
                return cls(path, content)
            return cls(
                path,
                content,
                (f"{SWEEP_YAML} has changed since it was written: it is damaged, missing, or was edited",),
            )
        names = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
        rebuilt = _rebuilt(path, yaml) if yaml is not None and is_output(names | {SWEEP_YAML}) else None
        return None if rebuilt is None else cls(path, rebuilt, (f"{problem}; what {SWEEP_YAML} says counts",))

    @property
    def text(self) -> str:
        """The sweep file."""
        known = self.content.get(FILE)
        if known is None:  # written by an earlier version
            known = _text(self.path / SWEEP_YAML)
        return as_yaml(self.content["sweep"]) if known is None else str(known)

    @cached_property
    def content_hashes(self) -> tuple[str, ...]:
        """Of the dataset and, if the sweep is tested on another, of that; empty where they are not known."""
        dataset = self.content.get("dataset") or {}
        other = (dataset.get("evaluation") or {}).get("content_hash")
        return tuple(str(known) for known in (dataset.get("content_hash"), other) if known is not None)


def as_yaml(resolved: Mapping[str, Any]) -> str:
    """Return a resolved sweep as a sweep file."""
    stream = io.StringIO()
    YAML(typ="safe", pure=True).dump(json.loads(json.dumps(resolved)), stream)
    return stream.getvalue()


def _text(path: Path) -> str | None:
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None


def _rebuilt(path: Path, text: str) -> dict[str, Any] | None:
    """Return the content of ``sweep.json`` as far as the sweep file and the trials know it.

    None where that is no sweep.
    """
    from fairsweep.sweeps.spec.sections import named_initial
    from fairsweep.sweeps.spec.sweep_spec import SweepSpec
    from fairsweep.sweeps.syntax.sweep_file import SweepSource

    try:
        sweep = SweepSpec.from_mapping(with_current_names(SweepSource.read(path / SWEEP_YAML).content))
    except SweepError:
        return None
    trials = path / TRIALS
    folders = sorted(trials.iterdir()) if trials.is_dir() else []
    dataset: dict[str, Any] = {"path": str(sweep.dataset.path)}
    resolved = sweep.model_dump(mode="json")
    if sweep.evaluation.dataset is not None:
        dataset["evaluation"] = {"path": str(sweep.evaluation.dataset)}
    for folder in folders:
        try:
            config = TrialFolder(folder).config or {}
            dataset |= config["dataset"]
        except (OSError, RecordError, KeyError, TypeError):
            continue
        if (initial := (config.get("model") or {}).get("initial")) is not None:
            resolved["model"] = named_initial(resolved["model"], initial)
        if config.get("test_content") is not None:
            dataset["evaluation"] = {"path": config["evaluation"]["dataset"], "content_hash": config["test_content"]}
        # The sweep file names its data as it was seen from elsewhere.
        resolved["dataset"]["path"] = dataset["path"]
        if "evaluation" in dataset:
            resolved["evaluation"]["dataset"] = dataset["evaluation"]["path"]
        break
    return {"name": sweep.name, "trials": len(folders), "dataset": dataset, "sweep": resolved, FILE: text}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that can change a number."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> dict[str, Any] | None:
    """Return the commit of the working folder, and whether it has changes; None outside a repository."""
    if shutil.which("git") is None:
        return None

    def ask(*arguments: str) -> str | None:
        answer = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=False)
        return answer.stdout.strip() if answer.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    return None if commit is None else {"commit": commit, "changed": bool(ask("status", "--porcelain", "-uno"))}
