"""What `plan` says beforehand: machines that are too small, empty groups; values by the names they are shown by."""

import re

import numpy as np
import pyarrow as pa
import pytest
import torch

from fairsweep.analysis.records.files import read_json
from fairsweep.analysis.results.trials import trials_table
from fairsweep.datasets.storage.layout import Attribute
from fairsweep.datasets.storage.prepared import PreparedDataset, write_prepared
from fairsweep.sweeps.execution.run import run_sweep
from fairsweep.sweeps.plan import plan_sweep
from fairsweep.sweeps.planning.expand import expand
from fairsweep.sweeps.planning.objectives import meaning_of
from fairsweep.sweeps.planning.preflight import check_sweep
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.trainables.learning.measures import Measure
from fairsweep.trainables.trial.trial import Trial


@pytest.fixture(scope="module")
def shown_path(tmp_path_factory):
    """A dataset whose attribute male is shown as female and male, and has no male in its test split."""
    count = 480
    rows = np.arange(count)
    split = np.array(["train", "train", "validation", "test"])[rows % 4]
    male = np.where(split == "test", 0, rows // 4 % 2).astype(np.int16)
    smiling = (rows // 8 % 2).astype(np.int16)
    examples = pa.table({"id": rows, "smiling": smiling, "male": male, "split": split})
    attributes = [
        Attribute(name="smiling", values=("no", "yes")),
        Attribute(name="male", values=("no", "yes"), display=("female", "male")),
    ]
    images = np.zeros((count, 8, 8, 1), np.uint8)
    folder = tmp_path_factory.mktemp("data") / "shown"
    return write_prepared(folder, name="shown", attributes=attributes, examples=examples, images=images)


@pytest.fixture
def shown(shown_path, mapping):
    mapping["dataset"] |= {"path": str(shown_path), "groups": ["male"]}
    mapping["imbalance"] = {"attribute": "male", "majority": "female", "share": {"grid": [0.5, 1]}, "size": 80}
    return mapping


def test_a_value_may_be_given_by_the_name_it_is_shown_by_and_is_the_same_trial(shown, shown_path):
    dataset = PreparedDataset.open(shown_path)
    by_shown = expand(Sweep(**shown), dataset)
    shown["imbalance"]["majority"] = "no"
    by_name = expand(Sweep(**shown), dataset)
    assert [trial.trial for trial in by_shown] == [trial.trial for trial in by_name]
    assert by_shown[0].config.imbalance.majority == "no"
    shown["imbalance"] = {"attribute": "male", "keep": {"female": 20}}
    assert expand(Sweep(**shown), dataset)[0].config.imbalance.keep == {"no": 20}
    shown["imbalance"] = {"attribute": "male", "majority": "femal", "share": 0.5, "size": 80}
    with pytest.raises(SweepError, match="did you mean 'female'"):
        plan_sweep(Sweep(**shown))


def test_measures_and_requests_take_the_names_that_values_are_shown_by(shown, shown_path):
    dataset = PreparedDataset.open(shown_path)
    meaning = meaning_of(Sweep(**shown), dataset)
    measure = Measure.parse("accuracy where male=female").settled(meaning)
    assert measure == Measure.parse("accuracy where male=no")
    with pytest.raises(ValueError, match="did you mean 'female'"):
        Measure.parse("accuracy where male=femal").settled(meaning)
    inner = {"kind": "sgd", "batch_size": 16}
    forgets = {"name": "forgets", "kind": "sisa", "shards": 2, "slices": 2, "epochs": 1, "inner": inner}
    hashes = []
    for female in ("female", "no"):
        by_group = {"count": 2, "by": "group", "group": {"male": female}}
        by_weight = {"count": 2, "model": "groups", "weights": {"male": {female: 3.0}}}
        shown["learners"] = [forgets | {"requests": by_group}, forgets | {"name": "weighs", "requests": by_weight}]
        trials = expand(Sweep(**shown), dataset)
        hashes.append([trial.trial for trial in trials])
        assert {str(trial.config.learner.requests.group) for trial in trials} == {"{'male': 'no'}", "{}"}
    assert hashes[0] == hashes[1]


def test_groups_too_small_to_be_compared_are_named_before_anything_is_trained(mapping):
    """The report says it too: after hundreds of trials."""
    mapping["evaluation"] = {"balance": ["tone", "smiling"], "per_cell": 10}
    assert not any("min_group_size" in note for note in plan_sweep(Sweep(**mapping)).plan_warnings)  # 20 of each tone
    mapping["evaluation"]["per_cell"] = 9
    (note,) = [note for note in plan_sweep(Sweep(**mapping)).plan_warnings if "min_group_size" in note]
    assert note.startswith("the test set has fewer than analysis.min_group_size=20 examples of tone light, dark")
    mapping["analysis"] = {"min_group_size": 18}
    assert not any("min_group_size" in note for note in plan_sweep(Sweep(**mapping)).plan_warnings)


def test_levels_are_named_by_what_is_shown(simulated_level):
    table = trials_table([simulated_level("no")], {"male": {"no": "female", "yes": "male"}})
    assert table["level_name"].tolist() == ["share of female"]
    assert trials_table([simulated_level("light", "tone")])["level_name"].tolist() == ["share of tone light"]


@pytest.fixture
def simulated_level():
    from fairsweep.analysis.records.files import SweepLocation
    from fairsweep.analysis.records.trial_folder import TrialFolder

    def folder(majority, attribute="male"):
        imbalance = {"attribute": attribute, "majority": majority, "share": 0.5, "size": 80}
        trial = TrialFolder(SweepLocation.of("x"))
        trial.take({"config.json": {"imbalance": imbalance, "learner": {"name": "a"}}, "data.json": None})
        trial.take({"state.json": None, "privacy.json": None})
        return trial

    return folder


def test_plan_says_which_levels_and_test_groups_are_empty(shown):
    warnings = plan_sweep(Sweep(**shown)).plan_warnings
    assert len(warnings) == 2
    assert "at share=1.0 no training example is male" in warnings[0]
    assert "the test set has no example of male male" in warnings[1]


def test_plan_on_a_small_machine_warns_and_run_refuses(mapping):
    mapping["resources"] = {"cpu": 1000, "gpu": 0.25}
    report = plan_sweep(Sweep(**mapping))
    assert "this machine cannot run it" in report.plan_warnings[0]
    assert report.learners[0].gpu == 0.25
    with pytest.raises(SweepError, match=r"needs cpu=1000, gpu=0\.25 on one machine"):
        run_sweep(Sweep(**mapping), quiet=True)


ACCURACY = {"max": "accuracy"}
RATE = {"name": "tuned", "kind": "sgd", "epochs": 3, "optimizer": {"lr": {"loguniform": [0.001, 0.1]}}}


def test_plan_warns_of_objectives_that_rank_small_groups(mapping):
    mapping |= {"stop": {"target": ["worst_group_accuracy by tone >= 0.9"]}, "analysis": {"min_group_size": 1000}}
    of_test, remark = plan_sweep(Sweep(**mapping)).plan_warnings
    assert of_test.startswith("the test set has fewer than analysis.min_group_size=1000 examples of tone ")
    assert remark.startswith("objectives, constraints and rules by tone rank ")
    assert "fewer than analysis.min_group_size=1000 validation examples" in remark
    assert plan_sweep(Sweep(**mapping | {"analysis": {"min_group_size": 1}})).plan_warnings == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {
                "search": {"algorithm": "tpe", "samples": 4, "startup_trials": 4, "objectives": [ACCURACY]},
                "learners": [RATE],
            },
            r"search\.startup_trials=4 is not below search\.samples=4: .* tpe guides never begins",
        ),
        (
            {"scheduler": {"kind": "asha", "grace_period": 3, "objectives": [ACCURACY]}},
            r"grace_period=3 .* 3 iterations .* stop none",
        ),
        ({"search": {"algorithm": "random", "samples": 5}}, r"search\.samples=5 has nothing to draw"),
        (
            {"learners": [{"kind": "sgd", "epochs": 2, "batch_size": 16, "ema": 0.999}]},
            r"ema=0\.999 of sgd averages over about 1,000 steps, more than the \d+ steps of a trial: .* below 1 - 1 / ",
        ),
        (
            {
                "learners": [
                    {"kind": "sisa", "shards": 2, "slices": 2, "epochs": 4, "inner": {"kind": "sgd", "ema": 0.99}}
                ]
            },
            r"more than the \d+ steps of a shard's first slice",
        ),
        (
            {
                "learners": [
                    {
                        "kind": "fedavg",
                        "rounds": 4,
                        "ema": 0.9,
                        "cohort_size": 5,
                        "clients": {"partition": "iid", "count": 10},
                    }
                ]
            },
            r"more than the 4 rounds",
        ),
    ],
)
def test_plan_remarks_on_what_will_have_no_effect(mapping, changes, said):
    (remark,) = plan_sweep(Sweep(**mapping | changes)).plan_warnings
    assert re.search(said, remark)


@pytest.mark.parametrize(
    "changes",
    [
        {
            "search": {"algorithm": "tpe", "samples": 4, "startup_trials": 3, "objectives": [ACCURACY]},
            "learners": [RATE],
        },
        {"scheduler": {"kind": "asha", "grace_period": 2, "objectives": [ACCURACY]}},
        {"search": {"algorithm": "random", "samples": 5}, "learners": [RATE]},
        {"learners": [{"kind": "sgd", "epochs": 10, "batch_size": 8, "ema": 0.9}]},
    ],
)
def test_plan_is_silent_where_all_has_an_effect(mapping, changes):
    assert plan_sweep(Sweep(**mapping | changes)).plan_warnings == ()


@pytest.fixture
def of_users(toy, mapping, tmp_path):
    """A sweep on a dataset in which each user has three images, in several splits."""
    images = np.concatenate([toy.shard_images(number) for number in range(len(toy.info.shards))])
    examples = toy.examples().append_column("user", pa.array(np.arange(len(toy)) // 3))
    data = write_prepared(
        tmp_path / "users", name="users", attributes=list(toy.info.attributes), examples=examples, images=images
    )
    mapping["dataset"]["path"] = str(data)
    mapping["imbalance"] = None
    mapping["learners"] = mapping["learners"][2:]
    return mapping


def test_a_plan_and_the_records_say_which_users_are_tested_on(of_users, tmp_path):
    said = plan_sweep(Sweep(**of_users)).plan_warnings
    both = r"users with images in both the train and the test split of the dataset: \d+; .*"
    assert any(re.fullmatch(both, line) for line in said)
    of_users["split"] = {"kind": "rest"}
    of_users["evaluation"] = {"balance": ["smiling"], "per_cell": 50}
    sweep = Sweep(**of_users)
    (left_out,) = [
        s.rpartition(": ")[2] for s in plan_sweep(sweep).plan_warnings if "since their users are tested on" in s
    ]
    assert int(left_out) > 100
    trial = expand(sweep, PreparedDataset.open(tmp_path / "users"))[0]
    Trial(trial.config, tmp_path / "trial").close()
    data = read_json(tmp_path / "trial" / "data.json")
    assert data["left_out"] == int(left_out)
    assert data["size"] < 960 - 100 - data["left_out"]


def test_a_notebook_shows_a_sweep_and_its_plan_in_a_few_lines(mapping):
    sweep = Sweep.from_mapping(mapping)
    plan = plan_sweep(sweep)
    assert repr(plan) == "PlanReport('toy', 12 trials of 6 settings, 12 of them to run)"
    for html, words in (
        (sweep._repr_html_(), ("smiling by tone", "share 0.5 | 0.9", "twin_of private")),
        (plan._repr_html_(), ("12 trials of 6 settings", "dpsgd: 4 trials, ε = ", ", twin of private: 4 trials")),
    ):
        assert html.startswith("<strong>toy</strong>")
        assert html.count("<tr>") < 12
        for text in words:
            assert text in html
        assert not re.search("[0-9a-f]{16}", html)


def test_a_plan_says_what_becomes_of_a_frozen_body_and_counts_what_is_kept(mapping, tmp_path):
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n\n\ndef net(image_shape, classes):\n"
        "    body = [nn.Conv2d(1, 4, 3, 2), nn.ReLU(), nn.Flatten()]\n"
        "    return nn.Sequential(*body, nn.Linear(36, classes))\n"
    )
    weights = {"0.weight": torch.ones(4, 1, 3, 3), "0.bias": torch.zeros(4)}
    torch.save(weights | {"3.weight": torch.zeros(2, 36), "3.bias": torch.zeros(2)}, tmp_path / "body.pt")
    name = f"{tmp_path / 'nets.py'}:net"
    mapping["model"] = {"name": name, "weights": str(tmp_path / "body.pt"), "train": "head"}
    mapping["learners"][2]["augmentation"] = {"flip": True}
    sweep = Sweep.from_mapping(mapping)
    private, matched, tuned = (line.workloads for line in plan_sweep(sweep).learners)
    # 960 images of 36 numbers of 4 bytes
    assert f"of {name} is trained on features of its frozen body, which each machine computes once" in private[0]
    assert "(0.1 MB)" in private[0]
    assert matched == private
    assert tuned == (f"the frozen layers of {name} are computed anew at every step: augmentation changes the images",)
    plan = check_sweep(sweep)
    sizes = {trial.config.learner.name: plan.checkpoint_bytes(trial) for trial in plan.trials}
    body, head = 4 * 9 + 4, 36 * 2 + 2
    whole, alone = 4 * (body + head) + 8 * head, 12 * head
    assert sizes == {"private": alone, "matched": alone, "tuned": whole}
    written = {trial.config.learner.name: plan.trial_bytes(trial) for trial in plan.trials}
    assert written["tuned"] - written["private"] == 4 * body
