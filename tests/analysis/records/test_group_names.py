"""Attributes may be called as the columns of records and tables are: names change nothing."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import fairsweep.analysis as analysis
from fairsweep.analysis.figures import bars

GROUPS = {"the label is a group": ("tone", "smiling"), "groups beside the label": ("tone", "shape")}
NAMES = [
    ("the label is a group", {"smiling": "label", "tone": "count"}),
    ("groups beside the label", {"tone": "label", "shape": "prediction"}),
    ("groups beside the label", {"tone": "trial", "shape": "level", "smiling": "iteration"}),
]


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    """Writes a sweep on faces whose attributes have other names."""

    def write(simulate, groups, names):
        vocabularies = [replace(v, name=names.get(v.name, v.name)) for v in simulate["face_words"]]
        new = {old.name: v.name for old, v in zip(simulate["face_words"], vocabularies, strict=True)}
        simulation = simulate["simulation"](
            tmp_path_factory.mktemp("sweep") / "s",
            vocabularies,
            tuple(new[name] for name in groups),
            new["smiling"],
            40,
            lambda learner, level, codes, label: np.where(codes[:, 0] == 0, 0.9, level),
        )
        imbalance = {"attribute": new["tone"], "majority": "light", "size": 100}
        for share in (0.5, 0.9):
            rows = [(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1) if "shape" in groups or b == c]
            counts = [(*row, round(100 * (1 - share)) + row[0] + 3 * row[1]) for row in rows]
            simulation.trial({"name": "tuned", "kind": "sgd"}, imbalance | {"share": share}, share, 0, counts=counts)
        simulation.write_sweep_json()
        return analysis.load(simulation.folder)

    return write


@pytest.fixture(scope="module")
def plain(write):
    """The same sweeps under names that no column has."""
    made = {}

    def plain(simulate, case):
        if case not in made:
            made[case] = write(simulate, GROUPS[case], {})
        return made[case]

    return plain


@pytest.mark.parametrize(("case", "names"), NAMES)
def test_names_of_attributes_change_no_number(simulate, write, plain, case, names):
    results, expected = write(simulate, GROUPS[case], names), plain(simulate, case)
    assert results.problems.empty
    assert results.groups == tuple(names.get(name, name) for name in expected.groups)
    assert results.label == names.get("smiling", "smiling")
    metrics = ["accuracy", "accuracy_difference"]
    for by in (*((name,) for name in expected.groups), expected.groups, ("smiling",)):
        frame = results.frame(metrics, by=[names.get(name, name) for name in by])
        other = expected.frame(metrics, by=by)
        told = [" & ".join(names.get(name, name) for name in text.split(" & ")) for text in other["attribute"]]
        assert frame["attribute"].tolist() == told
        left_out = ["attribute", "trial", "setting", "group"]
        pd.testing.assert_frame_equal(frame.drop(columns=left_out), other.drop(columns=left_out))
    for table, other in (
        (results.training_counts(), expected.training_counts()),
        (results.cells(), expected.cells()),
    ):
        assert table.columns.is_unique
        assert table.drop(columns="trial").to_numpy().tolist() == other.drop(columns="trial").to_numpy().tolist()
    for attribute in expected.groups:
        drawn = bars.training_counts(results, names.get(attribute, attribute)).panels[0].marks
        others = bars.training_counts(expected, attribute).panels[0].marks
        assert [mark.y.tolist() for mark in drawn] == [mark.y.tolist() for mark in others]


def test_a_report_and_fairlearn_take_a_group_that_is_called_label(simulate, write):
    results = write(simulate, GROUPS["the label is a group"], {"smiling": "label", "tone": "count"})
    text = analysis.write_report(results).read_text()
    assert "group:" not in text
    pytest.importorskip("fairlearn")
    frame = analysis.to_metric_frame(results, results.trials["trial"].iloc[0])
    assert frame.by_group.index.names == ["count", "label"]
    assert frame.by_group["count"].sum() == frame.overall["count"]
