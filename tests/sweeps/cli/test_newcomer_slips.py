"""Slips of people who come from other tools: each is refused in one line that says what to write instead."""

import re

import numpy as np
import pytest

from fairsweep import analysis
from fairsweep.datasets.storage.layout import DatasetError
from fairsweep.datasets.storage.writing import check_target
from fairsweep.sweeps.planning.preflight import check_sweep
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.syntax.sweep_file import SweepSource

BASE = """\
dataset: {path: data, label: smiling, groups: [tone]}
imbalance: IMBALANCE
learners: [{name: tuned, kind: sgd, epochs: EPOCHS, batch_size: 16, optimizer: {name: sgd, lr: LR}}]
"""


def _refused(tmp_path, more="", **values):
    text = BASE
    for name, default in {"IMBALANCE": "null", "EPOCHS": "1", "LR": "0.1"}.items():
        text = text.replace(name, values.get(name.lower(), default))
    (tmp_path / "sweep.yaml").write_text(text + more)
    with pytest.raises(SweepError) as caught:
        Sweep.from_yaml(tmp_path / "sweep.yaml")
    assert len(caught.value.each) == 1, [str(one) for one in caught.value.each]
    return str(caught.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"epochs": "[1, 2]"}, "to try each, write {grid: [1, 2]}"),
        ({"lr": "'0.1,0.01'"}, "to try each, write {grid: [0.1, 0.01]}"),
        ({"imbalance": "{attribute: tone, majority: light, share: 90%, size: 20}"}, "write 0.9"),
        ({"imbalance": "{attribute: tone, majority: light, share: 0.5, size: '4,000'}"}, "write 4000"),
        (
            {"imbalance": "{attribute: tone, majority: light, share: 0,5, size: 20}"},
            "written with a point",
        ),
        ({"imbalance": "!include other.yaml"}, "tags such as !include are not read"),
        ({"epochs": "{grid: []}"}, "grid needs a list of values"),
        ({"epochs": "{gird: [1, 2]}"}, "did you mean {grid: [1, 2]}?"),
        ({"more": "privacy: {delta: 1e-5}"}, "unknown key 'delta': it is a field of a learner"),
        ({"more": "epsilon: 3"}, "unknown key 'epsilon': it is a field of a learner"),
        ({"more": "seeds: {dat: 2}"}, "unknown key 'dat': did you mean 'data'?"),
        ({"more": "tracking: [comet]"}, "there is no tracker 'comet': known: tensorboard, wandb"),
    ],
)
def test_a_slip_is_one_line_that_says_what_to_write(tmp_path, values, said):
    assert said in _refused(tmp_path, **values)


def test_a_list_is_no_grid_where_a_field_cannot_be_searched(tmp_path):
    assert "{grid" not in _refused(tmp_path, more="resources: {cpu: [1, 2]}")


def test_an_empty_list_is_refused_in_our_words(mapping):
    mapping["dataset"] = dict(mapping["dataset"], groups=[])
    with pytest.raises(SweepError, match=r"groups: must have at least 1 item, but got \[\]"):
        Sweep(**mapping)


def test_what_is_no_sweep_file_says_what_it_is(tmp_path):
    with pytest.raises(SweepError, match="is a folder, not a sweep file"):
        SweepSource.read(tmp_path)
    (tmp_path / "sweep.yaml").write_bytes("name: café\n".encode("latin-1"))
    with pytest.raises(SweepError, match="must be UTF-8"):
        SweepSource.read(tmp_path / "sweep.yaml")
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "sweep.yaml").write_text("name: x")
    with pytest.raises(SweepError, match="is a sweep's output folder, not its file; resume with: fairsweep resume '"):
        SweepSource.read(tmp_path / "a b")


@pytest.mark.parametrize(
    ("constraint", "said"),
    [
        ("accuracy >= 90", "accuracy >= 90 can never hold, because accuracy lies between 0 and 1"),
        ("equalized_odds_difference by tone <= -0.1", "can never hold"),
    ],
)
def test_a_constraint_that_can_never_hold_is_refused_by_the_plan(mapping, constraint, said):
    learner = {"name": "tuned", "kind": "sgd", "epochs": 1, "optimizer": {"name": "sgd", "lr": {"uniform": [0.1, 1.0]}}}
    search = {"algorithm": "tpe", "samples": 2, "objectives": [{"max": "accuracy"}], "constraints": [constraint]}
    with pytest.raises(SweepError, match="constraints") as caught:
        check_sweep(Sweep(**(mapping | {"learners": [learner], "search": search})))
    assert said in str(caught.value)


def test_nothing_is_written_into_a_prepared_dataset(mapping, toy_path):
    with pytest.raises(DatasetError, match="is inside the prepared dataset"):
        check_target(toy_path / "inner" / "more")
    from fairsweep.sweeps.store.output import OutputFolder

    with pytest.raises(SweepError, match="is inside the prepared dataset"):
        OutputFolder.at(toy_path / "out").check(name="x", content=(), trials=(), needed_bytes=0)


@pytest.mark.parametrize("command", ["track", "retry-failed", "prune"])
def test_commands_for_sweeps_know_a_dataset_when_they_see_one(fairsweep, toy_path, command):
    code, out, err = fairsweep(command, str(toy_path))
    assert code == 2
    assert "is a prepared dataset, not a sweep" in out + err


def test_a_file_is_no_sweep_to_track(fairsweep, tmp_path):
    (tmp_path / "a.yaml").write_text("name: x")
    code, _, err = fairsweep("track", str(tmp_path / "a.yaml"))
    assert (code, "it is a file" in err) == (2, True)


def test_ctrl_c_is_said_and_is_no_silence(fairsweep, monkeypatch):
    """Typer makes an exit code of it; only a sweep that runs has words of its own."""

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("fairsweep.sweeps.store.listing.list_sweeps", interrupted)
    assert fairsweep("ls") == (130, "", "fairsweep: stopped\n")


def test_a_missing_argument_leads_to_the_help(fairsweep):
    code, _, err = fairsweep("plan")
    assert code == 2
    assert "fairsweep plan --help" in err


@pytest.mark.parametrize(
    "words",
    [
        ("report", "runs/x", "--to", "nowhere/page.html"),
        ("compare", "runs/x", "runs/y", "--html", "nowhere/page.html"),
        ("predict", "runs/x", "plain", "--images", "photos", "--to", "nowhere/a.csv"),
        ("export", "runs/x", "plain", "--to", "nowhere/a.pt2"),
    ],
    ids=lambda words: words[0],
)
def test_a_file_in_a_folder_that_does_not_exist_is_refused_before_any_work(fairsweep, words):
    """The work was done first, and lost; the message named a temporary file."""
    code, _, err = fairsweep(*words)
    assert code == 2
    assert f"cannot write {words[-1]}: there is no folder nowhere; make it, or name a file elsewhere" in err


def test_an_undefined_answer_says_why(fairsweep, tmp_path):
    label, tone = np.arange(80) % 2, np.arange(80) // 2 % 2
    analysis.from_predictions(label, np.zeros(80, int), {"tone": tone}, to=tmp_path / "collapsed")
    code, out, _ = fairsweep("report", tmp_path / "collapsed")
    assert code == 0
    assert re.search(r"undefined: .* is undefined\.\n  \S.* predicts one class for every test example", out)
