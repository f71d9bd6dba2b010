"""The sections checkpoints and failures: a budget in bytes, divided among the trials that run at once."""

import pytest

from fairsweep.sweeps.plan import plan_sweep
from fairsweep.sweeps.planning.preflight import check_sweep
from fairsweep.sweeps.spec.fault_tolerance import CheckpointsSection
from fairsweep.sweeps.store.ledger import Ledger
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError


@pytest.mark.parametrize(("words", "count"), [("2GB", 2 * 10**9), ("1.5 MB", 1_500_000), ("1KiB", 1024), (77, 77)])
def test_a_budget_is_given_in_words_or_bytes(words, count, mapping):
    mapping["checkpoints"] = {"budget": words, "keep": 3}
    sweep = Sweep.from_mapping(mapping)
    assert sweep.checkpoints.budget == count
    assert Sweep.from_mapping(sweep.model_dump(mode="json")).checkpoints == sweep.checkpoints


def test_trials_that_run_at_once_share_a_budget():
    section = CheckpointsSection(budget="1MB", keep=4)
    assert section.policy(4).budget_bytes == 250_000
    assert section.policy(4, held_bytes=200_000).budget_bytes == 200_000
    assert section.policy(4, held_bytes=2_000_000).budget_bytes == 1  # the newest stays all the same
    assert CheckpointsSection().policy(4).budget_bytes is None


@pytest.mark.parametrize("budget", ["nothing", 0, -5])
def test_a_wrong_budget_is_refused(budget, mapping):
    with pytest.raises(SweepError, match=r"checkpoints\.budget"):
        Sweep.from_mapping(mapping | {"checkpoints": {"budget": budget}})


def test_a_budget_that_cannot_hold_two_of_each_running_trial_is_refused_before_the_start(mapping, tmp_path):
    # 130 parameters, 12 bytes each, twice, for one trial at once.
    mapping |= {"resources": {"max_concurrent": 1}, "checkpoints": {"budget": 2 * 12 * 130 - 1}}
    with pytest.raises(SweepError, match=r"3\.12 kB, two checkpoints of each of the 1 trials"):
        plan_sweep(Sweep.from_mapping(mapping))
    with pytest.raises(SweepError, match="budget"):
        Sweep.from_mapping(mapping).run(quiet=True)
    assert not (tmp_path / "out").exists()
    mapping["checkpoints"]["budget"] += 1
    plan_sweep(Sweep.from_mapping(mapping))


def test_checkpoints_of_trials_that_wait_count(mapping, tmp_path):
    trials = check_sweep(Sweep.from_mapping(mapping)).trials[:3]
    ledger = Ledger(tmp_path)
    for size, entry in zip((100, 300, 200), ledger.queue(trials).values(), strict=True):
        (entry.folder / "checkpoints").mkdir()
        (entry.folder / "checkpoints" / "000001.pt").write_bytes(bytes(size))
    assert [ledger.waiting_bytes(at_once) for at_once in (0, 1, 2, 3, 9)] == [600, 300, 100, 0, 0]
