"""One sweep through its life: run, killed, resumed, extended, reported, compared with an undisturbed one, loaded."""

import json
import time

import pytest

LEARNERS = [
    {
        "name": "private",
        "kind": "dpsgd",
        "epochs": 20,
        "batch_size": 16,
        "noise_multiplier": 1.0,
        "performance": {"gradient_mode": "hooks"},
    },
    {"name": "matched", "twin_of": "private"},
]
SWEEP = {
    "dataset": {"path": "data/faces", "label": "smiling", "groups": ["tone"]},
    "imbalance": {"attribute": "tone", "majority": "light", "share": {"grid": [0.5, 0.9]}, "size": 60},
    "model": {"name": "linear"},
    "learners": LEARNERS,
    "resources": {"cpu": 1, "max_concurrent": 1},
    "checkpoints": {"every": 5, "seconds": 0},
}


@pytest.fixture
def sweep(user, prepared):
    """Four trials, one after the other, and the same sweep with two seeds to run through undisturbed."""
    prepare = ["prepare", "faces", "--to", "data/faces"]
    prepared(prepare)
    user.write("life.yaml", SWEEP | {"name": "life"})
    user.write("calm.yaml", SWEEP | {"name": "calm", "seeds": 2})
    return user.folder / "runs/life"


def states(folder):
    return {path.parent.name: json.loads(path.read_text()) for path in folder.glob("trials/*/state.json")}


def ended(folder):
    return {name for name, state in states(folder).items() if state["state"] == "done"}


def test_a_sweep_outlives_its_driver_and_grows(user, sweep):
    driver = user.start("run", "life.yaml")
    until = time.monotonic() + 300
    while not ended(sweep) and driver.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    driver.kill()
    assert driver.wait() == -9, (user.folder / "started.log").read_text()
    done = ended(sweep)
    assert 1 <= len(done) < 4
    before = {name: (sweep / "trials" / name / "cells.parquet").stat().st_mtime_ns for name in done}

    (line,) = [line for line in user.listed("runs") if line["name"] == "life"]
    assert line["holder"] is None
    assert line["counts"]["done"] == len(done)
    assert "--table)" in user.fairsweep("resume", "runs/life")
    assert len(ended(sweep)) == 4
    assert {name: (sweep / "trials" / name / "cells.parquet").stat().st_mtime_ns for name in done} == before

    user.fairsweep("extend", "runs/life", "--seeds", 2, "--yes")
    assert len(ended(sweep)) == 8
    assert {name: (sweep / "trials" / name / "cells.parquet").stat().st_mtime_ns for name in done} == before

    assert "the 4 private trials together cost ε = " in user.fairsweep("privacy", "runs/life")
    said = user.fairsweep("report", "runs/life", "--to", "life report.html")
    assert "Report: life report.html" in said
    assert "whose prediction depends on the seed" in (user.folder / "life report.html").read_text()
    user.fairsweep("run", "calm.yaml", "--quiet")
    said = user.fairsweep("compare", "runs/calm", "runs/life", "--html", "both.html")
    assert (user.folder / "both.html").stat().st_size > 10_000
    assert "8 trials are in both sweeps (same hash); all of them have the same test counts" in said
    loaded = user.loaded("runs/calm", "runs/life")
    assert loaded["runs/life"] == loaded["runs/calm"]
    assert loaded["runs/life"]["trials"] == 8
    between = {(row["series"], row["level"], row["group"]): row["value"] for row in loaded["runs/life"]["disagreement"]}
    assert len(between) == 2 * 2 * 2  # learners, levels, groups
    assert all(0 <= value <= 1 for value in between.values())
    assert any(between.values())


def test_a_sweep_whose_trials_train_side_by_side_has_the_results_of_single_trials(user, sweep):
    learners = [{**LEARNERS[0], "epochs": 2, "performance": {"gradient_mode": "bookkeeping"}}, LEARNERS[1]]
    for name, stack in (("beside", "auto"), ("alone", 1)):
        resources = {"max_concurrent": 1, "stack": stack}
        user.write(f"{name}.yaml", SWEEP | {"name": name, "learners": learners, "resources": resources})
        assert "--table)" in user.fairsweep("run", f"{name}.yaml")
    ours, theirs = (states(user.folder / "runs" / name) for name in ("beside", "alone"))
    assert ours.keys() == theirs.keys()
    assert {state["state"] for state in ours.values()} == {"done"}
    for name, state in ours.items():
        for metric in ("accuracy", "worst_group", "epsilon"):
            assert state["metrics"][metric] == theirs[name]["metrics"][metric]
    user.fairsweep("run", "beside.yaml")
    assert states(user.folder / "runs/beside") == ours  # nothing is left to run
