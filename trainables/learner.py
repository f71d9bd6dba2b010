"""What every learner offers, and what it is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from fairsweep.datasets.feeds import Feed
from fairsweep.trainables.models import ModelConfig
from fairsweep.trainables.privacy_statement import PrivacyStatement


@dataclass(frozen=True)
class TrialKeys:
    """The keys of a trial.

    Attributes:
        data: 32 bytes, public: imbalance draw, splits, partitions.
        train: 32 bytes, public: initial weights, order, augmentation.
        secret: 32 bytes, known to nobody who sees the model: noise and Poisson inclusion. No two trials share it.
        run: Number of the run under this secret. A position is never executed twice with different data, clip or
            settings: a restore under a changed config takes the next run number.
    """

    data: bytes
    train: bytes
    secret: bytes = field(repr=False)
    run: int = 0


@dataclass(frozen=True)
class LearningTask:
    """What a learner learns from.

    Attributes:
        model: Which model.
        classes: Number of classes.
        image_shape: (height, width, channels).
        rows: int64 [n], rows of the training examples in the feed.
        labels: int64 [n] in [0, classes).
        groups: For each group attribute, int16 [n] codes.
        feed: Gives the images.
        keys: All randomness follows from them.
        device: Where training happens.
        diagnostics: True in research mode: losses, realised counts and group diagnostics are reported. They are exact
            functions of private data, so False (release mode) leaves them out of every report.
    """

    model: ModelConfig
    classes: int
    image_shape: tuple[int, int, int]
    rows: np.ndarray
    labels: np.ndarray
    groups: Mapping[str, np.ndarray]
    feed: Feed
    keys: TrialKeys
    device: torch.device
    diagnostics: bool = True

    def __post_init__(self) -> None:
        n = len(self.rows)
        if n == 0:
            raise ValueError("a learner needs at least one training example, but rows is empty")
        lengths = {"labels": len(self.labels), **{name: len(codes) for name, codes in self.groups.items()}}
        wrong = {name: length for name, length in lengths.items() if length != n}
        if wrong:
            raise ValueError(f"labels and groups must have one entry for each of the {n} rows, but got lengths {wrong}")
        if self.labels.min() < 0 or self.labels.max() >= self.classes:
            raise ValueError(
                f"labels must be in [0, {self.classes}), but span {self.labels.min()} to {self.labels.max()}"
            )

    @property
    def size(self) -> int:
        """Number of training examples, n."""
        return len(self.rows)


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
class IterationReport:
    """What one iteration did.

    Attributes:
        iteration: Number of iterations done, this one included.
        loss: Mean training loss over the examples seen, before their update; NaN in release mode or if none was seen.
        examples: Examples seen (with repetition); in release mode the expected number, which is public.
        steps: Optimiser steps taken.
        seconds: Wall-clock time.
        diagnostics: Group diagnostics; empty for non-private learners and in release mode.
    """

    iteration: int
    loss: float
    examples: int
    steps: int
    seconds: float
    diagnostics: tuple[GroupDiagnostic, ...] = ()


class Learner(Protocol):
    """One training method at work on one task.

    Attributes:
        name: Its name in the sweep.
        kind: Which method.
        iterations: How many iterations there are in all.
        iteration: How many are done.
    """

    name: str
    kind: str
    iterations: int
    iteration: int

    def step(self) -> IterationReport:
        """Does one iteration.

        Raises:
            RuntimeError: If all iterations are done.
        """
        ...

    def predict(self, images_BHWC: np.ndarray) -> torch.Tensor:
        """Maps uint8 [B, H, W, C] to logits, float32 [B, K] on the CPU. Changes nothing."""
        ...

    def state(self) -> dict[str, Any]:
        """Returns all that a resume needs: tensors and JSON values only, no generator state, no key."""
        ...

    def load(self, state: Mapping[str, Any]) -> None:
        """Continues from a state as if never interrupted, bit for bit on the same machine.

        Raises:
            ValueError: If the state is of another kind of learner or another plan.
        """
        ...

    def privacy(self) -> PrivacyStatement | None:
        """Returns what has been spent so far, or None for a learner that claims nothing."""
        ...

    def weights(self) -> dict[str, torch.Tensor]:
        """Returns a copy of the model's ``state_dict`` on the CPU."""
        ...
