import shutil

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from fairsweep.datasets.storage.prepared import Attribute, PreparedDataset, write_prepared
from fairsweep.sweeps.cli.plan_tables import print_plan
from fairsweep.sweeps.plan import plan_sweep
from fairsweep.sweeps.planning.expand import expand
from fairsweep.sweeps.planning.machines import Machine, check_resources, inner_workers, slots, this_machine
from fairsweep.sweeps.planning.preflight import check_sweep, privacy_plans
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.trainables.privacy.plan import PrivacyPlan

FORGETFUL = {"name": "private", "kind": "sisa", "audit": {"forgotten": True}}
CLIENTS = {
    **{"name": "private", "kind": "dpfedavg", "rounds": 2, "noise_multiplier": 1.0},
    "clients": {"partition": "iid", "count": 9},
}


def refusal(mapping, *changes):
    for place, value in changes:
        node = mapping
        for part in place[:-1]:
            node = node[part]
        node[place[-1]] = value
    with pytest.raises(SweepError) as caught:
        plan_sweep(Sweep.from_mapping(mapping))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_sound_sweep_passes(mapping):
    plan = check_sweep(Sweep.from_mapping(mapping))
    assert len(plan.trials) == 12
    assert set(plan.sizes.values()) == {120}
    assert plan.evaluated == 480
    assert {(counts.kept, counts.trained) for counts in plan.weights.values()} == {(8 * 8 * 2 + 2,) * 2}


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("dataset", "label"), "smilling", ["dataset.label", "did you mean 'smiling'?"]),
        (("dataset", "groups"), ["tones"], ["dataset.groups", "did you mean 'tone'?"]),
        (("imbalance", "attribute"), "ton", ["imbalance", "did you mean 'tone'?"]),
        (("imbalance", "majority"), "lite", ["imbalance", "did you mean 'light'?"]),
        (("imbalance", "size"), 5000, ["imbalance", "largest size possible"]),
        (("evaluation",), {"balance": ["tine"]}, ["evaluation", "did you mean 'tone'?"]),
        (("evaluation",), {"balance": ["tone"], "per_cell": 10_000}, ["evaluation", "largest per_cell possible"]),
        (("model",), {"name": "cnn", "norm": "batch"}, ["model", "'private'", "BatchNorm", "norm: group"]),
        (("model",), {"name": "resnet18", "pretrained": "nowhere.pt"}, ["nowhere.pt"]),
        (
            ("model",),
            {"name": "linear", "width": {"grid": [16, 8]}},
            ["model.width", "linear has no width", "leave it out"],
        ),
        (("model",), {"name": "linear", "norm": "none"}, ["model.norm", "linear has no norm"]),
        (
            ("model",),
            {"name": "linear", "pretrained": "w.pt"},
            ["model.pretrained", "only resnet18 has", "choose resnet18"],
        ),
        (("learners", 0, "batch_size"), 500, ["learners[0]", "batch_size=500", "120"]),
        (("learners", 0, "audit"), {"canaries": 61}, ["learners[0]", "half of the 120 units", "canaries=61"]),
        (
            ("learners", 0, "audit"),
            {"canaries": 50, "by": "tone"},
            ["learners[0]", "takes 25 canaries", "has 12 units"],
        ),
        (("learners", 0, "audit"), {"canaries": 10, "by": "tones"}, ["learners[0]", "did you mean 'tone'?"]),
        (("learners", 0), FORGETFUL, ["learners", "'private'", "shadows: 32"]),
        (("learners", 0), CLIENTS | {"audit": {"canaries": 8, "by": "smiling"}}, ["audit.by", "known: tone"]),
        (
            ("learners", 0),
            CLIENTS | {"audit": {"canaries": 10}},
            ["learners[0]", "half of the 9 units", "canaries=10"],
        ),
        (
            ("learners", 0, "remedy"),
            {"kind": "class_weights", "weights": {"yess": 2}},
            ["learners[0]", "private", "did you mean 'yes'?"],
        ),
        (
            ("learners", 2, "remedy"),
            {"kind": "group_dro", "attributes": ["tones"]},
            ["learners[2]", "did you mean 'tone'?", "dataset.groups"],
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(mapping, tmp_path, place, value, words):
    message = refusal(mapping, (place, value))
    for word in words:
        assert word in message
    assert not (tmp_path / "out").exists()


def test_a_sweep_that_had_fields_without_effect_before_goes_on(mapping):
    mapping["model"] = {"name": "linear", "width": 8}
    sweep = Sweep.from_mapping(mapping)
    trials = expand(sweep, PreparedDataset.open(sweep.dataset.path))
    for trial in trials[1:]:
        (sweep.folder / "trials" / trial.folder_name).mkdir(parents=True)
    with pytest.raises(SweepError, match="linear has no width"):
        check_sweep(sweep)
    (sweep.folder / "trials" / trials[0].folder_name).mkdir()
    assert [trial.trial for trial in check_sweep(sweep).trials] == [trial.trial for trial in trials]


def test_a_missing_or_half_written_dataset_is_refused_with_the_remedy(mapping, toy_path, tmp_path):
    message = refusal(mapping, (("dataset", "path"), str(tmp_path / "nowhere")))
    assert "dataset.path" in message
    assert "fairsweep prepare" in message
    half = tmp_path / "half"
    shutil.copytree(toy_path, half)
    (half / "dataset.json").unlink()
    assert "half" in refusal(mapping, (("dataset", "path"), str(half)))
    shutil.rmtree(half)
    shutil.copytree(toy_path, half)
    next((half / "shards").iterdir()).unlink()
    assert "is damaged" in refusal(mapping, (("dataset", "path"), str(half)))


def test_each_distinct_privacy_plan_is_made_once(mapping):
    plan = check_sweep(Sweep.from_mapping(mapping))
    plans = privacy_plans(plan, plan.trials)
    assert set(plans) == {trial.trial for trial in plan.trials if trial.config.learner.kind == "dpsgd"}
    assert len({id(p) for p in plans.values()}) == 2  # of the private learner and of its twin
    assert all(p.population == 120 for p in plans.values())


def test_slots_count_what_fits_at_once(mapping):
    trials = check_sweep(Sweep.from_mapping(mapping)).trials
    assert Machine(2, 2).slots(0.2, 0.25) == 8
    assert Machine(2, 2).slots(0.2, 1) == 2
    assert Machine(2, 0).slots(1, 0.5) == 0
    assert Machine(0.3, 0).slots(0.1, 0) == 3
    assert slots(trials, [Machine(2, 0), Machine(4, 0)], None) == 6
    assert slots(trials, [Machine(2, 0), Machine(4, 0)], 3) == 3
    assert slots(trials, [Machine(100, 0)], None) == 12
    check_resources(trials, [Machine(1, 0)])
    with pytest.raises(SweepError, match="cpu=1, gpu=0 on one machine, but there is cpu=0"):
        check_resources(trials, [Machine(0.5, 0), Machine(0.5, 0)])
    assert this_machine().cpu >= 1


def test_a_plan_says_what_a_run_would_do(mapping, tmp_path):
    report = plan_sweep(Sweep.from_mapping(mapping))
    assert (len(report.labels), report.missing, report.settings) == (12, 12, 6)
    assert [(line.name, line.twin_of, line.trials) for line in report.learners] == [
        ("private", None, 4),
        ("matched", "private", 4),
        ("tuned", None, 4),
    ]
    lines = {line.learner: line for line in report.privacy}
    assert lines["private"].epsilon == lines["private"].plan.epsilon().pld > 0
    assert lines["matched"].epsilon == float("inf")
    assert "tuned" not in lines
    assert lines["matched"].plan.remark == "no clipping, no noise"
    assert not (tmp_path / "out").exists()


def test_a_bound_on_epsilon_is_refused_where_it_would_end_nothing(mapping):
    """What an example spends under a private forgetful learner depends on its slice: no number of steps bounds it."""
    mapping["stop"] = {"epsilon": 3}
    inner = {"kind": "dpsgd", "batch_size": 4, "noise_multiplier": 0.8}
    forgetful = {"kind": "sisa", "shards": 2, "slices": 2, "epochs": 1, "inner": inner}
    with pytest.raises(SweepError, match=r"charged by slices, as 'sisa' is.*stop\.epsilon=3; give.*more noise"):
        check_sweep(Sweep.from_mapping(mapping | {"learners": [forgetful]}))
    check_sweep(Sweep.from_mapping(mapping | {"learners": [inner, forgetful | {"inner": {"kind": "sgd"}}]}))


def test_a_plan_says_what_a_private_forgetful_learner_costs_before_anybody_asks(mapping):
    inner = {"kind": "dpsgd", "batch_size": 4, "noise_multiplier": 0.8}
    mapping["learners"] = [
        {"kind": "sisa", "shards": 2, "slices": 2, "epochs": epochs, "inner": inner, "name": name}
        for epochs, name in ((1, "one"), (2, "two"))
    ]
    mapping["learners"].append({"kind": "sisa", "shards": 2, "slices": 2, "name": "plain"})
    report, console = plan_sweep(Sweep.from_mapping(mapping)), Console(record=True, width=400)
    print_plan(report, console)
    assert "Of one, two this is what is spent before any request for deletion" in console.export_text()
    one, two = report.privacy
    trial = next(t for t in check_sweep(Sweep.from_mapping(mapping)).trials if t.config.learner.name == "one")
    # 120 examples: slices of 30, so that a shard's trainings see 30 and 60.
    stated = PrivacyPlan.build(trial.config.learner.inner.model_copy(update={"delta": one.plan.delta}), 30)
    assert (one.plan.steps, one.plan.largest_rate) == (round(30 / 4) + 15, 4 / 30)
    assert stated.epsilon().pld < one.epsilon < two.epsilon < float("inf")
    assert "before any request" in one.plan.remark


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shards": 200}, "lower shards to at most 120"),
        ({"shards": 11, "slices": 11}, "are empty"),
        ({"requests": {"ids": [0, 3]}}, "would be written into the config of the trial .* fairsweep forget SWEEP"),
        ({"requests": {"count": 121}}, "that can ask, 120"),
        ({"strategy": "by-group", "placed_by": ["tones"]}, "'tones' is not one"),
        ({"requests": {"count": 1, "model": "survey"}}, "'gender' is not one"),
    ],
)
def test_impossible_forgetting_is_refused_before_anything_starts(mapping, fields, message):
    mapping["imbalance"]["share"] = 0.5
    mapping["learners"] = [{"name": "forgetful", "kind": "sisa", "epochs": 1, **fields}]
    with pytest.raises(SweepError, match=message):
        check_sweep(Sweep.from_mapping(mapping))


@pytest.mark.parametrize(
    ("shape", "machine", "expected"),
    [
        ({"cpu": 0.5}, Machine(2, 0), 2),  # a trial of one CPU leaves room for two workers; five shards take turns
        ({"cpu": 0.25, "gpu": 0.25}, Machine(8, 1), 4),
        ({"cpu": 1, "workers": 3}, Machine(8, 0), 3),
        ({"cpu": 1, "workers": 9}, Machine(16, 0), 5),  # never more than shards
        ({"cpu": 2}, Machine(2, 0), "there is room for 0"),
        ({"cpu": 1, "workers": 2}, Machine(2, 0), "needs 2 workers beside it"),
        ({"cpu": 1, "gpu": 1}, Machine(8, 0), "there is room for 0"),
    ],
)
def test_shards_get_the_workers_that_fit_and_what_never_fits_is_refused(mapping, shape, machine, expected):
    mapping["imbalance"]["share"] = 0.5
    mapping["learners"] = [{"name": "forgetful", "kind": "sisa", "epochs": 1, "shard_resources": shape}]
    trials = check_sweep(Sweep.from_mapping(mapping)).trials
    if isinstance(expected, str):
        with pytest.raises(SweepError, match=expected):
            check_resources(trials, [machine])
    else:
        check_resources(trials, [machine])
        assert inner_workers(trials[0], [machine]).count == expected


@pytest.fixture(scope="module")
def ages(tmp_path_factory):
    """Faces of sixty ages, with bins of them."""
    age = np.arange(960) % 60
    examples = {"id": np.arange(960), "age": age, "age_bin": age // 30, "weight": age, "tone": np.arange(960) // 60 % 2}
    numbers = tuple(map(str, range(59)))
    values = {"age": (*numbers, "missing", "59"), "age_bin": ("0-29", "30+"), "tone": ("light", "dark")}
    values["weight"] = tuple(f"{number}.5" for number in range(60))
    return write_prepared(
        tmp_path_factory.mktemp("data") / "ages",
        name="ages",
        attributes=[Attribute(name=name, values=words) for name, words in values.items()],
        examples=pa.table(examples | {"split": np.array(["train", "validation", "test"])[np.arange(960) // 60 % 3]}),
        images=np.zeros((960, 8, 8, 1), np.uint8),
    )


@pytest.mark.parametrize(
    ("label", "remedy"), [("age", "take 'age_bin' as the label"), ("weight", "--bins weight=EDGES")]
)
def test_a_quantity_is_no_label_unless_its_numbers_are_meant_as_classes(mapping, ages, label, remedy):
    dataset = {"path": str(ages), "label": label, "groups": ["tone"]}
    del mapping["imbalance"]
    message = refusal(mapping, (("dataset",), dataset))
    for words in (f"the values of {label!r} are 60 different numbers", "regression is not supported", remedy):
        assert words in message
    meant = check_sweep(Sweep.from_mapping(mapping | {"dataset": dataset | {"many_classes": True}}))
    assert meant.trials
    few = check_sweep(Sweep.from_mapping(mapping | {"dataset": dataset | {"label": "age_bin"}}))
    said = check_sweep(Sweep.from_mapping(mapping | {"dataset": dataset | {"label": "age_bin", "many_classes": True}}))
    assert [trial.trial for trial in few.trials] == [trial.trial for trial in said.trials]
