"""Full float32 precision while gradients are clipped: TF32 keeps 10 bits, too few for a bound on a norm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_precision() -> Iterator[None]:
    """Multiply and convolve in IEEE float32 inside, on every device; also a decorator.

    What torch allows elsewhere in the process (TF32 in convolutions by default, and whatever
    ``torch.set_float32_matmul_precision`` was given) is restored.
    """
    matmul, convolution = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = convolution
