"""What a learner reports of an iteration."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class GroupDiagnostic:
    """How one group with one label fared in an iteration of a private learner.

    Attributes:
        attribute: The group attribute.
        value: Code of the group.
        label: Code of the label.
        count: How many per-example gradients were measured.
        mean_gradient_norm: Their mean L2 norm before clipping; NaN if count is 0 or no norms were computed.
        clipped_share: Share of them that clipping shortened; NaN if count is 0.
        cosine: Cosine between the group's mean unclipped gradient and the update; NaN where either is zero or not
            measured.
    """

    attribute: str
    value: int
    label: int
    count: int
    mean_gradient_norm: float
    clipped_share: float
    cosine: float


@dataclass(frozen=True)
class ClientDiagnostic:
    """How one group of clients fared in an iteration of federated training.

    A client belongs to the group that most of its examples have.

    Attributes:
        attribute: The group attribute; empty for the line on all clients.
        value: Code of the group; -1 for all clients.
        clients: How many clients have held-out examples of their own.
        accuracy_mean: Mean over them of the accuracy on their own held-out examples; NaN if there is none.
        accuracy_variance: Variance of the same over clients.
        accuracy_worst_decile: Mean of the same over the tenth of them (rounded up) that is served worst.
        updates: How many updates were measured.
        mean_update_norm: Their mean L2 norm before clipping; NaN if there is none.
        clipped_share: Share of them that clipping shortened.
        cosine: Cosine between the sum of the group's unclipped updates and the noised mean update, mean over rounds;
            NaN where either is zero.
    """

    attribute: str
    value: int
    clients: int
    accuracy_mean: float
    accuracy_variance: float
    accuracy_worst_decile: float
    updates: int
    mean_update_norm: float
    clipped_share: float
    cosine: float


@dataclass(frozen=True)
class IterationReport:
    """What one iteration did.

    Attributes:
        iteration: Number of iterations done, this one included.
        loss: Mean training loss over the examples seen, before their update and without their weights; NaN in release
            mode or if none was seen.
        examples: Examples seen (with repetition); in release mode the expected number, which is public.
        steps: Optimiser steps taken.
        seconds: Wall-clock time.
        diagnostics: Group diagnostics; empty for non-private learners and in release mode.
        clients: How groups of clients fared; empty but for federated learners, and in release mode.
        l2_clip_norm: The clipping norm of the iteration's first step, where it can change; NaN elsewhere.
    """

    iteration: int
    loss: float
    examples: int
    steps: int
    seconds: float = 0.0
    diagnostics: tuple[GroupDiagnostic, ...] = ()
    clients: tuple[ClientDiagnostic, ...] = ()
    l2_clip_norm: float = math.nan
