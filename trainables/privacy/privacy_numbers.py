"""The supported ranges of epsilon, noise multiplier and delta, and the checks on them, for any unit of privacy."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import AfterValidator, Field

from fairsweep.analysis.accounting.delta_range import check_least_delta

LEAST_NOISE, MOST_NOISE = 1e-2, 1e6


def _check_noise(noise_multiplier: float) -> float:
    if noise_multiplier != 0 and not LEAST_NOISE <= noise_multiplier <= MOST_NOISE:
        raise ValueError(
            f"a noise multiplier must be 0 (no noise: epsilon is infinite) or between {LEAST_NOISE:g} and "
            f"{MOST_NOISE:g}, but got {noise_multiplier:g}: with less noise epsilon says nothing, with more nothing is "
            "learnt"
        )
    return noise_multiplier


DELTA_RULE = {"default delta": "at most 1/(10 N)"}
"""Part of the identity of a trial that takes the default: those of the former one, below 1/N, are other trials."""
NoiseMultiplier = Annotated[float, Field(ge=0), AfterValidator(_check_noise)]
Delta = Annotated[float, Field(gt=0, lt=1), AfterValidator(check_least_delta)]


def check_budget(
    epsilon: float | None,
    noise_multiplier: float | None,
    clipping: str,
    l2_clip_norm: float | None,
    keys: tuple[str, str] = ("clipping", "l2_clip_norm"),
) -> None:
    """Refuse a budget, a noise and a clipping that contradict each other.

    Args:
        epsilon: The budget, if it is given.
        noise_multiplier: z, if it is given.
        clipping: ``none``, or how contributions are clipped.
        l2_clip_norm: S.
        keys: How the config calls the last two.

    Raises:
        ValueError: With the remedy.
    """
    kind, norm = keys
    if (epsilon is None) == (noise_multiplier is None):
        raise ValueError(
            "give exactly one of epsilon (the noise is calibrated) and noise_multiplier, but got "
            + ("neither" if epsilon is None else f"both, {epsilon} and {noise_multiplier}")
        )
    if clipping == "none" and epsilon is not None:
        raise ValueError(
            f"without clipping, no amount of noise gives epsilon={epsilon}: set {norm} and {kind}, or give "
            "noise_multiplier"
        )
    if clipping != "none" and l2_clip_norm is None:
        raise ValueError(f"{kind}={clipping!r} needs {norm}, but it is null: give it, or set {kind} to none")
    if l2_clip_norm is None and noise_multiplier:
        raise ValueError(
            f"noise is measured in {norm} (its standard deviation is noise_multiplier * l2_clip_norm), but got "
            f"noise_multiplier={noise_multiplier} and {norm}=null: for noise without clipping give {norm} and "
            f"{kind}: none"
        )


def check_delta(delta: float, units: int, unit: str) -> None:
    """Refuse a delta at which nothing is promised.

    Raises:
        ValueError: If it is not below one over the number of units.
    """
    if delta >= 1 / units:
        raise ValueError(
            f"delta must be below 1/N = {1 / units:.3g}, N being the number of {unit}s, but got delta={delta:.3g}: "
            f"publishing one {unit}'s data outright satisfies any larger delta; leave delta out for a default"
        )


def default_delta(population: int) -> float:
    """Return the largest power of ten that is at most 1/(10 N): of N units, a tenth of one in expectation is exposed.

    Example:
        >>> default_delta(4000), default_delta(10_000), default_delta(162_770)
        (1e-05, 1e-05, 1e-07)
    """
    return float(f"1e-{len(str(10 * population - 1))}")


def default_cut(batch_size: int) -> int:
    """Return the largest batch that truncated Poisson sampling allows by default: qN + 6 sqrt(qN), rounded up.

    A Poisson batch is larger with a chance of about 1e-9, so that the cut costs next to nothing.

    Example:
        >>> default_cut(1000), default_cut(256)
        (1190, 352)
    """
    return math.ceil(batch_size + 6 * math.sqrt(batch_size))
