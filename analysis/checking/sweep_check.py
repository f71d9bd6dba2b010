"""Check of all records of a sweep: bytes, schema, and whether files agree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fairsweep.analysis.checking.contradictions import contradictions
from fairsweep.analysis.checking.schema import JSON_RECORDS, PARQUET_RECORDS, json_violations, parquet_violations
from fairsweep.analysis.records.cell_records import read_cells
from fairsweep.analysis.records.file_names import CELLS, EXAMPLES, STATE, SWEEP_JSON, TRIALS
from fairsweep.analysis.records.files import RecordError, read_json, read_parquet
from fairsweep.analysis.records.loading import Problem
from fairsweep.analysis.records.record_check import check_trial
from fairsweep.analysis.records.trial_cells import TrialCells
from fairsweep.analysis.records.trial_folder import TrialFolder


def check_sweep(folder: Path) -> list[Problem]:
    """Return what is wrong with the records of a sweep on this machine: nothing, if they are as documented.

    Args:
        folder: the output folder.

    Raises:
        FileNotFoundError: if it has no trials.
    """
    trials = folder / TRIALS
    if not trials.is_dir():
        raise FileNotFoundError(f"{folder} must be the output folder of a sweep, with a folder {TRIALS}, but has none")
    found = [Problem("", file, one) for file in (SWEEP_JSON, EXAMPLES) for one in _violations(folder / file)]
    for place in sorted(path for path in trials.iterdir() if path.is_dir() and not path.name.startswith(".")):
        found += list(_of_trial(place))
    return found


def _of_trial(place: Path) -> Iterator[Problem]:
    trial = TrialFolder(place)
    try:
        has_ended = trial.is_whole
    except RecordError as error:
        yield Problem(trial.name, STATE, str(error))
        return
    damaged = check_trial(place, has_ended=has_ended, thorough=True)
    yield from (Problem(trial.name, file, one) for file, one in damaged.items())
    files = [file for file in {**JSON_RECORDS, **PARQUET_RECORDS} if file not in damaged and (place / file).exists()]
    strange = [Problem(trial.name, file, one) for file in files for one in _violations(place / file)]
    yield from strange
    if not damaged and not strange:
        yield from contradictions([trial])


def _violations(path: Path) -> Iterator[str]:
    """Say where one record is not as documented."""
    try:
        if path.name in JSON_RECORDS:
            yield from json_violations(path.name, read_json(path))
            return
        strange = list(parquet_violations(path.name, read_parquet(path, None).schema))
        yield from strange
        if path.name == CELLS and not strange:
            TrialCells.of(read_cells(path))
    except FileNotFoundError:
        if path.name in (SWEEP_JSON, EXAMPLES):
            yield "it is missing"
    except RecordError as error:
        yield str(error)
