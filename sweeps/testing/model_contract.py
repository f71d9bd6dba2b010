"""What every model must do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch

from fairsweep.datasets.selection.randomness import seed_key
from fairsweep.sweeps.testing.contract import Contract, with_source
from fairsweep.sweeps.testing.learner_contract import READ_LEARNER, READ_MODEL
from fairsweep.trainables.learners import build_learner
from fairsweep.trainables.learning.made_up_task import made_up_task
from fairsweep.trainables.models.examination import examine
from fairsweep.trainables.models.model import ModelConfig, build_model

_SGD = {"name": "plain", "kind": "sgd", "epochs": 1, "batch_size": 8}


class ModelContract(Contract):
    """The suite of models.

    Attributes:
        model: Its section in a sweep file, or its config.
        image_shape: (height, width, channels).
        values: Names of the classes.
        is_private: Whether private learners are to take it, in one ``gradient_mode`` at least.
    """

    given: ClassVar[tuple[str, ...]] = ("model",)
    model: Any
    image_shape: ClassVar[tuple[int, int, int]] = (32, 32, 3)
    values: ClassVar[tuple[str, ...]] = ("no", "yes")
    is_private: ClassVar[bool] = True

    @pytest.fixture
    def network(self, model: ModelConfig | Mapping[str, Any]) -> ModelConfig:
        """Return the model's config."""
        return READ_MODEL.validate_python(with_source(model, "name") if isinstance(model, Mapping) else model)

    def test_it_can_be_built_and_reads_no_global_generator(self, network: ModelConfig) -> None:
        examined = examine(network, self.image_shape, len(self.values))
        assert examined.parameters > 0

    def test_initial_weights_follow_from_the_key(self, network: ModelConfig) -> None:
        made = [
            build_model(network, self.image_shape, len(self.values), seed_key(seed, "train")).state_dict()
            for seed in (1, 1, 2)
        ]
        assert all(torch.equal(value, made[1][name]) for name, value in made[0].items())
        assert any(not torch.equal(value, made[2][name]) for name, value in made[0].items())

    def test_it_trains(self, network: ModelConfig) -> None:
        task = made_up_task(network, examples=16, image_shape=self.image_shape, values=self.values)
        trained = build_learner(READ_LEARNER.validate_python(_SGD), task)
        before = trained.weights()
        trained.step()
        assert any(not torch.equal(value, before[name]) for name, value in trained.weights().items())

    def test_private_learners_take_it(self, network: ModelConfig) -> None:
        if not self.is_private:
            return
        private = READ_LEARNER.validate_python(_SGD | {"kind": "dpsgd", "noise_multiplier": 1.0})
        private.check_model(network)
        private.check_network(network.name, examine(network, self.image_shape, len(self.values)))
