"""SGD: the loop that anyone would write, keyed."""

from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from fairsweep.datasets.selection.sampling import Shuffled
from fairsweep.trainables.models.augmentation import AugmentationConfig, augment
from fairsweep.trainables.models.model import build_model
from fairsweep.trainables.models.models import MODELS
from fairsweep.trainables.remedies.remedy import Remedy
from fairsweep.trainables.sgd.sgd_learner import Sgd, SgdConfig
from fairsweep.trainables.trial.trial_config import Seeds


def config(**fields):
    optimizer = {"name": "adam", "lr": 0.01, "milestones": (0.5,)}
    return SgdConfig(**{"epochs": 3, "batch_size": 20, "optimizer": optimizer, **fields})


def train(learner):
    return [learner.step() for _ in range(learner.iterations)]


@pytest.mark.parametrize("model", ["linear", "cnn", MODELS["cnn"](norm="batch")])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_it_equals_a_plain_pytorch_loop_over_the_same_order(make_task, model, smoothing):
    task = make_task(model, n=50)
    optimizer = {"lr": 0.05, "momentum": 0.9, "milestones": (0.5,)}
    learner = Sgd(config(label_smoothing=smoothing, optimizer=optimizer), task)
    module = build_model(task.model, task.image_shape, 2, task.keys.train)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    images = torch.from_numpy(task.feed.images(task.rows)).permute(0, 3, 1, 2).float() / 127.5 - 1
    labels, order = torch.from_numpy(task.labels), Shuffled(50, 20, 3, task.keys.train)
    losses = []
    for step in range(9):
        optimizer.param_groups[0]["lr"] = 0.05 if step < 4.5 else 0.005
        chosen = order.positions(step)
        loss = F.cross_entropy(module(images[chosen]), labels[chosen], label_smoothing=smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append((float(loss.detach()) * len(chosen), len(chosen)))
    reports = train(learner)
    for name, value in learner.weights().items():
        torch.testing.assert_close(value, module.state_dict()[name], rtol=1e-3, atol=1e-5)
    for epoch, report in enumerate(reports):
        part = losses[3 * epoch : 3 * epoch + 3]
        assert report.loss == pytest.approx(sum(total for total, _ in part) / 50, rel=1e-3)
        assert (report.iteration, report.examples, report.steps) == (epoch + 1, 50, 3)


def test_initial_weights_and_order_have_keys_of_their_own(make_task):
    """What each further key changes, bit for bit: the weights at the start, or which images come when, and no more."""
    task, seeds = make_task("cnn", n=50), Seeds(data=0, train=3)
    secret = task.keys.secret

    def seen(keys):
        """Weights at the start, the ids of every batch, and the pixels of its images as augmented."""
        own = replace(task, keys=keys)
        learner, order = Sgd(config(), own), Remedy(own).order(20, 3)
        batches = list(own.feed.batches(own.rows, order, start=0, stop=order.steps))
        pixels = torch.from_numpy(batches[0].images).permute(0, 3, 1, 2).float()
        drawn = augment(pixels, AugmentationConfig(flip=True, crop=2), keys.train, 0, batches[0].ids)
        return learner.weights(), [batch.ids.tolist() for batch in batches], drawn

    first, plain, augmented = seen(seeds.keys(secret))
    other_weights, same_order, same_pixels = seen(seeds.model_copy(update={"init": 1}).keys(secret))
    same_weights, other_order, _ = seen(seeds.model_copy(update={"order": 1}).keys(secret))
    assert all(torch.equal(first[name], same_weights[name]) for name in first)
    assert not any(torch.equal(first[name], other_weights[name]) for name in first if first[name].ndim > 1)
    assert same_order == plain != other_order
    assert sorted(chain(*other_order[:3])) == sorted(chain(*plain[:3]))  # an epoch is the same images
    assert torch.equal(augmented, same_pixels)


def test_it_learns(make_task):
    task = make_task("cnn", n=200)
    learner = Sgd(config(epochs=8), task)
    train(learner)
    predicted = learner.predict(task.feed.images(task.rows)).argmax(1).numpy()
    assert (predicted == task.labels).mean() > 0.9
    assert learner.privacy() is None


def test_no_global_generator_is_read_or_changed(make_task):
    before = torch.get_rng_state()
    learner = Sgd(config(augmentation={"flip": True}), make_task("cnn"))
    train(learner)
    assert torch.equal(torch.get_rng_state(), before)


def test_prediction_uses_running_statistics_and_does_not_move_them(make_task):
    task = make_task(MODELS["cnn"](norm="batch"), n=50)
    learner = Sgd(config(), task)
    train(learner)
    images = task.feed.images(task.rows)
    before = learner.weights()
    alone = torch.cat([learner.predict(images[i : i + 1]) for i in range(10)])
    torch.testing.assert_close(learner.predict(images)[:10], alone, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in learner.weights().items())


def test_a_twin_of_no_augmentation_sees_other_images_only(make_task):
    task = make_task("linear", n=40)
    plain, mirrored = Sgd(config(), task), Sgd(config(augmentation={"flip": True}), task)
    train(plain), train(mirrored)
    assert not torch.equal(plain.weights()["1.weight"], mirrored.weights()["1.weight"])


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"label_smoothing": 1.0}, "less than 1"),
        ({"lr": 1}, "lr"),
        ({"epsilon": 3.0}, "set kind: dpsgd"),
    ],
)
def test_bad_fields_are_refused(fields, told):
    with pytest.raises(ValidationError, match=told):
        config(**fields)


def test_labels_outside_the_classes_are_refused(make_task):
    with pytest.raises(ValueError, match=r"labels must be in \[0, 2\)"):
        make_task(labels=np.full(64, 2))
    with pytest.raises(ValueError, match="one entry for each"):
        make_task(groups={"tone": np.zeros(3, np.int16)})
    with pytest.raises(ValueError, match="at least one training example"):
        make_task(rows=np.arange(0))
