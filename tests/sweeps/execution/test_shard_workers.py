"""A sweep whose trials train their shards in workers of their own."""

import pytest
import torch

from fairsweep.analysis.records.files import read_json
from fairsweep.sweeps.execution.run import run_sweep
from fairsweep.sweeps.planning.preflight import check_sweep
from fairsweep.sweeps.sweep import Sweep
from fairsweep.trainables.trial.trial import Trial


@pytest.mark.slow  # every worker is a process that imports torch
def test_workers_in_the_trials_placement_group_give_the_weights_of_a_trial_without_ray(mapping, ray_session, tmp_path):
    mapping["imbalance"]["share"] = 0.5
    mapping["seeds"] = 2  # the second trial reuses the actor of the first, and makes workers of its own
    mapping["resources"] = {"cpu": 0.5, "max_concurrent": 1}
    mapping["learners"] = [
        {
            "name": "forgetful",
            "kind": "sisa",
            "shards": 3,
            "slices": 2,
            "epochs": 2,
            "inner": {"kind": "sgd", "batch_size": 16},
            "requests": {"count": 2},
            "shard_resources": {"cpu": 0.5},
        }
    ]
    sweep = Sweep.from_mapping(mapping)
    results = run_sweep(sweep, quiet=True)
    assert results.trials["state"].tolist() == ["done", "done"]
    for trial in check_sweep(sweep).trials:
        folder = sweep.folder / "trials" / trial.folder_name
        alone = Trial(trial.config, tmp_path / trial.trial).run()
        ours, theirs = (torch.load(place / "weights.pt", weights_only=True) for place in (folder, alone))
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
        served = [read_json(place / "cost.json")["requests"] for place in (folder, alone)]
        assert [r["examples"] for r in served[0]] == [r["examples"] for r in served[1]]
