"""Specification, planning, launching and resuming of sweeps, and the command line."""

from fairsweep.sweeps.errors import SweepError
from fairsweep.sweeps.plan import plan_sweep
from fairsweep.sweeps.run import InterruptedSweepError, run_sweep
from fairsweep.sweeps.spec import Sweep

__all__ = ["InterruptedSweepError", "Sweep", "SweepError", "plan_sweep", "run_sweep"]
