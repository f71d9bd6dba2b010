"""Gradient modes that Opacus's modules compute.

Shapes: B examples, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from fairsweep.trainables.privacy.clipping import Clipping
from fairsweep.trainables.privacy.gradients import (
    ExampleGradients,
    clip_and_add,
    layers_of,
    losses_of,
    views_of,
    weighted,
)
from fairsweep.trainables.privacy.opacus_internals import wrapped
from fairsweep.trainables.privacy.torch_internals import foreach


class Hooks:
    """Opacus's default: hooks on every layer write each parameter's per-example gradient beside it."""

    name = "hooks"

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._layers = layers_of(model)
        self._parameters = [p for p in model.parameters() if p.requires_grad]

    def add_clipped(
        self,
        inputs_BCHW: torch.Tensor,
        labels_B: torch.Tensor,
        clipping: Clipping,
        sums: Sequence[torch.Tensor],
        weights_B: torch.Tensor | None = None,
    ) -> ExampleGradients:
        """See `GradientMode`."""
        with wrapped(self._model, self._wrapper) as module:
            losses = losses_of(module, inputs_BCHW, labels_B)
            weighted(losses, weights_B).sum().backward()  # type: ignore[no-untyped-call]
            found = [getattr(p, "grad_sample", None) for p in self._parameters]
        gradients = [gradient for gradient in found if gradient is not None]
        if len(gradients) < len(found):
            raise ValueError(
                f"{self.name} sees no gradient of some weights, which are used without a call of their layer: choose "
                "gradient_mode functorch"
            )
        if (views := views_of(inputs_BCHW, labels_B)) > 1:
            gradients = [rows.reshape(-1, views, *rows.shape[1:]).sum(dim=1) for rows in gradients]
        return clip_and_add(gradients, losses.detach(), self._layers, clipping, sums)

    def _wrapper(self) -> Any:  # noqa: ANN401 - Opacus's modules have no types
        from opacus.grad_sample import GradSampleModule

        return GradSampleModule(self._model, loss_reduction="sum")


class ExpandedWeights(Hooks):
    """PyTorch's expanded weights, as Opacus's mode ``ew`` uses them."""

    name = "expanded_weights"

    def _wrapper(self) -> Any:  # noqa: ANN401 - Opacus's modules have no types
        from opacus.grad_sample import GradSampleModuleExpandedWeights

        return GradSampleModuleExpandedWeights(self._model, loss_reduction="sum")


NO_VIEWS = (
    "ghost clipping knows the norm of each view, not that of an example's mean gradient: choose another gradient_mode"
)


class Ghost:
    """Opacus's ghost clipping: one backward pass for the norms, a second one of the weighted loss. Flat clipping only.

    References:
        Li et al. 2022, arXiv 2110.05679, section 4; Bu et al. 2022, arXiv 2205.10683.
    """

    name = "ghost"

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._parameters = [p for p in model.parameters() if p.requires_grad]

    def add_clipped(
        self,
        inputs_BCHW: torch.Tensor,
        labels_B: torch.Tensor,
        clipping: Clipping,
        sums: Sequence[torch.Tensor],
        weights_B: torch.Tensor | None = None,
    ) -> ExampleGradients:
        """See `GradientMode`."""
        from opacus.grad_sample import GradSampleModuleFastGradientClipping

        if clipping.kind == "per_layer":
            raise ValueError(
                "ghost clipping supports one norm for all layers only: choose another gradient_mode for per_layer"
            )
        if views_of(inputs_BCHW, labels_B) > 1:
            raise ValueError(NO_VIEWS)
        make: Callable[[], Any] = lambda: GradSampleModuleFastGradientClipping(  # noqa: E731
            self._model, loss_reduction="sum", use_ghost_clipping=True
        )
        with wrapped(self._model, make) as module:
            losses = F.cross_entropy(module(inputs_BCHW), labels_B, reduction="none")
            weighted(losses, weights_B).sum().backward(retain_graph=True)  # type: ignore[no-untyped-call]
            norms = module.get_norm_sample().detach()
            factors = clipping.factors(norms.square()[None])[0]
            module.disable_hooks()
            gradients = torch.autograd.grad((factors * weighted(losses, weights_B)).sum(), self._parameters)
        foreach("add_", list(sums), list(gradients))
        return ExampleGradients(losses.detach(), norms, factors < 1)
