"""The section ``resources``: what a trial and its workers reserve."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from fairsweep.sweeps.syntax.section import Section
from fairsweep.trainables.learning.gpu_memory import GPU_PARTS

Amount = Annotated[float, Field(ge=0)]


class ResourcesSection(Section):
    """Resources that one trial reserves. A learner may have a `resources` block of its own."""

    cpu: float = Field(default=1, ge=0, description="CPUs; fractions let trials share one.")
    gpu: Amount | Literal["auto"] = Field(
        default=0.0,
        description="GPUs; 0.25 lets four trials share one, each capped at a quarter of its memory. `auto` measures a "
        "few steps of each learner on a whole GPU before the sweep starts, and takes a part that is enough.",
    )
    workers: int = Field(
        default=0, ge=0, description="Additional processes over which a federated trial distributes its clients."
    )
    worker_cpu: float = Field(default=1, ge=0, description="CPUs of each worker.")
    worker_gpu: Amount | Literal["auto"] = Field(
        default=0.0, description="GPUs of each worker; `auto` takes the part that a whole trial needs."
    )
    max_concurrent: int | None = Field(
        default=None, ge=1, description="Maximum number of concurrent trials; null: as many as fit."
    )

    @property
    def is_measured(self) -> bool:
        """Whether a part of a GPU is yet to be measured."""
        return self.gpu == "auto" or (self.workers > 0 and self.worker_gpu == "auto")

    @property
    def gpus(self) -> float:
        """GPUs of a trial; the least part there is where it is yet to be measured."""
        return GPU_PARTS[0] if self.gpu == "auto" else self.gpu

    @property
    def worker_gpus(self) -> float:
        """GPUs of each worker; the least part there is where it is yet to be measured."""
        return GPU_PARTS[0] if self.worker_gpu == "auto" else self.worker_gpu

    def with_part(self, part: float) -> Self:
        """Return the same with a part of a GPU in the place of each ``auto``."""
        given = {name: part for name in ("gpu", "worker_gpu") if getattr(self, name) == "auto"}
        return self.model_copy(update=given)

    @field_validator("gpu", "worker_gpu", mode="before")
    @classmethod
    def _one_word(cls, raw: object) -> object:
        if isinstance(raw, str) and raw != "auto":
            raise ValueError(f"it must be a number or auto, but got {raw!r}")
        return raw

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.cpu == 0 and self.gpu == 0:
            raise ValueError("a trial must reserve something, but got cpu=0 and gpu=0; write cpu: 1")
        if self.workers and self.worker_cpu == 0 and self.worker_gpu == 0:
            raise ValueError(
                "a worker must reserve something, but got worker_cpu=0 and worker_gpu=0; write worker_cpu: 1"
            )
        for name in ("cpu", "gpu", "worker_cpu", "worker_gpu"):
            amount = getattr(self, name)
            if amount != "auto" and amount > 1 and amount != int(amount):
                raise ValueError(f"{name} must be a fraction below 1 or a whole number, but got {name}={amount}")
        return self
