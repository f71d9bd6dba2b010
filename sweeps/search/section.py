"""The section ``search`` of a sweep file."""

from typing import Literal, Self

from pydantic import Field, model_validator

from fairsweep.sweeps.section import Section


class SearchSection(Section):
    """How the search dimensions get their values."""

    algorithm: Literal["grid", "random"] = Field(
        default="grid",
        description="`grid` enumerates every `{grid: …}`; `random` also draws `choice`, `uniform`, `loguniform` and "
        "`randint`.",
    )
    samples: int | None = Field(default=None, ge=1, description="Number of draws of a random search.")
    key: int = Field(default=0, ge=0, description="Keys the draws; another key gives other ones.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.algorithm == "random") != (self.samples is not None):
            raise ValueError(
                "samples belongs to algorithm: random, and random needs it, "
                f"but got algorithm={self.algorithm!r}, samples={self.samples}"
            )
        return self
