"""What a report says about the study itself: the images, the learners, the failures, and how to run it again."""

import base64
import io
import re

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import fairsweep.analysis as analysis
from fairsweep.analysis.records.failed_trials import failure_groups
from fairsweep.analysis.records.file_names import CONFIG, SWEEP_JSON
from fairsweep.analysis.records.files import read_json, write_json
from fairsweep.analysis.report.example_images import image_sheet
from fairsweep.analysis.report.reproduction import reproduction
from fairsweep.analysis.report.study_description import DRAWINGS, data_sentences, learners
from fairsweep.analysis.results.imbalance_design import design_of
from fairsweep.datasets.storage.prepared import Attribute, write_prepared

LIGHT, DARK = (240, 200, 180), (90, 60, 40)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Plain images: grey levels say the tone, the first test images are brighter in red where somebody smiles."""
    codes = np.array([(tone, smiling) for tone in (0, 1) for smiling in (0, 1)] * 20, np.int16)
    images = np.array([LIGHT, DARK], np.uint8)[codes[:, 0]][:, None, None].repeat(8, 1).repeat(6, 2)
    images[..., 0] += codes[:, 1, None, None].astype(np.uint8) * 15
    attributes = [Attribute(name="tone", values=("light", "dark")), Attribute(name="smiling", values=("no", "yes"))]
    examples = pa.table(
        {
            "id": np.arange(80),
            "tone": codes[:, 0],
            "smiling": codes[:, 1],
            "split": np.where(np.arange(80) < 40, "train", "test"),
        }
    )
    folder = tmp_path_factory.mktemp("data") / "set"
    write_prepared(folder, name="faces", attributes=attributes, examples=examples, images=images)
    return folder, read_json(folder / "dataset.json")["content_hash"]


def sweep_on(simulate, folder, dataset, name="faces", **changes):
    """A sweep of one trial whose dataset lies where it says."""
    simulation = simulate["faces"](folder, replicates=0, dataset=name)
    trial = simulate["face_trial"](simulation, {"name": "tuned", "kind": "sgd"}, 0.5, 0)
    config = read_json(trial / CONFIG)
    write_json(trial / CONFIG, config | changes)
    path, content = dataset
    simulation.write_sweep_json(dataset={"name": name, "path": str(path), "content_hash": content})
    return analysis.load(simulation.folder)


def picture(strip):
    head, _, content = strip.uri.partition(",")
    assert head == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"))


def test_pictures_show_each_group_by_label(tmp_path, simulate, dataset):
    results = sweep_on(simulate, tmp_path / "s", dataset)
    sheet = image_sheet(results, design_of(results), pictures=True)
    assert sheet.columns == ("smiling no", "smiling yes")
    assert [name for name, _ in sheet.rows] == ["light tone", "dark tone"]
    for (_, strips), expected in zip(sheet.rows, (LIGHT, DARK), strict=True):
        for smiling, strip in enumerate(strips):
            pixels = picture(strip)
            assert pixels.shape == (8, 6 * 6 + 5 * 3, 3)
            expected_pixel = np.add(expected, (15 * smiling, 0, 0))
            assert np.abs(pixels[4, 2].astype(int) - expected_pixel).max() < 12  # the format is not lossless
            assert strip.text.startswith("6 images: ")
    text = analysis.write_report(results, pictures=True).read_text()
    assert text.count('<img src="data:image/webp') == 4
    assert 'alt="6 images: dark tone, smiling yes"' in text


@pytest.mark.parametrize(
    ("name", "mode", "asked", "shown"),
    [
        ("faces", "research", False, False),
        ("faces", "research", True, True),
        ("faces", "release", False, False),
        ("patients", "research", False, False),
        ("patients", "research", True, True),
        ("patients", "release", False, False),
    ],
)
def test_private_images_are_shown_only_where_somebody_says_so(tmp_path, simulate, dataset, name, mode, asked, shown):
    results = sweep_on(simulate, tmp_path / "s", dataset, name, mode=mode)
    text = analysis.write_report(results, pictures=asked).read_text()
    assert ("<img" in text) == shown
    assert ("No example images" in text) == (not shown)


def test_pictures_of_a_release_are_refused(tmp_path, simulate, dataset):
    results = sweep_on(simulate, tmp_path / "s", dataset, "patients", mode="release")
    with pytest.raises(ValueError, match="release mode"):
        analysis.write_report(results, pictures=True)


def test_pictures_of_another_version_are_left_out(tmp_path, simulate, dataset):
    for place, expected in ((dataset[0], "has changed since"), (tmp_path / "nowhere", "cannot be reached")):
        results = sweep_on(simulate, tmp_path / place.name, (place, "another"))
        sheet = image_sheet(results, design_of(results), pictures=True)
        assert sheet.rows == ()
        assert expected in sheet.note


def test_classes_have_one_row_each(tmp_path, simulate, digits):
    images = np.arange(10, dtype=np.uint8).repeat(2)[:, None, None, None].repeat(4, 1).repeat(4, 2) * 25
    examples = pa.table(
        {"id": np.arange(20), "digit": np.arange(10, dtype=np.int16).repeat(2), "split": ["train", "test"] * 10}
    )
    attribute = Attribute(name="digit", values=tuple("0123456789"))
    folder = write_prepared(tmp_path / "d", name="mnist", attributes=[attribute], examples=examples, images=images)
    content = read_json(folder / "dataset.json")["content_hash"]
    results = analysis.load(digits.folder)
    results.sweep["dataset"] |= {"path": str(folder), "content_hash": content}
    sheet = image_sheet(results, design_of(results), pictures=True)
    assert sheet.columns == ("",)
    assert [name for name, _ in sheet.rows] == [f"digit {value}" for value in range(10)]
    assert [strip.text for _, (strip,) in sheet.rows][3] == "1 image: digit 3"
    assert [int(picture(strip).mean() / 25 + 0.5) for _, (strip,) in sheet.rows] == list(range(10))


def test_the_study_is_described(faces, digits):
    results = analysis.load(faces.folder)
    text = " ".join(data_sentences(results, design_of(results)))
    assert f"Data: {DRAWINGS}. Models predict smiling (no, yes)." in text
    assert "by tone (light tone, dark tone); shape (round, long)." in text
    assert "4,000 images. Images with tone = dark: 2,000 (share 0.5), 400 (share 0.9), 40 (share 0.99)." in text
    table = learners(results).set_index("learner")
    assert table["ε"].to_dict() == {"private": "3", "matched": "∞", "tuned": "∞"}
    assert table.loc["matched", "training"] == "as private, without clipping and noise"
    assert (table["trials done"] == "6 of 6").all()
    results = analysis.load(digits.folder)
    text = " ".join(data_sentences(results, design_of(results)))
    assert "predict digit (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)" in text
    assert "The training set has 3,650 images, 50 of them with digit = 8." in text


def test_failures_are_grouped_by_cause(tmp_path, simulate):
    simulation = simulate["faces"](tmp_path / "s", replicates=1, shares=(0.5,))
    for replicate, (error, traceback) in enumerate(
        [("no memory: 3 GB", None), ("no memory: 4.5 GB", "Traceback <one>"), ("lost", None)]
    ):
        learner = {"name": "tuned", "kind": "sgd"}
        simulate["face_trial"](simulation, learner, 0.9, replicate, state="failed", error=error, traceback=traceback)
    simulation.write_sweep_json()
    results = analysis.load(simulation.folder)
    groups = failure_groups(results.folders)
    assert [(group.cause, len(group.trials), group.traceback) for group in groups] == [
        ("no memory: 3 GB", 2, "Traceback <one>"),
        ("lost", 1, None),
    ]
    text = analysis.write_report(results).read_text()
    assert "<strong>2 failed:</strong> no memory: 3 GB" in text
    assert "Traceback &lt;one&gt;" in text
    assert "fairsweep retry-failed" in text


def test_a_guided_search_is_told_to_try_more_settings_instead_of_failed_ones(tmp_path, simulate):
    simulation = simulate["faces"](tmp_path / "s", replicates=1, shares=(0.5,))
    simulate["face_trial"](simulation, {"name": "tuned", "kind": "sgd"}, 0.9, 0, state="failed", error="no memory")
    simulation.write_sweep_json()
    described = read_json(simulation.folder / SWEEP_JSON)
    described["sweep"] = (described.get("sweep") or {}) | {
        "search": {"algorithm": "tpe", "objectives": [{"max": "accuracy"}]}
    }
    write_json(simulation.folder / SWEEP_JSON, described)
    text = analysis.write_report(analysis.load(simulation.folder)).read_text()
    assert "retry-failed" not in text
    assert "fairsweep extend" in text


def test_what_is_needed_to_run_it_again_is_said(faces):
    results = analysis.load(faces.folder)
    again = reproduction(results)
    assert again.commands.splitlines() == [
        "# the sweep ran in a repository at 0123456789ab",
        "pip install torch==2.15.0",
        "pip install '.[train]'    # fairsweep 0.1.0, in a clone of its repository; or name its wheel",
        "fairsweep prepare faces --to data/faces    # content hash c0ffeec0ffee",
        "fairsweep run sweep.yaml --output runs/again    # sweep.yaml as below",
        "fairsweep compare runs/simulated runs/again",
    ]
    assert again.facts["seeds"] == "data 0 train 0, data 1 train 1"
    assert again.sweep_file.startswith("name: ")


def test_a_report_of_a_release_promises_no_equal_numbers_and_has_no_empty_times(tmp_path, simulate):
    simulation = simulate["faces"](tmp_path / "s", replicates=2)
    research = analysis.write_report(analysis.load(simulation.folder)).read_text()
    assert "give the same trials" in research
    assert "Seconds: per trial." in research
    for config in simulation.folder.glob("trials/*/config.json"):
        write_json(config, read_json(config) | {"mode": "release"})
        state = config.with_name("state.json")
        write_json(state, read_json(state) | {"seconds": None})
    release = analysis.write_report(analysis.load(simulation.folder)).read_text()
    assert "another run trains the same settings to other weights" in release
    assert "give the same trials" not in release
    timed = re.compile(r"<th[^>]*>(?:<[^>]*>)*seconds\b|In every row: [^<]*\bseconds ")
    assert timed.search(research)
    assert not timed.search(release)
    assert "Seconds: per trial" not in release
