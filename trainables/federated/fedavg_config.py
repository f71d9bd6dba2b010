"""The configs of federated training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fairsweep.datasets.selection.partitions import ClientsConfig, TrainingColumns, majority_values, partition_clients
from fairsweep.trainables.auditing.canaries import AuditConfig
from fairsweep.trainables.federated.server_optimizers import ServerConfig
from fairsweep.trainables.layers.numerics import PRIVATE_REFUSED, NumericsConfig
from fairsweep.trainables.learning.learner_config import LearnerConfig
from fairsweep.trainables.learning.roles import Roles
from fairsweep.trainables.models.augmentation import AugmentationConfig
from fairsweep.trainables.models.examination import Examined
from fairsweep.trainables.models.model import ModelConfig
from fairsweep.trainables.models.optimizers import AnyOptimizer, SgdOptimizer
from fairsweep.trainables.privacy.plan import PlanError, PrivacyPlan
from fairsweep.trainables.privacy.privacy_numbers import (
    DELTA_RULE,
    Delta,
    NoiseMultiplier,
    check_budget,
    default_delta,
)

# The count of adaptive clipping gets this share of the expected cohort as noise (Andrew et al. 2021, section 3.1).
_COUNT_NOISE = 1 / 20


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LocalConfig(_Frozen):
    """What a client does with the weights that it gets.

    Attributes:
        epochs: Passes over the client's examples, each in a fresh order; the last batch of a pass may be smaller.
        steps: Number of steps instead of epochs: passes begin anew until they are done. Null: epochs count.
        batch_size: Examples a step; null takes all of the client's.
        optimizer: How gradients change the client's weights. It starts anew in every round; its schedule is that of
            the rounds.
        proximal: Weight mu of the term mu/2 |w - w_round|^2 in the client's loss (FedProx, Li et al. 2020, arXiv
            1812.06127, equation 2).
    """

    epochs: int = Field(default=1, ge=1)
    steps: int | None = Field(default=None, ge=1)
    batch_size: int | None = Field(default=10, ge=1)
    optimizer: AnyOptimizer = SgdOptimizer()
    proximal: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.steps is not None and self.epochs != 1:
            raise ValueError(f"give epochs or steps, but got epochs={self.epochs} and steps={self.steps}: omit one")
        return self


class UpdateClippingConfig(_Frozen):
    """How the update of a client is bounded.

    Attributes:
        kind: ``flat`` (one norm over all layers), ``per_layer`` (S/sqrt(L) for each of L layers) or ``none`` (S then
            only scales the noise).
        l2_clip_norm: The clipping norm S; with ``quantile`` the one of the first round. Null: no clipping, and then no
            noise either, which is measured in S.
        quantile: S follows this quantile of the norms of the updates, in (0, 1), by noisy counts that share the
            guarantee (Andrew et al. 2021, arXiv 1905.03871, algorithm 1). Null: S is fixed.
        learning_rate: Of the quantile's estimate: S is multiplied by exp(-learning_rate (share below S - quantile)).
        count_noise: Standard deviation of the noise of the count; null takes a 20th of the expected cohort, or the
            noise multiplier where that is larger.
    """

    kind: Literal["flat", "per_layer", "none"] = "flat"
    l2_clip_norm: float | None = Field(default=1.0, gt=0)
    quantile: float | None = Field(default=None, gt=0, lt=1)
    learning_rate: float = Field(default=0.2, gt=0)
    count_noise: Annotated[NoiseMultiplier, Field(gt=0)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_norm_nothing_is_clipped(cls, given: Any) -> Any:  # noqa: ANN401 - pydantic hands over what was given
        if isinstance(given, Mapping) and given.get("l2_clip_norm", 1.0) is None and "kind" not in given:
            return {**given, "kind": "none"}
        return given

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind != "none" and self.l2_clip_norm is None:
            raise ValueError(
                f"clipping kind {self.kind!r} needs l2_clip_norm, but it is null: give it, or set kind to none"
            )
        if self.quantile is not None and self.kind != "flat":
            raise ValueError(
                f"a quantile adapts one norm over all layers (kind flat), but got kind={self.kind!r}: omit one"
            )
        if self.quantile is None and self.count_noise is not None:
            raise ValueError(f"count_noise belongs to a quantile, but quantile is null: got {self.count_noise}")
        return self


class FederatedPerformanceConfig(NumericsConfig):
    """What changes the speed of federated training, and results by rounding.

    Attributes:
        precision: ``float32``, or ``bfloat16`` or ``float16`` for the layers of clients' training passes (torch's
            autocast). Weights, updates, clipping, noise and evaluation stay in float32. Under ``float16`` losses are
            multiplied by 256, and gradients divided by it.
        execution: ``batched`` (many clients at once), ``sequential`` (one after the other), or ``auto``,
            which is chosen by model and device. ``resources: {workers: …}`` spreads either over further processes.
        clients_at_once: How many clients are batched; null takes what suits the device.
    """

    refused: ClassVar[Mapping[str, str]] = PRIVATE_REFUSED

    execution: Literal["auto", "batched", "sequential"] = "auto"
    clients_at_once: int | None = Field(default=None, ge=1)


class FederatedConfig(LearnerConfig):
    """What federated learners have in common.

    Attributes:
        name: The learner's name in the sweep.
        rounds: How often clients train and the server averages.
        rounds_per_iteration: Rounds between two evaluations.
        clients: How the training set is divided among clients.
        local: What a client does in a round.
        server: What the server does with the mean update.
        ema: Decay in (0, 1) of an exponential moving average of the server's weights, which is what is
            evaluated, kept and exported: 0.99 averages about the last 100 rounds. Null: the last weights. It sees
            the server's weights alone, so it costs no privacy.
        augmentation: Random changes of the images, one for each example and local step.
        performance: What changes speed, and results by rounding.
    """

    has_plan: ClassVar[bool] = True
    takes_features: ClassVar[bool] = True
    takes_workers: ClassVar[bool] = True
    later: ClassVar[frozenset[str]] = frozenset({"ema"})

    rounds: int = Field(default=50, ge=1)
    rounds_per_iteration: int = Field(default=1, ge=1)
    clients: ClientsConfig
    local: LocalConfig = LocalConfig()
    server: ServerConfig = ServerConfig()
    ema: float | None = Field(default=None, gt=0, lt=1)
    augmentation: AugmentationConfig = AugmentationConfig()
    performance: FederatedPerformanceConfig = FederatedPerformanceConfig()

    @model_validator(mode="after")
    def _check_schedule(self) -> Self:
        for schedule in (self.local.optimizer.schedule, self.server.schedule):
            schedule.check_epochs(self.rounds)
        return self

    @property
    def divides_data(self) -> bool:
        """Whether `count_units` looks at more than the number of examples."""
        return True

    def check_model(self, model: ModelConfig) -> None:
        """Refuse models whose state is not their weights alone: those with BatchNorm."""
        if model.mixes_examples:
            raise ValueError(
                f"a federated learner cannot train {model.name} with norm='batch': the running statistics of a client "
                "are no part of its clipped update, so they could neither be averaged nor be hidden; set norm: group "
                "(the default), or norm: frozen where weights are published"
            )

    def check_network(self, name: str, examined: Examined) -> None:
        """Refuse networks whose forward passes change more than their weights."""
        if examined.changes_state:
            raise ValueError(
                f"a federated learner cannot train {name}, in which a forward pass changes what is no weight, such as "
                "running statistics: it would neither be averaged nor be hidden; take the layer out that does so"
            )

    def count_units(self, columns: TrainingColumns, data_key: bytes) -> int:
        """Divide a training set among clients as a trial will, and count them."""
        return len(partition_clients(columns, self.clients, data_key))


class FedavgConfig(FederatedConfig):
    """Federated averaging without privacy: no clipping, no noise, infinite epsilon.

    Attributes:
        sampling_rate: Probability q in (0, 1] with which each client joins each round.
        cohort_size: Number of clients of every round instead of a probability; null: ``sampling_rate`` counts.
    """

    name: str = Field(default="fedavg", min_length=1)
    kind: Literal["fedavg"] = "fedavg"
    sampling_rate: float | None = Field(default=None, gt=0, le=1)
    cohort_size: int | None = Field(default=None, ge=1)
    epsilon: ClassVar[None] = None
    noise_multiplier: ClassVar[float] = 0.0

    @model_validator(mode="before")
    @classmethod
    def _claims_nothing(cls, given: Any) -> Any:  # noqa: ANN401 - pydantic hands over whatever was given
        private = {"epsilon", "delta", "noise_multiplier", "clipping", "deployment_cohort"}
        if isinstance(given, Mapping) and (asked := sorted(private & set(given))):
            raise ValueError(
                f"kind 'fedavg' has exact means and no {', '.join(asked)}: for private training set kind: dpfedavg"
            )
        return given

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.sampling_rate is None) == (self.cohort_size is None):
            raise ValueError(
                "give exactly one of sampling_rate and cohort_size, "
                f"but got sampling_rate={self.sampling_rate} and cohort_size={self.cohort_size}"
            )
        return self

    def plan(self, units: int) -> PrivacyPlan:
        """Make the plan, without privacy, for so many clients."""
        return PrivacyPlan.build(self, units)

    def draft(self, population: int, noise_multiplier: float) -> PrivacyPlan:
        """Make the plan for so many clients; there is no noise."""
        cohort = self.cohort_size
        if cohort is not None and cohort > population:
            raise PlanError(
                f"cohort_size must be at most the number of clients {population}, but got {cohort}: lower it"
            )
        return PrivacyPlan(
            unit="client",
            sampler="poisson" if cohort is None else "fixed",
            population=population,
            sampling_rate=float(self.sampling_rate or 0) if cohort is None else cohort / population,
            steps=self.rounds,
            delta=default_delta(population),
        )


class DpfedavgConfig(FederatedConfig):
    """Federated averaging with privacy for each client.

    Exactly one of ``epsilon`` and ``noise_multiplier`` is given. ``noise_multiplier: 0`` and ``clipping: {kind: none}``
    make ablations, with infinite epsilon.

    Attributes:
        sampling_rate: Probability q in (0, 1] with which each client joins each round, independently.
        clipping: How a client's update is bounded.
        epsilon: The budget by PLD accounting; the noise is calibrated to it.
        noise_multiplier: z of a round. With a quantile it is that of both queries together: the sum of updates then
            gets a little more noise than z S, so that the count costs nothing extra.
        delta: Below 1/N; null takes the largest power of ten that is at most 1/(10 N).
        deployment_cohort: Simulates a deployment with this larger expected cohort D: the noise is scaled by qN/D, and
            the epsilon that is given is that of the deployment, with D/q clients. Tables, bounds and stops have that of
            the training itself, which is far larger; what holds for the deployment is labelled so. Refused in release
            mode. Null: none.
        audit: Canaries among the clients, from which a lower bound on epsilon follows. Null: no audit.
    """

    name: str = Field(default="dpfedavg", min_length=1)
    kind: Literal["dpfedavg"] = "dpfedavg"
    sampling_rate: float = Field(default=0.1, gt=0, le=1)
    clipping: UpdateClippingConfig = UpdateClippingConfig()
    epsilon: float | None = Field(default=None, gt=0)
    noise_multiplier: NoiseMultiplier | None = None
    delta: Delta | None = None
    deployment_cohort: int | None = Field(default=None, ge=1)
    audit: AuditConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _cohorts_vary(cls, given: Any) -> Any:  # noqa: ANN401 - pydantic hands over whatever was given
        if isinstance(given, Mapping) and "cohort_size" in given:
            raise ValueError(
                "kind 'dpfedavg' draws Poisson cohorts and has no cohort_size: amplification by sampling is proven for "
                "clients that join independently; set sampling_rate, or use kind: fedavg, which claims nothing"
            )
        return given

    @model_validator(mode="after")
    def _check(self) -> Self:
        clipping = self.clipping
        keys = ("clipping.kind", "clipping.l2_clip_norm")
        check_budget(self.epsilon, self.noise_multiplier, clipping.kind, clipping.l2_clip_norm, keys)
        if self.audit is not None and self.audit.kind != "gradient":
            raise ValueError(
                f"a client that is a canary sends a made-up update: audit.kind must be gradient, but got "
                f"{self.audit.kind!r}"
            )
        return self

    @property
    def rules(self) -> dict[str, str]:
        """Return the rule of the default of delta, where epsilon is claimed at it."""
        return DELTA_RULE if self.delta is None and (self.epsilon or self.noise_multiplier) else {}

    def check_values(self, roles: Roles) -> None:
        """Refuse what an audit names and does not exist."""
        if self.audit is not None:
            self.audit.check_values(roles)

    def check_network(self, name: str, examined: Examined) -> None:
        """Refuse networks whose forward passes change more than their weights."""
        if examined.changes_state:
            raise ValueError(
                f"a federated learner cannot train {name}, in which a forward pass changes what is no weight, such as "
                "running statistics: it would neither be averaged nor be hidden; take the layer out that does so"
            )

    def count_units(self, columns: TrainingColumns, data_key: bytes) -> int:
        """Divide a training set among clients as a trial will, count them, and refuse too many canaries among them."""
        clients = partition_clients(columns, self.clients, data_key)
        if self.audit is not None:
            groups = {name: majority_values(clients, codes) for name, codes in columns.attributes.items()}
            self.audit.check_units(len(clients), groups)
        return len(clients)

    def check_release(self) -> None:
        """Refuse ablations, which claim nothing, and simulations, whose claim is about others."""
        if not (self.epsilon or self.noise_multiplier) or self.clipping.kind == "none":
            super().check_release()
        if self.deployment_cohort is not None:
            raise ValueError(
                f"privacy: {{mode: release}} takes no deployment_cohort, but got {self.deployment_cohort}: a simulated "
                "deployment adds less noise than it accounts, so that the clients who are trained on are not protected "
                "as its epsilon says; leave it out, or train in research mode"
            )

    def plan(self, units: int) -> PrivacyPlan:
        """Make the privacy plan for so many clients."""
        return PrivacyPlan.build(self, units)

    def draft(self, population: int, noise_multiplier: float) -> PrivacyPlan:
        """Make the plan with this noise, whatever it costs."""
        clipping, cohort, protected = self.clipping, self.sampling_rate * population, population
        if self.deployment_cohort is not None:
            if self.deployment_cohort < cohort:
                raise PlanError(
                    f"deployment_cohort must be at least the simulated one, q N = {cohort:g}, but got "
                    f"deployment_cohort={self.deployment_cohort}: raise it, or leave it out"
                )
            cohort = float(self.deployment_cohort)
            protected = round(cohort / self.sampling_rate)
        count_noise = None
        if clipping.quantile is not None and noise_multiplier > 0:
            count_noise = clipping.count_noise or max(_COUNT_NOISE * cohort, noise_multiplier)
        return PrivacyPlan(
            unit="client",
            population=population,
            sampling_rate=self.sampling_rate,
            steps=self.rounds,
            clipping=clipping.kind,
            l2_clip_norm=clipping.l2_clip_norm,
            quantile=clipping.quantile,
            noise_multiplier=noise_multiplier,
            count_noise=count_noise,
            delta=default_delta(protected) if self.delta is None else self.delta,
            target_epsilon=self.epsilon,
            deployment_cohort=self.deployment_cohort,
        )

    def twin(self, name: str) -> DpfedavgConfig:
        """Return the config that differs in privacy alone: no clipping, no noise, Poisson cohorts."""
        public = self.model_dump(
            exclude={"name", "epsilon", "noise_multiplier", "delta", "clipping", "deployment_cohort"}
        )
        none = UpdateClippingConfig(kind="none", l2_clip_norm=None)
        return DpfedavgConfig(**public, name=name, noise_multiplier=0.0, clipping=none)
