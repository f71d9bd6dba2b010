"""What a search is told of a trial: measures read off its records, on the validation split alone."""

from collections.abc import Sequence
from pathlib import Path

from fairsweep.analysis.records import CELLS, PRIVACY, CellsFile, read_cells, read_json
from fairsweep.trainables.measures import Meaning, Measure, Standing, validation_cells
from fairsweep.trainables.state import TrialStateFile


def recorded_values(folder: Path, measures: Sequence[Measure], meaning: Meaning) -> list[float]:
    """Measures of a trial that has ended, at its last iteration.

    Args:
        folder: the trial's folder.
        measures: settled ones.
        meaning: of its cells.

    Returns:
        One value each; NaN where it is undefined.

    Raises:
        RecordError: if a record is damaged.
        FileNotFoundError: if one is missing.
    """
    standing = recorded_standing(folder, read_cells(folder / CELLS))
    return [measure.of(standing, meaning) for measure in measures]


def recorded_standing(folder: Path, cells: CellsFile) -> Standing:
    """Where a trial that has ended stands, by its records."""
    _, table = validation_cells(cells)
    state = TrialStateFile(folder).read()
    return Standing(table, _epsilon(folder), float("nan") if state is None else state.seconds)


def _epsilon(folder: Path) -> float:
    """By PLD; infinite where nothing is promised, NaN where an accountant gives no number."""
    try:
        value = (read_json(folder / PRIVACY).get("epsilon") or {}).get("pld")
    except FileNotFoundError:
        return float("inf")
    return float("nan") if value is None else float(value)
