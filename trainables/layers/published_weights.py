"""Weights from a local file, as they are published."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from fairsweep.trainables.layers.model_error import ModelError

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def published_weights(
    network: nn.Module, path: Path, field: str, owner: str, head: str, unused: tuple[str, ...] = ()
) -> dict[str, torch.Tensor]:
    """Return the weights that a file has of a network, by name, all but a head of another shape.

    Statistics of BatchNorm layers are left out where the network has other norm layers, and so are the affine weights
    of norm layers that it lacks.

    Args:
        network: The network; one on the meta device does.
        path: A file with a ``state_dict``.
        field: The config's field, for messages.
        owner: Whose weights they must be, for messages.
        head: Name of the network's head.
        unused: Beginnings of names of the file that the network leaves out.

    Raises:
        ModelError: If the file is missing or unreadable, or if its tensors are not those of this network.
    """
    weights = _read(path, field)
    expected = network.state_dict()
    removed = tuple(f"{name}." for name, module in network.named_modules() if name and isinstance(module, nn.Identity))
    prefix = f"{head}." if head else ""
    fits = {name for name in weights if name in expected and weights[name].shape == expected[name].shape}
    whole_head = all(name in fits for name in expected if name.startswith(prefix))
    found = {
        name: value
        for name, value in weights.items()
        if not (name.startswith(prefix) and not whole_head)
        and not (name not in expected and (name.endswith(_STATISTICS) or name.startswith((*removed, *unused))))
    }
    missing = sorted(name for name in expected if name not in found and not name.startswith(prefix))
    unknown = sorted(name for name in found if name not in expected)
    misshapen = sorted(name for name in found if name in expected and name not in fits)
    if missing or unknown or misshapen:
        raise ModelError(
            f"{field} weights at {str(path)!r} are not those of {owner}: missing {missing[:3]}, unknown {unknown[:3]}, "
            f"of another shape {misshapen[:3]}"
        )
    return found


def _read(path: Path, field: str) -> Mapping[str, torch.Tensor]:
    if not path.is_file():
        raise ModelError(
            f"{field} weights must be a local file, but there is none at {str(path)!r}: download the network's "
            "state_dict once and give its path"
        )
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many types for a damaged file; all mean the same here
        raise ModelError(
            f"{field} weights at {str(path)!r} could not be read as a state_dict of tensors "
            f"({type(error).__name__}): save them with torch.save(model.state_dict(), path)"
        ) from error
    if not isinstance(weights, Mapping) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise ModelError(f"{field} weights at {str(path)!r} must be a state_dict (name to tensor)")
    return weights
