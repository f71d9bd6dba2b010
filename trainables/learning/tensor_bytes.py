"""Serialisation of tensors and JSON values to bytes that are safe to load."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import torch

State = Mapping[str, Any]


def encode(state: State) -> bytes:
    """Serialise tensors and JSON values, so that `decode` needs no trust in where the bytes come from.

    Raises:
        TypeError: if the state holds anything but tensors and JSON values.
    """
    plain = _plain(state, "state")
    buffer = io.BytesIO()
    torch.save(plain, buffer)
    return buffer.getvalue()


def decode(content: bytes) -> dict[str, Any]:
    """Return the inverse of `encode`; tensors are loaded to the CPU, and no code in the bytes is ever run."""
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise ValueError(f"a checkpoint must hold a dict, but holds a {type(state).__name__}; delete it")
    return state


def _plain(value: Any, where: str) -> Any:  # noqa: ANN401 - a nested state
    if isinstance(value, torch.Tensor):
        # A view would drag its whole storage into the file.
        return value.detach().cpu().clone()
    if isinstance(value, Mapping):
        return {_plain_key(key, where): _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    if value is None or type(value) in (str, int, float, bool):
        return value
    raise TypeError(f"a checkpoint holds tensors and JSON values only, but {where} is a {type(value).__name__}")


def _plain_key(key: object, where: str) -> str | int:
    if type(key) not in (str, int):
        raise TypeError(f"keys in a checkpoint must be str or int, but {where} has the key {key!r}")
    return key  # type: ignore[return-value]
