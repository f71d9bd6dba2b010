"""A model of one's own: the same wherever it is built, and told in one line what is wrong with it."""

import random

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from fairsweep.datasets.selection.randomness import seed_key
from fairsweep.trainables.dpsgd.dpsgd_config import DpsgdConfig
from fairsweep.trainables.federated.fedavg_config import FedavgConfig
from fairsweep.trainables.learners import build_learner
from fairsweep.trainables.models.examination import examine
from fairsweep.trainables.models.model import ModelError, build_model
from fairsweep.trainables.trial.trial_config import TrialConfig

KEY, SHAPE = seed_key(1, "train"), (16, 16, 3)


def test_weights_follow_from_the_key_and_no_global_generator_is_read_or_changed(own):
    def states():
        return torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()  # noqa: NPY002

    before = states()
    one = build_model(own(), SHAPE, 3, KEY)
    assert states() == before
    torch.manual_seed(999)
    again, other = build_model(own(), SHAPE, 3, KEY), build_model(own(), SHAPE, 3, seed_key(2, "train"))
    for name, value in one.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
        assert value.dim() < 2 or not torch.equal(value, other.state_dict()[name])


def test_args_reach_the_function_and_count_for_the_identity(own, make_config, sgd):
    assert build_model(own(args={"width": 6}), SHAPE, 3, KEY).first[0].out_channels == 6
    trials = [
        make_config(sgd, model=model)
        for model in (own(), own(args={"width": 6}), own(source=own().source + "\n"), own("brought"))
    ]
    assert len({trial.trial for trial in trials}) == 4
    elsewhere = own().model_copy(update={"name": "/other/place.py:Net"})
    assert make_config(sgd, model=elsewhere).trial == trials[0].trial
    assert TrialConfig.from_record(trials[1].record()) == trials[1]


@pytest.mark.parametrize(
    ("function", "told"),
    [
        ("wide", r"must return logits of shape \[B, 3\].*returned shape \[2, 4\]"),
        ("no_instance", "must return an nn.Module, but returned the class Net: return an instance"),
        ("lazy", "has a lazy layer, '1': give it its size"),
        ("failing", r"could not be built: nets/mine.py, line \d+: 'return nn.Linear\(depth, \"x\"\)': TypeError"),
        ("noisy", "reads a global generator: its logits differ"),
        ("seeded", r"reads a global generator: its initial weights \(first.0.weight\) differ"),
        ("numpys", "reads numpy's global generator"),
        ("Nett", "no function or class 'Nett': did you mean 'Net'"),
    ],
)
def test_what_is_wrong_with_a_network_is_told_in_a_line(own, function, told):
    with pytest.raises(ModelError, match=told) as caught:
        examine(own(function), SHAPE, 3)
    assert "\n" not in str(caught.value)


def test_a_source_that_does_not_import_is_told_with_its_own_line(own):
    with pytest.raises(ModelError, match=r"mine.py does not import: nets/mine.py, line 2: 'import nothing_there'"):
        examine(own(source="x = 1\nimport nothing_there\n"), SHAPE, 3)
    with pytest.raises(ModelError, match=r"line 1: 'def \(': SyntaxError"):
        examine(own(source="def (\n"), SHAPE, 3)
    with pytest.raises(ModelError, match=r"fails on images of 2 x 2 with 3 channels: nets/mine.py, line \d+"):
        examine(own(), (2, 2, 3), 3)


@pytest.mark.parametrize("args", [{"width": float("nan")}, {"f": print}, {"classes": 3}, {"a": {"b": [object()]}}])
def test_args_must_be_constants(own, args):
    with pytest.raises(ValidationError, match=r"args must be (constants|names)"):
        own(args=args)


@pytest.mark.parametrize("mode", ["bookkeeping", "hooks", "ghost", "expanded_weights"])
def test_a_mode_that_misses_part_of_a_gradient_is_refused_with_one_that_does_not(own, mode):
    """Ghost clipping would clip by part of the norm, and sum the whole."""
    private = DpsgdConfig(noise_multiplier=1, performance={"gradient_mode": mode})
    with pytest.raises(ValueError, match="set gradient_mode: functorch"):
        private.check_network("tied", examine(own("tied"), SHAPE, 3))
    DpsgdConfig(noise_multiplier=1).check_network("tied", examine(own("tied"), SHAPE, 3))


def test_training_too_refuses_such_a_mode(own, make_task):
    private = DpsgdConfig(noise_multiplier=1, batch_size=8, epochs=1, performance={"gradient_mode": "ghost"})
    learner = build_learner(private, make_task(own("tied"), n=16, size=16))
    with pytest.raises(ValueError, match="set gradient_mode: functorch"):
        learner.step()


def test_networks_that_mix_examples_or_keep_a_state_are_refused_where_that_matters(own):
    mixing, counting = examine(own("mixing"), SHAPE, 3), examine(own("counting"), SHAPE, 3)
    federated = FedavgConfig(cohort_size=2, clients={"partition": "iid", "count": 4})
    with pytest.raises(ValueError, match="depend on the others of its batch"):
        DpsgdConfig(noise_multiplier=1).check_network("mixing", mixing)
    with pytest.raises(ValueError, match="running statistics"):
        federated.check_network("counting", counting)
    federated.check_network("mixing", mixing)
    assert examine(own(norm="batch"), SHAPE, 3).mixes_examples
