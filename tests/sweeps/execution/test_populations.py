"""What a sweep says of a population before it starts: its steps, its checkpoints, and what it refuses."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from fairsweep.datasets.storage.prepared import Attribute, write_prepared
from fairsweep.sweeps.cli.plan_tables import print_plan
from fairsweep.sweeps.plan import plan_sweep
from fairsweep.sweeps.planning.preflight import check_sweep
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "faces-pbt.yaml"
POPULATION = {
    "name": "population",
    "kind": "pbt",
    "population": 4,
    "inner": {"epochs": 3, "batch_size": 24},
    "explore": {"optimizer.lr": {"low": 1e-3, "high": 0.3, "log": True}},
    "objective": {"max": "worst_group_accuracy"},
}


@pytest.fixture
def sweep(mapping):
    """Makes a sweep of a population and a single model: ``sweep(fields of the population)``."""

    def make(**fields):
        mapping["learners"] = [{**POPULATION, **fields}, mapping["learners"][-1]]
        return Sweep.from_mapping(mapping)

    return make


def test_a_plan_says_the_steps_of_all_members(sweep):
    console = Console(file=io.StringIO(), width=200)
    report = plan_sweep(sweep())
    print_plan(report, console)
    # 120 examples in batches of 24 for 3 epochs, four times.
    assert "population: 4 members of 3 epochs each, one after the other: 60 steps a trial" in console.file.getvalue()
    assert report.learners[1].workloads == ()
    ranged = plan_sweep(sweep(explore={"batch_size": {"low": 12, "high": 60}}))
    assert "24 to 120 steps a trial" in ranged.learners[0].workloads[0]


def test_a_checkpoint_holds_every_member(sweep):
    plan = check_sweep(sweep())
    by_learner = {trial.config.learner.name: plan.checkpoint_bytes(trial) for trial in plan.trials}
    assert by_learner["population"] == 4 * by_learner["tuned"] > 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"explore": {"optimizer.lrr": [0.1]}}, r"learners\[0\]\.explore: .* did you mean 'optimizer\.lr'"),
        ({"explore": {"optimizer.lr": {"lo": 0.1, "high": 1}}}, "unknown key 'lo': did you mean 'low'"),
        (
            {"inner": {"kind": "dpsgd", "epsilon": 1}},
            r"learners\[0\]\.inner: .* a copied model would have",
        ),
        ({"objective": {"max": "worst_group_accuracy by tome"}}, r"learners\[0\]: population: 'tome' .* mean 'tone'"),
        ({"objective": {"max": "epsilon"}}, "ranked by what they predict on the validation split"),
        ({"inner": {"epochs": 3, "augmentation": {"crop": 9}}}, "crop"),
    ],
)
def test_what_cannot_work_is_refused_before_the_start(sweep, fields, message):
    with pytest.raises(SweepError, match=message):
        plan_sweep(sweep(**fields))


def test_a_dataset_without_a_validation_split_is_refused(sweep, mapping, tmp_path):
    attributes = [Attribute(name="smiling", values=("no", "yes")), Attribute(name="tone", values=("light", "dark"))]
    codes = np.arange(400)
    columns = {"id": codes, "smiling": (codes // 2 % 2).astype(np.int16), "tone": (codes % 2).astype(np.int16)}
    examples = pa.table({**columns, "split": np.where(codes < 300, "train", "test")})
    images = np.zeros((400, 8, 8, 1), np.uint8)
    path = write_prepared(tmp_path / "two", name="two", attributes=attributes, examples=examples, images=images)
    mapping["dataset"]["path"] = str(path)
    with pytest.raises(SweepError, match="no example in its validation split"):
        plan_sweep(sweep())


def test_the_example_is_a_sweep_of_a_population_and_a_single_model():
    assert [space.raw["kind"] for space in Sweep.from_yaml(EXAMPLE).learners] == ["pbt", "sgd"]
