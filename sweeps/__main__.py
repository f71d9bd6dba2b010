"""`python -m fairsweep.sweeps` is the `fairsweep` command, where the wheel is imported and not installed."""

from fairsweep.sweeps.cli import main

if __name__ == "__main__":
    main()
