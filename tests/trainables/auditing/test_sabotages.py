"""Every private learner with every sampler keeps its claim under audit, and every sabotage is caught."""

import importlib.util
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "sabotages.py"
_SPEC = importlib.util.spec_from_file_location("sabotages", _SCRIPT)
sabotages = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(sabotages)


@pytest.fixture(autouse=True)
def one_thread():
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", sabotages.HONEST)
def test_no_audit_exceeds_what_is_claimed(name):
    found = sabotages.audit_canaries(sabotages.HONEST[name])
    assert not found.refuted
    assert max(found.one_run, found.bound) <= found.claimed


@pytest.mark.parametrize("name", sabotages.WORST_CASES)
def test_no_worst_case_exceeds_what_is_claimed(name):
    found = sabotages.WORST_CASES[name]()
    assert not found.refuted
    assert found.bound <= found.claimed


@pytest.mark.parametrize("name", sabotages.SABOTAGES)
def test_every_sabotage_is_caught(name):
    found = sabotages.SABOTAGES[name]()
    assert found.refuted


def test_bounds_are_far_from_trivial():
    assert sabotages.audit_canaries(sabotages.HONEST["dpsgd full batches"]).bound > 0.5
    assert sabotages.SABOTAGES["noise halved"]().bound > sabotages.SABOTAGES["noise halved"]().claimed
