"""What every learner must do."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from fairsweep.sweeps.testing.contract import Contract, with_source
from fairsweep.trainables.learners import AnyLearner, build_learner
from fairsweep.trainables.learning.learner import Learner
from fairsweep.trainables.learning.learner_config import LearnerConfig
from fairsweep.trainables.learning.made_up_task import made_up_task
from fairsweep.trainables.models.model import ModelConfig
from fairsweep.trainables.models.models import AnyModel
from fairsweep.trainables.rehearsal import rehearse

READ_LEARNER: TypeAdapter[LearnerConfig] = TypeAdapter(AnyLearner)
READ_MODEL: TypeAdapter[ModelConfig] = TypeAdapter(AnyModel)

Make = Callable[..., Learner]


class LearnerContract(Contract):
    """The suite of learners.

    Attributes:
        learner: Its section in a sweep file, or its config. At least two iterations, if it is to be resumed.
        model: The model's section, or config.
        examples: How many made-up images there are.
        image_shape: (height, width, channels).
        values: Names of the classes.
    """

    given: ClassVar[tuple[str, ...]] = ("learner", "model")
    learner: Any
    model: Any = {"name": "linear"}  # noqa: RUF012 - a section of a sweep file
    examples: ClassVar[int] = 64
    image_shape: ClassVar[tuple[int, int, int]] = (16, 16, 1)
    values: ClassVar[tuple[str, ...]] = ("no", "yes")

    @pytest.fixture
    def config(self, learner: LearnerConfig | Mapping[str, Any]) -> LearnerConfig:
        """Return the learner's config."""
        content = {"name": "mine", **with_source(learner, "kind")} if isinstance(learner, Mapping) else learner
        return READ_LEARNER.validate_python(content)

    @pytest.fixture
    def network(self, model: ModelConfig | Mapping[str, Any]) -> ModelConfig:
        """Return the model's config."""
        return READ_MODEL.validate_python(with_source(model, "name") if isinstance(model, Mapping) else model)

    @pytest.fixture
    def make(self, config: LearnerConfig, network: ModelConfig) -> Make:
        """Return what makes fresh learners on equal tasks."""
        return lambda other=config: build_learner(other, self._task(network))

    def _task(self, network: ModelConfig) -> Any:
        return made_up_task(network, examples=self.examples, image_shape=self.image_shape, values=self.values)

    def test_it_trains_resumes_to_the_bit_and_says_what_it_spends(self, make: Make, config: LearnerConfig) -> None:
        whole = make()
        images = np.random.default_rng(0).integers(0, 255, (5, *self.image_shape)).astype(np.uint8)
        before, unspent = whole.predict(images), whole.privacy()
        report, after, spent = whole.step(), whole.predict(images), whole.privacy()
        assert (report.iteration, whole.iteration) == (1, 1)
        assert report.seconds > 0
        assert (after.shape, after.dtype, after.device.type) == ((5, len(self.values)), torch.float32, "cpu")
        assert not torch.equal(after, before)

        assert (unspent is None) == (spent is None)
        assert config.has_plan == (config.plan(self.examples) is not None)
        assert spent is not None or not config.has_plan
        if unspent is not None and spent is not None:
            assert unspent.epsilon.pld == 0
            assert spent.epsilon.pld is not None
            assert spent.epsilon.pld > 0
            json.dumps(spent.model_dump(mode="json"), allow_nan=False)

        buffer = io.BytesIO()
        torch.save(whole.state(), buffer)
        buffer.seek(0)
        resumed = make()
        resumed.load(torch.load(buffer, weights_only=True))
        assert resumed.iteration == 1
        if whole.iteration < whole.iterations:
            assert resumed.step().loss == whole.step().loss
        for name, value in whole.weights().items():
            assert torch.equal(value, resumed.weights()[name]), name
        with pytest.raises(ValueError, match="kind"):
            resumed.load({**whole.state(), "kind": "another"})

    def test_it_reads_and_leaves_no_global_generator(self, config: LearnerConfig, network: ModelConfig) -> None:
        rehearse(config, network, self.image_shape, self._task(network).roles)

    def test_its_twin_trains_or_is_refused_with_the_kind(self, make: Make, config: LearnerConfig) -> None:
        try:
            twin = config.twin("whole")
        except ValueError as error:
            assert repr(config.kind) in str(error)  # noqa: PT017 - either is right
            return
        assert (twin.name, twin.kind) == ("whole", config.kind)
        assert twin.twin("whole") == twin
        assert make(twin).step().iteration == 1

    def test_configs_are_read_back_and_what_they_say_beforehand_makes_sense(
        self, config: LearnerConfig, network: ModelConfig
    ) -> None:
        assert READ_LEARNER.validate_json(READ_LEARNER.dump_json(config)) == config
        assert READ_MODEL.validate_json(READ_MODEL.dump_json(network)) == READ_MODEL.validate_python(network.record())
        kept, growth, workers = config.kept_models(), config.growth(), config.inner_workers()
        assert kept.trained >= 1
        assert min(kept.copies, kept.in_checkpoint) >= 0
        assert growth is None or growth >= 1
        assert workers is None or 1 <= workers.least <= workers.most
