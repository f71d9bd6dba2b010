"""One noise multiplier for a whole release: the composition of all private trials costs no more than the budget."""

import pytest

from fairsweep.analysis.accounting.composition import composed
from fairsweep.analysis.accounting.epsilons import epsilon_of
from fairsweep.analysis.accounting.events import sampled_gaussian
from fairsweep.analysis.accounting.release_prices import release_prices
from fairsweep.sweeps.plan import plan_sweep
from fairsweep.sweeps.planning.preflight import check_sweep
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError

BUDGET = 8.0


@pytest.fixture
def budgeted(mapping):
    """A sweep with a budget for its four private trials, which say no noise of their own."""
    del mapping["learners"][0]["noise_multiplier"]
    mapping["privacy"] = {"epsilon_sweep": BUDGET, "delta_sweep": 1e-4}
    return mapping


def test_all_private_trials_together_cost_the_budget(budgeted):
    plan = check_sweep(Sweep(**budgeted))
    by_learner = {}
    for trial in plan.trials:
        by_learner.setdefault(trial.config.learner.name, []).append(trial.config.learner)
    (noise,) = {learner.noise_multiplier for learner in by_learner["private"]}
    assert len(by_learner["private"]) == 4
    assert {learner.noise_multiplier for learner in by_learner["matched"]} == {0.0}

    def cost(noise_multiplier):
        return epsilon_of(composed([sampled_gaussian(noise_multiplier, 24 / 120, 15)] * 4), 1e-4).pld

    assert cost(noise) <= BUDGET < cost(noise / 1.002)
    assert noise == round(noise, 4)
    (prices,) = release_prices(plan_sweep(Sweep(**budgeted)).charges, 1e-4)
    assert prices.everything.pld == cost(noise)
    again = check_sweep(Sweep(**budgeted))
    assert [trial.trial for trial in again.trials] == [trial.trial for trial in plan.trials]


def test_trials_that_differ_share_the_noise(budgeted):
    budgeted["learners"] = [budgeted["learners"][0] | {"batch_size": {"grid": [12, 24]}}]
    budgeted["seeds"] = 1
    plan = check_sweep(Sweep(**budgeted))
    (noise,) = {trial.config.learner.noise_multiplier for trial in plan.trials}
    events = [sampled_gaussian(noise, size / 120, 3 * 120 // size) for size in (12, 24)] * 2
    assert 0.99 * BUDGET < epsilon_of(composed(events), 1e-4).pld <= BUDGET


def test_an_ablation_stays_as_it_is(budgeted):
    budgeted["learners"].append(budgeted["learners"][0] | {"name": "clipped", "noise_multiplier": 0})
    found = {trial.config.learner.name: trial.config.learner for trial in check_sweep(Sweep(**budgeted)).trials}
    assert found["clipped"].noise_multiplier == 0
    assert found["private"].noise_multiplier > 0


@pytest.mark.parametrize("own", [{"epsilon": 3.0}, {"noise_multiplier": 1.5}])
def test_a_learner_with_privacy_of_its_own_is_refused(budgeted, own):
    budgeted["learners"][0] |= own
    with pytest.raises(
        SweepError, match=r"epsilon_sweep sets the noise of every private learner, but got \w+=\d"
    ) as found:
        Sweep(**budgeted)
    assert found.value.location == ("learners", 0, next(iter(own)))


def test_what_has_no_fixed_composition_is_refused(budgeted):
    guided = {"algorithm": "tpe", "samples": 4, "objectives": [{"max": "accuracy"}]}
    learner = budgeted["learners"][0] | {"l2_clip_norm": {"uniform": [0.5, 2.0]}}
    with pytest.raises(SweepError, match="needs all trials to be known beforehand, but tpe chooses them"):
        check_sweep(Sweep(**budgeted | {"search": guided, "learners": [learner]}))
    with pytest.raises(SweepError, match="needs a private learner whose noise it sets"):
        check_sweep(Sweep(**budgeted | {"learners": [budgeted["learners"][2]]}))
    inner = {"kind": "dpsgd", "batch_size": 12, "noise_multiplier": 1.0}
    sisa = {"name": "forgets", "kind": "sisa", "shards": 2, "slices": 2, "epochs": 1, "inner": inner}
    with pytest.raises(SweepError, match="forgets is private by other means"):
        check_sweep(Sweep(**budgeted | {"learners": [*budgeted["learners"], sisa]}))


def test_a_delta_of_the_sweep_at_which_nothing_is_promised_is_refused(budgeted):
    budgeted["privacy"]["delta_sweep"] = 0.01  # of 120 examples one in expectation could be published outright
    with pytest.raises(SweepError, match=r"delta_sweep: delta must be below 1/N = 0\.00833") as found:
        check_sweep(Sweep(**budgeted))
    assert found.value.location == ("privacy", "delta_sweep")


def test_a_delta_of_the_sweep_that_no_accountant_can_tell_is_refused(budgeted):
    budgeted["privacy"]["delta_sweep"] = 1e-16
    with pytest.raises(SweepError, match="delta must be at least 1e-12 and below 1"):
        Sweep(**budgeted)


def test_a_budget_that_no_noise_affords_is_refused(budgeted):
    budgeted["privacy"]["epsilon_sweep"] = 1e-7
    with pytest.raises(SweepError, match="4 trials together") as found:
        check_sweep(Sweep(**budgeted))
    assert found.value.location == ("privacy", "epsilon_sweep")
