"""What federated training costs, against dp-accounting, Opacus, and the joint mechanism written out."""

import json
import math

import dp_accounting
import pytest
from dp_accounting import NeighboringRelation
from dp_accounting.pld import PLDAccountant

from fairsweep.trainables.federated.fedavg_config import DpfedavgConfig, FedavgConfig
from fairsweep.trainables.privacy.plan import PrivacyPlan


def config(**fields):
    return DpfedavgConfig(**{"rounds": 100, "clients": {"partition": "iid", "count": 5}, **fields})


def plan(population=1000, **fields):
    return PrivacyPlan.build(config(**fields), population)


def by_pld(event, delta):
    accountant = PLDAccountant(neighboring_relation=NeighboringRelation.REPLACE_SPECIAL)
    return float(accountant.compose(event).get_epsilon(delta))


def test_epsilon_is_that_of_dp_accounting_and_opacus():
    """q = .01, z = 1, 1,000 rounds, delta = 1e-5: 1.828 by PLD, 1.838 by Opacus's PRV, 2.101 by RDP."""
    from opacus.accountants import PRVAccountant, RDPAccountant

    made = plan(10_000, rounds=1000, sampling_rate=0.01, noise_multiplier=1.0, delta=1e-5)
    epsilon = made.epsilon()
    assert epsilon.pld == pytest.approx(1.828, abs=2e-3)
    gaussian = dp_accounting.PoissonSampledDpEvent(0.01, dp_accounting.GaussianDpEvent(1.0))
    assert epsilon.pld == pytest.approx(by_pld(dp_accounting.SelfComposedDpEvent(gaussian, 1000), 1e-5), rel=1e-9)
    history = [(1.0, 0.01, 1000)]
    prv, rdp = PRVAccountant(), RDPAccountant()
    prv.history = rdp.history = history
    assert epsilon.pld == pytest.approx(prv.get_epsilon(1e-5), rel=0.01)
    assert epsilon.rdp == pytest.approx(rdp.get_epsilon(1e-5), rel=0.01)


def test_a_quantile_costs_what_the_joint_mechanism_costs():
    """Sum and count answer one sample: one Gaussian of sensitivity ((1/z_update)^2 + (1/2 / sigma_b)^2)^(1/2)."""
    made = plan(sampling_rate=0.1, noise_multiplier=1.0, clipping={"quantile": 0.5, "count_noise": 0.8}, delta=1e-5)
    joint = math.sqrt(made.update_noise_multiplier**-2 + (0.5 / made.count_noise) ** 2)
    event = dp_accounting.PoissonSampledDpEvent(0.1, dp_accounting.GaussianDpEvent(1 / joint))
    joint_epsilon = by_pld(dp_accounting.SelfComposedDpEvent(event, 100), 1e-5)
    assert made.epsilon().pld == pytest.approx(joint_epsilon, rel=1e-6)
    # Never less than one query alone, and never what two samples of their own would cost.
    queries = [made.update_noise_multiplier, 2 * made.count_noise]
    single = [dp_accounting.PoissonSampledDpEvent(0.1, dp_accounting.GaussianDpEvent(z)) for z in queries]
    for event in single:
        assert made.epsilon().pld > by_pld(dp_accounting.SelfComposedDpEvent(event, 100), 1e-5)
    separate = dp_accounting.SelfComposedDpEvent(dp_accounting.ComposedDpEvent(single), 100)
    assert made.epsilon().pld > by_pld(separate, 1e-5)


def test_a_quantile_costs_no_more_than_its_absence():
    fixed = plan(noise_multiplier=1.3)
    adapted = plan(noise_multiplier=1.3, clipping={"quantile": 0.5})
    assert adapted.epsilon() == fixed.epsilon()
    assert adapted.count_noise == pytest.approx(100 / 20)
    assert adapted.update_noise_multiplier == pytest.approx((1.3**-2 - 10**-2) ** -0.5)
    assert adapted.update_noise_multiplier > fixed.update_noise_multiplier == 1.3


def test_small_cohorts_get_a_count_noise_that_the_budget_allows():
    assert plan(40, noise_multiplier=1.3, clipping={"quantile": 0.5}).count_noise == 1.3


def test_whole_and_real_numbers_cost_the_same():
    whole = plan(rounds=10, noise_multiplier=1, sampling_rate=1, clipping={"quantile": 0.5, "l2_clip_norm": 1})
    real = plan(rounds=10, noise_multiplier=1.0, sampling_rate=1.0, clipping={"quantile": 0.5, "l2_clip_norm": 1.0})
    assert whole.model_dump_json() == real.model_dump_json()
    assert whole.epsilon() == real.epsilon()
    assert whole.epsilon().pld > 0
    assert whole.event() == real.event()


def test_noise_is_calibrated_to_a_budget():
    made = plan(epsilon=2.0, delta=1e-5)
    assert 1.99 < made.epsilon().pld <= 2.0
    made.verify(config(epsilon=2.0, delta=1e-5), 1000)
    adapted = plan(epsilon=2.0, delta=1e-5, clipping={"quantile": 0.5})
    assert adapted.noise_multiplier == made.noise_multiplier
    assert adapted.update_noise_multiplier > made.noise_multiplier


def test_a_tiny_budget_is_calibrated_where_delta_pays_for_everything():
    made = plan(10, epsilon=1e-9)
    assert made.delta == 0.01
    assert made.epsilon().pld <= 1e-9
    assert plan(10, noise_multiplier=0.99 * made.noise_multiplier).epsilon().pld > 1e-9


def test_delta_lies_below_one_over_the_number_of_clients():
    assert [plan(n, noise_multiplier=1.0).delta for n in (5, 99, 1000)] == [0.01, 1e-3, 1e-4]


def test_the_unit_is_a_client():
    statement = plan(noise_multiplier=1.0).statement(100, "research")
    assert (statement.unit, statement.relation, statement.population) == ("client", "zero_out", 1000)
    assert "for each client" in statement.summary
    assert statement.epsilon.pld < statement.epsilon.rdp
    json.dumps(statement.model_dump(mode="json"), allow_nan=False)


def test_a_deployment_is_labelled_a_simulation_and_the_training_itself_spends_more():
    given = {"sampling_rate": 0.1, "noise_multiplier": 1.0, "deployment_cohort": 1000}
    made = plan(100, **given)
    deployed = plan(10_000, sampling_rate=0.1, noise_multiplier=1.0)
    own = plan(100, sampling_rate=0.1, noise_multiplier=1.0 / 100, delta=made.delta)
    assert made.noise_scale == pytest.approx(0.01)
    # Ten thousand clients are protected there.
    assert made.delta == 1e-5
    statement = made.statement(100, "research")
    assert "Simulated deployment: 100 clients" in statement.summary
    assert "10000 clients with one of 1000" in statement.simulation
    # Its epsilon is that of the hundred who are trained on, and so are its assumptions.
    assert "their number (100)" in " ".join(statement.assumptions)
    assert "10000" not in " ".join(statement.assumptions)
    assert statement.epsilon == made.epsilon() == own.epsilon()
    assert statement.noise_multiplier == pytest.approx(0.01)
    assert statement.epsilon_of_simulated_deployment == made.deployment_epsilon() == deployed.epsilon()
    assert statement.epsilon.pld > 100 * statement.epsilon_of_simulated_deployment.pld
    assert f"epsilon {deployed.epsilon().pld:.3g}" in made.remark
    assert "simulated deployment" in made.remark
    with pytest.raises(ValueError, match="takes no deployment_cohort, but got 1000: a simulated"):
        config(**given).check_release()
    assert plan(noise_multiplier=1.0).statement(5, "research").simulation is None


@pytest.mark.parametrize(
    "made",
    [
        PrivacyPlan.build(FedavgConfig(clients={"partition": "iid", "count": 9}, cohort_size=3), 9),
        PrivacyPlan.build(FedavgConfig(clients={"partition": "iid", "count": 9}, sampling_rate=0.5), 9),
        plan(noise_multiplier=0.0),
        plan(noise_multiplier=1.0, clipping={"kind": "none"}),
    ],
    ids=["fixed cohorts", "fedavg", "clip only", "noise only"],
)
def test_what_lacks_a_part_promises_nothing(made):
    assert made.epsilon().pld == math.inf
    statement = made.statement(3, "research")
    assert statement.epsilon.pld == math.inf
    assert "epsilon is infinite" in statement.summary
    assert statement.assumptions == ()
    assert json.loads(statement.model_dump_json())["epsilon"] == {"pld": "inf", "rdp": "inf"}
    assert PrivacyPlan.model_validate_json(made.model_dump_json()) == made


def test_cohorts_of_one_size_and_poisson_cohorts():
    fixed = PrivacyPlan.build(FedavgConfig(clients={"partition": "iid", "count": 9}, cohort_size=3), 9)
    drawn = [fixed.inclusion(bytes(32), 0).positions(step) for step in range(50)]
    assert all(len(set(cohort.tolist())) == 3 for cohort in drawn)
    assert len({tuple(cohort) for cohort in drawn}) > 10
    poisson = plan(noise_multiplier=1.0, sampling_rate=0.3).inclusion(bytes(32), 0)
    sizes = [len(poisson.positions(step)) for step in range(100)]
    # Binomial(1000, .3): mean 300, standard deviation 14.5, of the mean of 100 rounds 1.45.
    assert abs(sum(sizes) / 100 - 300) < 6
    assert len(set(sizes)) > 10
