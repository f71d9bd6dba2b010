"""Group diagnostics: gradient norms and clipping by group under private training.

They are exact functions of private data and outside any guarantee: research mode records them, release mode never
computes them.

Norms and clipped shares come from every per-example gradient of the iteration, at no extra cost. Directions come from a
probe: a fixed, keyed sample with the same number of training examples (at most 32) for each group and label, so that
the cosines of a large and a small group are equally noisy. Its gradients are taken twice an iteration, on at most an
eighth of the training set together: by ordinary backward passes or, where training itself computes no norms, by one
pass for directions and norms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from fairsweep.datasets.selection.randomness import derive, priorities
from fairsweep.trainables.layers.example_dropout import draw_masks
from fairsweep.trainables.layers.numerics import in_float32
from fairsweep.trainables.learning.iteration_report import GroupDiagnostic
from fairsweep.trainables.learning.learner import LearningTask
from fairsweep.trainables.models.inputs import normalise, to_device
from fairsweep.trainables.models.network import Network
from fairsweep.trainables.privacy.bookkeeping import Bookkeeping
from fairsweep.trainables.privacy.clipping import Clipping
from fairsweep.trainables.privacy.gradients import ExampleGradients, Functorch

PROBES_PER_ITERATION = 2
_PROBES = range(PROBES_PER_ITERATION)
_MOST_PROBE_EXAMPLES = 32  # for each cell, a group with a label
_PROBE_BUDGET = 1 / 8  # of the training set, for all cells and probes of an iteration together


@dataclass(frozen=True)
class _Attribute:
    """One attribute's cells, value by label: ``cell = value_index * classes + label``."""

    name: str
    values: tuple[int, ...]
    cells_n: torch.Tensor
    offset: int


class GroupDiagnostics:
    """Measures, for every group attribute's value and every label, norms, clipping and direction.

    Args:
        task: The training set with its groups.
        network: The model under training.
        probe_norms: True where training itself computes no per-example norms: they are then measured on the probe.
        loss_weights: float32 [n], the weight of each training example's loss, if they are weighted: norms are those of
            weighted losses. Directions do not depend on weights that are equal inside a cell.
    """

    def __init__(
        self, task: LearningTask, network: Network, probe_norms: bool, loss_weights: torch.Tensor | None = None
    ) -> None:
        self._classes = task.classes
        self._device = task.device
        self._network = network
        self._attributes = _attributes(task)
        self._cells = sum(len(attribute.values) for attribute in self._attributes) * task.classes
        self._probe = _Probe(task, self._attributes, network, loss_weights)
        self._probe_norms = probe_norms
        self.restart()

    def restart(self) -> None:
        """Forgets what was measured: a new iteration begins."""
        # Of each cell how many gradients there were, the sum of their norms, and how many were clipped.
        self._tallies = torch.zeros((3, self._cells), dtype=torch.float64, device=self._device)
        self._cosines: list[np.ndarray] = []

    def count(self, positions: torch.Tensor, gradients: ExampleGradients) -> None:
        """Count the per-example gradients of a batch.

        Args:
            positions: int64 [B], indices into the training set, on the device.
            gradients: What is known of their gradients.
        """
        if self._probe_norms:
            return
        for attribute in self._attributes:
            self._tally(attribute.cells_n[positions] + attribute.offset, gradients)

    def measures_at(self, step_in_iteration: int, steps: int) -> bool:
        """Whether `measure` measures at a step."""
        return any(step_in_iteration == (2 * index + 1) * steps // (2 * PROBES_PER_ITERATION) for index in _PROBES)

    def measure(self, step_in_iteration: int, steps: int, update: Sequence[torch.Tensor]) -> None:
        """Compare the groups' mean gradients with an update about to be applied, at some steps of an iteration.

        Args:
            step_in_iteration: In [0, steps).
            steps: Number of steps of this iteration.
            update: The noised mean gradient, one tensor for each parameter.
        """
        if not self.measures_at(step_in_iteration, steps):
            return
        found = torch.full((self._cells,), math.nan, dtype=torch.float64, device=self._device)
        with in_float32(self._network.model):
            for cell, gradient, measured in self._probe.gradients(with_norms=self._probe_norms):
                found[cell] = _cosine(gradient, update)
                if measured is not None:
                    self._tally(torch.full_like(measured.clipped, cell, dtype=torch.int64), measured)
        self._cosines.append(found.cpu().numpy())

    def report(self) -> tuple[GroupDiagnostic, ...]:
        """Return what was measured since the last restart, attribute by attribute."""
        counts, norms, clipped = self._tallies.cpu().numpy()
        cosines = _mean_over_steps(self._cosines, self._cells)
        report = []
        for attribute in self._attributes:
            for index, value in enumerate(attribute.values):
                for label in range(self._classes):
                    cell = attribute.offset + index * self._classes + label
                    n = int(counts[cell])
                    report.append(
                        GroupDiagnostic(
                            attribute=attribute.name,
                            value=value,
                            label=label,
                            count=n,
                            mean_gradient_norm=float(norms[cell]) / n if n else math.nan,
                            clipped_share=float(clipped[cell]) / n if n else math.nan,
                            cosine=float(cosines[cell]),
                        )
                    )
        return tuple(report)

    def _tally(self, cells_B: torch.Tensor, gradients: ExampleGradients) -> None:
        measured = (torch.ones_like(gradients.norms), gradients.norms, gradients.clipped.to(gradients.norms.dtype))
        self._tallies.index_add_(1, cells_B, torch.stack(measured).double())


class _Probe:
    """A fixed sample of training images, equally many for each cell, whose gradients show where groups pull."""

    def __init__(
        self,
        task: LearningTask,
        attributes: Sequence[_Attribute],
        network: Network,
        loss_weights: torch.Tensor | None,
    ) -> None:
        self._network = network
        self._device = task.device
        self._key = derive(task.keys.train, "probe")
        populated = sum(len(set(attribute.cells_n.tolist())) for attribute in attributes)
        affordable = int(_PROBE_BUDGET * task.size / max(1, PROBES_PER_ITERATION * populated))
        size = min(_MOST_PROBE_EXAMPLES, max(1, affordable))
        order = np.argsort(priorities(self._key, "position", np.arange(task.size)))
        labels = torch.from_numpy(np.asarray(task.labels, dtype=np.int64))
        self._members: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._weights: dict[int, torch.Tensor | None] = {}
        for attribute in attributes:
            cells = attribute.cells_n.cpu().numpy()
            for cell in np.unique(cells):
                members = order[cells[order] == cell][:size]
                images = to_device(task.feed.images(task.rows[members]), task.device)
                chosen_labels = labels[torch.from_numpy(members)].to(task.device)
                self._members[int(cell) + attribute.offset] = (images, chosen_labels)
                chosen = None if loss_weights is None else loss_weights[torch.from_numpy(members).to(task.device)]
                self._weights[int(cell) + attribute.offset] = chosen

    def gradients(self, with_norms: bool) -> Iterator[tuple[int, Sequence[torch.Tensor], ExampleGradients | None]]:
        """Yield each cell, the direction of its members' mean gradient and, where asked for, the norm of each one's."""
        for cell, (images, labels) in self._members.items():
            self._draw_masks(len(labels))
            if with_norms:
                yield cell, *self._with_norms(normalise(images), labels, self._weights[cell])
            else:
                loss = F.cross_entropy(self._network.model(normalise(images)), labels)
                yield cell, torch.autograd.grad(loss, self._network.parameters), None

    def _with_norms(
        self, inputs: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None
    ) -> tuple[list[torch.Tensor], ExampleGradients]:
        """Return the sum of per-example gradients and the norms of those of weighted losses, from one pass."""
        sums = [torch.zeros_like(parameter) for parameter in self._network.parameters]
        asked = inputs, labels, Clipping("none", None), sums
        try:
            measured = Bookkeeping(self._network.model).add_clipped(*asked)
        except ValueError:  # a layer that it does not know
            measured = Functorch(self._network.model).add_clipped(*asked)
        return sums, measured if weights is None else replace(measured, norms=measured.norms * weights)

    def _draw_masks(self, count: int) -> None:
        """Let dropout drop as in training, by masks of the probe's own."""
        draw_masks(self._network.model, self._key, 0, np.arange(count))


def _attributes(task: LearningTask) -> list[_Attribute]:
    """Numbers the cells of all attributes one after the other."""
    attributes, offset = [], 0
    labels = np.asarray(task.labels, dtype=np.int64)
    for name, codes in task.groups.items():
        values, index = np.unique(np.asarray(codes), return_inverse=True)
        cells = torch.from_numpy(index.reshape(-1).astype(np.int64) * task.classes + labels).to(task.device)
        attributes.append(_Attribute(name, tuple(int(value) for value in values), cells, offset))
        offset += len(values) * task.classes
    return attributes


def _cosine(gradient: Sequence[torch.Tensor], update: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the cosine between a gradient and an update; 0/0 is NaN, as it should be."""
    return _dot(gradient, update) / (_dot(gradient, gradient).sqrt() * _dot(update, update).sqrt())


def _dot(left: Sequence[torch.Tensor], right: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the inner product of two gradients, float64."""
    products = [torch.linalg.vecdot(a.flatten(), b.flatten()).double() for a, b in zip(left, right, strict=True)]
    return torch.stack(products).sum()


def _mean_over_steps(measured: Sequence[np.ndarray], cells: int) -> np.ndarray:
    """Averages over the steps at which a cell has a cosine; NaN if there is none."""
    stacked = np.stack(measured) if measured else np.full((1, cells), np.nan)
    defined = ~np.isnan(stacked)
    counts = defined.sum(axis=0)
    sums = np.where(defined, stacked, 0.0).sum(axis=0)
    mean: np.ndarray = np.divide(sums, counts, out=np.full(cells, np.nan), where=counts > 0)
    return mean
