"""SISA with a private inner learner: what it spends by slice, and what retraining draws."""

import json

import numpy as np
import pytest
import torch

from fairsweep.trainables.unlearning.sisa import SLICES
from fairsweep.trainables.unlearning.sisa_config import SisaConfig

PRIVATE = {
    "kind": "dpsgd",
    "batch_size": 4,
    "noise_multiplier": 0.8,
    "performance": {"gradient_mode": "hooks"},
}


def config(inner=PRIVATE):
    return SisaConfig(shards=2, slices=2, epochs=1, inner=inner)


def train(learner):
    while learner.iteration < learner.iterations:
        learner.step()
    return learner


@pytest.fixture(scope="module")
def served(make_sisa):
    learner = train(make_sisa(config()))
    before = learner.privacy()
    weights = learner.weights()
    placed, ids = learner.placement, learner.population.ids
    learner.forget(ids[(placed.shard == 0) & (placed.slice == 1)][:1])
    return learner, before, weights


class TestAPrivateInnerLearner:
    def test_epsilon_is_by_slice_and_retraining_is_charged(self, served):
        from dp_accounting import ComposedDpEvent as Composed
        from dp_accounting import GaussianDpEvent as Gaussian
        from dp_accounting import NeighboringRelation, PoissonSampledDpEvent, SelfComposedDpEvent
        from dp_accounting.pld import PLDAccountant

        learner, before, _ = served
        after = learner.privacy()

        def epsilon(trainings):
            accountant = PLDAccountant(NeighboringRelation.REPLACE_SPECIAL)
            sizes = (15, 30)
            parts = [
                SelfComposedDpEvent(PoissonSampledDpEvent(4 / n, Gaussian(0.8)), round(n / 4) * times)
                for n, times in zip(sizes, trainings, strict=True)
                if times
            ]
            accountant.compose(Composed(parts))
            return accountant.get_epsilon(0.01)

        assert before.delta == 0.01
        np.testing.assert_allclose([p.epsilon.pld for p in before.parts], [epsilon((1, 1)), epsilon((0, 1))], rtol=0.01)
        np.testing.assert_allclose([p.epsilon.pld for p in after.parts], [epsilon((1, 2)), epsilon((0, 2))], rtol=0.01)
        assert after.epsilon.pld == after.parts[0].epsilon.pld > before.epsilon.pld
        assert [part.examples for part in after.parts] == [30, 30]
        json.dumps(after.model_dump(mode="json"), allow_nan=False)

    @pytest.mark.parametrize(
        "sampling",
        [
            {"sampler": "weighted_poisson", "sampling_weights": {"attribute": "tone", "weights": {"dark": 2.0}}},
            # More noise: the price of a cut takes ten times as long at an epsilon of 10.
            {"sampler": "truncated_poisson", "max_batch_size": 5, "noise_multiplier": 4.0},
        ],
    )
    def test_other_samplers_are_accounted_as_they_run_also_where_nobody_is_left(self, make_sisa, sampling):
        learner = train(make_sisa(config(PRIVATE | sampling)))
        learner.forget(learner.population.ids[learner.placement.shard == 0])
        weighted, statement = "sampling_weights" in sampling, learner.privacy()
        assert 0 < statement.epsilon.pld < np.inf
        assert statement.sampling_rate == pytest.approx((2 if weighted else 1) * 4 / 15)
        word = "tone" if weighted else "of more than 5"
        assert any(word in sentence.lower() for sentence in statement.assumptions)
        assert "differentially private" in statement.summary

    def test_retraining_draws_fresh_noise_and_leaves_other_shards_alone(self, served):
        learner, _, before = served
        after = learner.weights()
        moved = {name for name in after if not torch.equal(after[name], before[name])}
        assert moved
        assert all(name.startswith("shards.0.") for name in moved)

    def test_deleted_examples_keep_their_places_and_are_never_read(self, make_sisa):
        learner = train(make_sisa(config()))
        learner.forget(learner.population.ids[:5])
        gone = set(learner._task.rows[:5].tolist())
        feed, read = learner._task.feed, []

        class Watching:
            def batches(self, rows, sampler, start=0, stop=None):
                for batch in feed.batches(rows, sampler, start=start, stop=stop):
                    read.extend(batch.rows.tolist())
                    yield batch

            def images(self, rows):
                read.extend(rows.tolist())
                return feed.images(rows)

        object.__setattr__(learner._task, "feed", Watching())
        served = learner.forget(learner.population.ids[5:6])
        assert read
        assert not gone & set(read)
        shard = next(iter(served.shards)) - 1
        first = served.shards[shard + 1] - 1
        steps = [round(n / 4) for n in learner.placement.counts()[shard].cumsum()]
        assert served.work.steps == sum(steps[first:])

    def test_a_repair_repeats_its_noise_and_is_not_charged(self, make_sisa, tmp_path):
        learner = train(make_sisa(config(), folder=tmp_path))
        for path in (tmp_path / SLICES).glob("*-001-*.pt"):
            path.unlink()
        again = make_sisa(config(), folder=tmp_path)
        again.load(learner.state())
        assert all(torch.equal(value, learner.weights()[name]) for name, value in again.weights().items())
        assert again.privacy() == learner.privacy()
