"""Private training with cut batches, rates by group and class weights: what is run is what is accounted."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from scipy import stats

from fairsweep.analysis.accounting.epsilons import epsilon_of
from fairsweep.analysis.accounting.events import sampled_gaussian, truncated_gaussian
from fairsweep.datasets.selection.sampling import Poisson, TruncatedPoisson, WeightedPoisson
from fairsweep.trainables.dpsgd.dpsgd_config import DpsgdConfig
from fairsweep.trainables.dpsgd.dpsgd_learner import Dpsgd
from fairsweep.trainables.dpsgd.gradient_modes import GRADIENT_MODES
from fairsweep.trainables.models.model import build_model
from fairsweep.trainables.privacy.plan import PlanError, PrivacyPlan
from fairsweep.trainables.privacy.privacy_numbers import default_cut
from fairsweep.trainables.privacy.privacy_statement import PrivacyStatement
from fairsweep.trainables.trial.trial import Trial

NAMES = {"label": ("no", "yes"), "tone": ("light", "dark")}
DARK = {"attribute": "tone", "weights": {"dark": 2.0}}
CUT = {"sampler": "truncated_poisson", "max_batch_size": 17}
WEIGHTED = {"sampler": "weighted_poisson", "sampling_weights": DARK}
REMEDY = {"remedy": {"kind": "class_weights", "weights": {"yes": 3.0}}}


def config(**fields):
    given = {
        "epochs": 2,
        "batch_size": 16,
        "noise_multiplier": 0.7,
        "l2_clip_norm": 0.5,
        "optimizer": {"name": "sgd", "lr": 0.3},
        "performance": {"gradient_mode": "bookkeeping", "physical_batch_size": 7},
    }
    return DpsgdConfig(**{**given, **fields})


@pytest.fixture
def task(make_task):
    return make_task("linear", n=48, value_names=NAMES)


def train(learner):
    while learner.iteration < learner.iterations:
        learner.step()
    return learner


def by_hand(config, task, sampler, weights_n):
    """Trains in float64, one example at a time, in the order of a sampler; divides by the configured batch size."""
    plan = PrivacyPlan.build(config, task.size)
    model = build_model(task.model, task.image_shape, task.classes, task.keys.train).double()
    images = torch.from_numpy(task.feed.images(task.rows)).permute(0, 3, 1, 2).double() / 127.5 - 1
    for step in range(sampler.steps):
        total = torch.zeros(sum(p.numel() for p in model.parameters()), dtype=torch.float64)
        for position in sampler.positions(step):
            label = torch.tensor([int(task.labels[position])])
            loss = weights_n[position] * F.cross_entropy(model(images[position : position + 1]), label)
            gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
            norm = float(gradient.norm())
            total += gradient * (1 if config.clipping == "none" else min(1, config.l2_clip_norm / norm))
        plan.noise(task.keys.secret, task.keys.run).add_to(noise := total.float() * 0, step)
        pieces = torch.split((total + noise) / config.batch_size, [p.numel() for p in model.parameters()])
        with torch.no_grad():
            for parameter, piece in zip(model.parameters(), pieces, strict=True):
                parameter -= config.optimizer.lr * piece.view_as(parameter)
    return {name: value.detach().float() for name, value in model.state_dict().items()}


def order_of(fields, plan, task):
    """The sampler that the config asks for, made without the plan's help."""
    key = plan.inclusion(task.keys.secret, task.keys.run, np.ones(task.size)).key
    if "max_batch_size" in fields:
        return TruncatedPoisson(task.size, 16 / 48, plan.steps, 17, key)
    if "sampling_weights" in fields:
        return WeightedPoisson(np.where(task.groups["tone"] == 1, 2.0, 1.0) * 16 / 48, plan.steps, key)
    return Poisson(task.size, 16 / 48, plan.steps, key)


@pytest.mark.parametrize("mode", GRADIENT_MODES)
@pytest.mark.parametrize("fields", [CUT, WEIGHTED, REMEDY, {**CUT, **REMEDY}, {**WEIGHTED, **REMEDY}])
def test_training_equals_a_reference_written_by_hand(task, mode, fields):
    given = config(**fields, performance={"gradient_mode": mode, "physical_batch_size": 7})
    learner = train(Dpsgd(given, task))
    loss_weights = np.where(task.labels == 1, 3.0, 1.0) if "remedy" in fields else np.ones(48)
    order = order_of(fields, learner.plan, task)
    expected = by_hand(given, task, order, loss_weights)
    for name, value in learner.weights().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-5)
    sizes = [len(order.positions(step)) for step in range(order.steps)]
    assert "max_batch_size" not in fields or max(sizes) == 17 > min(sizes)


def test_a_twin_without_clipping_keeps_order_weights_and_class_weights(task):
    for fields in (CUT, {**WEIGHTED, **REMEDY}):
        twin = config(**fields).twin("matched")
        assert (twin.sampler, twin.max_batch_size) == (fields["sampler"], fields.get("max_batch_size"))
        learner = train(Dpsgd(twin, task))
        loss_weights = np.where(task.labels == 1, 3.0, 1.0) if "remedy" in fields else np.ones(48)
        expected = by_hand(twin, task, order_of(fields, learner.plan, task), loss_weights)
        for name, value in learner.weights().items():
            torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-5)
        assert learner.privacy().epsilon.pld == math.inf
        assert learner.privacy().epsilon_by_group == ()


def test_cut_batches_are_padded_to_the_same_shapes_in_every_step(task):
    learner = Dpsgd(config(**CUT, batch_size=4, epochs=1), task)
    mode, shapes = learner._gradients(), []

    class Watching:
        name = mode.name

        def add_clipped(self, inputs, labels, clipping, sums, weights=None):
            shapes.append((len(inputs), int((weights == 0).sum())))
            return mode.add_clipped(inputs, labels, clipping, sums, weights)

    learner._mode = Watching()
    report = learner.step()
    assert [size for size, _ in shapes] == [7, 7, 3] * 12
    assert sum(size - blank for size, blank in shapes) == report.examples
    assert report.loss < 2  # blanks are in no mean
    assert sum(d.count for d in report.diagnostics) == report.examples


def test_norms_in_the_diagnostics_are_those_of_weighted_losses(task):
    for fields in ({}, {"noise_multiplier": 0.7, "clipping": "none"}):
        still = {"optimizer": {"name": "sgd", "lr": 1e-9}, "epochs": 1, **fields}
        plain, weighted = (Dpsgd(config(**still, **more), task).step().diagnostics for more in ({}, REMEDY))
        for one, other in zip(plain, weighted, strict=True):
            assert other.mean_gradient_norm == pytest.approx(one.mean_gradient_norm * (3 if one.label else 1), rel=1e-3)


@pytest.mark.parametrize(("cut", "known"), [(1200, "1.83"), (1100, "3.20"), (1024, "8.54")])
def test_the_plan_of_a_cut_costs_what_is_known(cut, known):
    given = config(epochs=10, batch_size=1000, noise_multiplier=1.0, sampler="truncated_poisson", max_batch_size=cut)
    plan = PrivacyPlan.build(given, 100_000)
    assert (plan.steps, plan.delta) == (1000, 1e-6)
    plan = plan.model_copy(update={"delta": 1e-5})  # the table's, at which publishing one example would do
    assert f"{plan.epsilon().pld:.2f}" == known
    assert plan.epsilon().rdp is None
    assert plan.event(7) == truncated_gaussian(1.0, 0.01, 7, 100_000, cut)


def test_the_default_cut_is_six_deviations_above_the_mean_and_never_above_the_population():
    plan = PrivacyPlan.build(config(sampler="truncated_poisson"), 48)
    assert plan.max_batch_size == default_cut(16) == 40
    assert PrivacyPlan.build(config(sampler="truncated_poisson"), 30).max_batch_size == 30
    assert stats.binom.sf(default_cut(1024), 162_770, 1024 / 162_770) < 1e-8
    assert plan.expected_examples() == pytest.approx(16, rel=1e-6)
    cut = PrivacyPlan.build(config(**CUT), 48)
    expected = sum(min(k, 17) * stats.binom.pmf(k, 48, 1 / 3) for k in range(49))
    assert cut.expected_examples() == pytest.approx(expected)
    assert cut.expected_batch_size == 16  # the denominator stays


@pytest.mark.parametrize(("weight", "known"), [(2, "4.81"), (5, "13.7"), (10, "32.0")])
def test_the_plan_of_rates_by_group_costs_what_is_known(weight, known):
    weights = {"attribute": "tone", "weights": {"dark": weight}}
    given = config(
        epochs=20,
        batch_size=1024,
        noise_multiplier=1.0,
        delta=1e-6,
        sampler="weighted_poisson",
        sampling_weights=weights,
    )
    plan = PrivacyPlan.build(given, 162_770)
    assert (plan.delta, plan.steps) == (1e-6, round(20 * 162_770 / 1024))
    assert f"{plan.epsilon().pld:#.3g}" == known
    dark, others = plan.epsilon_by_group()
    assert (dark.attribute, dark.value, dark.epsilon) == ("tone", "dark", plan.epsilon())
    assert dark.sampling_rate == plan.largest_rate == weight * 1024 / 162_770
    assert (others.value, f"{others.epsilon.pld:.2f}") == (None, "2.25")


def test_a_budget_holds_for_the_largest_rate_and_under_a_cut():
    for fields in (WEIGHTED, {"sampler": "truncated_poisson", "max_batch_size": 280}):
        given = config(epochs=2, batch_size=256, noise_multiplier=None, epsilon=2.0, **fields)
        plan = PrivacyPlan.build(given, 4000)
        assert 1.98 < plan.epsilon().pld <= 2.0
        plan.verify(given, 4000)
        assert PrivacyPlan.model_validate_json(plan.model_dump_json()) == plan
        if plan.sampling_weights is not None:
            assert plan.event() == sampled_gaussian(plan.noise_multiplier, 0.128, 31)
            assert plan.epsilon_by_group()[1].epsilon == epsilon_of(
                sampled_gaussian(plan.noise_multiplier, 0.064, 31), 1e-5
            )


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"sampler": "poisson"}, "sampler"),
        ({"sampler": "truncated_poisson"}, "max_batch_size"),
        ({**WEIGHTED, "sampling_weights": {"attribute": "tone", "weights": {"dark": 1.5}}}, "sampling_weights"),
    ],
)
def test_a_plan_of_another_order_is_refused(changed, named):
    for fields in (CUT, WEIGHTED):
        plan = PrivacyPlan.build(config(**fields), 48)
        with pytest.raises(PlanError, match=named if fields["sampler"] == changed["sampler"] else "sampler"):
            plan.verify(config(**changed), 48)


def test_rates_above_one_and_weights_that_are_not_accounted_are_refused(task):
    with pytest.raises(PlanError, match=r"at most 1, but is 1\.333.*lower batch_size or the weight"):
        PrivacyPlan.build(config(**{**WEIGHTED, "sampling_weights": {"attribute": "tone", "weights": {"dark": 4}}}), 48)
    plan = PrivacyPlan.build(config(**WEIGHTED), 48)
    for weights in (None, np.ones(47), np.full(48, 2.1)):
        with pytest.raises(ValueError, match=r"weight of at most 2\.0 for each of the 48"):
            plan.inclusion(task.keys.secret, 0, weights)


def test_statements_name_the_order_and_what_it_rests_on(task):
    weighted = train(Dpsgd(config(**WEIGHTED, noise_multiplier=4.0), task)).privacy()
    written = weighted.model_dump(mode="json")
    assert written["sampling_rate"] == 2 * 16 / 48
    assert [(g["value"], g["sampling_rate"]) for g in written["epsilon_by_group"]] == [("dark", 2 / 3), (None, 1 / 3)]
    assert written["epsilon_by_group"][1]["epsilon"]["pld"] < written["epsilon"]["pld"]
    assert any("Who has which tone is public" in sentence for sentence in written["assumptions"])
    cut = train(Dpsgd(config(**CUT, noise_multiplier=4.0), task)).privacy()
    assert (cut.epsilon.rdp, cut.max_batch_size, cut.epsilon_by_group) == (None, 17, ())
    assert any("of more than 17 a uniformly random 17 stay" in sentence for sentence in cut.assumptions)
    for statement in (weighted, cut):
        assert PrivacyStatement.model_validate(statement.model_dump(mode="json")) == statement


def test_release_mode_reports_the_expected_number_of_examples(task):
    released = dataclasses.replace(task, diagnostics=False)
    dark = int((task.groups["tone"] == 1).sum())
    report = Dpsgd(config(**WEIGHTED, epochs=1), released).step()
    assert report.examples == round(3 * (48 + dark) / 3)
    assert math.isnan(report.loss)


def test_a_resume_goes_on_bit_for_bit_also_from_a_state_before_these_fields(task):
    for fields in ({**CUT, **REMEDY}, WEIGHTED, {}):
        whole = train(Dpsgd(config(**fields), task))
        half = Dpsgd(config(**fields), task)
        half.step()
        state = half.state()
        if not fields:
            state["plan"] = {k: v for k, v in state["plan"].items() if v is not None}
        rest = Dpsgd(config(**fields), task)
        rest.load(state)
        for name, value in train(rest).weights().items():
            assert torch.equal(value, whole.weights()[name])


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"max_batch_size": 20}, "belongs to sampler: truncated_poisson"),
        ({**WEIGHTED, "sampler": "poisson"}, "belongs to sampler: weighted_poisson"),
        ({"sampler": "weighted_poisson"}, "needs sampling_weights"),
        ({"sampler": "truncated_poisson", "max_batch_size": 0}, "max_batch_size"),
        ({**WEIGHTED, "sampling_weights": {"attribute": "tone", "weights": {"dark": 0}}}, "greater than 0"),
        ({"remedy": {"kind": "class_weights", "weights": "balanced"}}, "only constants, but got class_weights: bal"),
        ({"remedy": {"kind": "group_dro", "attributes": ["tone"]}}, "would leak past the guarantee; give numbers"),
        ({"remedy": {"kind": "class_weights", "weights": {}}}, "at least 1 item"),
    ],
)
def test_orders_and_remedies_that_cannot_be_are_refused(fields, told):
    with pytest.raises(ValidationError, match=told):
        config(**fields)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({**WEIGHTED, "sampling_weights": {"attribute": "tome", "weights": {"dark": 2}}}, "did you mean 'tone'"),
        ({**WEIGHTED, "sampling_weights": {"attribute": "tone", "weights": {"drak": 2}}}, "did you mean 'dark'"),
        (
            {**WEIGHTED, "sampling_weights": {"attribute": "tone", "weights": {"dark": 0.5, "light": 0.9}}},
            "must be at least 1",
        ),
        ({"remedy": {"kind": "class_weights", "weights": {"yess": 2}}}, "did you mean 'yes'"),
        ({"remedy": {"kind": "class_weights", "weights": {"yes": 2, "{code: 1}": 3}}}, "given once"),
    ],
)
def test_unknown_attributes_and_values_are_refused_with_the_nearest_name(task, fields, told):
    with pytest.raises(ValueError, match=told):
        config(**fields).check_values(task.roles)
    with pytest.raises(ValueError, match=told):
        Dpsgd(config(**fields), task)


def test_values_cannot_be_named_where_their_names_are_unknown(make_task):
    with pytest.raises(ValueError, match="does not know the values' names of label, tone"):
        Dpsgd(config(**WEIGHTED), make_task("linear", n=48, value_names={}))


def test_a_trial_records_what_each_group_pays(make_config, dpsgd, tmp_path):
    learner = {**dpsgd, **WEIGHTED, "remedy": {"kind": "class_weights", "weights": {"yes": 2}}, "epochs": 1}
    Trial(make_config(learner), tmp_path / "trial").run()
    written = json.loads((tmp_path / "trial" / "privacy.json").read_text())
    assert written["sampler"] == "weighted_poisson"
    dark, others = written["epsilon_by_group"]
    assert (dark["value"], dark["epsilon"]["pld"]) == ("dark", written["epsilon"]["pld"])
    assert 0 < others["epsilon"]["pld"] < dark["epsilon"]["pld"]
