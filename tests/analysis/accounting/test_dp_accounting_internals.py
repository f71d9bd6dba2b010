"""What is computed over arrays is what dp-accounting computes one element after another, to the last bit."""

import math

import dp_accounting
import pytest
from dp_accounting.pld import PLDAccountant, privacy_loss_mechanism
from dp_accounting.rdp import RdpAccountant

from fairsweep.analysis.accounting.dp_accounting_internals import over_arrays

RELATION = dp_accounting.NeighboringRelation.REPLACE_SPECIAL
# Rates and noise: the smallest, the usual, an order whose series does not end, and nearly everybody.
STEPS = [(1e-4, 0.8), (0.03, 1.1), (0.064, 0.01), (0.5, 5.0), (0.95, 0.6)]


def sampled(rate, noise):
    event = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise))
    return dp_accounting.SelfComposedDpEvent(event, 10)


@pytest.mark.parametrize(("rate", "noise"), STEPS)
def test_the_loss_of_a_sampled_gaussian_is_as_dp_accounting_computes_it(rate, noise):
    def profile():
        interval = 100 if noise < 0.1 else 2e-3  # such losses are large
        accountant = PLDAccountant(RELATION, value_discretization_interval=interval)
        accountant.compose(sampled(rate, noise))
        return accountant.get_delta([0.0, 0.1, 1.0, 3.0]).tolist()

    one_by_one = profile()
    with over_arrays():
        assert profile() == one_by_one
    assert profile() == one_by_one


@pytest.mark.parametrize(("rate", "noise"), STEPS)
def test_renyi_divergences_are_as_dp_accounting_computes_them(rate, noise):
    def costs():
        orders = [1.1, 1.6, 2.5, 7.0, 9.9, 32, 256]
        accountant = RdpAccountant(orders, RELATION)
        accountant.compose(sampled(rate, noise))
        return [accountant.get_epsilon(delta) for delta in (1e-9, 1e-5, 0.01, 0.5)]

    one_by_one = costs()
    with over_arrays():
        assert costs() == one_by_one


def test_everything_is_as_it_was_after_an_error():
    before = privacy_loss_mechanism.GaussianPrivacyLoss
    with pytest.raises(TypeError), over_arrays():
        privacy_loss_mechanism.GaussianPrivacyLoss()
    assert privacy_loss_mechanism.GaussianPrivacyLoss is before


def test_other_adjacencies_and_single_losses_are_left_alone():
    adjacency = privacy_loss_mechanism.AdjacencyType.REPLACE
    arguments = {"sampling_prob": 0.1, "adjacency_type": adjacency}
    alone = privacy_loss_mechanism.GaussianPrivacyLoss(1.0, **arguments)
    with over_arrays():
        own = privacy_loss_mechanism.GaussianPrivacyLoss(1.0, **arguments)
    assert own.get_delta_for_epsilon([0.5, 1.0]).tolist() == alone.get_delta_for_epsilon([0.5, 1.0]).tolist()
    assert own.get_delta_for_epsilon(0.5) == alone.get_delta_for_epsilon(0.5)
    assert math.isfinite(own.get_delta_for_epsilon(0.5))
