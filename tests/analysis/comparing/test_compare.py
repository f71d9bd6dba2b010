"""Two sweeps side by side: what matches, what differs, and intervals that know what was paired."""

import shutil

import numpy as np
import pytest

import fairsweep.analysis as analysis
from fairsweep.analysis.comparing.comparison_page import write_comparison
from fairsweep.analysis.comparing.comparison_table import change_text, comparison_tables
from fairsweep.analysis.records.file_names import CONFIG, SWEEP_JSON, TRIALS
from fairsweep.analysis.records.files import read_json, write_json
from fairsweep.analysis.results.replicates import average_of_tables


def rewritten(folder, to, change):
    """A copy of a sweep whose configs are changed; hashes change with them."""
    shutil.copytree(folder, to)
    for path in sorted((to / TRIALS).iterdir()):
        config = read_json(path / CONFIG)
        changed = change(config)
        if changed is None:
            shutil.rmtree(path)
        else:
            write_json(path / CONFIG, changed)
    return to


def another_learning_rate(config):
    """Every setting and trial gets another hash; seeds stay."""
    names = {name: f"new {config[name]}" for name in ("setting", "trial")}
    return config | names | {"learner": config["learner"] | {"optimizer": {"lr": 0.5}}}


def other_seeds(config):
    return another_learning_rate(config) | {"seeds": {"data": 100 + config["replicate"], "train": 7}}


@pytest.fixture(scope="module")
def again(faces, tmp_path_factory):
    """The same sweep once more, made from the same seeds with another luck in training."""
    folder = tmp_path_factory.mktemp("again") / "faces"
    shutil.copytree(faces.folder, folder)
    return folder


def test_a_sweep_run_again_is_identical(faces, again):
    found = analysis.compare(faces.folder, again)
    assert (found.trials["pairing"] == "same trials").all()
    assert found.trials["identical"].all()
    assert len(found.trials) == 18
    assert (found.settings["where"] == "both").all()
    assert found.changes.empty
    assert (found.differences[["difference", "low", "high"]] == 0).all(axis=None)
    assert not found.differences["verdict"].isin(["different"]).any()
    assert "all of them have the same test counts" in found.sentences()[0]
    assert "Configs, data set, versions and commit are the same." in found.sentences()


def test_differences_are_those_of_the_twins(faces, tmp_path):
    """Private renamed to matched and back: B minus A are the twin differences that `frame` gives, intervals too."""

    def swapped(config):
        learner = config["learner"]
        if learner["name"] != "matched":
            return None
        fields = {"name": "private", "twin_of": None, "epsilon": 3.0, "noise_multiplier": None, "l2_clip_norm": 1.0}
        return (
            config
            | {"setting": "s" + config["setting"], "trial": "t" + config["trial"]}
            | {"learner": learner | fields}
        )

    twins = rewritten(faces.folder, tmp_path / "twins", swapped)
    found = analysis.compare(twins, faces.folder, ["accuracy"], by=["tone"])
    results = analysis.load(faces.folder)
    frame = results.frame(["accuracy"], by="tone", baseline="twin")
    expected = average_of_tables(frame).set_index(["setting", "group"])
    mine = found.differences[found.differences["attribute"] == "tone"]
    assert len(mine) == len(expected) == 6
    for row in mine.itertuples():
        other = expected.loc[(row.setting, row.group)]
        np.testing.assert_allclose([row.difference, row.low, row.high], other[["value", "low", "high"]].astype(float))
        assert row.b - row.a == pytest.approx(row.difference)
        assert (row.pairing, row.images, row.replicates) == ("same seeds", "paired", 2)
    assert set(found.settings.loc[found.settings["where"] == "B", "learner"]) == {"matched", "tuned"}
    turned = analysis.compare(faces.folder, twins, ["accuracy"], by=["tone"])
    assert set(turned.settings.loc[turned.settings["where"] == "A", "learner"]) == {"matched", "tuned"}
    turned_round = turned.differences[turned.differences["attribute"] == "tone"]
    np.testing.assert_allclose(turned_round["difference"], -mine["difference"])


def test_a_changed_field_is_named_and_pairs_by_seed(faces, tmp_path):
    folder = rewritten(faces.folder, tmp_path / "b", another_learning_rate)
    found = analysis.compare(faces.folder, folder)
    assert (found.trials["pairing"] == "same seeds").all()
    assert len(found.trials) == 18
    assert (found.differences["difference"] == 0).all()
    assert found.trials["identical"].all()
    (change,) = found.changes.to_dict("records")
    assert change == {"what": "config", "where": "", "key": "learner.optimizer.lr", "a": "(not set)", "b": "0.5"}
    assert "18 pairs of trials share their seeds and differ in their config" in found.sentences()[0]


def test_without_common_seeds_nothing_pairs(faces, tmp_path):
    folder = rewritten(faces.folder, tmp_path / "b", other_seeds)
    found = analysis.compare(faces.folder, folder)
    assert found.trials.empty
    assert (found.differences["pairing"] == "unpaired").all()
    assert (found.differences["images"] == "as if independent").all()
    paired = analysis.compare(faces.folder, rewritten(faces.folder, tmp_path / "c", another_learning_rate))
    width = [
        (table["high"] - table["low"])[table["metric"] == "accuracy"]
        for table in (found.differences, paired.differences)
    ]
    assert (width[0].to_numpy() > width[1].to_numpy()).all()


def test_other_data_or_versions_are_said_and_nothing_is_taken_as_paired(faces, again, tmp_path):
    folder = tmp_path / "b"
    shutil.copytree(again, folder)
    sweep = read_json(folder / SWEEP_JSON)
    changed = {
        "dataset": sweep["dataset"] | {"content_hash": "other"},
        "versions": sweep["versions"] | {"torch": "9.9"},
        "git": {"commit": "f00", "changed": True},
    }
    write_json(folder / SWEEP_JSON, sweep | changed)
    found = analysis.compare(faces.folder, folder)
    assert (found.differences["images"] == "as if independent").all()
    rows = {(row.what, row.key): (row.a, row.b) for row in found.changes.itertuples()}
    assert rows["dataset", "content_hash"] == ("c0ffee" * 5, "other")
    assert rows["version", "torch"] == ("2.15.0", "9.9")
    assert rows["code", "changed"] == ("false", "true")


def test_swept_fields_tell_settings_apart(tmp_path, simulate):
    folders = []
    for name, epsilons in (("a", (1.0, 8.0)), ("b", (8.0, 3.0))):
        simulation = simulate["faces"](tmp_path / name, replicates=0)
        for epsilon in epsilons:
            learner = {"name": "private", "kind": "dpsgd", "epsilon": epsilon, "lr": 1 if name == "a" else 2}
            simulate["face_trial"](simulation, learner, 0.5, 0)
        simulation.write_sweep_json(name)
        folders.append(simulation.folder)
    settings = analysis.compare(*folders).settings
    assert settings[["learner", "where"]].to_numpy().tolist() == [
        ["private, ε=3", "B"],
        ["private, ε=8", "both"],
        ["private, ε=1", "A"],
    ]


def test_sweeps_without_a_common_setting_are_not_called_the_same(tmp_path, simulate):
    """Their grids differ, so nothing was compared; the sentence on configs is of settings in both."""
    sweeps = [simulate["faces"](tmp_path / name, shares=shares) for name, shares in (("a", (0.5,)), ("b", (0.9,)))]
    found = analysis.compare(*(sweep.folder for sweep in sweeps))
    assert found.differences.empty
    assert found.sentences()[0] == "Settings in both sweeps: 0; only in A: 3; only in B: 3."
    assert found.sentences()[1].startswith("Nothing is compared")
    assert found.sentences()[-1] == "Data set, versions and commit are the same."
    assert "None: data set, versions" in write_comparison(found, tmp_path / "page.html").read_text(encoding="utf-8")
    wider = simulate["faces"](tmp_path / "c", shares=(0.5, 0.9))
    more = analysis.compare(sweeps[0].folder, wider.folder).sentences()
    assert more[-1] == "Configs of settings in both, data set, versions and commit are the same."


def test_one_name_is_a_list_of_one_and_an_unknown_one_is_refused(faces, again):
    one = analysis.compare(faces.folder, again, "accuracy", by="tone").differences
    assert one.equals(analysis.compare(faces.folder, again, ["accuracy"], by=["tone"]).differences)
    with pytest.raises(ValueError, match="metric must be one of those that describe"):
        analysis.compare(faces.folder, again, ["acuracy"])
    with pytest.raises(ValueError, match=r"by must be an attribute.*but got 'hair'"):
        analysis.compare(faces.folder, again, by="hair")


def test_of_one_replicate_it_is_said_that_intervals_are_of_the_images_alone(tmp_path, simulate):
    """Far from 0, and yet not significant: that has a reason, which stood nowhere."""
    single = simulate["faces"](tmp_path / "a", shares=(0.5,), replicates=1)
    found = analysis.compare(single.folder, rewritten(single.folder, tmp_path / "b", other_seeds))
    assert any(text.startswith("They all rest on one replicate") for text in found.sentences())
    several = simulate["faces"](tmp_path / "c", shares=(0.5,), replicates=2)
    found = analysis.compare(several.folder, rewritten(several.folder, tmp_path / "d", other_seeds))
    assert not any("one replicate" in text for text in found.sentences())


def test_sweeps_of_other_labels_are_refused(faces, digits):
    with pytest.raises(ValueError, match="must predict the same label"):
        analysis.compare(faces.folder, digits.folder)


def test_a_real_change_is_significant(tmp_path, simulate, monkeypatch):
    before = simulate["faces"](tmp_path / "a", replicates=5, per_cell=60, shares=(0.9,))
    monkeypatch.setitem(simulate["truth"], "tuned", {0.9: (0.92, 0.60)})
    after = simulate["faces"](tmp_path / "b", replicates=5, per_cell=60, shares=(0.9,))
    found = analysis.compare(before.folder, after.folder).differences
    dark = found[(found["metric"] == "accuracy") & (found["group"] == "dark")].set_index("learner")
    assert dark["verdict"].to_dict() == {
        "private": "equivalent",
        "matched": "equivalent",
        "tuned": "different",
    }
    assert dark.loc["tuned", "low"] < 0.60 - 0.88 < dark.loc["tuned", "high"]


def test_tables_and_page_show_the_numbers(faces, again, tmp_path):
    found = analysis.compare(faces.folder, again)
    titles = [table.title for table in comparison_tables(found)]
    assert titles[:2] == ["Accuracy by tone: B minus A", "Disparities by tone: B minus A"]
    table = comparison_tables(found)[0]
    assert table.header == ("learner", "level", "paired by", "pairs", "all", "light tone", "dark tone")
    assert len(table.rows) == 9
    assert {row[4] for row in table.rows} == {"+0.0 [+0.0,+0.0]"}
    text = write_comparison(found, tmp_path / "c.html").read_text()
    assert "default-src 'none'" in text
    assert "None: configs, data set, versions and commit are the same." in text
    assert text.count("application/json") == 2
    assert len(text.encode()) < 3_000_000
    assert "B: simulated" in found._repr_html_()


def test_changes_are_points_with_a_true_minus():
    assert change_text(-0.021, -0.05, 0.008, mark="*") == "−2.1* [−5.0,+0.8]"  # noqa: RUF001
    assert change_text(float("nan"), 0, 0) == "n/a"
