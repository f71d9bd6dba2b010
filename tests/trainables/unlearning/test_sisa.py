"""SISA: exactness and isolation, bit for bit; checkpoints that are lost; costs."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fairsweep.analysis.records.cell_records import read_cells
from fairsweep.analysis.records.file_names import COST, PLACEMENT, PREDICTIONS, SHARD_PREDICTIONS
from fairsweep.analysis.records.files import read_json
from fairsweep.analysis.records.learner_records import read_placement, read_shard_predictions
from fairsweep.analysis.records.prediction_records import read_predictions
from fairsweep.datasets.feeds.resident import ResidentFeed
from fairsweep.trainables.trial.trial import Trial
from fairsweep.trainables.unlearning.known_examples import UnknownIdsError
from fairsweep.trainables.unlearning.placement import STRATEGIES, Placement, place
from fairsweep.trainables.unlearning.sisa import SLICES, Sisa
from fairsweep.trainables.unlearning.sisa_config import SisaConfig
from fairsweep.trainables.unlearning.unlearning_costs import expected_examples

INNER = {"kind": "sgd", "batch_size": 8, "optimizer": {"lr": 0.1, "momentum": 0.9}, "augmentation": {"flip": True}}


def config(shards=3, slices=2, epochs=1, inner=INNER, **fields):
    return SisaConfig(shards=shards, slices=slices, epochs=epochs, inner=inner, **fields)


def train(learner, iterations=None):
    while learner.iteration < (learner.iterations if iterations is None else iterations):
        learner.step()
    return learner


def assert_equal_shards(one, other, shards=None):
    for shard in range(one.placement.shards) if shards is None else shards:
        ours, theirs = one.shard_weights(shard), other.shard_weights(shard)
        for name, value in ours.items():
            assert torch.equal(value, theirs[name]), (shard, name)


def from_scratch(make_sisa, learner, given, deleted, n=60, *, new_map=False):
    """Trains from the start without the deleted ids: with the frozen map, or with the map made anew."""
    whole = learner._task
    kept = np.flatnonzero(~np.isin(learner.population.ids, deleted))
    task = whole.subset(kept)
    frozen = learner.placement
    placement = Placement(frozen.shards, frozen.slices, frozen.shard[kept], frozen.slice[kept], frozen.unconditional)
    if new_map:
        population = learner.population.without(np.asarray(deleted))
        placement = place(given, given.requests, population, task.keys.data)
        np.testing.assert_array_equal(placement.shard, frozen.shard[kept])
    quiet = given.model_copy(update={"requests": type(given.requests)()})
    return train(Sisa(quiet, task, placement=placement))


class TestExactness:
    @settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        strategy=st.sampled_from(sorted(STRATEGIES)),
        shards=st.integers(1, 4),
        slices=st.integers(1, 3),
        requests=st.lists(st.lists(st.integers(0, 59), min_size=1, max_size=12), min_size=1, max_size=4),
        seed=st.integers(0, 5),
    )
    def test_any_sequence_of_requests_equals_training_without_the_deleted_ids(
        self, make_sisa, strategy, shards, slices, requests, seed
    ):
        given = config(shards, slices, strategy=strategy)
        learner = make_sisa(config(1, 1), seed=seed)
        placed = place(given, given.requests, learner.population, learner._task.keys.data)
        assume(placed.counts().all())  # an empty slice is refused, and a hash may leave one
        learner = train(make_sisa(given, seed=seed))
        deleted = set()
        for request in requests:
            ids = learner.population.ids[request]
            learner.forget(ids)
            deleted |= set(ids.tolist())
        again = from_scratch(make_sisa, learner, given, sorted(deleted), new_map=strategy == "hash")
        assert_equal_shards(learner, again)
        images = learner._task.feed.images(np.arange(20))
        assert torch.equal(learner.predict(images), again.predict(images))

    def test_emptied_slices_and_shards_too(self, make_sisa):
        given = config(3, 2)
        learner = train(make_sisa(given))
        placed, ids = learner.placement, learner.population.ids
        first = ids[(placed.shard == 1) & (placed.slice == 0)]
        learner.forget(first)
        assert_equal_shards(learner, from_scratch(make_sisa, learner, given, first))
        shard = ids[placed.shard == 1]
        learner.forget(shard)
        assert_equal_shards(learner, from_scratch(make_sisa, learner, given, shard))
        images = learner._task.feed.images(np.arange(10))
        alone = torch.logsumexp(torch.log_softmax(learner.predict_shards(images)[[0, 2]].double(), 2), 0) - np.log(2)
        torch.testing.assert_close(learner.predict(images).double(), alone, atol=1e-6, rtol=1e-6)
        learner.forget(ids)
        assert torch.isfinite(learner.predict(images)).all()

    def test_the_stream_of_a_trial_is_served_as_if_asked_one_by_one(self, make_sisa):
        given = config(requests={"count": 6, "batch": 2})
        learner = train(make_sisa(given))
        deleted = learner.population.ids[~learner.alive()]
        assert len(deleted) == 6
        assert_equal_shards(learner, from_scratch(make_sisa, learner, given, deleted))

    @pytest.mark.parametrize(
        "remedy",
        [
            {"kind": "class_weights", "weights": "balanced"},
            {"kind": "group_sampling", "attributes": ["tone"]},
            {"kind": "group_reweighting", "attributes": ["tone"]},
            {"kind": "group_dro", "attributes": ["tone"]},
        ],
        ids=lambda remedy: remedy["kind"],
    )
    def test_what_a_remedy_counts_is_forgotten_too(self, make_sisa, remedy):
        names = {"tone": ("light", "dark"), "label": ("no", "yes")}
        given = config(2, 2, inner=INNER | {"remedy": remedy})
        learner = train(make_sisa(given, value_names=names))
        asked = learner.population.ids[[2, 3, 11, 50]]
        learner.forget(asked)
        assert_equal_shards(learner, from_scratch(make_sisa, learner, given, asked))

    def test_averaged_weights_and_schedules_begin_anew_with_each_slice_and_are_forgotten_too(self, make_sisa):
        rising = {"lr": 0.1, "schedule": {"name": "cosine", "warmup": 1}}
        given = config(2, 2, epochs=2, inner=INNER | {"ema": 0.8, "optimizer": rising})
        learner = train(make_sisa(given))
        asked = learner.population.ids[[2, 3, 11, 50]]
        before = learner.shard_weights(0)
        learner.forget(asked)
        assert_equal_shards(learner, from_scratch(make_sisa, learner, given, asked))
        last = train(make_sisa(given.model_copy(update={"inner": given.inner.model_copy(update={"ema": None})})))
        assert not torch.equal(before["1.weight"], last.shard_weights(0)["1.weight"])

    @pytest.mark.parametrize("precision", ["bfloat16", "float16"])
    def test_in_another_precision_too(self, make_sisa, precision):
        given = config(3, 2, epochs=2, inner=INNER | {"performance": {"precision": precision}})
        learner = train(make_sisa(given))
        plain = train(make_sisa(config(3, 2, epochs=2)))
        assert not torch.equal(learner.shard_weights(0)["1.weight"], plain.shard_weights(0)["1.weight"])
        asked = learner.population.ids[[2, 3, 11, 50]]
        learner.forget(asked)
        assert_equal_shards(learner, from_scratch(make_sisa, learner, given, asked))

    def test_one_changed_example_changes_one_shard_and_no_two_shards_share_an_id(self, make_sisa, make_task):
        given = config(4, 2)
        learner = train(make_sisa(given))
        for position in (0, 17, 59):
            row = learner._task.rows[position]
            images = learner._task.feed.images(np.arange(60))
            images[row] = 255 - images[row]
            other = train(make_sisa(given, feed=ResidentFeed(np.arange(60) * 5 + 2, images)))
            owner = int(learner.placement.shard[position])
            rest = [shard for shard in range(4) if shard != owner]
            assert_equal_shards(learner, other, rest)
            assert not torch.equal(learner.shard_weights(owner)["1.weight"], other.shard_weights(owner)["1.weight"])
        members = [set(learner.population.ids[learner.placement.shard == shard].tolist()) for shard in range(4)]
        assert sum(map(len, members)) == len(set.union(*members)) == 60

    def test_slices_are_cumulative_and_continue_from_the_one_before(self, make_sisa):
        """What a slice sees: e' epochs of all slices so far; a training of one slice alone would see fewer."""
        learner = make_sisa(config(2, 3, epochs=2))
        seen = [learner.step().examples for _ in range(3)]
        assert seen == [2 * 20, 2 * 40, 2 * 60]
        assert learner.record()["training"]["examples"] == sum(seen)

    def test_epochs_follow_the_paper_where_they_are_not_given(self):
        assert SisaConfig(slices=3, unsliced_epochs=20).slice_epochs == 10
        assert SisaConfig(slices=1, unsliced_epochs=20).inner.epochs == 20
        assert SisaConfig(slices=20, unsliced_epochs=2).slice_epochs == 1
        again = SisaConfig.model_validate_json(SisaConfig(slices=3, unsliced_epochs=20).model_dump_json())
        assert again.inner.epochs == 10


class TestResume:
    @pytest.mark.parametrize("with_folder", [True, False])
    def test_a_resume_continues_bit_for_bit_even_where_checkpoints_are_ahead(self, make_sisa, tmp_path, with_folder):
        given = config(requests={"count": 4})
        whole = make_sisa(given, folder=tmp_path / "a" if with_folder else None)
        states = [whole.state()]
        for _ in range(whole.iterations):
            whole.step()
            states.append(whole.state())
        for stopped, state in enumerate(states):
            # With a folder, its files are those of the end: further than any state but the last.
            resumed = make_sisa(given, folder=tmp_path / "a" if with_folder else None)
            resumed.load(state)
            if stopped:
                resumed.predict(whole._task.feed.images(np.arange(2)))
            train(resumed)
            assert_equal_shards(resumed, whole)
            assert [r.work.examples for r in resumed.served] == [r.work.examples for r in whole.served]

    @pytest.mark.parametrize("damage", ["missing", "cut", "flipped", "no checksum"])
    def test_a_lost_or_damaged_checkpoint_is_noticed_and_trained_again(self, make_sisa, tmp_path, damage):
        given = config(2, 3)
        whole = train(make_sisa(given, folder=tmp_path))
        expected = [whole.shard_weights(shard) for shard in range(2)]
        for path in (tmp_path / SLICES).glob("000-00[12]*.pt"):
            content = path.read_bytes()
            if damage == "missing":
                path.unlink()
            elif damage == "no checksum":
                path.with_suffix(".json").unlink()
            else:
                path.write_bytes(content[:-20] if damage == "cut" else content[:-20] + b"!" + content[-19:])
        again = make_sisa(given, folder=tmp_path)
        again.load(whole.state())
        kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / SLICES).glob("00[01]-00*.pt")}
        for shard in range(2):
            for name, value in again.shard_weights(shard).items():
                assert torch.equal(value, expected[shard][name])
        now = {path.name: path.stat().st_mtime_ns for path in (tmp_path / SLICES).glob("*.pt")}
        assert [name for name in kept if now[name] == kept[name] and name.startswith("001")] != []
        assert any(name.startswith("000-000") and now[name] == kept[name] for name in kept)

    def test_what_saw_a_deleted_example_leaves_the_folder(self, make_sisa, tmp_path):
        learner = train(make_sisa(config(2, 3), folder=tmp_path))
        before = {path.name for path in (tmp_path / SLICES).iterdir()}
        placed, ids = learner.placement, learner.population.ids
        learner.forget(ids[(placed.shard == 1) & (placed.slice == 1)][:1])
        after = {path.name for path in (tmp_path / SLICES).iterdir()}
        assert {name[:7] for name in before - after} == {"001-001", "001-002"}
        assert {name[:7] for name in after - before} == {"001-001", "001-002"}
        assert len(after) == 2 * 2 * 3


class TestRequests:
    def test_costs_are_those_of_the_affected_slices_beside_all_of_them(self, make_sisa):
        learner = train(make_sisa(config(3, 2, epochs=2)))
        placed, ids = learner.placement, learner.population.ids
        late = ids[(placed.shard == 2) & (placed.slice == 1)][0]
        served = learner.forget(np.array([late]))
        assert served.shards == {3: 2}
        assert served.work.examples == 2 * 19
        assert served.work.steps == 2 * 3
        assert served.full.examples == 2 * (3 * 10 + 2 * 20 + 19)
        assert served.work.bytes > 0
        assert served.work.seconds > 0
        early = ids[(placed.shard == 0) & (placed.slice == 0)][0]
        served = learner.forget(np.array([early]))
        assert (served.shards, served.work.examples) == ({1: 1}, 2 * (9 + 19))
        json.dumps(learner.record(), allow_nan=False)

    def test_deleting_twice_makes_no_difference_and_unknown_ids_are_listed(self, make_sisa):
        learner = train(make_sisa(config()))
        one = learner.population.ids[7:8]
        learner.forget(one)
        weights = learner.weights()
        again = learner.forget(one)
        assert (again.deleted, again.work.examples, again.shards) == (0, 0, {})
        assert all(torch.equal(value, weights[name]) for name, value in learner.weights().items())
        alive = learner.alive()
        with pytest.raises(UnknownIdsError, match=r"2 are not: 1, 99999;"):
            learner.forget(np.array([int(one[0]) + 5, 1, 99999]))
        np.testing.assert_array_equal(learner.alive(), alive)

    def test_forgetting_waits_for_the_first_training(self, make_sisa):
        learner = make_sisa(config())
        learner.step()
        with pytest.raises(RuntimeError, match="all 2 slices"):
            learner.forget(learner.population.ids[:1])

    @pytest.mark.parametrize("by", ["typical", "influential"])
    def test_the_adversary_looks_at_the_first_models_and_the_choice_survives_a_resume(self, make_sisa, by):
        shard = {"shard": 2} if by == "influential" else {}
        given = config(requests={"count": 3, "by": by, **shard})
        learner = train(make_sisa(given), 3)
        state = learner.state()
        train(learner)
        deleted = ~learner.alive()
        if by == "influential":
            assert (learner.placement.shard[deleted] == 1).all()
        resumed = make_sisa(given)
        resumed.load(state)
        train(resumed)
        np.testing.assert_array_equal(resumed.alive(), ~deleted)
        first = train(make_sisa(config()))
        images = first._task.feed.images(first._task.rows)
        logits = first.predict_shards(images)[1] if by == "influential" else first.predict(images)
        right = torch.softmax(logits.double(), 1)[np.arange(60), first._task.labels].numpy()
        own = first.placement.shard == 1 if by == "influential" else np.ones(60, bool)
        order = np.argsort(right if by == "influential" else -right, kind="stable")
        assert set(np.flatnonzero(deleted)) == set(order[own[order]][:3])

    @pytest.mark.parametrize("slices", [1, 5])
    def test_uniform_requests_cost_what_the_paper_expects(self, make_sisa, slices):
        given = config(4, slices, requests={"count": 30}, inner={"kind": "sgd", "batch_size": 64})
        learner = train(make_sisa(given, n=400))
        costs = np.array([request.work.examples for request in learner.served])
        expected = expected_examples(400 - 15, 4, slices, 1)
        assert abs(costs.mean() - expected) < 4 * max(costs.std() / np.sqrt(30), 2)


class TestConfig:
    def test_the_twin_is_one_model_that_sees_about_as_much(self):
        given = config(5, 3, epochs=4, requests={"count": 3})
        twin = given.twin("whole")
        assert (twin.name, twin.shards, twin.slices, twin.requests.count) == ("whole", 1, 1, 0)
        assert twin.inner == given.inner.model_copy(update={"epochs": 8})

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"epochs": 3, "unsliced_epochs": 3}, "not both"),
            ({"epochs": 3, "inner": {"kind": "sgd", "epochs": 5}}, "leave epochs out"),
            ({"inner": {"kind": "dpsgd", "epsilon": 3.0}}, "noise_multiplier"),
            ({"shards": 2, "requests": {"count": 1, "by": "influential", "shard": 3}}, "one of the 2 shards"),
            ({"slices": 0}, "greater than or equal to 1"),
        ],
    )
    def test_what_does_not_go_together_is_refused(self, fields, message):
        with pytest.raises(ValueError, match=message):
            SisaConfig(**fields)

    def test_impossible_settings_are_refused_before_anything_is_trained(self, make_sisa):
        with pytest.raises(ValueError, match="lower shards"):
            make_sisa(config(61, 1))
        with pytest.raises(ValueError, match="are empty"):
            make_sisa(config(8, 8))
        with pytest.raises(UnknownIdsError, match="77777"):
            make_sisa(config(requests={"ids": [2, 77777]}))
        with pytest.raises(ValueError, match="for a slice's 10 examples"):
            make_sisa(config(3, 2, inner={"kind": "dpsgd", "batch_size": 11, "noise_multiplier": 0.8}))
        with pytest.raises(ValueError, match="column user"):
            make_sisa(config(requests={"count": 1, "by": "user"}))

    @pytest.mark.parametrize("weighting", ["uniform", "size", "validation-accuracy"])
    def test_weights_of_the_shards(self, make_sisa, make_task, weighting):
        from fairsweep.trainables.learning.learner import LabelledRows

        task = make_task("linear", n=60)
        validation = LabelledRows(task.rows[:40], task.labels[:40])
        learner = train(make_sisa(config(weighting=weighting), validation=validation))
        learner.forget(learner.population.ids[learner.placement.shard == 0][:10])
        images = task.feed.images(np.arange(10))
        logits = torch.log_softmax(learner.predict_shards(images).double(), 2)
        if weighting == "size":
            weights = torch.tensor([10.0, 20.0, 20.0])
        elif weighting == "uniform":
            weights = torch.ones(3)
        else:
            predicted = learner.predict_shards(task.feed.images(validation.rows)).argmax(2).numpy()
            weights = torch.from_numpy((predicted == validation.labels).mean(axis=1))
        expected = ((weights / weights.sum()).view(3, 1, 1) * logits.exp()).sum(0)
        torch.testing.assert_close(torch.softmax(learner.predict(images).double(), 1), expected, atol=1e-6, rtol=1e-5)


def test_users_are_forgotten_whole(make_sisa):
    learner = train(make_sisa(config(requests={"count": 2, "by": "user"}), users=np.arange(60) // 6))
    gone = np.flatnonzero(~learner.alive())
    assert len(gone) == 12
    assert len(set(gone // 6)) == 2


def test_release_mode_reports_no_losses(make_sisa):
    learner = make_sisa(config(), diagnostics=False)
    assert np.isnan(learner.step().loss)


def test_replace_keeps_config_and_task_apart(make_sisa):
    """A learner's task is never changed by its inner ones."""
    learner = make_sisa(config())
    before = replace(learner._task)
    train(learner)
    assert learner._task == before


@pytest.fixture(scope="module")
def finished(make_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sisa") / "trial"
    learner = config(2, 2, requests={"count": 4, "batch": 2}).model_dump(mode="json")
    Trial(make_config(learner), folder).run()
    return folder


class TestATrial:
    def test_records_hold_every_request_beside_a_full_retraining(self, finished):
        cost = read_json(finished / COST)
        assert [entry["deleted"] for entry in cost["requests"]] == [2, 2]
        assert [entry["iteration"] for entry in cost["requests"]] == [3, 4]
        for entry in cost["requests"]:
            assert 0 < entry["examples"] <= entry["full"]["examples"]
        placed = read_placement(finished / PLACEMENT)
        assert sum(placed.column("deleted").to_pylist()) == 4
        assert set(placed.column("shard").to_pylist()) == {1, 2}
        cells = read_cells(finished / "cells.parquet").table
        assert set(cells.column("iteration").to_pylist()) == {1, 2, 3, 4}

    def test_each_shard_predicts_by_itself_and_together_they_are_the_prediction(self, finished):
        shards = read_shard_predictions(finished / SHARD_PREDICTIONS).to_pandas()
        whole = read_predictions(finished / PREDICTIONS).to_pandas()
        whole = whole[(whole["split"] == "test") & (whole["iteration"] == whole["iteration"].max())]
        assert sorted(shards["shard"].unique()) == [1, 2]
        by_shard = [np.stack(shards[shards["shard"] == shard]["log_probabilities"]) for shard in (1, 2)]
        mean = np.exp(np.stack(by_shard).astype(np.float64)).mean(axis=0)
        np.testing.assert_allclose(np.exp(np.stack(whole["log_probabilities"])), mean, atol=1e-6)

    def test_checkpoints_of_slices_stay_and_everything_else_of_the_run_goes(self, finished):
        assert len(list((finished / SLICES).glob("*.pt"))) == 4
        assert not (finished / "checkpoints").exists()
        weights = torch.load(finished / "weights.pt", weights_only=True)
        assert {name.split(".")[1] for name in weights} == {"0", "1"}
