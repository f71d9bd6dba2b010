"""Damaged, lost and foreign files in output folders: nothing is silent, no traceback, and the others go on."""

import json
import os
import random
import shutil

import numpy as np
import pytest
import torch

from fairsweep import analysis
from fairsweep.analysis.inference.unlearning import placements, requests
from fairsweep.analysis.records.cell_records import read_cells
from fairsweep.analysis.records.file_names import PLACEMENT
from fairsweep.analysis.records.files import RecordError, read_json, read_parquet, write_json
from fairsweep.analysis.records.learner_records import read_placement
from fairsweep.analysis.records.record_check import TRIAL_FILES, check_trial
from fairsweep.sweeps.copies.resuming import resume_sweep
from fairsweep.sweeps.execution.extending import extend_sweep
from fairsweep.sweeps.execution.failures import failed_trials, failure_groups
from fairsweep.sweeps.execution.forget import forget_ids
from fairsweep.sweeps.execution.run import describe
from fairsweep.sweeps.execution.tasks import GradientModes
from fairsweep.sweeps.planning.preflight import check_sweep
from fairsweep.sweeps.store.description import Description
from fairsweep.sweeps.store.ledger import Ledger
from fairsweep.sweeps.store.listing import list_sweeps, list_trials
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.syntax.errors import SweepError

FLIPS = 80
LITTER = (".DS_Store", ".nfs000000000001", "desktop.ini", "Thumbs.db", "000003 (1).pt", "000003 (1).json", "notes.txt")


def trial_of(sweep, learner):
    (folder,) = (sweep / "trials").glob(f"{learner}_*")
    return folder


def flip(path, rng):
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def contents(path):
    """What the reader of a file gives."""
    if path.suffix == ".json":
        return read_json(path)
    if path.name == "cells.parquet":
        return read_cells(path)
    return read_parquet(path, None)


def described(folder):
    found = Description.read(folder)
    return None if found is None else (found.content, found.text, found.problems)


# --- flipped bytes ---


def test_no_flipped_byte_of_a_record_is_silent(finished):
    rng = random.Random(12)
    checked = set()
    folders = [finished, *(finished / "trials").iterdir()]
    for path in (path for folder in folders for path in sorted(folder.iterdir())):
        if path.suffix not in (".json", ".parquet") or (path.parent == finished and path.name == "sweep.json"):
            continue
        whole, expected = path.read_bytes(), contents(path)
        for _ in range(FLIPS):
            flip(path, rng)
            try:
                found, said = contents(path), ""
            except RecordError as error:
                found, said = None, str(error)
            assert found == expected or str(path) in said
            path.write_bytes(whole)
        checked.add(path.name)
    assert checked == set(TRIAL_FILES) - {"lineage.parquet", "audit.parquet", "membership.parquet"} | {
        "state.json",
        "plans.json",
        "examples.parquet",
    }


def test_no_flipped_byte_of_weights_is_silent(finished, fairsweep):
    rng, trial = random.Random(15), trial_of(finished, "private")
    path = trial / "weights.pt"
    whole = path.read_bytes()
    assert check_trial(trial, has_ended=True, thorough=True) == {}
    for _ in range(3 * FLIPS):
        flip(path, rng)
        assert check_trial(trial, has_ended=True, thorough=True).keys() == {"weights.pt"}
        path.write_bytes(whole)
    weights = torch.load(path, weights_only=True)
    torch.save(weights, path)  # as earlier versions wrote them
    whole = path.read_bytes()
    assert check_trial(trial, has_ended=True, thorough=True) == {}
    start = whole.index(next(iter(weights.values())).numpy().tobytes())
    path.write_bytes(whole[:start] + bytes([whole[start] ^ 1]) + whole[start + 1 :])
    assert not check_trial(trial, has_ended=True, thorough=False)
    code, out, _ = fairsweep("report", finished)
    assert (code, "damaged weights.pt" in out) == (0, True)
    assert len(failed_trials(finished)) == 1


@pytest.mark.parametrize("name", ["sweep.json", "sweep.yaml"])
def test_no_flipped_byte_of_a_description_is_silent(finished, name):
    rng, path = random.Random(13), finished / name
    whole, (content, text, _) = path.read_bytes(), described(finished)
    for _ in range(FLIPS):
        flip(path, rng)
        found = Description.read(finished)
        assert found.problems
        # The sweep is known all the same.
        assert (found.content["sweep"], found.text) == (content["sweep"], text)
        assert found.content_hashes == (content["dataset"]["content_hash"],)
        path.write_bytes(whole)


def test_damage_is_a_line_under_problems_with_file_and_remedy(finished):
    rng = random.Random(14)
    trial = trial_of(finished, "forgets")
    for file in (*TRIAL_FILES, "state.json"):
        if not (path := trial / file).exists():
            continue
        whole = path.read_bytes()
        flip(path, rng)
        results = analysis.load(finished)
        results.cells(), results.predictions(), results.training()
        requests(results), placements(results, "tone")
        if file != "shard_predictions.parquet":
            (line,) = results.problems.itertuples()
            assert (line.trial, line.file) == (trial.name, file)
            assert f"retry-failed '{finished}'" in line.message
        path.write_bytes(whole)
    assert analysis.load(finished).problems.empty


def test_a_record_that_was_cut_short_is_listed_and_its_trial_runs_again_on_request(finished, fairsweep, sweep_text):
    trial = trial_of(finished, "private")
    for file in ("weights.pt", "privacy.json", "predictions.parquet", "cells.parquet"):
        whole = (trial / file).read_bytes()
        truncate(trial / file)
        code, out, _ = fairsweep("ls", finished)
        assert code == 0
        assert f"damaged {file}" in out
        assert f"fairsweep retry-failed '{finished}'" in out.replace("\n", "")
        (group,) = failure_groups(finished)
        assert group.trials == (trial.name,)
        (trial / file).write_bytes(whole)
    flip(trial / "training.parquet", random.Random(1))
    hashes = failed_trials(finished)
    sweep, _ = resume_sweep(finished)
    plan, ledger = check_sweep(sweep), Ledger(finished)
    assert ledger.missing(plan.trials) == []
    (again,) = ledger.missing(plan.trials, hashes)
    entry = ledger.queue([again])[again.trial]
    assert (entry.folder, entry.state.state, entry.state.run) == (trial, "queued", 2)
    assert (finished / ".set-aside" / f"{trial.name}.1" / "predictions.parquet").exists()


# --- one damaged trial, one damaged sweep ---


@pytest.mark.parametrize("file", ["state.json", "config.json"])
def test_one_damaged_trial_does_not_stop_the_others(finished, fairsweep, file):
    trial, other = trial_of(finished, "private"), trial_of(finished, "forgets")
    truncate(trial / file)
    code, out, _ = fairsweep("ls", finished)
    assert code == 0
    assert f"damaged {file}" in out
    assert other.name in out
    code, out, err = fairsweep("report", finished)
    assert code == 0, err
    assert f"damaged {file}" in out
    assert "forgets" in out
    assert file in (finished / "report.html").read_text()
    sweep, _ = resume_sweep(finished)
    assert Ledger(finished).missing(check_sweep(sweep).trials) == []


def test_the_config_of_a_finished_trial_is_written_anew(finished):
    trial = trial_of(finished, "private")
    before = read_json(trial / "config.json")
    truncate(trial / "config.json")
    sweep, _ = resume_sweep(finished)
    Ledger(finished).tidy(check_sweep(sweep).trials)
    assert read_json(trial / "config.json") == before


def test_one_damaged_sweep_does_not_hide_the_others(finished, fairsweep):
    bad = shutil.copytree(finished, finished.parent / "bad")
    for name in ("sweep.json", "sweep.yaml"):
        truncate(bad / name)
    (finished.parent / "worse").mkdir()
    (finished.parent / "worse" / "sweep.json").mkdir()
    code, out, _ = fairsweep("ls", finished.parent)
    assert code == 0
    assert "toy [1]" in out
    assert "neither sweep.json nor sweep.yaml can be read" in out
    lines = {line.path.name: line for line in list_sweeps(finished.parent)}
    assert (lines["toy [1]"].counts["done"], lines["toy [1]"].problem) == (2, None)


# --- a lost or unfinished description ---


@pytest.mark.parametrize("lost", [("sweep.json",), ("sweep.yaml",), ("sweep.json", "sweep.yaml")])
def test_a_lost_description_never_locks_out_finished_trials(finished, run_here, tmp_path, sweep_text, lost, fairsweep):
    for name in lost:
        (finished / name).unlink()
    if len(lost) == 1:
        sweep, text = resume_sweep(finished)
        assert text.startswith("# what this is about")
        assert Ledger(finished).missing(check_sweep(sweep).trials) == []
    else:
        code, _, err = fairsweep("resume", finished)
        assert (code, "run the sweep's file again" in err) == (2, True)
    assert len(analysis.load(finished).rates(["accuracy"], by=())) == 2
    assert fairsweep("report", finished)[0] == 0
    before = {path: path.stat().st_mtime_ns for path in (finished / "trials").rglob("*.parquet")}
    (tmp_path / "again.yaml").write_text(sweep_text(finished))
    run_here(tmp_path / "again.yaml")
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert Description.read(finished).problems == ()
    assert fairsweep("ls", finished)[0] == 0


class KilledError(BaseException):
    pass


@pytest.fixture
def killed_at(monkeypatch):
    """Ends a process in the n-th renaming of a file, or right after it, with what it was writing left behind."""

    def arm(number, *, after):
        real, seen = os.replace, []

        def replace(self, target):
            seen.append(target)
            if len(seen) == number and not after:
                shutil.copy(self, self.with_name(f".{target.name}.{'0' * 32}.tmp"))
                raise KilledError
            real(self, target)
            if len(seen) == number:
                raise KilledError

        monkeypatch.setattr("pathlib.Path.replace", replace)
        return seen

    return arm


def begin(file):
    """What a driver writes before the first trial."""
    from fairsweep.sweeps.sweep import Sweep
    from fairsweep.sweeps.syntax.sweep_file import SweepSource

    source = SweepSource.read(file)
    plan = check_sweep(Sweep.from_mapping(source.content))
    output = OutputFolder.at(plan.sweep.folder)
    trials = [trial.trial for trial in plan.trials]
    output.check(name="toy", content=plan.content, trials=trials, needed_bytes=0)
    with output.held():
        describe(plan, output, source.text, len(trials), trials)
    return output


@pytest.mark.parametrize("after", [False, True])
def test_a_kill_between_the_first_writes_leaves_a_folder_that_commands_take(
    tmp_path, sweep_text, killed_at, after, monkeypatch
):
    file = tmp_path / "a.yaml"
    for number in range(1, 6):
        folder = tmp_path / f"out{number}"
        file.write_text(sweep_text(folder))
        with monkeypatch.context() as patch:
            seen = killed_at(number, after=after)
            try:
                begin(file)
            except KilledError:
                pass
            else:
                assert len(seen) < number
            patch.undo()
        monkeypatch.undo()
        if (folder / "sweep.yaml").exists():
            assert resume_sweep(folder)[1] == file.read_text()
        else:
            with pytest.raises(SweepError, match="is not a sweep folder"):
                resume_sweep(folder)
        list_sweeps(tmp_path)
        begin(file)
        assert not list(folder.rglob("*.tmp"))
        assert Description.read(folder).problems == ()
    assert number > len(seen)


@pytest.mark.parametrize("after", [False, True])
def test_a_kill_while_a_sweep_is_extended_loses_nothing(finished, killed_at, after, monkeypatch):
    for number in (2, 3):  # sweep.yaml, sweep.json
        folder = shutil.copytree(finished, finished.parent / f"{number}{after}")
        extension = extend_sweep(folder, seeds=2)
        killed_at(number, after=after)
        output = OutputFolder.at(folder)
        plan = check_sweep(extension.sweep)
        with pytest.raises(KilledError), output.held():
            describe(plan, output, extension.text, len(plan.trials), [trial.trial for trial in plan.trials])
        monkeypatch.undo()
        sweep, text = resume_sweep(folder)
        assert f"seeds: {sweep.seeds}" in text
        if sweep.seeds == 1:
            assert extend_sweep(folder, seeds=2).sweep.seeds == 2
        ledger = Ledger(folder)
        assert len(ledger.missing(check_sweep(sweep).trials)) == 2 * (sweep.seeds - 1)
        assert all(entry.state.state == "done" for entry in ledger.entries().values())


def test_an_edited_sweep_file_is_kept_aside(finished, run_here, tmp_path, sweep_text):
    edited = (finished / "sweep.yaml").read_text() + "# mine\n"
    (finished / "sweep.yaml").write_text(edited)
    assert "edited" in list_sweeps(finished)[0].problem
    (tmp_path / "a.yaml").write_text(sweep_text(finished))
    run_here(tmp_path / "a.yaml")
    assert [path.read_text() for path in (finished / ".set-aside").iterdir()] == [edited]


# --- others' files, others' folders ---


def test_foreign_files_beside_ours_change_nothing(finished, run_here, tmp_path, sweep_text, fairsweep):
    for folder in [finished, *(path for path in finished.rglob("*") if path.is_dir())]:
        for name in LITTER:
            (folder / name).write_text("x")
    copied = trial_of(finished, "private")
    shutil.copytree(copied, copied.with_name(f"{copied.name} (1)"))
    assert len(list_trials(finished)) == 2
    assert Ledger(finished).entries().keys() == {t.trial for t in check_sweep(resume_sweep(finished)[0]).trials}
    (tmp_path / "a.yaml").write_text(sweep_text(finished))
    run_here(tmp_path / "a.yaml")
    code, out, err = fairsweep("report", finished)
    assert code == 0, err
    assert "damaged" not in out
    assert len(analysis.load(finished).rates(["accuracy"], by=())) == 2


def test_a_sweep_of_a_newer_version_is_left_as_it_is(finished, run_here, tmp_path, sweep_text, fairsweep):
    for path in (finished / "sweep.json", trial_of(finished, "private") / "state.json"):
        path.write_text(json.dumps(read_json(path) | {"format_version": 99, "mood": "sunny"}))
    problems = [*analysis.load(finished).problems["message"]]
    code, out, _ = fairsweep("ls", finished.parent)
    assert code == 0
    problems.append(out.replace("\n", ""))
    for command in ("ls", "report", "resume", "retry-failed"):
        code, out, err = fairsweep(command, finished)
        assert code == 2, (command, out)
        problems.append(err)
    (tmp_path / "a.yaml").write_text(sweep_text(finished))
    with pytest.raises(SweepError, match="format version 99") as said:
        run_here(tmp_path / "a.yaml")
    problems.append(str(said.value))
    for problem in problems:
        assert "99" in problem
        assert "update fairsweep" in problem
        for word in ("damaged", "delete", "retry-failed", "anew"):
            assert word not in problem, problem


def test_litter_in_an_empty_output_folder_is_no_sweep_and_no_obstacle(tmp_path):
    for name in LITTER[:4]:
        (tmp_path / name).write_text("x")
    output = OutputFolder.at(tmp_path)
    output.check(name="toy", content=("c",), trials=("t",), needed_bytes=0)
    assert output.description() is None
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(SweepError, match=r"thesis\.tex"):
        output.check(name="toy", content=("c",), trials=("t",), needed_bytes=0)


def test_commands_recognise_each_others_folders(finished, toy_path, fairsweep):
    trial = trial_of(finished, "private")
    for command in ("resume", "report", "stop", "watch", "track"):
        code, _, err = fairsweep(command, toy_path)
        assert (code, "is a prepared dataset, not a sweep" in err) == (2, True), (command, err)
        code, _, err = fairsweep(command, trial)
        assert (code, "is one trial; give its sweep" in err) == (2, True), (command, err)
        code, _, err = fairsweep(command, finished.parent)
        assert (code, "is a folder of sweeps, not a sweep folder" in err) == (2, True), (command, err)
    for folder in (finished, trial):
        code, _, err = fairsweep("show", folder)
        assert code == 2
        assert "delete" not in err
        assert "fairsweep ls" in err


def test_names_in_brackets_are_printed_as_they_are(finished, fairsweep):
    truncate(trial_of(finished, "private") / "state.json")
    (finished / "sweep.yaml").write_text("")
    for command in ("ls", "report"):
        out = fairsweep(command, finished)[1].replace("\n", "")
        assert str(finished) in out
        assert "toy [1]" in out


# --- the driver's own files ---


def test_gradient_modes_stay_when_their_file_is_lost(finished):
    trial = trial_of(finished, "private")
    assert read_json(trial / "data.json")["gradient_mode"] == "hooks"
    sweep, _ = resume_sweep(finished)
    content = sweep.model_dump(mode="json")
    content["learners"][0]["performance"]["gradient_mode"] = "auto"
    plan = check_sweep(type(sweep).from_mapping(content))
    planned = next(t for t in plan.trials if t.config.learner.name == "private")
    for damaged in (None, b"{"):
        if damaged is not None:
            (finished / "gradient_modes.json").write_bytes(damaged)
            assert "gradient_modes.json is damaged" in list_sweeps(finished)[0].problem
        modes = GradientModes(finished / "gradient_modes.json")
        assert modes.fixed(planned, plan).learner.performance.gradient_mode == "hooks"
    shutil.rmtree(finished / "trials")  # what was found is not looked for again, however many trials follow
    assert modes.fixed(planned, plan).learner.performance.gradient_mode == "hooks"


def test_a_mode_that_no_trial_has_recorded_is_looked_for_once_a_batch_of_trials(finished, monkeypatch):
    """As on GPUs, where a worker measures: every trial of the sweep was read for each trial that was queued."""
    looked, modes = [], GradientModes(finished / "gradient_modes.json")
    monkeypatch.setattr(modes, "_all_recorded", lambda: looked.append(1) or {})
    for _ in range(2):
        modes.look_again()
        assert [modes._recorded(key) for key in ("one", "another", "one")] == [None] * 3
    assert len(looked) == 2


def test_examples_that_are_damaged_are_written_anew(finished, run_here, tmp_path, sweep_text):
    whole = read_parquet(finished / "examples.parquet", None)
    flip(finished / "examples.parquet", random.Random(3))
    assert "examples.parquet is damaged" in list_sweeps(finished)[0].problem
    (tmp_path / "a.yaml").write_text(sweep_text(finished))
    run_here(tmp_path / "a.yaml")
    assert read_parquet(finished / "examples.parquet", None).equals(whole)


@pytest.fixture
def erased(run_here, sweep_text, toy_path, tmp_path):
    """A sweep, its file, and ids that were erased from it: the version that the file names still holds them."""
    shutil.copytree(toy_path, tmp_path / "data")
    file = tmp_path / "a.yaml"
    file.write_text(sweep_text(tmp_path / "out").replace(str(toy_path), str(tmp_path / "data")))
    folder = run_here(file)
    ids = read_placement(trial_of(folder, "forgets") / PLACEMENT).column("id").to_numpy()[[2, 9, 30]]
    return folder, file, ids


def recorded_ids(folder):
    return read_parquet(folder / "examples.parquet", None).column("id").to_numpy()


@pytest.mark.parametrize("when", ["before", "after"])
def test_erased_examples_do_not_come_back_with_examples_that_are_written_anew(erased, run_here, tmp_path, when):
    folder, file, ids = erased
    every = recorded_ids(folder)
    if when == "before":
        flip(folder / "examples.parquet", random.Random(3))
    forget_ids(folder, ids.tolist(), erase=True)
    if when == "after":
        flip(folder / "examples.parquet", random.Random(3))
    run_here(file)
    np.testing.assert_array_equal(recorded_ids(folder), np.setdiff1d(every, ids))
    (folder / "examples.parquet").unlink()
    (tmp_path / "data-v2").rename(tmp_path / "elsewhere")
    with pytest.raises(
        SweepError, match=r"erased from forgets.*put the dataset that .*erased\.json names back"
    ) as said:
        run_here(file)
    assert "fairsweep resume" in str(said.value)
    assert not (folder / "examples.parquet").exists()


def test_a_trial_is_checked_by_its_ends_or_by_every_byte(finished):
    trial = trial_of(finished, "private")
    flip(trial / "predictions.parquet", random.Random(5))
    assert check_trial(trial, has_ended=True, thorough=True).keys() == {"predictions.parquet"}
    assert check_trial(trial, has_ended=True, thorough=False) == {}
    (trial / "cells.parquet").unlink()
    assert check_trial(trial, has_ended=True, thorough=True).keys() == {"cells.parquet", "predictions.parquet"}


def test_a_record_that_is_read_and_written_again_by_hand_keeps_one_checksum(tmp_path):
    write_json(tmp_path / "a.json", {"a": 1, "checksum": "crc32:00000000"})
    assert read_json(tmp_path / "a.json") == {"a": 1}
