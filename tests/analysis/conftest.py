"""Simulated sweeps: folders written through the records' own writers, with known true rates."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fairsweep.analysis.records.cell_records import count_cells, group_column, write_cells
from fairsweep.analysis.records.file_names import (
    CELLS,
    CONFIG,
    DATA,
    EXAMPLES,
    PREDICTIONS,
    PRIVACY,
    STATE,
    SWEEP_JSON,
    SWEEP_YAML,
    TRAINING,
    TRIALS,
)
from fairsweep.analysis.records.files import write_json
from fairsweep.analysis.records.prediction_records import predictions_table, write_examples, write_predictions
from fairsweep.analysis.records.training_records import training_table, write_training
from fairsweep.analysis.records.vocabularies import Vocabulary

TONE = Vocabulary("tone", ("light", "dark"), ("light tone", "dark tone"))
SHAPE = Vocabulary("shape", ("round", "long"))
SMILING = Vocabulary("smiling", ("no", "yes"))
DIGIT = Vocabulary("digit", tuple("0123456789"))


@dataclass
class Simulation:
    """A sweep with known true accuracies.

    Attributes:
        folder: where it is written.
        vocabularies: of groups and label.
        groups: names of the groups.
        label: name of the label.
        per_cell: test images of each combination of groups and label.
        accuracy: (learner, level, codes of the groups [N, G], label [N]) -> true accuracy [N].
        training_spread: standard deviation of a trial's accuracy around the truth, one draw per trial.
        shared: share of images whose outcome is the same luck for all trials.
        iterations: of each trial.
    """

    folder: Path
    vocabularies: list
    groups: tuple
    label: str
    per_cell: int
    accuracy: object
    training_spread: float = 0.01
    shared: float = 0.8
    iterations: int = 3
    seed: int = 0
    dataset: str = "faces"
    names: list = field(default_factory=list)
    learners: dict = field(default_factory=dict)

    def __post_init__(self):
        (self.folder / TRIALS).mkdir(parents=True)
        sizes = [len(self.vocabulary(name).values) for name in self._attributes]
        cells = np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), -1).reshape(-1, len(sizes))
        self.codes = {
            split: np.repeat(cells, count, axis=0)
            for split, count in (("test", self.per_cell), ("validation", max(2, self.per_cell // 2)))
        }
        total = sum(len(codes) for codes in self.codes.values())
        ids = np.random.default_rng(self.seed).permutation(10 * total)[:total]
        self.ids = {
            "test": np.sort(ids[: len(self.codes["test"])]),
            "validation": np.sort(ids[len(self.codes["test"]) :]),
        }
        self.luck = {
            split: np.random.default_rng(self.seed + 1).random(len(codes)) for split, codes in self.codes.items()
        }
        self._write_examples()

    @property
    def _attributes(self):
        return list(dict.fromkeys([*self.groups, self.label]))

    def vocabulary(self, name):
        return next(vocabulary for vocabulary in self.vocabularies if vocabulary.name == name)

    def _write_examples(self):
        columns = {"id": np.concatenate(list(self.ids.values()))}
        columns["split"] = np.concatenate([[split] * len(ids) for split, ids in self.ids.items()])
        for i, name in enumerate(self._attributes):
            columns[name] = np.concatenate([codes[:, i] for codes in self.codes.values()]).astype(np.int16)
        write_examples(self.folder / EXAMPLES, pa.table(columns))

    def write_sweep_json(self, name="simulated", **more):
        (self.folder / SWEEP_YAML).write_text(f"name: {name}\n")
        content = {
            "format_version": 1,
            "name": name,
            "created": "2026-01-02T03:04:05+0000",
            "updated": "2026-01-02T04:04:05+0000",
            "trials": len(self.names),
            "dataset": {"name": self.dataset, "path": f"data/{self.dataset}", "content_hash": "c0ffee" * 5},
            "versions": {"python": "3.11.7", "fairsweep": "0.1.0", "torch": "2.15.0", "platform": "Linux"},
            "sweep": {"learners": [{"name": name} for name in self.learners]},
            "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "changed": False},
        }
        write_json(self.folder / SWEEP_JSON, content | more)

    def trial(
        self, learner, imbalance, level, replicate=0, state="done", privacy=None, counts=(), leave_out=(), **extra
    ):
        """Write one trial and return its folder; ``extra`` goes into its state."""
        config = {
            "format_version": 1,
            "learner": {"twin_of": None, **learner},
            "model": {"name": "cnn"},
            "imbalance": imbalance,
            "dataset": {"path": "data", "name": self.dataset, "label": self.label, "groups": list(self.groups)},
            "evaluation": {"balance": list(self._attributes), "per_cell": self.per_cell},
            "seeds": {"data": replicate, "train": replicate},
            "replicate": replicate,
            "mode": "research",
        }
        identity = {k: v for k, v in config.items() if k not in ("seeds", "replicate")}
        config["setting"] = _hash(identity)
        config["trial"] = _hash(identity | {"seeds": config["seeds"]})
        name = f"{learner['name']}_{level}_s{replicate}-{config['trial'][:8]}"
        self.names.append(name)
        self.learners[learner["name"]] = learner
        folder = self.folder / TRIALS / name
        folder.mkdir()
        done = {"queued": 0, "running": 1, "failed": 1}.get(state, self.iterations)
        status = {"state": state, "iteration": done, "iterations": self.iterations, "attempt": 1, "seconds": 12.5}
        files = {STATE: lambda path: write_json(path, status | {"trial": config["trial"], "error": None} | extra)}
        if state != "queued":
            files[CONFIG] = lambda path: write_json(path, config)
            files[DATA] = lambda path: write_json(path, self._data(imbalance, counts))
            outcomes = self._outcomes(learner["name"], level, replicate, done)
            files[CELLS] = lambda path: self._write_cells(path, outcomes)
            files[TRAINING] = lambda path: self._write_training(path, done, privacy is not None)
        if state == "done":
            files[PREDICTIONS] = lambda path: self._write_predictions(path, outcomes)
            if privacy is not None:
                files[PRIVACY] = lambda path: write_json(path, privacy)
        for file, write in files.items():
            if file not in leave_out:
                write(folder / file)
        return folder

    def _data(self, imbalance, counts):
        rare = None
        if imbalance is not None and "majority" in imbalance:
            rare = [v for v in self.vocabulary(imbalance["attribute"]).values if v != imbalance["majority"]]
        elif imbalance is not None:
            rare = [str(value) for value in imbalance["keep"]]
        columns = (*map(group_column, self.groups), "label", "count")
        rows = [dict(zip(columns, row, strict=True)) for row in counts]
        minority = None
        if rare is not None:
            attribute = imbalance["attribute"]
            key = group_column(attribute) if attribute in self.groups else "label"
            codes = [self.vocabulary(attribute).values.index(value) for value in rare]
            count = sum(row["count"] for row in rows if row[key] in codes)
            minority = {"attribute": attribute, "values": rare, "count": count}
        return {"size": sum(row["count"] for row in rows), "counts": rows, "hashes": {}, "minority": minority}

    def _outcomes(self, learner, level, replicate, iterations):
        """{(split, iteration): predictions}; the accuracy grows to the truth plus the trial's own deviation."""
        key = [self.seed, replicate, *hashlib.sha256(f"{learner}/{level}".encode()).digest()[:4]]
        rng = np.random.default_rng(key)
        deviation = rng.normal(0, self.training_spread)
        found = {}
        for split, codes in self.codes.items():
            label = codes[:, self._attributes.index(self.label)]
            classes = len(self.vocabulary(self.label).values)
            truth = self.accuracy(learner, level, codes, label)
            mine = np.where(rng.random(len(codes)) < self.shared, self.luck[split], rng.random(len(codes)))
            for iteration in range(1, iterations + 1):
                p = np.clip(truth + deviation - 0.05 * (self.iterations - iteration), 0, 1)
                wrong = (label + 1 + rng.integers(0, classes - 1, len(label))) % classes if classes > 2 else 1 - label
                found[split, iteration] = np.where(mine < p, label, wrong)
        return found

    def _write_cells(self, path, outcomes):
        tables = []
        for (split, iteration), prediction in outcomes.items():
            codes = self.codes[split]
            groups = {name: codes[:, self._attributes.index(name)] for name in self.groups}
            label = codes[:, self._attributes.index(self.label)]
            tables.append(
                count_cells(iteration=iteration, split=split, groups=groups, label=label, prediction=prediction)
            )
        write_cells(path, pa.concat_tables(tables), self.vocabularies, self.label)

    def _write_predictions(self, path, outcomes):
        tables = []
        for split, codes in self.codes.items():
            prediction = outcomes[split, self.iterations]
            classes = len(self.vocabulary(self.label).values)
            probabilities = np.full((len(codes), classes), 0.1 / max(1, classes - 1), np.float32)
            probabilities[np.arange(len(codes)), prediction] = 0.9
            tables.append(
                predictions_table(
                    iteration=self.iterations,
                    ids=self.ids[split],
                    split=split,
                    label=codes[:, self._attributes.index(self.label)],
                    prediction=prediction,
                    log_probabilities=np.log(probabilities),
                )
            )
        write_predictions(path, pa.concat_tables(tables))

    def _write_training(self, path, iterations, private):
        rows = []
        for iteration in range(1, iterations + 1):
            diagnostics = [
                {
                    "attribute": name,
                    "value": value,
                    "label": label,
                    "count": 100,
                    "mean_gradient_norm": 1.0 + value + 0.2 * label,
                    "clipped_share": 0.3 + 0.02 * value,
                    "cosine": 0.5 - 0.02 * value,
                }
                for name in self.groups
                for value in range(len(self.vocabulary(name).values))
                for label in range(len(self.vocabulary(self.label).values))
                if private and (name != self.label or value == label)
            ]
            rows.append(
                {
                    "iteration": iteration,
                    "loss": 1 / iteration,
                    "seconds": 2.0,
                    "examples": 4000,
                    "diagnostics": diagnostics,
                }
            )
        write_training(path, training_table(rows))


def _hash(value):
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()


def _event(noise_multiplier):
    if not noise_multiplier:
        return {"type": "NonPrivateDpEvent"}
    gaussian = {"type": "GaussianDpEvent", "noise_multiplier": noise_multiplier}
    sampled = {"type": "PoissonSampledDpEvent", "sampling_probability": 0.064, "event": gaussian}
    return {"type": "SelfComposedDpEvent", "event": sampled, "count": 125}


def statement(epsilon, noise_multiplier=1.1, l2_clip_norm=1.0):
    """A privacy statement as a private learner writes it."""
    return {
        "mode": "research",
        "unit": "example",
        "relation": "zero-out (REPLACE_SPECIAL): one example contributes nothing",
        "sampler": "poisson",
        "delta": 1e-5,
        "epsilon": {"pld": epsilon, "rdp": epsilon * 1.12},
        "target_epsilon": epsilon,
        "noise_multiplier": noise_multiplier,
        "clipping": "flat",
        "l2_clip_norm": l2_clip_norm,
        "sampling_rate": 0.064,
        "population": 4000,
        "steps": 125,
        "planned_steps": 125,
        "events": [_event(noise_multiplier if l2_clip_norm else 0.0)],
        "summary": "The weights after every step together are (epsilon, delta)-differentially private.",
        "assumptions": ["Public and fixed: the ids.", "The guarantee is simulated."],
        "reveals": {},
    }


PRIVATE = {
    "name": "private",
    "kind": "dpsgd",
    "epochs": 8,
    "epsilon": 3.0,
    "noise_multiplier": None,
    "l2_clip_norm": 1.0,
}
MATCHED = {
    "name": "matched",
    "kind": "dpsgd",
    "epochs": 8,
    "epsilon": None,
    "noise_multiplier": 0.0,
    "l2_clip_norm": None,
    "twin_of": "private",
}
TUNED = {"name": "tuned", "kind": "sgd", "epochs": 8, "batch_size": 128}

# True accuracies at share 0.5, 0.9, 0.99: (light, dark).
TRUTH = {
    "private": {0.5: (0.84, 0.82), 0.9: (0.85, 0.74), 0.99: (0.86, 0.60)},
    "matched": {0.5: (0.91, 0.89), 0.9: (0.92, 0.86), 0.99: (0.92, 0.78)},
    "tuned": {0.5: (0.92, 0.90), 0.9: (0.92, 0.88), 0.99: (0.92, 0.82)},
}


def true_face_accuracy(learner, level, codes, label):
    light, dark = TRUTH[learner.split("-")[0]][level]
    return np.where(codes[:, 0] == 0, light, dark)


def face_sweep(folder, *, replicates=2, per_cell=75, shares=(0.5, 0.9, 0.99), **options):
    """A sweep like the quickstart's: every trial done."""
    simulation = Simulation(
        folder, [TONE, SHAPE, SMILING], ("tone", "shape"), "smiling", per_cell, true_face_accuracy, **options
    )
    for replicate in range(replicates):
        for share in shares:
            for learner in (PRIVATE, MATCHED, TUNED):
                add_face_trial(simulation, learner, share, replicate)
    simulation.write_sweep_json()
    return simulation


def add_face_trial(simulation, learner, share, replicate, size=4000, **options):
    imbalance = {"attribute": "tone", "majority": "light", "share": share, "size": size, "label_balanced": True}
    light = round(share * size)
    counts = [
        (tone, shape, label, (light if tone == 0 else size - light) // 4)
        for tone in (0, 1)
        for shape in (0, 1)
        for label in (0, 1)
    ]
    epsilon = learner.get("epsilon")
    privacy = None
    if learner["kind"] == "dpsgd":
        privacy = statement(epsilon) if epsilon else statement(float("inf"), 0.0, None)
    return simulation.trial(learner, imbalance, share, replicate, privacy=privacy, counts=counts, **options)


def true_digit_accuracy(learner, level, codes, label):
    rare = {"dpsgd": 0.60, "sgd": 0.93}[learner]
    return np.where(label == 8, rare, {"dpsgd": 0.90, "sgd": 0.96}[learner])


def digit_sweep(folder, *, replicates=5, per_cell=100, **options):
    """MNIST with class 8 cut: sgd against dpsgd; the digit is label and group."""
    simulation = Simulation(
        folder, [DIGIT], ("digit",), "digit", per_cell, true_digit_accuracy, dataset="mnist", **options
    )
    imbalance = {"attribute": "digit", "keep": {"8": 50}}
    counts = [(digit, digit, 50 if digit == 8 else 400) for digit in range(10)]
    dpsgd = {
        "name": "dpsgd",
        "kind": "dpsgd",
        "epochs": 10,
        "noise_multiplier": 0.8,
        "epsilon": None,
        "l2_clip_norm": 1.0,
    }
    sgd = {"name": "sgd", "kind": "sgd", "epochs": 10, "batch_size": 256}
    for replicate in range(replicates):
        simulation.trial(dpsgd, imbalance, "keep8", replicate, privacy=statement(6.23, 0.8), counts=counts)
        simulation.trial(sgd, imbalance, "keep8", replicate, counts=counts)
    simulation.write_sweep_json("mnist-class8")
    return simulation


@pytest.fixture(scope="session")
def faces(tmp_path_factory):
    """A finished sweep on faces with two replicates."""
    return face_sweep(tmp_path_factory.mktemp("sweeps") / "faces")


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """A finished sweep on digits with five replicates."""
    return digit_sweep(tmp_path_factory.mktemp("sweeps") / "digits")


@pytest.fixture
def unfinished(tmp_path):
    """A sweep that runs: done, running, queued and failed trials, a damaged file and a missing one."""
    simulation = face_sweep(tmp_path / "unfinished", replicates=1, shares=(0.5, 0.9))
    add_face_trial(simulation, PRIVATE, 0.99, 0, state="running")
    add_face_trial(simulation, MATCHED, 0.99, 0, state="queued")
    add_face_trial(simulation, TUNED, 0.99, 0, state="failed", error="OutOfMemoryError: no memory left")
    damaged = add_face_trial(simulation, TUNED, 0.5, 7)
    (damaged / CELLS).write_bytes(b"PAR1 half a file")
    add_face_trial(simulation, TUNED, 0.9, 7, leave_out=[CELLS, DATA])
    simulation.write_sweep_json()
    return simulation


@pytest.fixture(scope="session")
def simulate():
    """The functions that write simulated sweeps."""
    return {
        "faces": face_sweep,
        "face_trial": add_face_trial,
        "digits": digit_sweep,
        "truth": TRUTH,
        "simulation": Simulation,
        "face_words": [TONE, SHAPE, SMILING],
    }
