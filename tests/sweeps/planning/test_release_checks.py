"""What release mode refuses before anything starts, and what it takes."""

import pytest

from fairsweep.sweeps.planning.preflight import check_sweep
from fairsweep.sweeps.planning.winner_price import WinnerPrice
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError

PRIVATE = {"kind": "dpsgd", "epochs": 1, "batch_size": 24, "noise_multiplier": 1.0}
CLIENTS = {"kind": "dpfedavg", "rounds": 2, "noise_multiplier": 1.0, "clients": {"partition": "iid", "count": 9}}
GUIDED = {"algorithm": "tpe", "samples": 2, "objectives": [{"max": "accuracy"}]}
SEARCHED = {"learners": [PRIVATE | {"l2_clip_norm": {"uniform": [0.1, 1.0]}}]}


IMBALANCE = {"attribute": "tone", "majority": "light", "size": 120}
WINNER = {"release": "winner", "draws": {"geometric": 9}}
HALVING = {"kind": "asha", "objectives": [{"max": "accuracy"}]}
CUT = {"sampler": "truncated_poisson", "max_batch_size": 60, "noise_multiplier": 4.0}
BUDGET = {"privacy": {"mode": "release", "epsilon_sweep": 3.0}}
BUDGET |= {"learners": [{"kind": "dpsgd", "epochs": 1, "l2_clip_norm": {"uniform": [0.1, 1.0]}}]}
SHARDS = {"kind": "sisa", "shards": 2, "slices": 1, "epochs": 1}
SHARDS |= {"inner": PRIVATE | {"l2_clip_norm": {"uniform": [0.1, 1.0]}}}


@pytest.fixture
def release(mapping):
    return mapping | {"learners": [PRIVATE], "privacy": {"mode": "release"}}


def test_a_release_of_private_learners_names_its_dataset_by_what_is_public(release, mapping):
    research = mapping | {"learners": [PRIVATE]}
    plans = [check_sweep(Sweep.from_mapping(content)) for content in (release, research)]
    assert plans[0].content == (plans[0].dataset.public_hash,)
    assert plans[1].content == (plans[1].dataset.info.content_hash,)
    recorded = [plan.trials[0].config.record()["dataset"]["content_hash"] for plan in plans]
    assert recorded == [plan.content[0] for plan in plans]
    assert plans[0].dataset.info.content_hash not in str(plans[0].trials[0].config.record())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"learners": [PRIVATE, {"kind": "sgd"}]}, "'sgd' claims none: its weights are exact functions of private"),
        ({"learners": [PRIVATE, {"name": "twin", "twin_of": "dpsgd"}]}, "'twin' claims none"),
        ({"learners": [CLIENTS | {"deployment_cohort": 100}]}, "takes no deployment_cohort, but got 100"),
        ({"learners": [PRIVATE | {"audit": {"canaries": 20}}]}, r"^privacy\.mode: .*: leave audit out$"),
        ({"shadows": 4, "seeds": 1}, r"^privacy\.mode: .*: leave shadows out$"),
        ({"stop": {"seconds": 60}}, "may not end by the time that it takes"),
        (SEARCHED | {"search": GUIDED | {"storage": "sqlite:///a"}}, "a database keeps when each setting"),
        (SEARCHED | {"search": GUIDED | {"storage": "a.db"}}, "a database keeps when each setting"),
        ({"split": {"kind": "folds", "folds": 3, "fold": {"grid": [0, 1]}}}, "split gives 2 test sets"),
    ],
)
def test_what_no_guarantee_covers_is_refused(release, change, said):
    with pytest.raises(SweepError, match=said):
        check_sweep(Sweep.from_mapping(release | change))


DRAWN = PRIVATE | {"l2_clip_norm": {"uniform": [0.1, 1.0]}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"search": {"release": "winner"}}, "release: winner and draws belong together"),
        ({"search": {"draws": {"geometric": 9}}}, "release: winner and draws belong together"),
        ({"search": {"release": "winner", "draws": {"geometric": 9, "poisson": 9}}}, "but got geometric, poisson"),
        ({"search": WINNER | {"samples": 3}}, "takes no samples, no seed and no algorithm but random"),
        ({"search": WINNER | {"seed": 3}}, "takes no samples, no seed and no algorithm but random"),
        ({"search": WINNER | {"algorithm": "tpe"}}, "takes no samples, no seed and no algorithm but random"),
        ({"search": WINNER | {"constraints": ["epsilon <= 3"]}}, "takes no constraints"),
        ({"search": WINNER | {"objectives": [{"min": "epsilon"}]}}, "but epsilon is no metric of it"),
        ({"privacy": {"mode": "research"}}, "needs privacy: {mode: release}"),
        ({"learners": [DRAWN, DRAWN | {"name": "b", "epochs": 2}]}, "takes one learner, but got 2"),
        ({"learners": [DRAWN | {"clipping": {"grid": ["flat", "per_layer"]}}]}, "takes no grid"),
        ({"imbalance": IMBALANCE | {"share": {"uniform": [0.5, 0.9]}}}, "every draw trains on the same examples"),
        ({"seeds": 2}, "leave seeds and shadows out"),
        ({"scheduler": HALVING}, "takes no scheduler"),
        ({"stop": {"epsilon": 2.0}}, "trains every draw to its planned end"),
        ({"mirror": {"to": "copies"}}, "takes no mirror"),
        ({"tracking": {"files": True}}, "takes no tracking"),
        (BUDGET, "takes the noise of its learner"),
        (
            {"learners": [DRAWN | {"batch_size": {"choice": [12, 24]}}]},
            "every draw of release: winner must cost the same",
        ),
        ({"learners": [DRAWN | CUT]}, "no theorem on the price of the winner for this sampler"),
        ({"learners": [SHARDS]}, r"follows from one plan \(dpsgd, dpfedavg\), but got sisa"),
    ],
)
def test_draws_of_which_the_winner_is_published_are_independent_and_secret(release, change, said):
    imbalance = IMBALANCE | {"share": 0.5}
    content = release | {"learners": [DRAWN], "search": WINNER, "seeds": 1, "imbalance": imbalance}
    assert WinnerPrice.of(check_sweep(Sweep.from_mapping(content))).epsilon().rdp > 0
    with pytest.raises(SweepError, match=said):
        WinnerPrice.of(check_sweep(Sweep.from_mapping(content | change)))
