"""The two studies of forgetting, run small: the same files, fewer epochs, a smaller model and made-up images."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fairsweep import analysis
from fairsweep.analysis.inference.unlearning import along_requests, placements, requests
from fairsweep.datasets.sources.faces import Faces
from fairsweep.datasets.sources.utkface import UTKFace
from fairsweep.datasets.storage.prepared import write_prepared
from fairsweep.sweeps.planning.preflight import check_sweep
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.sweep_file import SweepSource
from fairsweep.trainables.trial.trial import Trial

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def write_set(folder, source, count):
    """Made-up images with the vocabularies of a source."""
    random = np.random.default_rng(0)
    split = np.array(["train", "train", "train", "validation", "test"])[np.arange(count) % 5]
    codes = {a.name: random.integers(0, len(a.values), count).astype(np.int16) for a in source.attributes}
    examples = pa.table({"id": np.arange(count) * 2 + 1, **codes, "split": split})
    images = random.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return write_prepared(folder, name="small", attributes=source.attributes, examples=examples, images=images)


@pytest.mark.parametrize(
    ("name", "source", "groups"),
    [("faces-sisa", Faces, ["tone", "age"]), ("utkface-sisa", lambda: UTKFace(raw=Path("none")), ["race", "age_bin"])],
)
def test_a_study_runs_and_shows_groups_by_age_costs_and_the_gap_along_requests(tmp_path, name, source, groups):
    content = SweepSource.read(EXAMPLES / f"{name}.yaml").content
    repeats = content["seeds"]
    assert {learner["name"]: learner.get("twin_of") for learner in content["learners"]}["whole"]
    content["dataset"]["path"] = str(write_set(tmp_path / "data", source(), 600))
    content["model"] = {"name": "linear"}
    content["evaluation"] = {}
    content["seeds"] = 1
    content["resources"] = {"cpu": 1}
    content["output"] = str(tmp_path / "out")
    if "imbalance" in content:
        content["imbalance"]["size"] = 100
    for learner in content["learners"]:
        learner.update({field: 1 for field in ("epochs", "unsliced_epochs") if field in learner})
    sweep = Sweep.from_mapping(content)
    for trial in check_sweep(sweep).trials:
        Trial(trial.config, tmp_path / "out" / "trials" / trial.folder_name).run()
    assert repeats >= 2
    results = analysis.load(tmp_path / "out")
    assert set(results.trials["state"]) == {"done"}
    served = requests(results)
    forgetful = [learner["name"] for learner in content["learners"] if "twin_of" not in learner]
    assert set(served["learner"]) == set(forgetful)
    assert (served.groupby("learner")["deleted"].sum() == 16).all()
    assert (served["examples"] < served["full_examples"]).all()
    both = results.rates(["accuracy"], by=groups)
    assert len(both["group"].unique()) > len(results.vocabulary(groups[0]).values)
    gaps = along_requests(results, ["accuracy_difference"], groups[0])
    assert gaps["request"].max() == served["number"].max()
    with pytest.raises(ValueError, match=r"examples\.parquet"):
        placements(results, groups[0])
