"""The section ``tracking`` of a sweep file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from fairsweep.analysis.extras import is_installed, needs
from fairsweep.analysis.own_code import OwnCodeError, load_offered, place_of
from fairsweep.sweeps.syntax.section import Section

ENTRY_POINTS = "fairsweep.trackers"
"""Group of entry points by which installed packages offer trackers of their own."""


def _installed(package: str) -> Any:  # noqa: ANN401 - pydantic's mark of a validator
    """Return a validator that refuses a tracker whose package is not installed."""

    def check(section: Section) -> Section:
        if not is_installed(package):
            raise ValueError(needs("this tracker", package))
        return section

    return model_validator(mode="after")(check)


class TensorBoardSection(Section):
    """Event files that `tensorboard --logdir` opens, in `tracking/tensorboard` of the output folder."""

    _check_installed = _installed("tensorboardX")


class WandbSection(Section):
    """Weights & Biases."""

    _check_installed = _installed("wandb")

    project: str = Field(default="fairsweep", min_length=1, description="The project.")
    entity: str | None = Field(default=None, description="User or team; null takes your default.")
    mode: Literal["auto", "online", "offline"] = Field(
        default="auto",
        description="`auto`: online where a key is found (environment, netrc, secrets of Colab or Kaggle), else "
        "offline: runs lie in `tracking/wandb` and the command that sends them is printed at the end.",
    )
    tags: tuple[str, ...] = Field(default=(), description="Tags of every run, in addition to the sweep's name.")


class MlflowSection(Section):
    """MLflow; needs `pip install 'fairsweep[mlflow]'`."""

    uri: str | None = Field(
        default=None, description="Tracking URI; null takes the database `tracking/mlflow.db` in the output folder."
    )
    experiment: str | None = Field(default=None, description="Name of the experiment; null takes the sweep's.")

    _check_installed = _installed("mlflow")


class FilesSection(Section):
    """`metrics.csv`, `cells.csv`, `summary.json` and pictures of each trial, in `tracking/files`."""


def _as_section(raw: object) -> object:
    """Read ``true`` as a section with all defaults, ``false`` as none."""
    return ({} if raw else None) if isinstance(raw, bool) else raw


_TENSORBOARD = Annotated[TensorBoardSection | None, BeforeValidator(_as_section)]
_WANDB = Annotated[WandbSection | None, BeforeValidator(_as_section)]
_MLFLOW = Annotated[MlflowSection | None, BeforeValidator(_as_section)]
_FILES = Annotated[FilesSection | None, BeforeValidator(_as_section)]


class TrackingSection(Section):
    """Where the course of trials is shown besides; see `docs/tracking.md`. Never changes, slows or stops a trial."""

    tensorboard: _TENSORBOARD = Field(default=None, description="`true` for TensorBoard.")
    wandb: _WANDB = Field(default=None, description="`true`, or a section, for Weights & Biases.")
    mlflow: _MLFLOW = Field(default=None, description="`true`, or a section, for MLflow.")
    files: _FILES = Field(default=None, description="`true` for CSV, JSON and PNG files.")
    own: tuple[str, ...] = Field(
        default=(), description="Trackers of your own: `FILE.py:CLASS`, `PACKAGE.MODULE:CLASS`, or an entry point."
    )
    metrics: tuple[str, ...] | None = Field(
        default=None,
        description="Rates, scores and disparities that are shown, of all examples and each group, on validation and "
        "test; null takes accuracy, true and false positive rate, precision and five disparities.",
    )
    pictures: bool = Field(default=True, description="Whether confusion matrices by group and trends are drawn.")
    every_seconds: float = Field(default=5.0, gt=0, description="Seconds between two reads of the records.")
    wait_seconds: float = Field(
        default=60.0,
        ge=0,
        description="How many seconds the end of a sweep waits for unsent results; `fairsweep track SWEEP` sends the "
        "rest.",
    )

    @property
    def names(self) -> tuple[str, ...]:
        """The trackers that are asked for."""
        return (*(name for name in TRACKER_NAMES if getattr(self, name) is not None), *self.own)

    @model_validator(mode="after")
    def _check_metrics(self) -> Self:
        if self.metrics is not None:
            from fairsweep.analysis.metrics.catalogue import METRICS
            from fairsweep.sweeps.syntax.sweep_file import nearest

            for name in self.metrics:
                if name.partition("[")[0] not in METRICS:
                    raise ValueError(f"there is no metric {name!r}: {nearest(name, list(METRICS))}")
        return self


_OPTIONS = ("own", "metrics", "pictures", "every_seconds", "wait_seconds")
TRACKER_NAMES = tuple(name for name in TrackingSection.model_fields if name not in _OPTIONS)


def _as_mapping(raw: object) -> object:
    """Let a word or a list of words stand for trackers with all defaults."""
    words = [raw] if isinstance(raw, str) else raw
    if isinstance(words, list | tuple) and all(isinstance(word, str) for word in words):
        own = [word for word in words if word not in TRACKER_NAMES]
        return dict.fromkeys((word for word in words if word in TRACKER_NAMES), True) | ({"own": own} if own else {})
    return raw


def tracker_type(name: str, own_code: Mapping[str, str]) -> Callable[..., Any]:
    """Return a tracker of the user's own.

    Args:
        name: As in `TrackingSection.own`.
        own_code: Text of each file.

    Raises:
        OwnCodeError: If there is none.
    """
    found = load_offered("tracker", name, ENTRY_POINTS, TRACKER_NAMES, own_code.get(place_of(name)))
    lacking = [part for part in ("is_live", "send", "send_sweep", "close") if not hasattr(found, part)]
    if not isinstance(found, type) or lacking:
        raise OwnCodeError(
            f"{name} must be a class with the parts of fairsweep.sweeps.tracking.tracker.Tracker, but "
            + (f"lacks {', '.join(lacking)}" if isinstance(found, type) else f"is {found!r:.60}")
        )
    return found


def check_tracker(name: str, own_code: Mapping[str, str]) -> None:
    """Refuse a tracker that cannot be made of a `Place`, or whose methods take other arguments.

    Raises:
        OwnCodeError: With the reason.
    """
    found = tracker_type(name, own_code)
    calls = {"__init__": 1, "send": 2, "send_sweep": 1, "close": 0}
    for method, count in calls.items():
        try:
            signature(found if method == "__init__" else getattr(found, method)).bind(
                *range(count + (method != "__init__"))
            )
        except TypeError as error:
            raise OwnCodeError(
                f"{name}.{method} must take the arguments of fairsweep.sweeps.tracking.tracker.Tracker, but: {error}"
            ) from error


TrackingField = Annotated[TrackingSection, BeforeValidator(_as_mapping)]


def tracking_of(description: Mapping[str, object]) -> TrackingSection:
    """Return the section that ``sweep.json`` holds; one without trackers where it holds none."""
    sweep = description.get("sweep")
    if isinstance(sweep, Mapping) and sweep.get("metrics"):
        from fairsweep.analysis.metrics.own_metrics import sweep_metrics  # which imports scipy

        sweep_metrics(sweep)
    raw = sweep.get("tracking") if isinstance(sweep, Mapping) else None
    return TrackingSection() if raw is None else TrackingSection.model_validate(_as_mapping(raw))
