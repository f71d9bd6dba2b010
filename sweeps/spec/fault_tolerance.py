"""The sections ``checkpoints`` and ``failures``."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import ByteSize, Field

from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.syntax.section import Section
from fairsweep.trainables.trial.checkpoint import CheckpointPolicy


class FailuresSection(Section):
    """What happens when a worker dies."""

    retries: int = Field(default=2, ge=0, description="How often a failed trial is restarted from its checkpoint.")
    node_failures: int | None = Field(
        default=3,
        ge=1,
        description="A machine of a cluster on which this many trials in a row fail or lose their worker is excluded "
        "from this run; the last machine is never excluded. null: no limit.",
    )


class CheckpointsSection(Section):
    """Which checkpoints a trial writes."""

    every: int = Field(default=1, ge=1, description="Minimum number of iterations between two checkpoints.")
    seconds: float = Field(
        default=2.0,
        ge=0,
        description="Minimum number of seconds between two checkpoints: a kill loses at most that much.",
    )
    keep: int = Field(
        default=1,
        ge=1,
        description="How many are kept while a trial runs: the newest ones; from 2 on, also the best on the validation "
        "split.",
    )
    keep_final_weights: bool = Field(default=True, description="Whether a finished trial keeps its model.")
    budget: ByteSize | None = Field(
        default=None,
        ge=1,
        description="How much disk space all checkpoints of the sweep may take, such as `2GB`: trials that run at once "
        "share "
        "it equally. A trial's newest checkpoint always stays. null: no limit.",
    )

    def policy(self, at_once: int = 1, held_bytes: int = 0) -> CheckpointPolicy:
        """Return the same as a trial takes it.

        Args:
            at_once: how many trials run at once and share the budget.
            held_bytes: what checkpoints of trials that do not run take of it.
        """
        share = None if self.budget is None else max(1, (int(self.budget) - held_bytes) // max(1, at_once))
        return CheckpointPolicy(self.every, self.seconds, self.keep, self.keep_final_weights, share)

    def check_budget(self, sizes: Iterable[int], at_once: int) -> None:
        """Refuse a budget that cannot hold what must stay.

        Args:
            sizes: estimates of a checkpoint of each trial, bytes.
            at_once: how many trials run at once.

        Raises:
            SweepError: with what is needed. Each running trial needs room for two: the older one is deleted only when
                the newer one is on the disk.
        """
        needed = 2 * max(sizes, default=0) * at_once
        if self.budget is not None and needed > self.budget:
            raise SweepError(
                f"the budget for checkpoints must hold about {_shown(needed)}, two checkpoints of each of the "
                f"{at_once} trials that run at once, but got budget={_shown(int(self.budget))}; raise it, or lower "
                "resources.max_concurrent or resources.stack",
                ("checkpoints", "budget"),
            )


def _shown(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 1000)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"
