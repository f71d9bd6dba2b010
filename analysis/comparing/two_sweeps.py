"""A view of two sweeps as one, so that trials of one can be subtracted from trials of the other."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Sequence
from typing import Any

import pyarrow as pa

from fairsweep.analysis.records.counts import Cells
from fairsweep.analysis.records.trial_folder import TrialFolder
from fairsweep.analysis.records.vocabularies import Vocabulary
from fairsweep.analysis.results.results import SweepResults

A, B = "A/", "B/"
"""What stands before a trial's name, so that trials of one name in both sweeps stay apart."""


class TwoSweeps:
    """Both sweeps as `difference_rows` looks at one: folders, vocabularies, examples, predictions.

    A trial is named with the letter of its sweep. Where the two ran on different data, an id means two images: there
    are no predictions then, and the intervals take the images as independent.
    """

    def __init__(self, a: SweepResults, b: SweepResults) -> None:
        self._sides = {A: a, B: b}
        contents = [str((results.sweep.get("dataset") or {}).get("content_hash")) for results in (a, b)]
        self._comparable = contents[0] == contents[1]
        self._later = b

    @functools.cached_property
    def folders(self) -> list[TrialFolder]:
        """Return the small records of all trials."""
        sides = self._sides.items()
        return [folder.renamed(f"{side}{folder.name}") for side, results in sides for folder in results.folders]

    @functools.cached_property
    def outcomes_read(self) -> dict[Hashable, Any]:
        """Keep the predictions that were read last."""
        return {}

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the classes of both sweeps."""
        return self._later.classes

    @property
    def label(self) -> str:
        """Return the label of both sweeps."""
        return self._later.label

    @property
    def all_cells(self) -> Cells:
        """Return the cells of the first sweep, for the names of the groups."""
        return self._later.all_cells

    @property
    def examples(self) -> pa.Table | None:
        """Return the examples; ids mean the same images in both sweeps."""
        return self._later.examples

    def vocabulary(self, attribute: str) -> Vocabulary:
        """Return the vocabulary of both sweeps."""
        return self._later.vocabulary(attribute)

    def predictions(self, trials: Sequence[str] | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the predictions of both sweeps."""
        parts = []
        for side, results in self._sides.items():
            names = [name.removeprefix(side) for name in trials or [] if name.startswith(side)]
            table = results.predictions(names if self._comparable else [], columns)
            marked = pa.array([f"{side}{name}" for name in table.column("trial").to_pylist()], pa.string())
            parts.append(table.set_column(table.column_names.index("trial"), "trial", marked))
        return pa.concat_tables(parts)
