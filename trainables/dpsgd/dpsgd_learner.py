"""DP-SGD: Poisson batches, per-example clipping, Gaussian noise, a constant denominator.

References:
    Abadi et al. 2016, "Deep learning with differential privacy", arXiv 1607.00133, algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator

from fairsweep.datasets.feeds.feed import Batch
from fairsweep.datasets.selection.user_units import most_of_one_user
from fairsweep.trainables.auditing.canaries import AuditConfig
from fairsweep.trainables.auditing.training_audit import audit_examples
from fairsweep.trainables.dpsgd.diagnostics import GroupDiagnostics
from fairsweep.trainables.dpsgd.gradient_modes import (
    GRADIENT_MODES,
    PerformanceConfig,
    choose_mode,
    physical_batch_size,
)
from fairsweep.trainables.dpsgd.mode_names import current_mode
from fairsweep.trainables.dpsgd.weighted_rates import check_weights, weights_of
from fairsweep.trainables.learning.learner import IterationReport, LearningTask, SingleModelLearner
from fairsweep.trainables.learning.learner_config import LearnerConfig, MeasuredChoice
from fairsweep.trainables.learning.roles import Roles
from fairsweep.trainables.models.augmentation import AugmentationConfig, augment
from fairsweep.trainables.models.inputs import normalise, to_device
from fairsweep.trainables.models.model import ModelConfig
from fairsweep.trainables.models.network import Network
from fairsweep.trainables.models.optimizers import OptimizerConfig
from fairsweep.trainables.privacy.clipping import Clipping
from fairsweep.trainables.privacy.gradients import ExampleGradients, GradientMode, Plain, add_finite, pad
from fairsweep.trainables.privacy.mechanism import SamplerName
from fairsweep.trainables.privacy.plan import PlanError, PrivacyPlan
from fairsweep.trainables.privacy.precision import full_precision
from fairsweep.trainables.privacy.privacy_numbers import (
    DELTA_RULE,
    Delta,
    NoiseMultiplier,
    check_budget,
    default_cut,
    default_delta,
)
from fairsweep.trainables.privacy.privacy_statement import Mode, PrivacyStatement
from fairsweep.trainables.privacy.sampling_weights import SamplingWeights
from fairsweep.trainables.remedies.class_weights import GivenClassWeights, refuse_learnt_remedy

AddClipped = Callable[
    [torch.Tensor, torch.Tensor, Clipping, Sequence[torch.Tensor], torch.Tensor | None], ExampleGradients
]


class DpsgdConfig(LearnerConfig):
    """Private training by example.

    Exactly one of ``epsilon`` and ``noise_multiplier`` is given. Ablations, all with infinite epsilon:

    ==================  ===================  ================  ============
    what                noise_multiplier     l2_clip_norm      clipping
    ==================  ===================  ================  ============
    clip only           0                    S                 flat
    noise only          z                    S                 none
    neither (the twin)  0                    null              none
    ==================  ===================  ================  ============

    Attributes:
        name: The learner's name in the sweep.
        epochs: Expected passes over the training set; an iteration is one of them. T = round(epochs / q) steps in all.
        batch_size: Expected size q n of a Poisson batch: q = batch_size / n. The constant denominator of every update.
        epsilon: The budget by PLD accounting; the noise is calibrated to it.
        noise_multiplier: z; the sum of clipped gradients gets noise of standard deviation z S.
        delta: Below 1/n; null takes the largest power of ten that is at most 1/(10 n).
        l2_clip_norm: The clipping norm S. None: no clipping, and then no noise either, which is measured in S.
        clipping: ``flat`` (one norm over all layers), ``per_layer`` (S/sqrt(L) for each of L layers) or ``none`` (S
            then only scales the noise). Left out, it is ``flat``, or ``none`` without ``l2_clip_norm``.
        sampler: ``poisson``; ``truncated_poisson``: cut at ``max_batch_size``, every batch padded to that size;
            ``weighted_poisson``: rates by group, see ``sampling_weights``; or ``shuffled`` (every example once an
            epoch), for which no epsilon is claimed.
        max_batch_size: Of ``truncated_poisson``: of more examples drawn, a random subset stays. Left out, it is qN +
            6 sqrt(qN), for which the cut is next to free; a smaller one is allowed, and its price accounted.
        sampling_weights: Of ``weighted_poisson``: an example joins a step with probability weight * batch_size / n, at
            most 1. The largest weight gives epsilon; each group's own is stated beside it.
        remedy: ``class_weights`` with numbers: each example's loss is multiplied by its class's weight before its
            gradient is clipped. Other remedies look at the training labels, and are for ``sgd``.
        optimizer: How the noised mean gradient changes the weights.
        augmentation: Random changes of the images, one for each example and step.
        performance: What changes speed, and results by rounding only.
        audit: Canaries among the training examples, from which a lower bound on epsilon follows. None: no audit.
    """

    has_plan: ClassVar[bool] = True

    name: str = Field(default="dpsgd", min_length=1)
    kind: Literal["dpsgd"] = "dpsgd"
    epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=256, ge=1)
    epsilon: float | None = Field(default=None, gt=0)
    noise_multiplier: NoiseMultiplier | None = None
    delta: Delta | None = None
    l2_clip_norm: float | None = Field(default=1.0, gt=0)
    clipping: Literal["flat", "per_layer", "none"] = "flat"
    sampler: SamplerName = "poisson"
    max_batch_size: int | None = Field(default=None, ge=1)
    sampling_weights: SamplingWeights | None = None
    remedy: GivenClassWeights | None = None
    optimizer: OptimizerConfig = OptimizerConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    performance: PerformanceConfig = PerformanceConfig()
    audit: AuditConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_norm_means_no_clipping(cls, given: Any) -> Any:  # noqa: ANN401 - pydantic hands over whatever was given
        if isinstance(given, Mapping) and "clipping" not in given and given.get("l2_clip_norm", 1.0) is None:
            return {**given, "clipping": "none"}
        return given

    @model_validator(mode="before")
    @classmethod
    def _takes_constants_only(cls, given: Any) -> Any:  # noqa: ANN401 - pydantic hands over whatever was given
        if isinstance(given, Mapping):
            refuse_learnt_remedy(given.get("remedy"))
        return given

    @model_validator(mode="after")
    def _check_sampler(self) -> Self:
        for field, sampler in (("max_batch_size", "truncated_poisson"), ("sampling_weights", "weighted_poisson")):
            if getattr(self, field) is not None and self.sampler != sampler:
                raise ValueError(
                    f"{field} belongs to sampler: {sampler}, but got sampler={self.sampler!r}: set that sampler, or "
                    f"leave {field} out"
                )
        if self.sampler == "weighted_poisson" and self.sampling_weights is None:
            raise ValueError(
                "sampler weighted_poisson needs sampling_weights, for example {attribute: tone, weights: {dark: 2.0}}"
            )
        return self

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_budget(self.epsilon, self.noise_multiplier, self.clipping, self.l2_clip_norm)
        if self.sampler == "shuffled" and self.epsilon is not None:
            raise ValueError(
                f"epsilon={self.epsilon} needs sampler 'poisson', but got 'shuffled': amplification by sampling is "
                "proven for Poisson batches, and shuffled ones can cost far more (Chua et al. 2024, arXiv 2403.17673); "
                "set sampler: poisson, or give noise_multiplier, for which no epsilon is then claimed"
            )
        if self.clipping == "per_layer" and self.performance.gradient_mode == "ghost":
            raise ValueError("gradient_mode ghost supports flat clipping only: choose another for clipping: per_layer")
        return self

    @property
    def rules(self) -> dict[str, str]:
        """Return the rule of the default of delta, where epsilon is claimed at it."""
        return DELTA_RULE if self.delta is None and (self.epsilon or self.noise_multiplier) else {}

    def check_release(self) -> None:
        """Refuse ablations, which claim nothing."""
        if not (self.epsilon or self.noise_multiplier) or self.clipping == "none" or self.sampler == "shuffled":
            super().check_release()

    def check_model(self, model: ModelConfig) -> None:
        """Refuse models that have no per-example gradients: those with BatchNorm."""
        if model.mixes_examples:
            raise ValueError(
                f"a private learner cannot train {model.name} with norm='batch': BatchNorm mixes the examples of a "
                "batch, so no single example's contribution can be bounded, and its running statistics would be "
                "published without noise; set norm: group (the default)"
            )

    def check_values(self, roles: Roles) -> None:
        """Refuse what sampling weights and class weights name and does not exist."""
        if self.sampling_weights is not None:
            check_weights(self.sampling_weights, roles)
        if self.remedy is not None:
            self.remedy.check(roles)

    def plan(self, units: int) -> PrivacyPlan:
        """Make the privacy plan for so many examples."""
        return PrivacyPlan.build(self, units)

    def draft(self, population: int, noise_multiplier: float) -> PrivacyPlan:
        """Make the plan with this noise, whatever it costs."""
        if not 1 <= self.batch_size <= population:
            raise PlanError(
                f"batch_size must be at most the training set's size {population}, but got "
                f"batch_size={self.batch_size}: it is the expected size of a Poisson batch; lower it"
            )
        steps = round(self.epochs * population / self.batch_size)
        if self.sampler == "shuffled":
            steps = self.epochs * math.ceil(population / self.batch_size)
        cut = None
        if self.sampler == "truncated_poisson":
            cut = min(self.max_batch_size or default_cut(self.batch_size), population)
        return PrivacyPlan(
            sampler=self.sampler,
            population=population,
            sampling_rate=self.batch_size / population,
            steps=steps,
            clipping=self.clipping,
            l2_clip_norm=self.l2_clip_norm,
            noise_multiplier=noise_multiplier,
            delta=default_delta(population) if self.delta is None else self.delta,
            target_epsilon=self.epsilon,
            max_batch_size=cut,
            sampling_weights=self.sampling_weights,
        )

    def twin(self, name: str) -> DpsgdConfig:
        """Return the config that differs in privacy alone: no clipping, no noise, Poisson batches.

        Under the same keys it starts from the same weights and sees the same augmented images; it keeps sampling
        weights and class weights.
        """
        public = self.model_dump(exclude={"name", "epsilon", "noise_multiplier", "delta", "l2_clip_norm", "clipping"})
        return DpsgdConfig(**public, name=name, noise_multiplier=0.0, l2_clip_norm=None, clipping="none")

    def choice(self, model: ModelConfig, device: torch.device) -> MeasuredChoice | None:
        """Return how the gradient mode is chosen, where it is to be measured."""
        if self.performance.gradient_mode != "auto" or self.clipping == "none":
            return None
        clipping = Clipping(self.clipping, self.l2_clip_norm)
        batch = physical_batch_size(self.performance, model, device)

        def settle(mode: str) -> DpsgdConfig:
            performance = self.performance.model_copy(update={"gradient_mode": mode})
            return self.model_copy(update={"performance": performance})

        return MeasuredChoice(
            self.clipping,
            f"{self.clipping} batch {batch}",
            lambda shape, classes: choose_mode(model, shape, classes, clipping, device, batch).mode,
            settle,
        )


class Dpsgd(SingleModelLearner):
    """Trains one model privately; see `Learner` for what it offers.

    Args:
        config: How.
        task: On what.
        plan: The privacy plan, if it was made before; it is verified. None makes it here.

    Attributes:
        plan: The privacy plan: sampler, clipping, noise and accounting all come from it.
    """

    config = DpsgdConfig

    def __init__(self, config: DpsgdConfig, task: LearningTask, plan: PrivacyPlan | None = None) -> None:
        super().__init__(config, task)
        config.check_model(task.model)
        if plan is not None:
            plan.verify(config, task.size)
        self.iterations = config.epochs
        self.plan = plan or config.plan(task.size)
        self._config = config
        self._task = task
        self._physical = physical_batch_size(config.performance, task.model, task.device)
        self._clipping = self.plan.bound()
        self._noise = self.plan.noise(task.keys.secret, task.keys.run)
        self._rates = None if config.sampling_weights is None else weights_of(config.sampling_weights, task)
        self._sampler = self.plan.inclusion(task.keys.secret, task.keys.run, self._rates)
        self._network = Network(
            task.model, task.image_shape, task.classes, config.optimizer, self.plan.steps, task.keys.train, task.device
        )
        labels, model = task.labels, self._network.model
        self._audit = audit_examples(config.audit, task, self.plan, self._sampler, self._rates, model)
        if self._audit is not None:
            self._sampler, labels = self._audit.sampler, self._audit.labels
        self._labels = torch.from_numpy(np.asarray(labels, dtype=np.int64)).to(task.device)
        self._loss_weights: torch.Tensor | None = None
        if config.remedy is not None:
            self._loss_weights = torch.from_numpy(config.remedy.of(task)).float().to(task.device)
        # All sums lie in one vector, so that noise is one draw and one addition; the parts are views of it.
        self._total = torch.zeros(sum(p.numel() for p in self._network.parameters), device=task.device)
        pieces = torch.split(self._total, [p.numel() for p in self._network.parameters])
        self._sums = [piece.view_as(p) for piece, p in zip(pieces, self._network.parameters, strict=True)]
        self._mode: GradientMode | None = None
        self._diagnostics: GroupDiagnostics | None = None

    @property
    def gradient_mode(self) -> str:
        """How per-example gradients are computed; ``auto`` is measured at the first call."""
        return self._gradients().name

    def facts(self) -> dict[str, str]:
        """Return what was chosen by measuring, and for which kind of device: public, and the same for a seed more."""
        return {"gradient_mode": self.gradient_mode, "device": self._task.device.type}

    @full_precision()
    def _iterate(self) -> IterationReport:
        """Do one iteration: the steps that belong to one expected pass over the training set."""
        if self._task.diagnostics:
            self._diagnostics = self._diagnostics or GroupDiagnostics(
                self._task, self._network, self._gradients().name == Plain.name, self._loss_weights
            )
            self._diagnostics.restart()
        start, stop = self.steps_after(self.iteration), self.steps_after(self.iteration + 1)
        loss_sum = torch.zeros((), device=self._task.device)
        examples = 0
        for batch in self._task.feed.batches(self._task.rows, self._sampler, start=start, stop=stop):
            loss_sum += self._accumulate(batch)
            examples += len(batch.positions)
            if self._audit is not None:
                self._audit.add_to(self._total, batch.step, self._clipping)
            self._noise.add_to(self._total, batch.step)
            self._total.div_(self.plan.expected_batch_size)
            if self._audit is not None:
                self._audit.observe(self._total, self._noise.std)
            if self._diagnostics is not None:
                self._diagnostics.measure(batch.step - start, stop - start, self._sums)
            for parameter, gradient in zip(self._network.parameters, self._sums, strict=True):
                parameter.grad = gradient
            self._network.update(batch.step)
        self.iteration += 1
        return self._report(loss_sum, examples, stop - start)

    def steps_after(self, iteration: int) -> int:
        """Return how many steps are done after so many iterations: T times their share, rounded."""
        return round(self.plan.steps * iteration / self.iterations)

    def _accumulate(self, batch: Batch) -> torch.Tensor:
        """Sum a logical batch's clipped gradients, one physical batch after another; returns the sum of losses."""
        self._total.zero_()
        parts = [self._add_part(batch, start, self._gradients().add_clipped) for start in self._starts(batch)]
        if self._clipping.kind != "none" and not bool(self._total.sum().isfinite()):
            self._total.zero_()
            parts = [
                self._add_part(batch, start, partial(add_finite, self._gradients())) for start in self._starts(batch)
            ]
        if self._diagnostics is not None:
            for positions, gradients in parts:
                self._diagnostics.count(positions, gradients)
        losses = [gradients.losses.sum() for _, gradients in parts]
        return torch.stack(losses).sum() if losses else torch.zeros((), device=self._task.device)

    def _starts(self, batch: Batch) -> range:
        """Return where physical batches begin; padded ones are as many in every step."""
        return range(0, self.plan.max_batch_size or len(batch.positions), self._physical)

    def _add_part(self, batch: Batch, start: int, add: AddClipped) -> tuple[torch.Tensor, ExampleGradients]:
        """Add the clipped gradients of one physical batch to the total; returns its positions and what is known."""
        part = slice(start, start + self._physical)
        inputs = normalise(to_device(batch.images[part], self._task.device))
        inputs = augment(inputs, self._config.augmentation, self._task.keys.train, batch.step, batch.ids[part])
        positions = torch.from_numpy(batch.positions[part]).to(self._task.device)
        labels = self._labels[positions]
        weights = None if self._loss_weights is None else self._loss_weights[positions]
        if self.plan.max_batch_size is None:
            return positions, add(inputs, labels, self._clipping, self._sums, weights)
        size = min(self._physical, self.plan.max_batch_size - start)
        padded = pad(inputs, labels, weights, size)
        return positions, add(*padded[:2], self._clipping, self._sums, padded[2]).first(len(positions))

    def _gradients(self) -> GradientMode:
        """Return the gradient mode, chosen at the first call."""
        if self._mode is None:
            name: str = self._config.performance.gradient_mode
            if self._clipping.kind == "none":
                name = "plain"
            elif name == "auto":
                task = self._task
                name = choose_mode(
                    task.model, task.image_shape, task.classes, self._clipping, task.device, self._physical
                ).mode
            self._mode = self._make_mode(name)
        return self._mode

    def _make_mode(self, name: str) -> GradientMode:
        return Plain(self._network.model) if name == Plain.name else GRADIENT_MODES[name](self._network.model)

    def _report(self, loss_sum: torch.Tensor, examples: int, steps: int) -> IterationReport:
        """Make the report; in release mode of public numbers only."""
        if not self._task.diagnostics:
            expected = round(steps * self.plan.expected_examples(self._rates))
            return IterationReport(self.iteration, math.nan, expected, steps)
        loss = float(loss_sum) / examples if examples else math.nan
        diagnostics = self._diagnostics.report() if self._diagnostics is not None else ()
        return IterationReport(self.iteration, loss, examples, steps, diagnostics=diagnostics)

    def _state(self) -> dict[str, Any]:
        return {
            "network": self._network.state(),
            "gradient_mode": self.gradient_mode,
            "plan": self.plan.model_dump(mode="json"),
            **({} if self._audit is None else {"audit": self._audit.state()}),
        }

    def _load(self, state: Mapping[str, Any]) -> None:
        """Take over a state, with the gradient mode that it was made with."""
        if not self.plan.accounts_for(state["plan"]):
            raise ValueError(
                "state was made under another privacy plan: its spent budget is not what this config would account "
                "for; restore it with the config that made it"
            )
        self._network.load(state["network"])
        if self._audit is not None:
            self._audit.load(state["audit"])
        self._mode = self._make_mode(str(current_mode(state["gradient_mode"])))

    def files(self) -> dict[str, Callable[[Path], None]]:
        """Return what writes the scores of an audit's canaries."""
        return {} if self._audit is None else self._audit.files(self.predict)

    def privacy(self, charged_steps: float | None = None) -> PrivacyStatement:
        """Return what has been spent so far."""
        mode: Mode = "research" if self._task.diagnostics else "release"
        done, users = self.steps_after(self.iteration), most_of_one_user(self._task.users)
        stated = self.plan.statement(done, mode, charged_steps, users, lost=len(self._task.former_secrets))
        return stated if self._audit is None else self._audit.state_assumption(stated)
