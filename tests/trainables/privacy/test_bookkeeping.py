"""The forms that book-keeping gives a layer's gradients, against torch's and Opacus's own."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fairsweep.trainables.privacy.bookkeeping import layer_gradient, patches
from fairsweep.trainables.privacy.opacus_internals import example_gradients


@pytest.mark.parametrize(("padding", "stride", "dilation"), [((1, 2), (1, 1), (1, 1)), (0, 2, (2, 1)), (2, (2, 3), 2)])
def test_patches_are_torchs_own(padding, stride, dilation):
    layer = nn.Conv2d(2, 3, (3, 5), padding=padding, stride=stride, dilation=dilation)
    inputs = torch.randn(4, 2, 13, 12)
    expected = F.unfold(inputs, (3, 5), padding=padding, stride=stride, dilation=dilation)
    assert torch.equal(patches(layer, inputs), _innermost(expected))


@pytest.mark.parametrize(("padding", "same_as"), [("same", (1, 4)), ("valid", (0, 0))])
def test_patches_know_torchs_words_for_padding(padding, same_as):
    inputs = torch.randn(4, 2, 9, 11)
    found = patches(nn.Conv2d(2, 3, (3, 5), padding=padding, dilation=(1, 2)), inputs)
    assert torch.equal(found, _innermost(F.unfold(inputs, (3, 5), padding=same_as, dilation=(1, 2))))


def _innermost(unfolded_BKT):
    """Lay the two channels of torch's patches innermost, and the places of the map before them."""
    return unfolded_BKT.unflatten(1, (2, -1)).permute(0, 3, 2, 1).flatten(2)


@pytest.mark.parametrize(
    ("kernel", "padding", "stride", "side"), [(3, 1, 2, 5), (3, 1, 1, 12), (1, 0, 2, 5), (1, 0, 1, 8)]
)
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolutions_norms_and_sums_are_those_of_its_gradients(kernel, padding, stride, side, bias):
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 24, kernel, stride, padding, bias=bias).double()
    inputs = torch.randn(6, 16, side, side, dtype=torch.float64)
    backprop = torch.randn_like(layer(inputs))
    weights = [
        torch.autograd.grad(layer(one[None]), list(layer.parameters()), back[None])
        for one, back in zip(inputs, backprop, strict=True)
    ]
    gradient, factors = layer_gradient(layer, inputs, backprop), torch.rand(6, dtype=torch.float64)
    norms = torch.stack([sum(part.square().sum() for part in one) for one in weights])
    torch.testing.assert_close(gradient.squared_norms, norms, rtol=1e-10, atol=0)
    sums = [torch.zeros_like(parameter) for parameter in layer.parameters()]
    gradient.add_weighted(factors, sums)
    for found, parts in zip(sums, zip(*weights, strict=True), strict=True):
        torch.testing.assert_close(
            found, torch.einsum("b,b...->...", factors, torch.stack(parts)), rtol=1e-10, atol=1e-12
        )


@pytest.mark.parametrize("places", [(), (3,), (3, 5)])
def test_a_norm_layers_gradients_are_opacus_own_to_the_bit(places):
    torch.manual_seed(0)
    layer, inputs, backprop = nn.GroupNorm(2, 6), torch.randn(5, 6, *places), torch.randn(5, 6, *places)
    gradient = layer_gradient(layer, inputs, backprop)
    weight, bias = example_gradients(layer, inputs, backprop)
    factors, sums = torch.rand(5), [torch.zeros(6), torch.zeros(6)]
    gradient.add_weighted(factors, sums)
    assert torch.equal(sums[0], torch.zeros(6).addmv_(weight.t(), factors))
    assert torch.equal(sums[1], torch.zeros(6).addmv_(bias.t(), factors))


def test_training_the_packages_own_networks_privately_imports_no_opacus():
    script = """
import sys, torch
from fairsweep.trainables.models.models import MODELS
from fairsweep.trainables.models.model import build_model
from fairsweep.trainables.privacy.bookkeeping import Bookkeeping
from fairsweep.trainables.privacy.clipping import Clipping
for name in ("linear", "cnn", "resnet18"):
    model = build_model(MODELS[name](), (16, 16, 3), 2, b"k" * 32)
    sums = [torch.zeros_like(p) for p in model.parameters()]
    Bookkeeping(model).add_clipped(torch.randn(3, 3, 16, 16), torch.tensor([0, 1, 1]), Clipping("flat", 1.0), sums)
print("opacus" in sys.modules)
"""
    command = [sys.executable, "-W", "ignore", "-c", script]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    assert answer.stdout.split() == ["False"]
