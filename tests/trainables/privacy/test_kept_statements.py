"""One plan for examples and clients says, to the byte, what the plans of each said: statements, events and noise."""

import hashlib
import json
import math

import dp_accounting
import numpy as np
import pytest
import torch
from dp_accounting import NeighboringRelation
from dp_accounting.pld import PLDAccountant

from fairsweep.trainables.dpsgd.dpsgd_config import DpsgdConfig
from fairsweep.trainables.federated.fedavg_config import DpfedavgConfig, FedavgConfig
from fairsweep.trainables.privacy.plan import PrivacyPlan
from fairsweep.trainables.unlearning.known_examples import Population
from fairsweep.trainables.unlearning.placement import place
from fairsweep.trainables.unlearning.sisa_config import SisaConfig
from fairsweep.trainables.unlearning.sisa_privacy import SisaSpending, state_privacy

WEIGHTS = {"attribute": "tone", "weights": {"dark": 2.0}}


def dpsgd(population=4000, **fields):
    given = {} if "epsilon" in fields else {"noise_multiplier": 1.1}
    return DpsgdConfig(epochs=3, batch_size=200, **(given | fields)), population


def dpfedavg(population=1000, **fields):
    given = {} if "epsilon" in fields else {"noise_multiplier": 1.0}
    return DpfedavgConfig(rounds=60, clients={"partition": "iid", "count": 5}, **(given | fields)), population


def fedavg(**fields):
    return FedavgConfig(rounds=20, clients={"partition": "iid", "count": 5}, **fields), 1000


# Config and population; hash of the statements in both modes at the end; where it is one Gaussian, its z, q and steps.
CASES = {
    "poisson": (dpsgd(), "0265332b5647", (1.1, 0.05, 60)),
    "calibrated": (dpsgd(epsilon=3.0), "baffdd269063", None),
    "cut": (dpsgd(sampler="truncated_poisson"), "a4d615e8f577", None),
    "weighted": (dpsgd(sampler="weighted_poisson", sampling_weights=WEIGHTS), "aac959cc490d", (1.1, 0.1, 60)),
    "shuffled": (dpsgd(sampler="shuffled"), "77844584c7ab", None),
    "noise only": (dpsgd(clipping="none", l2_clip_norm=2.0), "3798bf801973", None),
    "twin": (dpsgd(noise_multiplier=0, l2_clip_norm=None), "bf2114e14156", None),
    "clients": (dpfedavg(), "5697366f05f5", (1.0, 0.1, 60)),
    "clients, calibrated": (dpfedavg(epsilon=2.0), "d03ac1fd4c26", None),
    "clients, quantile": (dpfedavg(clipping={"quantile": 0.5}), "327e39792da8", (1.0, 0.1, 60)),
    "deployment": (dpfedavg(100, deployment_cohort=1000), "088667bfddda", None),
    "fedavg": (fedavg(sampling_rate=0.2), "6bb95e3d1f70", None),
    "fedavg, fixed": (fedavg(cohort_size=7), "6d254b20e25b", None),
}


def rounded(value):
    """Numbers to 6 digits: the last ones depend on the machine."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def digest(*statements):
    texts = [json.dumps(rounded(statement.model_dump(mode="json"))) for statement in statements]
    return hashlib.sha256("".join(texts).encode()).hexdigest()[:12]


@pytest.mark.parametrize("name", CASES)
def test_statements_are_as_they_were(name):
    (config, population), kept, gaussian = CASES[name]
    plan = PrivacyPlan.build(config, population)
    plan.verify(config, population)
    statements = [plan.statement(plan.steps, mode) for mode in ("research", "release")]
    assert digest(*statements) == kept
    assert PrivacyPlan.model_validate_json(plan.model_dump_json()) == plan
    if gaussian is not None:
        noise, rate, steps = gaussian
        event = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise))
        accountant = PLDAccountant(NeighboringRelation.REPLACE_SPECIAL)
        accountant.compose(dp_accounting.SelfComposedDpEvent(event, steps))
        assert statements[0].epsilon.pld == pytest.approx(accountant.get_epsilon(plan.delta), rel=0.01)


@pytest.mark.parametrize(
    ("inner", "kept"),
    [({}, "975296058102"), ({"sampler": "truncated_poisson", "noise_multiplier": 4.0}, "4491e64b7fde")],
)
def test_statements_by_slice_are_as_they_were(inner, kept):
    inner = {"kind": "dpsgd", "batch_size": 8, "noise_multiplier": 1.0, **inner}
    config = SisaConfig(shards=2, slices=2, strategy="random-balanced", epochs=2, inner=inner)
    people = Population(np.arange(97), {"tone": np.arange(97) % 2}, {"tone": ("light", "dark")}, None, ("tone",))
    placed = place(config, config.requests, people, bytes(32))
    trained = [np.ones((2, 2), np.int64) * (np.arange(2) < done) for done in (0, 1, 2)]
    assert digest(*[state_privacy(config, placed, SisaSpending(one), "release") for one in trained]) == kept


def test_plans_that_were_written_for_each_unit_are_read():
    """As they lie in checkpoints and in plans.json."""
    example = {
        **{"unit": "example", "relation": "zero_out", "sampler": "poisson", "population": 4000, "sampling_rate": 0.05},
        **{"steps": 60, "clipping": "flat", "l2_clip_norm": 1.0, "noise_multiplier": 1.1, "delta": 0.0001},
        **{"target_epsilon": None, "max_batch_size": None, "sampling_weights": None},
    }
    client = {
        **{"unit": "client", "relation": "zero_out", "sampler": "poisson", "population": 1000, "sampling_rate": 0.1},
        **{"steps": 60, "clipping": "flat", "l2_clip_norm": 1.0, "quantile": 0.5, "noise_multiplier": 1.0},
        **{"count_noise": 5.0, "delta": 0.0001, "target_epsilon": None, "deployment_cohort": None},
    }
    assert PrivacyPlan.model_validate(example) == PrivacyPlan.build(*dpsgd(delta=1e-4))
    assert PrivacyPlan.model_validate(client) == PrivacyPlan.build(*dpfedavg(clipping={"quantile": 0.5}))


def test_noise_of_a_simulated_deployment_with_a_norm_that_is_adapted():
    """Scaled by qN/D = 10/1000; z_update of z = 1 and sigma_b = 50; S = .37."""
    plan = PrivacyPlan.build(*dpfedavg(100, deployment_cohort=1000, clipping={"quantile": 0.5}))
    update = math.sqrt(1 / (1 - 1 / 100**2))
    assert plan.noise(bytes(32), 1, 0.37).std == pytest.approx(0.01 * update * 0.37)
    assert plan.noise(bytes(32), 1).std == pytest.approx(0.01 * update)
    drawn = torch.zeros(4000)
    plan.noise(bytes(32), 1, 0.37).add_to(drawn, 3)
    assert float(drawn.std()) == pytest.approx(0.0037, rel=0.05)
    counts = [plan.count_error(bytes(32), 1, step) for step in range(400)]
    assert np.std(counts) == pytest.approx(0.01 * 50, rel=0.1)


@pytest.mark.parametrize(("config", "unit"), [(dpsgd(delta=1e-3), "example"), (dpfedavg(delta=1e-3), "client")])
def test_a_delta_that_promises_nothing_is_refused_in_the_words_of_the_unit(config, unit):
    with pytest.raises(ValueError, match=f"number of {unit}s, but got delta=0.001: publishing one {unit}'s data"):
        PrivacyPlan.build(*config)
