"""`python -m fairsweep.sweeps` is the `fairsweep` command, where the wheel is imported and not installed."""

from __future__ import annotations

from fairsweep.sweeps.cli.app import main

if __name__ == "__main__":
    main()
