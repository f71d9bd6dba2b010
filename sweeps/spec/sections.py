"""The sections of a sweep whose fields can be search dimensions, and the typed configs at each of their points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel, TypeAdapter, ValidationError

from fairsweep.analysis.own_code import is_file, place_of
from fairsweep.datasets.selection.division import SPLIT_KINDS, OfficialSplit
from fairsweep.datasets.selection.imbalance import ImbalanceConfig
from fairsweep.datasets.selection.randomness import seed_key
from fairsweep.sweeps.spec.privacy_section import PrivacySection
from fairsweep.sweeps.spec.resources import ResourcesSection
from fairsweep.sweeps.spec.search_section import SearchSection
from fairsweep.sweeps.spec.sobol import SobolDraws
from fairsweep.sweeps.syntax.dimensions import Point, Space
from fairsweep.sweeps.syntax.errors import Location, SweepError
from fairsweep.sweeps.syntax.names import check_name
from fairsweep.sweeps.syntax.other_tools import KINDS
from fairsweep.sweeps.syntax.sweep_file import nearest
from fairsweep.sweeps.syntax.validation import clear_error
from fairsweep.trainables.learners import LEARNERS, learner_type
from fairsweep.trainables.models.model import NEW_INITIAL, ModelConfig
from fairsweep.trainables.models.models import DEFAULT_MODEL, FAMILIES, MODELS, model_type

_IMBALANCE: TypeAdapter[Any] = TypeAdapter(ImbalanceConfig)
_SPLIT_KIND: Location = ("split", "kind")
_SECTION_FIELDS = ("resources",)
_INITIAL = "initial"
_TWIN_FIELDS = ("name", "twin_of", "resources")
SHARED = ("imbalance", "split", "model")
"""The sections with search dimensions that all learners share."""


class Spaces(Protocol):
    """What a sweep's settings are enumerated from."""

    @property
    def learners(self) -> tuple[Space, ...]: ...  # noqa: D102
    @property
    def imbalance(self) -> Space | None: ...  # noqa: D102
    @property
    def split(self) -> Space | None: ...  # noqa: D102
    @property
    def model(self) -> Space: ...  # noqa: D102
    @property
    def own_code(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def resources(self) -> ResourcesSection: ...  # noqa: D102
    @property
    def search(self) -> SearchSection: ...  # noqa: D102
    @property
    def privacy(self) -> PrivacySection: ...  # noqa: D102


@dataclass(frozen=True)
class LearnerSection:
    """One entry of ``learners``.

    Attributes:
        name: its name in the sweep.
        position: its place in the list.
        space: its fields; a twin has those of its original.
        original: name of the learner that it is the twin of, or None.
        resources: what one of its trials reserves.
        own_code: text of each file that learners are named from.
        shared_noise: noise multiplier of private learners that give no privacy of their own; None where each does.
    """

    name: str
    position: int
    space: Space
    original: str | None
    resources: ResourcesSection
    own_code: Mapping[str, str]
    shared_noise: float | None = None

    def config(self, point: Point) -> Any:  # noqa: ANN401 - a member of the union LearnerConfig
        """Return the typed config at a point.

        Raises:
            SweepError: if the values are not valid together.
        """
        content = self.space.at(point)
        place: Location = ("learners", self.position)
        if is_file(kind := content.get("kind")):
            content = {**content, "source": self.own_code.get(place_of(kind))}
        model = _model_of_kind(content, place)
        if self.shared_noise is not None and "epsilon" in model.model_fields:
            content = {**content, "noise_multiplier": _noise_of(content, self.shared_noise, place)}
        config = _validated(model, {"name": self.name, **content}, place)
        if self.original is None:
            return config
        try:
            return config.model_copy(update={"name": self.original}).twin(self.name)
        except ValueError as error:
            raise SweepError(str(error), place) from error


def learner_sections(sweep: Spaces) -> tuple[LearnerSection, ...]:
    """Return the learners of a sweep, twins resolved.

    Raises:
        SweepError: if two have one name, or a twin's original does not exist.
    """
    by_name: dict[str, Space] = {}
    names = []
    for position, space in enumerate(sweep.learners):
        name = space.raw.get("name", space.raw.get("kind"))
        place: Location = ("learners", position, "name")
        if not isinstance(name, str) or not name:
            raise SweepError("a learner needs a name that no other learner has", place)
        check_name(name, "a learner", place)
        if name in by_name:
            raise SweepError(f"two learners have the name {name!r}; rename one", place)
        by_name[name] = space
        names.append(name)
    return tuple(_section(sweep, position, name, by_name) for position, name in enumerate(names))


def _section(sweep: Spaces, position: int, name: str, by_name: Mapping[str, Space]) -> LearnerSection:
    space = by_name[name]
    place: Location = ("learners", position)
    resources, noise = sweep.resources, sweep.privacy.shared_noise
    if "resources" in space.raw:
        resources = _validated(type(resources), space.raw["resources"], (*place, "resources"))
    if "twin_of" not in space.raw:
        return LearnerSection(name, position, space.without(*_SECTION_FIELDS), None, resources, sweep.own_code, noise)
    for field in space.raw:
        if field not in _TWIN_FIELDS:
            raise SweepError(
                f"a twin takes every field except its privacy from its original, so it cannot have {field!r}; "
                "delete it, or write the learner out in full",
                (*place, field),
            )
    original = space.raw["twin_of"]
    if original not in by_name:
        raise SweepError(
            f"there is no learner {original!r}: {nearest(str(original), list(by_name))}", (*place, "twin_of")
        )
    if "twin_of" in by_name[original].raw:
        raise SweepError(f"{original!r} is a twin itself; name the learner it is a twin of", (*place, "twin_of"))
    fields = by_name[original].without("name", *_SECTION_FIELDS)
    return LearnerSection(name, position, fields, original, resources, sweep.own_code, noise)


def _noise_of(content: Mapping[str, Any], shared: float, place: Location) -> float:
    """Return the noise multiplier of a private learner whose sweep has a budget.

    Raises:
        SweepError: if it has a budget or noise of its own.
    """
    if content.get("epsilon") is None and content.get("noise_multiplier") in (None, 0):
        return shared if content.get("noise_multiplier") is None else 0.0
    name = "epsilon" if content.get("epsilon") is not None else "noise_multiplier"
    raise SweepError(
        f"privacy.epsilon_sweep sets the noise of every private learner, but got {name}={content[name]}: leave {name} "
        "out, or epsilon_sweep (noise_multiplier: 0, an ablation without a guarantee, may stay)",
        (*place, name),
    )


def imbalance_at(space: Space | None, point: Point) -> Any:  # noqa: ANN401 - a member of the union ImbalanceConfig, or None
    """Return the typed imbalance at a point; None takes the whole training split."""
    if space is None:
        return None
    content = space.at(point)
    if content is None:
        return None
    try:
        return _IMBALANCE.validate_python(content)
    except ValidationError as error:
        raise clear_error(error, ImbalanceConfig, content, ("imbalance",), tagged=True) from error


def split_at(space: Space | None, point: Point) -> Any:  # noqa: ANN401 - a member of the union SplitConfig
    """Return the typed split at a point; None is the dataset's own."""
    if space is None:
        return OfficialSplit()
    content = space.at(point)
    if content is None:
        return OfficialSplit()
    kind = content.get("kind") if isinstance(content, Mapping) else None
    if kind is None:
        raise SweepError(f"a split needs a kind ({', '.join(SPLIT_KINDS)})", ("split",))
    if kind not in SPLIT_KINDS:
        raise SweepError(f"there is no split of kind {kind!r}: {nearest(str(kind), list(SPLIT_KINDS))}", _SPLIT_KIND)
    return _validated(SPLIT_KINDS[kind], content, ("split",))


def model_at(sweep: Spaces, point: Point) -> ModelConfig:
    """Return the typed model at a point."""
    content = sweep.model.at(point)
    try:
        kind = model_type(content)
    except ValueError as error:
        raise SweepError(str(error), ("model", "name") if isinstance(content, Mapping) else ("model",)) from error
    if "source" in kind.model_fields and "source" not in content:
        content = {**content, "source": sweep.own_code[place_of(content["name"])]}
    if isinstance(sweep.model.raw.get("name"), Mapping) and _INITIAL not in kind.model_fields:
        content = {field: value for field, value in content.items() if field != _INITIAL}  # of others in its list
    others = {name: other for name, other in (MODELS | FAMILIES).items() if other is not kind}
    for field in content:
        having = [name for name, other in others.items() if field in other.model_fields]
        if having and field not in kind.model_fields and not kind.was_field(field, content[field]):
            raise SweepError(
                f"only {' and '.join(having)} {'has' if len(having) == 1 else 'have'} {field}: leave it out, or choose "
                f"{having[0]}",
                ("model", field),
            )
    config: ModelConfig = _validated(kind, content, ("model",))
    return config


def named_initial(model: Any, initial: str = NEW_INITIAL) -> Any:  # noqa: ANN401 - a section, or a value of a dimension
    """Return the section ``model`` with the name of its initial weights, where it has a choice and names none."""
    if not isinstance(model, Mapping) or _INITIAL in model:
        return model
    if len(model) == 1 and (kind := next(iter(model))) in KINDS:
        return {kind: [named_initial(value, initial) for value in model[kind]]}
    name = model.get("name", DEFAULT_MODEL.name)
    names = next(iter(name.values())) if isinstance(name, Mapping) else [name]
    has_choice = any(_INITIAL in MODELS[one].model_fields for one in names if one in MODELS)
    return {**model, _INITIAL: initial} if has_choice else model


def samples(sweep: Spaces) -> range:
    """Numbers of the samples of a search that draws them beforehand; a single one for a grid."""
    return range(sweep.search.samples or 1)


def points(sweep: Spaces, space: Space | None, sample: int, purpose: str) -> Iterator[Point]:
    """Return the points of one space in one sample; a section that is left out has one, empty, point."""
    if space is None:
        yield Point()
    elif sweep.search.algorithm == "sobol":
        draws = _sobol(sweep)
        yield from space.crossed(
            {place: dimension.at(draws.share(purpose, place, sample)) for place, dimension in space.drawn}
        )
    else:
        yield from space.points(sample, seed_key(sweep.search.seed, "search"), purpose)


def _sobol(sweep: Spaces) -> SobolDraws:
    spaces: dict[str, Space | None] = {name: getattr(sweep, name) for name in SHARED}
    spaces |= {draw_purpose(learner): learner.space for learner in learner_sections(sweep) if not learner.original}
    coordinates = [(name, place) for name, space in spaces.items() if space for place, _ in space.drawn]
    return SobolDraws(coordinates, seed_key(sweep.search.seed, "search"), sweep.search.samples or 1)


def listed_part(space: Space | None, point: Point) -> str:
    """Return what of a point the sweep file lists: the values of the grids, without those that were drawn."""
    drawn = {place for place, _ in space.drawn} if space is not None else set()
    return repr([(place, value) for place, value in point.values if place not in drawn])


def draw_purpose(learner: LearnerSection) -> str:
    """Return what keeps the draws of one learner apart from another's; a twin draws what its original draws."""
    return f"learner {learner.original or learner.name}"


def _model_of_kind(content: Mapping[str, Any], place: Location) -> type[BaseModel]:
    kind = content.get("kind")
    if kind is None:
        raise SweepError(f"a learner needs a kind ({', '.join(LEARNERS)}), or twin_of: NAME", place)
    try:
        return learner_type(kind, content.get("source") if is_file(kind) else None).config
    except ValueError as error:
        raise SweepError(str(error), (*place, "kind")) from error


def _validated(model: type[BaseModel], content: object, place: Location) -> Any:  # noqa: ANN401 - an instance of the model
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise clear_error(error, model, content, place) from error
