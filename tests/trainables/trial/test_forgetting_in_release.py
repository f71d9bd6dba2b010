"""What a request leaves in a release: no time, every record classed, and a state that is that of the new model."""

import json

import pytest

from fairsweep.analysis.records.cell_records import read_cells
from fairsweep.analysis.records.files import read_json
from fairsweep.analysis.records.learner_records import read_placement
from fairsweep.datasets.preparation.erasure import write_without
from fairsweep.sweeps.execution.forget import describe
from fairsweep.trainables.trial.erasure import erase_from_trial
from fairsweep.trainables.trial.forgetting import forget
from fairsweep.trainables.trial.request_log import RequestLog
from fairsweep.trainables.trial.trial import Trial

INNER = {"kind": "dpsgd", "batch_size": 8, "noise_multiplier": 1.0, "performance": {"gradient_mode": "hooks"}}
LEARNER = {"kind": "sisa", "shards": 2, "slices": 2, "epochs": 1, "inner": INNER}


@pytest.mark.parametrize("mode", ["release", "research"])
def test_times_are_recorded_in_research_alone_and_the_state_follows(make_config, toy, tmp_path, mode):
    folder = tmp_path / "trial"
    Trial(make_config(LEARNER, mode=mode), folder).run()
    before = read_json(folder / "state.json")["metrics"]
    placed = read_placement(folder / "placement.parquet").to_pandas()
    asked = placed[placed["slice"] == 2]["id"].to_numpy()[:2]
    done = forget(folder, asked)
    assert ("nan" in describe(done), describe(done).endswith(" s")) == (False, mode == "research")
    privacy, state = read_json(folder / "privacy.json"), read_json(folder / "state.json")
    now = state["metrics"]
    assert now["epsilon"] == privacy["epsilon"]["pld"] > before["epsilon"]
    assert now["iteration"] == now["iterations"] == state["iteration"] == before["iteration"] + 1
    assert now["loss"] is None
    cost, cells = read_json(folder / "cost.json"), read_cells(folder / "cells.parquet").table.to_pandas()
    assert now["steps"] == before["steps"] + cost["requests"][0]["steps"] > before["steps"]
    seen = cells.query(f"split == 'validation' and iteration == {now['iteration']} and count > 0")
    assert now["predicted_classes"] == seen["prediction"].nunique()
    written = {path.name for path in folder.iterdir() if not path.name.startswith(".")} - {"privacy.json"}
    assert written - {path.name for path in folder.glob("*.lock")} <= set(privacy["reveals"])
    assert ("not recorded in release mode: time" in privacy["reveals"]["requests.jsonl"]) == (mode == "release")
    info = write_without(toy, asked, tmp_path / "data")
    erase_from_trial(folder, asked, tmp_path / "data", info.content_hash)
    named = read_json(folder / "erased.json")["dataset"]["content_hash"]
    assert (named == info.content_hash) == (mode == "research")
    erase_from_trial(folder, asked, tmp_path / "data", info.content_hash)  # a second call changes nothing
    lines = [json.loads(line) for line in (folder / "requests.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["asked", "done", "erased"]
    times = [line["time"] for line in lines] + [lines[1]["cost"]["seconds"], lines[1]["cost"]["full"]["seconds"]]
    assert [time is None for time in times] == [mode == "release"] * 5
    rest = placed[placed["slice"] == 1]["id"].to_numpy()[:1]
    assert forget(folder, rest).served.deleted == 1  # whatever names the new version, the trial finds it


def test_an_entry_of_the_log_without_a_class_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"requests\.jsonl must be classed.*but age is not"):
        RequestLog(tmp_path).append("asked", 1, age=3)
    assert RequestLog(tmp_path).entries() == []
