"""The audit of one training: canaries in it, their scores, and the record of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from fairsweep.analysis.records.file_names import AUDIT
from fairsweep.analysis.records.learner_records import audit_table, write_audit
from fairsweep.datasets.selection.randomness import generator
from fairsweep.datasets.selection.sampling import Sampler
from fairsweep.trainables.auditing.canaries import AuditConfig, Canaries, Contributing
from fairsweep.trainables.auditing.gradient_canaries import GradientCanaries
from fairsweep.trainables.learning.learner import LearningTask
from fairsweep.trainables.privacy.clipping import Clipping
from fairsweep.trainables.privacy.mechanism import Mechanism
from fairsweep.trainables.privacy.privacy_statement import PrivacyStatement

Predict = Callable[[np.ndarray], torch.Tensor]
GREATEST = "a made-up gradient of the greatest norm that clipping allows"


@dataclass(frozen=True, eq=False)
class AuditedUnits:
    """The units of an audited training.

    Attributes:
        names: int64 [n], ids of examples or numbers of clients.
        groups: For each group attribute int64 [n], the group of each unit.
        value_names: For each group attribute the names of its values.
    """

    names: NDArray[np.int64]
    groups: Mapping[str, NDArray[np.int64]]
    value_names: Mapping[str, Any]


class TrainingAudit:
    """Canaries in one training.

    Args:
        config: How many canaries, and which.
        units: Whom they are drawn from.
        task: What is learnt from; research mode.
        mechanism: What is claimed.
        sampler: Who joins which step.
        weights: float64 [n], each unit's sampling weight, for ``weighted_poisson``.
        model: The model under training.
        canaries: Who is one, where somebody else has drawn them; None draws them here.

    Attributes:
        sampler: Who joins which step and is trained on as without an audit.
        labels: int64 [n], the training labels, wrong ones of mislabelled canaries included.
        canaries: Who is one.

    Raises:
        ValueError: In release mode; or if there are too few units, or no such group attribute.
    """

    def __init__(
        self,
        config: AuditConfig,
        units: AuditedUnits,
        task: LearningTask,
        mechanism: Mechanism,
        sampler: Sampler,
        weights: NDArray[np.float64] | None,
        model: nn.Module,
        canaries: Canaries | None = None,
    ) -> None:
        if not task.diagnostics:
            raise ValueError(
                "an audit records what canaries reveal, which no guarantee covers, so it needs mode: research, but "
                "got mode: release: leave audit out"
            )
        if config.by is not None and config.by not in units.groups:
            raise ValueError(
                f"audit.by must be one of the groups {', '.join(units.groups) or '(none)'}, but got {config.by!r}"
            )
        codes = None if config.by is None else units.groups[config.by]
        keys, size = task.keys, len(units.names)
        self._config, self._task, self._units = config, task, units
        self.canaries = canaries or Canaries.draw(config.canaries, units.names, codes, keys.data, keys.secret)
        contributes = self.canaries.contributing(size, themselves=config.kind != "gradient")
        self.sampler = Contributing(sampler, contributes)
        self.labels = _mislabelled(task, self.canaries) if config.kind == "mislabelled" else np.asarray(task.labels)
        self._gradients: GradientCanaries | None = None
        if config.kind == "gradient":
            self._gradients = GradientCanaries(self.canaries, mechanism, sampler, weights, model, keys.data)

    def add_to(self, total: torch.Tensor, step: int, clipping: Clipping) -> NDArray[np.float64]:
        """Add what gradient canaries contribute to a step; returns their norms before clipping, float64 [C]."""
        return np.empty(0) if self._gradients is None else self._gradients.add_to(total, step, clipping)

    def observe(self, update: torch.Tensor, noise_std: float) -> None:
        """Score gradient canaries by the noised mean of a step; see `GradientCanaries.observe`."""
        if self._gradients is not None:
            self._gradients.observe(update, noise_std)

    def scores(self, predict: Predict) -> NDArray[np.float64]:
        """Return each canary's score, float64 [m]; of examples the negative loss of the model as it is now."""
        if self._gradients is not None:
            return np.asarray(self._gradients.scores.cpu().numpy(), np.float64)
        positions = self.canaries.positions
        logits = predict(self._task.feed.images(self._task.rows[positions]))
        labels = torch.from_numpy(np.asarray(self.labels, np.int64)[positions])
        return -F.cross_entropy(logits.double(), labels, reduction="none").numpy()

    def state(self) -> torch.Tensor | None:
        """Return what a resume needs."""
        return None if self._gradients is None else self._gradients.scores.cpu().clone()

    def load(self, state: torch.Tensor | None) -> None:
        """Take over what `state` gave."""
        if self._gradients is not None and state is not None:
            self._gradients.scores.copy_(state)

    def files(self, predict: Predict) -> dict[str, Callable[[Path], None]]:
        """Return what writes the scores and coins."""
        positions, by = self.canaries.positions, self._config.by
        groups = None
        if by is not None:
            names = self._units.value_names.get(by)
            codes = self._units.groups[by][positions].tolist()
            groups = [str(code) if names is None else str(names[code]) for code in codes]
        columns = (self._units.names[positions], self.canaries.coins, self.scores(predict), groups)
        return {AUDIT: partial(write_audit, table=audit_table(*columns))}

    def state_assumption(self, stated: PrivacyStatement) -> PrivacyStatement:
        """Return a privacy statement that says what the audit changes about the training, and what it does not."""
        own = {
            "gradient": GREATEST,
            "example": "what it would without an audit",
            "mislabelled": "what it would with a wrong label",
        }[self._config.kind]
        return state_canaries(stated, len(self.canaries.positions), len(self._units.names), own)


def state_canaries(stated: PrivacyStatement, canaries: int, units: int, own: str = GREATEST) -> PrivacyStatement:
    """Return a privacy statement that says what canaries change about a training.

    Args:
        stated: The statement.
        canaries: How many there are.
        units: Of so many units.
        own: What a canary that is in contributes.
    """
    unit = stated.unit
    said = (
        f"An audit takes {canaries} of the {units} {unit}s as canaries: each is sampled and counted like every other "
        f"{unit}, and by a fair coin contributes {own}, or nothing."
    )
    reveals = stated.reveals | {AUDIT: "who of the canaries was in, and exact functions of private data: not covered"}
    return stated.model_copy(update={"assumptions": (*stated.assumptions, said), "reveals": reveals})


def audit_examples(
    config: AuditConfig | None,
    task: LearningTask,
    mechanism: Mechanism,
    sampler: Sampler,
    weights: NDArray[np.float64] | None,
    model: nn.Module,
    canaries: Canaries | None = None,
) -> TrainingAudit | None:
    """Make the audit of a training whose unit is an example; None without one. See `TrainingAudit`."""
    if config is None:
        return None
    names = np.arange(task.size, dtype=np.int64) if task.ids is None else task.ids
    groups = {name: np.asarray(codes, np.int64) for name, codes in task.groups.items()}
    units = AuditedUnits(names, groups, task.value_names)
    return TrainingAudit(config, units, task, mechanism, sampler, weights, model, canaries)


def _mislabelled(task: LearningTask, canaries: Canaries) -> NDArray[np.int64]:
    """Return the training labels, those of canaries replaced by wrong ones."""
    labels = np.asarray(task.labels, np.int64).copy()
    shift = generator(task.keys.data, "wrong labels").integers(1, task.classes, len(canaries.positions))
    labels[canaries.positions] = (labels[canaries.positions] + shift) % task.classes
    return labels
