"""The section ``privacy`` of a sweep file."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PrivateAttr

from fairsweep.sweeps.syntax.section import Section
from fairsweep.trainables.privacy.privacy_numbers import Delta


class PrivacySection(Section):
    """Whether the guarantee is meant for use, and what is promised of all trials together."""

    mode: Literal["research", "release"] = Field(
        default="research",
        description="`research`: secrets follow from the key, results repeat, losses and diagnostics are recorded, the "
        "guarantee is simulated. `release`: secrets come from the operating system, exact functions of private data "
        "are left out.",
    )
    key: int = Field(default=0, ge=0, description="Keys the trial secrets of research mode; public.")
    epsilon_sweep: float | None = Field(
        default=None,
        gt=0,
        description="Budget of all private trials together: their learners then give neither `epsilon` nor "
        "`noise_multiplier`, and one noise multiplier is calibrated for which the composition of all trials costs no "
        "more (by PLD). Another number of trials is another noise multiplier, and so other trials; null: each learner "
        "says its own.",
    )
    delta_sweep: Delta | None = Field(
        default=None,
        description="δ of all trials together, in the ledger of `plan`, `privacy` and the report; null takes the "
        "smallest of the trials' own.",
    )
    _shared_noise: float = PrivateAttr(default=1.0)

    @property
    def shared_noise(self) -> float | None:
        """The noise multiplier of every private learner under `epsilon_sweep`, 1 until it is calibrated; else None."""
        return None if self.epsilon_sweep is None else self._shared_noise

    def with_shared_noise(self, noise_multiplier: float) -> Self:
        """Return the section with the noise multiplier that the budget affords; it is not written to any file."""
        changed = self.model_copy()
        changed._shared_noise = noise_multiplier
        return changed
