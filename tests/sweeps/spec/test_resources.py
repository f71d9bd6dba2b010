"""What a trial may be given."""

import pytest

from fairsweep.sweeps.planning.machines import Machine, check_resources, slots
from fairsweep.sweeps.planning.preflight import check_sweep
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError


@pytest.mark.parametrize("name", ["gpu", "worker_gpu"])
@pytest.mark.parametrize("word", ["auto", "half"])
def test_a_part_of_a_gpu_is_a_number(mapping, name, word):
    with pytest.raises(SweepError, match=rf"resources\.{name}: it must be a number, but got '{word}': write 0.25"):
        Sweep.from_mapping(mapping | {"resources": {name: word}})


@pytest.mark.parametrize("amount", [-1, 1.5])
def test_a_number_that_no_trial_can_have_is_refused(mapping, amount):
    with pytest.raises(SweepError, match=r"greater than or equal to 0|must be a fraction below 1 or a whole number"):
        Sweep.from_mapping(mapping | {"resources": {"gpu": amount}})


def test_a_trial_that_no_machine_can_run_is_refused_with_the_numbers(mapping):
    trials = check_sweep(Sweep.from_mapping(mapping | {"resources": {"cpu": 0.5, "gpu": 0.25}})).trials
    check_resources(trials, [Machine(1, 0), Machine(8, 1)])
    with pytest.raises(
        SweepError, match=r"'private' needs cpu=0.5, gpu=0.25 on one machine, but there is cpu=8, gpu=0"
    ):
        check_resources(trials, [Machine(8, 0)])


def test_as_many_trials_run_at_once_as_fit_as_are_allowed_and_as_there_are(mapping):
    trials = check_sweep(Sweep.from_mapping(mapping | {"resources": {"cpu": 0.5, "gpu": 0.25}})).trials
    assert slots(trials, [Machine(8, 1), Machine(1, 2)], None) == 6
    assert slots(trials, [Machine(8, 1)], 3) == 3
    assert slots(trials[:2], [Machine(8, 1)], None) == 2
    assert slots(trials[:2], [Machine(8, 1)], None, count=100) == 4
