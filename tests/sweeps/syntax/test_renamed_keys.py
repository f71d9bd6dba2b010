"""Keys that were renamed: a new file gets an error that names the new one, an old output folder goes on."""

import json
import re

import pytest
from ruamel.yaml import YAML

from fairsweep.analysis.records.files import read_json, write_json
from fairsweep.sweeps.copies.resuming import resume_sweep
from fairsweep.sweeps.execution.extending import extend_sweep
from fairsweep.sweeps.planning.preflight import check_sweep
from fairsweep.sweeps.search.search_budget import study_names
from fairsweep.sweeps.spec.search_space import SearchSpace
from fairsweep.sweeps.store.difference import difference_of
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.syntax.renamed_keys import with_current_names, with_former_names

ACCURACY = {"max": "accuracy"}
MODE = {"performance": {"gradient_mode": "expanded_weights"}}
INNER = {"kind": "dpsgd", "epochs": 1, "batch_size": 24, "noise_multiplier": 1.0} | MODE
LEARNERS = [
    {"name": "private", "optimizer": {"name": "sgd", "lr": {"uniform": [0.1, 0.2]}}} | INNER,
    {"name": "forgets", "kind": "sisa", "shards": 2, "slices": 1, "epochs": 1, "inner": INNER},
]
SECTIONS = {
    "search": {"algorithm": "random", "samples": 2, "seed": 4},
    "scheduler": {"grace_period": 2, "min_trials": 4},
    "stop": {"plateau": {"objective": ACCURACY, "patience": 3, "min_delta": 0.5}},
}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"search": {"key": 3}}, "search.key: key is now called seed: write seed: 3"),
        ({"search": {"startup": 2}}, "search.startup: startup is now called startup_trials: write startup_trials: 2"),
        ({"scheduler": {"grace": 2}}, "scheduler.grace: grace is now called grace_period: write grace_period: 2"),
        ({"scheduler": {"least": 2}}, "scheduler.least: least is now called min_trials: write min_trials: 2"),
        ({"stop": {"plateau": {"least": 0.1}}}, "stop.plateau.least: least is now called min_delta: write min_delta: "),
        (
            {"learners": [{"kind": "dpsgd", "performance": {"gradient_mode": {"grid": ["ew", "hooks"]}}}]},
            "learners[0].performance.gradient_mode.grid[0]: gradient_mode ew is now called expanded_weights",
        ),
    ],
)
def test_a_former_key_is_refused_with_todays_name(mapping, changes, told):
    with pytest.raises(SweepError, match=re.escape(told)):
        Sweep.from_mapping(mapping | changes)


def test_the_line_of_a_former_key_is_named(sweep_text, tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text(sweep_text(tmp_path / "out") + "scheduler:\n  grace: 2\n")
    line = len(file.read_text().splitlines())
    with pytest.raises(SweepError, match=rf"line {line}: scheduler\.grace: grace is now called grace_period"):
        Sweep.from_yaml(file)


def test_translation_has_an_inverse():
    content = SECTIONS | {"learners": LEARNERS, "seeds": 2}
    former = with_former_names(content)
    assert former["search"] == {"algorithm": "random", "samples": 2, "key": 4}
    assert former["scheduler"] == {"grace": 2, "least": 4}
    assert '"ew"' in json.dumps(former)
    assert "expanded_weights" not in json.dumps(former)
    assert with_current_names(former) == with_current_names(content) == content


def test_the_name_of_a_known_search_never_changes():
    """The hash was computed by the version before the keys were renamed: a search of that version goes on."""
    sweep = Sweep(
        dataset={"path": "/x", "label": "smiling", "groups": ["tone"]},
        learners=[{"name": "private"} | INNER | {"noise_multiplier": {"uniform": [0.5, 2.0]}}],
        search={"algorithm": "tpe", "samples": 3, "seed": 4, "startup_trials": 2, "objectives": [ACCURACY]},
    )
    assert study_names(sweep, ["c"], SearchSpace(sweep)) == ("sweep (ee0cf2)",)


@pytest.fixture
def old_folder(mapping, run_here, tmp_path):
    """A finished sweep of three trials whose files were written when the keys had their former names."""
    content = mapping | SECTIONS | {"learners": LEARNERS, "seeds": 1, "imbalance": None}
    with (tmp_path / "sweep.yaml").open("w") as file:
        YAML(typ="safe").dump(content, file)
    folder = run_here(tmp_path / "sweep.yaml")
    former = with_former_names(content)
    with (folder / "sweep.yaml").open("w") as file:
        YAML(typ="safe").dump(former, file)
    said = read_json(folder / "sweep.json")
    said |= {"sweep": with_former_names(said["sweep"]), "file": (folder / "sweep.yaml").read_text()}
    write_json(folder / "sweep.json", said)
    for file in (*folder.glob("trials/*/config.json"), *folder.glob("trials/*/data.json")):
        write_json(file, json.loads(json.dumps(read_json(file)).replace('"expanded_weights"', '"ew"')))
    assert '"ew"' in "".join(file.read_text() for file in folder.glob("trials/*/config.json"))
    return folder


@pytest.mark.parametrize("lost", [(), ("sweep.json",), ("sweep.yaml",)])
def test_a_folder_with_former_keys_resumes_as_all_done(old_folder, lost):
    for name in lost:
        (old_folder / name).unlink()
    sweep, _ = resume_sweep(old_folder)
    plan = check_sweep(sweep)
    assert (sweep.search.seed, sweep.scheduler.grace_period, sweep.scheduler.min_trials) == (4, 2, 4)
    assert sweep.stop.plateau.min_delta == 0.5
    assert len(plan.trials) == 3
    assert not OutputFolder.at(old_folder).ledger.missing(plan.trials)
    assert difference_of(sweep).lines() == []


def test_a_folder_with_former_keys_is_extended(old_folder):
    extended = extend_sweep(old_folder, trials=1)
    assert extended.sweep.search.samples == 3
    missing = OutputFolder.at(old_folder).ledger.missing(check_sweep(extended.sweep).trials)
    assert [trial.config.learner.name for trial in missing] == ["private"]
    assert "samples: 3" in extended.text
    assert "key: 4" in extended.text
