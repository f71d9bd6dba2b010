"""`gpu: auto`: what is measured, what it becomes, and that it is measured once. CUDA itself is in test_gpu.py."""

import json
from pathlib import Path

import pytest
import ray
import torch
from rich.console import Console

from fairsweep.analysis.records.columns import read_json, write_json
from fairsweep.datasets.feeds.feed_choice import FeedChoice
from fairsweep.sweeps.cli.plan_tables import print_plan
from fairsweep.sweeps.copies.resuming import resume_sweep
from fairsweep.sweeps.execution import running, tasks
from fairsweep.sweeps.execution.oom_retry import with_more_gpu
from fairsweep.sweeps.execution.run import run_sweep
from fairsweep.sweeps.plan import plan_sweep
from fairsweep.sweeps.planning import gpu_parts, machines
from fairsweep.sweeps.planning.gpu_parts import (
    GPU_PARTS_FILE,
    GpuParts,
    NoCudaError,
    heaviest,
    measure_on_gpu,
    measure_peak,
    with_gpu_parts,
)
from fairsweep.sweeps.planning.machines import Machine, check_resources, slots
from fairsweep.sweeps.planning.preflight import check_sweep
from fairsweep.sweeps.search.search_budget import Extent
from fairsweep.sweeps.spec.search_space import SearchSpace
from fairsweep.sweeps.store.ledger import Ledger
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.trainables.learning.gpu_memory import GPU_PARTS, PeakMemory

GB = 10**9
TWO_GPUS = [Machine(4, 2)]
PLAIN = {"name": "plain", "kind": "sgd", "epochs": 1, "batch_size": 24}
FEDERATED = {
    "name": "federated",
    "kind": "fedavg",
    "rounds": 1,
    "sampling_rate": 0.5,
    "clients": {"partition": "iid", "count": 4},
    "resources": {"cpu": 1, "workers": 2, "worker_cpu": 0.5, "worker_gpu": "auto"},
}


@pytest.fixture
def automatic(mapping):
    """Makes the sweep of one seed and some learners that all say ``gpu: auto``."""

    def make(*learners, **fields):
        mapping["imbalance"]["share"] = 0.5
        given = {"learners": list(learners), "seeds": 1, "resources": {"cpu": 0.5, "gpu": "auto"}}
        return Sweep.from_mapping(mapping | given | fields)

    return make


@pytest.fixture
def measured(monkeypatch):
    """Stands for the GPU: a tenth of a gigabyte for each example of a batch. Returns what was measured."""
    asked = []

    def fake(plan, trial, feed):
        learner = trial.config.learner
        asked.append((learner.name, trial.config.model.name))
        return PeakMemory(getattr(learner, "batch_size", 20) * GB // 10, GB // 2, 80 * GB)

    monkeypatch.setattr(gpu_parts, "measure_on_gpu", fake)
    return asked


def settled(sweep, folder, available=TWO_GPUS):
    """GPUs of each learner's trials, and what was said."""
    plan, said = check_sweep(sweep), []
    folder.mkdir(exist_ok=True)
    trials = with_gpu_parts(plan, plan.trials, folder, available, said.append)
    assert not any(trial.resources.is_measured for trial in trials)
    return {(t.config.learner.name, t.config.model.name): t.resources for t in trials}, said


def test_each_learner_gets_the_part_that_its_largest_batch_needs(automatic, measured, tmp_path):
    many = PLAIN | {"batch_size": {"grid": [24, 50, 30]}}
    own = {"name": "own", "kind": "sgd", "epochs": 1, "resources": {"gpu": 0.7}}
    found, said = settled(automatic(many, PLAIN | {"name": "small", "batch_size": 1}, own), tmp_path / "out")
    assert {name: resources.gpu for (name, _), resources in found.items()} == {
        "plain": 0.1,
        "small": 0.0625,
        "own": 0.7,
    }
    assert measured == [("plain", "linear"), ("small", "linear")]
    assert said == [
        "gpu: auto: measuring a few steps of plain (linear) on a whole GPU",
        "gpu: auto: plain (linear) took 5.5 of 80 GB at its largest batch; 1/10 of a GPU",
        "gpu: auto: measuring a few steps of small (linear) on a whole GPU",
        "gpu: auto: small (linear) took 0.6 of 80 GB at its largest batch; 1/16 of a GPU",
    ]


def test_what_was_measured_holds_until_the_learner_is_another(automatic, measured, tmp_path):
    folder = tmp_path / "out"
    settled(automatic(PLAIN), folder)
    kept = read_json(folder / GPU_PARTS_FILE)
    # More seeds, a smaller batch and other epochs need no more; other margins of later versions change nothing.
    measured.clear()
    assert [part.pop("part") for part in kept["measured"]] == [0.0625]
    write_json(folder / GPU_PARTS_FILE, {"measured": [part | {"part": 0.125} for part in kept["measured"]]})
    found, said = settled(automatic(PLAIN | {"epochs": 2, "batch_size": {"grid": [8, 24]}}, seeds=3), folder)
    assert (measured, found["plain", "linear"].gpu) == ([], 0.125)
    assert said[0].endswith("1/8 of a GPU, as measured before")
    settled(automatic(PLAIN, PLAIN | {"name": "other", "epochs": 2}), folder)
    assert measured == [("other", "linear")]
    measured.clear()
    found, _ = settled(automatic(PLAIN | {"batch_size": 100}), folder)
    assert (measured, found["plain", "linear"].gpu) == ([("plain", "linear")], 0.2)
    settled(automatic(PLAIN | {"batch_size": 100}, model={"name": {"grid": ["linear", "cnn"]}}), folder)
    assert measured[1:] == [("plain", "cnn")]


def test_the_heaviest_trial_has_the_largest_batch_and_the_largest_model(automatic):
    """A search tries the ends of its dimensions one at a time: no single trial need have both."""
    learner = {"name": "plain", "kind": "sgd", "epochs": 1, "batch_size": {"randint": [8, 65]}}
    sweep = automatic(
        learner,
        model={"name": "cnn", "width": {"choice": [4, 8]}},
        search={"algorithm": "tpe", "samples": 3, "objectives": [{"max": "accuracy"}]},
    )
    plan = check_sweep(sweep)
    (found,) = heaviest(plan).values()
    assert (found.config.learner.batch_size, found.config.model.width) == (64, 8)
    assert all((t.config.learner.batch_size, t.config.model.width) != (64, 8) for t in plan.trials)


def test_parts_are_no_part_of_a_trials_identity(automatic, measured, tmp_path):
    sweep = automatic(PLAIN)
    plan = check_sweep(sweep)
    fixed = check_sweep(automatic(PLAIN, resources={"cpu": 0.5}))
    (tmp_path / "out").mkdir()
    trials = with_gpu_parts(plan, plan.trials, tmp_path / "out", TWO_GPUS, lambda _: None)
    assert [(t.trial, t.folder_name) for t in trials] == [(t.trial, t.folder_name) for t in fixed.trials]


def test_workers_of_clients_may_be_measured_too(automatic, measured, tmp_path):
    found, _ = settled(automatic(FEDERATED), tmp_path / "out", [Machine(4, 1)])
    resources = found["federated", "linear"]
    assert (resources.gpu, resources.worker_gpu, measured) == (0, 0.0625, [("federated", "linear")])
    alone = FEDERATED | {"resources": {"cpu": 1, "worker_gpu": "auto"}}
    settled(automatic(alone), tmp_path / "alone")
    assert len(measured) == 1  # there are no workers


def test_a_part_that_no_machine_has_room_for_is_refused_with_the_numbers(automatic, measured, tmp_path):
    hungry = FEDERATED | {"local": {"batch_size": 500}}
    gpu_parts.measure_on_gpu = lambda *_: PeakMemory(60 * GB, 0, 80 * GB)  # the fixture puts back what was there
    with pytest.raises(SweepError, match="and its 2 workers need cpu=2, gpu=2 together, but there is cpu=4, gpu=1"):
        settled(automatic(hungry), tmp_path / "out", [Machine(4, 1)])


def test_before_it_is_measured_it_needs_a_whole_gpu_and_counts_as_one(automatic):
    trials = check_sweep(automatic(PLAIN, seeds=4)).trials
    check_resources(trials, [Machine(1, 0), Machine(8, 1)])
    assert slots(trials, [Machine(8, 2)], None) == 2
    with pytest.raises(
        SweepError, match=r"'plain' with cpu=0.5 and a whole GPU .* but there is cpu=8, gpu=0; write gpu: 0"
    ):
        check_resources(trials, [Machine(8, 0)])


def test_without_a_gpu_it_is_refused_before_anything_is_written(automatic, tmp_path, monkeypatch):
    monkeypatch.setattr("fairsweep.sweeps.execution.run.machines", lambda: [Machine(2, 0)])
    with pytest.raises(SweepError, match=r"there is cpu=2, gpu=0; write gpu: 0 to train on CPUs"):
        run_sweep(automatic(PLAIN), quiet=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("word", ["Auto", "half"])
def test_other_words_are_refused(automatic, word):
    with pytest.raises(SweepError, match=rf"resources\.gpu: it must be a number or auto, but got '{word}'"):
        automatic(PLAIN, resources={"gpu": word})


@pytest.mark.parametrize("amount", [-1, 1.5])
def test_numbers_are_checked_as_before(automatic, amount):
    with pytest.raises(SweepError, match=r"greater than or equal to 0|must be a fraction below 1 or a whole number"):
        automatic(PLAIN, resources={"gpu": amount})


def test_a_shards_worker_has_a_number(automatic):
    shards = {"name": "forgetful", "kind": "sisa", "epochs": 1, "shard_resources": {"gpu": "auto"}}
    with pytest.raises(SweepError, match=r"shard_resources\.gpu: gpu of a shard's worker must be a number"):
        automatic(shards)


def test_a_plan_says_auto_and_what_was_measured(automatic, measured, tmp_path, monkeypatch):
    monkeypatch.setattr("fairsweep.sweeps.plan.machines", lambda: TWO_GPUS)
    sweep = automatic(PLAIN, seeds=3)
    assert [(line.gpus, plan_sweep(sweep).at_once) for line in plan_sweep(sweep).learners] == [("auto", 2)]
    settled(sweep, tmp_path / "out")
    (tmp_path / "out" / "sweep.json").write_text(
        json.dumps({"name": "toy", "dataset": {"content_hash": check_sweep(sweep).content[0]}})
    )
    report = plan_sweep(sweep)
    assert [(line.gpus, report.at_once) for line in report.learners] == [("auto: 1/16 of a GPU", 3)]
    console = Console(record=True, width=120)
    print_plan(report, console)
    assert "auto: 1/16 of a GPU" in console.export_text()


def test_trials_of_a_search_take_what_its_probes_took(automatic, measured, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "machines", lambda: TWO_GPUS)
    learner = PLAIN | {"optimizer": {"lr": {"loguniform": [0.001, 1.0]}}}
    sweep = automatic(learner, search={"algorithm": "tpe", "samples": 3, "objectives": [{"max": "accuracy"}]})
    (tmp_path / "out").mkdir()
    console = Console(record=True, width=120)
    run = running._Run(check_sweep(sweep), Extent.of(sweep), OutputFolder.at(sweep.folder), console)
    chosen = SearchSpace(sweep).chosen(SearchSpace(sweep).conditions[0], {"plain.optimizer.lr": 0.25})
    assert [trial.resources.gpu for trial in run.plan(chosen)] == [0.0625]
    assert measured == [("plain", "linear")]
    assert "toy: gpu: auto: plain (linear) took 2.9 of 80 GB" in console.export_text()


@pytest.mark.parametrize("content", ['{"measured": [{"learner": "plain"}]}', "{"])
def test_what_a_damaged_record_knew_is_measured_again(tmp_path, content):
    (tmp_path / GPU_PARTS_FILE).write_text(content)
    assert GpuParts(tmp_path).known == {}


def test_the_second_try_starts_from_what_was_measured(automatic, measured, tmp_path):
    plan = check_sweep(automatic(PLAIN))
    (tmp_path / "out").mkdir()
    (trial,) = with_gpu_parts(plan, plan.trials, tmp_path / "out", TWO_GPUS, lambda _: None)
    queued = Ledger(tmp_path / "out").queue([trial])
    made = tasks.trial_tasks(plan, [trial], queued, {}, tmp_path / "out", FeedChoice())
    queued[trial.trial].file.mark({"state": "failed", "error": "OutOfMemoryError: 2 GiB"})
    (again,) = with_more_gpu(made, queued, lambda _: None).values()
    assert (made[trial.trial].gpu, again.gpu) == (0.0625, 0.125)


# --- on Ray, with logical GPUs ---


def test_a_sweep_measures_once_on_a_whole_gpu_and_goes_on(automatic, tmp_path, monkeypatch, ray_session, capsys):
    """In a Ray worker; the trials themselves are left out (test_launch.py has trials on parts of GPUs)."""
    log, ran = tmp_path / "measured.log", []

    def fake(config, feed, plan, cpus):
        gpus = ray.get_runtime_context().get_assigned_resources()["GPU"]
        with Path(log).open("a") as file:
            file.write(json.dumps([config.learner.name, plan is not None, cpus, gpus]) + "\n")
        return PeakMemory(9 * GB, GB, 80 * GB)

    private = {"name": "private", "kind": "dpsgd", "epochs": 1, "batch_size": 24, "noise_multiplier": 1.0}
    monkeypatch.setattr(gpu_parts, "measure_peak", fake)
    monkeypatch.setattr("fairsweep.sweeps.execution.run.run_trials", lambda made, **_: ran.extend(made.values()))
    automatic(private | {"performance": {"gradient_mode": "hooks"}}).run()
    assert [json.loads(line) for line in log.read_text().splitlines()] == [["private", True, 0.5, 1.0]]
    assert "gpu: auto: private (linear) took 10 of 80 GB at its largest batch; 1/5 of a GPU" in capsys.readouterr().err
    # Gone on with, it measures nothing: the seam would fail.
    monkeypatch.setattr(gpu_parts, "measure_on_gpu", None)
    sweep, text = resume_sweep(tmp_path / "out")
    assert sweep.resources.gpu == "auto"
    run_sweep(sweep.model_copy(update={"seeds": 2}), text=text)
    assert "1/5 of a GPU, as measured before" in capsys.readouterr().err
    assert [task.gpu for task in ran] == [0.2, 0.2, 0.2]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_learner_is_measured_on_cuda(automatic):
    (trial,) = check_sweep(automatic(PLAIN)).trials
    found = measure_peak(trial.config, FeedChoice(), None, 1.0)
    assert 0 < found.peak_bytes < found.needed_bytes < found.total_bytes
    assert found.total_bytes == torch.cuda.get_device_properties(0).total_memory
    assert found.part == GPU_PARTS[0]  # a linear model of 8 x 8 pixels, on any GPU of 16 GB


@pytest.mark.slow
def test_a_gpu_that_torch_does_not_see_is_said_and_nothing_has_run(automatic, tmp_path, ray_session):
    """Ray's GPUs are logical ones here, so the real measuring finds none."""
    assert machines.machines()[0].gpu == 2
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(SweepError, match=r"learner 'plain' on, but torch .* sees no CUDA device .*write gpu: 0"):
        automatic(PLAIN).run(quiet=True)
    assert Ledger(tmp_path / "out").entries() == {}


@pytest.mark.parametrize(
    ("cause", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory.\nTried 90 GiB"), r"does not fit into a whole GPU .*Tried 90 GiB"),
        (NoCudaError("torch sees none"), "install a torch with CUDA there, or write gpu: 0"),
        (OSError("no such shard"), r"could not be measured \(OSError: no such shard\): mend it, or write gpu as a"),
    ],
)
def test_what_fails_is_refused_with_its_cause(automatic, monkeypatch, cause, message):
    class Failing:
        def remote(self, *arguments):
            return "reference"

    def fail(reference):
        raise ray.exceptions.RayTaskError("measure_peak", "traceback", cause)

    monkeypatch.setattr(gpu_parts.ray, "remote", lambda **options: lambda function: Failing())
    monkeypatch.setattr(gpu_parts.ray, "get", fail)
    plan = check_sweep(automatic(PLAIN))
    with pytest.raises(SweepError, match=message) as caught:
        measure_on_gpu(plan, plan.trials[0], FeedChoice())
    assert "\n" not in str(caught.value)
