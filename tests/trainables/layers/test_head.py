"""Which layers are trained, and what takes the place of the last one."""

import numpy as np
import pytest
import torch
from torch import nn

from fairsweep.datasets.selection.randomness import seed_key
from fairsweep.trainables.dpsgd.gradient_modes import GRADIENT_MODES
from fairsweep.trainables.layers.example_dropout import draw_masks
from fairsweep.trainables.layers.norm_layers import FrozenBatchNorm
from fairsweep.trainables.learners import LEARNERS, build_learner
from fairsweep.trainables.models.model import ModelError, build_model
from fairsweep.trainables.models.models import MODELS
from fairsweep.trainables.privacy.clipping import Clipping
from fairsweep.trainables.privacy.gradients import layers_of

KEY, SHAPE = seed_key(1, "train"), (16, 16, 3)


def trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("model", "train", "expected"),
    [
        ("resnet18", "head", {"fc.weight", "fc.bias"}),
        ("resnet18", ["layer4.1.bn2", "fc"], {"layer4.1.bn2.weight", "layer4.1.bn2.bias", "fc.weight", "fc.bias"}),
        ("cnn", "head", {"8.weight", "8.bias"}),
        ("linear", "1", {"1.weight", "1.bias"}),
    ],
)
def test_only_the_named_layers_are_trained(model, train, expected):
    assert trained(build_model(MODELS[model](train=train), SHAPE, 2, KEY)) == expected


def test_names_that_do_not_exist_are_told_the_nearest():
    with pytest.raises(ModelError, match="did you mean 'layer4'"):
        build_model(MODELS["resnet18"](train=["layer5"]), SHAPE, 2, KEY)
    with pytest.raises(ValueError, match="at least one layer"):
        MODELS["resnet18"](train=[])


def test_a_head_takes_the_place_of_the_last_layer_and_the_body_stays_as_it_was():
    plain = build_model(MODELS["resnet18"](), SHAPE, 2, KEY).state_dict()
    headed = build_model(MODELS["resnet18"](head={"hidden": [6, 5], "dropout": [0.3, 0.1]}), SHAPE, 2, KEY)
    assert [type(layer).__name__ for layer in headed.fc] == [
        *("Linear", "ReLU", "ExampleDropout") * 2,
        "Linear",
    ]
    assert [layer.out_features for layer in headed.fc if isinstance(layer, nn.Linear)] == [6, 5, 2]
    assert all(torch.equal(v, plain[n]) for n, v in headed.state_dict().items() if not n.startswith("fc."))
    assert trained(build_model(MODELS["resnet18"](head={"hidden": [6]}, train="head"), SHAPE, 2, KEY)) == {
        "fc.0.weight",
        "fc.0.bias",
        "fc.2.weight",
        "fc.2.bias",
    }


@pytest.mark.parametrize(
    ("head", "told"),
    [
        ({"hidden": []}, "at least 1 item"),
        ({"hidden": [4], "dropout": [0.1, 0.2]}, "one probability for each"),
        ({"hidden": [4], "dropout": [1.0]}, "in \\[0, 1\\)"),
    ],
)
def test_heads_that_make_no_sense_are_refused(head, told):
    with pytest.raises(ValueError, match=told):
        MODELS["cnn"](head=head)


def test_batch_norms_outside_the_trained_layers_keep_their_statistics(own):
    model = build_model(own("brought", norm="batch", train=["second", "fc"]), SHAPE, 3, KEY)
    assert isinstance(model.first[1], FrozenBatchNorm)
    assert isinstance(model.second[1], nn.BatchNorm2d)
    assert float(model.first[1].running_var[0]) > 2


@pytest.mark.parametrize("clipping", ["flat", "per_layer"])
@pytest.mark.parametrize("mode", GRADIENT_MODES)
def test_without_an_example_the_clipped_sum_moves_by_at_most_s(own, mode, clipping):
    """Under freezing, frozen norms and dropout; each example's loss is so large that it is clipped."""
    if (mode, clipping) == ("ghost", "per_layer"):
        pytest.skip("ghost clips by one norm")
    given = own("brought", norm="frozen", train=["second", "head"], head={"hidden": [5], "dropout": [0.4]})
    model = build_model(given, SHAPE, 3, KEY)
    assert {layer.module for layer in layers_of(model)} == {model.second[0], model.fc[2][0], model.fc[2][3]}
    images = 9 * torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    labels, ids = torch.tensor([0, 1, 2, 0, 1, 2]), np.array([4, 8, 1, 0, 3, 9])
    bound, making = 0.02, GRADIENT_MODES[mode](model)

    def total(kept):
        draw_masks(model, KEY, 5, ids[kept])
        sums = [torch.zeros_like(p) for p in model.parameters() if p.requires_grad]
        making.add_clipped(images[kept], labels[kept], Clipping(clipping, bound), sums)
        return torch.cat([part.flatten() for part in sums])

    everybody = total(np.arange(6))
    moved = [float((everybody - total(np.delete(np.arange(6), i))).norm()) for i in range(6)]
    assert all(part <= bound * (1 + 1e-4) for part in moved)
    assert max(moved) > 0.9 * bound


FEDERATED = {"rounds": 1, "clients": {"partition": "iid", "count": 4}, "sampling_rate": 0.9, "noise_multiplier": 1}
PRIVATE = {"batch_size": 8, "noise_multiplier": 1, "performance": {"gradient_mode": "hooks"}}


@pytest.mark.parametrize(
    "given",
    [
        {"kind": "sgd", "batch_size": 8, "optimizer": {"weight_decay": 0.1, "momentum": 0.9}},
        {"kind": "dpsgd"} | PRIVATE,
        {"kind": "dpfedavg"} | FEDERATED,
    ],
    ids=lambda given: given["kind"],
)
def test_no_learner_touches_what_is_frozen(make_task, own, given):
    learner = build_learner(LEARNERS[given["kind"]].config(**given), make_task(own(train=["fc"]), n=16, size=16))
    before = {name: value.clone() for name, value in learner.weights().items()}
    learner.step()
    changed = {name for name, value in learner.weights().items() if not torch.equal(value, before[name])}
    assert changed == {"fc.2.weight", "fc.2.bias"}
