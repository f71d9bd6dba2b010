"""Models: weights follow from the key alone, and no example sees another."""

import copy

import pytest
import torch

from fairsweep.datasets.selection.randomness import seed_key
from fairsweep.trainables.models.model import ModelError, build_model, initialise
from fairsweep.trainables.models.models import MODELS

KEY = seed_key(1, "train")
NAMES = ["linear", "cnn", "resnet18"]
SHAPES = {"linear": (8, 8, 1), "cnn": (28, 28, 1), "resnet18": (32, 32, 3)}


def build(name, key=KEY, classes=2, shape=None, **fields):
    return build_model(MODELS[name](**fields), shape or SHAPES[name], classes, key)


def inputs(name, batch=3):
    height, width, channels = SHAPES[name]
    return torch.linspace(-1, 1, batch * channels * height * width).sin().view(batch, channels, height, width)


@pytest.mark.parametrize(
    ("name", "norm"), [("linear", "group"), *((n, norm) for n in NAMES[1:] for norm in ("group", "batch", "none"))]
)
def test_weights_are_a_function_of_the_key_and_global_generators_stay_as_they_were(name, norm):
    before = torch.get_rng_state()
    one, same, other = build(name, norm=norm), build(name, norm=norm), build(name, seed_key(2, "train"), norm=norm)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(999)
    again = build(name, norm=norm)
    for key, value in one.state_dict().items():
        assert torch.equal(value, same.state_dict()[key])
        assert torch.equal(value, again.state_dict()[key])
        assert value.isfinite().all()
    drawn = [key for key, value in one.state_dict().items() if value.dim() > 1]
    assert all(not torch.equal(one.state_dict()[key], other.state_dict()[key]) for key in drawn)


def test_pytorch_s_initial_weights_are_distributed_as_pytorch_s():
    ours = build("cnn", initial="torch")
    for module in (module for module in ours if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)):
        theirs = copy.deepcopy(module)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            theirs.reset_parameters()
        bound = module.weight[0].numel() ** -0.5
        for own, other in zip(module.parameters(), theirs.parameters(), strict=True):
            assert max(float(own.detach().abs().max()), float(other.detach().abs().max())) <= bound
        assert float(module.weight.detach().std()) == pytest.approx(float(theirs.weight.detach().std()), rel=0.1)
    assert not torch.equal(build("cnn")[0].weight, ours[0].weight)


def test_initial_weights_have_the_stated_variance():
    model = build("resnet18")
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            expected = 2 / module.weight[0].numel()
            assert float(module.weight.detach().var()) == pytest.approx(expected, rel=0.05), name
    assert float(model.fc.weight.detach().var()) == pytest.approx(1 / (3 * 512), rel=0.15)
    assert all((m.weight == 1).all() and (m.bias == 0).all() for m in model.modules() if hasattr(m, "num_groups"))


@pytest.mark.parametrize("name", NAMES)
def test_an_example_s_logits_do_not_depend_on_the_rest_of_the_batch(name):
    model, batch = build(name), inputs(name)
    alone = torch.cat([model(batch[i : i + 1]) for i in range(len(batch))])
    torch.testing.assert_close(model(batch), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["cnn", "resnet18"])
def test_another_number_of_classes_changes_the_head_alone(name):
    two, seven = build(name).state_dict(), build(name, classes=7).state_dict()
    differing = {key for key in two if not torch.equal(two[key], seven[key])}
    assert {key.rsplit(".", 1)[0] for key in differing} == {"fc" if name == "resnet18" else "11"}


def test_resnet18_has_as_many_parameters_as_torchvision_s():
    from torchvision.models import resnet18

    count = sum(p.numel() for p in build("resnet18").parameters())
    assert count == 11_177_538 == sum(p.numel() for p in resnet18(num_classes=2).parameters())
    assert list(build("resnet18", norm="batch").state_dict()) == list(resnet18(num_classes=2).state_dict())


def test_resnet18_computes_what_torchvision_s_computes():
    from torchvision.models import resnet18

    ours = build("resnet18", norm="batch").eval()
    theirs = resnet18(num_classes=2).eval()
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(inputs("resnet18")), theirs(inputs("resnet18")), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (64, 64, 3), (20, 45, 3), (8, 8, 1)])
def test_cnn_fits_images_of_any_size_with_a_head_on_a_small_map(shape):
    model = build("cnn", shape=shape, classes=5)
    height, width, channels = shape
    assert model(torch.zeros(2, channels, height, width)).shape == (2, 5)
    assert model[-1].in_features <= 64 * 16
    assert sum(p.numel() for p in model.parameters()) < 120_000


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (64, 64, 3), (8, 8, 1)])
def test_the_head_of_cnn_sees_features_of_like_length_for_images_of_any_size(shape):
    model = build("cnn", shape=shape)
    height, width, channels = shape
    images = torch.randn(64, channels, height, width, generator=torch.Generator().manual_seed(0))
    lengths = model[:-1](images).detach().norm(dim=1)
    assert 2 < float(lengths.mean()) < 4


@pytest.mark.parametrize(
    ("name", "shape", "told"),
    [("cnn", (7, 32, 3), "use linear"), ("resnet18", (8, 8, 3), "use cnn")],
)
def test_images_too_small_for_a_model_are_refused_with_a_remedy(name, shape, told):
    with pytest.raises(ModelError, match=told):
        build(name, shape=shape)


def test_a_layer_without_keyed_weights_is_refused():
    with pytest.raises(ModelError, match="Embedding"):
        initialise(torch.nn.Embedding(3, 2), KEY)


class TestPretrained:
    @pytest.fixture
    def published(self, tmp_path):
        """A file as torchvision publishes it: 1,000 classes, BatchNorm statistics."""
        from torchvision.models import resnet18

        with torch.random.fork_rng():
            model = resnet18()
        path = tmp_path / "resnet18.pth"
        torch.save(model.state_dict(), path)
        return path, model.state_dict()

    @pytest.mark.parametrize("norm", ["batch", "group", "none"])
    def test_all_but_the_head_is_loaded(self, published, norm):
        path, weights = published
        model = build("resnet18", pretrained=path, norm=norm)
        for name, value in model.state_dict().items():
            if name.startswith("fc."):
                assert torch.equal(value, build("resnet18", norm=norm).state_dict()[name])
            else:
                assert torch.equal(value, weights[name])

    def test_a_head_that_fits_is_loaded_too(self, published):
        path, weights = published
        assert torch.equal(build("resnet18", pretrained=path, classes=1000).fc.weight, weights["fc.weight"])

    def test_what_does_not_fit_is_refused_and_named(self, published, tmp_path):
        path, weights = published
        with pytest.raises(ModelError, match=r"1 input channels.*conv1\.weight"):
            build("resnet18", pretrained=path, shape=(32, 32, 1))
        torch.save({k: v for k, v in weights.items() if k != "layer1.0.conv1.weight"}, tmp_path / "short.pth")
        with pytest.raises(ModelError, match=r"missing \['layer1\.0\.conv1\.weight'\]"):
            build("resnet18", pretrained=tmp_path / "short.pth")
        torch.save({**weights, "extra": torch.zeros(1)}, tmp_path / "long.pth")
        with pytest.raises(ModelError, match=r"unknown \['extra'\]"):
            build("resnet18", pretrained=tmp_path / "long.pth", norm="none")

    def test_missing_and_damaged_files_are_refused(self, tmp_path):
        with pytest.raises(ModelError, match="local file"):
            build("resnet18", pretrained=tmp_path / "none.pth")
        (tmp_path / "damaged.pth").write_bytes(b"not a state_dict")
        with pytest.raises(ModelError, match="could not be read"):
            build("resnet18", pretrained=tmp_path / "damaged.pth")
        torch.save([1, 2], tmp_path / "list.pth")
        with pytest.raises(ModelError, match="must be a state_dict"):
            build("resnet18", pretrained=tmp_path / "list.pth")

    def test_only_resnet18_has_pretrained_weights(self, tmp_path):
        for name in ("linear", "cnn"):
            with pytest.raises(ValueError, match="pretrained"):
                MODELS[name](pretrained=tmp_path / "any.pth")
