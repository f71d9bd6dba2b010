"""Plans of private trials that a search proposes one after another: what is written and read, and what it costs."""

import random
import shutil

import pytest

from fairsweep.analysis.records.file_names import MORE_PLANS, PLANS
from fairsweep.analysis.records.files import RecordError, read_json, read_lines, write_json
from fairsweep.sweeps.planning.expand import expand
from fairsweep.sweeps.planning.running_epsilon import EpsilonCurves, read_plans, write_plans
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.sweep import Sweep
from fairsweep.trainables.privacy.plan import PrivacyPlan


@pytest.fixture
def plan(mapping, toy):
    config = next(t.config for t in expand(Sweep.from_mapping(mapping), toy) if t.config.learner.kind == "dpsgd")
    return PrivacyPlan.build(config.learner, 120)


@pytest.fixture
def proposed(plan):
    """Plans of so many trials, by hash: all one, or each its own."""

    def plans(count, *, own=True, start=0):
        steps = range(start, start + count)
        return {f"trial {n}": plan.model_copy(update={"steps": 100 + n if own else 100}) for n in steps}

    return plans


def written(folder, plans):
    """Bytes that are written if plans come one by one: of a file that was replaced all, else what was added."""
    total, before = 0, {}
    for trial, plan in plans.items():
        write_plans(folder, {trial: plan})
        now = {path: path.stat() for path in (folder / PLANS, folder / MORE_PLANS) if path.exists()}
        for path, found in now.items():
            was = before.get(path)
            is_same = was is not None and was.st_ino == found.st_ino and was.st_size <= found.st_size
            total += found.st_size - was.st_size if is_same else found.st_size
        before = now
    return total


@pytest.mark.parametrize("own", [True, False])
def test_what_is_written_grows_as_the_trials_do(tmp_path, proposed, own):
    totals = []
    for count in (50, 400):
        (folder := tmp_path / str(count)).mkdir()
        totals.append(written(folder, proposed(count, own=own)))
        assert read_plans(folder) == proposed(count, own=own)
    # 8 by 8 times as many trials, and twice that for when the last lines were taken into the file.
    assert totals[1] <= 16 * totals[0]


def test_each_plan_is_read_once_however_often_is_asked(tmp_path, proposed, monkeypatch):
    read = []
    validate = PrivacyPlan.model_validate
    monkeypatch.setattr(PrivacyPlan, "model_validate", lambda plan: read.append(plan) or validate(plan))
    curves, plans = EpsilonCurves(tmp_path), proposed(30)
    for trial, plan in plans.items():
        assert curves.of(trial, 3)(1) is None
        write_plans(tmp_path, {trial: plan})
        assert curves.of(trial, 3)(3) > 0
    assert len(read) == len(plans)


def test_plans_of_a_list_of_trials_are_one_file(tmp_path, proposed):
    write_plans(tmp_path, proposed(20))
    assert [path.name for path in tmp_path.iterdir()] == [PLANS]
    write_plans(tmp_path, proposed(1, start=20))
    assert {path.name for path in tmp_path.iterdir()} == {PLANS, MORE_PLANS}
    assert len(read_json(tmp_path / PLANS)["trials"]) == 20
    assert read_plans(tmp_path) == proposed(21)
    assert set(OutputFolder.at(tmp_path).file_problems()) == set()


def test_a_line_that_was_cut_short_costs_that_line(tmp_path, proposed):
    write_plans(tmp_path, proposed(20))
    for number in (20, 21):
        write_plans(tmp_path, proposed(1, start=number))
    path = tmp_path / MORE_PLANS
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole) - 1, 7):
        path.write_bytes(whole[:cut])
        curves = EpsilonCurves(tmp_path)
        assert [curves.is_planned(f"trial {number}") for number in (19, 20, 21)] == [True, True, False]
        write_plans(tmp_path, proposed(1, start=22))
        assert [curves.is_planned(f"trial {number}") for number in (19, 20, 21, 22)] == [True, True, False, True]
        assert OutputFolder.at(tmp_path).file_problems() == []


def test_no_flipped_byte_of_a_line_is_silent_and_a_driver_writes_the_file_anew(tmp_path, proposed):
    whole = tmp_path / "whole"
    whole.mkdir()
    write_plans(whole, proposed(20))
    for number in (20, 21):
        write_plans(whole, proposed(1, start=number))
    content, rng = (whole / MORE_PLANS).read_bytes(), random.Random(5)
    for number in range(80):
        folder = shutil.copytree(whole, tmp_path / str(number))
        damaged = bytearray(content)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        (folder / MORE_PLANS).write_bytes(damaged)
        with pytest.raises(RecordError, match=r"plans\.jsonl is damaged"):
            read_lines(folder / MORE_PLANS)
        assert any(MORE_PLANS in problem for problem in OutputFolder.at(folder).file_problems())
        write_plans(folder, proposed(1, start=22))
        assert OutputFolder.at(folder).file_problems() == []
        assert read_plans(folder).keys() == proposed(20).keys() | {"trial 22"}


def test_folders_of_earlier_versions_go_on(tmp_path, proposed):
    write_plans(tmp_path, proposed(20))
    content = read_json(tmp_path / PLANS)
    del content["charges"]  # as the first versions
    write_json(tmp_path / PLANS, content)
    write_plans(tmp_path, proposed(21, start=0))
    assert read_plans(tmp_path) == proposed(21)
    assert len(read_lines(tmp_path / MORE_PLANS)[0][0]["charges"]) == 21


def test_a_damaged_file_is_written_anew_with_what_the_lines_say(tmp_path, proposed):
    write_plans(tmp_path, proposed(20))
    write_plans(tmp_path, proposed(1, start=20))
    (tmp_path / PLANS).write_bytes((tmp_path / PLANS).read_bytes()[:-30])
    assert read_plans(tmp_path) == proposed(1, start=20)
    write_plans(tmp_path, proposed(1, start=21))
    assert read_plans(tmp_path) == proposed(2, start=20)
    assert [path.name for path in tmp_path.iterdir()] == [PLANS]
