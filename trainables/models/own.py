"""A network of the user's own: a function or class in a file, or in an installed package.

The text of the source travels in the config itself: into each trial's records, to every worker on any node, into
mirrors, and through a resume after the file has changed or is gone. Its hash is part of a trial's identity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from fairsweep.analysis.own_code import OwnCode, OwnCodeError
from fairsweep.trainables.models.foreign import ForeignModel
from fairsweep.trainables.models.model import ModelError

_GIVEN = ("image_shape", "classes")


def _constants(given: object) -> object:
    if isinstance(given, Mapping):
        for name, value in given.items():
            if (wrong := _no_constant(value, str(name))) is not None:
                raise ValueError(
                    f"args must be constants (numbers, words, true, false, null, lists and mappings of them), but "
                    f"{wrong}"
                )
            if name in _GIVEN or not str(name).isidentifier():
                raise ValueError(
                    f"args must be names of the function's arguments beside image_shape and classes, but got {name!r}"
                )
    return given


def _no_constant(value: object, place: str) -> str | None:
    """Return what in a value is no constant, and where; None where all is."""
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return None
    if isinstance(value, list | tuple | Mapping):
        entries = value.items() if isinstance(value, Mapping) else enumerate(value)
        return next((found for key, item in entries if (found := _no_constant(item, f"{place}.{key}"))), None)
    return f"{place} is {value!r} of type {type(value).__name__}"


def _with_function(name: str) -> str:
    place, _, function = name.rpartition(":")
    if not place or not function.isidentifier():
        raise ValueError(f"a model of your own is named FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION, but got {name!r}")
    return name


class OwnModel(ForeignModel):
    """A network of your own, called as ``FUNCTION(image_shape=(height, width, channels), classes=K, **args)``.

    Attributes:
        name: ``FILE.py:FUNCTION``, or ``PACKAGE.MODULE:FUNCTION`` of an installed package. The function, or class,
            returns an ``nn.Module`` from float32 [B, C, H, W] in [-1, 1] to logits [B, K].
        args: What it is called with beside the shape of the images and the number of classes: constants.
        source: Text of the file; filled in by fairsweep.
    """

    is_unknown: ClassVar[bool] = True

    name: Annotated[str, AfterValidator(_with_function)]
    args: Annotated[dict[str, Any], BeforeValidator(_constants)] = Field(default_factory=dict)
    source: str

    def __hash__(self) -> int:
        """Return the hash of all fields."""
        return hash(self.model_dump_json())

    @property
    def source_hash(self) -> str:
        """Hash of the source's text, 16 hexadecimal digits."""
        return self._code.source_hash

    @property
    def has_statistics(self) -> bool:
        """Whether there may be statistics worth keeping: the function may bring its own."""
        return True

    @property
    def by_content(self) -> Mapping[str, str]:
        """The source counts by its text, wherever it lies."""
        return self._code.by_content

    def record(self) -> dict[str, Any]:
        """Return the config as records have it, with a short hash of the source beside it."""
        return super().record() | {"source_hash": self.source_hash}

    def network(self, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
        """Return what the function returns.

        Raises:
            ModelError: If the source or its function fails, or returns no module of given sizes.
        """
        function = self._loaded()
        try:
            network = function(image_shape=tuple(image_shape), classes=classes, **self.args)
        except Exception as error:  # whatever the user's code raises
            raise ModelError(f"{self.name} could not be built: {self.failure(error)}") from error
        if not isinstance(network, nn.Module):
            raise ModelError(f"{self.name} must return an nn.Module, but returned {_described(network)}")
        lazy = next((name for name, module in network.named_modules() if isinstance(module, LazyModuleMixin)), None)
        if lazy is not None:
            raise ModelError(f"{self.name} has a lazy layer, {lazy!r}: give it its size, by image_shape")
        return network

    def failure(self, error: Exception) -> str:
        """Return an error of the user's code in one line, with the last line of the source that it came through."""
        return self._code.failure(error)

    @property
    def _code(self) -> OwnCode:
        return OwnCode(self.name, self.source)

    def _loaded(self) -> Callable[..., Any]:
        try:
            found = self._code.load(fresh=True)  # so that whatever it draws follows from the build's key
        except OwnCodeError as error:
            raise ModelError(str(error)) from error
        if not callable(found):
            raise ModelError(f"{self.name} must be a function or class, but is {_described(found)}")
        function: Callable[..., Any] = found
        return function


def _described(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}: return an instance of it"
    return f"{value!r:.60} of type {type(value).__name__}"
