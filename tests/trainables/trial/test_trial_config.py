import pickle

import pytest

from fairsweep.trainables.learning.learner_config import IDENTITY
from fairsweep.trainables.trial.trial_config import DatasetReference


def test_names_paths_and_speed_are_no_part_of_the_identity(make_config, dpsgd):
    base = make_config(dpsgd)
    moved = DatasetReference(**(base.dataset.model_dump() | {"path": "elsewhere", "name": "other"}))
    for other in (
        make_config(dpsgd | {"name": "another"}),
        make_config(dpsgd | {"performance": {"gradient_mode": "functorch", "physical_batch_size": 7}}),
        make_config(dpsgd, dataset=moved),
        make_config(dpsgd, twin_of="x"),
        make_config(dpsgd, replicate=4),
        make_config(dpsgd | {"batch_size": 32.0, "noise_multiplier": 1}),
        make_config(dpsgd, model={"name": "linear", "width": 16}),
    ):
        assert other.trial == base.trial
        assert other.setting == base.setting


def test_whatever_can_change_a_result_is_part_of_the_identity(make_config, dpsgd, sgd):
    share = {"attribute": "tone", "majority": "light", "size": 50}
    base = make_config(dpsgd)
    dataset = base.dataset.model_dump()
    others = [
        make_config(sgd),
        make_config(dpsgd | {"epochs": 4}),
        make_config(dpsgd | {"noise_multiplier": None, "epsilon": 3}),
        make_config(dpsgd | {"clipping": "per_layer"}),
        make_config(dpsgd | {"performance": {"gradient_mode": "hooks", "precision": "bfloat16"}}),
        make_config(sgd | {"performance": {"precision": "bfloat16"}}),
        make_config(sgd | {"performance": {"precision": "float16"}}),
        make_config(sgd | {"performance": {"compile": True}}),
        make_config(sgd | {"performance": {"channels_last": True}}),
        make_config(sgd | {"performance": {"tf32": False}}),
        make_config(dpsgd | {"optimizer": {"name": "adam", "lr": 0.02}}),
        make_config(dpsgd, model={"name": "cnn"}),
        make_config(dpsgd, model={"name": "cnn", "initial": "torch"}),
        make_config(dpsgd, imbalance=share | {"share": 0.5}),
        make_config(dpsgd, imbalance=share | {"share": 0.6}),
        make_config(dpsgd, imbalance=share | {"share": 0.5, "label_balanced": False}),
        make_config(dpsgd, evaluation={"balance": ["tone"]}),
        make_config(dpsgd, evaluation={"validation": {"balance": ["tone"]}}),
        make_config(dpsgd, dataset=dataset | {"content_hash": "0" * 40}),
        make_config(dpsgd, dataset=dataset | {"label": "tone"}),
        make_config(dpsgd, dataset=dataset | {"groups": ("tone", "smiling")}),
        make_config(dpsgd, mode="release"),
        make_config(dpsgd, key=1),
    ]
    assert len({other.setting for other in [base, *others]}) == len(others) + 1
    assert len({other.trial for other in [base, *others]}) == len(others) + 1


def test_seeds_tell_trials_apart_but_not_settings(make_config, sgd):
    configs = [make_config(sgd, seeds={"data": d, "train": t}) for d in range(3) for t in range(3)]
    assert len({config.setting for config in configs}) == 1
    assert len({config.trial for config in configs}) == 9


@pytest.mark.parametrize(
    ("model", "known"),
    [
        ({"name": "linear", "norm": "none", "width": 8}, "ef5dcfe2e98c26a9"),
        ({"name": "resnet18", "norm": "none", "width": 32}, "93dfeb6a35bfeb4d"),
        ({"name": "cnn", "norm": "none", "width": 8}, "20f1575f71076bc4"),
    ],
)
def test_records_with_fields_that_a_model_has_no_more_keep_their_identity(make_config, model, known):
    """The known hashes are those of a version in which every model took every field."""
    dataset = {"path": "x", "name": "n", "content_hash": "c" * 40, "label": "l", "groups": ("g", "h")}
    config = make_config({"kind": "sgd", "epochs": 3}, dataset=dataset, model=model)
    assert config.setting == known
    record = config.record()
    assert record["model"] == {"pretrained": None, **model}
    again = type(config).from_record(record)
    assert (again, again.record()) == (config, record)
    assert pickle.loads(pickle.dumps(config)).trial == config.trial


def test_records_that_name_no_initial_weights_mean_those_of_before(make_config):
    dataset = {"path": "x", "name": "n", "content_hash": "c" * 40, "label": "l", "groups": ("g", "h")}
    learner = {"kind": "sgd", "epochs": 3}
    before, now = (make_config(learner, dataset=dataset, model={"initial": name}) for name in ("he", "torch"))
    assert before == make_config(learner, dataset=dataset, model={})
    assert (before.trial, now.trial) == ("42acf61ebb68a82c", "d8341cb5ff529075")
    assert "initial" not in before.record()["model"]
    assert type(now).from_record(now.record()) == now


def test_pretrained_weights_count_by_their_content(make_config, sgd, tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"1")
    (tmp_path / "c").write_bytes(b"2")
    a, b, c = (make_config(sgd, model={"name": "resnet18", "pretrained": tmp_path / name}).trial for name in "abc")
    assert a == b != c
    assert make_config(sgd, model={"name": "resnet18"}).trial not in (a, c)


def test_the_hash_of_a_known_config_never_changes(make_config):
    """Raise IDENTITY_VERSION when a default changes its meaning; a new field with a default must not change this."""
    config = make_config(
        {"kind": "dpsgd", "epochs": 4, "epsilon": 3.0},
        dataset={"path": "x", "name": "n", "content_hash": "c" * 40, "label": "l", "groups": ("g", "h")},
        imbalance={"attribute": "g", "majority": "a", "share": 0.9, "size": 100},
        model={"name": "cnn"},
        evaluation={"balance": ["g"], "per_cell": 5},
        seeds={"data": 1, "train": 2},
    )
    assert (config.setting, config.trial) == ("d4132f0b40e1ab58", "a262e490e6cb7448")


@pytest.mark.parametrize(
    ("learner", "before", "changes"),
    [
        ({"epsilon": 3.0}, "f75a77a7ebd57e4e", True),
        ({"noise_multiplier": 1.0}, "a00cafad6eb2727a", True),
        ({"noise_multiplier": 1.0, "delta": 1e-6}, "53f0ae0e1ec4b8ef", False),
        ({"noise_multiplier": 0.0}, "d0e79555f705e798", False),
    ],
)
def test_the_default_of_delta_is_part_of_an_identity_where_epsilon_is_claimed_at_it(
    make_config, learner, before, changes
):
    """Before, the default was the largest power of ten below 1/N: less noise for the same epsilon."""
    dataset = {"path": "x", "name": "n", "content_hash": "c" * 40, "label": "l", "groups": ("g", "h")}
    config = make_config({"kind": "dpsgd", "epochs": 4} | learner, dataset=dataset, model={})
    assert (config.trial != before) == changes
    former = config.record() | {"trial": before}
    if changes:
        with pytest.raises(ValueError, match=r"another default of delta.*fairsweep resume"):
            type(config).from_record(former)
    else:
        assert type(config).from_record(former) == config


@pytest.mark.parametrize("mode", ["ew", "expanded_weights"])
def test_a_renamed_gradient_mode_keeps_the_hash_of_before(make_config, mode):
    """The hash was computed when the mode was called ew; records of that time open under its name of today."""
    inner = {"kind": "dpsgd", "epochs": 1, "batch_size": 24, "noise_multiplier": 1.0, "delta": 1e-4}
    config = make_config(
        {"kind": "sisa", "shards": 2, "slices": 2, "epochs": 1}
        | {"name": "forgets", "inner": inner | {"performance": {"gradient_mode": mode}}},
        dataset={"path": "/x", "name": "x", "content_hash": "c", "label": "smiling", "groups": ("tone",)},
    )
    assert config.trial == "dfed96b907a32750"
    assert config.record()["learner"]["inner"]["performance"]["gradient_mode"] == "expanded_weights"


@pytest.mark.parametrize(
    ("split", "known", "changes"),
    [
        ({"kind": "official"}, ("d7718cba54f8c883", "eccac3a6030c055b"), False),
        ({"kind": "folds", "folds": 5, "fold": 1}, ("36eafb1efd0ada1f", "40150c188e1e0c89"), True),
        ({"kind": "hold_out", "test": 0.25}, ("160f11e71b7f6323", "e7e5017b16c759c0"), True),
        ({"kind": "rest"}, ("8d6bed411c3cbeb6", "de18790d6a8557db"), True),
    ],
)
def test_only_a_drawn_split_of_users_has_another_hash_than_before_users_were_kept_together(
    make_config, split, known, changes
):
    """The known hashes are those of a version that divided single examples; a dataset without users keeps them."""
    dataset = {"path": "x", "name": "n", "content_hash": "c" * 40, "label": "l", "groups": ("g", "h")}
    config = make_config({"kind": "sgd", "epochs": 3}, dataset=dataset, split=split)
    assert (config.setting, config.trial) == known
    assert config.record()["dataset"]["has_users"] is False
    users = make_config({"kind": "sgd", "epochs": 3}, dataset=dataset | {"has_users": True}, split=split)
    assert ((users.setting, users.trial) != known) == changes
    assert users.record()["dataset"]["has_users"] is True
    assert type(users).from_record(users.record()) == users


FORMER = {"milestones": [0.4, 0.6], "milestone_factor": 0.2}
NOW = {"schedule": {"name": "milestones", "at": [0.4, 0.6], "by": 0.2}}


@pytest.mark.parametrize("written", [FORMER, NOW], ids=["as before", "as now"])
@pytest.mark.parametrize(
    ("optimizer", "known"),
    [({"lr": 0.05, "momentum": 0.9}, "a297a97e5d8d720c"), ({"name": "adam", "lr": 6e-4}, "edc4a56f64634c85")],
)
def test_optimizers_that_an_earlier_version_knew_keep_their_hashes(make_config, optimizer, written, known):
    dataset = {"path": "x", "name": "n", "content_hash": "c" * 40, "label": "l", "groups": ("g", "h")}
    config = make_config({"kind": "sgd", "epochs": 3, "optimizer": optimizer | written}, dataset=dataset, model={})
    assert config.trial == known
    record = config.record()
    assert type(config).from_record(record) == config
    every_field = {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0, "betas": [0.9, 0.999], **optimizer, **FORMER}
    before = record | {"learner": record["learner"] | {"optimizer": every_field}}
    assert type(config).from_record(before) == config


def test_defaults_mean_what_they_meant(make_config):
    """Defaults are left out of hashes: a default that changes would silently turn old results into new settings."""
    optimizer = {
        "name": "sgd",
        "lr": 0.1,
        "momentum": 0.0,
        "weight_decay": 0.0,
        "betas": [0.9, 0.999],
        "milestones": [],
        "milestone_factor": 0.1,
    }
    augmentation = {"flip": False, "crop": 0, "rotation": 0.0, "scale": (1.0, 1.0), "shear": 0.0}
    augmentation |= dict.fromkeys(("brightness", "contrast", "saturation", "hue", "blur", "noise"), 0.0)
    shared = {"epochs": 10, "optimizer": optimizer, "augmentation": augmentation}
    known = {
        "sgd": shared | {"batch_size": 128, "label_smoothing": 0.0},
        "dpsgd": shared | {"batch_size": 256, "epsilon": None, "delta": None, "l2_clip_norm": 1.0, "clipping": "flat"},
    }
    for learner, defaults in known.items():
        given = {"kind": learner} | ({"noise_multiplier": 1.0} if learner == "dpsgd" else {})
        hashed = make_config(given).learner.model_dump(context=IDENTITY)
        assert hashed.items() >= defaults.items(), "raise IDENTITY_VERSION"
    config = make_config({"kind": "sgd"}, model={})
    for name in ("cnn", "linear", "resnet18"):
        known_model = {"name": name, "norm": "group", "width": 16, "pretrained": None}
        assert make_config({"kind": "sgd"}, model={"name": name}).record()["model"] == known_model
    assert make_config({"kind": "sgd"}, model={}).model == config.model
    split = {"balance": None, "per_cell": None, "extra_random": 0, "key": 0}
    assert config.evaluation.model_dump() == split | {"validation": split, "dataset": None, "part": "test"}


def test_the_record_is_what_the_format_says(make_config, dpsgd):
    record = make_config(dpsgd, twin_of="private", replicate=3).record()
    assert set(record) >= {
        "format_version",
        "learner",
        "model",
        "imbalance",
        "dataset",
        "evaluation",
        "seeds",
        "replicate",
        "setting",
        "trial",
        "mode",
    }
    assert record["learner"]["twin_of"] == "private"
    assert record["learner"]["kind"] == "dpsgd"
    assert set(record["dataset"]) == {"path", "name", "content_hash", "label", "groups", "has_users"}


@pytest.mark.parametrize("unknown", [{"learners": []}, {"seed": 1}])
def test_unknown_fields_are_refused(make_config, sgd, unknown):
    with pytest.raises(ValueError, match=next(iter(unknown))):
        make_config(sgd, **unknown)
