"""Specification, planning, launching and resuming of sweeps, and the command line.

Names are imported when they are first used: the tracker's process and the command line load no more than they need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fairsweep.analysis.lazy import lazy_names

if TYPE_CHECKING:
    from fairsweep.sweeps.execution.run import run_sweep
    from fairsweep.sweeps.plan import plan_sweep
    from fairsweep.sweeps.store.trial_models import load_model
    from fairsweep.sweeps.sweep import Sweep
    from fairsweep.sweeps.syntax.errors import InterruptedSweepError, SweepError

__all__ = ["InterruptedSweepError", "Sweep", "SweepError", "load_model", "plan_sweep", "run_sweep"]

_HOMES = {
    "InterruptedSweepError": "syntax.errors",
    "Sweep": "sweep",
    "SweepError": "syntax.errors",
    "load_model": "store.trial_models",
    "plan_sweep": "plan",
    "run_sweep": "execution.run",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
