"""Groups that are too small are listed, not ranked."""

import numpy as np
import pandas as pd
import pytest

import fairsweep.analysis as analysis
from fairsweep.analysis.records.file_names import DATA, SWEEP_JSON, TRIALS
from fairsweep.analysis.records.files import read_json, write_json
from fairsweep.analysis.report.headline import extreme_groups
from fairsweep.analysis.report.page_verdicts import page_verdicts
from fairsweep.analysis.report.report_content import collect
from fairsweep.analysis.report.statements import answer, small_group_notes
from fairsweep.analysis.report.summary_table import summary_tables
from fairsweep.analysis.results.imbalance_design import design_of

SIZES = {"north": 200, "south": 150, "tiny": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two learners with three seeds each; nobody is right about the eight images of the tiny group."""
    rng = np.random.default_rng(0)
    site = np.repeat(list(SIZES), list(SIZES.values()))
    label = rng.integers(0, 2, len(site))
    rows = {name: [] for name in ("label", "prediction", "site", "trial", "learner", "seed")}
    for learner, accuracy in (("plain", 0.9), ("private", 0.8)):
        for seed in range(3):
            right = (rng.random(len(site)) < accuracy) & (site != "tiny")
            values = (label, np.where(right, label, 1 - label), site, f"{learner}-{seed}", learner, seed)
            for name, value in zip(rows, values, strict=True):
                rows[name].append(np.broadcast_to(np.asarray(value), len(site)))
    columns = {name: np.concatenate(parts) for name, parts in rows.items()}
    to = tmp_path_factory.mktemp("imported") / "sites"
    own = {name: columns[name] for name in ("trial", "learner", "seed")}
    analysis.from_predictions(columns["label"], columns["prediction"], {"site": columns["site"]}, **own, to=to)
    return to


def test_a_small_group_is_no_worst_group_and_makes_no_gap(folder):
    results = analysis.load(folder)
    assert results.small_groups("site") == {"tiny": 8}
    rates = results.rates(["accuracy"], by="site")
    assert set(rates["group"]) == set(SIZES)
    assert (rates.loc[rates["group"] == "tiny", "value"] == 0).all()
    assert rates["low"].notna().all()
    worst = results.disparities(["worst_group_accuracy", "accuracy_difference"], by="site").set_index("metric")["value"]
    assert (worst["worst_group_accuracy"] > 0.7).all()
    assert (worst["accuracy_difference"] < 0.2).all()
    every = results.disparities(["worst_group_accuracy", "auc_difference"], by="site", min_group_size=1)
    assert (every.set_index("metric")["value"]["worst_group_accuracy"] == 0).all()
    of_predictions = results.disparities(["auc_difference"], by="site")["value"]
    assert (of_predictions < 0.2).all()
    assert (every.set_index("metric")["value"]["auc_difference"] > 0.5).all()
    assert results.frame(["worst_group_accuracy"], by="site", min_group_size=1)["value"].eq(0).all()


def test_every_frame_of_disparities_leaves_it_out(folder):
    results = analysis.load(folder)
    metrics = ["worst_group_accuracy", "auc_difference"]
    crossed = analysis.crossed_frame(results, metrics, by="site", draws=100).set_index("metric")
    assert (crossed["value"]["worst_group_accuracy"] > 0.7).all()
    assert (crossed["value"]["auc_difference"] < 0.2).all()
    assert (crossed["low"] < crossed["value"]).all()
    boot = analysis.bootstrap_frame(results, metrics[:1], by="site", draws=100)
    assert (boot["low"] > 0.6).all()
    equal = pd.Series(1.0, results.examples["id"].to_numpy())
    weighted = analysis.weighted_frame(results, metrics[:1], equal, by="site", draws=50)
    assert (weighted["value"] > 0.7).all()
    permuted = analysis.permutation_frame(results, ["accuracy_difference"], by="site", draws=99)
    assert (permuted["value"] < 0.2).all()
    ranked = analysis.load(folder, min_group_size=1)
    assert (analysis.crossed_frame(ranked, metrics[:1], by="site", draws=20)["value"] == 0).all()


def test_the_report_lists_it_and_says_why_it_is_not_ranked(folder):
    results = analysis.load(folder)
    design = design_of(results)
    (note,) = small_group_notes(results, design)
    assert note == (
        "Too small to be ranked, with fewer than 20 test examples (min_group_size): site = tiny (8). They are listed "
        "in tables and figures, and take no part in worst groups, gaps, findings and selection."
    )
    assert {question.group for question in page_verdicts(results, design).found} == {"north", "all"}
    gaps = [s.text for group in answer(results, design) for s in group.statements]
    assert all("tiny" not in text for text in gaps)
    assert any("for site = north" in text and "for site = south" in text for text in gaps)  # not "the other groups"
    table = summary_tables(results)[0]
    assert "tiny*" in table.header
    assert "* Fewer than 20 test examples" in table.caption
    assert all("0.0 [" in row[table.header.index("tiny*")] for row in table.rows)
    assert all("tiny" not in text for text in extreme_groups(results, design))
    pairs = analysis.compare_learners(results, by="site").set_index("group")["p_value"]
    assert np.isnan(pairs["tiny"])
    assert np.isfinite(pairs["north"])


def test_the_number_is_read_from_the_sweep_file_and_can_be_given(folder, tmp_path):
    described = read_json(folder / SWEEP_JSON)
    try:
        write_json(folder / SWEEP_JSON, described | {"sweep": described["sweep"] | {"analysis": {"min_group_size": 5}}})
        assert analysis.load(folder).small_groups("site") == {}
        assert analysis.load(folder, min_group_size=160).small_groups("site") == {"south": 150, "tiny": 8}
    finally:
        write_json(folder / SWEEP_JSON, described)
    with pytest.raises(ValueError, match="at least 1"):
        analysis.load(folder, min_group_size=0)
    with pytest.raises(TypeError, match="now min_group_size"):
        analysis.load(folder).disparities(least_n=3)


def test_where_fewer_than_two_groups_are_left_the_report_says_that_it_compares_none(folder):
    results = analysis.load(folder, min_group_size=160)
    assert small_group_notes(results, design_of(results))[0].endswith(
        "these are all groups of site but north, so that its groups are not compared."
    )
    assert results.disparities(["accuracy_difference"], by="site")["value"].isna().all()
    alone = collect(analysis.load(folder, min_group_size=1000))
    assert alone.notes[0].endswith("these are all groups of site, so that its groups are not compared.")
    assert alone.findings.tables[1].rows[0][-1].startswith("n/a")


def test_a_small_rare_group_is_not_what_the_answer_is_about(folder, tmp_path):
    for place in (folder / TRIALS).glob(f"*/{DATA}"):
        minority = {"attribute": "site", "values": ["tiny"], "count": 3}
        write_json(place, read_json(place) | {"minority": minority})
    results = analysis.load(folder)
    assert design_of(results).rare == ("tiny",)
    found = page_verdicts(results, design_of(results)).found
    assert all(question.group != "tiny" for question in found)
    assert all("tiny" not in s.text for group in answer(results, design_of(results)) for s in group.statements)
