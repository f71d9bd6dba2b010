"""TensorBoard: a folder for each trial, with an event file for each start of the tracker.

Events are written in this thread: tensorboardX's own writer hands them to another, in which a full disk goes unnoticed.
"""

from __future__ import annotations

import io
import json
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image
from tensorboardX import summary  # type: ignore[import-untyped]
from tensorboardX.event_file_writer import EventsWriter  # type: ignore[import-untyped]
from tensorboardX.proto.event_pb2 import Event  # type: ignore[import-untyped]

from fairsweep.sweeps.tracking.reports import SweepReport, TrialReport
from fairsweep.sweeps.tracking.tracker import Place

_MOST_OPEN = 64
_MOST_ROWS = 200


class TensorBoardTracker:
    """Writes event files; see `Tracker`.

    Args:
        place: where.
    """

    is_live = True

    def __init__(self, place: Place) -> None:
        self._folder = place.folder / "tensorboard"
        self._open: OrderedDict[str, EventsWriter] = OrderedDict()
        self._number = 0

    def send(self, report: TrialReport, after: int) -> None:
        """Append the new iterations; of a trial that has ended also the config, the cells and the pictures."""
        try:
            for iteration, scalars in report.series.items():
                if iteration > after:
                    self._write(report.name, _scalars(scalars), iteration)
            if report.has_ended:
                self._end(report)
            self._writer(report.name).flush()
        except OSError:
            # Half an event may have been written: what follows goes into a new file.
            self._forget(report.name)
            raise
        if report.has_ended:
            self._forget(report.name)

    def send_sweep(self, report: SweepReport) -> None:
        """Write the table of trials and the trends, as a run of their own."""
        self._write("sweep", summary.text("trials", _markdown(report.trials)), 0)
        for name, png in report.pictures.items():
            self._write("sweep", _picture(name, png), 0)
        self._forget("sweep")

    def close(self) -> None:
        """Close every file."""
        for name in list(self._open):
            self._forget(name)

    def _end(self, report: TrialReport) -> None:
        step = report.last_iteration
        text = json.dumps(report.facts, indent=2, ensure_ascii=False)
        self._write(report.name, summary.text("config", "\n".join(f"    {line}" for line in text.splitlines())), step)
        for name, png in report.pictures.items():
            self._write(report.name, _picture(name, png), step)
        if report.last_cells is not None:
            self._write(report.name, summary.text("cells", _markdown(report.last_cells)), step)
        numbers = {name: value for name, value in report.summary.items() if isinstance(value, float)}
        for part in summary.hparams(_flat(report.folder.config or {}), numbers):
            self._write(report.name, part, step)

    def _write(self, name: str, content: Any, step: int) -> None:  # noqa: ANN401 - a Summary, which has no types
        self._writer(name).write_event(Event(wall_time=time.time(), step=step, summary=content))

    def _writer(self, name: str) -> EventsWriter:
        writer = self._open.get(name)
        if writer is None:
            while len(self._open) >= _MOST_OPEN:
                self._forget(next(iter(self._open)))
            folder = self._folder / name
            folder.mkdir(parents=True, exist_ok=True)
            # Files of one second would else have one name.
            self._number += 1
            writer = EventsWriter(str(folder / "events"), f".{time.time_ns()}.{self._number}")
            self._open[name] = writer
        self._open.move_to_end(name)
        return writer

    def _forget(self, name: str) -> None:
        writer = self._open.pop(name, None)
        if writer is not None:
            writer.close()


def _scalars(scalars: Mapping[str, float]) -> Any:  # noqa: ANN401
    return summary.Summary(value=[summary.Summary.Value(tag=name, simple_value=v) for name, v in scalars.items()])


def _picture(name: str, png: bytes) -> Any:  # noqa: ANN401
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    return summary.image(name, pixels, dataformats="HWC")


def _markdown(table: pa.Table) -> str:
    """Return a table as Markdown, its first rows if there are many."""
    names = table.column_names
    rows = [["" if row[name] is None else str(row[name]) for name in names] for row in table[:_MOST_ROWS].to_pylist()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (names, ["---"] * len(names), *rows))


def _flat(value: Any, name: str = "") -> dict[str, str | float | bool]:  # noqa: ANN401 - any JSON value
    if isinstance(value, Mapping):
        return {k: v for key, item in value.items() for k, v in _flat(item, f"{name}.{key}" if name else key).items()}
    return {name: value if isinstance(value, bool | float | int) else str(value)}
