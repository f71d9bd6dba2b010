"""Specification, planning, launching and resuming of sweeps, and the command line.

Names are imported when they are first used: the tracker's process and the command line load no more than they need.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairsweep.sweeps.errors import InterruptedSweepError, SweepError
    from fairsweep.sweeps.plan import plan_sweep
    from fairsweep.sweeps.run import run_sweep
    from fairsweep.sweeps.sweep import Sweep

__all__ = ["InterruptedSweepError", "Sweep", "SweepError", "plan_sweep", "run_sweep"]

_HOMES = {
    "InterruptedSweepError": "errors",
    "Sweep": "sweep",
    "SweepError": "errors",
    "plan_sweep": "plan",
    "run_sweep": "run",
}


def __getattr__(name: str) -> object:
    """Import a public name from the module that holds it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {__all__}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        from fairsweep.analysis.extras import explained

        raise explained(error, f"{__name__}.{name}") from error
