"""The keys of an example's augmented views."""

from __future__ import annotations

from fairsweep.datasets.selection.randomness import derive


def view_keys(key: bytes, views: int) -> list[bytes]:
    """Return a key for each of so many views of every example, 32 bytes each; the first is the key itself."""
    return [key, *(derive(key, "view", number) for number in range(1, views))]
