"""The commands on results, on a folder that looks like a sweep's."""

import numpy as np
import pyarrow as pa
import pytest

from fairsweep.analysis.records.cell_records import count_cells, write_cells
from fairsweep.analysis.records.file_names import CELLS, CONFIG, DATA, REPORT, STATE, SWEEP_JSON, TRIALS
from fairsweep.analysis.records.files import write_json
from fairsweep.analysis.records.vocabularies import Vocabulary


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two sweeps of one trial each; the second one is right more often."""
    made = []
    for name, wrong, rate in (("a", 6, 0.1), ("b", 2, 0.2)):
        folder = tmp_path_factory.mktemp("runs") / name
        trial = folder / TRIALS / "sgd_s0"
        trial.mkdir(parents=True)
        tone, label = np.repeat([0, 1], 20), np.tile([0, 1], 20)
        prediction = np.where(np.arange(40) % 20 < wrong, 1 - label, label)
        cells = count_cells(iteration=1, split="test", groups={"tone": tone}, label=label, prediction=prediction)
        vocabularies = [Vocabulary("tone", ("light", "dark")), Vocabulary("smiling", ("no", "yes"))]
        write_cells(trial / CELLS, pa.concat_tables([cells]), vocabularies, "smiling")
        learner = {"name": "sgd", "kind": "sgd", "optimizer": {"lr": rate}}
        config = {"learner": learner, "seeds": {"data": 0, "train": 0}, "replicate": 0, "setting": name, "trial": name}
        write_json(trial / CONFIG, config)
        write_json(trial / STATE, {"trial": name, "state": "done", "iteration": 1, "iterations": 1})
        write_json(trial / DATA, {"size": 100, "counts": [], "hashes": {"test": "same"}})
        write_json(folder / SWEEP_JSON, {"name": f"sweep {name}", "versions": {"torch": name}})
        made.append(folder)
    return made


def test_two_sweeps_are_compared(fairsweep, folders, tmp_path):
    code, out, err = fairsweep("compare", *folders, "--html", tmp_path / "c.html")
    assert (code, err) == (0, "")
    assert "1 pair of trials shares its seeds and differs in its config." in out
    assert "config: learner.optimizer.lr: 0.1 → 0.2" in out
    assert "version: torch: a → b" in out
    assert "+20.0" in out
    assert (tmp_path / "c.html").stat().st_size > 1_000_000


def test_a_report_goes_where_it_is_told(fairsweep, folders, tmp_path):
    options = ("--to", tmp_path / "r.html", "--pictures", "--min-group-size", 21)
    code, out, _ = fairsweep("report", folders[0], *options)
    assert code == 0
    assert "Too small to be ranked, with fewer than 21 test images (min_group_size): tone = light (20)" in out
    assert f"Report: {tmp_path / 'r.html'}" in out
    assert (tmp_path / "r.html").is_file()
    assert not (folders[0] / REPORT).exists()


@pytest.mark.parametrize("command", [("report",), ("compare", ".")])
def test_what_holds_no_sweep_is_refused(fairsweep, command, tmp_path):
    code, out, err = fairsweep(*command, tmp_path)
    assert (code, out) == (2, "")
    assert "is not a sweep folder" in err


def test_records_that_are_not_as_documented_are_told(fairsweep, folders, tmp_path):
    """These folders hold what a comparison needs, and little else."""
    code, out, _ = fairsweep("check", folders[0])
    assert code == 1
    assert "sgd_s0/training.parquet: it is missing" in out
    assert "sgd_s0/config.json: it must have the member mode (text): `research` or `release`" in out
    code, _, err = fairsweep("check", tmp_path)
    assert code == 2
    assert "no sweep" in err or "not a sweep" in err
