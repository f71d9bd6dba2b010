"""The command line; nothing heavy is imported before a command needs it."""

from __future__ import annotations

from fairsweep.sweeps.cli.app import main

__all__ = ["main"]
