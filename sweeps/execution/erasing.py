"""What ``fairsweep forget --erase`` purges beyond the trials that have forgotten, and the search at its end."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fairsweep.analysis.records.file_names import CONFIG, IDS_KEY, PLACEMENT, REPORT, TRIALS
from fairsweep.analysis.records.files import read_json
from fairsweep.analysis.records.record_cache import CACHE
from fairsweep.datasets.feeds.machine_copy import cache_root
from fairsweep.datasets.selection.randomness import KEY_BYTES
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.sweeps.store.description import Description
from fairsweep.sweeps.store.ledger import SET_ASIDE
from fairsweep.sweeps.store.trace_search import Traces, TraceSearch
from fairsweep.trainables.trial.erasure import drop_predictions, former_hashes, hash_again, named_ids
from fairsweep.trainables.trial.key_file import erase_key
from fairsweep.trainables.trial.trial_config import TrialConfig
from fairsweep.trainables.trial.trial_data import open_dataset, training_plan
from fairsweep.trainables.trial.trial_secret import ids_key
from fairsweep.trainables.unlearning.training_ledger import traces_of_contents

Ids = NDArray[np.int64]
TRACKING, TUNE = "tracking", ".tune"


@dataclass(frozen=True)
class Mirrored:
    """The copy of a sweep that its file names.

    Attributes:
        to: where it is.
        is_current: whether what was erased is erased there too.
    """

    to: str
    is_current: bool


def trial_folders(home: Path) -> list[Path]:
    """Return the folders of all trials of a sweep, or the one trial that is no sweep's."""
    if not (home / TRIALS).is_dir():
        return [home] if (home / CONFIG).is_file() else []
    return [folder for folder in sorted((home / TRIALS).iterdir()) if (folder / CONFIG).is_file()]


def purge_sweep(home: Path, ids: Ids, folders: Sequence[Path], dataset: PreparedDataset | None) -> tuple[str, ...]:
    """Purge what depends on erased examples outside the trials that have forgotten them; can be done twice.

    The key of the hashes of ids is thrown away, and the hashes are made anew under another. Reports, trackers' files
    and caches go: they show models that saw the examples.

    Args:
        home: the sweep's folder.
        ids: int64 [k].
        folders: the trials that have forgotten.
        dataset: the version that still holds the examples; None where it cannot be read.

    Returns:
        The other trials that were trained on any of the examples, and still are; one that cannot be read is named too.
    """
    shutil.rmtree(home / SET_ASIDE, ignore_errors=True)  # weights of trials that were damaged, and began anew
    for name in (TRACKING, TUNE):  # what Tune keeps has the last results of trials, and no resume rests on it
        shutil.rmtree(home / name, ignore_errors=True)
    for name in (REPORT, CACHE):
        (home / name).unlink(missing_ok=True)
    erase_key(home / IDS_KEY)
    others = []
    for folder in trial_folders(home):
        if folder not in folders:
            drop_predictions(folder, ids)
        learnt, why = _training_ids(folder, dataset)
        if folder not in folders and (learnt is None or np.isin(ids, learnt).any()):
            others.append(folder.name + (f" (unknown: {why})" if learnt is None else ""))
        hash_again(folder, ids_key(folder), None if learnt is None else np.setdiff1d(learnt, ids))
    return tuple(others)


def refresh_mirror(home: Path) -> Mirrored | None:
    """Bring the mirror that a sweep's file names up to its folder; None where it names none."""
    from fairsweep.sweeps.copies.mirror import Mirror

    found = Description.read(home)
    section = None if found is None else found.content.get("sweep", {}).get("mirror")
    if not section:
        return None
    to = str(section["to"] if isinstance(section, dict) else section)
    mirror = Mirror(home, to, lambda _: None, ended_only=True)
    return Mirrored(to, mirror.copy())


def search_traces(
    home: Path, ids: Ids, pixels: Sequence[bytes], hashes: frozenset[str], target: Path, mirrored: Mirrored | None
) -> Traces:
    """Search every file that a sweep has on this machine for traces of erased examples."""
    places, beyond = [home, target, cache_root()], []
    if mirrored is not None:
        local = mirrored.to.removeprefix("file://")
        if "://" not in local:
            places.append(Path(local).expanduser())
        if "://" in local or not mirrored.is_current:
            beyond.append(f"the mirror {mirrored.to}" + ("" if mirrored.is_current else ", which could not be updated"))
    found = Description.read(home)
    tracking = (None if found is None else found.content.get("sweep", {}).get("tracking")) or {}
    mlflow = tracking.get("mlflow")
    has_server = {"wandb": tracking.get("wandb"), "mlflow": isinstance(mlflow, dict) and mlflow.get("uri")}
    sent = [name for name, there in has_server.items() if there]
    if sent:
        beyond.append(f"what was sent to a server of {' or '.join(sent)}: delete the sweep's runs there")
    if not pixels:
        beyond.append("pixels: the former version of the dataset cannot be read, so nobody knows what to look for")
    beyond.append("the former version of the dataset, other sweeps on it, backups, and other machines")
    return TraceSearch(ids, pixels, hashes).search([place for place in places if place.exists()], beyond)


def pixels_of(dataset: PreparedDataset | None, ids: Ids) -> list[bytes]:
    """Return the bytes of the images of ids."""
    if dataset is None:
        return []
    wanted, start, found = set(dataset.rows_of(ids).tolist()), 0, []
    for number, shard in enumerate(dataset.info.shards):
        rows = [row - start for row in wanted if start <= row < start + shard.rows]
        if rows:
            images = dataset.shard_images(number)
            found += [images[row].tobytes() for row in rows]
        start += shard.rows
    return found


def hashes_of(home: Path, forgetting: Collection[str]) -> frozenset[str]:
    """Return the hashes of sets of ids in the records of a sweep, with their key, as they stand in files.

    Args:
        home: the sweep's folder.
        forgetting: names of the trials that forget: their ledgers of trainings will be written without contents.
    """
    folders = trial_folders(home)
    hashes = frozenset().union(*(former_hashes(folder) for folder in folders))
    hashes |= frozenset().union(*(traces_of_contents(folder) for folder in folders if folder.name in forgetting))
    with suppress(FileNotFoundError):
        hashes |= {(home / IDS_KEY).read_bytes()[:KEY_BYTES].hex()}
    return hashes


def former_version(path: Path, content_hash: str) -> PreparedDataset | None:
    """Open the version of a dataset that still holds erased examples; None where it is gone."""
    with suppress(ValueError, OSError):
        return open_dataset(path, content_hash)
    return None


def _training_ids(folder: Path, dataset: PreparedDataset | None) -> tuple[Ids | None, str]:
    """Return the ids that a trial was trained on, or why they are not known."""
    try:
        if (folder / PLACEMENT).exists():
            return named_ids(folder), ""
        if dataset is None:
            return None, "the dataset that it was trained on cannot be read"
        return training_plan(dataset, TrialConfig.from_record(read_json(folder / CONFIG))).ids, ""
    except (ValueError, OSError) as error:
        return None, str(error)
