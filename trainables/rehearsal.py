"""A learner of the user's own is tried on made-up images before anything starts."""

from __future__ import annotations

import io

import torch

from fairsweep.analysis.own_code import OwnCode, OwnCodeError
from fairsweep.datasets.selection.randomness import seed_key
from fairsweep.trainables.layers.forked_generator import forked_generator
from fairsweep.trainables.layers.model_error import ModelError
from fairsweep.trainables.learners import build_learner
from fairsweep.trainables.learning.iteration_report import IterationReport
from fairsweep.trainables.learning.learner import Learner
from fairsweep.trainables.learning.learner_config import LearnerConfig
from fairsweep.trainables.learning.made_up_task import made_up_task
from fairsweep.trainables.learning.roles import Roles
from fairsweep.trainables.models.model import ModelConfig

_EXAMPLES = (64, 1024)  # the larger number for configs that are not for so few
_REPEAT = (
    "draw with fairsweep.datasets.selection.randomness.generator(task.keys.train, PURPOSE, iteration), so that a "
    "trial repeats, and a resumed one goes on as if never interrupted"
)

Weights = dict[str, torch.Tensor]


def rehearse(config: LearnerConfig, model: ModelConfig, image_shape: tuple[int, int, int], roles: Roles) -> None:
    """Refuse a learner that fails, that is another one for the same keys, or that does not resume.

    It does an iteration twice while the global generators stand elsewhere, then the next one with and without a resume.

    Args:
        config: The learner's.
        model: The sweep's.
        image_shape: (height, width, channels) of the dataset's images.
        roles: The label and the groups.

    Raises:
        OwnCodeError: With what happened, and the line of the user's file.
    """
    try:
        _rehearsed(config, model, image_shape, roles, _EXAMPLES[0])
    except _FailedError as failed:
        if not isinstance(failed.__cause__, ValueError):
            raise OwnCodeError(str(failed)) from failed.__cause__
        try:
            _rehearsed(config, model, image_shape, roles, _EXAMPLES[1])
        except _FailedError as again:
            raise OwnCodeError(str(again)) from again.__cause__


class _FailedError(Exception):
    """An iteration that raises."""


def _rehearsed(
    config: LearnerConfig, model: ModelConfig, image_shape: tuple[int, int, int], roles: Roles, examples: int
) -> None:
    def make() -> Learner:
        task = made_up_task(model, examples=examples, image_shape=image_shape, roles=roles)
        return build_learner(config, task)

    code = OwnCode(config.kind, getattr(config, "source", None))
    try:
        with forked_generator(seed_key(0, "elsewhere"), config.kind, _REPEAT):
            one = make()
            _check_report(config.kind, one.step())
        with forked_generator(seed_key(1, "elsewhere"), config.kind, _REPEAT):
            other = make()
            other.step()
            same = _equal(one.weights(), other.weights())
            state = _read_back(one)
            if same and one.iteration < one.iterations:
                one.step()
                resumed = make()
                resumed.load(state)
                resumed.step()
                if not _equal(one.weights(), resumed.weights()):
                    raise OwnCodeError(
                        f"{config.kind} does not resume: after `load` of what `state` gave, its second iteration gives "
                        f"other weights: give all that it needs in `_state`, and {_REPEAT}"
                    )
    except (OwnCodeError, ModelError) as error:
        raise OwnCodeError(str(error)) from error
    except Exception as error:  # whatever the learner raises
        raise _FailedError(
            f"{config.kind} fails in its first iterations on {examples} made-up images: {code.failure(error)}"
        ) from error
    if not same:
        raise OwnCodeError(
            f"{config.kind} reads a global generator: its weights differ between two runs with the same keys: {_REPEAT}"
        )


def _check_report(kind: str, report: IterationReport) -> None:
    if report.iteration != 1:
        raise OwnCodeError(
            f"_iterate of {kind} must count its iteration, self.iteration += 1, and report it, but reported "
            f"{report.iteration} after the first"
        )


def _read_back(learner: Learner) -> dict[str, object]:
    """Return a state as a resume has it: written, and read without running code."""
    buffer = io.BytesIO()
    torch.save(learner.state(), buffer)
    buffer.seek(0)
    state: dict[str, object] = torch.load(buffer, weights_only=True)
    return state


def _equal(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())
