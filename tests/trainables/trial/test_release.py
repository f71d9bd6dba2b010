"""What a release discloses: two trainings that differ in one person differ in what is noised, and in nothing else."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairsweep.analysis.disclosure import columns
from fairsweep.analysis.disclosure.columns import COLUMNS, WHOLE
from fairsweep.analysis.records.files import read_json, write_json
from fairsweep.datasets.storage.prepared import Attribute, PreparedDataset, write_prepared
from fairsweep.trainables.trial import key_file
from fairsweep.trainables.trial.trial import Trial
from fairsweep.trainables.trial.trial_config import DatasetReference, TrialConfig

COUNT, OWN = 120, 6
DPSGD = {"kind": "dpsgd", "epochs": 1, "batch_size": 20, "noise_multiplier": 1.0}
DPSGD |= {"delta": 1e-4, "performance": {"gradient_mode": "bookkeeping"}}
DPFEDAVG = {"kind": "dpfedavg", "rounds": 2, "sampling_rate": 0.5, "noise_multiplier": 1.0, "delta": 1e-4}
DPFEDAVG |= {"clients": {"partition": "user"}}
LEARNERS = {
    "dpsgd": DPSGD,
    "dpsgd, cut": DPSGD | {"sampler": "truncated_poisson", "max_batch_size": 24, "noise_multiplier": 4.0},
    "dpsgd, weighted": DPSGD
    | {"sampler": "weighted_poisson", "sampling_weights": {"attribute": "tone", "weights": {"dark": 2.0}}},
    "dpfedavg": DPFEDAVG,
    "dpfedavg, quantile": DPFEDAVG | {"clipping": {"quantile": 0.5}},
    "sisa": {"kind": "sisa", "shards": 2, "slices": 2, "epochs": 1, "inner": DPSGD | {"batch_size": 5}}
    | {"requests": {"model": "uniform", "count": 1}},
}


def write(folder, changed, *, tone_is_public):
    """120 drawings of 20 people; the image, the label and the group of some training examples are others."""
    rng = np.random.default_rng(3)
    label, tone = rng.integers(0, 2, COUNT), rng.integers(0, 2, COUNT)
    images = rng.integers(0, 255, (COUNT, 8, 8, 1))
    label[changed], images[changed] = 1 - label[changed], 255 - images[changed]
    if not tone_is_public:
        tone[changed] = 1 - tone[changed]
    table = pa.table(
        {
            "id": np.arange(COUNT) * 3,
            "smiling": label.astype(np.int16),
            "tone": tone.astype(np.int16),
            "user": np.arange(COUNT) // OWN,
            "split": np.array(["train", "train", "validation", "test"])[np.arange(COUNT) // OWN % 4],
        }
    )
    attributes = [Attribute(name="smiling", values=("no", "yes")), Attribute(name="tone", values=("light", "dark"))]
    shutil.rmtree(folder, ignore_errors=True)
    return write_prepared(folder, name="toy", attributes=attributes, examples=table, images=images.astype(np.uint8))


def release(folder, learner, changed, out):
    public = "sampling_weights" in learner  # by which anybody's rate follows from the tone
    data = PreparedDataset.open(write(folder, changed, tone_is_public=public))
    reference = DatasetReference(
        path=folder,
        name="toy",
        content_hash=data.recorded_hash("release"),
        label="smiling",
        groups=("tone",),
        has_users=True,
    )
    config = TrialConfig(dataset=reference, model={"name": "linear"}, learner=learner, mode="release")
    return Trial(config, out).run()


def found(folder):
    """Every column of every file, as texts by (file, column)."""
    values = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            values |= {(name, column): str(table[column].to_pylist()) for column in table.column_names}
        elif path.suffix == ".json":
            values |= {(name, column): str(value) for column, value in _leaves(read_json(path))}
        else:
            values[name, ""] = hashlib.sha256(path.read_bytes()).hexdigest()
    return values


def _leaves(value, place=""):
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{place}.{name}" if place else name)
    else:
        yield place, value


def kind(file, column):
    first = Path(file).parts[0]
    if first in WHOLE:
        return WHOLE[first]
    kinds = COLUMNS.get(first, {})
    return kinds.get(column) or kinds.get(column.partition(".")[0]) or kinds.get("*")


@pytest.mark.parametrize("name", LEARNERS)
def test_two_releases_that_differ_in_one_person_differ_in_what_is_noised_alone(name, tmp_path, monkeypatch):
    """Noise, masks and cohorts are the same ones here, so that nothing else can hide a difference."""
    monkeypatch.setattr(key_file.os, "urandom", lambda size: b"s" * size)
    person = np.arange(OWN) if name.startswith("dpfedavg") else np.array([0])
    first, other = (
        found(release(tmp_path / "data", LEARNERS[name], changed, tmp_path / out))
        for changed, out in ((person[:0], "a"), (person, "b"))
    )
    assert first.keys() == other.keys()
    differing = {place for place in first if first[place] != other[place]}
    assert {kind(*place) for place in differing} == {"noised"}, sorted(differing)
    assert ("weights.pt", "") in differing
    private = {place for place in first if kind(*place) == "private"}
    assert {first[place] for place in private} <= {"None"} | {str([None] * n) for n in range(9)}, private


def test_a_column_without_a_class_is_refused_with_the_place_where_it_belongs(tmp_path):
    with pytest.raises(ValueError, match=r"data\.json must be classed.*but salary is not: add it to COLUMNS in fairsw"):
        write_json(tmp_path / "data.json", {"size": 3, "salary": 5})
    with pytest.raises(ValueError, match=r"notes\.json is not: add it to COLUMNS in fairsweep\.analysis\.disclosure"):
        columns.check_file("notes.json")


@pytest.mark.parametrize(
    ("learner", "said"),
    [
        ({"kind": "sgd"}, "'sgd' claims none: its weights are exact functions of private data"),
        (DPSGD | {"noise_multiplier": 0.0}, "'dpsgd' claims none"),
        ({"kind": "sisa", "shards": 2, "slices": 2, "inner": {"kind": "sgd"}}, "claims none"),
        ({"kind": "fedavg", "sampling_rate": 0.5, "clients": {"partition": "user"}}, "'fedavg' claims none"),
        (DPFEDAVG | {"deployment_cohort": 100}, "takes no deployment_cohort, but got 100"),
    ],
)
def test_what_no_guarantee_covers_is_not_released(learner, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        release(tmp_path / "data", learner, np.arange(0), tmp_path / "out")
    assert not (tmp_path / "out").exists()
