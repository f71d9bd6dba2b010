"""Clients spread over processes of their own, in bundles of the trial's placement group: the same training."""

import time

import numpy as np
import ray
import torch

from fairsweep.analysis.records.files import read_json
from fairsweep.analysis.records.training_records import read_training
from fairsweep.datasets.feeds.feed_choice import FeedChoice
from fairsweep.trainables.trial.cohort_workers import RayCohortWorkers
from fairsweep.trainables.trial.trial import Trial

LEARNER = {
    "kind": "dpfedavg",
    "rounds": 4,
    "noise_multiplier": 0.5,
    "clients": {"partition": "quantity", "count": 12, "alpha": 1.0},
    "sampling_rate": 0.6,
    "clipping": {"quantile": 0.5},
    "local": {"batch_size": 8},
}


def test_workers_give_the_same_training_and_a_resume_repeats_it_without_them(ray_session, make_config, tmp_path):
    """Sums are added in the order of the parts that a training began with: a resume elsewhere adds the same ones."""
    config = make_config(LEARNER)
    alone = Trial(config, tmp_path / "alone").run()
    workers = RayCohortWorkers(config, FeedChoice(), count=2, cpu=0.5, gpu=0)
    whole = Trial(config, tmp_path / "whole", workers=workers)
    (first, _) = workers._actors
    whole.iterate()
    resumed = Trial(config, tmp_path / "resumed")
    resumed.load(whole.state())
    for _ in range(3):
        whole.iterate()
        resumed.iterate()
    whole.close()
    assert read_json(whole.folder / "data.json")["clients"]["workers"] == 2
    assert read_json(alone / "data.json")["clients"]["workers"] == 0
    one, two, three = (
        torch.load(folder / "weights.pt", weights_only=True) for folder in (alone, whole.folder, resumed.folder)
    )
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-5)
        assert torch.equal(two[name], three[name])
    tables = [read_training(folder / "training.parquet").to_pylist() for folder in (alone, whole.folder)]
    for ours, theirs in zip(*tables, strict=True):
        assert ours["examples"] == theirs["examples"]
        np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=1e-4)
        assert [c["updates"] for c in ours["clients"]] == [c["updates"] for c in theirs["clients"]]
    assert has_ended(first)


def has_ended(actor):
    """Whether a process ends, now or within a minute."""
    for _ in range(600):
        try:
            ray.get(actor.sums.remote(np.zeros(3, np.float32), 0, np.empty(0, np.int64), None), timeout=60)
        except ray.exceptions.RayActorError:
            return True
        time.sleep(0.1)
    return False
