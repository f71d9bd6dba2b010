"""The secret of a trial: it keys noise and Poisson inclusion, and must not be known to whoever sees the model.

In research mode it follows from the sweep's public key, so that results repeat; the guarantee is then simulated. In
release mode it comes from the operating system, is stored before the first step where only its owner may read it, and
is erased when the trial is done.
"""

from __future__ import annotations

from pathlib import Path

from fairsweep.analysis.records.file_names import IDS_KEY, TRIALS
from fairsweep.datasets.selection.randomness import derive, seed_key
from fairsweep.trainables.trial.key_file import erase_key, stored_key

_FILE = "secret.key"


def trial_secret(folder: Path, *, mode: str, key: int, trial: str) -> bytes:
    """Return the secret of a trial, the same for every start of it until it is done.

    Args:
        folder: the trial's folder; holds the secret in release mode.
        mode: ``research`` or ``release``.
        key: public key of the sweep; of research mode.
        trial: hash of the trial; of research mode.

    Returns:
        32 bytes, independent of every other trial's.

    Raises:
        RecordError: if the stored secret is damaged.
    """
    if mode == "research":
        return derive(seed_key(key, "trial secrets"), f"trial {trial}")
    return stored_key(
        folder / _FILE,
        "a secret cannot be recreated: put the file back from a copy, or delete it and resume the sweep: the trial "
        "goes on under another one, and is charged for a whole training more",
    )


def ids_key(folder: Path) -> bytes | None:
    """Return the key under which a trial's records hash sets of ids: its sweep's, so that its trials can be compared.

    Args:
        folder: the trial's folder.

    Returns:
        32 bytes; None for a trial that is in no sweep.
    """
    if folder.parent.name != TRIALS:
        return None
    home = folder.parent.parent
    home.mkdir(parents=True, exist_ok=True)
    remedy = "put it back from a copy, or delete it: trials with the same ids are then taken for different ones"
    return stored_key(home / IDS_KEY, remedy)


def erase_secret(folder: Path) -> None:
    """Overwrite and delete a stored secret; nothing happens if there is none."""
    erase_key(folder / _FILE)
