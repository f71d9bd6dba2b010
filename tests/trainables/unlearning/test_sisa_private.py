"""SISA with a private inner learner: what it spends by slice, and what retraining draws."""

import json

import numpy as np
import pytest
import torch

from fairsweep.trainables.privacy.plan import PlanError
from fairsweep.trainables.unlearning import shards
from fairsweep.trainables.unlearning.sisa import SLICES
from fairsweep.trainables.unlearning.sisa_config import SisaConfig, slice_plan

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


def test_delta_is_held_against_the_whole_training_set_and_not_against_a_slice():
    """At delta = 19/N the whole data of 19 people may be published; a slice of N/20 examples alone allowed it."""
    with pytest.raises(PlanError, match=r"delta must be below 1/N = 0\.001, N being the number of examples, but got"):
        slice_plan(config(PRIVATE | {"delta": 0.019}), 50, 1000)
    assert slice_plan(config(PRIVATE), 50, 1000).delta == 1e-4


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
            return accountant.get_epsilon(1e-3)

        assert before.delta == 1e-3
        np.testing.assert_allclose([p.epsilon.pld for p in before.parts], [epsilon((1, 1)), epsilon((0, 1))], rtol=0.01)
        np.testing.assert_allclose([p.epsilon.pld for p in after.parts], [epsilon((1, 2)), epsilon((0, 2))], rtol=0.01)
        assert after.epsilon.pld == after.parts[0].epsilon.pld > before.epsilon.pld
        assert [part.examples for part in after.parts] == [30, 30]
        assert "each example joins each step with probability at most 0.266667" in " ".join(after.assumptions)
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

    def test_a_checkpoint_that_is_trained_again_under_another_secret_is_charged(self, make_sisa, tmp_path):
        """Its noise is fresh, so both trainings are functions of its examples; who comes later knows of both."""
        learner = train(make_sisa(config(), folder=tmp_path))
        before, weights = learner.privacy(), learner.weights()
        for path in (tmp_path / SLICES).glob("*-001-*.pt"):
            path.unlink()
        again = make_sisa(config(), folder=tmp_path, trial=1)
        again.load(learner.state())
        assert any(not torch.equal(value, weights[name]) for name, value in again.weights().items())
        after = again.privacy()
        assert after.epsilon.pld > before.epsilon.pld
        assert after.parts[1].epsilon.pld > before.parts[1].epsilon.pld
        assert "Charged are 6 trainings of slices" in " ".join(after.assumptions)
        third = make_sisa(config(), folder=tmp_path, trial=1)
        third.load(learner.state())
        assert third.privacy() == after

    def test_a_training_is_charged_before_its_first_step(self, make_sisa, tmp_path, monkeypatch):
        def die(*_):
            raise KeyboardInterrupt

        learner = make_sisa(config(), folder=tmp_path)
        with monkeypatch.context() as broken:
            broken.setattr(shards, "train_slice", die)
            with pytest.raises(KeyboardInterrupt):
                learner.step()
        spent = make_sisa(config(), folder=tmp_path, trial=1).privacy()
        assert 0 < spent.parts[0].epsilon.pld < np.inf
        assert "Charged are 2 trainings of slices" in " ".join(spent.assumptions)


@pytest.mark.parametrize("by", ["typical", "influential"])
def test_whom_to_delete_is_not_chosen_by_looking_at_images_that_are_private(by):
    given = {"requests": {"by": by, "count": 2}, "epochs": 1, "inner": PRIVATE}
    with pytest.raises(ValueError, match=f"must not be chosen by looking at private images.*{by}.*by: model, user"):
        SisaConfig.model_validate(given).check_claims()
    for inner in ({"kind": "sgd"}, PRIVATE | {"noise_multiplier": 0}):  # nothing is claimed of these
        SisaConfig.model_validate(given | {"inner": inner}).check_claims()


def test_what_looked_at_images_before_it_was_refused_claims_nothing(make_sisa):
    given = {"requests": {"by": "typical", "count": 1}, "epochs": 1, "inner": PRIVATE, "shards": 2, "slices": 2}
    statement = train(make_sisa(SisaConfig.model_validate(given))).privacy()
    assert statement.epsilon.pld == np.inf
    assert statement.assumptions == ()
    assert "no choice of the deleted that is independent of private images" in statement.summary


def test_what_is_assumed_follows_from_the_config(make_sisa):
    """Each choice that was made of attributes is named with them, and no choice that was not made."""

    def said(**fields):
        given = {"shards": 2, "slices": 2, "epochs": 1, "inner": PRIVATE} | fields
        return " ".join(train(make_sisa(SisaConfig.model_validate(given))).privacy().assumptions)

    plain = said()
    assert "made by strategy random-balanced from the ids alone" in plain
    assert "requests" not in plain
    assert "Validation" not in plain
    chosen = said(
        strategy="by-group", placed_by=["tone"], requests={"count": 1, "by": "group", "group": {"tone": "dark"}}
    )
    assert "made by strategy by-group from the ids and tone" in chosen
    assert "1 request inside the trial were drawn by a public key, by: group, from the ids and tone" in chosen
    given = said(requests={"ids": [2]}, strategy="hash")
    assert "were given with the config: they do not depend on the private content" in given
