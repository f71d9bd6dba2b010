"""A sweep whose images stream: the same records as from a resident copy, beside a CPU that reads."""

import json

import pytest

from fairsweep.analysis.records.files import read_json
from fairsweep.datasets.feeds import feed_choice
from fairsweep.sweeps.execution import run
from fairsweep.sweeps.plan import plan_sweep
from fairsweep.sweeps.planning.expand import expand
from fairsweep.sweeps.planning.feed_choice import settle_feed
from fairsweep.sweeps.planning.machines import Machine, beside_readers, inner_workers
from fairsweep.sweeps.planning.preflight import check_sweep
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.trainables.trial.trial import Trial

COMPARED = ("cells.parquet", "predictions.parquet")


@pytest.fixture
def small(mapping):
    """A private and an ordinary learner at one level."""
    mapping["imbalance"]["share"] = 0.9
    mapping["learners"] = [mapping["learners"][0], mapping["learners"][2]]
    mapping["learners"][1]["augmentation"] = {"flip": True, "crop": 1, "rotation": 5, "noise": 0.1}
    mapping["seeds"] = 1
    return mapping


def records(folder):
    """The bytes of what a trial recorded, and what it says of its data: hashes of ids are keyed by the sweep."""
    data = {name: value for name, value in read_json(folder / "data.json").items() if name != "hashes"}
    return [data, *((folder / name).read_bytes() for name in COMPARED)]


def test_a_streamed_sweep_leaves_the_bytes_of_a_resident_one(small, toy, tmp_path, ray_session):
    # So little memory that training sets go through windows, and evaluation sets are read again.
    feed = {"kind": "stream", "memory_bytes": 64 * 40, "scratch_bytes": 64 * 200, "scratch_dir": str(tmp_path)}
    sweep = Sweep.from_mapping(small | {"feed": feed, "output": str(tmp_path / "stream")})
    results = sweep.run(quiet=True)
    assert set(results.trials["state"]) == {"done"}, [
        read_json(path)["error"] for path in (tmp_path / "stream").glob("trials/*/state.json")
    ]
    # Queued and started: no trial found the CPU taken and was started again.
    assert set(results.trials["attempt"]) == {2}
    trials = expand(sweep, toy)
    assert len(trials) == 2
    for trial in trials:
        alone = Trial(trial.config, tmp_path / trial.trial).run()  # without Ray, from a resident copy
        assert records(tmp_path / "stream" / "trials" / trial.folder_name) == records(alone)
    # Neither the identity nor the config of a trial knows about the feed.
    config = next((tmp_path / "stream").glob("trials/*/config.json"))
    assert "stream" not in config.read_text()
    assert read_json(tmp_path / "stream" / "sweep.json")["sweep"]["feed"]["kind"] == "stream"


def settled(mapping, available, **fields):
    sweep = Sweep.from_mapping(mapping | fields)
    plan = check_sweep(sweep)
    return settle_feed(sweep, plan.datasets, plan.trials, available)


def test_a_whole_cpu_of_each_machine_stays_outside_trials_that_stream(mapping):
    two, four = Machine(2, 0), Machine(4, 0)
    found = settled(mapping, [two, four], feed="stream")
    assert (found.choice.kind, found.max_concurrent) == ("stream", 4)
    assert found.note == "4 instead of 6 trials at once: 1 CPU of each machine is reserved for the streams"
    # Whoever asks for less gets it, without a word.
    found = settled(mapping, [two, four], feed="stream", resources={"max_concurrent": 3})
    assert (found.max_concurrent, found.note) == (3, "")
    assert settled(mapping, [two], feed="stream", resources={"cpu": 0.25}).max_concurrent == 4
    # The largest trials decide: any mixture of them leaves the CPU free.
    mapping["learners"][2]["resources"] = {"cpu": 2}
    assert settled(mapping, [Machine(8, 0)], feed="stream").max_concurrent == 3
    found = settled(mapping, [two, four], feed="resident")
    assert (found.max_concurrent, found.note) == (None, "")


def test_a_stream_without_room_beside_the_trials_is_refused_with_the_numbers(mapping):
    with pytest.raises(SweepError) as caught:
        settled(mapping, [Machine(2, 0)], feed="stream", resources={"cpu": 2})
    assert str(caught.value).startswith("feed: with a stream feed 1 whole CPU of each machine is reserved for")
    assert "(cpu=2, gpu=0) needs a machine with 3 CPUs, but there is cpu=2" in str(caught.value)
    assert "feed: resident" in str(caught.value)


def test_workers_leave_a_cpu_to_what_reads_too(mapping):
    """Without it a trial's workers would hold every CPU, and wait for images that nothing can read."""
    clients = {"partition": "iid", "count": 10}
    federated = {"kind": "fedavg", "rounds": 2, "clients": clients, "sampling_rate": 0.5, "name": "federated"}
    mapping["learners"] = [federated | {"resources": {"cpu": 1, "workers": 2, "worker_cpu": 1}}]
    assert settled(mapping, [Machine(4, 0)], feed="stream").max_concurrent == 1
    assert settled(mapping, [Machine(7, 0)], feed="stream").max_concurrent == 2
    assert settled(mapping, [Machine(2, 0), Machine(3, 0)], feed="stream").max_concurrent == 1
    with pytest.raises(SweepError, match=r"need cpu=3 together, but .* there is cpu=2; lower resources\.workers"):
        settled(mapping, [Machine(3, 0)], feed="stream")
    assert settled(mapping, [Machine(3, 0)], feed="resident").max_concurrent is None


def test_shards_take_only_the_workers_that_leave_a_cpu_to_what_reads(mapping):
    shape = {"kind": "sisa", "name": "forgetful", "shards": 5, "slices": 1, "epochs": 1, "shard_resources": {"cpu": 1}}
    mapping["learners"] = [shape]
    assert settled(mapping, [Machine(4, 0)], feed="stream").max_concurrent == 1
    trial = check_sweep(Sweep.from_mapping(mapping)).trials[0]
    for machine, workers in ((Machine(4, 0), 2), (Machine(9, 0), 5)):
        assert inner_workers(trial, beside_readers([machine], "stream")).count == workers
    assert inner_workers(trial, beside_readers([Machine(4, 0)], "resident")).count == 3
    with pytest.raises(SweepError, match=r"there is room for 0; lower .* is reserved for reading the stream"):
        settled(mapping, [Machine(2, 0)], feed="stream")


def test_auto_goes_by_the_smallest_machine(mapping):
    decoded = 960 * 64
    choice = settled(mapping, [Machine(4, 0, 10 * decoded), Machine(4, 0, 2 * decoded)]).choice
    assert choice.kind == "resident"
    choice = settled(mapping, [Machine(4, 0, 10 * decoded), Machine(4, 0, 2 * decoded - 1)]).choice
    assert choice.kind == "stream"
    assert "do not fit into half of it" in choice.reason


def test_the_feed_is_settled_before_anything_starts(mapping, tmp_path, monkeypatch):
    monkeypatch.setattr(feed_choice, "_CGROUP_LIMITS", ())
    monkeypatch.setattr(run, "machines", lambda: [Machine(1, 0)])
    with pytest.raises(SweepError, match="needs a machine with 2 CPUs"):
        Sweep.from_mapping(mapping | {"feed": "stream"}).run(quiet=True)
    assert not (tmp_path / "out").exists()
    report = plan_sweep(Sweep.from_mapping(mapping))
    assert report.feeding.choice.kind == "resident"


@pytest.mark.parametrize(
    ("feed", "words"),
    [
        ("steam", "feed: must be 'auto', 'resident' or 'stream', but got 'steam'"),
        ({"kind": "stream", "memory": 1}, "did you mean 'memory_bytes'?"),
        ({"memory_bytes": 0}, "feed.memory_bytes"),
    ],
)
def test_a_wrong_feed_is_refused(mapping, feed, words):
    with pytest.raises(SweepError) as caught:
        Sweep.from_mapping(mapping | {"feed": feed})
    assert words in str(caught.value)


def test_a_feed_survives_a_round_trip(mapping):
    sweep = Sweep.from_mapping(mapping | {"feed": {"kind": "stream", "memory_bytes": 1e8}})
    assert Sweep.from_mapping(json.loads(sweep.model_dump_json())) == sweep
    assert sweep.feed.limits().memory_bytes == 10**8
