"""Reproduction of a sweep: commands, versions, the dataset's hash, and the commit."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from fairsweep.analysis.records.file_names import SWEEP_YAML
from fairsweep.analysis.report.example_images import PUBLIC_DATASETS
from fairsweep.analysis.results.sweep_records import SweepRecords

_SHORT = 12


@dataclass(frozen=True)
class Reproduction:
    """What is needed to run a sweep again and to compare the results.

    Attributes:
        commands: for a shell, with comments.
        facts: dataset, hashes, times, commit.
        versions: of Python and of the packages that can change a number.
        sweep_file: as given.
        expected: what another run has in common with this one, in a sentence.
    """

    commands: str
    facts: Mapping[str, str]
    versions: Mapping[str, str]
    sweep_file: str
    expected: str


def reproduction(results: SweepRecords) -> Reproduction:
    """Collect it from ``sweep.json``, ``sweep.yaml`` and the trials."""
    versions = {str(name): str(version) for name, version in (results.sweep.get("versions") or {}).items()}
    return Reproduction(
        _commands(results, versions), _facts(results), versions, _sweep_file(results), _expected(results)
    )


def _expected(results: SweepRecords) -> str:
    if any((folder.config or {}).get("mode") == "release" for folder in results.folders):
        return (
            "In release mode each trial draws batches and noise from a secret of its own, so another run trains the "
            "same settings to other weights and other numbers; the last command reports how far they differ."
        )
    return (
        "Seeds are part of the sweep file, so the same code and data set give the same trials; the last command "
        "reports numbers that differ."
    )


def dataset_name(results: SweepRecords) -> str:
    """Return the dataset that a sweep trains on."""
    name = results.sweep.get("dataset", {}).get("name")
    configs = (folder.config for folder in results.folders if folder.config)
    return str(name or next((config.get("dataset", {}).get("name") for config in configs), "") or "")


def _commands(results: SweepRecords, versions: Mapping[str, str]) -> str:
    sweep, name = results.sweep, dataset_name(results)
    asked = (sweep.get("sweep", {}).get("dataset") or {}).get("path") or sweep.get("dataset", {}).get("path") or "data"
    content = str(sweep.get("dataset", {}).get("content_hash", ""))
    git = sweep.get("git") or {}
    commit = str(git.get("commit") or "")
    lines = []
    if commit:
        changed = ", which had further changes" if git.get("changed") else ""
        lines.append(f"# the sweep ran in a repository at {commit[:_SHORT]}{changed}")
    known = {package: version for package, version in versions.items() if package not in ("python", "platform")}
    ours = known.pop("fairsweep", "")
    if known:
        lines.append(f"pip install {shlex.join(f'{package}=={version}' for package, version in known.items())}")
    if ours:
        # No index has it.
        lines.append(f"pip install '.[train]'    # fairsweep {ours}, in a clone of its repository; or name its wheel")
    source = [name] if name in PUBLIC_DATASETS else ["SOURCE", "--from", "RAW"]
    prepare = shlex.join(["fairsweep", "prepare", *source, "--to", str(asked)])
    lines += [
        f"{prepare}    # content hash {content[:_SHORT] or 'unknown'}",
        "fairsweep run sweep.yaml --output runs/again    # sweep.yaml as below",
        f"fairsweep compare {shlex.quote(results.named_folder)} runs/again",
    ]
    return "\n".join(lines)


def _facts(results: SweepRecords) -> dict[str, str]:
    sweep = results.sweep
    git = sweep.get("git") or {}
    commit = str(git.get("commit") or "")
    facts = {
        "data set": dataset_name(results),
        "content hash": str(sweep.get("dataset", {}).get("content_hash", "")),
        "test set": _test_sets(results),
        "seeds": _seeds(results),
        "started": str(sweep.get("created", "")),
        "last run": str(sweep.get("updated", "")),
        "git commit": commit + (" (with changes that are not committed)" if commit and git.get("changed") else ""),
    }
    return {name: value for name, value in facts.items() if value}


def _test_sets(results: SweepRecords) -> str:
    """Say whether trials are tested on the same examples; hashes of ids are keyed, so that no other sweep has them."""
    hashes = {str(((folder.data or {}).get("hashes") or {}).get("test", "")) for folder in results.folders} - {""}
    return "the same in every trial" if len(hashes) == 1 else f"{len(hashes)} different ones" if hashes else ""


def _seeds(results: SweepRecords) -> str:
    pairs = results.trials[["data_seed", "train_seed"]].dropna().drop_duplicates()
    return ", ".join(
        f"data {data:g} train {train:g}" for data, train in sorted(pairs.itertuples(index=False, name=None))
    )


def _sweep_file(results: SweepRecords) -> str:
    known = results.sweep.get("file")
    place = results.location / SWEEP_YAML
    if known is None and not place.exists():
        return ""
    return str(known) if known is not None else place.content().decode("utf-8", "replace")
