"""The only source of randomness: every draw is a function of a key, a purpose and a position.

There is no generator state to save. A resumed trial that asks again for position (epoch 3, step 17) gets what the
uninterrupted one got, and two purposes under one key never share numbers.

Keys are 32 bytes. Public ones come from seeds (`seed_key`); secret ones from the operating system or from a parent key.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

KEY_BYTES = 32
_LARGEST_POSITION = 2**63 - 1


def derive(key: bytes, purpose: str, *position: int) -> bytes:
    """Derive a child key by keyed BLAKE2b over the purpose and the position.

    Args:
        key: Parent key, 16 to 64 bytes.
        purpose: What the child is for, for example "noise". Different purposes give independent children.
        position: Whole numbers in [0, 2**63) that say which child: a run, an epoch, a step.

    Returns:
        32 bytes, indistinguishable from random to anyone who does not hold the key.

    Raises:
        ValueError: The key's length or a position is out of range.

    References:
        RFC 7693, section 2.9 (keyed hashing).

    >>> derive(seed_key(1, "data"), "imbalance") == derive(seed_key(1, "data"), "imbalance")
    True
    >>> derive(seed_key(1, "data"), "order", 0) == derive(seed_key(1, "data"), "order", 1)
    False
    """
    _check_key(key)
    # The purpose's length comes first, so that no purpose can run into the positions behind it.
    name = purpose.encode()
    message = len(name).to_bytes(8, "little") + name
    for place in position:
        if not 0 <= place <= _LARGEST_POSITION:
            raise ValueError(f"a position must be in [0, 2**63), but got {place} for {purpose=}")
        message += int(place).to_bytes(8, "little")
    return hashlib.blake2b(message, key=key, digest_size=KEY_BYTES).digest()


def fingerprint(key: bytes) -> str:
    """Return 16 hexadecimal digits by which a key is known again; they say nothing about what it draws.

    Args:
        key: 16 to 64 bytes.
    """
    return derive(key, "fingerprint")[:8].hex()


def seed_key(seed: int, kind: str) -> bytes:
    """Turn a public seed into a key.

    Args:
        seed: A whole number >= 0 as it stands in the sweep file.
        kind: What the seed is for: "data", "train", … Equal seeds of different kinds give independent keys.

    Returns:
        The key, 32 bytes.

    Raises:
        ValueError: The seed is negative.
    """
    if seed < 0:
        raise ValueError(f"a seed must be >= 0, but got {seed=}")
    return hashlib.blake2b(f"{kind}:{int(seed)}".encode(), person=b"fairsweep-seed", digest_size=KEY_BYTES).digest()


def generator(key: bytes, purpose: str, *position: int) -> np.random.Generator:
    """Make a fresh NumPy generator (Philox, 128-bit key) for one purpose and position.

    Args:
        key: 16 to 64 bytes.
        purpose: What is drawn.
        position: Which draw, whole numbers in [0, 2**63).

    Returns:
        A generator of its own; equal arguments give equal streams, on every machine.

    References:
        Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (Philox, section 3).
    """
    child = derive(key, purpose, *position)
    return np.random.Generator(np.random.Philox(key=int.from_bytes(child[:16], "little")))


def priorities(key: bytes, purpose: str, ids: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Give each id a random number that depends on (key, purpose, id) alone.

    Sorting ids by priority and taking the first n is a draw without replacement, and draws of different n are nested.

    Args:
        key: 16 to 64 bytes.
        purpose: What is drawn.
        ids: int64 [N], any order; negative ids are allowed.

    Returns:
        uint64 [N], uniform. An id's number does not change when other ids come or go.
    """
    parent = hashlib.blake2b(key=derive(key, purpose), digest_size=8)
    numbers = np.empty(len(ids), dtype=np.uint64)
    for index, example in enumerate(np.asarray(ids, dtype=np.int64).tolist()):
        child = parent.copy()
        child.update(example.to_bytes(8, "little", signed=True))
        numbers[index] = int.from_bytes(child.digest(), "little")
    return numbers


def first_by_priority(key: bytes, purpose: str, ids: NDArray[np.int64], count: int | None = None) -> NDArray[np.int64]:
    """Orders ids by their priority and returns where the first `count` of them stand.

    Args:
        key: 16 to 64 bytes.
        purpose: What is drawn.
        ids: int64 [N], unique.
        count: How many to take; None orders all.

    Returns:
        int64 [count], indices into `ids`, lowest priority first.
    """
    # Equal priorities (chance 2**-64 a pair) fall back on the id, so that the order never depends on the input's.
    order = np.lexsort((ids, priorities(key, purpose, ids)))
    return order[:count].astype(np.int64)


def _check_key(key: bytes) -> None:
    if not 16 <= len(key) <= 64:
        raise ValueError(f"a key must have 16 to 64 bytes, but got {len(key)}: make one with seed_key() or derive()")
