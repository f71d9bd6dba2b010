"""Seconds a federated round: ours, Flower's simulation and pfl-research, on one problem.

    python benchmarks/fedavg_round.py [--model linear] [--cohorts 10 100 1000] [--environments FOLDER]

The same model and initial weights, images, partition (1,000 clients of 20 images), cohorts, local steps (one pass in
batches of 10, SGD) and server step (the mean of the updates); orders within a client differ. No privacy, no evaluation
during training, one CPU each (Flower runs its clients in one process of its own). Flower and pfl run in environments of
their own, made outside the repository, because their pins clash with ours. Of a system's rounds, the first left out,
the fastest counts (a busy machine slows the others); the median and the median of the CPU time (not for Flower, whose
clients run in another process) stand beside it. Accuracy is that of the final weights on 2,000 further images.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

CLIENTS, EACH, SIZE, CLASSES = 1000, 20, 28, 10
BATCH, RATE = 10, 0.1
ROUNDS = {10: 30, 100: 12, 1000: 4}
THREADS = 1
PACKAGES = {"flower": ["flwr[simulation]", "torch==2.13.0", "numpy"], "pfl": ["pfl[pytorch]", "torch==2.13.0", "numpy"]}


def make_model(name):
    """The models that fairsweep calls linear and cnn, layer for layer, for environments without it."""
    if name == "linear":
        return nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE, CLASSES))

    class Scale(nn.Module):
        def forward(self, x):
            return x * (4 / 1024**0.5)

    layers, channels = [], 1
    for out, kernel in ((16, 5), (32, 3), (64, 3)):
        layers += [nn.Conv2d(channels, out, kernel, stride=2, padding=kernel // 2), nn.GroupNorm(out // 4, out)]
        layers.append(nn.ReLU())
        channels = out
    return nn.Sequential(*layers, nn.Flatten(), Scale(), nn.Linear(1024, CLASSES))


def load_model(problem):
    """The model with its initial weights."""
    model = make_model(str(problem["model"]))
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.copy_(torch.from_numpy(problem[f"weight{number}"]))
    return model


def to_inputs(images):
    """uint8 [B, H, W] to float32 [B, 1, H, W] in [-1, 1]."""
    return (images[:, None].astype(np.float32) / 127.5) - 1


def moment():
    """Wall-clock time, and the time that this process has had a CPU."""
    return time.perf_counter(), time.process_time()


def save(path, model, moments):
    """What a side leaves: the moments at which its rounds began or ended, and the final weights."""
    weights = {f"weight{n}": p.detach().numpy() for n, p in enumerate(model.parameters())}
    np.savez(path, moments=np.array(moments), **weights)


# --- ours ---


def ours_task(problem):
    """The learning task of the problem; release mode, so that nothing is measured beside training."""
    from fairsweep.datasets.feeds.resident import ResidentFeed
    from fairsweep.datasets.selection.randomness import seed_key
    from fairsweep.trainables.learning.learner import LearningTask, TrialKeys
    from fairsweep.trainables.models.models import MODELS

    size = CLIENTS * EACH
    return LearningTask(
        model=MODELS[str(problem["model"])](),
        classes=CLASSES,
        image_shape=(SIZE, SIZE, 1),
        rows=np.arange(size),
        labels=problem["labels"].astype(np.int64),
        groups={},
        feed=ResidentFeed(np.arange(size), problem["images"][..., None]),
        keys=TrialKeys(data=seed_key(0, "data"), train=seed_key(0, "train"), secret=seed_key(0, "secret")),
        device=torch.device("cpu"),
        diagnostics=False,
    )


def ours_learner(problem, cohort):
    from fairsweep.trainables.federated.fedavg_config import FedavgConfig
    from fairsweep.trainables.learners import build_learner

    config = FedavgConfig(
        rounds=ROUNDS[cohort],
        cohort_size=cohort,
        clients={"partition": "iid", "count": CLIENTS, "held_out": 0.0},
        local={"epochs": 1, "batch_size": BATCH, "optimizer": {"lr": RATE}},
    )
    return build_learner(config, ours_task(problem))


def make_problem(path, model, cohorts):
    """Draws images of ten noisy templates, and takes partition, cohorts and initial weights from our learner."""
    random = np.random.default_rng(0)
    templates = random.normal(size=(CLASSES, SIZE, SIZE))

    def draw(count):
        labels = random.integers(0, CLASSES, count)
        noisy = templates[labels] + 8 * random.normal(size=(count, SIZE, SIZE))
        return (128 + 8 * noisy).clip(0, 255).astype(np.uint8), labels

    images, labels = draw(CLIENTS * EACH)
    test_images, test_labels = draw(2000)
    problem = {"model": model, "images": images, "labels": labels}
    for cohort in cohorts:
        learner = ours_learner(problem, cohort)
        drawn = learner.plan.inclusion(learner.task.keys.secret, 0)
        problem[f"cohorts{cohort}"] = np.stack([drawn.positions(number) for number in range(ROUNDS[cohort])])
    problem["clients"] = np.stack([learner.partition.client(number) for number in range(CLIENTS)])
    problem |= {f"weight{n}": value.numpy() for n, value in enumerate(learner.weights().values())}
    np.savez(path, **problem, test_images=test_images, test_labels=test_labels)


def ours(problem_path, cohort, result):
    torch.set_num_threads(THREADS)
    problem = dict(np.load(problem_path))
    learner = ours_learner(problem, cohort)
    moments = [moment()]
    for _ in range(ROUNDS[cohort]):
        learner.step()
        moments.append(moment())
    model = make_model(str(problem["model"]))
    model.load_state_dict(dict(zip(model.state_dict(), learner.weights().values(), strict=True)))
    save(result, model, moments)


# --- pfl-research ---


def pfl(problem_path, cohort, result):
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.callback.base import TrainingProcessCallback
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.hyperparam import NNTrainHyperParams
    from pfl.model.pytorch import PyTorchModel

    torch.set_num_threads(THREADS)
    problem = dict(np.load(problem_path))
    module = load_model(problem)
    module.loss = lambda x, y, eval=False: nn.functional.cross_entropy(module(x), y)
    module.metrics = lambda x, y, eval=False: {}
    inputs = torch.from_numpy(to_inputs(problem["images"]))
    labels = torch.from_numpy(problem["labels"].astype(np.int64))
    data = {number: [inputs[own], labels[own]] for number, own in enumerate(problem["clients"])}
    order = iter(problem[f"cohorts{cohort}"].flatten().tolist())
    moments = []

    class Clock(TrainingProcessCallback):
        def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
            moments.append(moment())
            return super().after_central_iteration(aggregate_metrics, model, central_iteration=central_iteration)

    model = PyTorchModel(module, torch.optim.SGD, torch.optim.SGD(module.parameters(), lr=1.0))
    users = FederatedDataset.from_slices(data, lambda: next(order))
    backend = SimulatedBackend(training_data=users, val_data=None)
    moments.append(moment())
    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=ROUNDS[cohort],
            evaluation_frequency=10**9,
            train_cohort_size=cohort,
            val_cohort_size=None,
        ),
        backend,
        model,
        NNTrainHyperParams(local_batch_size=BATCH, local_num_epochs=1, local_learning_rate=RATE),
        callbacks=[Clock()],
    )
    save(result, module, moments)


# --- Flower ---

_HELD = {}


def flower_data():
    """The problem in a process of Flower's, read once."""
    if not _HELD:
        torch.set_num_threads(1)
        problem = dict(np.load(os.environ["FEDAVG_PROBLEM"]))
        _HELD["inputs"] = torch.from_numpy(to_inputs(problem["images"]))
        _HELD["labels"] = torch.from_numpy(problem["labels"].astype(np.int64))
        _HELD["clients"], _HELD["model"] = problem["clients"], load_model(problem)
    return _HELD


def flower_train(message, context):
    """One client's round."""
    from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict

    held = flower_data()
    model = held["model"]
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    own = torch.from_numpy(held["clients"][message.content["config"]["client"]])
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    for batch in own[torch.randperm(len(own))].split(BATCH):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(held["inputs"][batch]), held["labels"][batch]).backward()
        optimizer.step()
    content = {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord({"num-examples": len(own)})}
    return Message(content=RecordDict(content), reply_to=message)


def flower(problem_path, cohort, result):
    from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    os.environ["FEDAVG_PROBLEM"] = str(problem_path)
    problem = dict(np.load(problem_path))
    cohorts, model, moments = problem[f"cohorts{cohort}"], load_model(problem), []

    class Cohorts(FedAvg):
        def configure_train(self, server_round, arrays, config, grid):
            while len(nodes := sorted(grid.get_node_ids())) < cohort:
                time.sleep(0.1)
            moments.append(moment())
            return [
                Message(
                    content=RecordDict({"arrays": arrays, "config": ConfigRecord({"client": int(client)})}),
                    message_type=MessageType.TRAIN,
                    dst_node_id=node,
                )
                for client, node in zip(cohorts[server_round - 1], nodes, strict=False)
            ]

    server, clients = ServerApp(), ClientApp()
    clients.train()(flower_train)

    @server.main()
    def main(grid, context):
        strategy = Cohorts(fraction_evaluate=0.0, min_train_nodes=cohort, min_available_nodes=cohort)
        found = strategy.start(grid=grid, initial_arrays=ArrayRecord(model.state_dict()), num_rounds=ROUNDS[cohort])
        moments.append(moment())
        model.load_state_dict(found.arrays.to_torch_state_dict())

    backend = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"num_cpus": THREADS}}
    run_simulation(server, clients, num_supernodes=cohort, backend_config=backend)
    save(result, model, moments)


# --- all of them ---


def environment(side, folder):
    """The Python of a side; makes its environment the first time."""
    if side == "ours":
        return sys.executable
    python = folder / side / "bin" / "python"
    if not python.exists():
        print(f"making the environment of {side} in {folder / side}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder / side], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES[side]], check=True)
    return python


def measure(side, python, problem, cohort, folder):
    """Runs a side in a process of its own; returns its rounds' (wall, CPU) seconds and its accuracy."""
    result = folder / f"{side}{cohort}.npz"
    code = f"import fedavg_round; fedavg_round.{side}({str(problem)!r}, {cohort}, {str(result)!r})"
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": str(THREADS)}
    path = os.pathsep.join(
        [
            str(Path(__file__).parent),
            *([os.environ["PYTHONPATH"]] if side == "ours" and "PYTHONPATH" in os.environ else []),
        ]
    )
    done = subprocess.run(
        [python, "-c", code], env=os.environ | quiet | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}")
    found, given = dict(np.load(result)), dict(np.load(problem))
    model = load_model(found | {"model": given["model"]})
    with torch.inference_mode():
        predicted = model(torch.from_numpy(to_inputs(given["test_images"]))).argmax(1).numpy()
    return np.diff(found["moments"], axis=0)[1:], float((predicted == given["test_labels"]).mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("linear", "cnn"), default="linear")
    parser.add_argument("--cohorts", type=int, nargs="+", choices=list(ROUNDS), default=list(ROUNDS))
    parser.add_argument("--sides", nargs="+", choices=("ours", "flower", "pfl"), default=("ours", "pfl", "flower"))
    parser.add_argument("--environments", type=Path, default=Path(tempfile.gettempdir()) / "fedavg-round")
    chosen = parser.parse_args()
    chosen.environments.mkdir(parents=True, exist_ok=True)
    pythons = {side: environment(side, chosen.environments) for side in chosen.sides}
    print(f"{chosen.model}: {CLIENTS} clients of {EACH} images, {BATCH} a step")
    print("cohort   system    s/round  times ours     median      CPU  accuracy  load")
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        problem = Path(scratch) / "problem.npz"
        make_problem(problem, chosen.model, chosen.cohorts)
        for cohort in chosen.cohorts:
            first, own_cpu = None, float("nan")
            for side in chosen.sides:
                rounds, accuracy = measure(side, pythons[side], problem, cohort, Path(scratch))
                best, median, load = float(rounds[:, 0].min()), float(np.median(rounds[:, 0])), os.getloadavg()[0]
                # Flower's clients run in another process than the one that keeps the time.
                cpu = float("nan") if side == "flower" else float(np.median(rounds[:, 1]))
                first = first or best
                own_cpu = cpu if side == "ours" else own_cpu
                print(
                    f"{cohort:>6} {side:>8} {best:>10.4f} {best / first:>11.1f} {median:>10.4f} {cpu:>8.4f} "
                    f"{accuracy:>9.3f}  {load:.1f}",
                    flush=True,
                )
                if side == "pfl":
                    print(f"  cohorts of {cohort}: pfl / fairsweep {cpu / own_cpu:.2f} by CPU seconds", flush=True)
                rows.append(
                    {
                        "cohort": cohort,
                        "system": side,
                        "seconds": best,
                        "median": median,
                        "cpu": cpu,
                        "accuracy": accuracy,
                    }
                )
    print(json.dumps({"model": chosen.model, "torch": torch.__version__, "rounds": rows}))


if __name__ == "__main__":
    main()
