"""Gradients of chains of linear layers, written out, are autograd's to the last bit; anything else is no chain."""

import pytest
import torch
from torch import nn

from fairsweep.trainables.layers.example_dropout import ExampleDropout
from fairsweep.trainables.layers.numerics import NumericsConfig, in_float32, use_numerics
from fairsweep.trainables.privacy.bookkeeping import Bookkeeping
from fairsweep.trainables.privacy.clipping import Clipping
from fairsweep.trainables.privacy.flat_chain import FlatChain

NETWORKS = {
    "head": lambda: nn.Linear(24, 2),
    "without bias": lambda: nn.Linear(24, 2, bias=False),
    "regression": lambda: nn.Sequential(nn.Flatten(), nn.Linear(24, 5)),
    "hidden": lambda: nn.Sequential(nn.Linear(24, 7), nn.ReLU(), nn.Identity(), nn.Linear(7, 6), nn.Linear(6, 3)),
    "nested": lambda: nn.Sequential(
        nn.Flatten(), nn.Sequential(nn.Linear(24, 7, bias=False), nn.ReLU()), nn.Linear(7, 2)
    ),
    "rectified": lambda: nn.Sequential(nn.Linear(24, 3), nn.ReLU()),
}


def added(mode, inputs, labels, weights, clipping, network):
    sums = [torch.full_like(parameter, 0.25) for parameter in network.parameters()]
    return sums, mode.add_clipped(inputs, labels, clipping, sums, weights)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", ["flat", "per_layer", "none"])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_a_chains_sums_are_autograds_to_the_bit(monkeypatch, name, kind, is_weighted):
    torch.manual_seed(4)
    network, clipping = NETWORKS[name](), Clipping(kind, None if kind == "none" else 0.8)
    for count in (1, 9, 70):
        inputs, labels = torch.randn(count, 24), torch.randint(0, 2, (count,))
        if name in ("regression", "nested"):
            inputs = inputs.reshape(count, 2, 3, 4)
        weights = torch.rand(count) * (torch.arange(count) % 4 > 0) if is_weighted else None
        mode = Bookkeeping(network)
        with monkeypatch.context() as patched:
            patched.setattr(torch.autograd.graph, "get_gradient_edge", None)  # no hooks are needed
            sums, found = added(mode, inputs, labels, weights, clipping, network)
        with monkeypatch.context() as patched:
            patched.setattr(FlatChain, "of", lambda model: None)
            by_hooks, expected = added(Bookkeeping(network), inputs, labels, weights, clipping, network)
        assert all(map(torch.equal, sums, by_hooks))
        for part in ("losses", "norms", "clipped"):
            assert torch.equal(getattr(found, part), getattr(expected, part))
        assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
        assert not found.losses.requires_grad


def frozen():
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    network[0].requires_grad_(False)
    return network


def tied():
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.ReLU(), layer)


def rounded():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    use_numerics(network, NumericsConfig(precision="bfloat16"), torch.device("cpu"))
    return network


def hooked(place, register):
    network = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2)))
    getattr(network.get_submodule(place), register)(lambda *given: None)
    return network


class Own(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


OTHERS = {
    "convolution": lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)),
    "dropout": lambda: nn.Sequential(nn.Linear(4, 4), ExampleDropout(0.5, 0), nn.Linear(4, 2)),
    "a norm": lambda: nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2)),
    "part of it flat": lambda: nn.Sequential(nn.Flatten(2), nn.Linear(4, 2)),
    "flattened later": lambda: nn.Sequential(nn.Linear(4, 2), nn.Flatten()),
    "begins with ReLU": lambda: nn.Sequential(nn.ReLU(), nn.Linear(4, 2)),
    "nothing": nn.Sequential,
    "an own layer": lambda: Own(4, 2),
    "frozen": frozen,
    "tied": tied,
    "another precision": rounded,
    "hooks": lambda: hooked("", "register_forward_hook"),
    "hooks before a part": lambda: hooked("1", "register_forward_pre_hook"),
    "hooks of a layer": lambda: hooked("1.1", "register_forward_hook"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_no_other_network_is_taken_for_a_chain(name):
    assert FlatChain.of(OTHERS[name]()) is None


def test_a_chain_of_flat_examples_leaves_others_to_autograd():
    network = nn.Linear(4, 2)
    chain = FlatChain.of(network)
    assert chain.takes((4,))
    assert not chain.takes((5, 4))


def test_looking_at_a_network_in_float32_leaves_it_a_chain():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with in_float32(network):
        assert FlatChain.of(network) is not None
    assert FlatChain.of(network) is not None
