import itertools
from pathlib import Path

import pytest

from fairsweep.sweeps.planning.expand import expand
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.trainables.trial.trial_secret import trial_secret


@pytest.fixture
def expanded(toy):
    def expand_mapping(content):
        return expand(Sweep.from_mapping(content), toy)

    return expand_mapping


def test_every_combination_is_a_trial(mapping, expanded):
    trials = expanded(mapping)
    found = {(t.config.learner.name, t.config.imbalance.share, t.config.seeds.data) for t in trials}
    assert found == set(itertools.product(("private", "matched", "tuned"), (0.5, 0.9), (0, 1)))
    assert len(trials) == len({t.trial for t in trials}) == len({t.folder_name for t in trials}) == 12
    assert len({t.setting for t in trials}) == 6
    assert [t.config.seeds.data for t in trials] == sorted(t.config.seeds.data for t in trials)


def test_folder_names_are_readable(mapping, expanded):
    mapping["learners"][0] = {"name": "private", "kind": "dpsgd", "epsilon": {"grid": [3, 8.0]}}
    mapping["learners"][2]["optimizer"] = {"lr": {"grid": [1e-3]}}
    labels = [t.label for t in expanded(mapping)]
    assert labels[:4] == [
        "private-eps3_share.5_s0",
        "private-eps8_share.5_s0",
        "matched_share.5_s0",
        "tuned-lr.001_share.5_s0",
    ]
    assert all(t.folder_name == f"{t.label}-{t.trial[:8]}" for t in expanded(mapping))


def test_seeds_are_tied_or_crossed(mapping, expanded):
    tied = {(t.config.seeds.data, t.config.seeds.train) for t in expanded(mapping | {"seeds": 3})}
    assert tied == {(0, 0), (1, 1), (2, 2)}
    crossed = expanded(mapping | {"seeds": {"data": 2, "train": 3}})
    pairs = {t.config.replicate: (t.config.seeds.data, t.config.seeds.train) for t in crossed}
    assert sorted(pairs) == list(range(6))
    assert set(pairs.values()) == set(itertools.product(range(2), range(3)))


def test_repetitions_under_further_noise_are_trials_of_their_own_and_the_first_is_the_one_without(mapping, expanded):
    plain = expanded(mapping | {"seeds": {"data": 2, "train": 1}})
    trials = expanded(mapping | {"seeds": {"data": 2, "train": 1, "noise": 3}})
    assert len({t.trial for t in trials}) == len(trials) == 3 * len(plain)
    assert {t.trial for t in trials if t.config.seeds.noise is None} == {t.trial for t in plain}
    assert {t.setting for t in trials} == {t.setting for t in plain}
    assert sorted({t.label.rsplit("_s")[-1] for t in trials}) == ["0x0", "0x0x1", "0x0x2", "1x0", "1x0x1", "1x0x2"]
    assert all(type(t.config).from_record(t.config.record()) == t.config for t in trials)
    secrets = {trial_secret(Path(t.folder_name), mode="research", key=0, trial=t.trial) for t in trials}
    assert len(secrets) == len(trials)  # no two share their noise


def test_initial_weights_and_order_are_crossed_and_the_first_is_the_trial_without(mapping, expanded):
    plain = expanded(mapping | {"seeds": {"data": 1, "train": 2}})
    trials = expanded(mapping | {"seeds": {"data": 1, "train": 2, "order": 2, "init": 3}})
    assert len({t.trial for t in trials}) == len({t.folder_name for t in trials}) == 6 * len(plain)
    assert {t.trial for t in trials if t.config.seeds.order is t.config.seeds.init is None} == {t.trial for t in plain}
    assert {t.setting for t in trials} == {t.setting for t in plain}
    assert {"0x1", "0x1_order1", "0x1_init2", "0x1_order1_init2"} <= {t.label.rsplit("_s")[-1] for t in trials}
    assert all(type(t.config).from_record(t.config.record()) == t.config for t in trials)


def test_release_mode_repeats_nothing_under_further_noise(mapping, expanded):
    mapping["learners"] = [mapping["learners"][0]]
    release = {"seeds": {"data": 1, "train": 1, "noise": 2}, "privacy": {"mode": "release"}}
    with pytest.raises(SweepError, match=r"seeds\.noise repeats a training under further noise"):
        expanded(mapping | release)


def test_a_twin_differs_in_its_privacy_alone(mapping, expanded):
    trials = {(t.config.learner.name, t.label.split("_", 1)[1]): t.config for t in expanded(mapping)}
    for (name, rest), twin in trials.items():
        if name != "matched":
            continue
        original = trials["private", rest]
        assert twin.twin_of == "private"
        ours, theirs = twin.learner.model_dump(), original.learner.model_dump()
        assert {k for k in ours if ours[k] != theirs[k]} == {"name", "noise_multiplier", "l2_clip_norm", "clipping"}
        assert twin.model_copy(update={"learner": original.learner, "twin_of": None}) == original


def test_one_twin_serves_every_epsilon(mapping, expanded):
    mapping["learners"][0] = {"name": "private", "kind": "dpsgd", "epsilon": {"grid": [1.0, 3.0, 8.0]}}
    names = [t.config.learner.name for t in expanded(mapping)]
    assert names.count("private") == 12
    assert names.count("matched") == 4


def test_a_random_search_draws_for_all_learners_alike(mapping, expanded):
    mapping["search"] = {"algorithm": "random", "samples": 3, "seed": 5}
    mapping["imbalance"]["share"] = {"uniform": [0.5, 0.9]}
    mapping["learners"][0]["optimizer"] = {"lr": {"loguniform": [0.01, 1]}}
    trials = expanded(mapping)
    shares = {
        name: {t.config.imbalance.share for t in trials if t.config.learner.name == name}
        for name in ("private", "matched", "tuned")
    }
    assert len(shares["private"]) == 3
    assert shares["private"] == shares["matched"] == shares["tuned"]
    rates = {t.config.learner.optimizer.lr for t in trials if t.config.learner.name == "private"}
    assert rates == {t.config.learner.optimizer.lr for t in trials if t.config.learner.name == "matched"}
    more = expanded(mapping | {"search": mapping["search"] | {"samples": 4}})
    assert {t.trial for t in trials} < {t.trial for t in more}
    assert {t.trial for t in trials} == {t.trial for t in expanded(mapping)}
    other = expanded(mapping | {"search": mapping["search"] | {"seed": 6}})
    assert not {t.trial for t in trials} & {t.trial for t in other}


def test_a_sweep_can_grow_without_losing_a_trial(mapping, expanded):
    before = {t.trial for t in expanded(mapping)}
    mapping["seeds"] = 3
    mapping["imbalance"]["share"] = {"grid": [0.9, 0.5, 0.7]}
    mapping["learners"].append({"name": "more", "kind": "sgd", "epochs": 9})
    mapping["learners"][2]["name"] = "renamed"
    mapping["output"] = "elsewhere"
    mapping["resources"] = {"cpu": 2}
    assert before < {t.trial for t in expanded(mapping)}


def test_two_learners_that_do_the_same_are_refused(mapping, expanded):
    mapping["learners"].append(mapping["learners"][2] | {"name": "again"})
    with pytest.raises(SweepError, match="'tuned' and 'again' are identical"):
        expanded(mapping)


def test_a_learner_may_have_resources_of_its_own(mapping, expanded):
    mapping["learners"][0]["resources"] = {"cpu": 0.5, "gpu": 0.25}
    mapping["learners"][1]["resources"] = {"cpu": 2}
    shapes = {t.config.learner.name: (t.resources.cpu, t.resources.gpu) for t in expanded(mapping)}
    assert shapes == {"private": (0.5, 0.25), "matched": (2, 0), "tuned": (1, 0)}


def test_any_field_can_be_a_dimension(mapping, expanded):
    mapping["model"] = {"name": {"grid": ["resnet18", "cnn"]}, "norm": {"grid": ["group", "none"]}}
    mapping["imbalance"] = {"attribute": "tone", "keep": {"dark": {"grid": [10, 20]}}}
    trials = expanded(
        mapping | {"seeds": 1, "learners": [{"kind": "sgd", "augmentation": {"flip": {"grid": [True, False]}}}]}
    )
    found = {
        (t.config.model.name, t.config.model.norm, t.config.imbalance.keep["dark"], t.config.learner.augmentation.flip)
        for t in trials
    }
    assert len(found) == len(trials) == 16
