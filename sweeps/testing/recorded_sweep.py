"""The output folder of a sweep, written without training anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fairsweep.analysis.records.cell_records import count_cells, write_cells
from fairsweep.analysis.records.files import read_json, write_json
from fairsweep.analysis.records.training_records import training_table, write_training
from fairsweep.analysis.records.vocabularies import Vocabulary

TONE, SMILING = Vocabulary("tone", ("light", "dark")), Vocabulary("smiling", ("no", "yes"))


class RecordedSweep:
    """Writes records as trials would.

    Args:
        folder: The output folder, which exists.
        tracking: The section ``tracking`` of the sweep.
        fields: Other fields of the sweep.
    """

    def __init__(self, folder: Path, tracking: Any, **fields: Any) -> None:
        self.folder = folder
        write_json(
            folder / "sweep.json",
            {
                "name": "toy",
                "created": "2026-01-01T00:00:00",
                "trials": 2,
                "sweep": {"name": "toy", "tracking": tracking, **fields},
            },
        )

    def write(
        self,
        name: str,
        iterations: int,
        state: str = "running",
        attempt: int = 1,
        loss: float = 0.5,
        learner: str | None = None,
        **more: Any,
    ) -> Path:
        """Write a trial after so many of 5 iterations; its learner's name is by default what its own begins with."""
        folder = self.folder / "trials" / name
        folder.mkdir(parents=True, exist_ok=True)
        learner, seed = learner or name.partition("_")[0], int(name[-10])
        config: dict[str, Any] = {"trial": f"{name[-8:]} of {name}", "replicate": seed, "mode": "research"}
        config |= {"setting": f"setting of {learner}"}
        config |= {"learner": {"name": learner, "kind": "sgd", "lr": 0.1}, "seeds": {"data": seed, "train": seed}}
        write_json(folder / "config.json", config)
        rng = np.random.default_rng(len(name))
        tone, label, prediction = rng.integers(0, 2, (3, 40))
        cells = [
            count_cells(iteration=i + 1, split=split, groups={"tone": tone}, label=label, prediction=prediction)
            for i in range(iterations)
            for split in ("validation", "test")
        ]
        diagnostic = {"attribute": "tone", "value": 1, "label": 0, "count": 3, "mean_gradient_norm": 2.0}
        diagnostic |= {"clipped_share": 0.25, "cosine": float("nan")}
        rows = [
            {"iteration": i + 1, "loss": loss / (i + 1), "seconds": 0.1, "examples": 9, "diagnostics": [diagnostic]}
            for i in range(iterations)
        ]
        if iterations:
            write_cells(folder / "cells.parquet", pa.concat_tables(cells), [TONE, SMILING], "smiling")
            write_training(folder / "training.parquet", training_table(rows))
        content = {"trial": config["trial"], "state": state, "attempt": attempt, "run": 1, "iteration": iterations}
        content |= {"iterations": 5, "seconds": 0.1 * iterations, "metrics": {"accuracy": 0.75}}
        write_json(folder / "state.json", content | more)
        self.expected = float((label == prediction).mean())
        return folder

    def description(self) -> dict[str, Any]:
        """Return ``sweep.json``."""
        return read_json(self.folder / "sweep.json")
