"""Extending a sweep by samples or seeds; finished trials are kept, and the file keeps its comments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairsweep.analysis import SweepResults
from fairsweep.sweeps.copies.resuming import resume_sweep
from fairsweep.sweeps.execution.run import run_sweep
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.syntax.overrides import edited


@dataclass(frozen=True)
class Extension:
    """A sweep that was extended, not run yet.

    Attributes:
        sweep: the sweep.
        text: its file, with the comments that it had.
    """

    sweep: SweepSpec
    text: str

    def run(self, *, address: str | None = None, quiet: bool = False) -> SweepResults:
        """Run what the extension adds, and what was missing before; the folder's ``sweep.yaml`` is the new one then."""
        return run_sweep(self.sweep, text=self.text, address=address, quiet=quiet)


def extend_sweep(
    folder: str | Path, *, trials: int | None = None, seeds: int | None = None, contact: bool | None = None
) -> Extension:
    """Give the sweep of an output folder more samples or more seeds; nothing is written or started.

    Args:
        folder: the output folder.
        trials: so many more samples of the search, at least 1.
        seeds: so many seeds in all, more than now; where the seeds of data and training are crossed, those of training.
        contact: whether to use places that the folder's files alone name; None refuses.

    Raises:
        SweepError: if not exactly one of the two is given, or the sweep cannot grow that way.
    """
    if (trials is None) == (seeds is None):
        raise SweepError("exactly one of --trials and --seeds must be given: --trials 20 adds 20 samples to the search")
    sweep, text = resume_sweep(folder, contact=contact)
    place, value = _more_samples(sweep, trials) if trials is not None else _more_seeds(sweep, int(seeds or 0))
    content = _with(sweep.model_dump(mode="json"), place, value)
    grown = SweepSpec.from_mapping(content | {"output": str(sweep.folder)})
    return Extension(grown, edited(text, [(place, value)]))


def _more_samples(sweep: SweepSpec, more: int) -> tuple[tuple[str, ...], int]:
    now = sweep.search.samples
    if now is None:
        raise SweepError(
            f"--trials adds samples to a search, but this sweep enumerates a grid (search.algorithm="
            f"{sweep.search.algorithm}): give --seeds, or add values to its file and run that",
            ("search", "samples"),
        )
    if more < 1:
        raise SweepError(f"--trials must be at least 1, but got {more}")
    return ("search", "samples"), now + more


def _more_seeds(sweep: SweepSpec, seeds: int) -> tuple[tuple[str, ...], int]:
    place = ("seeds",) if isinstance(sweep.seeds, int) else ("seeds", "train")
    now = sweep.seeds if isinstance(sweep.seeds, int) else sweep.seeds.train
    if seeds <= now:
        raise SweepError(f"--seeds is the new total and must exceed the current {now}, but got {seeds}")
    return place, seeds


def _with(content: Mapping[str, Any], place: tuple[str, ...], value: int) -> dict[str, Any]:
    first, *rest = place
    return dict(content) | {first: _with(content[first], tuple(rest), value) if rest else value}
