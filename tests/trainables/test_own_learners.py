"""A learner of an installed package, by its import path or by an entry point, trains as those of the table do."""

import sys

import pytest
import torch

from fairsweep.sweeps.plan import plan_sweep
from fairsweep.sweeps.sweep import Sweep
from fairsweep.trainables import load_model
from fairsweep.trainables.learners import learner_type
from fairsweep.trainables.trial.trial import Trial

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
        ("my_learners:Stepz", "AttributeError"),
        ("my_learner:Steps", "does not import: ModuleNotFoundError"),
        ("my_learners:NoLearner", "inherits from fairsweep.trainables.Learner"),
        ("stepz", "did you mean 'steps'"),
    ],
)
def test_what_is_no_learner_is_said(package, kind, said):
    with pytest.raises(ValueError, match=said):
        learner_type(kind)
