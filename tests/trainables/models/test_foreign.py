"""Networks of torchvision, by their names."""

from pathlib import Path

import pytest
import torch

from fairsweep.datasets.selection.randomness import seed_key
from fairsweep.trainables.dpsgd.dpsgd_config import DpsgdConfig
from fairsweep.trainables.learners import LEARNERS, build_learner
from fairsweep.trainables.models.examination import examine
from fairsweep.trainables.models.foreign import TorchvisionModel
from fairsweep.trainables.models.model import ModelError, build_model
from fairsweep.trainables.models.models import model_type

KEY, SHAPE, NAME = seed_key(1, "train"), (32, 32, 3), "shufflenet_v2_x0_5"
PRIVATE = DpsgdConfig(noise_multiplier=1)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A file as torchvision publishes it: 1,000 classes, BatchNorm statistics."""
    from torchvision.models import get_model

    with torch.random.fork_rng():
        model = get_model(NAME)
        for name, value in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                value += torch.rand(value.shape)
    path = tmp_path_factory.mktemp("weights") / "published.pth"
    torch.save(model.state_dict(), path)
    return path, model


def test_every_classification_network_of_torchvision_is_a_model_and_others_are_told_the_nearest():
    from torchvision import models

    page = (Path(__file__).parents[3] / "docs/models.md").read_text()
    for name in set(models.list_models(module=models)) - {"resnet18"}:
        assert model_type({"name": name}) is TorchvisionModel
        assert f"`{name}`" in page, f"{name} stands in no row of benchmarks/torchvision_networks.py's table"
    with pytest.raises(ValueError, match="did you mean 'shufflenet_v2_x0_5'"):
        model_type({"name": "shufflenet_v2_x05"})
    with pytest.raises(ValueError, match="name must be one of"):
        model_type({"name": "fcn_resnet50"})  # segments images


@pytest.mark.parametrize("name", ["squeezenet1_1", "regnet_y_400mf", "vit_b_32"])
def test_a_network_is_looked_at_without_numbers(name):
    found = examine(TorchvisionModel(name=name), SHAPE, 5)
    assert all(parameter.is_meta for parameter in found.network.parameters())
    assert found.parameters > 100_000
    if name == "squeezenet1_1":
        PRIVATE.check_network(name, found)


@pytest.mark.parametrize(
    ("name", "shape", "told"),
    [
        ("alexnet", SHAPE, "alexnet fails on images of 32 x 32 with 3 channels: .*prepare larger ones"),
        ("vit_h_14", SHAPE, "needs square images whose side is a multiple of 14.*--size 28"),
        ("maxvit_t", SHAPE, "maxvit_t cannot take images of 32 x 32"),
    ],
)
def test_images_that_do_not_fit_are_refused(name, shape, told):
    with pytest.raises(ModelError, match=told):
        examine(TorchvisionModel(name=name), shape, 2)


def test_weights_follow_from_the_key_and_images_may_have_another_number_of_channels():
    one, same = (build_model(TorchvisionModel(name=NAME), (32, 32, 1), 2, KEY) for _ in range(2))
    assert one.conv1[0].in_channels == 1
    assert all(torch.equal(value, same.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("norm", ["batch", "frozen", "group"])
def test_published_weights_are_loaded_all_but_the_head(published, norm):
    path, theirs = published
    ours = build_model(TorchvisionModel(name=NAME, weights=path, norm=norm), SHAPE, 2, KEY)
    for name, value in ours.state_dict().items():
        assert name.startswith("fc.") or torch.equal(value, theirs.state_dict()[name])
    if norm == "batch":
        ours.fc, batch = theirs.fc, torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(ours.eval()(batch), theirs.eval()(batch), rtol=1e-4, atol=1e-5)


def test_weights_that_do_not_fit_are_named_without_numbers_too(published):
    with pytest.raises(ModelError, match=r"are not those of squeezenet1_1: missing \['features"):
        examine(TorchvisionModel(name="squeezenet1_1", weights=published[0], norm="none"), SHAPE, 2)
    with pytest.raises(ValueError, match="norm: frozen keeps the statistics of published weights"):
        TorchvisionModel(name=NAME, norm="frozen")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:There is a performance drop")  # torch's, of attention under vmap
@pytest.mark.parametrize(
    "name",
    [
        *("resnet34", "resnext50_32x4d", "densenet121", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0"),
        *("shufflenet_v2_x0_5", "squeezenet1_1", "vit_b_32", "swin_t", "convnext_tiny", "regnet_y_400mf"),
    ],
)
@pytest.mark.parametrize("kind", ["sgd", "dpsgd"])
def test_networks_of_every_family_train_two_steps(make_task, name, kind):
    # The first step of a vision transformer moves its head alone, which begins at zero: one that takes the softmax to
    # 1 would leave the second without a gradient.
    steps = {"epochs": 1, "batch_size": 2, "optimizer": {"name": "sgd", "lr": 1e-3}}
    given = {"sgd": steps, "dpsgd": steps | {"noise_multiplier": 1}}
    learner = build_learner(
        LEARNERS[kind].config(**given[kind]), make_task(TorchvisionModel(name=name), n=4, size=32, channels=3)
    )
    before = learner.weights()
    assert learner.step().steps == 2
    trained = dict(learner.weights())
    assert all(value.isfinite().all() for value in trained.values())
    assert sum(not torch.equal(value, before[place]) for place, value in trained.items()) > len(before) / 2


def test_batch_norm_is_refused_for_private_learners_with_both_remedies():
    with pytest.raises(ValueError, match=r"norm: group \(the default\), or norm: frozen"):
        PRIVATE.check_model(TorchvisionModel(name=NAME, norm="batch"))
