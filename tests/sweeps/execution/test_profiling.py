"""Estimates for a whole sweep; the comparison with a real one is slow."""

import sys
import time

import pytest

from fairsweep.sweeps.execution.profiling import measure_sweep
from fairsweep.sweeps.store.ledger import Ledger
from fairsweep.sweeps.sweep import Sweep


def test_a_sweep_is_measured_by_learner_and_model_and_leaves_nothing(mapping, tmp_path):
    mapping["learners"] = mapping["learners"][:1] + mapping["learners"][2:]
    mapping["model"] = {"name": {"grid": ["linear", "cnn"]}}
    sweep = Sweep.from_mapping(mapping)
    found = measure_sweep(sweep, limit_seconds=0.2)
    assert {(line.learner, line.model) for line in found.learners} == {
        (learner, model) for learner in ("private", "tuned") for model in ("linear", "cnn")
    }
    assert sum(line.trials for line in found.learners) == 16
    work = sum(line.trials * line.trial_seconds for line in found.learners)
    assert found.hours * 3600 == pytest.approx(
        max(work / found.slots, *(line.trial_seconds for line in found.learners))
    )
    assert found.cache_bytes == 960 * 64
    largest = max(line.cost.checkpoint_bytes for line in found.learners)
    assert found.checkpoint_bytes == largest * 2 * found.slots
    assert not (tmp_path / "out").exists()
    kept = Sweep.from_mapping(mapping | {"checkpoints": {"keep_final_weights": False}})
    assert measure_sweep(kept, limit_seconds=0).weights_bytes == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_estimate_beside_a_real_sweep(mapping, tmp_path, ray_session, capsys):
    """Prints the ratio: how far they are apart depends on what else the machine does."""
    mapping["model"] = {"name": "cnn"}
    for learner in mapping["learners"]:
        if "epochs" in learner:
            learner["epochs"] = 30
    sweep = Sweep.from_mapping(mapping | {"output": str(tmp_path / "out")})
    estimate = measure_sweep(sweep, limit_seconds=3)
    began = time.monotonic()
    sweep.run(quiet=True)
    real = time.monotonic() - began
    spent = sum(entry.state.seconds for entry in Ledger(tmp_path / "out").entries().values())
    trained = sum(line.trials * line.cost.iterations * line.cost.iteration_seconds for line in estimate.learners)
    folders = list((tmp_path / "out" / "trials").iterdir())
    models = sum((folder / "weights.pt").stat().st_size for folder in folders)
    records = sum(path.stat().st_size for folder in folders for path in folder.glob("*.parquet"))
    wall = estimate.hours * 3600
    line = f"estimate, real: wall {wall:.1f}, {real:.1f} s ({wall / real:.2f}), training {trained:.1f}, {spent:.1f} s "
    line += f"({trained / spent:.2f}), models {estimate.weights_bytes / models:.2f}, "
    with capsys.disabled():
        sys.stdout.write(f"\n{line}records {estimate.record_bytes / records:.2f}\n")
    assert 0.9 < estimate.weights_bytes / models < 1.1
    assert 0.3 < estimate.record_bytes / records < 5
    assert estimate.hours > 0
