"""Learners of the user's own, in an installed package or in a file, train as those of the table do."""

import hashlib
import json
import pickle
import subprocess
import sys

import pytest
import torch

from fairsweep.analysis.results.trials import varying_fields
from fairsweep.sweeps.plan import plan_sweep
from fairsweep.sweeps.planning.preflight import check_sweep
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.trainables import load_model
from fairsweep.trainables.learners import learner_type
from fairsweep.trainables.trial.trial import Trial
from fairsweep.trainables.trial.trial_config import TrialConfig

PACKAGE = '''
"""Predicts by a linear model that takes one step of a fixed length against the gradient of the whole set."""

import torch
from torch.nn import functional as F

from fairsweep.trainables import IterationReport, LearnerConfig
from fairsweep.trainables.learning.learner import SingleModelLearner
from fairsweep.trainables.models.inputs import normalise, to_device
from fairsweep.trainables.models.network import Network
from fairsweep.trainables.models.optimizers import SgdOptimizer


class StepsConfig(LearnerConfig):
    kind: str = "steps"
    epochs: int = 2
    lr: float = 0.1


class Steps(SingleModelLearner):
    config = StepsConfig

    def __init__(self, config, task, plan=None):
        super().__init__(config, task)
        self.iterations = config.epochs
        self._task = task
        optimizer = SgdOptimizer(lr=config.lr)
        self._network = Network(
            task.model, task.image_shape, task.classes, optimizer, config.epochs, task.keys.train, task.device
        )

    def _iterate(self):
        task = self._task
        logits = self._network.model(normalise(to_device(task.feed.images(task.rows), task.device)))
        loss = F.cross_entropy(logits, torch.as_tensor(task.labels, dtype=torch.int64))
        loss.backward()
        self._network.update(self.iteration)
        self.iteration += 1
        return IterationReport(self.iteration, float(loss.detach()), task.size, 1)

    def _state(self):
        return {"network": self._network.state()}

    def _load(self, state):
        self._network.load(state["network"])


class NoLearner:
    pass
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package of the user's, which offers one learner by an entry point."""
    site = tmp_path / "my packages"
    info = site / "mine-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "my_learners.py").write_text(PACKAGE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fairsweep.learners]\nsteps = my_learners:Steps\n")
    monkeypatch.syspath_prepend(site)
    yield "my_learners:Steps"
    sys.modules.pop("my_learners", None)


@pytest.mark.parametrize("kind", ["steps", "my_learners:Steps"])
def test_it_trains_resumes_and_its_model_is_loaded(package, kind, make_config, tmp_path):
    config = make_config({"kind": kind, "name": "own", "epochs": 3})
    whole = Trial(config, tmp_path / "whole").run()
    begun = Trial(config, tmp_path / "begun")
    begun.iterate()
    state = begun.state()
    begun.close()
    rest = Trial(config, tmp_path / "rest")
    rest.load(state)
    assert rest.iteration == 1
    weights = [torch.load(folder / "weights.pt", weights_only=True) for folder in (whole, rest.run())]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert load_model(whole).facts.kind == kind


def test_a_sweep_plans_it_with_dimensions(package, toy_path, tmp_path):
    sweep = Sweep(
        name="own",
        dataset={"path": toy_path, "label": "smiling", "groups": ["tone"]},
        model={"name": "linear"},
        learners=[{"name": "mine", "kind": package, "lr": {"grid": [0.1, 0.2]}}],
        output=tmp_path / "out",
    )
    assert len(plan_sweep(sweep).labels) == 2


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("my_learners:Stepz", "no function or class 'Stepz': did you mean 'Steps'"),
        ("my_learner:Steps", "my_learner does not import: ModuleNotFoundError"),
        ("my_learners:NoLearner", "inherits from fairsweep.trainables.Learner"),
        ("stepz", "did you mean 'steps'"),
    ],
)
def test_what_is_no_learner_is_said(package, kind, said):
    with pytest.raises(ValueError, match=said):
        learner_type(kind)


@pytest.fixture
def sweep(toy_path, tmp_path, monkeypatch):
    """Makes a sweep with a learner of a file, from the folder where the file is: ``sweep(fields, text)``."""
    monkeypatch.chdir(tmp_path)

    def make(fields=(), text=PACKAGE, kind="my.py:Steps"):
        (tmp_path / "my.py").write_text(text)
        return Sweep(
            name="own",
            dataset={"path": toy_path, "label": "smiling", "groups": ["tone"]},
            model={"name": "linear"},
            learners=[{"name": "mine", "kind": kind, **dict(fields)}],
            output=tmp_path / "out",
        )

    return make


def test_the_text_of_its_file_goes_with_the_trial_and_counts_for_its_identity(sweep, tmp_path):
    made = sweep({"lr": {"grid": [0.1, 0.2]}})
    (tmp_path / "my.py").unlink()
    again = Sweep.from_mapping(json.loads(made.model_dump_json()))
    first, second = (trial.config for trial in check_sweep(again).trials)
    assert (first.learner.lr, second.learner.lr) == (0.1, 0.2)
    assert first.trial != second.trial
    record = json.loads(json.dumps(first.record()))
    assert record["learner"]["source"] == PACKAGE
    assert TrialConfig.from_record(record) == first
    (other, _) = (trial.config for trial in check_sweep(sweep({"lr": {"grid": [0.1, 0.2]}}, PACKAGE + "\n")).trials)
    assert other.setting != first.setting
    elsewhere = first.learner.model_copy(update={"kind": "else/where.py:Steps"})
    assert first.model_copy(update={"learner": elsewhere}).setting == first.setting
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).learner.lr)"  # a worker has the text alone
    command = [sys.executable, "-W", "ignore", "-c", code]
    answer = subprocess.run(command, input=pickle.dumps(first), capture_output=True, check=True)
    assert answer.stdout.strip() == b"0.1"
    folder = Trial(first, tmp_path / "trial").run()
    assert load_model(folder).facts.kind == "my.py:Steps"
    shown = varying_fields(record)
    assert shown["learner.source_hash"] == hashlib.sha256(PACKAGE.encode()).hexdigest()[:16]
    assert "learner.source" not in shown


GLOBAL = PACKAGE.replace("loss.backward()", "loss = loss * (1 + torch.rand(()))\n        loss.backward()")
FORGETS = PACKAGE.replace('return {"network": self._network.state()}', "return {}").replace(
    'self._network.load(state["network"])', "pass"
)


@pytest.mark.parametrize(
    ("text", "kind", "fields", "said"),
    [
        ("import nothing_like_it\n", "my.py:Steps", {}, "my.py, line 1: 'import nothing_like_it': ModuleNotFoundError"),
        ("class Steps(:\n", "my.py:Steps", {}, "my.py, line 1: 'class Steps(:': SyntaxError"),
        (PACKAGE, "my.py:Stepz", {}, "did you mean 'Steps'"),
        (PACKAGE, "my.py:NoLearner", {}, "must be a class that inherits from fairsweep.trainables.Learner"),
        (PACKAGE.replace("def _state", "def state_"), "my.py:Steps", {}, "and has _state"),
        (
            PACKAGE.replace("    config = StepsConfig", "    config = dict"),
            "my.py:Steps",
            {},
            "a class attribute config",
        ),
        (PACKAGE, "my.py:Steps", {"rate": 0.1}, "rate"),
        (PACKAGE, "my.py:Steps", {"lr": "fast"}, "lr"),
        (PACKAGE.replace("plan=None", "plan"), "my.py:Steps", {}, "missing 1 required positional argument: 'plan'"),
        (PACKAGE.replace("loss.backward()", "loss.backwards()"), "my.py:Steps", {}, "line 36: 'loss.backwards"),
        (
            PACKAGE.replace("return Iter", "Iter"),
            "my.py:Steps",
            {},
            "must return an IterationReport, but returned None",
        ),
        (GLOBAL, "my.py:Steps", {}, "reads a global generator"),
        (PACKAGE.replace("import torch\n", "import torch, random; random.random()\n"), "my.py:Steps", {}, None),
        (GLOBAL.replace("torch.rand(())", "__import__('random').random()"), "my.py:Steps", {}, "reads Python's global"),
        (FORGETS, "my.py:Steps", {}, "does not resume"),
    ],
)
def test_what_is_wrong_with_a_learner_of_a_file_is_said_in_a_line_before_anything_starts(
    sweep, tmp_path, text, kind, fields, said
):
    if said is None:  # drawing while it is imported changes nothing
        check_sweep(sweep(fields, text, kind))
        return
    with pytest.raises(SweepError) as caught:
        check_sweep(sweep(fields, text, kind))
    assert said in str(caught.value)
    assert "\n" not in caught.value.message
    assert caught.value.location[:2] == ("learners", 0)
    assert not (tmp_path / "out").exists()
