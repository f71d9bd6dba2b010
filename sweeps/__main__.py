"""`python -m fairsweep.sweeps`: the `fairsweep` command where the wheel is importable but not installed."""

from __future__ import annotations

from fairsweep.sweeps.cli.app import main

if __name__ == "__main__":
    main()
