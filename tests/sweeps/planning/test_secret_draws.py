"""How many draws there are, and which: all from a secret key, by the distributions that their price assumes."""

import math

import numpy as np
import pytest

from fairsweep.sweeps.planning.preflight import check_sweep
from fairsweep.sweeps.planning.secret_draws import number_of_draws, secret_draws
from fairsweep.sweeps.planning.winner_price import WinnerPrice
from fairsweep.sweeps.spec.search_section import DrawsSection
from fairsweep.sweeps.sweep import Sweep

KEYS = [number.to_bytes(32, "little") for number in range(20_000)]


def gamma(mean):
    """Of the logarithmic distribution, by bisection."""
    low, high = 1e-9, 1 - 1e-9
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (1 / middle - 1) / math.log(1 / middle) > mean else (low, middle)
    return low


@pytest.mark.parametrize(
    ("draws", "first", "chances"),
    [
        ({"poisson": 3.0}, 0, [math.exp(-3) * 3**k / math.factorial(k) for k in range(9)]),
        ({"geometric": 5.0}, 1, [0.2 * 0.8**k for k in range(12)]),
        ({"logarithmic": 5.0}, 1, [(1 - gamma(5.0)) ** k / k / math.log(1 / gamma(5.0)) for k in range(1, 13)]),
    ],
)
def test_the_number_of_draws_has_the_distribution_that_its_price_assumes(draws, first, chances):
    section = DrawsSection(**draws)
    found = np.array([number_of_draws(section, key) for key in KEYS])
    assert found.min() >= first
    for number, chance in enumerate(chances, first):
        spread = math.sqrt(chance * (1 - chance) / len(KEYS))
        assert abs(np.mean(found == number) - chance) < 5 * spread
    assert abs(found.mean() - section.mean) < 5 * found.std() / math.sqrt(len(KEYS))


@pytest.fixture
def plan(mapping):
    learner = {"kind": "dpsgd", "epochs": 1, "batch_size": 24, "noise_multiplier": 1.0}
    learner |= {"l2_clip_norm": {"loguniform": [0.1, 1.0]}, "optimizer": {"name": "sgd", "lr": {"choice": [0.1, 0.5]}}}
    search = {"release": "winner", "draws": {"geometric": 9}}
    return check_sweep(
        Sweep.from_mapping(
            mapping
            | {"learners": [learner], "search": search, "seeds": 1, "imbalance": None}
            | {"privacy": {"mode": "release"}}
        )
    )


def test_draws_follow_from_the_key_alone_and_are_as_their_space_says(plan):
    price = WinnerPrice.of(plan)
    some, more = (secret_draws(plan, price, KEYS[1], count).trials for count in (5, 60))
    assert [trial.trial for trial in more[:5]] == [trial.trial for trial in some]
    others = secret_draws(plan, price, KEYS[2], 60).trials
    assert not {trial.trial for trial in more} & {trial.trial for trial in others}
    for trials in (more, others):
        clips = np.log10([trial.config.learner.l2_clip_norm for trial in trials])
        assert abs(clips.mean() + 0.5) < 5 * 0.29 / math.sqrt(60)
        rates = [trial.config.learner.optimizer.lr for trial in trials]
        assert abs(rates.count(0.1) - 30) < 5 * math.sqrt(15)
        seeds = [trial.config.seeds for trial in trials]
        assert {one.data for one in seeds} == {0}
        # A seed tells nothing of how many draws came before it.
        assert min(one.train for one in seeds) > 2**40
        assert len({one.train for one in seeds}) == 60
        assert max(one.train for one in seeds) < 2**53
    assert secret_draws(plan, price, KEYS[1], 0).trials == ()
    assert len(plan.trials) < 60  # what was checked beforehand is as it was
