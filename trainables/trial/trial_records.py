"""The records of one trial in progress: in memory and on disk, and truncating both on a resume."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fairsweep.analysis.disclosure.columns import check_file, table_without_private, without_private
from fairsweep.analysis.records.cell_records import read_cells, write_cells
from fairsweep.analysis.records.file_names import CELLS, CONFIG, DATA, PREDICTIONS, PRIVACY, TRAINING
from fairsweep.analysis.records.files import RecordError, write_json, written_together
from fairsweep.analysis.records.prediction_records import write_predictions
from fairsweep.analysis.records.training_records import read_training, training_table, write_training
from fairsweep.analysis.records.vocabularies import Vocabulary
from fairsweep.trainables.learning.iteration_report import IterationReport
from fairsweep.trainables.trial.trial_config import TrialConfig

Owned = Callable[[], AbstractContextManager[object]]
WriteFile = Callable[[Path], None]


class TrialRecords:
    """Writes the files of one trial.

    Args:
        folder: the trial's folder.
        vocabularies: of the groups and the label.
        config: of the trial; in release mode what is private is left out.
        owned: makes the context in which files are written; it raises in a worker that has been superseded.
        own: gives the learner's own files: for each name what writes it to a path.
    """

    def __init__(
        self,
        folder: Path,
        vocabularies: list[Vocabulary],
        config: TrialConfig,
        owned: Owned,
        own: Callable[[], Mapping[str, WriteFile]] = dict,
    ) -> None:
        self._folder = folder
        self._vocabularies = vocabularies
        self._config = config
        self._owned = owned
        self._own = own
        self._release = config.mode == "release"
        self._cells: list[pa.Table] = []
        self._training: list[pa.Table] = []

    def start(self, data: Mapping[str, Any]) -> None:
        """Write what is known before the first step: ``config.json`` and ``data.json``."""
        with self._owned(), written_together():
            write_json(self._folder / CONFIG, self._config.record())
            write_json(self._folder / DATA, without_private(DATA, data) if self._release else data)

    def restore(self, iteration: int) -> str | None:
        """Take over what earlier attempts recorded up to an iteration.

        Returns:
            None if the files cover every iteration up to it; else the one that does not, and nothing is taken over.
        """
        if iteration == 0:
            return None
        tables = {}
        for name, read in ((CELLS, lambda path: read_cells(path).table), (TRAINING, read_training)):
            try:
                tables[name] = read(self._folder / name).replace_schema_metadata(None)
                covered = set(tables[name].column("iteration").to_pylist())
            except (FileNotFoundError, RecordError, KeyError):
                return name
            if not set(range(1, iteration + 1)) <= covered:
                return name
        cells, training = tables[CELLS], tables[TRAINING]
        self._cells = [cells.filter(pc.less_equal(cells.column("iteration"), iteration))]
        self._training = [training.filter(pc.less_equal(training.column("iteration"), iteration))]
        return None

    def recorded(self, split: str) -> list[pa.Table]:
        """Return the cells of one split, a table for each iteration so far, in order."""
        if not self._cells:
            return []
        table = pa.concat_tables(self._cells)
        table = table.filter(pc.equal(table.column("split"), split))
        iterations = sorted(set(table.column("iteration").to_pylist()))
        return [table.filter(pc.equal(table.column("iteration"), number)) for number in iterations]

    def add(self, report: IterationReport, cells: list[pa.Table]) -> None:
        """Take up one iteration: its cells and its line of the training record."""
        row = {name: value for name, value in asdict(report).items() if name != "steps"}
        self._training.append(training_table([row]))
        self._cells += cells

    def write(self) -> None:
        """Write all iterations so far: ``cells.parquet``, ``training.parquet`` and the learner's own files."""
        if not self._cells:
            return
        with self._owned(), written_together():
            write_cells(
                self._folder / CELLS, pa.concat_tables(self._cells), self._vocabularies, self._config.dataset.label
            )
            training = pa.concat_tables(self._training, promote_options="default")
            write_training(
                self._folder / TRAINING, table_without_private(TRAINING, training) if self._release else training
            )
            for name, write in self._own().items():
                check_file(name)
                write(self._folder / name)

    def finish(self, predictions: list[pa.Table], privacy: Mapping[str, Any] | None) -> None:
        """Write all iterations, ``predictions.parquet`` and ``privacy.json``."""
        with self._owned(), written_together():
            self.write()
            write_predictions(self._folder / PREDICTIONS, pa.concat_tables(predictions))
            if privacy is not None:
                write_json(self._folder / PRIVACY, privacy)
