"""A hash of 32-bit words on any device."""

from __future__ import annotations

import torch


def mixed(words: torch.Tensor) -> torch.Tensor:
    """Mix int32 words in place, taken as 32 bits without a sign, so that each bit depends on all.

    References:
        Wellons 2018, "Prospecting for hash functions" (the two-round function `lowbias32`).
    """
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B - 2**32)):
        words.bitwise_xor_((words >> shift).bitwise_and_(2 ** (32 - shift) - 1)).mul_(factor)
    return words.bitwise_xor_((words >> 16).bitwise_and_(2**16 - 1))
