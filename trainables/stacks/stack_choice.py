"""Which trials may train side by side in one process, and how many of them."""

from __future__ import annotations

import functools

from fairsweep.trainables.models.frozen_body import Tail, trained_part
from fairsweep.trainables.models.model import ModelConfig, outline
from fairsweep.trainables.privacy.flat_chain import FlatChain
from fairsweep.trainables.trial.trial_config import TrialConfig
from fairsweep.trainables.trial.trial_data import frozen_body_of, open_dataset

SIZE = 16
"""Most trials of a stack whose size is not given."""
_LARGEST_BATCH = 256


def why_alone(config: TrialConfig) -> str:
    """Return why a trial cannot train beside others, in words; empty where it can.

    Raises:
        DatasetError: if its dataset is missing or damaged.
    """
    if reason := config.learner.trains_alone:
        return reason
    dataset, model = open_dataset(config.dataset.path, config.dataset.content_hash), config.model
    classes = len(dataset.attribute(config.dataset.label).values)
    if _is_chain(model, dataset.info.image_shape, classes, frozen_body_of(config, dataset).tail):
        return ""
    return (
        f"what batches go through of {model.name} is more than linear layers with ReLU between them, and takes its "
        "time in arithmetic, of which a stack saves none"
    )


def stack_size(config: TrialConfig, asked: int | str) -> int:
    """Return how many trials like this one may train in one process.

    Args:
        config: of the trial.
        asked: a number; or ``auto``, which takes as many as were found to be worth it. Never more than the examples
            that the learner may work on at once: each trial of a stack works on one at least.
    """
    if asked == 1 or why_alone(config):
        return 1
    learner = config.learner
    if asked == "auto":
        asked = SIZE if getattr(learner, "batch_size", 0) <= _LARGEST_BATCH else 1
    most = getattr(getattr(learner, "performance", None), "physical_batch_size", None)
    return min(int(asked), most or int(asked))


@functools.lru_cache(maxsize=64)
def _is_chain(model: ModelConfig, image_shape: tuple[int, int, int], classes: int, tail: Tail | None) -> bool:
    """Whether what is trained is a chain that takes what its feed gives."""
    chain = FlatChain.of(trained_part(outline(model, image_shape, classes), tail))
    height, width, channels = image_shape
    return chain is not None and chain.takes((channels, height, width) if tail is None else tail.shape)
