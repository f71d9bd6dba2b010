"""Check every value that a dimension of a sweep can take, before the sweep exists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from fairsweep.sweeps.spec.sections import (
    LearnerSection,
    Spaces,
    draw_purpose,
    imbalance_at,
    learner_sections,
    listed_part,
    model_at,
    points,
    samples,
    split_at,
)
from fairsweep.sweeps.syntax.dimensions import Point, Space
from fairsweep.sweeps.syntax.errors import SweepError, check_each


def check_sections(sweep: Spaces) -> None:
    """Check every value that any dimension can take.

    Raises:
        SweepError: on the first that is not valid, with its place in the sweep file.
    """
    learners = learner_sections(sweep)
    spaces: list[tuple[tuple[str | int, ...], Space | None]] = [
        (("imbalance",), sweep.imbalance),
        (("split",), sweep.split),
        (("model",), sweep.model),
    ]
    spaces += [(("learners", learner.position), learner.space) for learner in learners if learner.original is None]
    for place, space in spaces:
        if space is not None and space.drawn and sweep.search.algorithm == "grid":
            where, dimension = space.drawn[0]
            raise SweepError(
                f"{dimension.kind} draws values, which needs search: {{algorithm: random, samples: N}}; "
                "for a grid write {grid: [...]}",
                (*place, *where),
            )
    if sweep.search.is_guided or sweep.search.is_secret:
        _check_probes(sweep)
        return

    def each_value(space: Space | None, purpose: str, check: Callable[[Point], object]) -> None:
        outcomes: dict[str, list[SweepError | None]] = {}
        for sample in samples(sweep):
            for point in points(sweep, space, sample, purpose):
                outcomes.setdefault(listed_part(space, point), []).append(_error_of(check, point))
        for found in outcomes.values():
            _refuse_listed(sweep, found)

    def each_learner(which: Iterable[LearnerSection]) -> list[Callable[[], None]]:
        return [partial(each_value, one.space, draw_purpose(one), one.config) for one in which]

    check_each(
        [
            lambda: each_value(sweep.imbalance, "imbalance", partial(imbalance_at, sweep.imbalance)),
            lambda: each_value(sweep.split, "split", partial(split_at, sweep.split)),
            lambda: each_value(sweep.model, "model", partial(model_at, sweep)),
            *each_learner(one for one in learners if one.original is None),
        ]
    )
    # A twin has the errors of its original, which are said once.
    check_each(each_learner(one for one in learners if one.original is not None))


def _error_of(check: Callable[[Point], object], point: Point) -> SweepError | None:
    try:
        check(point)
    except SweepError as error:
        return error
    return None


def _refuse_listed(sweep: Spaces, found: Sequence[SweepError | None]) -> None:
    """Raise the first error of the draws at one combination of grid values if each has one: it lies in the file."""
    errors = [error for error in found if error is not None]
    if not errors or len(errors) < len(found):
        return
    first = errors[0]
    if len({str(error) for error in errors}) == 1:
        raise first
    raise SweepError(
        f"all {len(errors)} values that {sweep.search.algorithm} drew are refused; the first one because: "
        f"{first.message}",
        first.location,
        first.others,
    )


def _check_probes(sweep: Spaces) -> None:
    """Check the ends of every dimension of a search whose settings become known while it runs."""
    from fairsweep.sweeps.spec.search_space import SearchSpace

    for probe in SearchSpace(sweep).probes():
        imbalance, split, model = probe.shared
        imbalance_at(sweep.imbalance, imbalance)
        split_at(sweep.split, split)
        model_at(sweep, model)
        for learner, point in probe.learners:
            learner.config(point)
