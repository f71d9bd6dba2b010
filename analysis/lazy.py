"""Names of a package that are imported on first use (PEP 562), so that each command loads only what it needs."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Mapping

from fairsweep.analysis.extras import explained


def lazy_names(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Make the ``__getattr__`` and the ``__dir__`` of a package.

    Args:
        package: its ``__name__``.
        homes: For each public name the module of the package that holds it, or that it is.
    """

    def get(name: str) -> object:
        if name == "__version__":
            return importlib.metadata.version("fairsweep")
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; it has {sorted(homes)}")
        try:
            module = importlib.import_module(f"{package}.{homes[name]}")
            # A module may hold something of its own name, which is then meant.
            return getattr(module, name, module) if homes[name].endswith(f".{name}") else getattr(module, name)
        except ModuleNotFoundError as error:
            raise explained(error, f"{package}.{name}") from error

    return get, lambda: sorted([*homes, "__version__"])
