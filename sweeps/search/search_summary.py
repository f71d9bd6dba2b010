"""Summary of a guided search before it starts."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fairsweep.sweeps.search.search_budget import Extent
from fairsweep.sweeps.search.storage import shown_storage
from fairsweep.sweeps.spec.search_space import LEARNER, SearchSpace
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.syntax.dimensions import Dimension


@dataclass(frozen=True)
class SearchSummary:
    """What `fairsweep plan` shows of a guided search.

    Attributes:
        algorithm: its word.
        extent: how large it is.
        batch: settings at once in each study; an earlier run may have fixed another number.
        dimensions: name and range of each parameter.
        aims: objectives and constraints, in words.
        storage: where Optuna's tools find it.
    """

    algorithm: str
    extent: Extent
    batch: int
    dimensions: tuple[tuple[str, str], ...]
    aims: tuple[str, ...]
    storage: str

    @classmethod
    def of(cls, sweep: SweepSpec, output: OutputFolder, at_once: int) -> SearchSummary:
        """Of a checked sweep."""
        space, extent = SearchSpace(sweep), Extent.of(sweep)
        competitors = [(LEARNER, " | ".join(c.name for c in space.competitors))] if len(space.competitors) > 1 else []
        return cls(
            sweep.search.algorithm,
            extent,
            sweep.search.batch or extent.batch(at_once),
            (*competitors, *((p.name, _range(p.dimension)) for p in space.parameters)),
            (*map(str, sweep.search.objectives), *map(str, sweep.search.constraints)),
            shown_storage(sweep.search.storage, output.path),
        )

    def show(self, console: Console) -> None:
        """Print it."""
        size = self.extent
        studies = f"{len(size.conditions)} conditions x " if len(size.conditions) > 1 else ""
        twins = f", with up to {size.twins} twins" if size.twins else ""
        console.print(
            f"Search: {self.algorithm}, {studies}{size.samples} settings x {size.replicates} replicates{twins}: "
            f"at most {size.trials} trials; {self.batch} settings at once in each study",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        aims = f"Objectives, on the validation split: {'; '.join(self.aims)}"
        console.print(aims, highlight=False, markup=False, soft_wrap=True)
        table = Table("dimension", "values", box=None, header_style="bold")
        for name, values in self.dimensions:
            table.add_row(escape(name), escape(values))
        console.print(table)
        console.print(f"Optuna storage: {self.storage}", highlight=False, markup=False, soft_wrap=True)


def _range(dimension: Dimension) -> str:
    if dimension.kind == "choice":
        return " | ".join(map(str, dimension.words))
    ends = dimension.ends
    step = f", in steps of {dimension.values[2]}" if dimension.kind == "quniform" else ""
    return f"{ends[0]} to {ends[-1]}{step}" + (", by its logarithm" if dimension.kind.startswith("log") else "")
