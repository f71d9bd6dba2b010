"""The live view of a guided search shows the best so far of what the search is after, below Ray."""

import io
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from fairsweep.analysis.records.cell_records import count_cells, write_cells
from fairsweep.analysis.records.files import read_json
from fairsweep.analysis.records.vocabularies import Vocabulary
from fairsweep.datasets.feeds.feed_choice import FeedChoice
from fairsweep.sweeps.execution import guided_trials
from fairsweep.sweeps.execution import run as running_sweeps
from fairsweep.sweeps.execution.guided_trials import GuidedTrials
from fairsweep.sweeps.execution.trial_queue import TrialQueue
from fairsweep.sweeps.planning.preflight import check_sweep
from fairsweep.sweeps.store.listing import list_sweeps
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.views.display import render
from fairsweep.sweeps.views.lines import Lines
from fairsweep.sweeps.views.notebook import panel

VOCABULARIES = [Vocabulary("tone", ("light", "dark")), Vocabulary("smiling", ("no", "yes"))]
TONE, SMILING = np.repeat([0, 1], 20), np.tile([0, 1], 20)


def cells(split, wrong):
    """40 examples, of which so many of each tone are wrong."""
    prediction = SMILING.copy()
    for tone, count in enumerate(wrong):
        prediction[20 * tone : 20 * tone + count] ^= 1
    return count_cells(iteration=3, split=split, groups={"tone": TONE}, label=SMILING, prediction=prediction)


@pytest.fixture
def run(mapping, tmp_path):
    """A search that has asked for three settings of one learner; none of them has ended."""
    mapping["imbalance"]["share"] = 0.7
    mapping["learners"] = [
        {"name": "tuned", "kind": "sgd", "epochs": 3, "optimizer": {"lr": {"loguniform": [0.001, 1.0]}}}
    ]
    mapping["seeds"] = 1
    mapping["search"] = {
        "algorithm": "tpe",
        "samples": 3,
        "batch": 3,
        "objectives": [{"max": "accuracy"}, {"min": "accuracy_difference by tone"}],
    }
    plan, output = check_sweep(Sweep.from_mapping(mapping)), OutputFolder.at(tmp_path / "out")
    output.path.mkdir()
    source = GuidedTrials(plan, output, lambda _: None)
    queue = TrialQueue(plan, source, output, FeedChoice(), 3, lambda _: None)
    asked = [task.config for _, task in (queue.take() for _ in range(3))]
    assert queue.take() is None
    return SimpleNamespace(asked=asked, source=source, queue=queue, progress=queue.progress)


@pytest.mark.parametrize("algorithm", ["tpe", "nsga2"])
def test_a_search_whose_every_proposal_is_refused_says_so_each_time(mapping, tmp_path, algorithm, monkeypatch):
    monkeypatch.setattr(running_sweeps, "connected", lambda address, **_: nullcontext(True))
    monkeypatch.setattr(running_sweeps, "run_trials", None)  # nothing is ever started
    mapping["imbalance"]["share"] = 0.7
    mapping["learners"] = [{"name": "tuned", "kind": "sgd", "epochs": {"randint": [1, 9]}}]
    mapping["search"] = {"algorithm": algorithm, "samples": 5, "objectives": [{"max": "accuracy"}]}
    sweep = Sweep.from_mapping(mapping)

    def refuse(*_):
        raise ValueError("epochs 3 must not be")

    monkeypatch.setattr(guided_trials, "plan_trials", refuse)
    for _ in range(2):  # a resume says the same
        with pytest.raises(SweepError, match=r"all 5 settings that \w+ proposed were refused.*epochs 3 must not be"):
            sweep.run(quiet=True)
    output = tmp_path / "out"
    assert read_json(output / "sweep.json")["refused"] == {"epochs 3 must not be": 5}
    assert list_sweeps(output)[0].counts["queued"] == 0


def end(run, number, validation, test):
    """A trial ends, with so many wrong on each split, and the search is told."""
    trial = run.asked[number].trial
    entry = run.queue.queued[trial]
    tables = [cells("validation", validation), cells("test", test)]
    write_cells(entry.folder / "cells.parquet", pa.concat_tables(tables), VOCABULARIES, "smiling")
    entry.file.mark({"state": "done", "iteration": 3})
    run.progress.rows[trial].stage = "done"
    run.queue.ended(trial, False)
    run.queue.take()
    return run.progress.rows[trial].label


def best(run):
    """What each view says of the best so far, one line each."""
    console = Console(file=io.StringIO(), width=140)
    console.print(render(run.progress, 40, 140))
    Lines(run.progress, console).say_whole()
    table, whole = console.file.getvalue().rsplit("[", 1)
    return [line.strip() for line in table.splitlines() if line.startswith("best")], whole, panel(run.progress)


def test_nothing_is_best_before_a_trial_has_ended(run):
    run.progress.rows[run.asked[0].trial].stage = "running"
    run.progress.rows[run.asked[0].trial].metrics = {"accuracy": 0.99, "worst_group": 0.9}
    lines, whole, html = best(run)
    assert lines == []
    assert "best" not in whole
    assert "best" not in html


def test_the_description_is_read_only_when_the_search_has_news(run, monkeypatch):
    read, description = [], OutputFolder.description
    monkeypatch.setattr(OutputFolder, "description", lambda output: read.append(output) or description(output))
    for _ in range(20):  # as often as Tune asks
        assert run.queue.take() is None
    assert read == []


def test_the_best_of_each_objective_is_that_of_the_validation_split(run):
    # On the test split the first one would be best in both.
    fair = end(run, 0, validation=(8, 8), test=(0, 0))
    exact = end(run, 1, validation=(1, 5), test=(9, 1))
    lines, whole, html = best(run)
    assert lines == [f"best accuracy 0.85  {exact}", f"best accuracy_difference by tone 0  {fair}"]
    assert f"best accuracy 0.85 ({exact})" in whole
    assert f"best accuracy <b>0.85</b> {exact}" in html
    assert f"best accuracy_difference by tone <b>0</b> {fair}" in html
    better = end(run, 2, validation=(2, 3), test=(9, 9))
    assert best(run)[0][0] == f"best accuracy 0.875  {better}"
