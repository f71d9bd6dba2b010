"""Plain files: scalars and cells of each trial as CSV, a summary as JSON, pictures as PNG."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv

from fairsweep.analysis.records.files import write_json, write_whole
from fairsweep.sweeps.tracking.reports import SweepReport, TrialReport
from fairsweep.sweeps.tracking.tracker import Place


class FilesTracker:
    """Writes files; see `Tracker`.

    Args:
        place: where.
    """

    is_live = True

    def __init__(self, place: Place) -> None:
        self._folder = place.folder / "files"

    def send(self, report: TrialReport, after: int) -> None:
        """Write the files of a trial anew; they are small."""
        folder = self._folder / report.name
        folder.mkdir(parents=True, exist_ok=True)
        names = list(dict.fromkeys(name for scalars in report.series.values() for name in scalars))
        text = io.StringIO()
        writer = csv.DictWriter(text, ["iteration", *names], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"iteration": iteration, **scalars} for iteration, scalars in report.series.items())
        _write(folder / "metrics.csv", text.getvalue().encode())
        if not report.has_ended:
            return
        write_json(folder / "summary.json", {"config": report.facts, "summary": report.summary})
        if report.last_cells is not None:
            _write(folder / "cells.csv", as_csv(report.last_cells))
        _write_pictures(folder, report.pictures)

    def send_sweep(self, report: SweepReport) -> None:
        """Write the table of trials and the trends."""
        self._folder.mkdir(parents=True, exist_ok=True)
        _write(self._folder / "trials.csv", as_csv(report.trials))
        _write_pictures(self._folder, report.pictures)

    def close(self) -> None:
        """Nothing is open."""


def as_csv(table: pa.Table) -> bytes:
    """Return a table as CSV."""
    buffer = io.BytesIO()
    pacsv.write_csv(table, buffer)
    return buffer.getvalue()


def _write_pictures(folder: Path, pictures: Mapping[str, bytes]) -> None:
    for name, png in pictures.items():
        _write(folder / f"{name.replace('/', '_')}.png", png)


def _write(path: Path, content: bytes) -> None:
    write_whole(path, lambda file: file.write(content))
