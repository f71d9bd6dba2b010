"""Per-example gradients: every mode gives what clipping by hand gives, and leaves nothing on the model."""

import math

import pytest
import torch
import torch.nn.functional as F

from fairsweep.datasets.selection.randomness import generator, seed_key
from fairsweep.trainables.dpsgd.gradient_modes import GRADIENT_MODES
from fairsweep.trainables.models.model import build_model
from fairsweep.trainables.models.models import MODELS
from fairsweep.trainables.privacy.clipping import Clipping
from fairsweep.trainables.privacy.gradients import Plain, add_finite, layers_of

KEY = seed_key(1, "train")
# linear: products only. cnn: maps of 14 x 14 to 4 x 4, held and by T x T products. resnet18: residual additions.
SHAPES = {"linear": (4, 4, 1), "cnn": (28, 28, 1), "resnet18": (32, 32, 3)}
SIZES = {"linear": 7, "cnn": 5, "resnet18": 2}


@pytest.fixture(scope="module", params=list(SHAPES))
def case(request):
    """A model in float64 with a batch, and its per-example gradients by torch.func, [B, ...] for each parameter."""
    name = request.param
    model = build_model(MODELS[name](), SHAPES[name], 3, KEY).double()
    height, width, channels = SHAPES[name]
    draws = generator(KEY, "batch")
    inputs = torch.from_numpy(draws.standard_normal((SIZES[name], channels, height, width)))
    inputs *= torch.linspace(0.02, 2, SIZES[name], dtype=torch.float64)[:, None, None, None]
    labels = torch.from_numpy(draws.integers(0, 3, SIZES[name]))

    def loss(weights, image, label):
        return F.cross_entropy(torch.func.functional_call(model, weights, (image[None],)), label[None])

    weights = {name: p.detach() for name, p in model.named_parameters()}
    by_name = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(weights, inputs, labels)
    per_example = [by_name[name] for name, _ in model.named_parameters()]
    return model, inputs, labels, per_example


def clip_by_hand(model, per_example, kind, bound):
    """Returns the summed clipped gradients, the norms and who was clipped, example by example, layer by layer."""
    layers = [layer.indices for layer in layers_of(model)]
    sums = [torch.zeros_like(g[0]) for g in per_example]
    norms, clipped = [], []
    for b in range(len(per_example[0])):
        of_layer = [math.sqrt(sum(float(per_example[i][b].square().sum()) for i in indices)) for indices in layers]
        norm = math.sqrt(sum(n**2 for n in of_layer))
        factors = {
            "none": [1.0] * len(layers),
            "flat": [min(1.0, bound / max(norm, 1e-300))] * len(layers),
            "per_layer": [min(1.0, bound / math.sqrt(len(layers)) / max(n, 1e-300)) for n in of_layer],
        }[kind]
        for indices, factor in zip(layers, factors, strict=True):
            for i in indices:
                sums[i] += factor * per_example[i][b]
        norms.append(norm)
        clipped.append(min(factors) < 1)
    return sums, norms, clipped


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("mode", GRADIENT_MODES)
@pytest.mark.parametrize("kind", ["flat", "per_layer", "none"])
def test_every_mode_equals_per_example_gradients_clipped_by_hand(case, mode, kind, weighted):
    model, inputs, labels, per_example = case
    if (mode, kind) == ("ghost", "per_layer"):
        pytest.skip("ghost clipping has one norm for all layers")
    weights = None
    if weighted:  # the gradient of w times a loss is w times its gradient
        weights = torch.linspace(3, 0, len(labels), dtype=torch.float64)
        per_example = [g * weights.view(-1, *[1] * (g.dim() - 1)) for g in per_example]
    norms = [math.sqrt(sum(float(g[b].square().sum()) for g in per_example)) for b in range(len(labels))]
    bound = sorted(norms)[len(norms) // 2] * 0.99  # clips some and not others
    expected_sums, expected_norms, expected_clipped = clip_by_hand(model, per_example, kind, bound)
    sums = [torch.ones_like(p) for p in model.parameters()]  # modes add to what is there
    found = GRADIENT_MODES[mode](model).add_clipped(inputs, labels, Clipping(kind, bound), sums, weights)
    scale = max(float(total.abs().max()) for total in expected_sums)
    for total, expected in zip(sums, expected_sums, strict=True):
        torch.testing.assert_close(total.detach() - 1, expected, rtol=1e-6, atol=1e-8 * scale + 1e-10)
    torch.testing.assert_close(found.norms, torch.tensor(expected_norms, dtype=torch.float64), rtol=1e-7, atol=0)
    assert found.clipped.tolist() == expected_clipped
    losses = F.cross_entropy(model(inputs), labels, reduction="none")
    torch.testing.assert_close(found.losses, losses.detach())
    assert any(expected_clipped) == (kind != "none")


@pytest.mark.parametrize("mode", GRADIENT_MODES)
def test_a_mode_leaves_the_model_as_bare_as_it_found_it(mode):
    model = build_model(MODELS["cnn"](), (28, 28, 1), 2, KEY)
    # torch's own note that hooks were once of the full kind is no hook and holds nothing.
    unimportant = {"_parameters", "_modules", "_is_full_backward_hook"}

    def traces():
        return [{k: v for k, v in vars(m).items() if k not in unimportant} for m in model.modules()]

    before, state = traces(), {k: v.clone() for k, v in model.state_dict().items()}
    inputs, labels = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 1, 0])
    sums = [torch.zeros_like(p) for p in model.parameters()]
    working = GRADIENT_MODES[mode](model)
    working.add_clipped(inputs, labels, Clipping("flat", 1.0), sums)
    with pytest.raises((IndexError, RuntimeError, ValueError)):  # labels out of range: an error in mid-pass
        working.add_clipped(inputs, torch.tensor([0, 1, 9, 0]), Clipping("flat", 1.0), sums)
    assert traces() == before
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(hasattr(p, name) for p in model.parameters() for name in ("grad_sample", "_norm_sample"))
    assert list(model.state_dict()) == list(state)
    assert all(torch.equal(model.state_dict()[k], v) for k, v in state.items())
    assert not any(total.requires_grad for total in sums)


def test_modes_agree_in_single_precision_on_a_larger_batch():
    model = build_model(MODELS["cnn"](), (28, 28, 1), 10, KEY)
    draws = torch.Generator().manual_seed(1)
    inputs = torch.randn(32, 1, 28, 28, generator=draws)
    labels = torch.randint(0, 10, (32,), generator=draws)
    found = {}
    for name, make in GRADIENT_MODES.items():
        sums = [torch.zeros_like(p) for p in model.parameters()]
        make(model).add_clipped(inputs, labels, Clipping("flat", 0.7), sums)
        found[name] = torch.cat([total.flatten() for total in sums])
        assert float(found[name].norm()) <= 32 * 0.7
    for name, total in found.items():
        torch.testing.assert_close(total, found["functorch"], rtol=1e-4, atol=1e-5, msg=name)


def test_plain_gradients_are_the_sum_and_cannot_be_clipped():
    model = build_model(MODELS["cnn"](), (28, 28, 1), 2, KEY)
    inputs, labels = torch.ones(3, 1, 28, 28), torch.tensor([0, 1, 1])
    sums = [torch.zeros_like(p) for p in model.parameters()]
    for weights in (None, torch.tensor([0.5, 0.0, 2.0])):
        for total in sums:
            total.zero_()
        model.zero_grad()
        found = Plain(model).add_clipped(inputs, labels, Clipping("none", None), sums, weights)
        losses = F.cross_entropy(model(inputs), labels, reduction="none")
        (losses if weights is None else weights * losses).sum().backward()
        for total, parameter in zip(sums, model.parameters(), strict=True):
            torch.testing.assert_close(total, parameter.grad)
        torch.testing.assert_close(found.losses, losses.detach())
    assert found.norms.isnan().all()
    assert not found.clipped.any()
    with pytest.raises(ValueError, match="cannot be clipped"):
        Plain(model).add_clipped(inputs, labels, Clipping("flat", 1.0), sums)


def test_ghost_refuses_per_layer_clipping():
    model = build_model(MODELS["linear"](), (4, 4, 1), 2, KEY)
    sums = [torch.zeros_like(p) for p in model.parameters()]
    with pytest.raises(ValueError, match="choose another gradient_mode"):
        GRADIENT_MODES["ghost"](model).add_clipped(
            torch.ones(1, 1, 4, 4), torch.zeros(1, dtype=torch.int64), Clipping("per_layer", 1.0), sums
        )


def test_bookkeeping_refuses_what_it_cannot_bound():
    shared = torch.nn.Linear(4, 4)
    twice = torch.nn.Sequential(shared, torch.nn.ReLU(), shared)
    sums = [torch.zeros_like(p) for p in twice.parameters()]
    with pytest.raises(ValueError, match="called again"):
        GRADIENT_MODES["bookkeeping"](twice).add_clipped(
            torch.ones(2, 4), torch.tensor([0, 1]), Clipping("flat", 1.0), sums
        )
    odd = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.PReLU(), torch.nn.Linear(4, 2))
    with pytest.raises(ValueError, match="PReLU"):
        GRADIENT_MODES["bookkeeping"](odd).add_clipped(
            torch.ones(2, 4),
            torch.tensor([0, 1]),
            Clipping("flat", 1.0),
            [torch.zeros_like(p) for p in odd.parameters()],
        )


@pytest.mark.parametrize("mode", GRADIENT_MODES)
def test_an_example_whose_gradient_overflows_contributes_nothing(mode):
    model = build_model(MODELS["linear"](), (4, 4, 1), 2, KEY)
    inputs, labels, weights = torch.ones(3, 1, 4, 4), torch.tensor([0, 1, 0]), torch.tensor([0.01, 1, 2])
    inputs[1] = torch.inf
    bound = Clipping("flat", 0.1)
    spoilt = [torch.zeros_like(p) for p in model.parameters()]
    working = GRADIENT_MODES[mode](model)
    working.add_clipped(inputs, labels, bound, spoilt)
    assert not all(total.isfinite().all() for total in spoilt)
    sums = [torch.zeros_like(p) for p in model.parameters()]
    found = add_finite(working, inputs, labels, bound, sums, weights)
    without = [torch.zeros_like(p) for p in model.parameters()]
    working.add_clipped(inputs[[0, 2]], labels[[0, 2]], bound, without, weights[[0, 2]])
    for total, expected in zip(sums, without, strict=True):
        torch.testing.assert_close(total, expected)
    assert found.norms.isfinite().tolist() == [True, False, True]


def test_layers_hold_every_trainable_parameter_once():
    model = build_model(MODELS["resnet18"](), (32, 32, 3), 2, KEY)
    model.conv1.weight.requires_grad_(False)
    indices = [index for layer in layers_of(model) for index in layer.indices]
    assert sorted(indices) == list(range(len(indices)))
    assert len(indices) == sum(p.requires_grad for p in model.parameters())
