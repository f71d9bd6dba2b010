"""Draws whose values are not valid together: left out, counted and said, as in a guided search; the others run."""

from contextlib import nullcontext

import pytest

from fairsweep.analysis.records.files import read_json
from fairsweep.sweeps.execution.run import run_sweep
from fairsweep.sweeps.plan import plan_sweep
from fairsweep.sweeps.planning.preflight import check_sweep
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError

EITHER = {"name": {"choice": ["sgd", "adam"]}, "momentum": {"choice": [0.0, 0.9]}}


@pytest.fixture(params=["random", "sobol"])
def drawn(mapping, request):
    """Makes a sweep of one learner whose settings are drawn."""
    mapping["imbalance"]["share"] = 0.7

    def make(samples, model=None, learners=None, **fields):
        learner = {"name": "tuned", "kind": "sgd", "epochs": 1, "batch_size": 24} | fields
        search = {"algorithm": request.param, "samples": samples}
        changes = {"learners": learners or [learner], "search": search, "seeds": 2}
        return Sweep.from_mapping(mapping | changes | ({} if model is None else {"model": model}))

    return make


def test_an_optimizer_that_takes_no_momentum_is_left_out_and_the_others_are_planned(drawn):
    plan = check_sweep(drawn(12, optimizer=EITHER))
    optimizers = [trial.config.learner.optimizer for trial in plan.trials]
    assert {(o.name, getattr(o, "momentum", None)) for o in optimizers} == {("sgd", 0.0), ("sgd", 0.9), ("adam", None)}
    assert len(plan.trials) == 6
    ((cause, count),) = plan.refused.items()
    assert count == 1
    assert "momentum" in cause


def test_widths_and_batches_that_only_the_data_or_the_model_refuses_are_left_out_too(drawn):
    widths = check_sweep(drawn(8, model={"name": "cnn", "width": {"choice": [4, 6, 8]}}))
    assert {trial.config.model.width for trial in widths.trials} == {4, 8}
    ((cause, count),) = widths.refused.items()
    assert count == 1
    assert "width" in cause
    private = {"name": "private", "kind": "dpsgd", "epochs": 1, "noise_multiplier": 1.0}
    private["batch_size"] = {"choice": [24, 500]}
    learners = [private, {"name": "twin", "twin_of": "private"}, {"name": "plain", "kind": "sgd", "epochs": 1}]
    batches = check_sweep(drawn(8, learners=learners))
    names = [trial.config.learner.name for trial in batches.trials if trial.config.seeds.data == 0]
    assert sorted(names) == ["plain", "private", "twin"]
    assert sum(batches.refused.values()) == 1


def test_plan_and_run_say_how_many_and_the_folder_keeps_it(drawn, capsys, monkeypatch):
    sweep = drawn(12, optimizer=EITHER)
    (said,) = [line for line in plan_sweep(sweep).plan_warnings if "refused" in line]
    assert said.startswith("1 setting was refused: ")
    monkeypatch.setattr("fairsweep.sweeps.execution.run.connected", lambda *_, **__: nullcontext(True))
    monkeypatch.setattr("fairsweep.sweeps.execution.run.run_trials", lambda *_, **__: None)
    run_sweep(sweep)
    assert said in capsys.readouterr().err
    assert list(read_json(sweep.folder / "sweep.json")["refused"].values()) == [1]


def test_where_no_draw_can_run_the_error_says_so(drawn):
    with pytest.raises(SweepError, match=r"all 8 values that \w+ drew are refused; the first one because: .*momentum"):
        drawn(8, optimizer={"name": "adam", "momentum": {"uniform": [0.1, 0.9]}})
    with pytest.raises(SweepError, match=r"all 8 values that \w+ drew are refused.* multiple of 4"):
        drawn(8, model={"name": "cnn", "width": {"choice": [5, 6, 7]}})
    large = {"name": "private", "kind": "dpsgd", "epochs": 1, "noise_multiplier": 1.0}
    large["batch_size"] = {"choice": [500, 600]}
    with pytest.raises(SweepError, match=r"all 2 settings that \w+ drew for learner 'private'.* values go together"):
        check_sweep(drawn(8, learners=[large]))


def test_what_the_file_lists_itself_is_no_draw(drawn):
    with pytest.raises(SweepError, match="epochz"):
        drawn(8, epochz=3, optimizer=EITHER)
    with pytest.raises(SweepError, match="momentum"):
        drawn(8, optimizer={"name": {"grid": ["sgd", "adam"]}, "momentum": {"uniform": [0.1, 0.9]}})
