"""From raw files as they are handed out to a report: prepare, show, and a sweep of two trials, by the command line."""

import shutil
import sys

import pytest
from ruamel.yaml import YAML

from fairsweep import analysis
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.sweeps.cli import app as cli

LEARNERS = [{"name": "plain", "kind": "sgd", "epochs": 1, "batch_size": 64}]


@pytest.fixture
def fairsweep(monkeypatch, capsys, tmp_path):
    """Runs the command in this process, in a folder of its own; returns stdout."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["fairsweep", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        output = capsys.readouterr()
        assert not end.value.code, output.err
        return output.out

    return call


def swept(fairsweep, folder, **fields):
    """Runs a sweep of two levels and returns its results."""
    sweep = {
        "learners": LEARNERS,
        "model": {"name": "linear"},
        "resources": {"max_concurrent": 1},
        "output": "out",
        **fields,
    }
    YAML().dump(sweep, folder / "sweep.yaml")
    assert "2 trials of 2 settings" in fairsweep("plan", "sweep.yaml")
    fairsweep("run", "sweep.yaml")
    assert (folder / "out" / "report.html").is_file()
    results = analysis.load(folder / "out")
    assert list(results.trials["state"]) == ["done", "done"]
    return results


@pytest.mark.slow  # the example celeba goes the same way
def test_celeba(raw, fairsweep, tmp_path, ray_session):
    """400 images in CelebA's form, three of them cut short: the official partition in place."""
    folder = raw.celeba(tmp_path / "CelebA", 400, damaged=(5, 290, 399))
    said = fairsweep("prepare", "celeba", "--from", folder, "--to", "data", "--image-size", "16")
    assert "celeba: 318 train, 40 validation, 39 test" in said
    assert "3 unusable images skipped (" in said
    fairsweep("show", "data", "--attribute", "male", "--attribute", "smiling")
    assert (tmp_path / "data" / "contact-sheet.png").stat().st_size > 10_000
    results = swept(
        fairsweep,
        tmp_path,
        dataset={"path": "data", "label": "smiling", "groups": ["male", "young"]},
        imbalance={"attribute": "male", "majority": "no", "share": {"grid": [0.5, 0.9]}, "size": 100},
        evaluation={"balance": ["male", "smiling"], "per_cell": 9},
    )
    counts = results.training_counts().groupby(["trial", "male"])["count"].sum()
    assert sorted(counts.tolist()) == [10, 50, 50, 90]
    rates = results.rates(["accuracy"], by="male")
    assert rates["n"].tolist() == [18] * 4
    # Plots call the groups by their own names.
    assert "female" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.slow  # the example utkface-sisa goes the same way
def test_utkface(raw, fairsweep, tmp_path, ray_session):
    """490 faces in UTKFace's form: a test set of 9 of each race and age bin and 63 more, all else is learnt from."""
    folder = raw.utkface(tmp_path / "UTKFace", per_cell=14)
    for name in ("61_1_20170109142408075.jpg.chip.jpg", "39_1_20170116174525125.jpg.chip.jpg"):
        shutil.copy(next(folder.iterdir()), folder / name)
    said = fairsweep("prepare", "utkface", "--from", folder, "--to", "data", "--image-size", "16")
    assert "2 unusable images skipped (" in said
    assert "[age]_[gender]_[race]" in said
    fairsweep("show", "data")
    assert (tmp_path / "data" / "counts.png").is_file()
    results = swept(
        fairsweep,
        tmp_path,
        dataset={"path": "data", "label": "age_bin", "groups": ["race", "gender"]},
        split={"kind": "rest", "validation": 0.3},
        evaluation={"balance": ["race", "age_bin"], "per_cell": 9, "extra_random": 63},
        learners=[LEARNERS[0] | {"epochs": {"grid": [1, 2]}}],
    )
    test = results.predictions().to_pandas().query("split == 'test'")
    assert (test.groupby("trial")["id"].nunique() == 9 * 35 + 63).all()
    cells = results.rates(["accuracy"], by="race")
    assert (cells["n"] >= 63).all()
    assert cells.groupby("trial")["n"].sum().tolist() == [378, 378]


def test_fairface_from_its_two_tables(raw, fairsweep, tmp_path, ray_session):
    """A zip of images, two tables beside it, a copy of a training picture among the test pictures."""
    images = tmp_path / "my faces"
    for part, count in (("train", 40), ("val", 10)):
        (images / part).mkdir(parents=True)
        rows = ["file,age,gender,race,service_test"]
        for number in range(1, count + 1):
            seed = 1 if (part, number) == ("val", 3) else number + 100 * len(part)
            (images / part / f"{number}.jpg").write_bytes(
                raw.jpeg(1 if (part, number) == ("train", 1) else seed, 30, 30)
            )
            age, gender = ("3-9", "0-2", "more than 70", "10-19")[number % 4], ("Male", "Female")[number % 2]
            rows.append(f"{part}/{number}.jpg,{age},{gender},White,{number % 3 > 0}")
        (tmp_path / f"fairface_label_{part}.csv").write_text("\n".join(rows))
    packed = raw.zipped(images, tmp_path / "fairface.zip")
    tables = ("--table", "train=fairface_label_train.csv", "--table", "test=fairface_label_val.csv")
    said = fairsweep("prepare", "folder", "--from", packed, "--path-column", "file", *tables, "--to", "data")
    assert "folder: 36 train, 4 validation, 10 test; in data" in said
    warning = "images of the test split that are identical to images of the train split: 1;"
    assert "drawn from the training examples" in said
    assert warning in said
    assert warning in fairsweep("show", "data")
    values = {attribute.name: attribute.values for attribute in PreparedDataset.open(tmp_path / "data").info.attributes}
    assert values["age"] == ("0-2", "3-9", "10-19", "more than 70")
