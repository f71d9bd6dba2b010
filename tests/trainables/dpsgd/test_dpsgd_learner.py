"""DP-SGD: a whole private step is what the paper says, and nothing else happens."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from fairsweep.datasets.selection.randomness import seed_key
from fairsweep.trainables.dpsgd.dpsgd_config import DpsgdConfig
from fairsweep.trainables.dpsgd.dpsgd_learner import Dpsgd
from fairsweep.trainables.dpsgd.gradient_modes import GRADIENT_MODES
from fairsweep.trainables.models.model import build_model
from fairsweep.trainables.models.models import MODELS
from fairsweep.trainables.privacy.gradients import layers_of
from fairsweep.trainables.privacy.plan import PlanError, PrivacyPlan

MOMENTUM = {"name": "sgd", "lr": 0.2, "momentum": 0.9, "weight_decay": 0.01, "milestones": (0.5,)}


def config(**fields):
    given = {
        "epochs": 2,
        "batch_size": 16,
        "noise_multiplier": 0.7,
        "l2_clip_norm": 0.5,
        "optimizer": MOMENTUM,
        "performance": {"gradient_mode": "bookkeeping"},
    }
    return DpsgdConfig(**{**given, **fields})


def train(learner):
    while learner.iteration < learner.iterations:
        learner.step()
    return learner


def vector(weights):
    return torch.cat([value.flatten().double() for value in weights.values()])


def by_hand(config, task, noise=True):
    """Trains in float64, one example at a time, on nothing of the learner's but its plan, keys and images."""
    plan = PrivacyPlan.build(config, task.size)
    model = build_model(task.model, task.image_shape, task.classes, task.keys.train).double()
    layers = [layer.indices for layer in layers_of(model)]
    parameters = list(model.parameters())
    velocity = [torch.zeros_like(p) for p in parameters]
    sampler = plan.inclusion(task.keys.secret, task.keys.run)
    images = torch.from_numpy(task.feed.images(task.rows)).permute(0, 3, 1, 2).double() / 127.5 - 1
    for step in range(plan.steps):
        total = [torch.zeros_like(p) for p in parameters]
        for position in sampler.positions(step):
            logits = model(images[position : position + 1])
            loss = F.cross_entropy(logits, torch.tensor([int(task.labels[position])]))
            gradient = torch.autograd.grad(loss, parameters)
            of_layer = [math.sqrt(sum(float(gradient[i].square().sum()) for i in indices)) for indices in layers]
            for indices, norm in zip(layers, of_layer, strict=True):
                if config.clipping == "flat":
                    norm, bound = math.sqrt(sum(n**2 for n in of_layer)), config.l2_clip_norm
                elif config.clipping == "per_layer":
                    bound = config.l2_clip_norm / math.sqrt(len(layers))
                for i in indices:
                    total[i] += gradient[i] * (1 if config.clipping == "none" else min(1, bound / max(norm, 1e-300)))
        drawn = plan.noise(task.keys.secret, task.keys.run).draw(sum(p.numel() for p in parameters), step, task.device)
        pieces = torch.split(drawn.double(), [p.numel() for p in parameters])
        rate = config.optimizer.lr * (1 if step < 0.5 * plan.steps else 0.1)
        for p, t, v, piece in zip(parameters, total, velocity, pieces, strict=True):
            if noise:
                t += config.noise_multiplier * config.l2_clip_norm * piece.view_as(t)
            mean = t / config.batch_size + config.optimizer.weight_decay * p.detach()
            v.mul_(config.optimizer.momentum).add_(mean)
            with torch.no_grad():
                p -= rate * v
    return vector({k: v.detach() for k, v in model.state_dict().items()})


@pytest.mark.parametrize("mode", GRADIENT_MODES)
@pytest.mark.parametrize("model", ["linear", "cnn"])
def test_private_training_equals_a_reference_written_by_hand_in_float64(make_task, model, mode):
    task = make_task(model, n=48)
    given = config(performance={"gradient_mode": mode})
    start = vector(build_model(task.model, task.image_shape, task.classes, task.keys.train).state_dict())
    reference = by_hand(given, task)
    found = vector(train(Dpsgd(given, task)).weights())
    moved = float((reference - start).norm())
    assert moved > 0.1  # private training moves the weights
    assert float((found - reference).norm()) < 1e-4 * moved


def test_per_layer_clipping_equals_the_reference(make_task):
    task = make_task("cnn", n=48)
    given = config(clipping="per_layer")
    torch.testing.assert_close(vector(train(Dpsgd(given, task)).weights()), by_hand(given, task), rtol=1e-3, atol=1e-4)


def test_clip_only_and_noise_only_do_what_their_names_say(make_task):
    task = make_task("linear", n=48)
    clip_only, noise_only = config(noise_multiplier=0.0), config(clipping="none")
    for given in (clip_only, noise_only):
        learner = train(Dpsgd(given, task))
        torch.testing.assert_close(vector(learner.weights()), by_hand(given, task), rtol=1e-3, atol=1e-5)
        assert learner.privacy().epsilon.pld == math.inf


@pytest.mark.parametrize("model", ["linear", "cnn", "resnet18"])
def test_training_changes_every_weight_tensor(make_task, model):
    task = make_task(model, n=12, size=32 if model == "resnet18" else 8)
    learner = Dpsgd(config(epochs=1, batch_size=6), task)
    before = learner.weights()
    learner.step()
    assert all(not torch.equal(before[name], value) for name, value in learner.weights().items())


def test_the_noise_in_the_weights_has_the_stated_variance(make_task):
    """One step at rate 1 moves the weights by the noised mean; without noise by the mean: the difference is noise."""
    sgd = {"name": "sgd", "lr": 1.0}
    residuals = []
    for trial in range(30):
        task = make_task("linear", n=64, size=16, trial=trial)
        noised = Dpsgd(config(epochs=1, batch_size=64, noise_multiplier=2.0, optimizer=sgd), task)
        exact = Dpsgd(config(epochs=1, batch_size=64, noise_multiplier=0.0, optimizer=sgd), task)
        residuals.append((vector(train(noised).weights()) - vector(train(exact).weights())).numpy())
    residuals = np.array(residuals)
    expected = 2.0 * 0.5 / 64
    relative_error = 1 / math.sqrt(2 * residuals.size)
    assert residuals.std() == pytest.approx(expected, rel=5 * relative_error)
    correlation = np.corrcoef(residuals)
    np.fill_diagonal(correlation, 0)
    assert np.abs(correlation).max() < 6 / math.sqrt(residuals.shape[1])


class LeavingOut:
    """A gradient mode to which one example of the batch contributes nothing."""

    def __init__(self, mode, example):
        self.name, self._mode, self._example = mode.name, mode, example

    def add_clipped(self, inputs, labels, clipping, sums, weights=None):
        keep = torch.arange(len(labels)) != self._example
        kept = None if weights is None else weights[keep]
        return self._mode.add_clipped(inputs[keep], labels[keep], clipping, sums, kept)


@pytest.mark.parametrize(
    "remedy", [None, {"kind": "class_weights", "weights": {"no": 30.0, "yes": 0.7}}], ids=["plain", "class weights"]
)
@pytest.mark.parametrize("clipping", ["flat", "per_layer"])
def test_zeroing_out_any_one_example_moves_the_released_sum_by_at_most_the_clipping_norm(make_task, clipping, remedy):
    names = {"label": ("no", "yes"), "tone": ("light", "dark")}
    task = make_task("cnn", n=16, diagnostics=False, value_names=names)
    sgd = {"name": "sgd", "lr": 1.0}  # one step moves the weights by the sum over 16
    given = config(epochs=1, batch_size=16, noise_multiplier=0.0, clipping=clipping, optimizer=sgd, remedy=remedy)
    full = vector(train(Dpsgd(given, task)).weights())
    for example in range(16):
        learner = Dpsgd(given, task)
        learner._mode = LeavingOut(learner._gradients(), example)
        moved = float((vector(train(learner).weights()) - full).norm()) * 16
        assert 0.05 < moved <= 0.5 * (1 + 1e-4)


@pytest.mark.parametrize("physical", [1, 5, 16, 1000])
def test_results_do_not_depend_on_the_physical_batch_size(make_task, physical):
    task = make_task("cnn", n=48)
    augmentation = {"flip": True, "crop": 1}
    whole = train(Dpsgd(config(augmentation=augmentation), task))
    split = train(
        Dpsgd(
            config(
                augmentation=augmentation,
                performance={"gradient_mode": "bookkeeping", "physical_batch_size": physical},
            ),
            task,
        )
    )
    torch.testing.assert_close(vector(split.weights()), vector(whole.weights()), rtol=1e-3, atol=1e-4)


def test_an_empty_batch_still_adds_noise_and_takes_a_step(make_task):
    task = make_task("linear", n=40)
    given = config(epochs=1, batch_size=1, optimizer={"name": "sgd", "lr": 1.0})
    plan = PrivacyPlan.build(given, 40)
    sampler, noise = plan.inclusion(task.keys.secret, 0), plan.noise(task.keys.secret, 0)
    empty = next(step for step in range(plan.steps) if len(sampler.positions(step)) == 0)
    learner = Dpsgd(given, task, plan)
    before = vector(learner.weights())
    learner._sampler = dataclasses.replace(sampler, sampling_rate=0.0)
    learner.steps_after = lambda iteration: empty + iteration
    report = learner.step()
    moved = vector(learner.weights()) - before
    drawn = noise.draw(len(moved), empty, task.device).double()
    torch.testing.assert_close(moved, -noise.std * drawn, rtol=1e-3, atol=1e-5)
    assert (report.examples, report.steps) == (0, 1)
    assert math.isnan(report.loss)


def test_iterations_split_all_steps_of_the_plan(make_task):
    task = make_task("linear", n=50)
    learner = Dpsgd(config(epochs=7, batch_size=16), task)
    steps = [learner.step().steps for _ in range(7)]
    assert sum(steps) == learner.plan.steps == round(7 * 50 / 16)
    assert max(steps) - min(steps) <= 1
    assert learner.privacy().steps == learner.plan.steps
    with pytest.raises(RuntimeError, match="all 7 iterations are done"):
        learner.step()


def test_an_overflowing_example_does_not_spoil_the_model(make_task):
    task = make_task("linear", n=32)
    given = config(epochs=1, batch_size=32, noise_multiplier=0.0)
    learner = Dpsgd(given, task)
    with torch.no_grad():
        next(learner._network.model.parameters())[0, :3] = 3e38  # bright pixels now overflow the logits
    learner.step()
    assert all(value.isfinite().all() for value in learner.weights().values())


class TestTwin:
    def test_it_differs_in_the_privacy_fields_alone(self):
        private = config(
            noise_multiplier=None, epsilon=3.0, delta=1e-6, clipping="per_layer", augmentation={"flip": True}
        )
        twin = private.twin("matched")
        privacy = {"name", "epsilon", "noise_multiplier", "delta", "l2_clip_norm", "clipping"}
        assert twin.model_dump(exclude=privacy) == private.model_dump(exclude=privacy)
        assert (twin.name, twin.epsilon, twin.noise_multiplier, twin.l2_clip_norm) == ("matched", None, 0.0, None)
        assert twin.twin("again").model_dump(exclude={"name"}) == twin.model_dump(exclude={"name"})

    def test_it_starts_alike_and_takes_plain_sgd_steps_on_the_same_poisson_batches(self, make_task):
        task = make_task("cnn", n=48)
        private = config(epochs=3)
        twin = Dpsgd(private.twin("matched"), task)
        assert all(torch.equal(v, Dpsgd(private, task).weights()[k]) for k, v in twin.weights().items())
        assert twin.gradient_mode == "plain"
        plan = PrivacyPlan.build(private, task.size)
        sampler = plan.inclusion(task.keys.secret, 0)
        model = build_model(task.model, task.image_shape, 2, task.keys.train)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9, weight_decay=0.01)
        images = torch.from_numpy(task.feed.images(task.rows)).permute(0, 3, 1, 2).float() / 127.5 - 1
        for step in range(plan.steps):
            optimizer.param_groups[0]["lr"] = 0.2 if step < plan.steps / 2 else 0.02
            positions = sampler.positions(step)
            loss = F.cross_entropy(model(images[positions]), torch.from_numpy(task.labels[positions]), reduction="sum")
            optimizer.zero_grad()
            (loss / private.batch_size).backward()  # the constant, not len(positions)
            optimizer.step()
        torch.testing.assert_close(vector(train(twin).weights()), vector(model.state_dict()), rtol=1e-3, atol=1e-5)
        assert twin.privacy().epsilon.pld == math.inf


class TestKeys:
    def test_another_trial_has_other_batches_and_noise_but_the_same_start(self, make_task):
        one, other = (Dpsgd(config(), make_task(trial=trial)) for trial in (0, 1))
        assert torch.equal(vector(one.weights()), vector(other.weights()))
        one.step(), other.step()
        assert not torch.equal(vector(one.weights()), vector(other.weights()))

    def test_a_new_run_draws_anew(self, make_task):
        task = make_task()
        rerun = dataclasses.replace(task, keys=dataclasses.replace(task.keys, run=1))
        assert not torch.equal(
            vector(train(Dpsgd(config(), task)).weights()), vector(train(Dpsgd(config(), rerun)).weights())
        )

    def test_the_train_seed_moves_the_start_and_not_the_batches(self, make_task):
        one, other = Dpsgd(config(), make_task(seed=1)), Dpsgd(config(), make_task(seed=2))
        assert not torch.equal(vector(one.weights()), vector(other.weights()))
        assert [r.examples for r in (one.step(), one.step())] == [r.examples for r in (other.step(), other.step())]


class TestRelease:
    def test_only_public_numbers_are_reported(self, make_task):
        task = make_task(n=64)
        research, release = Dpsgd(config(), task), Dpsgd(config(), dataclasses.replace(task, diagnostics=False))
        for _ in range(2):
            exact, public = research.step(), release.step()
            assert math.isnan(public.loss)
            assert public.diagnostics == ()
            assert public.examples == 64
            assert exact.examples != 64 or exact.diagnostics
        assert all(torch.equal(v, research.weights()[k]) for k, v in release.weights().items())
        assert release.privacy().mode == "release"


class TestRefusals:
    @pytest.mark.parametrize("name", ["cnn", "resnet18"])
    def test_batchnorm_is_refused_with_reason_and_remedy(self, make_task, name):
        with pytest.raises(ValueError, match=r"BatchNorm mixes the examples.*norm: group"):
            config().check_model(MODELS[name](norm="batch"))
        with pytest.raises(ValueError, match="BatchNorm mixes"):
            Dpsgd(config(), make_task(MODELS[name](norm="batch"), size=32))
        config().check_model(MODELS[name](norm="group"))
        config().check_model(MODELS["linear"]())  # has no norm layer

    @pytest.mark.parametrize(
        ("fields", "told"),
        [
            ({"epsilon": 3.0}, "exactly one of epsilon"),
            ({"noise_multiplier": None}, "exactly one of epsilon"),
            ({"noise_multiplier": None, "epsilon": 3.0, "clipping": "none"}, "without clipping, no amount of noise"),
            ({"noise_multiplier": None, "epsilon": 3.0, "l2_clip_norm": None}, "without clipping, no amount of noise"),
            ({"l2_clip_norm": None}, "clipping: none"),
            ({"l2_clip_norm": None, "clipping": "flat"}, "needs l2_clip_norm"),
            ({"l2_clip_norm": 0}, "greater than 0"),
            ({"noise_multiplier": -1}, "greater than or equal to 0"),
            ({"noise_multiplier": None, "epsilon": float("inf")}, "finite"),
            ({"clipping": "per_layer", "performance": {"gradient_mode": "ghost"}}, "flat clipping only"),
            ({"noise_multiplier": None, "epsilon": 3.0, "sampler": "shuffled"}, "needs sampler 'poisson'"),
        ],
    )
    def test_configs_that_contradict_themselves(self, fields, told):
        with pytest.raises(ValidationError, match=told):
            config(**fields)

    def test_a_plan_made_for_another_size(self, make_task):
        plan = PrivacyPlan.build(config(), 50)
        with pytest.raises(PlanError, match="population"):
            Dpsgd(config(), make_task(n=64), plan)

    def test_a_state_of_another_plan_or_kind(self, make_task):
        task = make_task()
        state = Dpsgd(config(), task).state()
        with pytest.raises(ValueError, match="another privacy plan"):
            Dpsgd(config(noise_multiplier=0.8), task).load(state)
        with pytest.raises(ValueError, match="kind"):
            Dpsgd(config(), task).load({**state, "kind": "sgd"})


def test_shuffled_batches_train_privately_but_claim_nothing(make_task):
    task = make_task("linear", n=50)
    learner = Dpsgd(config(sampler="shuffled", epochs=3), task)
    seen = np.concatenate([learner._sampler.positions(step) for step in range(4)])
    assert sorted(seen) == list(range(50))
    reports = [learner.step() for _ in range(3)]
    assert [(report.examples, report.steps) for report in reports] == [(50, 4)] * 3
    torch.testing.assert_close(
        vector(learner.weights()), by_hand(config(sampler="shuffled", epochs=3), task), atol=1e-4, rtol=1e-3
    )
    assert learner.privacy().epsilon.pld == math.inf
    assert "no Poisson sampling" in learner.privacy().summary


class TestGradientMode:
    def test_auto_measures_once_and_the_choice_is_kept_on_resume(self, make_task, monkeypatch):
        from fairsweep.trainables.dpsgd import gradient_modes

        task = make_task("cnn")
        learner = Dpsgd(config(performance={}), task)
        chosen = learner.gradient_mode
        assert chosen in GRADIENT_MODES
        assert learner.state()["gradient_mode"] == chosen
        measured = gradient_modes.choose_mode.cache_info().misses
        assert Dpsgd(config(performance={}), task).gradient_mode == chosen
        assert gradient_modes.choose_mode.cache_info().misses == measured
        resumed = Dpsgd(config(performance={}), task)
        resumed.load({**learner.state(), "gradient_mode": "functorch"})
        assert resumed.gradient_mode == "functorch"

    def test_every_working_mode_is_measured_and_a_near_tie_goes_to_the_first(self, monkeypatch):
        from fairsweep.trainables.dpsgd import gradient_modes
        from fairsweep.trainables.privacy.clipping import Clipping

        speeds = dict.fromkeys(GRADIENT_MODES, 1.0)
        monkeypatch.setattr(gradient_modes, "_time", lambda mode, *rest: speeds[mode.name])
        arguments = (MODELS["linear"](), (4, 4, 1), 2, Clipping("flat", 1.0), torch.device("cpu"), 4)
        speeds["hooks"] = 0.9
        assert gradient_modes.choose_mode.__wrapped__(*arguments).mode == "bookkeeping"
        speeds["hooks"] = 0.1
        choice = gradient_modes.choose_mode.__wrapped__(*arguments)
        assert choice.mode == "hooks"
        assert set(choice.examples_per_second) == set(GRADIENT_MODES)
        assert choice.examples_per_second["hooks"] == 40
        layers = gradient_modes.choose_mode.__wrapped__(*arguments[:3], Clipping("per_layer", 1.0), *arguments[4:])
        assert set(layers.refused) == {"ghost"}


def test_no_global_generator_is_read_or_changed(make_task):
    task = make_task("cnn")
    given = config(augmentation={"flip": True, "crop": 1}, performance={})
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = train(Dpsgd(given, task))
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()  # noqa: NPY002
    torch.manual_seed(2)
    assert torch.equal(vector(train(Dpsgd(given, task)).weights()), vector(first.weights()))


def test_the_secret_reaches_neither_state_nor_statement(make_task):
    task = make_task()
    learner = train(Dpsgd(config(), task))
    secret = seed_key(0, "secret")
    shown = repr(learner.state()) + learner.privacy().model_dump_json() + repr(task.keys)
    for key in (secret, task.keys.secret):
        assert key.hex() not in shown
        assert repr(key)[2:-1] not in shown
