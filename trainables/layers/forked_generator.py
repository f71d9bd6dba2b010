"""Torch's default generator, seeded by a key for the length of a block and put back as it was."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from fairsweep.datasets.selection.randomness import derive
from fairsweep.trainables.layers.model_error import ModelError

_REMEDY = "draw with torch, whose generator follows from the train key while a model is built"


@contextmanager
def forked_generator(key: bytes, owner: str, remedy: str = _REMEDY) -> Iterator[None]:
    """Seed torch's default generator on the CPU by a key, and put it back afterwards.

    Args:
        key: 32 bytes.
        owner: Who draws from it, for messages.
        remedy: What is to be done instead, for messages.

    Raises:
        ModelError: If numpy's global generator or Python's was read or changed meanwhile; both are put back.
    """
    words, numbers, plain = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    torch.default_generator.manual_seed(int.from_bytes(derive(key, "weights", 0)[:7], "big"))
    try:
        yield
    finally:
        moved = ["numpy's"] * (not all(map(np.array_equal, np.random.get_state(), numbers)))  # noqa: NPY002
        moved += ["Python's"] * (random.getstate() != plain)
        torch.set_rng_state(words)
        np.random.set_state(numbers)  # noqa: NPY002
        random.setstate(plain)
    if moved:
        raise ModelError(
            f"{owner} reads {' and '.join(moved)} global generator, so that a trial would not repeat: {remedy}"
        )
