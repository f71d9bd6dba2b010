"""Costs of a trial from a few of its steps: what is timed, what is scaled up."""

import numpy as np
import pytest

from fairsweep.datasets.feeds.feed import Batch
from fairsweep.datasets.feeds.feed_choice import FeedChoice
from fairsweep.trainables.trial.checkpoint import CheckpointPolicy
from fairsweep.trainables.trial.profiling import ProbeFeed, TrialCost, measure_trial
from fairsweep.trainables.trial.trial import Trial


class SlowFeed:
    """Gives empty batches."""

    def batches(self, rows, sampler, start=0, stop=None):
        for step in range(start, sampler.steps if stop is None else stop):
            none = np.zeros(0, np.int64)
            yield Batch(step, none, none, none, np.zeros((0, 1, 1, 1), np.uint8))


class Steps:
    def __init__(self, steps):
        self.steps = steps


def test_a_probe_times_what_happens_between_batches_and_then_gives_one_a_call(monkeypatch):
    clock = {"seconds": 0.0}
    monkeypatch.setattr("fairsweep.trainables.trial.profiling.time.perf_counter", lambda: clock["seconds"])
    probe = ProbeFeed(SlowFeed(), limit_seconds=0.5)
    taken = 0
    for _ in probe.batches(np.zeros(0), Steps(10_000)):
        taken += 1
        clock["seconds"] += 0.0625
    assert probe.is_cut
    assert taken == 9
    assert probe.asked == 10_000
    assert probe.seconds / probe.steps == 0.0625
    assert len(list(probe.batches(np.zeros(0), Steps(50)))) == 1
    assert probe.asked == 10_050
    unhurried = ProbeFeed(SlowFeed(), limit_seconds=1e9)
    assert len(list(unhurried.batches(np.zeros(0), Steps(50)))) == 50
    assert not unhurried.is_cut


def test_a_trial_is_the_sum_of_its_parts():
    cost = TrialCost(
        open_seconds=1,
        iteration_seconds=2,
        evaluation_seconds=0.5,
        checkpoint_seconds=0.25,
        privacy_seconds=3,
        iterations=10,
        checkpoint_bytes=100,
        weights_bytes=30,
        predictions_bytes=7,
        cells_bytes=2,
        measured_steps=5,
    )
    assert cost.seconds(every=1, checkpoint_every_seconds=0) == 1 + 10 * 2.5 + 10 * 0.25 + 3
    assert cost.seconds(every=5, checkpoint_every_seconds=0) == 1 + 10 * 2.5 + 2 * 0.25 + 3
    assert cost.seconds(every=1, checkpoint_every_seconds=5) == 1 + 10 * 2.5 + 5 * 0.25 + 3
    assert cost.record_bytes == 2 * 7 + 10 * 2


@pytest.mark.parametrize("limit", [0.0, 1e9])
def test_what_is_measured_is_what_a_trial_does(make_config, sgd, dpsgd, tmp_path, limit):
    for name, learner in (("sgd", sgd), ("dpsgd", dpsgd)):
        config = make_config(learner)
        folder = tmp_path / name
        folder.mkdir()
        cost = measure_trial(config, folder, feed=FeedChoice("resident"), plan=None, device="cpu", limit_seconds=limit)
        real = Trial(config, tmp_path / f"{name}-real", checkpoints=CheckpointPolicy(seconds=0))
        real.iterate()
        assert cost.iterations == real.iterations
        saved = sum(path.stat().st_size for path in (real.folder / "checkpoints").iterdir())
        # A real checkpoint also holds the predictions that were selected.
        assert 0.2 * saved < cost.checkpoint_bytes <= saved
        real.run()
        assert abs(cost.weights_bytes - (real.folder / "weights.pt").stat().st_size) < 200
        predictions = (real.folder / "predictions.parquet").stat().st_size
        assert 0.1 * predictions < cost.predictions_bytes < 2 * predictions
        assert min(cost.iteration_seconds, cost.evaluation_seconds, cost.checkpoint_seconds) > 0
        assert not (folder / "state.json").exists()


def test_a_forgetful_learner_is_scaled_to_its_mean_slice(make_config, tmp_path):
    learner = {"kind": "sisa", "shards": 2, "slices": 3, "epochs": 2}
    config = make_config(learner)
    costs = []
    for limit in (0.0, 1e9):
        folder = tmp_path / str(limit)
        folder.mkdir()
        costs.append(
            measure_trial(config, folder, feed=FeedChoice("resident"), plan=None, device="cpu", limit_seconds=limit)
        )
    assert {cost.iterations for cost in costs} == {3}
    assert costs[0].measured_steps <= costs[1].measured_steps
    assert costs[0].weights_bytes == costs[1].weights_bytes
