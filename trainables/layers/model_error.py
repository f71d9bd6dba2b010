"""What is raised for a model that cannot be built."""

from __future__ import annotations


class ModelError(ValueError):
    """A model that cannot be built as asked, or not for this learner."""
