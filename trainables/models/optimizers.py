"""Optimisers."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from types import MethodType
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, cast

import torch
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from fairsweep.trainables.models.schedules import AnySchedule, ConstantSchedule, MilestoneSchedule

_Kind = TypeVar("_Kind", bound=torch.optim.Optimizer)


def _eager(kind: type[_Kind]) -> type[_Kind]:
    """Return a torch optimiser without what it does for ``torch.compile`` and for the profiler.

    For the first, which fairsweep does not use, each method would import the compiler when it is first called: 1.4
    seconds of every worker's start. For the second each step would enter and leave a record, which takes as long as
    the update of a small network.
    """
    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    bare: dict[str, Any] = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    step = torch.no_grad()(inspect.unwrap(kind.step))

    def init(self: torch.optim.Optimizer, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - torch's
        kind.__init__(self, *arguments, **options)
        self.step = MethodType(step, self)  # type: ignore[method-assign]

    return cast("type[_Kind]", type(kind.__name__, (kind,), {**bare, "step": step, "__init__": init}))


_SGD, _ADAM, _ADAMW = _eager(torch.optim.SGD), _eager(torch.optim.Adam), _eager(torch.optim.AdamW)


class OptimizerConfig(BaseModel, ABC):
    """How a gradient becomes a change of the weights. A private learner hands over the noised mean gradient.

    Attributes:
        name: Which optimiser.
        lr: Learning rate, positive.
        schedule: How the learning rate changes: ``constant``, ``milestones``, ``cosine`` or ``linear``.
        weight_decay: Factor of the L2 term added to the gradient, at least 0. It depends on the weights alone: no
            privacy cost.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    once: ClassVar[Mapping[str, Any]] = {}
    """Fields that earlier versions had for every optimiser, with the one value that this one may have of them."""
    decoupled: ClassVar[bool] = False
    """Whether the weights themselves decay, instead of a term in the gradient."""

    name: str
    lr: float = Field(default=0.1, gt=0)
    schedule: AnySchedule = ConstantSchedule()
    weight_decay: float = Field(default=0.0, ge=0)

    @property
    @abstractmethod
    def moments(self) -> int:
        """How many numbers it keeps for each weight from one step to the next."""

    @abstractmethod
    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimiser of these parameters, whose updates are functions of its state and the gradients."""

    def learning_rate(self, step: int, steps: int, epochs: float) -> float:
        """Return the learning rate of a step: a function of its position alone, so that nothing needs saving.

        Args:
            step: Position of the step, in [0, steps).
            steps: Number of steps of the whole training.
            epochs: Number of epochs of the whole training.

        Example:
            >>> config = SgdOptimizer(lr=1.0, schedule={"name": "milestones", "at": (0.5,)})
            >>> [config.learning_rate(step, 4, epochs=1) for step in range(4)]
            [1.0, 1.0, 0.1, 0.1]
        """
        return self.lr * self.schedule.factor(step, steps, epochs)

    @model_serializer(mode="wrap")
    def _dump(self, serialise: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        """Write what is hashed as earlier versions did, so that a trial that they knew keeps its identity."""
        values: dict[str, Any] = serialise(self)
        return values if info.context is None else self._as_before(values, everything=not info.exclude_defaults)

    def _as_before(self, values: dict[str, Any], *, everything: bool) -> dict[str, Any]:
        milestones: dict[str, Any] = {"milestones": [], "milestone_factor": 0.1}
        defaults = dict(milestones)
        if isinstance(self.schedule, MilestoneSchedule):
            milestones = {"milestones": list(self.schedule.at), "milestone_factor": self.schedule.by}
        elif not isinstance(self.schedule, ConstantSchedule):
            return values
        if self.schedule.warmup:
            return values
        kept = {name: value for name, value in values.items() if name != "schedule"}
        if everything:
            return {**self.once, **kept, **milestones}
        return kept | {name: value for name, value in milestones.items() if value != defaults[name]}


class SgdOptimizer(OptimizerConfig):
    """Stochastic gradient descent, with or without momentum.

    Attributes:
        name: ``sgd``: takes ``momentum`` and ``nesterov``.
        momentum: In [0, 1). A private learner applies it to the noised mean gradient, so it costs no privacy.
        nesterov: Whether the gradient is taken as if the momentum's step were done: Nesterov's momentum.
    """

    once: ClassVar[Mapping[str, Any]] = {"betas": [0.9, 0.999]}

    name: Literal["sgd"] = "sgd"
    momentum: float = Field(default=0.0, ge=0, lt=1)
    nesterov: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError(
                f"nesterov is a form of momentum, but got momentum={self.momentum:g}: set momentum, such as 0.9"
            )
        return self

    @property
    def moments(self) -> int:
        """How many numbers it keeps for each weight: the velocity, where there is momentum."""
        return int(self.momentum > 0)

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """Return torch's SGD."""
        momentum, decay = self.momentum, self.weight_decay
        # The fused kernels update all parameters in one call; on small models the default loop costs more than its
        # arithmetic.
        return _SGD(parameters, lr=self.lr, momentum=momentum, weight_decay=decay, nesterov=self.nesterov, fused=True)

    def _as_before(self, values: dict[str, Any], *, everything: bool) -> dict[str, Any]:
        unset = () if self.nesterov else ("nesterov",)
        former = {name: value for name, value in values.items() if name not in unset}
        return super()._as_before(former, everything=everything)


class AdamOptimizer(OptimizerConfig):
    """Adam (Kingma & Ba 2015, arXiv 1412.6980).

    Attributes:
        name: ``adam``: takes ``betas``.
        betas: Decay of the two moments, both in [0, 1).
    """

    once: ClassVar[Mapping[str, Any]] = {"momentum": 0.0}

    name: Literal["adam"]
    betas: tuple[float, float] = (0.9, 0.999)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be in [0, 1), but got betas={self.betas}")
        return self

    @property
    def moments(self) -> int:
        """How many numbers it keeps for each weight: both moments."""
        return 2

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """Return torch's Adam."""
        return _ADAM(parameters, lr=self.lr, betas=self.betas, weight_decay=self.weight_decay, fused=True)


class AdamwOptimizer(AdamOptimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv 1711.05101, algorithm 2).

    Attributes:
        name: ``adamw``: the same with decoupled weight decay.
        weight_decay: Share of each weight, times the learning rate, that is taken off in every step, at least 0. It
            depends on the weights alone: no privacy cost.
    """

    decoupled: ClassVar[bool] = True

    name: Literal["adamw"]  # type: ignore[assignment]

    def build(self, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """Return torch's AdamW."""
        return _ADAMW(parameters, lr=self.lr, betas=self.betas, weight_decay=self.weight_decay, fused=True)


_KINDS: Mapping[Any, type[OptimizerConfig]] = {"sgd": SgdOptimizer, "adam": AdamOptimizer, "adamw": AdamwOptimizer}
_FORMER = ("milestones", "milestone_factor")
_OTHERS = {"momentum": "momentum belongs to sgd", "betas": "betas belong to adam"}


def _set_aside(content: dict[str, Any], kind: type[OptimizerConfig]) -> None:
    """Take out fields that earlier versions had for every optimiser, and refuse values that would have no effect."""
    for field in set(content) & set(_OTHERS) - set(kind.model_fields):
        value = content.pop(field)
        if (list(value) if isinstance(value, tuple) else value) != kind.once.get(field):
            (own,) = set(_OTHERS) & set(kind.model_fields)
            raise ValueError(f"{_OTHERS[field]}, but name={content['name']!r} has {field}={value}: give {own} instead")


def _read(given: Any) -> Any:  # noqa: ANN401 - pydantic hands over whatever was given
    """Read a section without a name as ``sgd``, and one that an earlier version wrote as it was meant then."""
    if not isinstance(given, Mapping):
        return {"name": given} if isinstance(given, str) else given
    content = {"name": "sgd", **given}
    if isinstance(content["name"], str) and (kind := _KINDS.get(content["name"])) is not None:
        _set_aside(content, kind)
    former = {name: content.pop(name) for name in _FORMER if name in content}
    if former and "schedule" in content:
        raise ValueError(
            f"give schedule or, as earlier versions had it, {' and '.join(former)}, but got both: write schedule: "
            "{name: milestones, at: […], by: …}"
        )
    at, by = former.get("milestones", ()), former.get("milestone_factor", 0.1)
    return content | {"schedule": {"name": "milestones", "at": at, "by": by}} if at or by != 0.1 else content


_Optimizers = Annotated[SgdOptimizer | AdamOptimizer | AdamwOptimizer, Field(discriminator="name")]
AnyOptimizer = Annotated[_Optimizers, BeforeValidator(_read)]
"""A field that takes any optimiser; without a name ``sgd``."""


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group of an optimiser this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
