"""Norms in place of BatchNorm."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fairsweep.datasets.selection.randomness import seed_key
from fairsweep.trainables.layers.example_dropout import draw_masks
from fairsweep.trainables.models.model import build_model
from fairsweep.trainables.models.models import MODELS

KEY, SHAPE, IDS = seed_key(1, "train"), (16, 16, 3), np.arange(4)


@pytest.fixture
def images():
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_frozen_norms_compute_what_batch_norm_computes_in_evaluation(own, images):
    frozen = build_model(own("brought", norm="frozen"), SHAPE, 3, KEY)
    batch = build_model(own("brought", norm="batch"), SHAPE, 3, KEY)
    assert float(frozen.first[1].running_var[0]) > 2
    torch.testing.assert_close(frozen.eval()(images), batch.eval()(images))


def test_frozen_norms_are_functions_of_each_example_and_never_move(own, images):
    model = build_model(own("brought", norm="frozen"), SHAPE, 3, KEY)
    names = [name for name, _ in model.named_parameters()]
    assert not any(name.startswith(("first.1", "second.1")) for name in names)
    before = {name: value.clone() for name, value in model.named_buffers() if "words" not in name}
    labels = torch.tensor([0, 1, 2, 0])
    draw_masks(model, KEY, 0, IDS)
    losses = F.cross_entropy(model(images), labels, reduction="none")
    for index in range(4):
        inside = torch.autograd.grad(losses[index], list(model.parameters()), retain_graph=True)
        draw_masks(model, KEY, 0, IDS[index : index + 1])
        alone = F.cross_entropy(model(images[index : index + 1]), labels[index : index + 1])
        for one, other in zip(inside, torch.autograd.grad(alone, list(model.parameters())), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    draw_masks(model, KEY, 0, IDS)
    F.cross_entropy(model(images), labels).backward()
    optimizer.step()
    after = dict(model.named_buffers())
    assert before
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_group_norm_takes_the_place_and_none_takes_it_out(own):
    group, none = (build_model(own(norm=norm), SHAPE, 3, KEY) for norm in ("group", "none"))
    assert (group.first[1].num_groups, group.second[1].num_groups) == (1, 2)
    assert isinstance(none.first[1], torch.nn.Identity)
    assert torch.equal(group.first[0].weight, none.first[0].weight)


def test_resnet18_keeps_published_statistics_as_constants(tmp_path):
    from torchvision.models import resnet18

    with torch.random.fork_rng():
        theirs = resnet18()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean += 0.3
    torch.save(theirs.state_dict(), tmp_path / "published.pth")
    ours = build_model(MODELS["resnet18"](norm="frozen", pretrained=tmp_path / "published.pth"), (32, 32, 3), 2, KEY)
    assert float(ours.bn1.running_mean[0]) == pytest.approx(0.3)
    ours.fc, batch = theirs.fc, torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(batch), theirs.eval()(batch), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="none are given"):
        MODELS["resnet18"](norm="frozen")
