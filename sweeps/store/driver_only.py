"""Objects that are given to Tune but stay in the driver."""

from __future__ import annotations

from typing import Any


class DriverOnly:
    """A callback, searcher or scheduler of ours: nothing of it is pickled.

    Tune pickles its settings, with every such object in them, for a `Tuner.restore` that is never asked for. Consoles,
    locks and closures over the driver cannot be pickled, and none of them is needed again.
    """

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing."""
        return {}
