"""Each search algorithm, scheduler, stopping rule, tracker and source, from raw files to results.

They share their sweeps: every sweep has an algorithm, a source, and a scheduler or a stopping rule of its own.
"""

import csv
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend

from fairsweep import analysis
from fairsweep.datasets.sources import SOURCES
from fairsweep.sweeps.spec.scheduler_section import SchedulerSection
from fairsweep.sweeps.spec.search_section import Algorithm
from fairsweep.sweeps.spec.stop_section import StopSection
from fairsweep.sweeps.spec.tracking_section import TRACKER_NAMES
from fairsweep.sweeps.store.listing import list_trials

ACCURACY = {"max": "accuracy"}
# A metric of the user's own, in [0, 5].
OWN = str(Path(__file__).parents[2] / "examples/own-model/metrics.py:screening_cost")
COST = {"min": "screening_cost"}
SGD = {
    "name": "plain",
    "kind": "sgd",
    "epochs": 3,
    "batch_size": 16,
    "optimizer": {"lr": {"loguniform": [0.0001, 0.5]}, "momentum": {"choice": [0.0, 0.9]}},
}
# Rates at which some trials learn nothing, so that a scheduler ends them.
WIDE = SGD | {"optimizer": SGD["optimizer"] | {"lr": {"loguniform": [1e-5, 0.5]}}}
PRIVATE = {
    "name": "private",
    "kind": "dpsgd",
    "epochs": 3,
    "batch_size": 16,
    "noise_multiplier": {"uniform": [0.8, 2.0]},
    "performance": {"gradient_mode": "hooks"},
}


@dataclass(frozen=True)
class Journey:
    """One sweep.

    Attributes:
        prepare: the words of its `prepare` command.
        prepared: what that prints.
        dataset: label and groups.
        search: the section without `samples`.
        ends: iterations that every trial has at its end; None where a scheduler has the last word.
        sections: further sections.
        learner: its learner.
        samples: settings that are tried.
    """

    prepare: str
    prepared: str
    dataset: dict[str, Any]
    search: dict[str, Any]
    ends: int | None
    sections: dict[str, Any] = field(default_factory=dict)
    learner: dict[str, Any] = field(default_factory=lambda: SGD)
    samples: int = 4


TWO = [ACCURACY, {"min": "accuracy_difference by tone"}]
FACES = ("prepare faces --to data/faces", "faces: ", {"label": "smiling", "groups": ["tone"]})
JOURNEYS = {
    "random": Journey(
        "prepare folder --from pictures --to data/pictures",
        "folder: ",
        {"label": "kind", "groups": ["site"]},
        {"algorithm": "random"},
        None,
        {"scheduler": {"kind": "asha", "objectives": [ACCURACY], "reduction": 2}},
        WIDE,
    ),
    "sobol": Journey(
        "prepare mnist --from MNIST --to data/idx",
        "mnist: ",
        {"label": "digit", "groups": ["digit"]},
        {"algorithm": "sobol"},
        None,
        {"scheduler": {"kind": "hyperband", "objectives": [ACCURACY], "reduction": 2, "brackets": 2}},
        WIDE,
    ),
    "grid": Journey(
        "prepare hf --from HubFaces --image-column picture --columns mouth,tone --to data/hub",
        "hf: ",
        {"label": "mouth", "groups": ["tone"]},
        {"algorithm": "grid"},
        None,
        {"scheduler": {"kind": "median", "objectives": [ACCURACY], "min_trials": 1}},
        SGD | {"optimizer": {"lr": {"grid": [0.1, 1e-6]}}},
        2,
    ),
    "nsga2": Journey(
        *FACES,
        {"algorithm": "nsga2", "objectives": TWO, "constraints": ["accuracy >= 0.1"]},
        None,
        {
            "scheduler": {"kind": "pareto-asha", "objectives": TWO, "reduction": 2},
            "tracking": list(TRACKER_NAMES),
        },
    ),
    "nsga3": Journey(
        "prepare celeba --from CelebA --to data/celeba",
        "celeba: 192 train, 24 validation, 24 test",
        {"label": "smiling", "groups": ["male"]},
        {"algorithm": "nsga3", "objectives": [ACCURACY, {"min": "accuracy_difference by male"}]},
        1,
        {"stop": {"target": ["accuracy >= 0"]}},
        samples=2,
    ),
    "cmaes": Journey(
        "prepare fashion-mnist --from Fashion --to data/fashion",
        "fashion-mnist: ",
        {"label": "garment", "groups": ["garment"]},
        {"algorithm": "cmaes", "objectives": [ACCURACY]},
        1,
        {"stop": {"seconds": 1e-6}},
        samples=2,
    ),
    "gp": Journey(
        "prepare kmnist --from KMNIST --to data/kmnist",
        "kmnist: ",
        {"label": "character", "groups": ["character"]},
        {"algorithm": "gp", "objectives": [ACCURACY], "startup_trials": 2},
        1,
        {"stop": {"epsilon": 0.01}},
        PRIVATE,
    ),
    "tpe": Journey(
        "prepare utkface --from UTKFace --to data/utkface-whole",
        "utkface: ",
        {"label": "gender", "groups": ["race"]},
        {"algorithm": "tpe", "objectives": [COST], "startup_trials": 2, "constraints": ["epsilon <= 100"]},
        2,
        {"stop": {"plateau": {"objective": COST, "patience": 1, "min_delta": 5.0}}, "metrics": [OWN]},
        PRIVATE,
    ),
}


def test_no_way_is_forgotten():
    """One more algorithm, scheduler, rule, tracker or source needs a journey here."""
    sections = [journey.sections for journey in JOURNEYS.values()]
    assert {journey.search["algorithm"] for journey in JOURNEYS.values()} == set(get_args(Algorithm))
    assert {journey.prepare.split()[1] for journey in JOURNEYS.values()} == set(SOURCES)
    kinds = get_args(SchedulerSection.model_fields["kind"].annotation)
    assert {section["scheduler"]["kind"] for section in sections if "scheduler" in section} == set(kinds) - {"none"}
    assert {rule for section in sections for rule in section.get("stop", {})} == set(StopSection.model_fields)
    assert {name for section in sections for name in section.get("tracking", [])} == set(TRACKER_NAMES)


@pytest.mark.parametrize("name", JOURNEYS)
def test_a_search_goes_all_the_way(name, user, prepared):
    journey, words = JOURNEYS[name], JOURNEYS[name].prepare.split()
    assert prepared(words).startswith(journey.prepared)
    search = journey.search if name == "grid" else journey.search | {"samples": journey.samples}
    sweep = {
        "name": f"by-{name}",
        "dataset": {"path": words[-1], **journey.dataset},
        "model": {"name": "linear"},
        "learners": [journey.learner],
        "search": search,
        "resources": {"cpu": 1, "max_concurrent": 1},  # in one order, so that a scheduler decides alike each time
        **journey.sections,
    }
    said = user.fairsweep("run", user.write(f"by-{name}.yaml", sweep))
    folder = user.folder / f"runs/by-{name}"
    assert f"Report: {folder / 'report.html'}" in said
    trials = list_trials(folder)
    assert len(trials) == journey.samples
    if journey.ends is None:
        assert {(trial.state, trial.by) for trial in trials} == {("done", None), ("stopped", "scheduler")}
    else:
        assert {(trial.state, trial.by, trial.iteration) for trial in trials} == {("stopped", "stopper", journey.ends)}
    results = analysis.load(folder)
    assert set(results.trials["trial"]) == {trial.name for trial in trials}
    if OWN in journey.sections.get("metrics", ()):
        shown = results.rates(["screening_cost"], by=(), split="validation").set_index("trial")["value"]
        assert found_by(folder) == pytest.approx(sorted(shown.to_numpy()))
    names = {trial.name for trial in trials} | {"sweep", sweep["name"]}
    for tracker in journey.sections.get("tracking", ()):
        shown = shown_in(tracker, folder / "tracking")
        assert len(shown) == journey.samples + 1, (tracker, shown)
        assert shown < names or tracker == "wandb", (tracker, shown)  # W&B's folders are named by hashes


def found_by(folder):
    """What a search saw of its settings."""
    journal = optuna.storages.JournalStorage(JournalFileBackend(str(folder / "search.journal")))
    (name,) = optuna.get_all_study_names(journal)
    study = optuna.load_study(study_name=name, storage=journal)
    return sorted(value for trial in study.trials for value in trial.values)


def shown_in(tracker, folder):
    """Names of the runs that a tracker holds, as it keeps them."""
    if tracker == "tensorboard":
        return {path.parent.name for path in folder.glob("tensorboard/*/events.out.tfevents.*")}
    if tracker == "files":
        return {path.parent.name for path in folder.glob("files/*/summary.json")} | {
            "sweep"
            for path in folder.glob("files/trials.csv")
            if len(list(csv.DictReader(path.read_text().splitlines()))) == 4
        }
    if tracker == "wandb":
        names = {path.name.rpartition("-")[2] for path in folder.glob("wandb/offline-run-*")}
        return names
    with sqlite3.connect(folder / "mlflow.db") as database:
        return {name for (name,) in database.execute("select name from runs where status in ('FINISHED', 'KILLED')")}
