"""Dropout by key, step and id: an example's mask depends on nothing else."""

import numpy as np
import pytest
import torch
from torch import nn

from fairsweep.datasets.selection.randomness import seed_key
from fairsweep.trainables.layers.example_dropout import draw_masks
from fairsweep.trainables.layers.keyed_layers import key_layers
from fairsweep.trainables.layers.model_error import ModelError

KEY = seed_key(1, "train")


def keyed(*layers):
    model = nn.Sequential(nn.Identity(), *layers, nn.Linear(1, 1))
    key_layers(model)
    return model[1:-1], model


def test_a_mask_depends_on_key_step_and_id_alone():
    layers, model = keyed(nn.Dropout(0.5), nn.Dropout(0.5))
    ones, ids = torch.ones(4, 200), np.array([7, 1, 5, 9])
    draw_masks(model, KEY, 3, ids)
    whole = layers[0](ones)
    assert not torch.equal(whole, layers[1](ones))
    draw_masks(model, KEY, 3, ids[[2, 0]])
    assert torch.equal(layers[0](ones[:2]), whole[[2, 0]])
    for key, step in ((KEY, 4), (seed_key(2, "train"), 3)):
        draw_masks(model, key, step, ids)
        assert not torch.equal(layers[0](ones), whole)
    assert torch.equal(layers.eval()[0](ones), ones)


def test_a_dropout_drops_its_share_and_keeps_the_mean():
    layers, model = keyed(nn.Dropout(0.3))
    draw_masks(model, KEY, 0, np.arange(50))
    dropped = layers[0](torch.ones(50, 1000))
    assert float((dropped == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(dropped.mean()) == pytest.approx(1, abs=0.02)
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.7])


def test_channels_and_whole_examples_are_dropped_together():
    from torchvision.ops import StochasticDepth

    layers, model = keyed(nn.Dropout2d(0.5), StochasticDepth(0.5, "row"))
    draw_masks(model, KEY, 0, np.arange(20))
    channels, examples = (layer(torch.ones(20, 6, 4, 4)) for layer in layers)
    assert len(channels.flatten(2).unique(dim=2).unbind(2)) == 1
    assert len({*channels[0, :, 0, 0].tolist()}) == 2
    assert {len(example.unique()) for example in examples} == {1}
    assert len(examples.unique()) == 2


def test_what_has_no_keyed_form_is_refused():
    from torchvision.ops import StochasticDepth

    for layer in (nn.AlphaDropout(), nn.RReLU()):
        with pytest.raises(ModelError, match="draws from a global generator"):
            keyed(layer)
    with pytest.raises(ModelError, match="mode batch mixes examples"):
        keyed(StochasticDepth(0.5, "batch"))
    layers, model = keyed(nn.Dropout(0.5))
    draw_masks(model, KEY, 0, np.arange(3))
    with pytest.raises(RuntimeError, match="keep examples in the first dimension"):
        layers[0](torch.ones(4, 3))
