"""What every learner shows with every model; whoever adds one of either runs it through the same suite."""

import importlib.util
import json
import textwrap

import pytest

from fairsweep.sweeps.testing.learner_contract import READ_LEARNER, READ_MODEL, LearnerContract
from fairsweep.trainables.learners import LEARNERS
from fairsweep.trainables.models.models import MODELS
from fairsweep.trainables.trial.trial import Trial
from fairsweep.trainables.trial.trial_config import TrialConfig

HOOKS = {"gradient_mode": "hooks"}
CLIENTS = {"partition": "iid", "count": 4}
SHARDS = {"kind": "sisa", "shards": 2, "slices": 2, "epochs": 1}
CONFIGS = {
    "sgd": {"kind": "sgd", "epochs": 2, "batch_size": 12, "optimizer": {"momentum": 0.9}},
    "dpsgd": {"kind": "dpsgd", "epochs": 2, "batch_size": 6, "noise_multiplier": 0.8, "performance": HOOKS},
    "dpfedavg": {"kind": "dpfedavg", "rounds": 2, "clients": CLIENTS, "sampling_rate": 0.7, "noise_multiplier": 0.8},
    "fedavg": {"kind": "fedavg", "rounds": 2, "clients": CLIENTS, "cohort_size": 2},
    "sisa": SHARDS | {"inner": {"kind": "sgd", "batch_size": 6}, "requests": {"count": 1}},
    "sisa private": SHARDS
    | {"inner": {"kind": "dpsgd", "batch_size": 4, "noise_multiplier": 0.8, "performance": HOOKS}},
    "pbt": {
        "kind": "pbt",
        "population": 2,
        "inner": {"kind": "sgd", "epochs": 2, "batch_size": 12},
        "explore": {"optimizer.lr": {"low": 0.01, "high": 0.1}},
    },
}


class Contract(LearnerContract):
    """Few examples of three classes: there are many pairs."""

    examples = 16
    values = ("none", "one", "two")


@pytest.mark.parametrize(
    "model",
    # In the gate the large network trains in the examples of CelebA and of UTKFace.
    [pytest.param(make(), id=n, marks=[pytest.mark.slow] if n == "resnet18" else []) for n, make in MODELS.items()],
)
@pytest.mark.parametrize("learner", [READ_LEARNER.validate_python(c) for c in CONFIGS.values()], ids=list(CONFIGS))
class TestEveryLearnerWithEveryModel(Contract):
    test_it_reads_and_leaves_no_global_generator = None  # asked of each learner once, below


@pytest.mark.parametrize("learner", [READ_LEARNER.validate_python(c) for c in CONFIGS.values()], ids=list(CONFIGS))
class TestEveryLearnerWithAModelOfOnesOwn(Contract):
    """With dropout, norms in place of BatchNorm, a frozen part and a head of several layers."""

    @pytest.fixture
    def model(self, own):
        return own(train=["second", "head"], head={"hidden": [4], "dropout": [0.2]})


def test_every_kind_of_the_table_is_put_through_the_suite():
    assert {content["kind"] for content in CONFIGS.values()} == set(LEARNERS)


NETWORK = """
    import math
    from typing import Literal

    from torch import nn

    from fairsweep.trainables.models.model import ModelConfig


    class HiddenConfig(ModelConfig):
        name: Literal["hidden"] = "hidden"
        units: int = 4

        def network(self, image_shape, classes):
            inputs = math.prod(image_shape)
            return nn.Sequential(nn.Flatten(), nn.Linear(inputs, self.units), nn.ReLU(), nn.Linear(self.units, classes))
"""
LEARNER = """
    from typing import Literal

    import torch
    import torch.nn.functional as F

    from fairsweep.datasets.selection.sampling import Shuffled
    from fairsweep.trainables.models.inputs import normalise, to_device
    from fairsweep.trainables.learning.iteration_report import IterationReport
    from fairsweep.trainables.learning.learner import SingleModelLearner
    from fairsweep.trainables.learning.learner_config import LearnerConfig
    from fairsweep.trainables.models.network import Network
    from fairsweep.trainables.models.optimizers import SgdOptimizer


    class WholeConfig(LearnerConfig):
        name: str = "whole"
        kind: Literal["whole"] = "whole"
        steps: int = 2


    class Whole(SingleModelLearner):
        config = WholeConfig

        def __init__(self, config, task):
            super().__init__(config, task)
            self.iterations = config.steps
            self._task = task
            shapes, key = (task.image_shape, task.classes), task.keys.train
            self._network = Network(task.model, *shapes, SgdOptimizer(), config.steps, key, task.device)

        def _iterate(self):
            inputs = normalise(to_device(self._task.feed.images(self._task.rows), self._task.device))
            loss = F.cross_entropy(self._network.model(inputs), torch.as_tensor(self._task.labels, dtype=torch.int64))
            loss.backward()
            self._network.update(self.iteration)
            self.iteration += 1
            return IterationReport(self.iteration, float(loss.detach()), self._task.size, 1)

        def _state(self):
            return {"network": self._network.state()}

        def _load(self, state):
            self._network.load(state["network"])
"""


@pytest.fixture
def added(tmp_path, monkeypatch):
    """A learner and a model from files of their own, each with its row in the table."""

    def load(name, text):
        path = tmp_path / f"{name}.py"
        path.write_text(textwrap.dedent(text))
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    monkeypatch.setitem(MODELS, "hidden", load("hidden", NETWORK).HiddenConfig)
    monkeypatch.setitem(LEARNERS, "whole", load("whole", LEARNER).Whole)


@pytest.mark.usefixtures("added")
class TestAnAddedLearner(Contract):
    test_it_reads_and_leaves_no_global_generator = None

    @pytest.fixture(params=list(MODELS))
    def model(self, request):
        return READ_MODEL.validate_python({"name": request.param})

    @pytest.fixture
    def learner(self, added):
        return READ_LEARNER.validate_python({"kind": "whole"})

    def test_a_trial_is_trained_recorded_and_read_back(self, make_config, tmp_path):
        config = make_config({"kind": "whole"}, model={"name": "hidden", "units": 5})
        folder = Trial(config, tmp_path / "trial").run()
        record = json.loads((folder / "config.json").read_text())
        assert record["model"] == {"name": "hidden", "units": 5}
        assert TrialConfig.from_record(record) == config
        assert config.setting != make_config({"kind": "whole"}, model={"name": "hidden"}).setting


@pytest.mark.usefixtures("added")
class TestAnAddedModel(Contract):
    test_it_reads_and_leaves_no_global_generator = None

    @pytest.fixture
    def model(self, added):
        return READ_MODEL.validate_python({"name": "hidden"})

    @pytest.fixture(params=list(CONFIGS))
    def learner(self, request):
        return READ_LEARNER.validate_python(CONFIGS[request.param])
