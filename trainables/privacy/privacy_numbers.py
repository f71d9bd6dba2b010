"""The supported ranges of noise and delta; outside them the accountants overflow or return infinity."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

LEAST_NOISE, MOST_NOISE = 1e-2, 1e6
LEAST_DELTA = 1e-12


def _check_noise(noise_multiplier: float) -> float:
    if noise_multiplier != 0 and not LEAST_NOISE <= noise_multiplier <= MOST_NOISE:
        raise ValueError(
            f"a noise multiplier must be 0 (no noise: epsilon is infinite) or between {LEAST_NOISE:g} and "
            f"{MOST_NOISE:g}, but got {noise_multiplier:g}: with less noise epsilon says nothing, with more nothing is "
            "learnt"
        )
    return noise_multiplier


def _check_delta(delta: float) -> float:
    if not LEAST_DELTA <= delta < 1:
        raise ValueError(
            f"delta must be at least {LEAST_DELTA:g} and below 1, but got {delta:g}: the accountant rounds off more "
            "than less would be; leave it out for a default"
        )
    return delta


NoiseMultiplier = Annotated[float, Field(ge=0), AfterValidator(_check_noise)]
Delta = Annotated[float, Field(gt=0, lt=1), AfterValidator(_check_delta)]
