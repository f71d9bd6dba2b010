"""The section ``resources``: what a trial and its workers reserve."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from fairsweep.sweeps.syntax.section import Section


class ResourcesSection(Section):
    """Resources that one trial reserves. A learner may have a `resources` block of its own."""

    cpu: float = Field(default=1, ge=0, description="CPUs; fractions let trials share one.")
    gpu: float = Field(
        default=0.0,
        ge=0,
        description="GPUs; 0.25 lets four trials share one, each capped at a quarter of its memory.",
    )
    workers: int = Field(
        default=0, ge=0, description="Additional processes over which a federated trial distributes its clients."
    )
    worker_cpu: float = Field(default=1, ge=0, description="CPUs of each worker.")
    worker_gpu: float = Field(default=0.0, ge=0, description="GPUs of each worker.")
    stack: int | Literal["auto"] = Field(
        default=1,
        description="Trials that train side by side in one process, on what one of them reserves: trials of `sgd` and "
        "`dpsgd` that train `linear`, or a head on features of a frozen body. `auto`: as many as are worth it; other "
        "trials train alone. A number is an error for these. Results differ from those of single trials by rounding.",
    )
    max_concurrent: int | None = Field(
        default=None, ge=1, description="Maximum number of concurrent trials; null: as many as fit."
    )

    @field_validator("gpu", "worker_gpu", mode="before")
    @classmethod
    def _number(cls, raw: object) -> object:
        if isinstance(raw, str):
            raise ValueError(
                f"it must be a number, but got {raw!r}: write 0.25 to let four trials share a GPU; "
                "fairsweep plan --measure, on a machine with a GPU, says which part is enough"
            )
        return raw

    @field_validator("stack")
    @classmethod
    def _at_least_one(cls, stack: int | str) -> int | str:
        if isinstance(stack, int) and stack < 1:
            raise ValueError(f"stack must be at least 1, or auto, but got {stack}: 1 lets every trial train alone")
        return stack

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
            if amount > 1 and amount != int(amount):
                raise ValueError(f"{name} must be a fraction below 1 or a whole number, but got {name}={amount}")
        return self
