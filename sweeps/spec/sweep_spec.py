"""The sweep file as a typed object: every field, its default, and what it means.

`SweepSpec` is what ``fairsweep run FILE`` reads; Python users build `fairsweep.sweeps.Sweep`, which also runs.
Sections in which fields can be search dimensions (imbalance, model, learners) are kept as `Space`; every value that
they can take is checked when the sweep is made, so a sweep that exists can be enumerated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from fairsweep.datasets.feeds.feed_choice import FeedWish
from fairsweep.datasets.feeds.stream import StreamLimits
from fairsweep.datasets.selection.evaluation import EvaluationConfig
from fairsweep.datasets.storage.location import settled
from fairsweep.sweeps.spec.fault_tolerance import CheckpointsSection, FailuresSection
from fairsweep.sweeps.spec.privacy_section import PrivacySection
from fairsweep.sweeps.spec.resources import ResourcesSection
from fairsweep.sweeps.spec.scheduler_section import SchedulerSection
from fairsweep.sweeps.spec.search_section import SearchSection
from fairsweep.sweeps.spec.section_checks import check_sections
from fairsweep.sweeps.spec.stop_section import StopSection
from fairsweep.sweeps.spec.tracking_section import TrackingField, check_tracker
from fairsweep.sweeps.spec.trial_count import check_count
from fairsweep.sweeps.syntax.address_passwords import check_addresses
from fairsweep.sweeps.syntax.dimensions import Space, SpaceField
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.syntax.names import check_name
from fairsweep.sweeps.syntax.own_code import with_own_code
from fairsweep.sweeps.syntax.paths import settle_paths
from fairsweep.sweeps.syntax.renamed_keys import check_renamed
from fairsweep.sweeps.syntax.section import Section
from fairsweep.sweeps.syntax.storage_uri import MirrorSection, PlaceField, uri_of, working_folder
from fairsweep.sweeps.syntax.sweep_file import SweepSource
from fairsweep.sweeps.syntax.validation import clear_error
from fairsweep.sweeps.syntax.values import plain

_RUNS = Path("runs")
_SOME_DATASET = {"path": ".", "label": "label", "groups": ["group"]}
_MOST_FOLDS = 1_000


class DatasetSection(Section):
    """Which prepared dataset, and which of its attributes plays which part."""

    path: Path = Field(
        description="Folder made by `fairsweep prepare`, or its URI; a relative path starts where the command runs."
    )
    label: str = Field(description="The attribute that is predicted.")
    groups: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="Attributes whose values are the groups that are compared; the label may be one of them."
    )
    many_classes: bool = Field(
        default=False,
        description="Whether a label with more than 50 distinct numbers is meant as classes: regression is not "
        "supported.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.groups)) != len(self.groups):
            raise ValueError(f"each group attribute must be named once, but got groups={list(self.groups)}")
        return self


class SeedsSection(Section):
    """How many seeds: those of the data and of the training are crossed, with each other and with repetitions."""

    data: int = Field(default=1, ge=1, description="Number of draws of the training set.")
    train: int = Field(default=1, ge=1, description="Number of trainings for each of them.")
    noise: int = Field(
        default=1,
        ge=1,
        description="Number of times that each of these is repeated under further privacy noise and Poisson sampling. "
        "No two trials share their noise, so each number is a draw of its own; a learner without noise repeats itself. "
        "In research mode only.",
    )
    order: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="Number of times that each of these is repeated with its examples in another order, all else of "
        "its training seed the same. Poisson sampling has no order: it is drawn with the noise.",
    )
    init: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="Number of times that each of these is repeated from other initial weights, all else of its "
        "training seed the same.",
    )

    @property
    def count(self) -> int:
        """Return the number of replicates."""
        return math.prod(self.model_dump().values())

    def given(self) -> dict[str, int]:
        """Return the numbers as a sweep file has them, of repetitions only where there are some."""
        counts = self.model_dump()
        return {name: count for name, count in counts.items() if count > 1 or name in ("data", "train")}


class FeedSection(StreamLimits):
    """Where images come from; a word stands for its `kind`. Changes speed and memory, never a result.

    Of a stream's `memory_bytes` one half keeps images that are asked for again (evaluation sets, then the training set
    if it fits), the rest is for images on their way.

    Attributes:
        kind: `resident` (each machine keeps one decoded copy), `stream` (Ray Data reads while trials train; for data
            larger than memory), or `auto`: resident if all decoded images fit into half the memory.
        memory_bytes: Of a stream: memory for images of each trial.
        scratch_bytes: Of a stream: disk of each trial for images that wait; 0 reads the dataset anew for every window.
        scratch_dir: Of a stream: folder for them; null takes one in the cache (`FAIRSWEEP_CACHE`).
        readers: Of a stream: tasks that read at once for a trial; null leaves it to Ray.
    """

    kind: FeedWish = "auto"

    def limits(self) -> StreamLimits:
        """Return the limits alone."""
        return StreamLimits.model_validate(self.model_dump(exclude={"kind"}))


def _tied_or_crossed(raw: object) -> object:
    if isinstance(raw, bool) or not isinstance(raw, int | Mapping | SeedsSection):
        raise ValueError(f"seeds must be a number, or {{data: 1, train: 5}}, but got {raw!r}")
    return raw


SeedsField = Annotated[
    Annotated[int, Field(ge=1)] | SeedsSection,
    BeforeValidator(_tied_or_crossed),
    PlainSerializer(lambda seeds: seeds if isinstance(seeds, int) else seeds.given()),
]


class ShadowsSection(Section):
    """Shadow trials of every setting, whose examples are in or out independently; a number stands for its `count`."""

    count: int = Field(ge=4, description="Number of shadow trials, each with seeds of its own.")
    candidates: int = Field(
        default=1000,
        ge=10,
        description="Examples that every shadow predicts at its end, trained on or not, in equal parts from each "
        "combination of groups and label.",
    )


class AnalysisSection(Section):
    """How the report judges results; changes no trial."""

    margin: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Largest difference in accuracy that does not matter, as a share: the report then says where "
        "results are equivalent within it, and what would decide the others; null tests no equivalence.",
    )
    min_group_size: int = Field(
        default=20,
        ge=1,
        description="Groups with fewer test examples (people, where the data names them) are listed in tables but not "
        "ranked: they take no part in worst groups, gaps, verdicts and selection.",
    )


def _shadow_count(raw: object) -> object:
    return {"count": raw} if isinstance(raw, int) and not isinstance(raw, bool) else raw


ShadowsField = Annotated[ShadowsSection, BeforeValidator(_shadow_count)]


def _feed_word(raw: object) -> object:
    return {"kind": raw} if isinstance(raw, str) else raw


def _every_fold(raw: object) -> object:
    """Return a division into folds that names none of them trains on each."""
    if isinstance(raw, Mapping) and len(raw) == 1 and isinstance(raw.get("grid", raw.get("choice")), list | tuple):
        return {kind: [_every_fold(value) for value in values] for kind, values in raw.items()}
    if isinstance(raw, Mapping) and raw.get("kind") == "folds" and "fold" not in raw:
        folds = raw.get("folds")
        if isinstance(folds, int) and folds > _MOST_FOLDS:
            raise ValueError(f"a split must have at most {_MOST_FOLDS:,} folds, but got {folds=:,}")
        if isinstance(folds, int) and not isinstance(folds, bool) and folds >= 2:
            return dict(raw) | {"fold": {"grid": list(range(folds))}}
    return raw


FeedField = Annotated[FeedSection, BeforeValidator(_feed_word)]
SplitField = Annotated[SpaceField, BeforeValidator(_every_fold)]


def _rest_of(fields: Mapping[str, Any], found: SweepError) -> tuple[SweepError, ...]:
    """Return what else is wrong with a sweep.

    Learners and the like are checked only where all other fields are valid.
    """
    wrong = {str(error.location[0]) for error in found.each if error.location}
    if (
        not wrong & fields.keys()
        or wrong & {"learners", "search", "trials_at_most"}
        or fields.keys() - SweepSpec.model_fields.keys()
    ):
        return ()  # what would be found follows from these
    rest = {name: value for name, value in fields.items() if name not in wrong}
    try:
        SweepSpec(**(rest if "dataset" in rest else rest | {"dataset": _SOME_DATASET}))
    except SweepError as error:
        return error.each
    return ()


class SweepSpec(Section):
    """A sweep: everything that is trained, on what, and where the results go.

    >>> sweep = SweepSpec(
    ...     dataset={"path": "data/faces", "label": "smiling", "groups": ["tone"]},
    ...     imbalance={"attribute": "tone", "majority": "light", "share": {"grid": [0.5, 0.9]}, "size": 4000},
    ...     learners=[{"kind": "sgd", "name": "plain"}],
    ... )
    >>> sweep.seeds
    1
    """

    name: str = Field(
        default="sweep",
        min_length=1,
        description="Name of the sweep, used in titles and in `output`: letters, digits, `.`, `_` and `-`.",
    )
    dataset: DatasetSection = Field(description="The prepared dataset and the parts of its attributes. Required.")
    imbalance: SpaceField | None = Field(
        default=None,
        description="How the training set is made imbalanced: `share`, `minority_size` or `keep`; null takes all.",
    )
    model: SpaceField = Field(
        default_factory=lambda: Space.parse({}),
        description="The model: `linear`, `cnn` (default), `resnet18`, a network of torchvision, or your own.",
    )
    own_code: dict[str, str] = Field(
        default_factory=dict,
        description="Source of each file or module that something is named from; filled in by fairsweep when a sweep "
        "is made, and what a resume uses.",
    )
    metrics: tuple[str, ...] = Field(
        default=(),
        description="Rates and scores that tables and the report show beside the accuracy: those of fairsweep by name, "
        "or your own, `FILE.py:NAME`.",
    )
    learners: Annotated[tuple[SpaceField, ...], Field(min_length=1)] = Field(
        description="The training methods that are compared, each with a `name`. `twin_of: NAME` makes the twin of a "
        "private one: the same without its privacy. Required."
    )
    split: SplitField | None = Field(
        default=None,
        description="Which examples are trained on and which are evaluated: `official` (as prepared; null), `folds`, "
        "`hold_out` or `rest`.",
    )
    evaluation: EvaluationConfig = Field(
        default=EvaluationConfig(),
        description="The fixed test set, and in `validation` the validation set; by default the whole splits.",
    )
    seeds: SeedsField = Field(
        default=1,
        description="Replicates: `5` ties both seeds, `{data: 2, train: 5}` crosses them.",
    )
    shadows: ShadowsField | None = Field(
        default=None,
        description="Trains so many times on a random half of the training set instead of `seeds`, so that "
        "`fairsweep audit` can ask who is recognised as trained on; null: no shadows.",
    )
    trials_at_most: int = Field(
        default=100_000, ge=1, description="A sweep with more trials than this is refused: a typo can create many."
    )
    search: SearchSection = Field(default=SearchSection(), description="How search dimensions get their values.")
    scheduler: SchedulerSection = Field(
        default=SchedulerSection(), description="Which trials end early because others do better."
    )
    stop: StopSection = Field(default=StopSection(), description="Rules that end a trial early.")
    resources: ResourcesSection = Field(default=ResourcesSection(), description="Resources that one trial reserves.")
    feed: FeedField = Field(
        default=FeedSection(), description="Where images come from: `auto`, `resident`, `stream`, or a section."
    )
    failures: FailuresSection = Field(default=FailuresSection(), description="What happens when a worker dies.")
    checkpoints: CheckpointsSection = Field(default=CheckpointsSection(), description="Which checkpoints are written.")
    privacy: PrivacySection = Field(default=PrivacySection(), description="`research` or `release`.")
    analysis: AnalysisSection = Field(
        default=AnalysisSection(), description="How the report judges results; changes no trial."
    )
    mirror: MirrorSection | None = Field(
        default=None,
        description="Where the sweep is copied while it runs, so that it can be resumed from there; null: nowhere.",
    )
    tracking: TrackingField | None = Field(
        default=None, description="Where else trials are tracked: `[tensorboard, wandb]`, or a section; null: nowhere."
    )
    output: PlaceField | None = Field(
        default=None,
        description="Folder of the results: local, or a URI (`s3://bucket/x`); by default `runs/NAME`.",
    )

    def __init__(self, **fields: Any) -> None:  # noqa: ANN401 - a value of each field, or what stands for it
        """Make a sweep of its fields.

        Raises:
            SweepError: on what is wrong, in one line, as from a file.
        """
        try:
            super().__init__(**fields)
        except ValidationError as error:
            found = clear_error(error, type(self), fields)
            raise SweepError(found.message, found.location, [*found.others, *_rest_of(fields, found)]) from error

    @model_validator(mode="before")
    @classmethod
    def _settle(cls, given: object) -> object:
        if not isinstance(given, Mapping):
            return given
        fields = plain(given)
        check_renamed(fields)
        return with_own_code(settle_paths(fields))

    @field_validator("metrics", "tracking")
    @classmethod
    def _check_own(cls, value: Any, known: ValidationInfo) -> Any:  # noqa: ANN401 - of either field
        own_code = known.data.get("own_code", {})
        if known.field_name == "metrics" and value:
            from fairsweep.analysis.metrics.own_metrics import named_metric  # which imports scipy

            for name in value:
                named_metric(name, own_code)
        for name in value.own if known.field_name == "tracking" and value else ():
            check_tracker(name, own_code)
        return value

    @model_validator(mode="after")
    def _check_sections(self) -> Self:
        if self.output is None:
            check_name(self.name, "a sweep", ("name",))
        if self.shadows is not None and self.seeds != 1:
            raise ValueError("shadows have seeds of their own, but the sweep has seeds too: leave seeds out")
        seeds = self.seeds if self.shadows is None else self.shadows.count
        replicates = seeds if isinstance(seeds, int) else seeds.count
        check_count(self, replicates, self.trials_at_most)
        check_addresses(self.model_dump(mode="json"))
        check_sections(self)
        return self

    @property
    def folder(self) -> Path:
        """The output folder; where it is on another file system, the folder of this machine that stands for it."""
        if self.remote is not None:
            return working_folder(self.remote)
        return settled(Path(self.output) if self.output is not None else _RUNS / self.name)

    @property
    def remote(self) -> str | None:
        """URI of the output folder; None for a local one."""
        return uri_of(self.output)

    @classmethod
    def from_mapping(cls, content: Mapping[str, Any]) -> Self:
        """Make a sweep of plain values, as they stand in a sweep file.

        Raises:
            SweepError: on the first thing that is wrong, in one line, with its place.
        """
        return cls(**{str(name): value for name, value in content.items()})

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Read and check a sweep file.

        Raises:
            SweepError: on the first thing that is wrong, in one line, with file and line.
        """
        source = SweepSource.read(path)
        try:
            return cls.from_mapping(source.content)
        except SweepError as error:
            raise source.error(error) from error
