"""Restoring a sweep from a copy: missing files are fetched into a local folder."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from fairsweep.analysis.records.file_names import TRIALS
from fairsweep.datasets.storage.layout import DatasetError
from fairsweep.datasets.storage.location import Location
from fairsweep.sweeps.store.folder_copy import INSIDE, FolderCopy, Listing, child, list_files
from fairsweep.sweeps.store.folder_kind import is_visible
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.syntax.storage_uri import absolute

if TYPE_CHECKING:
    pass

_FETCHING = ".fetching"
_BESIDE = ".fetched"
_THREADS = 8


def fetch_sweep(to: str, folder: Path) -> int:
    """Bring what a mirror holds into a local folder that lacks it, for instance an empty one.

    Whoever is killed meanwhile starts again where it stopped. A folder that holds its sweep whole is left as it is, for
    it is at least as new as its mirror.

    Args:
        to: the mirror.
        folder: the local output folder.

    Returns:
        How many trials came; copies that were cut short are left where they are, and their trials run again.

    Raises:
        SweepError: if the mirror cannot be read.
    """
    begun = (folder / _FETCHING).exists()
    if not begun and folder.exists() and any(is_visible(path.name) for path in folder.iterdir()):
        return 0
    try:
        place = Location.of(absolute(to))
        own = FolderCopy(place, apart=(TRIALS,))
        if own.newest() is None:
            return 0
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _FETCHING).touch()
        count = _fetch_trials(child(place, TRIALS), folder)
        own.fetch(folder)
    except (OSError, DatasetError) as error:
        raise SweepError(f"the mirror {to} cannot be read ({error}); check that it is mounted, or reachable") from error
    shutil.rmtree(folder / _BESIDE, ignore_errors=True)
    (folder / _FETCHING).unlink()
    return count


def is_mirror(folder: Path) -> bool:
    """Whether a folder is the mirror of a sweep, not one to work in."""
    return (folder / INSIDE).is_dir()


def by_folder(listing: Listing) -> dict[str, dict[str, int]]:
    """Return a listing of folders, taken apart: for each folder that of its files."""
    found: dict[str, dict[str, int]] = {}
    for name, size in listing.items():
        folder, _, inside = name.partition("/")
        if inside:
            found.setdefault(folder, {})[inside] = size
    return found


def _fetch_trials(place: Location, folder: Path) -> int:
    def fetch(trial: str, listing: Listing) -> bool:
        target, beside = folder / TRIALS / trial, folder / _BESIDE / trial
        if target.exists():
            return False
        shutil.rmtree(beside, ignore_errors=True)
        if not FolderCopy(child(place, trial)).fetch(beside, listing=listing):
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        beside.rename(target)
        return True

    with ThreadPoolExecutor(_THREADS) as pool:
        return sum(pool.map(lambda item: fetch(*item), by_folder(list_files(place)).items()))
