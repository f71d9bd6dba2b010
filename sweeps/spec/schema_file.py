"""The stored JSON schema of the sweep file, readable without the code that checks a sweep."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

SCHEMA_FILE = "sweep.schema.json"


def schema_path() -> Path:
    """Return where the schema lies in the package."""
    return Path(str(files("fairsweep.sweeps.spec") / SCHEMA_FILE))
