"""Parts of Opacus that it does not document: what they compute, and an Opacus without them."""

from contextlib import suppress

import opacus
import pytest
import torch
from opacus.grad_sample import GradSampleHooks, GradSampleModule
from torch import nn

from fairsweep.trainables.privacy.opacus_internals import example_gradients, wrapped

LAYERS = {
    "convolution": (nn.Conv2d(4, 6, 3, padding=1, stride=2, groups=2), (5, 4, 8, 8)),
    "linear": (nn.Linear(4, 3, bias=False), (5, 4)),
    "norm": (nn.GroupNorm(2, 4), (5, 4, 3, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_example_gradients_are_those_of_one_example_after_the_other(name):
    layer, shape = LAYERS[name]
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    output = layer(inputs)
    backprop = torch.randn(output.shape, generator=torch.Generator().manual_seed(2))
    found = example_gradients(layer, inputs, backprop)
    for example in range(len(inputs)):
        part = slice(example, example + 1)
        expected = torch.autograd.grad(layer(inputs[part]), list(layer.parameters()), backprop[part])
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one[example], other)


def test_no_trace_of_opacus_is_left_also_after_an_error():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 4, 2))
    before = [set(vars(module)) for module in model.modules()], [set(vars(p)) for p in model.parameters()]
    with suppress(KeyError), wrapped(model, lambda: GradSampleModule(model, loss_reduction="sum")) as module:
        module(torch.randn(3, 1, 4, 4)).sum().backward()
        assert next(model.parameters()).grad_sample is not None
        raise KeyError
    assert ([set(vars(module)) for module in model.modules()], [set(vars(p)) for p in model.parameters()]) == before
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_layer_that_opacus_does_not_know_is_named():
    class Own(nn.Linear):
        pass

    with pytest.raises(ValueError, match="not support layers of type Own: choose gradient_mode functorch"):
        example_gradients(Own(2, 2), torch.zeros(1, 2), torch.zeros(1, 2))


def test_a_version_of_opacus_without_the_part_is_refused(monkeypatch):
    monkeypatch.delattr(GradSampleHooks, "GRAD_SAMPLERS")
    monkeypatch.setattr(opacus, "__version__", "9.9.9")
    with pytest.raises(
        NotImplementedError, match=r"GRAD_SAMPLERS, which opacus 9\.9\.9 does not have: install opacus=="
    ):
        example_gradients(nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
