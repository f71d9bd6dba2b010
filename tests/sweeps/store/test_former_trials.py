"""Trials of values that were edited since: left out of lists, and pruned."""

import pytest

from fairsweep.analysis.records.files import read_json, write_json
from fairsweep.sweeps.execution.failures import failed_trials
from fairsweep.sweeps.plan import plan_sweep
from fairsweep.sweeps.planning.expand import expand
from fairsweep.sweeps.store.difference import difference_of
from fairsweep.sweeps.store.former_trials import find_former
from fairsweep.sweeps.store.listing import list_sweeps, list_trials
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError


@pytest.fixture
def edited(mapping, toy, toy_path, tmp_path):
    """A sweep of 12 trials, 4 of which failed; then one learner's epochs were edited, and 4 new trials are queued."""
    output = OutputFolder.at(tmp_path / "out")
    output.path.mkdir()
    dataset = {"path": str(toy_path), "content_hash": toy.info.content_hash}
    for epochs in (3, 4):
        mapping["learners"][2]["epochs"] = epochs
        sweep = Sweep.from_mapping(mapping)
        trials = expand(sweep, toy)
        members = [trial.trial for trial in trials]
        output.describe("name: toy\n", sweep.model_dump(mode="json"), dataset, len(trials), members)
        for entry in output.ledger.queue(output.ledger.missing(trials)).values():
            failed = entry.folder.name.startswith("tuned") and epochs == 3
            entry.file.mark({"state": "failed", "error": "lost"} if failed else {"state": "done"})
    return output.path


def test_lists_are_of_the_sweep_as_it_stands(edited):
    (line,) = list_sweeps(edited)
    assert (line.trials, line.counts["done"], line.counts["failed"]) == (12, 12, 0)
    assert len(list_trials(edited)) == 12
    assert len(list_trials(edited, former=True)) == 16
    assert list_sweeps(edited, former=True)[0].counts["failed"] == 4
    assert not failed_trials(edited) & {entry.state.trial for entry in find_former(edited)}


def test_prune_lists_asks_and_removes(edited, fairsweep):
    before = sorted(path.name for path in (edited / "trials").iterdir())
    code, out, err = fairsweep("prune", edited)
    assert code == 2
    assert "confirm with --yes where there is no terminal" in err
    assert out.count("failed  tuned") == 4
    assert sorted(path.name for path in (edited / "trials").iterdir()) == before
    assert "4 trials of earlier versions of the sweep are left out" in fairsweep("ls", edited)[1]
    with OutputFolder.at(edited).held():
        assert "is in use by another running sweep" in fairsweep("prune", edited, "--yes")[2]
    code, out, _ = fairsweep("prune", edited, "--yes")
    assert (code, out.splitlines()[-1]) == (0, "deleted 4")
    assert find_former(edited) == ()
    assert len(list_trials(edited, former=True)) == 12
    assert "nothing to delete" in fairsweep("prune", edited)[1]
    with pytest.raises(SweepError, match="is not a sweep folder"):
        find_former(edited / "trials")


def test_who_would_train_trials_again_reads_why(edited, mapping):
    mapping["output"] = str(edited)
    assert not difference_of(Sweep.from_mapping(mapping)).former_lines()
    mapping["learners"][2]["epochs"] = 5
    (line,) = plan_sweep(Sweep.from_mapping(mapping)).plan_warnings
    assert line.startswith("8 trials of the output folder are former ones: they are kept (fairsweep ls SWEEP --all)")
    assert line.endswith("and 4 trials will be trained; the sweep file has changed")
    mapping["learners"][2]["epochs"] = 4
    for state in edited.glob("trials/tuned*/state.json"):
        write_json(state, read_json(state) | {"trial": f"once {read_json(state)['trial']}"})
    assert difference_of(Sweep.from_mapping(mapping)).lines() == []
    described = read_json(edited / "sweep.json")
    write_json(edited / "sweep.json", described | {"members": [f"once {trial}" for trial in described["members"]]})
    (line,) = difference_of(Sweep.from_mapping(mapping)).lines()
    assert line.endswith("the sweep file has not changed, but this version of fairsweep identifies trials anew")


def test_a_search_that_finds_its_trials_as_it_runs_has_no_former_ones(edited):
    output = OutputFolder.at(edited)
    described = read_json(edited / "sweep.json")
    output.describe(None, described["sweep"], described["dataset"], 16)
    assert find_former(edited) == ()
