"""A pass through several chains of linear layers, each with weights and examples of its own.

Shapes: M networks, B examples of each, F features of an example, K classes, P parameters of a network as one vector, I
and O numbers into and out of a layer, L layers.
"""

from __future__ import annotations

import torch

from fairsweep.trainables.privacy.clipping import factors_of
from fairsweep.trainables.privacy.flat_chain import ChainOutline
from fairsweep.trainables.privacy.gradients import ExampleGradients


def add_gradients(
    outline: ChainOutline,
    weights_MP: torch.Tensor,
    inputs_MBF: torch.Tensor,
    labels_MB: torch.Tensor,
    loss_weights_MB: torch.Tensor,
    clipping: str,
    bounds_M1: torch.Tensor | None,
    sums_MP: torch.Tensor,
) -> ExampleGradients:
    """Add each network's sum of clipped gradients to its row of ``sums_MP``.

    Args:
        outline: Their architecture.
        weights_MP: float32, all parameters of each, in the order of `torch.nn.Module.parameters`.
        inputs_MBF: float32.
        labels_MB: int64.
        loss_weights_MB: float32; 0 where there is no example.
        clipping: ``flat``, ``per_layer`` or ``none``.
        bounds_M1: float64, each network's clipping norm; None without clipping.
        sums_MP: float32, changed in place.

    Returns:
        Losses, norms and who was clipped, [M, B] each; of those that fill a batch up they mean nothing.
    """
    layers = _layers(outline, weights_MP)
    entering, now = [], inputs_MBF
    for (weight_MOI, bias_MO), is_rectified in zip(layers, outline.is_rectified, strict=True):
        entering.append(now)
        now = torch.bmm(now, weight_MOI.transpose(1, 2))
        now = now if bias_MO is None else now.add_(bias_MO[:, None])
        now = now.relu_() if is_rectified else now
    last_MBK, column_MB1 = now, labels_MB[..., None]
    logarithms_MBK = last_MBK.log_softmax(dim=2)
    losses_MB = logarithms_MBK.gather(2, column_MB1)[..., 0].neg()
    # By the logits: the probabilities, less 1 at the label.
    back = logarithms_MBK.exp().scatter_add_(2, column_MB1, torch.full_like(losses_MB, -1.0)[..., None])
    back.mul_(loss_weights_MB[..., None])
    leaving = [*entering[1:], last_MBK]
    backprops = [back] * len(layers)
    for place in reversed(range(len(layers))):
        if outline.is_rectified[place]:
            back = back * (leaving[place] > 0)
        backprops[place] = back
        back = torch.bmm(back, layers[place][0]) if place else back
    norms_MB = torch.full_like(losses_MB, torch.nan)
    clipped_MB = torch.zeros_like(losses_MB, dtype=torch.bool)
    factors_LMB = None
    if clipping != "none":
        squares_LMB = torch.stack(
            [
                torch.linalg.vecdot(out, out) * (torch.linalg.vecdot(into, into) + has_bias)
                for into, out, has_bias in zip(entering, backprops, outline.has_bias, strict=True)
            ]
        )
        factors_LMB = factors_of(clipping, bounds_M1, squares_LMB)
        norms_MB, clipped_MB = squares_LMB.sum(dim=0).sqrt(), (factors_LMB < 1).any(dim=0)
    for place, (weight_sums, bias_sums) in enumerate(_layers(outline, sums_MP)):
        out = backprops[place] if factors_LMB is None else backprops[place] * factors_LMB[place][..., None]
        weight_sums.add_(torch.bmm(out.transpose(1, 2), entering[place]))
        if bias_sums is not None:
            bias_sums.add_(out.sum(dim=1))
    return ExampleGradients(losses_MB, norms_MB, clipped_MB)


def _layers(outline: ChainOutline, flat_MP: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
    """Return views of each layer's weights [M, O, I], and of its biases [M, O] if it has any."""
    found, place = [], 0
    for into, out, has_bias in zip(outline.widths[:-1], outline.widths[1:], outline.has_bias, strict=True):
        weight = flat_MP[:, place : place + out * into].view(-1, out, into)
        place += out * into
        found.append((weight, flat_MP[:, place : place + out] if has_bias else None))
        place += out if has_bias else 0
    return found
