"""The config of DP-SGD."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator

from fairsweep.datasets.selection.partitions import TrainingColumns
from fairsweep.trainables.auditing.canaries import AuditConfig
from fairsweep.trainables.dpsgd.gradient_modes import (
    GRADIENT_MODES,
    NO_HALF_PRECISION,
    PerformanceConfig,
    choose_mode,
    mode_fault,
    physical_batch_size,
)
from fairsweep.trainables.dpsgd.weighted_rates import check_weights
from fairsweep.trainables.learning.learner_config import LearnerConfig, MeasuredChoice
from fairsweep.trainables.learning.roles import Roles
from fairsweep.trainables.learning.stack_member import what_keeps_alone
from fairsweep.trainables.models.augmentation import AugmentationConfig
from fairsweep.trainables.models.examination import Examined
from fairsweep.trainables.models.model import ModelConfig
from fairsweep.trainables.models.optimizers import AnyOptimizer, SgdOptimizer
from fairsweep.trainables.privacy.clipping import Clipping
from fairsweep.trainables.privacy.mechanism import SamplerName
from fairsweep.trainables.privacy.opacus_modes import NO_VIEWS, Ghost
from fairsweep.trainables.privacy.plan import PlanError, PrivacyPlan
from fairsweep.trainables.privacy.privacy_numbers import (
    DELTA_RULE,
    Delta,
    NoiseMultiplier,
    check_budget,
    default_cut,
    default_delta,
)
from fairsweep.trainables.privacy.sampling_weights import SamplingWeights
from fairsweep.trainables.remedies.class_weights import GivenClassWeights, refuse_learnt_remedy


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
        ema: Decay in (0, 1) of an exponential moving average of the weights, which is what is evaluated, kept and
            exported: 0.99 averages about the last 100 steps. Null: the last weights. It sees noised weights alone, so
            it costs no privacy.
        augmentation: Random changes of the images, one for each example and step.
        augmentation_multiplicity: K, how many changes of each example a step takes: the mean of their gradients is what
            is clipped, so an example counts as before, and so does epsilon (De et al. 2022, arXiv 2204.13650, section
            3.2). A step costs about K times as much.
        performance: What changes speed, and results by rounding.
        audit: Canaries among the training examples, from which a lower bound on epsilon follows. None: no audit.
    """

    has_plan: ClassVar[bool] = True
    later: ClassVar[frozenset[str]] = frozenset({"ema", "augmentation_multiplicity"})
    takes_features: ClassVar[bool] = True

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
    optimizer: AnyOptimizer = SgdOptimizer()
    ema: float | None = Field(default=None, gt=0, lt=1)
    augmentation: AugmentationConfig = AugmentationConfig()
    augmentation_multiplicity: int = Field(default=1, ge=1)
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
        self.optimizer.schedule.check_epochs(self.epochs)
        if self.sampler == "shuffled" and self.epsilon is not None:
            raise ValueError(
                f"epsilon={self.epsilon} needs sampler 'poisson', but got 'shuffled': amplification by sampling is "
                "proven for Poisson batches, and shuffled ones can cost far more (Chua et al. 2024, arXiv 2403.17673); "
                "set sampler: poisson, or give noise_multiplier, for which no epsilon is then claimed"
            )
        if self.augmentation_multiplicity > 1 and not self.augmentation.active:
            raise ValueError(
                f"augmentation_multiplicity={self.augmentation_multiplicity} takes the gradients of several changes of "
                "an image, but augmentation has none: set augmentation, such as {flip: true, crop: 2}, or leave it out"
            )
        if self.augmentation_multiplicity > 1 and self.performance.gradient_mode == "ghost":
            raise ValueError(f"augmentation_multiplicity={self.augmentation_multiplicity}: {NO_VIEWS}")
        if self.clipping == "per_layer" and self.performance.gradient_mode == "ghost":
            raise ValueError("gradient_mode ghost supports flat clipping only: choose another for clipping: per_layer")
        mode, precision = self.performance.gradient_mode, self.performance.precision
        if precision != "float32" and mode in NO_HALF_PRECISION:
            raise ValueError(
                f"gradient_mode {mode} has no precision {precision}: {NO_HALF_PRECISION[mode]}; choose bookkeeping, "
                "functorch or hooks"
            )
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
                "published without noise; set norm: group (the default), or norm: frozen where weights are published"
            )

    def check_network(self, name: str, examined: Examined) -> None:
        """Refuse networks that mix examples, and layers without per-example gradients in the mode that is asked for."""
        if examined.mixes_examples:
            raise ValueError(
                f"a private learner cannot train {name}, in which an example's logits depend on the others of its "
                "batch, so that no single example's contribution can be bounded: take the layer out that does so"
            )
        if self.clipping == "none" or not examined.is_foreign:
            return
        labels = torch.zeros(len(examined.images), dtype=torch.int64, device=examined.images.device)
        clipping, asked = Clipping(self.clipping, self.l2_clip_norm), self.performance.gradient_mode

        def fault(mode: str) -> str | None:
            known = examined.notes
            if (mode, clipping.kind) not in known:
                known[mode, clipping.kind] = mode_fault(mode, examined.network, examined.images, labels, clipping)
            return known[mode, clipping.kind]

        modes = [mode for mode in GRADIENT_MODES if mode != Ghost.name or self.augmentation_multiplicity == 1]
        if any(fault(mode) is None for mode in (modes if asked == "auto" else [asked])):
            return
        would_do = [mode for mode in modes if fault(mode) is None]
        raise ValueError(
            f"gradient_mode {asked} has no per-example gradients of {name} "
            f"({fault(modes[0] if asked == 'auto' else asked)}): "
            + (f"set gradient_mode: {' or '.join(would_do)}" if would_do else "no gradient_mode has, choose another")
        )

    def check_values(self, roles: Roles) -> None:
        """Refuse what sampling weights, class weights and an audit name and does not exist."""
        if self.sampling_weights is not None:
            check_weights(self.sampling_weights, roles)
        if self.remedy is not None:
            self.remedy.check(roles)
        if self.audit is not None:
            self.audit.check_values(roles)

    @property
    def divides_data(self) -> bool:
        """Whether `count_units` looks at more than the number of examples: who can be a canary."""
        return self.audit is not None

    def count_units(self, columns: TrainingColumns, data_key: bytes) -> int:
        """Count the training examples, and refuse too many canaries among them."""
        if self.audit is not None:
            self.audit.check_units(len(columns.rows), columns.attributes)
        return super().count_units(columns, data_key)

    @property
    def trains_alone(self) -> str:
        """See `LearnerConfig`."""
        if type(self) is not DpsgdConfig:
            return super().trains_alone
        if self.audit is not None:
            return "canaries are among the examples"
        return what_keeps_alone(self.optimizer, self.ema, self.augmentation, self.performance)

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
        views, precision = self.augmentation_multiplicity, self.performance.precision
        batch = physical_batch_size(self.performance, model, device, views=views)

        def measure(shape: tuple[int, int, int], classes: int) -> str:
            tail = self.frozen_body(model, shape, classes).tail
            size = physical_batch_size(self.performance, model, device, tail, views)
            return choose_mode(model, shape, classes, clipping, device, size, tail, views, precision).mode

        def settle(mode: str) -> DpsgdConfig:
            performance = self.performance.model_copy(update={"gradient_mode": mode})
            return self.model_copy(update={"performance": performance})

        return MeasuredChoice(
            f"{self.clipping} {precision}",
            f"{self.clipping} batch {batch}"
            + ("" if views == 1 else f" views {views}")
            + ("" if precision == "float32" else f" {precision}"),
            measure,
            settle,
        )
