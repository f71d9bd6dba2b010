"""A release from beginning to end: one person more or less changes what is noised in its files, and nothing else."""

import hashlib
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from fairsweep.analysis.disclosure.columns import COLUMNS, WHOLE
from fairsweep.analysis.records.files import read_json
from fairsweep.datasets.storage.prepared import Attribute, write_prepared
from fairsweep.sweeps.store.folder_copy import INSIDE

OWN = {"mode": "release"}
# Of libraries: what they were sent is noised, and when they were sent it is the end of the sweep.
TRACKERS = ("tracking/tensorboard/", "tracking/files/", "tracking/tracking.log")
# Made for people from the records, and of random names.
DERIVED = ("report.html",)
TIMES = ("created", "updated")
# Random, and of nobody's data: a key, the hashes of sets of ids under it, and fingerprints of secrets.
KEYED = ("hashes", "ids.key", "secrets")


def write(folder, changed):
    rng = np.random.default_rng(3)
    label, tone = rng.integers(0, 2, 120), rng.integers(0, 2, 120)
    images = rng.integers(0, 255, (120, 8, 8, 1))
    label[changed], tone[changed], images[changed] = 1 - label[changed], 1 - tone[changed], 255 - images[changed]
    split = np.array(["train", "train", "validation", "test"])[np.arange(120) % 4]
    columns = {"id": np.arange(120), "smiling": label.astype(np.int16), "tone": tone.astype(np.int16), "split": split}
    attributes = [Attribute(name="smiling", values=("no", "yes")), Attribute(name="tone", values=("light", "dark"))]
    shutil.rmtree(folder, ignore_errors=True)
    write_prepared(
        folder, name="toy", attributes=attributes, examples=pa.table(columns), images=images.astype(np.uint8)
    )


def check_manifest(folder):
    """The newest manifest of a copy lists what lies there, and no more; its name tells how often a clock made one."""
    content = read_json(max(folder.iterdir()))
    assert content.keys() == {"number", "owner", "files", "gone"}
    assert {name: (file["at"], file["sha256"]) for name, file in content["files"].items()} == {
        name: (name, digest(folder.parent / name)) for name in content["files"]
    }


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def found(folder):
    values = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")):
        name = path.relative_to(folder).as_posix().partition(".tfevents.")[0]  # a time and a process follow
        if path.parent.name == INSIDE:
            check_manifest(path.parent)
            continue
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            if COLUMNS.get(path.name, {}).get("iteration") == "noised":  # what is public is so within an iteration
                values[name, "iteration"] = str(table["iteration"].unique().to_pylist())
                table = table.filter(pc.field("iteration") == pc.max(table["iteration"])).drop_columns("iteration")
            values |= {(name, column): str(table[column].to_pylist()) for column in table.column_names}
        elif path.suffix == ".json" and not name.startswith(TRACKERS):
            values |= {(name, column): str(value) for column, value in read_json(path).items()}
        else:
            values[name, ""] = digest(path)
    return values


def kind(name, column):
    """Of a file in a trial's folder or in that of the sweep."""
    if name.startswith(TRACKERS) or name in DERIVED:
        return "noised"
    parts = name.split("/")
    own = parts[2] if parts[0] == "trials" else parts[0]
    if own in WHOLE:
        return WHOLE[own]
    return COLUMNS.get(own, {}).get(column, "public")


@pytest.mark.slow
def test_a_release_of_one_person_more_or_less_is_the_same_but_for_what_is_noised(user):
    learner = {"kind": "dpsgd", "epochs": 2, "batch_size": 16, "noise_multiplier": 1.0}
    content = {
        "name": "published",
        "dataset": {"path": "data/toy", "label": "smiling", "groups": ["tone"]},
        "model": {"name": "linear"},
        "learners": [learner | {"performance": {"gradient_mode": "bookkeeping"}}],
        "privacy": OWN,
        "seeds": 1,
        "tracking": {"files": True, "tensorboard": True},
        "mirror": {"to": "copies/published"},
        "output": "runs/published",
    }
    sweep, out, data = user.write("published.yaml", content), user.folder / "runs/published", user.folder / "data/toy"
    released = []
    for changed in ([], [0]):
        write(data, changed)
        user.fairsweep("run", sweep)
        user.fairsweep("resume", out)
        user.fairsweep("report", out)
        user.fairsweep("watch", out)
        user.listed(out)
        scalars = next((out / "tracking/files").glob("*/metrics.csv")).read_text().splitlines()[0]
        assert "accuracy" in scalars
        assert "seconds" not in scalars
        page = (out / "report.html").read_text()
        assert "Research mode" not in page
        assert "release mode" in page
        assert not (out / ".tune").exists()
        released.append([found(out), found(user.folder / "copies/published")])
        out.rename(out.with_name(f"published-{len(released)}"))
        shutil.rmtree(user.folder / "copies")
    for first, other in zip(*released, strict=True):
        assert first.keys() == other.keys()
        differing = {place for place in first if first[place] != other[place] and not {*place} & {*TIMES, *KEYED}}
        assert {kind(*place) for place in differing} == {"noised"}, sorted(p for p in differing if kind(*p) != "noised")
    assert user.loaded("runs/published-1")["runs/published-1"]["trials"] == 1
    examples = pq.read_table(user.folder / "runs/published-1/examples.parquet")
    assert set(examples["split"].to_pylist()) == {"validation", "test"}
    user.fairsweep("compare", "runs/published-1", "runs/published-2")
