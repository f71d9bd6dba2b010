"""What every learner shows with every model; whoever adds one of either runs it through the same suite."""

import importlib.util
import io
import json
import textwrap
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from fairsweep.trainables.learners import LEARNERS, AnyLearner, build_learner
from fairsweep.trainables.learning.learner import LabelledRows
from fairsweep.trainables.models.models import MODELS, AnyModel
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
READ_LEARNER, READ_MODEL = TypeAdapter(AnyLearner), TypeAdapter(AnyModel)


class LearnerContract:
    """The suite: a subclass has the fixtures ``given``, a learner's config, and ``model``, a model's."""

    @pytest.fixture
    def make(self, make_task, given, model):
        """Makes fresh learners on equal tasks."""

        def build(config=given):
            task = make_task(model, n=16, size=16, classes=3)
            measured = np.arange(0, 16, 2)
            groups = {name: codes[measured] for name, codes in task.groups.items()}
            validation = LabelledRows(task.rows[measured], task.labels[measured], groups)
            return build_learner(config, replace(task, validation=validation))

        return build

    def test_it_trains_resumes_to_the_bit_and_says_what_it_spends(self, make, given):
        whole = make()
        images = np.random.default_rng(0).integers(0, 255, (5, 16, 16, 1)).astype(np.uint8)
        before, unspent = whole.predict(images), whole.privacy()
        report, after, spent = whole.step(), whole.predict(images), whole.privacy()
        assert (report.iteration, whole.iteration) == (1, 1)
        assert report.seconds > 0
        assert (after.shape, after.dtype, after.device.type) == ((5, 3), torch.float32, "cpu")
        assert not torch.equal(after, before)

        assert (unspent is None) == (spent is None)
        assert given.has_plan == (given.plan(16) is not None)
        assert spent is not None or not given.has_plan
        if spent is not None:
            assert unspent.epsilon.pld == 0 < spent.epsilon.pld
            json.dumps(spent.model_dump(mode="json"), allow_nan=False)

        buffer = io.BytesIO()
        torch.save(whole.state(), buffer)
        buffer.seek(0)
        resumed = make()
        resumed.load(torch.load(buffer, weights_only=True))
        assert resumed.step().loss == whole.step().loss
        for name, value in whole.weights().items():
            assert torch.equal(value, resumed.weights()[name]), name
        with pytest.raises(ValueError, match="kind"):
            resumed.load({**whole.state(), "kind": "another"})

    def test_its_twin_trains_or_is_refused_with_the_kind(self, make, given):
        try:
            twin = given.twin("whole")
        except ValueError as error:
            assert repr(given.kind) in str(error)  # noqa: PT017 - either is right
            return
        assert (twin.name, twin.kind) == ("whole", given.kind)
        assert twin.twin("whole") == twin
        assert make(twin).step().iteration == 1

    def test_configs_are_read_back_and_what_they_say_beforehand_makes_sense(self, given, model):
        assert READ_LEARNER.validate_json(READ_LEARNER.dump_json(given)) == given
        assert READ_MODEL.validate_json(READ_MODEL.dump_json(model)) == READ_MODEL.validate_python(model.record())
        kept, growth, workers = given.kept_models(), given.growth(), given.inner_workers()
        assert kept.trained >= 1
        assert min(kept.copies, kept.in_checkpoint) >= 0
        assert growth is None or growth >= 1
        assert workers is None or 1 <= workers.least <= workers.most


@pytest.mark.parametrize("model", [make() for make in MODELS.values()], ids=list(MODELS))
@pytest.mark.parametrize("given", [READ_LEARNER.validate_python(c) for c in CONFIGS.values()], ids=list(CONFIGS))
class TestEveryLearnerWithEveryModel(LearnerContract):
    pass


@pytest.mark.parametrize("given", [READ_LEARNER.validate_python(c) for c in CONFIGS.values()], ids=list(CONFIGS))
class TestEveryLearnerWithAModelOfOnesOwn(LearnerContract):
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
class TestAnAddedLearner(LearnerContract):
    @pytest.fixture(params=list(MODELS))
    def model(self, request):
        return READ_MODEL.validate_python({"name": request.param})

    @pytest.fixture
    def given(self, added):
        return READ_LEARNER.validate_python({"kind": "whole"})

    def test_a_trial_is_trained_recorded_and_read_back(self, make_config, tmp_path, given):
        config = make_config({"kind": "whole"}, model={"name": "hidden", "units": 5})
        folder = Trial(config, tmp_path / "trial").run()
        record = json.loads((folder / "config.json").read_text())
        assert record["model"] == {"name": "hidden", "units": 5}
        assert TrialConfig.from_record(record) == config
        assert config.setting != make_config({"kind": "whole"}, model={"name": "hidden"}).setting


@pytest.mark.usefixtures("added")
class TestAnAddedModel(LearnerContract):
    @pytest.fixture
    def model(self, added):
        return READ_MODEL.validate_python({"name": "hidden"})

    @pytest.fixture(params=list(CONFIGS))
    def given(self, request):
        return READ_LEARNER.validate_python(CONFIGS[request.param])
