"""Loading sweeps: every number is what the cells say, whatever state the sweep is in."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import fairsweep.analysis as analysis
from fairsweep.analysis.metrics.catalogue import DEFAULT_DISPARITIES, DEFAULT_RATES
from fairsweep.analysis.records.cell_records import read_cells, write_cells
from fairsweep.analysis.records.file_names import CELLS, DATA, STATE
from fairsweep.analysis.records.files import read_json, write_json
from fairsweep.analysis.records.vocabularies import Vocabulary
from fairsweep.analysis.results.frames import TIDY_COLUMNS


@pytest.fixture(scope="module")
def results(faces):
    return analysis.load(faces.folder)


def test_trials_have_one_row_each_with_what_the_records_say(results):
    trials = results.trials
    assert len(trials) == 18
    assert (trials["state"] == "done").all()
    assert list(dict.fromkeys(trials["learner"])) == ["private", "matched", "tuned"]
    private = trials[trials["learner"] == "private"]
    assert (private["epsilon"] == 3.0).all()
    assert np.allclose(private["epsilon_rdp"], 3.36)
    assert np.isinf(trials.loc[trials["learner"] != "private", "epsilon"]).all()
    assert set(trials["share"]) == {0.5, 0.9, 0.99}
    assert (trials["level_value"] == trials["share"]).all()
    rare = trials.groupby("share")["minority_count"].first()
    assert rare.to_dict() == {0.5: 2000, 0.9: 400, 0.99: 40}
    assert trials.groupby("setting")["replicate"].apply(list).map(sorted).map(tuple).unique().tolist() == [(0, 1)]
    shares = private["share"].tolist()
    assert shares == sorted(shares)
    assert results.problems.empty
    assert repr(results) == "SweepResults('simulated', trials: 18 done, problems: 0)"


def test_rates_equal_those_computed_by_hand_from_the_cells(results):
    cells = results.cells()
    cells = cells[(cells["split"] == "test") & (cells["iteration"] == 3)]
    frame = results.rates()
    assert list(frame.columns) == list(TIDY_COLUMNS)
    assert set(frame["metric"]) == set(DEFAULT_RATES)
    for trial in results.trials["trial"][:3]:
        for group, code in (("light", 0), ("dark", 1)):
            mine = cells[(cells["trial"] == trial) & (cells["tone"] == code)]
            correct = mine.loc[mine["label"] == mine["prediction"], "count"].sum()
            positives = mine[mine["label"] == 1]
            found = frame[(frame["trial"] == trial) & (frame["group"] == group)].set_index("metric")
            assert found.loc["accuracy", "value"] == correct / mine["count"].sum()
            assert found.loc["accuracy", "n"] == mine["count"].sum() == 300
            assert found.loc["true_positive_rate", "n"] == positives["count"].sum() == 150
            hits = positives.loc[positives["prediction"] == 1, "count"].sum()
            assert found.loc["true_positive_rate", "value"] == hits / 150
    inside = (frame["low"] <= frame["value"]) & (frame["value"] <= frame["high"])
    assert inside.all()


def test_overall_is_the_mean_of_groups_weighted_by_their_size(results):
    frame = results.rates(["accuracy"])
    overall = frame[frame["attribute"] == ""].set_index("trial")["value"]
    tone = frame[frame["attribute"] == "tone"]
    weighted = (tone["value"] * tone["n"]).groupby(tone["trial"]).sum() / tone.groupby("trial")["n"].sum()
    pd.testing.assert_series_equal(overall.sort_index(), weighted.sort_index(), check_names=False)


def test_intersections_and_the_label_are_groups_too(results):
    frame = results.rates(["accuracy"], by=("tone", "shape"))
    assert set(frame["group"]) == {"light & round", "light & long", "dark & round", "dark & long"}
    assert (frame["n"] == 150).all()
    assert set(frame["attribute"]) == {"tone & shape"}
    by_label = results.rates(["accuracy"], by="smiling")
    assert set(by_label["group"]) == {"no", "yes"}
    recall = results.rates(["true_positive_rate"], by=())
    yes = by_label[by_label["group"] == "yes"]
    np.testing.assert_array_equal(yes["value"].to_numpy(), recall["value"].to_numpy())
    with pytest.raises(ValueError, match="age"):
        results.rates(by="age")


def test_disparities_are_those_of_the_rates(results):
    rates = results.rates(["accuracy", "selection_rate"], by="tone")
    table = rates.pivot(index=["trial", "metric"], columns="group", values="value")
    gap = (table["light"] - table["dark"]).abs()
    found = results.disparities(["accuracy_difference", "demographic_parity_difference"], by="tone")
    for metric, rate in (("accuracy_difference", "accuracy"), ("demographic_parity_difference", "selection_rate")):
        mine = found[found["metric"] == metric].set_index("trial")["value"]
        expected = gap.xs(rate, level="metric")
        np.testing.assert_allclose(mine.sort_index(), expected.sort_index())
    assert (found["group"] == "tone").all()
    assert ((found["low"] <= found["value"]) & (found["value"] <= found["high"])).all()
    assert (found["expected_if_equal"] > 0).all()
    base = results.disparities(["base_rate_difference"])
    assert (base["value"] == 0).all()


def test_frame_holds_everything_once(results):
    frame = results.frame()
    assert set(frame["metric"]) == {*DEFAULT_RATES, *DEFAULT_DISPARITIES}
    assert not frame.duplicated(["trial", "iteration", "split", "attribute", "group", "metric"]).any()
    assert (frame["baseline"] == "").all()
    only = results.frame(["accuracy", "accuracy_difference"], by="shape")
    assert set(only["attribute"]) == {"shape"}
    assert set(results.frame(["accuracy", "accuracy_difference"], by=())["metric"]) == {"accuracy"}


def test_all_iterations_last_and_selected(results):
    every = results.rates(["accuracy"], by=(), at="all", split="validation")
    assert every.groupby("trial")["iteration"].apply(list).map(tuple).unique().tolist() == [(1, 2, 3)]
    best = every.sort_values(["value", "iteration"], ascending=[False, True]).groupby("trial")["iteration"].first()
    selected = results.rates(["accuracy"], by=(), at="selected").set_index("trial")["iteration"]
    pd.testing.assert_series_equal(selected.sort_index(), best.sort_index(), check_names=False)
    last = results.rates(["accuracy"], by=(), at="last")
    assert (last["iteration"] == 3).all()


def test_selection_takes_the_first_best_validation_iteration(tmp_path, simulate):
    simulation = simulate["faces"](tmp_path / "s", replicates=1, shares=(0.5,))
    path = next((simulation.folder / "trials").iterdir()) / CELLS
    file = read_cells(path)
    # The validation cells of iteration 2 twice: iterations 2 and 3 tie, and 2 comes first.
    frame = file.table.to_pandas()
    second = frame[(frame["split"] == "validation") & (frame["iteration"] == 2)]
    others = frame[(frame["split"] != "validation") | (frame["iteration"] == 1)]
    changed = pd.concat([others, second, second.assign(iteration=np.int32(3))])
    table = pa.Table.from_pandas(changed, schema=file.table.schema, preserve_index=False)
    write_cells(path, table, list(file.vocabularies.values()), file.label)
    selected = analysis.load(simulation.folder).evaluations(at="selected")
    assert selected.iteration[list(selected.trial).index(path.parent.name)] == 2


def test_positive_class_can_be_chosen(results):
    no = results.rates(["true_positive_rate"], by=(), positive="no")
    tnr = results.rates(["true_negative_rate"], by=())
    np.testing.assert_array_equal(no["value"], tnr["value"])
    assert set(no["metric"]) == {"true_positive_rate[no]"}
    assert set(results.rates(["true_positive_rate[no]"], by=())["metric"]) == {"true_positive_rate[no]"}


def test_many_classes_have_accuracies_and_named_rates(digits):
    results = analysis.load(digits.folder)
    frame = results.frame()
    assert {metric for metric in frame["metric"] if "[" in metric} == set()
    assert {"accuracy", "accuracy_difference", "worst_group_accuracy"} <= set(frame["metric"])
    recall = results.rates(["true_positive_rate[8]"], by=())
    by_class = results.rates(["accuracy"], by="digit")
    eight = by_class[by_class["group"] == "8"]
    np.testing.assert_array_equal(recall["value"].to_numpy(), eight["value"].to_numpy())
    with pytest.raises(ValueError, match=r"true_positive_rate\[9\]"):
        results.rates(["true_positive_rate"])


def test_a_running_sweep_with_failures_shows_what_there_is(unfinished):
    results = analysis.load(unfinished.folder)
    states = results.trials["state"].value_counts().to_dict()
    assert states == {"done": 8, "running": 1, "queued": 1, "failed": 1}
    frame = results.frame(["accuracy"], by=())
    assert len(frame) == 6
    every = results.frame(["accuracy"], by=(), states=None)
    assert len(every) == 8
    assert (every["iteration"] < 3).sum() == 2
    problems = results.problems.set_index("file")["message"]
    assert len(problems) == 3
    assert "damaged" in problems[CELLS].iloc[0]
    assert "must exist" in problems[DATA]
    queued = results.trials[results.trials["state"] == "queued"].iloc[0]
    assert queued["learner"] == ""
    running = results.trials[results.trials["state"] == "running"].iloc[0]
    assert np.isnan(running["epsilon"])
    failed = results.trials[results.trials["state"] == "failed"].iloc[0]
    assert "OutOfMemoryError" in failed["error"]


def test_a_sweep_without_results_says_so(tmp_path, simulate):
    empty = tmp_path / "empty"
    (empty / "trials").mkdir(parents=True)
    results = analysis.load(empty)
    assert results.trials.empty
    assert results.name == "empty"
    with pytest.raises(analysis.RecordError, match="no trial has recorded"):
        results.rates()
    simulation = simulate["faces"](tmp_path / "s", replicates=0)
    simulate["face_trial"](simulation, {"name": "tuned", "kind": "sgd"}, 0.5, 0, state="running")
    with pytest.raises(analysis.RecordError, match="states=None"):
        analysis.load(simulation.folder).rates()
    with pytest.raises(FileNotFoundError, match="output folder"):
        analysis.load(tmp_path / "absent")


def test_trials_of_another_sweep_are_left_out_and_named(tmp_path, simulate):
    simulation = simulate["faces"](tmp_path / "s", replicates=1, shares=(0.5,))
    path = next((simulation.folder / "trials").iterdir()) / CELLS
    file = read_cells(path)
    other = [Vocabulary(v.name, tuple(reversed(v.values))) for v in file.vocabularies.values()]
    write_cells(path, file.table, other, file.label)
    results = analysis.load(simulation.folder)
    assert path.parent.name not in set(results.rates()["trial"])
    assert results.rates()["trial"].nunique() == 2
    (message,) = results.problems["message"]
    assert "different folders" in message
    assert results.vocabulary("tone").values == ("light", "dark")


def test_without_groups_the_classes_are_compared(tmp_path, simulate):
    simulation = simulate["faces"](tmp_path / "s", replicates=1, shares=(0.5,))
    for folder in (simulation.folder / "trials").iterdir():
        file = read_cells(folder / CELLS)
        keys = ["iteration", "split", "label", "prediction"]
        frame = file.table.to_pandas().groupby(keys, as_index=False)["count"].sum()
        table = pa.Table.from_pandas(frame, preserve_index=False)
        write_cells(folder / CELLS, table, list(file.vocabularies.values()), file.label)
    results = analysis.load(simulation.folder)
    assert results.groups == ()
    frame = results.frame(["accuracy", "accuracy_difference"])
    assert set(frame["attribute"]) == {"", "smiling"}
    assert analysis.write_report(results).stat().st_size > 0


def test_a_trial_with_codes_outside_the_vocabulary_is_left_out_and_named(tmp_path, simulate):
    simulation = simulate["faces"](tmp_path / "s", replicates=1, shares=(0.5,))
    path = next((simulation.folder / "trials").iterdir()) / CELLS
    file = read_cells(path)
    column = pa.array(np.full(file.table.num_rows, 7, np.int16))
    table = file.table.set_column(file.table.column_names.index("tone"), "tone", column)
    write_cells(path, table, list(file.vocabularies.values()), file.label)
    results = analysis.load(simulation.folder)
    assert path.parent.name not in set(results.rates()["trial"])
    (problem,) = results.problems.itertuples()
    assert problem.trial == path.parent.name
    assert "codes of tone must lie in 0 … 1" in problem.message


def test_a_uri_reads_the_same(faces, results):
    remote = analysis.load(f"file://{faces.folder}")
    pd.testing.assert_frame_equal(remote.rates(["accuracy"]), results.rates(["accuracy"]))


def test_swept_fields_tell_series_apart(tmp_path, simulate):
    simulation = simulate["faces"](tmp_path / "s", replicates=0)
    for epsilon in (1.0, 8.0):
        for replicate in (0, 1):
            learner = {"name": "private", "kind": "dpsgd", "epsilon": epsilon, "optimizer": {"lr": 0.5}}
            simulate["face_trial"](simulation, learner, 0.5, replicate)
    results = analysis.load(simulation.folder)
    assert set(results.trials["series"]) == {"private, ε=1", "private, ε=8"}
    means = analysis.average(results.rates(["accuracy"], by=()))
    assert means.set_index("series")["epsilon"].to_dict() == {"private, ε=1": 1.0, "private, ε=8": 8.0}
    assert (means["replicates"] == 2).all()


def test_fields_that_some_trials_alone_have_tell_series_apart(tmp_path, simulate):
    """A learner that a later version extends by a schedule; what it leaves as it was names nothing."""
    simulation = simulate["faces"](tmp_path / "s", replicates=0)
    former = {"name": "sgd", "lr": 0.5, "betas": [0.9, 0.999], "milestones": [], "milestone_factor": 0.1}
    plain = {"name": "sgd", "lr": 0.5, "nesterov": False, "schedule": {"name": "constant", "warmup": 0.0}}
    falling = plain | {"schedule": {"name": "cosine", "warmup": 0.0, "final": 0.0}}
    learner = {"name": "tuned", "kind": "sgd"}
    simulate["face_trial"](simulation, learner | {"optimizer": former}, 0.5, 0)
    simulate["face_trial"](simulation, learner | {"optimizer": plain, "ema": None}, 0.9, 0)
    assert set(analysis.load(simulation.folder).trials["series"]) == {"tuned"}
    simulate["face_trial"](simulation, learner | {"optimizer": falling}, 0.5, 0)
    simulate["face_trial"](simulation, learner | {"optimizer": falling, "ema": 0.99}, 0.5, 0)
    simulate["face_trial"](simulation, learner | {"optimizer": falling, "label_smoothing": 0.1}, 0.5, 0)
    cosine = "tuned, schedule=cosine"
    series = set(analysis.load(simulation.folder).trials["series"])
    assert series == {"tuned, schedule=constant", cosine, f"{cosine}, ema=0.99", f"{cosine}, label_smoothing=0.1"}


def test_what_trials_took_stands_beside_them_and_their_settings(tmp_path, simulate):
    simulation = simulate["faces"](tmp_path / "s", replicates=2, shares=(0.5,))
    for number, trial in enumerate(simulation.folder.glob("trials/*")):
        took = {"seconds": 8.0, "examples": 4000, "host_peak_bytes": 2**20 + number}
        write_json(trial / STATE, read_json(trial / STATE) | took)
    results = analysis.load(simulation.folder)
    assert set(results.trials["examples_per_second"]) == {500.0}
    assert results.trials["device_peak_bytes"].isna().all()
    largest = results.trials.groupby("setting")["host_peak_bytes"].max()
    table = results.settings.set_index("setting")
    assert set(table["examples_per_second"]) == {500.0}
    assert table["host_peak_bytes"].to_dict() == largest.to_dict()


def test_records_as_tables(results, faces):
    training = results.training()
    assert training.groupby("trial")["iteration"].count().eq(3).all()
    diagnostics = results.diagnostics()
    assert set(diagnostics["attribute"]) == {"tone", "shape"}
    assert set(diagnostics["value"]) == {"light", "dark", "round", "long"}
    dark = diagnostics[(diagnostics["value"] == "dark") & (diagnostics["label"] == "no")]
    assert (dark["mean_gradient_norm"] == 2.0).all()
    counts = results.training_counts()
    trial = results.trials.query("share == 0.99")["trial"].iloc[0]
    mine = counts[counts["trial"] == trial].groupby("tone")["count"].sum()
    assert mine.to_dict() == {"dark": 40, "light": 3960}
    predictions = results.predictions([trial], ["id", "split", "label", "prediction"])
    assert predictions.column_names == ["id", "split", "label", "prediction", "trial"]
    test = predictions.to_pandas().query("split == 'test'")
    accuracy = results.rates(["accuracy"], by=()).set_index("trial").loc[trial, "value"]
    assert (test["label"] == test["prediction"]).mean() == pytest.approx(accuracy)
    assert results.examples.num_rows == sum(map(len, faces.ids.values()))
    assert results.predictions([]).num_rows == 0


def loaded_after(statement, names):
    code = f"import sys; {statement}; print(*sorted({{n.split('.')[0] for n in sys.modules}} & {set(names)}))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(answer.stdout.split())


def test_analysis_imports_neither_torch_nor_ray():
    names = ("report.report_page", "figures.plots", "results.results", "records.trial_folder")
    modules = ", ".join(f"fairsweep.analysis.{name}" for name in names)
    assert loaded_after(f"import {modules}", {"torch", "ray", "opacus", "pydantic", "typer"}) == set()


def test_writing_records_loads_pyarrow_and_numpy_only():
    heavy = {"pandas", "scipy", "plotly", "jinja2", "numpy", "pyarrow"}
    assert loaded_after("import fairsweep.analysis.records.trial_folder", heavy) == {"numpy", "pyarrow"}


def test_public_names_are_found_and_others_are_not():
    for name in analysis.__all__:
        assert getattr(analysis, name) is not None
    assert {*analysis.__all__, "__version__"} == set(dir(analysis))
    with pytest.raises(AttributeError, match="write_report"):
        analysis.write_reports  # noqa: B018


def test_one_word_is_a_list_of_one(results):
    pd.testing.assert_frame_equal(results.frame("accuracy", by="tone"), results.frame(["accuracy"], by=["tone"]))
    listed = results.rates(["accuracy"], states=["done"])
    pd.testing.assert_frame_equal(results.rates("accuracy", states="done"), listed)


@pytest.mark.parametrize("wrong", [{"metrics": 3}, {"metrics": [None]}, {"by": 1}, {"states": 5}])
def test_what_is_no_name_is_refused_by_name(results, wrong):
    with pytest.raises(TypeError, match=f"{next(iter(wrong))} must be a name or a list of names, but got"):
        results.frame(**({"metrics": ["accuracy"]} | wrong))


def test_no_metric_at_all_is_refused(results):
    with pytest.raises(ValueError, match="disparities compare groups, but got"):
        results.frame(["accuracy_difference"], by=())
    with pytest.raises(ValueError, match="metrics must name at least one"):
        results.frame([])


def test_what_is_no_sweep_is_not_opened_as_an_empty_one(faces, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset.json").write_text("{}")
    (tmp_path / "a.yaml").write_text("")
    above = tmp_path / "runs"
    (above / "x").mkdir(parents=True)
    (above / "x" / "sweep.json").write_text("{}")
    kinds = {
        "data": "is a prepared dataset",
        "a.yaml": "is a file",
        "runs": "is a folder of sweeps, not a sweep folder",
    }
    for place, said in kinds.items():
        with pytest.raises(ValueError, match=said):
            analysis.load(tmp_path / place)
    for given in (None, 3, ""):
        with pytest.raises(TypeError, match="load needs the output folder"):
            analysis.load(given)


@pytest.mark.parametrize(
    ("call", "new"),
    [
        (lambda results: results.frame(["accuracy"], against="twin"), "baseline"),
        (lambda results: results.pairs(against="twin"), "baseline"),
        (lambda results: results.to_csv("never.csv", against="twin"), "baseline"),
        (lambda results: results.to_parquet("never.parquet", against="twin"), "baseline"),
        (lambda results: results.disparities(["accuracy_difference"], null=False), "expected_if_equal"),
        (lambda results: analysis.plots.change_by_group(results, "tone", against="twin"), "baseline"),
        (lambda results: analysis.excess_loss(results, "tone", "dark", against="twin"), "baseline"),
        (lambda results: analysis.crossed_frame(results, ["accuracy"], by="tone", against="twin"), "baseline"),
    ],
)
def test_a_former_name_of_an_argument_gives_an_error_with_the_new_one(results, call, new):
    with pytest.raises(TypeError, match=f"it is now {new}="):
        call(results)


def test_columns_have_the_names_of_the_field(results):
    frame = results.disparities(["accuracy_difference"], by="tone")
    assert {"baseline", "expected_if_equal"} <= set(frame)
    assert not {"against", "null"} & set(frame)
    means = analysis.average(frame)
    assert "std" in means
    assert "deviation" not in means
