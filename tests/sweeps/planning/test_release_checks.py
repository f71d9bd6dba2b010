"""What release mode refuses before anything starts, and what it takes."""

import pytest

from fairsweep.sweeps.planning.preflight import check_sweep
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError

PRIVATE = {"kind": "dpsgd", "epochs": 1, "batch_size": 24, "noise_multiplier": 1.0}
CLIENTS = {"kind": "dpfedavg", "rounds": 2, "noise_multiplier": 1.0, "clients": {"partition": "iid", "count": 9}}
GUIDED = {"algorithm": "tpe", "samples": 2, "objectives": [{"max": "accuracy"}]}
SEARCHED = {"learners": [PRIVATE | {"l2_clip_norm": {"uniform": [0.1, 1.0]}}]}


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
