"""The client half of a round: clients train from the same weights, and their clipped updates are summed.

Shapes: C clients, T local steps, B examples a step, P weights, L layers, G groups of clients.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from fairsweep.trainables.federated.cohorts import Schedule
from fairsweep.trainables.federated.fedavg_config import LocalConfig
from fairsweep.trainables.federated.grouped_pass import GroupedPass
from fairsweep.trainables.federated.local_optimizers import LocalOptimizer
from fairsweep.trainables.layers.example_dropout import draw_masks, mask_words
from fairsweep.trainables.models.augmentation import AugmentationConfig, augment
from fairsweep.trainables.models.inputs import normalise
from fairsweep.trainables.privacy.clipping import Clipping
from fairsweep.trainables.privacy.gradients import Layer, layers_of
from fairsweep.trainables.privacy.torch_internals import foreach


@dataclass(frozen=True)
class RoundImages:
    """The images of a round's examples, on the training device.

    Attributes:
        images: uint8 [M, C, H, W].
        labels: int64 [M].
        ids: int64 [M].
    """

    images: torch.Tensor
    labels: torch.Tensor
    ids: NDArray[np.int64]


@dataclass
class CohortSums:
    """What the server learns of some clients, and (research mode) what diagnostics need.

    Attributes:
        total: float32 [P], the sum of clipped updates.
        by_group: float32 [G, P], sums of unclipped updates by group of clients; G = 0 where nobody asks.
        clients: int64 [C].
        norms: float64 [C], L2 norm of each update before clipping.
        clipped: bool [C], whether any layer was shortened.
        loss: Sum of the losses of all examples seen, each before its step.
        examples: How many those are.
    """

    total: torch.Tensor
    by_group: torch.Tensor
    clients: NDArray[np.int64]
    norms: NDArray[np.float64]
    clipped: NDArray[np.bool_]
    loss: float
    examples: int

    @classmethod
    def empty(cls, weights: int, groups: int, device: torch.device) -> CohortSums:
        """Return the sums of nobody."""
        return cls(
            total=torch.zeros(weights, device=device),
            by_group=torch.zeros((groups, weights), device=device),
            clients=np.empty(0, np.int64),
            norms=np.empty(0, np.float64),
            clipped=np.empty(0, np.bool_),
            loss=0.0,
            examples=0,
        )

    def add(self, other: CohortSums) -> None:
        """Take up the sums of other clients."""
        self.total += other.total.to(self.total.device)
        self.by_group += other.by_group.to(self.total.device)
        self.clients = np.concatenate([self.clients, other.clients])
        self.norms = np.concatenate([self.norms, other.norms])
        self.clipped = np.concatenate([self.clipped, other.clipped])
        self.loss += other.loss
        self.examples += other.examples


class LocalTraining(Protocol):
    """One way to train clients. All give equal sums up to rounding.

    Attributes:
        name: The way's name.
    """

    name: str

    def updates(
        self, weights_P: torch.Tensor, plan: Schedule, examples: RoundImages, rate: float, first_step: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Trains clients from the same weights.

        Args:
            weights_P: float32 [P], the server's.
            plan: Who sees what; few enough clients to be held at once.
            examples: The round's examples.
            rate: The learning rate of the round.
            first_step: Number of the round's first local step, for augmentation.

        Returns:
            float32 [C, P], each client's weights after training minus those before, in the plan's order; and float32
            [C], the sum of each client's losses.
        """
        ...


Gradients = Callable[
    [tuple[torch.Tensor, ...], dict[str, torch.Tensor], torch.Tensor, torch.Tensor, torch.Tensor],
    tuple[Sequence[torch.Tensor], torch.Tensor],
]
"""Maps stacked weights, words of dropout masks, inputs, labels and who is shown to gradients, and clients' losses."""


class Batched:
    """Clients side by side: their weights are stacked, and all gradients of a step are taken at once.

    Networks that are a chain of known layers take one pass by group, others go through torch.func's vmap.
    """

    name = "batched"

    def __init__(
        self,
        model: nn.Module,
        local: LocalConfig,
        augmentation: AugmentationConfig,
        key: bytes,
        loss_scale: float = 1.0,
    ) -> None:
        self._local, self._augmentation, self._key = local, augmentation, key
        self._scale = loss_scale
        self._model = model
        self._shapes = [parameter.shape for parameter in model.parameters() if parameter.requires_grad]
        grouped = GroupedPass.of(model)
        self._gradients = _mapped(model, loss_scale) if grouped is None else _by_group(grouped, loss_scale)

    def updates(
        self, weights_P: torch.Tensor, plan: Schedule, examples: RoundImages, rate: float, first_step: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `LocalTraining`."""
        clients, device = len(plan.clients), weights_P.device
        local_CP = weights_P.repeat(clients, 1)
        stacks = _views(local_CP, self._shapes)
        optimizer = LocalOptimizer(self._local.optimizer, stacks)
        start = _views(weights_P[None], self._shapes)
        losses_C = torch.zeros(clients, device=device)
        table = torch.from_numpy(plan.table).to(device)
        for step in range(plan.table.shape[1]):
            active = int(np.searchsorted(-plan.steps, -step, side="left"))
            places_CB = table[:active, step]
            width = int((plan.table[:active, step] >= 0).sum(axis=1).max())
            places_CB = places_CB[:, :width]
            shown_CB = places_CB >= 0
            chosen_CB = places_CB.clamp(min=0)
            inputs = self._inputs(examples, chosen_CB, first_step + step)
            now = [stack[:active] for stack in stacks]
            draw_masks(self._model, self._key, first_step + step, examples.ids[chosen_CB.cpu().numpy()])
            gradients, totals = self._gradients(
                tuple(now), mask_words(self._model), inputs, examples.labels[chosen_CB], shown_CB.float()
            )
            losses_C[:active] += totals
            found = [g / self._scale for g in gradients] if self._scale != 1 else list(gradients)
            if self._local.proximal:
                found = [g + self._local.proximal * (w - w0) for g, w, w0 in zip(found, now, start, strict=True)]
            optimizer.update(now, found, rate, active)
        return local_CP.sub_(weights_P), losses_C

    def _inputs(self, examples: RoundImages, places_CB: torch.Tensor, step: int) -> torch.Tensor:
        flat = places_CB.flatten()
        inputs = normalise(examples.images[flat])
        if self._augmentation.active:
            inputs = augment(inputs, self._augmentation, self._key, step, examples.ids[flat.cpu().numpy()])
        return inputs.reshape(*places_CB.shape, *inputs.shape[1:])


def _mapped(model: nn.Module, loss_scale: float) -> Gradients:
    """Return gradients by torch.func's vmap, of any model."""
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]

    def loss(
        weights: tuple[torch.Tensor, ...],
        words: dict[str, torch.Tensor],
        inputs_BCHW: torch.Tensor,
        labels_B: torch.Tensor,
        shown_B: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        named = {**dict(zip(names, weights, strict=True)), **words}
        logits = torch.func.functional_call(model, named, (inputs_BCHW,))
        total = (F.cross_entropy(logits, labels_B, reduction="none") * shown_B).sum()
        return total / shown_B.sum() * loss_scale, total

    # Random layers are keyed: what is drawn here by dropout of probability 0 changes nothing.
    return torch.func.vmap(torch.func.grad(loss, has_aux=True), randomness="different")


def _by_group(grouped: GroupedPass, loss_scale: float) -> Gradients:
    """Return gradients by one pass, forward and back, of all clients; such a chain draws no masks."""

    def gradients(
        weights: tuple[torch.Tensor, ...],
        words: dict[str, torch.Tensor],
        inputs_CBCHW: torch.Tensor,
        labels_CB: torch.Tensor,
        shown_CB: torch.Tensor,
    ) -> tuple[Sequence[torch.Tensor], torch.Tensor]:
        leaves = [weight.detach().requires_grad_() for weight in weights]
        logits_CBK = grouped(leaves, inputs_CBCHW)
        losses = F.cross_entropy(logits_CBK.flatten(0, 1), labels_CB.flatten(), reduction="none")
        totals_C = (losses.view_as(shown_CB) * shown_CB).sum(dim=1)
        mean = (totals_C / shown_CB.sum(dim=1)).sum() * loss_scale
        return torch.autograd.grad(mean, leaves), totals_C.detach()

    return gradients


class Sequential:
    """One client after the other, in one model whose weights are set back before each: no model is ever copied."""

    name = "sequential"

    def __init__(
        self,
        model: nn.Module,
        local: LocalConfig,
        augmentation: AugmentationConfig,
        key: bytes,
        loss_scale: float = 1.0,
    ) -> None:
        self._model, self._local, self._augmentation, self._key = model, local, augmentation, key
        self._scale = loss_scale
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._shapes = [parameter.shape for parameter in self._parameters]
        self._optimizer = LocalOptimizer(local.optimizer, [p.detach() for p in self._parameters])

    def updates(
        self, weights_P: torch.Tensor, plan: Schedule, examples: RoundImages, rate: float, first_step: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `LocalTraining`."""
        start = [view[0] for view in _views(weights_P[None], self._shapes)]
        now = [parameter.detach() for parameter in self._parameters]
        updates_CP = torch.empty((len(plan.clients), len(weights_P)), device=weights_P.device)
        losses = []
        for index, steps in enumerate(plan.steps.tolist()):
            foreach("copy_", now, start)
            self._optimizer.restart()
            losses.append(self._train(plan.table[index, :steps], examples, start, rate, first_step))
            torch.cat([tensor.flatten() for tensor in now], out=updates_CP[index])
        foreach("copy_", now, start)
        return updates_CP.sub_(weights_P), torch.stack(losses) if losses else weights_P.new_zeros(0)

    def _train(
        self,
        table_TB: NDArray[np.int64],
        examples: RoundImages,
        start: Sequence[torch.Tensor],
        rate: float,
        first_step: int,
    ) -> torch.Tensor:
        """Trains the model on one client's batches; returns the sum of losses."""
        total = torch.zeros((), device=examples.images.device)
        for step, places in enumerate(table_TB):
            chosen = places[places >= 0]
            on_device = torch.from_numpy(chosen).to(examples.images.device)
            inputs = normalise(examples.images[on_device])
            inputs = augment(inputs, self._augmentation, self._key, first_step + step, examples.ids[chosen])
            draw_masks(self._model, self._key, first_step + step, examples.ids[chosen])
            loss = F.cross_entropy(self._model(inputs), examples.labels[on_device])
            gradients: Sequence[torch.Tensor] = torch.autograd.grad(loss * self._scale, self._parameters)
            with torch.no_grad():
                if self._scale != 1:
                    gradients = [g / self._scale for g in gradients]
                now = [parameter.detach() for parameter in self._parameters]
                if mu := self._local.proximal:
                    gradients = [g + mu * (w - w0) for g, w, w0 in zip(gradients, now, start, strict=True)]
                self._optimizer.update(now, gradients, rate)
            total += loss.detach() * len(chosen)
        return total


class UpdateSum:
    """Clips updates and sums them.

    Args:
        model: Whose layers they are.
    """

    def __init__(self, model: nn.Module) -> None:
        sizes = [parameter.numel() for parameter in model.parameters() if parameter.requires_grad]
        self._slices = [slice(stop - size, stop) for size, stop in zip(sizes, itertools.accumulate(sizes), strict=True)]
        self._layers: list[Layer] = layers_of(model)

    def add(
        self,
        updates_CP: torch.Tensor,
        clipping: Clipping,
        members_GC: torch.Tensor,
        sums: CohortSums,
        plan: Schedule,
    ) -> None:
        """Add clients' clipped updates to the sums.

        An update that is not finite cannot be scaled to a bounded norm: with clipping it contributes nothing.

        Args:
            updates_CP: float32 [C, P]; changed in place.
            clipping: The rule.
            members_GC: float32 [G, C], 1 where a client belongs to a group.
            sums: Changed in place.
            plan: Whose updates they are.
        """
        squared_LC = self._squared_norms(updates_CP)
        norms_C = squared_LC.sum(dim=0).sqrt()
        factors_LC = clipping.factors(squared_LC)
        if clipping.kind != "none":
            finite_C = norms_C.isfinite()
            if not bool(finite_C.all()):
                updates_CP[~finite_C] = 0
                factors_LC = torch.where(finite_C, factors_LC, torch.zeros_like(factors_LC))
        if len(members_GC):
            sums.by_group.addmm_(members_GC, updates_CP)
        if clipping.kind == "per_layer":
            for layer, factors_C in zip(self._layers, factors_LC, strict=True):
                for part in (self._slices[index] for index in layer.indices):
                    sums.total[part].addmv_(updates_CP[:, part].t(), factors_C)
        else:
            sums.total.addmv_(updates_CP.t(), factors_LC[0])
        sums.clients = np.concatenate([sums.clients, plan.clients])
        sums.norms = np.concatenate([sums.norms, norms_C.double().cpu().numpy()])
        sums.clipped = np.concatenate([sums.clipped, (factors_LC < 1).any(dim=0).cpu().numpy()])

    def _squared_norms(self, updates_CP: torch.Tensor) -> torch.Tensor:
        """Return the squared norm of each layer's part of each update, float32 [L, C]."""
        squares = [torch.linalg.vecdot(updates_CP[:, part], updates_CP[:, part]) for part in self._slices]
        return torch.stack([torch.stack([squares[i] for i in layer.indices]).sum(dim=0) for layer in self._layers])


def _views(rows_CP: torch.Tensor, shapes: Sequence[torch.Size]) -> list[torch.Tensor]:
    """Return each parameter's part of stacked weights as [C, *shape], without a copy."""
    parts = torch.split(rows_CP, [shape.numel() for shape in shapes], dim=1)
    return [part.view(len(rows_CP), *shape) for part, shape in zip(parts, shapes, strict=True)]
