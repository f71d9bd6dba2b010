"""Specification, planning, launching and resuming of sweeps, and the command line."""
