"""The sweep that Python users build, run and load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairsweep.analysis.wording import counted
from fairsweep.sweeps.execution.run import run_sweep
from fairsweep.sweeps.spec.sweep_spec import SweepSpec

if TYPE_CHECKING:
    from fairsweep.analysis import SweepResults


class Sweep(SweepSpec):
    """A sweep: everything that is trained, on what, and where the results go.

    >>> sweep = Sweep(
    ...     dataset={"path": "data/faces", "label": "smiling", "groups": ["tone"]},
    ...     imbalance={"attribute": "tone", "majority": "light", "share": {"grid": [0.5, 0.9]}, "size": 4000},
    ...     learners=[{"kind": "sgd", "name": "plain"}],
    ... )
    >>> sweep.seeds
    1
    """

    def __repr__(self) -> str:
        return f"Sweep({self.name!r}, {counted(len(self.learners), 'learner')}, output={str(self.folder)!r})"

    def run(self, *, address: str | None = None, quiet: bool = False) -> SweepResults:
        """Run what is missing of this sweep and return the results.

        Args:
            address: of a Ray cluster; None uses the Ray that is connected, or starts one on this machine.
            quiet: whether to show no progress.

        Returns:
            The results in the output folder, `analysis.load(sweep.folder)`.

        Raises:
            SweepError: if the sweep cannot run as asked; nothing has been started then.
        """
        return run_sweep(self, address=address, quiet=quiet)
