"""The privacy plan (`plan`) and its `mechanism`: sampler, clipping, noise and accounted event agree."""

import json
import math

import numpy as np
import pytest

from fairsweep.analysis.accounting.epsilons import epsilon_of
from fairsweep.analysis.accounting.events import sampled_gaussian
from fairsweep.datasets.selection.randomness import derive, seed_key
from fairsweep.trainables.dpsgd.dpsgd_config import DpsgdConfig
from fairsweep.trainables.privacy.plan import PlanError, PrivacyPlan
from fairsweep.trainables.privacy.privacy_numbers import default_delta
from fairsweep.trainables.privacy.privacy_statement import PrivacyStatement

SECRETS = [derive(seed_key(0, "sweep"), "trial", trial) for trial in range(5)]


def config(**fields):
    return DpsgdConfig(**{"epochs": 8, "batch_size": 256, "noise_multiplier": 1.0, **fields})


def test_the_plan_of_a_budget_keeps_it_and_survives_json():
    plan = PrivacyPlan.build(config(noise_multiplier=None, epsilon=3.0), 4000)
    assert (plan.sampling_rate, plan.steps, plan.delta) == (0.064, 125, 1e-5)
    assert 2.99 < plan.epsilon().pld <= 3.0
    assert plan.epsilon(10).pld < plan.epsilon(60).pld < plan.epsilon().pld
    assert PrivacyPlan.model_validate_json(plan.model_dump_json()) == plan
    plan.verify(config(noise_multiplier=None, epsilon=3.0), 4000)


def test_what_is_accounted_is_what_is_run():
    plan = PrivacyPlan.build(config(noise_multiplier=2, l2_clip_norm=0.5), 4000)
    sampler, noise, clipping = plan.inclusion(SECRETS[0], 0), plan.noise(SECRETS[0], 0), plan.bound()
    assert (sampler.n, sampler.sampling_rate, sampler.steps) == (4000, 0.064, 125)
    assert noise.std == 2 * 0.5
    assert (clipping.kind, clipping.l2_clip_norm) == ("flat", 0.5)
    assert plan.expected_batch_size == pytest.approx(256)
    assert plan.event() == sampled_gaussian(2.0, 0.064, 125)
    assert plan.epsilon(60) == epsilon_of(sampled_gaussian(noise.std / clipping.l2_clip_norm, 0.064, 60), 1e-5)


def test_poisson_masks_have_the_stated_rate_and_are_uncorrelated_between_trials_runs_and_steps():
    plan = PrivacyPlan.build(config(batch_size=400), 4000)
    masks = np.zeros((len(SECRETS) * 2 * 4, 4000))
    row = 0
    for secret in SECRETS:
        for run in range(2):
            sampler = plan.inclusion(secret, run)
            for step in range(4):
                masks[row, sampler.positions(step)] = 1
                row += 1
    total = masks.sum()
    assert abs(total - masks.size * 0.1) < 5 * math.sqrt(masks.size * 0.1 * 0.9)
    correlation = np.corrcoef(masks)
    np.fill_diagonal(correlation, 0)
    assert np.abs(correlation).max() < 6 / math.sqrt(4000)


@pytest.mark.parametrize("population", [1, 9, 10, 99, 4000, 9999, 10_000, 10_001, 162_770])
def test_the_default_delta_is_the_largest_power_of_ten_up_to_a_tenth_of_one_over_n(population):
    delta = default_delta(population)
    assert delta <= 1 / (10 * population) * (1 + 1e-12) < 10 * delta
    assert math.log10(delta) == pytest.approx(round(math.log10(delta)), abs=1e-12)


@pytest.mark.parametrize(
    ("fields", "lacking"),
    [
        ({"noise_multiplier": 0.0}, "no noise"),
        ({"noise_multiplier": 1.0, "clipping": "none"}, "no clipping"),
        ({"noise_multiplier": 0.0, "l2_clip_norm": None}, "no clipping and no noise"),
    ],
)
def test_without_noise_or_clipping_epsilon_is_infinite_and_says_so(fields, lacking):
    statement = PrivacyPlan.build(config(**fields), 4000).statement(10, "research")
    assert statement.epsilon.pld == statement.epsilon.rdp == math.inf
    assert lacking in statement.summary
    written = statement.model_dump(mode="json")
    assert written["epsilon"] == {"pld": "inf", "rdp": "inf"}
    assert written["events"] == [{"type": "NonPrivateDpEvent"}]
    json.dumps(written, allow_nan=False)
    assert PrivacyStatement.model_validate(written) == statement


def test_noise_without_clipping_is_measured_in_the_given_norm():
    plan = PrivacyPlan.build(config(noise_multiplier=1.5, l2_clip_norm=2.0, clipping="none"), 4000)
    assert plan.noise(SECRETS[0], 0).std == 3.0
    assert plan.bound().kind == "none"


def test_the_statement_names_unit_relation_cost_and_what_each_file_reveals():
    plan = PrivacyPlan.build(config(), 4000)
    written = plan.statement(50, "release").model_dump(mode="json")
    assert (written["unit"], written["relation"], written["steps"], written["planned_steps"]) == (
        "example",
        "zero_out",
        50,
        125,
    )
    assert written["epsilon"]["pld"] == plan.epsilon(50).pld < written["epsilon"]["rdp"]
    assert written["events"][0]["count"] == 50
    assert any("Poisson" in sentence for sentence in written["assumptions"])
    assert {"cells.parquet", "training.parquet", "weights.pt"} <= set(written["reveals"])
    assert "no guarantee covers" in plan.statement(50, "research").reveals["training.parquet"]
    assert "not recorded in release mode: loss, seconds" in written["reveals"]["training.parquet"]
    assert "simulated" in plan.statement(50, "research").summary
    assert plan.statement(0, "research").epsilon.pld == 0


@pytest.mark.parametrize(
    ("changed", "population", "named"),
    [
        ({"epochs": 9}, 4000, "steps"),
        ({"batch_size": 128}, 4000, "sampling_rate"),
        ({"l2_clip_norm": 2.0}, 4000, "l2_clip_norm"),
        ({"noise_multiplier": 1.1}, 4000, "noise_multiplier"),
        ({"delta": 1e-6}, 4000, "delta"),
        ({"clipping": "per_layer"}, 4000, "clipping"),
        ({}, 5000, "population"),
    ],
)
def test_a_plan_of_another_config_or_training_set_is_refused(changed, population, named):
    plan = PrivacyPlan.build(config(), 4000)
    with pytest.raises(PlanError, match=named):
        plan.verify(config(**changed), population)


def test_a_plan_with_too_little_noise_for_its_budget_is_refused():
    wanted = config(noise_multiplier=None, epsilon=3.0)
    plan = PrivacyPlan.build(wanted, 4000).model_copy(update={"noise_multiplier": 1.0})
    with pytest.raises(PlanError, match="more than its target"):
        plan.verify(wanted, 4000)


def test_impossible_plans_are_refused():
    with pytest.raises(PlanError, match="at most the training set's size 100"):
        PrivacyPlan.build(config(), 100)
    with pytest.raises(PlanError, match="below 1/N"):
        PrivacyPlan.build(config(delta=1e-3), 4000)
    with pytest.raises(PlanError, match="give noise_multiplier instead"):
        PrivacyPlan.build(config(noise_multiplier=None, epsilon=1e-7), 4000)


def test_secrets_are_not_shown():
    plan = PrivacyPlan.build(config(), 4000)
    assert "secret" not in repr(plan.noise(SECRETS[0], 0)) + repr(plan)
    assert "key" not in repr(plan.inclusion(SECRETS[0], 0))
