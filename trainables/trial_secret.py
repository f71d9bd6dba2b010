"""The secret of a trial: what keys noise and Poisson inclusion, and nobody who sees the model may know.

In research mode it follows from the sweep's public key, so that results repeat; the guarantee is then simulated. In
release mode it comes from the operating system, is stored before the first step where only its owner may read it, and
is erased when the trial is done.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fairsweep.datasets.randomness import KEY_BYTES, derive, seed_key

if TYPE_CHECKING:
    from fairsweep.trainables.trial_config import TrialConfig

_FILE = "secret.key"


def trial_secret(config: "TrialConfig", folder: Path) -> bytes:
    """The secret of a trial, the same for every start of it until it is done.

    Args:
        config: the trial's config.
        folder: the trial's folder; holds the secret in release mode.

    Returns:
        32 bytes, independent of every other trial's.
    """
    if config.mode == "research":
        return derive(seed_key(config.key, "trial secrets"), f"trial {config.trial}")
    path = folder / _FILE
    try:
        stored = path.read_bytes()
    except FileNotFoundError:
        stored = b""
    if len(stored) == KEY_BYTES:
        return stored
    secret = os.urandom(KEY_BYTES)
    _store(path, secret)
    return secret


def erase_secret(folder: Path) -> None:
    """Overwrite and delete a stored secret; nothing happens if there is none."""
    path = folder / _FILE
    if not path.exists():
        return
    with path.open("r+b") as file:
        file.write(bytes(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()


def _store(path: Path, secret: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secret)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
