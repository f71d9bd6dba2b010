"""Several views of an example: the mean of their gradients is clipped, and an example counts once as before."""

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from fairsweep.datasets.selection.randomness import seed_key
from fairsweep.trainables.dpsgd.dpsgd_config import DpsgdConfig
from fairsweep.trainables.dpsgd.dpsgd_learner import Dpsgd
from fairsweep.trainables.dpsgd.gradient_modes import GRADIENT_MODES, choose_mode
from fairsweep.trainables.layers.example_dropout import draw_masks
from fairsweep.trainables.models.augmentation import AugmentationConfig, augment, augmented_views
from fairsweep.trainables.models.model import build_model
from fairsweep.trainables.models.models import MODELS
from fairsweep.trainables.privacy.clipping import Clipping
from fairsweep.trainables.privacy.gradients import Plain, add_finite

KEY, CHANGES = seed_key(1, "train"), {"flip": True, "crop": 2, "brightness": 0.3}
AUGMENTATION, VIEWS, STEP = AugmentationConfig(**CHANGES), 3, 5
IDS, LABELS = np.array([4, 8, 1, 0, 3, 9]), torch.tensor([0, 1, 2, 0, 1, 2])
IMAGES = 2 * torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 1
MODES = [name for name in GRADIENT_MODES if name != "ghost"]


def networks(own):
    frozen = own("brought", norm="frozen", train=["second", "head"], head={"hidden": [5], "dropout": [0.4]})
    return {"cnn": MODELS["cnn"](), "linear": MODELS["linear"](), "frozen norms, dropout": frozen}


def zeros(model):
    return [torch.zeros_like(p) for p in model.parameters() if p.requires_grad]


def views(model, kept=slice(None)):
    draw_masks(model, KEY, STEP, IDS[kept], VIEWS)
    return augmented_views(IMAGES[kept], AUGMENTATION, KEY, STEP, IDS[kept], VIEWS), LABELS[kept]


def flat(parts):
    return torch.cat([part.flatten() for part in parts])


def mean_gradients(model, weights):
    """Each example's mean gradient over its views, by ordinary backward passes; views share the batch for dropout."""
    inputs, labels = views(model)
    losses = F.cross_entropy(model(inputs), labels.repeat_interleave(VIEWS), reduction="none").view(-1, VIEWS)
    trained = [p for p in model.parameters() if p.requires_grad]
    means = losses.mean(dim=1)
    each = [torch.autograd.grad(loss, trained, retain_graph=True) for loss in means * weights]
    return torch.stack([flat(one) for one in each]), means.detach()


@pytest.mark.parametrize("name", ["cnn", "linear", "frozen norms, dropout"])
def test_every_mode_clips_the_mean_gradient_of_the_views(own, name):
    model = build_model(networks(own)[name], (16, 16, 3), 3, KEY)
    weights = torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0, 1.0])
    expected, losses = mean_gradients(model, weights)
    norms = expected.norm(dim=1)
    bound = float(norms.median())
    total = (expected * (bound / norms).clamp(max=1)[:, None]).sum(dim=0)
    for mode in MODES:
        sums = zeros(model)
        found = GRADIENT_MODES[mode](model).add_clipped(*views(model), Clipping("flat", bound), sums, weights)
        torch.testing.assert_close(found.norms, norms, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(found.losses, losses)
        torch.testing.assert_close(flat(sums), total, rtol=1e-4, atol=1e-5)
    sums = zeros(model)
    Plain(model).add_clipped(*views(model), Clipping("none", None), sums, weights)
    torch.testing.assert_close(flat(sums), expected.sum(dim=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("clipping", ["flat", "per_layer"])
@pytest.mark.parametrize("mode", MODES)
def test_without_an_example_the_clipped_sum_moves_by_at_most_s(own, mode, clipping):
    """All its views go with it, and those of others stay what they are; all are so large that they are clipped."""
    model = build_model(networks(own)["frozen norms, dropout"], (16, 16, 3), 3, KEY)
    bound = 0.02

    def total(kept):
        sums = zeros(model)
        GRADIENT_MODES[mode](model).add_clipped(*views(model, kept), Clipping(clipping, bound), sums)
        return flat(sums)

    everybody = total(np.arange(6))
    moved = [float((everybody - total(np.delete(np.arange(6), i))).norm()) for i in range(6)]
    assert all(part <= bound * (1 + 1e-4) for part in moved)
    assert max(moved) > 0.8 * bound


def test_gradients_of_views_that_cancel_are_not_found_too_small():
    """A mean gradient a million times smaller than those of its views still gets its norm, so it is clipped to S."""
    model = build_model(MODELS["linear"](), (8, 8, 1), 2, KEY)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    image = 1e4 * torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    inputs, labels, sums = torch.cat([image, -image + 0.05]), torch.tensor([1]), zeros(model)
    found = GRADIENT_MODES["bookkeeping"](model).add_clipped(inputs, labels, Clipping("flat", 0.01), sums)
    assert float(found.norms) == pytest.approx(0.5 * (2 * (64 * 0.025**2 + 1)) ** 0.5, rel=0.01)
    assert float(flat(sums).norm()) <= 0.01 * 1.01


def test_the_first_view_is_the_one_of_before_and_views_follow_from_key_step_and_id():
    found = augmented_views(IMAGES, AUGMENTATION, KEY, STEP, IDS, VIEWS).unflatten(0, (6, VIEWS))
    assert torch.equal(found[:, 0], augment(IMAGES, AUGMENTATION, KEY, STEP, IDS))
    assert not torch.equal(found[:, 1], found[:, 2])
    alone = augmented_views(IMAGES[2:3], AUGMENTATION, KEY, STEP, IDS[2:3], VIEWS)
    assert torch.equal(found[2], alone)


def test_an_example_one_of_whose_views_overflows_contributes_nothing():
    model = build_model(MODELS["linear"](), (16, 16, 3), 3, KEY)
    inputs, labels = views(model)
    inputs[4] = float("inf")  # the second view of the second example
    mode, sums, without = GRADIENT_MODES["bookkeeping"](model), zeros(model), zeros(model)
    add_finite(mode, inputs, labels, Clipping("flat", 0.1), sums, model=model)
    rest = np.delete(np.arange(6), 1)
    mode.add_clipped(*views(model, rest), Clipping("flat", 0.1), without)
    torch.testing.assert_close(flat(sums), flat(without))


def config(**fields):
    given = {"epochs": 2, "batch_size": 16, "noise_multiplier": 0.8, "augmentation": CHANGES}
    return DpsgdConfig(**given | {"performance": {"gradient_mode": "bookkeeping"}} | fields)


def test_a_training_with_views_spends_as_much_and_repeats_in_any_cut_and_after_a_resume(make_task):
    task = make_task("cnn", n=48)
    several = {"augmentation_multiplicity": 4, "sampler": "truncated_poisson", "max_batch_size": 24}
    one, made = Dpsgd(config(**several | {"augmentation_multiplicity": 1}), task), Dpsgd(config(**several), task)
    cut = {"gradient_mode": "bookkeeping", "physical_batch_size": 5}
    split = Dpsgd(config(**several, performance=cut), task)
    reports = [learner.step() for learner in (one, made, split)]
    assert reports[0].examples == reports[1].examples
    buffer = io.BytesIO()
    torch.save(made.state(), buffer)
    buffer.seek(0)
    resumed = Dpsgd(config(**several), task)
    resumed.load(torch.load(buffer, weights_only=True))
    for learner in (one, made, split, resumed):
        learner.step()
    assert made.privacy() == one.privacy()
    weights = [flat(learner.weights().values()) for learner in (one, made, split, resumed)]
    assert torch.equal(weights[1], weights[3])
    torch.testing.assert_close(weights[1], weights[2], rtol=1e-3, atol=1e-4)
    assert not torch.equal(weights[0], weights[1])


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"augmentation": {}}, "augmentation has none: set augmentation, such as"),
        ({"performance": {"gradient_mode": "ghost"}}, "ghost clipping knows the norm of each view"),
        ({"augmentation_multiplicity": 0}, "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_averaged_is_refused(fields, told):
    with pytest.raises(ValidationError, match=told):
        config(**{"augmentation_multiplicity": 4} | fields)


def test_auto_chooses_among_modes_that_average_views():
    choice = choose_mode(MODELS["linear"](), (8, 8, 1), 2, Clipping("flat", 1.0), torch.device("cpu"), 2, views=3)
    assert set(choice.examples_per_second) == set(MODES)
    assert "norm of each view" in choice.refused["ghost"]
