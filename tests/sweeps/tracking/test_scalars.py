import math

import pytest

from fairsweep.analysis.records.files import write_json
from fairsweep.sweeps.planning.expand import expand
from fairsweep.sweeps.planning.running_epsilon import EpsilonCurves, read_plans, write_plans
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.tracking.following import Records
from fairsweep.sweeps.tracking.reports import TrialReport
from fairsweep.trainables.privacy.plan import PrivacyPlan
from fairsweep.trainables.trial.checkpoint import CheckpointPolicy
from fairsweep.trainables.trial.trial import Trial


def report_of(sweep, folder):
    return TrialReport.of(Records.of(sweep.folder).sweep, folder, EpsilonCurves(sweep.folder))


def test_scalars_are_the_records_by_group(recorded):
    sweep = recorded(["files"])
    report = report_of(sweep, sweep.write("dp_sgd_s0-aaaaaaaa", 3, "done", learner="dp_sgd"))
    assert list(report.series) == [1, 2, 3]
    last = report.series[3]
    assert last["train/loss"] == pytest.approx(0.5 / 3)
    assert last["test/accuracy"] == pytest.approx(sweep.expected)
    by_group = [last[f"test/accuracy/tone.{name}"] for name in ("light", "dark")]
    assert last["test/worst_group_accuracy/tone"] == min(by_group)
    assert last["test/accuracy_difference/tone"] == pytest.approx(max(by_group) - min(by_group))
    assert last["diagnostics/clipped_share/tone.dark/smiling.no"] == 0.25
    assert not any("cosine" in name for name in last)  # NaN
    assert all(math.isfinite(value) for value in last.values())
    assert (report.learner, report.setting) == ("dp_sgd", "dp_sgd")
    assert report.summary["state"] == "done"


def test_only_metrics_that_were_asked_for(recorded):
    sweep = recorded({"files": True, "metrics": ["f1", "false_positive_rate_difference"]})
    names = report_of(sweep, sweep.write("sgd_s0-aaaaaaaa", 1)).series[1]
    of_test = {name for name in names if name.startswith("test/")}
    assert of_test == {
        "test/f1",
        "test/f1/tone.light",
        "test/f1/tone.dark",
        "test/false_positive_rate_difference/tone",
    }


def test_epsilon_so_far_is_an_upper_bound_that_ends_at_the_plan(recorded, mapping, toy):
    config = next(t.config for t in expand(Sweep.from_mapping(mapping), toy) if t.config.learner.kind == "dpsgd")
    plan = PrivacyPlan.build(config.learner, 120)
    sweep = recorded(["files"])
    folder = sweep.write("private_s0-aaaaaaaa", 5, "done")
    write_plans(sweep.folder, {"aaaaaaaa of private_s0-aaaaaaaa": plan})
    write_plans(sweep.folder, {"another": plan})
    assert read_plans(sweep.folder) == {"aaaaaaaa of private_s0-aaaaaaaa": plan, "another": plan}
    spent = [scalars["privacy/epsilon"] for scalars in report_of(sweep, folder).series.values()]
    assert spent == sorted(spent)
    assert spent[0] >= plan.epsilon(plan.steps // 5).pld - 1e-3
    assert spent[-1] == pytest.approx(plan.epsilon().pld, abs=5e-3)


def test_the_last_epsilon_of_a_trial_that_has_ended_is_what_it_claims(recorded, mapping, toy):
    config = next(t.config for t in expand(Sweep.from_mapping(mapping), toy) if t.config.learner.kind == "dpsgd")
    sweep = recorded(["files"])
    write_plans(sweep.folder, {"aaaaaaaa of private_s0-aaaaaaaa": PrivacyPlan.build(config.learner, 120)})
    folder = sweep.write("private_s0-aaaaaaaa", 3, "stopped")
    write_json(folder / "privacy.json", {"epsilon": {"pld": 7.5, "rdp": 8.0}, "charged_steps": 15})
    report = report_of(sweep, folder)
    assert report.series[2]["privacy/epsilon"] < report.series[3]["privacy/epsilon"] == 7.5
    assert report.summary["privacy/epsilon"] == 7.5


def test_nothing_that_a_release_leaves_out_reaches_a_tracker(recorded, mapping, toy):
    mapping |= {"privacy": {"mode": "release"}}
    planned = next(t for t in expand(Sweep.from_mapping(mapping), toy) if t.config.learner.kind == "dpsgd")
    sweep = recorded(["files"])
    folder = sweep.folder / "trials" / planned.folder_name
    Trial(planned.config, folder, checkpoints=CheckpointPolicy(keep_final_weights=False)).run()
    report = report_of(sweep, folder)
    assert list(report.series) == [1, 2, 3]
    for scalars in (*report.series.values(), report.summary):
        assert [
            name
            for name in scalars
            if name.startswith(("train/loss", "train/seconds", "seconds", "diagnostics", "clients"))
        ] == []
        # The expected number of the plan, not the realised one.
        assert scalars["train/examples"] == 120
    assert "train" not in set(report.last_cells.column("split").to_pylist())
    assert not any("secret" in str(value) for value in report.facts)
