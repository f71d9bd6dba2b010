"""The section ``privacy`` of a sweep file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fairsweep.sweeps.syntax.section import Section


class PrivacySection(Section):
    """Whether the guarantee is meant for use, and what is promised of all trials together."""

    mode: Literal["research", "release"] = Field(
        default="research",
        description="`research`: secrets follow from the key, results repeat, losses and diagnostics are recorded, the "
        "guarantee is simulated. `release`: secrets come from the operating system, exact functions of private data "
        "are left out.",
    )
    key: int = Field(default=0, ge=0, description="Keys the trial secrets of research mode; public.")
    delta_sweep: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="δ of all trials together, in the ledger of `plan`, `privacy` and the report; null takes the "
        "smallest of the trials' own.",
    )
