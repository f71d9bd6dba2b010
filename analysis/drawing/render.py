"""Rendering of a described figure by a backend."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from typing import Any

from fairsweep.analysis.drawing.drawing import Drawing
from fairsweep.analysis.extras import explained

BACKENDS = ("plotly", "matplotlib")


def render(drawing: Drawing, backend: str = "plotly") -> Any:  # noqa: ANN401 - a figure of the backend
    """Return the figure: a ``plotly.graph_objects.Figure`` or a ``matplotlib.figure.Figure``.

    Raises:
        ValueError: if there is no such backend.
    """
    _check(backend)
    try:
        module = importlib.import_module(f"fairsweep.analysis.drawing.{backend}_backend")
    except ModuleNotFoundError as error:
        raise explained(error, f"backend={backend!r}") from error
    return module.draw(drawing)


def drawn(describe: Callable[..., Drawing | None]) -> Callable[..., Any]:
    """Return the function that draws what another one describes; it has the further keyword ``backend``.

    It returns the figure, or None where the description is None.
    """

    @functools.wraps(describe)
    def figure(*args: Any, backend: str = "plotly", **options: Any) -> Any:  # noqa: ANN401 - those of the description
        _check(backend)
        drawing = describe(*args, **options)
        return None if drawing is None else render(drawing, backend)

    signature = inspect.signature(describe)
    keyword = inspect.Parameter("backend", inspect.Parameter.KEYWORD_ONLY, default="plotly", annotation=str)
    figure.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), keyword], return_annotation=Any
    )
    return figure


def _check(backend: str) -> None:
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {list(BACKENDS)}, but got {backend!r}")
