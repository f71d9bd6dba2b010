"""A learner's task on made-up images, to try a learner on before anything starts, or in a test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from fairsweep.datasets.feeds.resident import ResidentFeed
from fairsweep.datasets.selection.randomness import derive, generator, seed_key
from fairsweep.datasets.storage.layout import Attribute
from fairsweep.trainables.learning.learner import LabelledRows, LearningTask, TrialKeys
from fairsweep.trainables.learning.roles import Roles
from fairsweep.trainables.models.model import ModelConfig

_USERS = 8
_LABEL, _GROUP = "label", "tone"


def made_up_task(
    model: ModelConfig,
    *,
    examples: int = 64,
    image_shape: tuple[int, int, int] = (8, 8, 1),
    values: Sequence[str] = ("no", "yes"),
    roles: Roles | None = None,
    seed: int = 1,
    **fields: Any,  # noqa: ANN401 - fields of a task
) -> LearningTask:
    """Return a task whose labels can be learnt: the upper half of an image is brighter, the larger its label is.

    Args:
        model: Which model.
        examples: How many there are; each second one may be measured on, too.
        image_shape: (height, width, channels).
        values: Names of the classes, where no roles are given.
        roles: The label and the groups; None makes a group ``tone`` of two values.
        seed: Of the keys, and of the trial secret.
        fields: Of `LearningTask`, in the place of these.
    """
    known = roles or Roles(
        Attribute(name=_LABEL, values=tuple(values)), (Attribute(name=_GROUP, values=("light", "dark")),)
    )
    draw = generator(seed_key(0, "made up"), "examples")
    classes = len(known.label.values)
    labels = np.arange(examples) % classes
    groups = {
        group.name: draw.integers(0, len(group.values), examples).astype(np.int16)
        for group in known.groups
        if group.name != known.label.name
    } | {group.name: labels.astype(np.int16) for group in known.groups if group.name == known.label.name}
    images = draw.integers(0, 160, (examples, *image_shape))
    images[:, : max(1, image_shape[0] // 2)] += (90 * labels // classes)[:, None, None, None]
    measured = np.arange(0, examples, 2)
    given: dict[str, Any] = {
        "model": model,
        "classes": classes,
        "image_shape": image_shape,
        "rows": np.arange(examples),
        "labels": labels,
        "groups": groups,
        "attributes": groups,
        "feed": ResidentFeed(np.arange(examples), images.astype(np.uint8)),
        "keys": TrialKeys(
            data=seed_key(seed, "data"), train=seed_key(seed, "train"), secret=derive(seed_key(seed, "secret"), "trial")
        ),
        "device": torch.device("cpu"),
        "ids": np.arange(examples),
        "users": np.arange(examples) % min(_USERS, examples),
        "label": known.label.name,
        "value_names": {attribute.name: attribute.values for attribute in (known.label, *known.groups)},
        "validation": LabelledRows(
            measured, labels[measured], {name: codes[measured] for name, codes in groups.items()}
        ),
    }
    return LearningTask(**given | fields)
