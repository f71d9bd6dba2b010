"""Checking the files of a trial: which are damaged, and which are missing though the trial has ended."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

from fairsweep.analysis import records
from fairsweep.analysis.files import RecordError, check_record
from fairsweep.analysis.lineage_records import LINEAGE
from fairsweep.analysis.unlearning_records import COST, PLACEMENT, SHARD_PREDICTIONS

_OF_EVERY_TRIAL = (records.CONFIG, records.DATA, records.CELLS, records.TRAINING, records.PREDICTIONS)
TRIAL_FILES = (*_OF_EVERY_TRIAL, records.PRIVACY, COST, PLACEMENT, SHARD_PREDICTIONS, LINEAGE)
"""Every record that a trial may have, but for its state."""


def check_trial(folder: Path, *, has_ended: bool, thorough: bool) -> dict[str, str]:
    """Check the files of a trial on this machine.

    Args:
        folder: the trial's folder.
        has_ended: whether its state says that it is recorded whole.
        thorough: whether every byte of its records is checked, and that they are there; or only the small files and the
            ends of the others. Of weights, which can be large, only the end is checked.

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
    try:
        with zipfile.ZipFile(folder / records.WEIGHTS):
            pass
    except FileNotFoundError:
        pass
    except (zipfile.BadZipFile, OSError) as error:
        yield records.WEIGHTS, f"it is damaged, or was cut short ({error})"


def _reason(error: Exception, path: Path) -> str:
    """The error without the file's path."""
    return str(error).removeprefix(str(path)).removeprefix(" is damaged: ").strip()
