"""The sweep that Python users build, run and load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

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

    def _repr_html_(self) -> str:
        from fairsweep.analysis.results.overview import titled_rows

        given = self.model_dump(mode="json")
        seeds = self.seeds if isinstance(self.seeds, int) else _short(self.seeds.given())
        rows = {
            "data": f"{self.dataset.path}: {self.dataset.label} by {', '.join(self.dataset.groups)}",
            "imbalance": _short(given["imbalance"]) if given["imbalance"] else "",
            "model": _short(given["model"]),
            **{one["name"]: _short({k: v for k, v in one.items() if k != "name"}) for one in given["learners"]},
            "seeds": str(seeds) if self.shadows is None else f"{self.shadows.count} shadows",
            "privacy": f"{self.privacy.mode} mode",
            "output": str(self.remote or self.folder),
        }
        return titled_rows(self.name, {name: text for name, text in rows.items() if text})

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


def _short(section: Mapping[str, Any]) -> str:
    """Return a section as one line: ``share 0.5 | 0.9, size 4000``."""
    parts = []
    for name, value in section.items():
        if isinstance(value, Mapping):
            inner = value.get("grid")
            text = " | ".join(map(str, inner)) if inner is not None else f"({_short(value)})"
        else:
            text = str(value)
        parts.append(f"{name} {text}")
    return ", ".join(parts)
