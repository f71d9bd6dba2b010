"""Audited trainings: canaries take the place of units, change nothing else, and their scores are recorded."""

import dataclasses

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from fairsweep.analysis.auditing.one_run import audit_scores
from fairsweep.analysis.auditing.repetitions import audit_repetitions
from fairsweep.analysis.records.file_names import AUDIT
from fairsweep.analysis.records.files import read_json
from fairsweep.analysis.records.learner_records import read_audit
from fairsweep.datasets.feeds import stream
from fairsweep.datasets.feeds.resident import ResidentFeed
from fairsweep.datasets.selection.sampling import Poisson
from fairsweep.datasets.storage import reading
from fairsweep.trainables.auditing.canaries import AuditConfig, Canaries, Contributing
from fairsweep.trainables.auditing.gradient_canaries import GradientCanaries
from fairsweep.trainables.dpsgd.dpsgd_config import DpsgdConfig
from fairsweep.trainables.dpsgd.dpsgd_learner import Dpsgd
from fairsweep.trainables.federated.dpfedavg import Dpfedavg
from fairsweep.trainables.federated.fedavg_config import DpfedavgConfig
from fairsweep.trainables.learners import build_learner
from fairsweep.trainables.models.model import build_model
from fairsweep.trainables.models.models import MODELS
from fairsweep.trainables.privacy.plan import PrivacyPlan
from fairsweep.trainables.trial.trial import Trial
from fairsweep.trainables.unlearning.sisa_config import SisaConfig

KEY, OTHER = b"k" * 32, b"o" * 32
AUDITED = {"canaries": 32}


def dpsgd(**fields):
    given = {
        "epochs": 3,
        "batch_size": 16,
        "noise_multiplier": 1.0,
        "optimizer": {"name": "sgd", "lr": 0.1},
        "performance": {"gradient_mode": "hooks"},
        "audit": AUDITED,
    }
    return DpsgdConfig(**{**given, **fields})


def dpfedavg(**fields):
    given = {
        "rounds": 4,
        "sampling_rate": 0.5,
        "noise_multiplier": 1.0,
        "clients": {"partition": "iid", "count": 64},
        "audit": AUDITED,
    }
    return DpfedavgConfig(**{**given, **fields})


def table_of(learner, folder):
    learner.files()[AUDIT](folder / AUDIT)
    return read_audit(folder / AUDIT)


def train(learner):
    while learner.iteration < learner.iterations:
        learner.step()
    return learner


def test_canaries_follow_from_the_public_key_and_their_coins_from_the_secret():
    names = np.arange(1000, 0, -1)
    first = Canaries.draw(200, names, None, KEY, OTHER)
    same_units = Canaries.draw(200, names, None, KEY, KEY)
    np.testing.assert_array_equal(first.positions, same_units.positions)
    assert (first.coins != same_units.coins).any()
    assert 60 < first.coins.sum() < 140
    shuffled = np.random.default_rng(0).permutation(1000)
    again = Canaries.draw(200, names[shuffled], None, KEY, OTHER)
    assert set(names[shuffled][again.positions]) == set(names[first.positions])


def test_groups_get_equally_many_canaries():
    codes = (np.arange(400) < 50).astype(np.int64)
    drawn = Canaries.draw(41, np.arange(400), codes, KEY, OTHER)
    assert np.bincount(codes[drawn.positions]).tolist() == [21, 20]
    with pytest.raises(ValueError, match="group of code 1 has 50 units"):
        Canaries.draw(120, np.arange(400), codes, KEY, OTHER)
    with pytest.raises(ValueError, match="at most half"):
        Canaries.draw(201, np.arange(400), None, KEY, OTHER)


def test_everybody_else_joins_the_steps_that_they_would_have_joined():
    plain = Poisson(100, 0.3, 5, KEY)
    canaries = Canaries.draw(40, np.arange(100), None, KEY, OTHER)
    for themselves in (True, False):
        contributes = canaries.contributing(100, themselves=themselves)
        for step in range(5):
            expected = [p for p in plain.positions(step).tolist() if contributes[p]]
            assert Contributing(plain, contributes).positions(step).tolist() == expected
    assert (~canaries.contributing(100, themselves=False)).sum() == 40


@pytest.mark.parametrize("clipping", ["flat", "per_layer"])
def test_a_gradient_canary_adds_exactly_the_clipping_norm(clipping):
    model = build_model(MODELS["cnn"](), (16, 16, 1), 2, KEY)
    size = sum(p.numel() for p in model.parameters())
    plan = PrivacyPlan(
        population=40, sampling_rate=1.0, steps=3, clipping=clipping, l2_clip_norm=0.7, noise_multiplier=1.0, delta=1e-3
    )
    canaries = Canaries(np.array([3]), np.array([True]))
    gradients = GradientCanaries(canaries, plan, plan.inclusion(OTHER, 0), None, model, KEY)
    total = torch.zeros(size)
    norms = gradients.add_to(total, 0, plan.bound())
    assert float(total.norm()) == pytest.approx(0.7, rel=1e-5)
    assert norms[0] > 0.7
    gradients.observe(total / plan.expected_batch_size, 0.7)
    assert float(gradients.scores[0]) == pytest.approx(0.5)  # (2 y - 1) / 2 z^2 at y = 1, drawn for certain
    out = GradientCanaries(Canaries(np.array([3]), np.array([False])), plan, plan.inclusion(OTHER, 0), None, model, KEY)
    nothing = torch.zeros(size)
    assert len(out.add_to(nothing, 0, plan.bound())) == 0
    assert float(nothing.norm()) == 0


def test_coordinates_differ_as_far_as_there_are_enough_of_them():
    model = build_model(MODELS["linear"](), (8, 8, 1), 2, KEY)
    plan = PrivacyPlan(
        population=200, sampling_rate=1.0, steps=1, clipping="flat", l2_clip_norm=1.0, noise_multiplier=1.0, delta=1e-3
    )
    canaries = Canaries(np.arange(100), np.ones(100, dtype=bool))
    total = torch.zeros(130)
    GradientCanaries(canaries, plan, plan.inclusion(OTHER, 0), None, model, KEY).add_to(total, 0, plan.bound())
    assert (total == 1).sum() == 100


@pytest.mark.parametrize("kind", ["gradient", "example", "mislabelled"])
def test_an_audit_resumes_to_the_bit_and_records_scores(make_task, tmp_path, kind):
    config, task = dpsgd(audit={"canaries": 32, "kind": kind}), make_task(n=96)
    whole = train(Dpsgd(config, task))
    half = Dpsgd(config, task)
    half.step()
    rest = Dpsgd(config, task)
    rest.load(half.state())
    train(rest)
    expected, found = (table_of(learner, tmp_path).to_pandas() for learner in (whole, rest))
    assert expected.equals(found)
    assert len(found) == 32
    assert 0 < found["included"].sum() < 32
    statement = whole.privacy()
    assert statement.epsilon == Dpsgd(dpsgd(audit=None), task).plan.epsilon()
    assert sum("32 of the 96 examples as canaries" in line for line in statement.assumptions) == 1
    assert AUDIT in statement.reveals


def test_clients_are_canaries_of_federated_learning(make_task, tmp_path):
    config, task = dpfedavg(audit={"canaries": 32, "by": "tone"}, noise_multiplier=0.3), make_task(n=64)
    whole = train(Dpfedavg(config, task))
    half = Dpfedavg(config, task)
    half.step()
    rest = Dpfedavg(config, task)
    rest.load(half.state())
    found = table_of(train(rest), tmp_path).to_pandas()
    assert table_of(whole, tmp_path).to_pandas().equals(found)
    assert set(found["group"]) == {"light", "dark"}
    gap = found[found["included"]]["score"].mean() - found[~found["included"]]["score"].mean()
    assert gap > 0
    assert "32 of the 64 clients" in " ".join(whole.privacy().assumptions)


def test_without_an_audit_nothing_is_recorded_and_no_identity_changes(make_task, make_config):
    assert Dpsgd(dpsgd(audit=None), make_task(n=96)).files() == {}
    plain, audited = make_config(dpsgd(audit=None)), make_config(dpsgd())
    assert plain.trial != audited.trial
    assert "audit" not in str(dpsgd(audit=None).model_dump(exclude_defaults=True))


def test_losses_of_mislabelled_canaries_betray_training_without_privacy(make_task, tmp_path):
    clean = dpsgd(epochs=60, batch_size=100, audit={"canaries": 300, "kind": "mislabelled"}).twin("twin")
    task = make_task(n=600, size=28)
    found = table_of(train(build_learner(clean, task)), tmp_path).to_pandas()
    scores, coins = found["score"].to_numpy(), found["included"].to_numpy()
    assert audit_scores(scores, coins, delta=1e-5).epsilon > 1
    assert audit_repetitions(scores, coins, delta=1e-5).epsilon > 1


def test_a_trial_keeps_its_audit(make_config, tmp_path):
    folder = Trial(make_config(dpsgd(epochs=1, audit={"canaries": 20, "by": "tone"})), tmp_path / "trial").run()
    table = read_audit(folder / AUDIT)
    assert table["group"].to_pylist().count("dark") == 10
    assert all(unit % 3 == 0 for unit in table["unit"].to_pylist())  # ids of examples, not positions
    assert "20 of the" in " ".join(read_json(folder / "privacy.json")["assumptions"])


@pytest.mark.parametrize("kind", ["gradient", "mislabelled"])
@pytest.mark.parametrize("sampler", ["poisson", "truncated_poisson", "weighted_poisson"])
def test_a_stream_gives_the_same_audit_as_a_resident_copy(make_task, toy, tmp_path, monkeypatch, kind, sampler):
    def read_here(location, requests, image_shape, **_):
        """Stands in for Ray: reads in this process."""
        for table in reading.read_pieces(location, requests, image_shape):
            yield from (reading.piece_of(batch, image_shape) for batch in table.to_batches())

    monkeypatch.setattr(stream, "check_ray", lambda: None)
    monkeypatch.setattr(stream, "spread", read_here)
    weights = {"sampling_weights": {"attribute": "tone", "weights": {"dark": 2.0}}}
    fields = weights if sampler == "weighted_poisson" else {}
    config = dpsgd(sampler=sampler, audit={"canaries": 32, "kind": kind}, **fields)
    rows = toy.split("train")
    found = []
    limits = stream.StreamLimits(memory_bytes=2**16, scratch_bytes=2**20, scratch_dir=tmp_path / "scratch")
    for feed in (ResidentFeed.open(toy), stream.StreamFeed.open(toy, limits)):
        with feed:
            tone = {"tone": toy.codes("tone")[rows]}
            labels = toy.codes("smiling")[rows].astype(np.int64)
            task = make_task(n=len(rows), rows=rows, labels=labels, groups=tone, feed=feed)
            found.append(table_of(train(Dpsgd(config, task)), tmp_path).to_pandas())
    assert found[0].equals(found[1])


def test_what_cannot_be_audited_is_refused(make_task, make_config):
    task = make_task(n=96)
    with pytest.raises(ValidationError, match="leave audit out"):
        make_config(dpsgd(), mode="release")
    with pytest.raises(ValueError, match="mode: research"):
        Dpsgd(dpsgd(), dataclasses.replace(task, diagnostics=False))
    with pytest.raises(ValueError, match="one of the groups tone, but got 'race'"):
        Dpsgd(dpsgd(audit={"canaries": 16, "by": "race"}), task)
    with pytest.raises(ValidationError, match="greater than or equal to 8"):
        AuditConfig(canaries=3)
    with pytest.raises(ValidationError, match=r"audit\.kind must be gradient"):
        dpfedavg(audit={"canaries": 16, "kind": "mislabelled"})
    with pytest.raises(ValidationError, match="leave audit out of inner, and give it"):
        SisaConfig.model_validate(
            {"inner": {"kind": "dpsgd", "batch_size": 4, "noise_multiplier": 1.0, "audit": AUDITED}}
        )
