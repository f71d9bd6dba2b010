"""Schedules: the rates are those of torch's, and functions of the position alone."""

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    MultiStepLR,
    SequentialLR,
)

from fairsweep.trainables.models.optimizers import AnyOptimizer
from fairsweep.trainables.models.schedules import AnySchedule
from fairsweep.trainables.sgd.sgd_learner import SgdConfig

read = TypeAdapter(AnySchedule).validate_python
STEPS, LR = 20, 0.3


def rates(schedule, epochs=STEPS):
    config = TypeAdapter(AnyOptimizer).validate_python({"lr": LR, "schedule": schedule})
    return [config.learning_rate(step, STEPS, epochs) for step in range(STEPS)]


def torchs(make):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    scheduler, found = make(optimizer), []
    for _ in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def warmed(optimizer, steps, rest):
    rising = LinearLR(optimizer, start_factor=1 / steps, total_iters=steps - 1)
    return SequentialLR(optimizer, [rising, rest(optimizer)], milestones=[steps])


SCHEDULES = {
    "constant": ("constant", lambda o: ConstantLR(o, factor=1.0)),
    "constant warm": (
        {"name": "constant", "warmup": 4},
        lambda o: LinearLR(o, start_factor=0.25, total_iters=3),
    ),
    "milestones": (
        {"name": "milestones", "at": (0.25, 0.6), "by": 0.2},
        lambda o: MultiStepLR(o, [5, 12], gamma=0.2),
    ),
    "milestones warm": (
        {"name": "milestones", "at": (0.25, 0.6), "warmup": 8},
        lambda o: ChainedScheduler([LinearLR(o, start_factor=1 / 8, total_iters=7), MultiStepLR(o, [5, 12])]),
    ),
    "cosine": ({"name": "cosine", "final": 0.1}, lambda o: CosineAnnealingLR(o, STEPS, eta_min=0.1 * LR)),
    "cosine warm": (
        {"name": "cosine", "warmup": 5},
        lambda o: warmed(o, 5, lambda o: CosineAnnealingLR(o, STEPS - 5)),
    ),
    "linear": ({"name": "linear"}, lambda o: LinearLR(o, start_factor=1.0, end_factor=0.0, total_iters=STEPS)),
    "linear warm": (
        {"name": "linear", "final": 0.5, "warmup": 5},
        lambda o: warmed(o, 5, lambda o: LinearLR(o, start_factor=1.0, end_factor=0.5, total_iters=STEPS - 5)),
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_rates_are_those_of_torch(name):
    schedule, make = SCHEDULES[name]
    assert rates(schedule) == pytest.approx(torchs(make), rel=1e-6)


def test_warmup_counts_epochs_however_many_steps_they_have():
    warm = {"name": "cosine", "warmup": 1}
    assert rates(warm, epochs=4) == rates({"name": "cosine", "warmup": 5}, epochs=STEPS)
    assert rates(warm, epochs=4)[:5] == pytest.approx([LR * k / 5 for k in range(1, 6)])


def test_a_milestone_takes_effect_at_the_first_step_that_reaches_it():
    schedule = read({"name": "milestones", "at": (1 / 3, 0.9)})
    factors = [schedule.factor(step, 10, epochs=10) for step in range(10)]
    assert factors == [1.0] * 4 + [0.1] * 5 + [pytest.approx(0.01)]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ("cosin", "'constant', 'milestones', 'cosine', 'linear'"),
        ({"name": "milestones"}, "at"),
        ({"name": "cosine", "at": [0.5]}, "cosine.at"),
        ({"final": 0.5}, "constant.final"),
        ({"name": "linear", "final": 1.5}, "less than or equal to 1"),
        ({"warmup": -1}, "greater than or equal to 0"),
    ],
)
def test_fields_that_a_schedule_would_ignore_are_refused(fields, told):
    with pytest.raises(ValidationError, match=told):
        read(fields)


def test_a_warmup_that_never_ends_is_refused():
    with pytest.raises(ValidationError, match="warmup must end before the training does, but got warmup=3 of 3"):
        SgdConfig(epochs=3, optimizer={"schedule": {"warmup": 3}})
