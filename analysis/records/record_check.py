"""Integrity check of a trial's files: damaged ones, and missing ones of a finished trial."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from fairsweep.analysis.records.checksums import ChecksumError, check_zip
from fairsweep.analysis.records.file_names import (
    AUDIT,
    CELLS,
    CONFIG,
    COST,
    DATA,
    LINEAGE,
    MEMBERSHIP,
    PLACEMENT,
    PREDICTIONS,
    PRIVACY,
    SHARD_PREDICTIONS,
    TRAINING,
    WEIGHTS,
)
from fairsweep.analysis.records.files import RecordError, check_record

_OF_EVERY_TRIAL = (CONFIG, DATA, CELLS, TRAINING, PREDICTIONS)
TRIAL_FILES = (*_OF_EVERY_TRIAL, PRIVACY, COST, PLACEMENT, SHARD_PREDICTIONS, LINEAGE, AUDIT, MEMBERSHIP)
"""Every record that a trial may have, but for its state."""


def check_trial(folder: Path, *, has_ended: bool, thorough: bool) -> dict[str, str]:
    """Check the files of a trial on this machine.

    Args:
        folder: the trial's folder.
        has_ended: whether its state says that it is recorded whole.
        thorough: whether every byte of its records and weights is checked, and that they are there; or only the small
            files and the ends of the others.

    Returns:
        What is wrong, by name of the file, on one line.
    """
    return dict(_problems(folder, has_ended=has_ended, thorough=thorough))


def _problems(folder: Path, *, has_ended: bool, thorough: bool) -> Iterator[tuple[str, str]]:
    for file in TRIAL_FILES:
        try:
            check_record(folder / file, thorough=thorough)
        except FileNotFoundError:
            if has_ended and thorough and file in _OF_EVERY_TRIAL:
                yield file, "it is missing"
        except (RecordError, OSError) as error:
            yield file, _reason(error, folder / file)
    if (reason := weights_problem(folder / WEIGHTS, thorough=thorough)) is not None:
        yield WEIGHTS, reason


def weights_problem(path: Path, *, thorough: bool) -> str | None:
    """Return what is wrong with a file of weights, a zip archive; None where nothing is, or there is no file.

    Args:
        path: the file.
        thorough: whether every byte is checked; without a checksum of the whole, its parts have some.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if thorough and not check_zip(path.read_bytes()) and (archive.comment or archive.testzip() is not None):
                raise ChecksumError("its bytes are not those that were written")
    except FileNotFoundError:
        return None
    except Exception as error:  # noqa: BLE001 - zipfile raises many types for changed bytes; all mean the same here
        return f"it is damaged, or was cut short ({' '.join(str(error).split())})"
    return None


def _reason(error: Exception, path: Path) -> str:
    """Return the error without the file's path."""
    return str(error).removeprefix(str(path)).removeprefix(" is damaged: ").strip()
