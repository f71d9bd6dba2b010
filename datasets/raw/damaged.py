"""The placeholder for an image that cannot be read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Damaged:
    """Stands for an image that cannot be read; it is counted and left out.

    Attributes:
        reason: What is wrong with it, for a reader of `dataset.json`.
    """

    reason: str
