"""Which trials may train side by side in one process, and how many of them."""

from __future__ import annotations

from fairsweep.trainables.trial.trial_config import TrialConfig

SIZE = 16
"""Most trials of a stack whose size is not given."""
_LARGEST_BATCH = 256


def why_alone(config: TrialConfig) -> str:
    """Return why a trial cannot train beside others, in words; empty where it can."""
    if config.model.train == "all" and config.model.name != "linear":
        return f"a step of all of {config.model.name} takes its time in arithmetic, of which a stack saves none"
    return config.learner.trains_alone


def stack_size(config: TrialConfig, asked: int | str) -> int:
    """Return how many trials like this one may train in one process.

    Args:
        config: of the trial.
        asked: a number; or ``auto``, which takes as many as were found to be worth it.
    """
    if asked == 1 or why_alone(config):
        return 1
    if asked != "auto":
        return int(asked)
    return SIZE if getattr(config.learner, "batch_size", 0) <= _LARGEST_BATCH else 1
