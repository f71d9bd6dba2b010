"""Whom a release names in ``examples.parquet``."""

import numpy as np
import pyarrow as pa
import pytest

from fairsweep.analysis.records.prediction_records import foreign_ids, read_examples, write_examples
from fairsweep.datasets.storage.prepared import Attribute, PreparedDataset, write_prepared
from fairsweep.sweeps.execution.run import describe
from fairsweep.sweeps.planning.preflight import check_sweep
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.sweep import Sweep

PRIVATE = {"kind": "dpsgd", "epochs": 1, "batch_size": 24, "noise_multiplier": 1.0}
BALANCED = {"balance": ["tone"], "per_cell": 5}


@pytest.fixture
def with_age(toy, tmp_path):
    """The toy dataset with an attribute that is neither label nor group."""
    images = np.concatenate([toy.shard_images(number) for number in range(len(toy.info.shards))])
    age = pa.array(np.arange(len(toy)) % 2, pa.int16())
    examples = toy.examples().append_column("age", age)
    attributes = [*toy.info.attributes, Attribute(name="age", values=("young", "old"))]
    return write_prepared(tmp_path / "aged", name="aged", attributes=attributes, examples=examples, images=images)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_release_names_only_people_who_are_evaluated_and_only_label_and_groups(
    mapping, with_age, toy_path, elsewhere
):
    mapping["dataset"]["path"] = str(with_age)
    evaluation = BALANCED | {"validation": BALANCED} | ({"dataset": str(toy_path)} if elsewhere else {})
    released = mapping | {"learners": [PRIVATE], "privacy": {"mode": "release"}, "evaluation": evaluation}
    plan = check_sweep(Sweep.from_mapping(released))
    output = OutputFolder.at(plan.sweep.folder)
    with output.held():
        describe(plan, output, None, len(plan.trials))
    found = read_examples(output.path / "examples.parquet").to_pandas().set_index("id")
    assert set(found.columns) == {"smiling", "tone", "split"}
    assert found.groupby(["split", "tone"]).size().tolist() == [5, 5, 5, 5]
    dataset = PreparedDataset.open(with_age)
    tested = found.index[found["split"] == "test"]
    assert np.isin(tested, foreign_ids(dataset.ids) if elsewhere else dataset.ids).all()


def test_a_former_file_that_names_people_who_are_trained_on_is_told_and_written_anew(mapping, toy, fairsweep):
    plan = check_sweep(Sweep.from_mapping(mapping | {"learners": [PRIVATE], "privacy": {"mode": "release"}}))
    output = OutputFolder.at(plan.sweep.folder)
    with output.held():
        describe(plan, output, None, len(plan.trials))
        assert output.file_problems() == []
        write_examples(output.path / "examples.parquet", toy.examples())  # as earlier versions did
        assert "names people who are trained on" in " ".join(output.file_problems())
    for command in ("ls", "privacy"):
        _, out, err = fairsweep(command, output.path)
        assert "names people who are trained on; to rebuild it: fairsweep resume" in (out + err).replace("\n", " ")
    with output.held():
        describe(plan, output, None, len(plan.trials))
    assert "train" not in read_examples(output.path / "examples.parquet").column("split").to_pylist()
    assert output.file_problems() == []
