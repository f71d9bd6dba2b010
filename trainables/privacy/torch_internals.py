"""Private names of torch that fairsweep uses: operations on a list of tensors in one launch, hooks of a module."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_TESTED = "2.15.0"


def foreach(operation: str, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - as the operation has them
    """Apply an operation to each tensor of a list.

    A loop over the tensors gives the same numbers, and launches a kernel for each: models have dozens of small
    tensors, and clients take thousands of steps. ``torch.optim`` with ``foreach=True`` is public and does the same
    inside, but keeps its state by parameter and knows no stacks of clients that grow shorter.

    Args:
        operation: such as ``add_``, as the method of a tensor is called.
        arguments: of the operation, lists of tensors where the method takes tensors.
        options: of the operation.

    Raises:
        NotImplementedError: if this version of torch does not have it.
    """
    function = getattr(torch, f"_foreach_{operation}", None)
    if function is None:
        raise NotImplementedError(
            f"fairsweep needs torch._foreach_{operation}, which torch {torch.__version__} does not have: install "
            f"torch=={_TESTED}, with which fairsweep is tested"
        )
    return function(*arguments, **options)


def has_hooks(module: nn.Module) -> bool:
    """Whether a module's forward pass calls what somebody has registered with it; true where torch does not say."""
    return any(getattr(module, name, True) for name in ("_forward_hooks", "_forward_pre_hooks"))
