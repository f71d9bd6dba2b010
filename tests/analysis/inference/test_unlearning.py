"""Tables and figures of what forgetting costs and does."""

import numpy as np
import pyarrow as pa
import pytest

from fairsweep.analysis import load
from fairsweep.analysis.figures.plots import placement_by_group, request_timeline
from fairsweep.analysis.inference.unlearning import REQUEST_COLUMNS, along_requests, placements, requests
from fairsweep.analysis.records.file_names import COST, PLACEMENT
from fairsweep.analysis.records.files import RecordError, write_json, write_parquet
from fairsweep.analysis.records.learner_records import placement_table, read_placement, write_placement
from fairsweep.analysis.report.report_content import collect
from fairsweep.analysis.report.report_page import write_report

SISA = {"name": "forgetful", "kind": "sisa", "shards": 2, "slices": 1}
FULL = {"examples": 200, "steps": 20, "seconds": 2.0, "bytes": 100}


def request(number, iteration, examples):
    return {
        "number": number,
        "iteration": iteration,
        "asked": 1,
        "deleted": 1,
        "shards": [{"shard": 1, "from_slice": 1}],
        "examples": examples,
        "steps": 10,
        "seconds": 1.0,
        "bytes": 50,
        "full": FULL,
    }


@pytest.fixture
def results(tmp_path, simulate):
    """Two replicates of a learner that serves two requests, and one of another kind."""
    simulation = simulate["simulation"](
        tmp_path,
        simulate["face_words"],
        ("tone", "shape"),
        "smiling",
        20,
        lambda learner, level, codes, label: np.where(codes[:, 0] == 0, 0.9, 0.7),
    )
    for replicate in range(2):
        folder = simulation.trial(SISA, None, "natural", replicate)
        costs = [request(1, 2, 100), request(2, 3, 50)]
        write_json(folder / COST, {"format_version": 1, "requests": costs})
        ids = np.concatenate(list(simulation.ids.values()))
        deleted = np.isin(np.arange(len(ids)), [0, 1])
        write_placement(folder / PLACEMENT, placement_table(ids, np.arange(len(ids)) % 2 + 1, 1 + 0 * ids, deleted))
    simulation.trial({"name": "whole", "kind": "sgd"}, None, "natural")
    simulation.write_sweep_json()
    return load(tmp_path)


def test_requests_stand_beside_a_full_retraining(results):
    frame = requests(results)
    assert tuple(frame.columns) == REQUEST_COLUMNS
    assert frame["speedup"].tolist() == [2.0, 4.0, 2.0, 4.0]
    assert set(frame["learner"]) == {"forgetful"}
    assert frame["replicate"].tolist() == [0, 0, 1, 1]


def test_placement_counts_add_up_by_group(results):
    frame = placements(results, "tone")
    assert set(frame["tone"]) == {"light", "dark"}
    assert frame.groupby("trial")["count"].sum().unique() == [len(results.examples)]
    assert frame.groupby("trial")["deleted"].sum().unique() == [2]
    with pytest.raises(ValueError, match="'colour'"):
        placements(results, "colour")


def test_rates_follow_the_requests_from_the_model_before_the_first(results):
    frame = along_requests(results, ["accuracy", "accuracy_difference"], "tone")
    assert sorted(frame["request"].unique()) == [0, 1, 2]
    assert (frame["iteration"] == frame["request"] + 1).all()
    whole = results.rates(["accuracy"], by="tone", at="all")
    one = frame[(frame["metric"] == "accuracy") & (frame["request"] == 2)].sort_values(["trial", "group"])
    same = whole[(whole["iteration"] == 3) & (whole["learner"] == "forgetful")].sort_values(["trial", "group"])
    np.testing.assert_array_equal(one["value"], same["value"])


def test_figures_show_each_group_and_every_request(results):
    figure = placement_by_group(results, "forgetful", "tone")
    assert [trace.name for trace in figure.data] == ["light tone", "dark tone"]
    assert sum(sum(trace.y) for trace in figure.data) == len(results.examples)
    assert placement_by_group(results, "whole", "tone") is None
    timeline = request_timeline(results, "forgetful", "tone")
    np.testing.assert_allclose(timeline.data[0].y, [0.5, 0.25])
    assert [len(trace.x) for trace in timeline.data] == [2, 6, 3, 6, 3, 6, 3]  # bands before their lines
    assert request_timeline(results, "whole", "tone") is None


def test_the_report_shows_them(results, tmp_path):
    text = write_report(results, tmp_path / "report.html").read_text()
    assert "Unlearning: cost of each request, and shard placement" in text
    assert {"requests-forgetful", "placement-forgetful"} <= {f.name for f in collect(results).findings.unlearning}


def test_a_placement_is_read_as_written_and_other_tables_are_refused(tmp_path):
    table = placement_table(np.array([5, 2]), [1, 2], [1, 1], [False, True])
    write_placement(tmp_path / PLACEMENT, table)
    assert read_placement(tmp_path / PLACEMENT).to_pylist() == [
        {"id": 2, "shard": 2, "slice": 1, "deleted": True},
        {"id": 5, "shard": 1, "slice": 1, "deleted": False},
    ]
    write_parquet(tmp_path / PLACEMENT, pa.table({"id": [1]}), {})
    with pytest.raises(RecordError, match="must have the columns"):
        read_placement(tmp_path / PLACEMENT)
