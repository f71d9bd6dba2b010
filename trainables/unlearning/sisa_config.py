"""The config of SISA training, and its checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from fairsweep.datasets.selection.partitions import TrainingColumns
from fairsweep.trainables.auditing.canaries import ShardedAuditConfig
from fairsweep.trainables.dpsgd.dpsgd_config import DpsgdConfig
from fairsweep.trainables.layers.numerics import refuse_compiled
from fairsweep.trainables.learning.learner_config import InnerWorkers, KeptModels, LearnerConfig
from fairsweep.trainables.learning.roles import Roles
from fairsweep.trainables.models.examination import Examined
from fairsweep.trainables.models.frozen_body import FrozenBody
from fairsweep.trainables.models.model import ModelConfig
from fairsweep.trainables.privacy.plan import PlanError, PrivacyPlan
from fairsweep.trainables.privacy.privacy_numbers import check_delta, default_delta
from fairsweep.trainables.sgd.sgd_learner import SgdConfig
from fairsweep.trainables.unlearning.aggregation import Aggregation
from fairsweep.trainables.unlearning.first_training import FirstTraining
from fairsweep.trainables.unlearning.known_examples import Population
from fairsweep.trainables.unlearning.placement import Placement, PlacementConfig, place
from fairsweep.trainables.unlearning.request_stream import RequestsConfig, settle_stream

InnerConfig = Annotated[SgdConfig | DpsgdConfig, Field(discriminator="kind")]

_DEFAULT_EPOCHS = 10


class ShardResources(BaseModel):
    """What one worker of a trial reserves, beside the trial itself.

    Attributes:
        cpu: CPUs; a worker uses as many threads, at least one.
        gpu: GPUs; 0.25 lets four workers share one.
        workers: Most workers at once; null: one for each shard. Shards beyond them wait their turn.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    cpu: float = Field(default=1.0, ge=0)
    gpu: float = Field(default=0.0, ge=0)
    workers: int | None = Field(default=None, ge=1)

    @field_validator("gpu", mode="before")
    @classmethod
    def _no_words(cls, raw: object) -> object:
        if raw == "auto":
            raise ValueError(
                "gpu of a shard's worker must be a number, but got 'auto': only whole trials are measured; with "
                "resources: {gpu: 1}, on a machine that has one, `fairsweep plan FILE --measure` prints what is enough"
            )
        return raw

    @property
    def threads(self) -> int:
        """Threads of a training, with and without workers of its own: they can change the last bit of a result."""
        return max(1, int(self.cpu))


class SisaConfig(PlacementConfig, LearnerConfig):
    """Sharded, isolated, sliced, aggregated training: forgetting by retraining the shards that saw an example.

    Slice r of a shard trains on slices 1 to r, from the weights after slice r - 1, with a new optimiser.

    Attributes:
        name: The learner's name in the sweep.
        epochs: Epochs of each slice.
        unsliced_epochs: Instead: epochs e of a training without slices; each slice gets e' = round(2 e / (R + 1)), at
            least 1, so that about as many examples are seen.
        inner: The learner of a slice: ``sgd`` or ``dpsgd``. Its epochs are those of a slice; leave them out. A private
            one needs ``noise_multiplier``: what it costs depends on the slice and on every retraining, and is reported
            by slice.
        aggregation: ``mean-probability``, ``majority-vote`` (ties by mean probability) or ``mean-logit``.
        weighting: Weights of the shards: ``uniform``, ``size`` (examples that are left) or ``validation-accuracy``.
        requests: Who asks for deletion; each batch is an iteration after the slices.
        shard_resources: What each worker reserves; null trains one shard after the other in the trial itself.
        audit: Canaries among the examples of a private inner learner, from which a lower bound on epsilon follows, and
            whether shadows keep what they predict of examples that they forgot. Null: no audit.

    References:
        Bourtoule et al. 2021, arXiv 1912.03817.
    """

    no_identity: ClassVar[frozenset[str]] = LearnerConfig.no_identity | {"shard_resources"}
    takes_features: ClassVar[bool] = True

    name: str = Field(default="sisa", min_length=1)
    kind: Literal["sisa"] = "sisa"
    epochs: int | None = Field(default=None, ge=1)
    unsliced_epochs: int | None = Field(default=None, ge=1)
    inner: InnerConfig = SgdConfig(epochs=_DEFAULT_EPOCHS)
    aggregation: Aggregation = "mean-probability"
    weighting: Literal["uniform", "size", "validation-accuracy"] = "uniform"
    requests: RequestsConfig = RequestsConfig()
    shard_resources: ShardResources | None = None
    audit: ShardedAuditConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _hand_epochs_to_inner(cls, given: Any) -> Any:  # noqa: ANN401 - pydantic hands over whatever was given
        if not isinstance(given, Mapping):
            return given
        epochs = _slice_epochs(given.get("epochs"), given.get("unsliced_epochs"), given.get("slices", 3))
        inner = given.get("inner", {"kind": "sgd"})
        if epochs is None:
            return given  # a field is not a number: its own check says so
        if isinstance(inner, Mapping) and inner.get("epochs") is None:
            return {**given, "inner": {**inner, "epochs": epochs}}
        if isinstance(inner, BaseModel) and "epochs" not in inner.model_fields_set:
            return {**given, "inner": inner.model_copy(update={"epochs": epochs})}
        return given

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.epochs is not None and self.unsliced_epochs is not None:
            raise ValueError(
                f"give epochs (of each slice) or unsliced_epochs, not both, but got epochs={self.epochs} and "
                f"unsliced_epochs={self.unsliced_epochs}"
            )
        if self.inner.epochs != self.slice_epochs:
            raise ValueError(
                f"inner trains {self.slice_epochs} epochs a slice, as epochs or unsliced_epochs say, but it has "
                f"epochs={self.inner.epochs}: leave epochs out of inner"
            )
        if isinstance(self.inner, DpsgdConfig) and self.inner.audit is not None:
            raise ValueError(
                "the canaries of sisa are those of all its shards together, but inner has an audit: leave audit out of "
                "inner, and give it to the sisa learner itself"
            )
        if self.audit is not None and self.audit.canaries is not None and not self.is_private:
            raise ValueError(
                f"canaries test a claim of privacy, but got canaries={self.audit.canaries} and inner.kind="
                f"{self.inner.kind!r}, which claims none: set inner: {{kind: dpsgd, …}}, or leave canaries out"
            )
        if isinstance(self.inner, SgdConfig):
            refuse_compiled(self.inner.performance, self.kind)
        if isinstance(self.inner, DpsgdConfig) and self.inner.epsilon is not None:
            raise ValueError(
                f"a private inner learner needs noise_multiplier, but got epsilon={self.inner.epsilon}: an example of "
                "the first slice takes part in every slice's training and in every retraining, so no single budget "
                "says what it spends; epsilon is reported by slice"
            )
        if self.requests.by == "influential" and self.requests.shard > self.shards:
            raise ValueError(
                f"requests.shard must be one of the {self.shards} shards, but got shard={self.requests.shard}"
            )
        return self

    @property
    def slice_epochs(self) -> int:
        """Epochs of each slice, e'."""
        return _slice_epochs(self.epochs, self.unsliced_epochs, self.slices) or _DEFAULT_EPOCHS

    @property
    def is_private(self) -> bool:
        """Whether the inner learner claims privacy."""
        return self.inner.has_plan

    @property
    def divides_data(self) -> bool:
        """Whether `count_units` looks at more than the number of examples."""
        return True

    @property
    def predicts_forgotten(self) -> bool:
        """Whether the audit asks for it."""
        return self.audit is not None and self.audit.forgotten

    def frozen_body(self, model: ModelConfig, image_shape: tuple[int, int, int], classes: int) -> FrozenBody:
        """Return what the inner learner may learn from."""
        return self.inner.frozen_body(model, image_shape, classes)

    def check_model(self, model: ModelConfig) -> None:
        """Refuse what the inner learner does."""
        self.inner.check_model(model)

    def check_network(self, name: str, examined: Examined) -> None:
        """Refuse what the inner learner does."""
        self.inner.check_network(name, examined)

    def check_release(self) -> None:
        """Refuse what the inner learner does."""
        self.inner.check_release()

    def check_images(self, image_shape: tuple[int, int, int]) -> None:
        """Refuse what the inner learner does."""
        self.inner.check_images(image_shape)

    def check_values(self, roles: Roles) -> None:
        """Refuse what the inner learner does, and what an audit names and does not exist."""
        self.inner.check_values(roles)
        if self.audit is not None:
            self.audit.check_values(roles)

    @property
    def claims_privacy(self) -> bool:
        """Whether the inner learner promises a finite epsilon: it samples, clips and adds noise."""
        inner = self.inner
        if not isinstance(inner, DpsgdConfig):
            return False
        return bool(inner.noise_multiplier) and inner.clipping != "none" and inner.sampler != "shuffled"

    def check_claims(self) -> None:
        """Refuse requests that look at private images where privacy is claimed, and ids that would stay in files."""
        if self.requests.by == "ids":
            raise ValueError(
                "ids of requests would be written into the config of the trial and the files of its sweep, from which "
                "no erasure could take them, but got requests by ids: leave requests out, and serve them when the "
                "trial has ended: fairsweep forget SWEEP --ids FILE, once for each batch"
            )
        if self.claims_privacy and self.requests.looks_at_models:
            raise ValueError(
                "with a private inner learner, whom to delete must not be chosen by looking at private images, but got "
                f"requests.by={self.requests.by!r}: the ids that it publishes are not covered by any noise; draw them "
                "by: model, user or group, or measure this adversary with inner: {kind: sgd}"
            )

    def count_units(self, columns: TrainingColumns, data_key: bytes) -> int:
        """Count the training examples, and refuses what `examine` does."""
        ids = columns.rows if columns.ids is None else columns.ids
        values = {name: tuple(columns.value_names.get(name, ())) for name in columns.attributes}
        examine(self, Population(ids, columns.attributes, values, columns.users, columns.groups), data_key)
        if self.audit is not None:
            self.audit.check_units(len(ids), columns.attributes)
        return len(ids)

    def outlook(self, units: int) -> FirstTraining | None:
        """Return what an example of the first slice spends before anybody asks, in a shard of equal size."""
        if not self.is_private:
            return None
        share = units / (self.shards * self.slices)
        return FirstTraining(tuple(slice_plan(self, round(share * (part + 1)), units) for part in range(self.slices)))

    def twin(self, name: str) -> SisaConfig:
        """Return the config that differs in its unlearning fields only: one shard, one slice, nobody asks.

        Its one model of the whole training set sees about as many examples: e = e' (R + 1) / 2 epochs.
        """
        epochs = self.unsliced_epochs or max(1, round(self.slice_epochs * (self.slices + 1) / 2))
        return SisaConfig(
            name=name,
            shards=1,
            slices=1,
            strategy="random-balanced",
            epochs=epochs,
            inner=self.inner.model_copy(update={"epochs": epochs}),
            shard_resources=self.shard_resources,
        )

    def kept_models(self) -> KeptModels:
        """Return a model a shard, and the checkpoint of every slice, without which nothing could be forgotten.

        What a trial's own checkpoint holds are names alone.
        """
        return KeptModels(trained=self.shards, copies=self.slices, in_checkpoint=0)

    def growth(self) -> float:
        """Return how much longer the mean slice takes than the first: slice r trains on the examples of r slices."""
        return (self.slices + 1) / 2

    def inner_workers(self) -> InnerWorkers | None:
        """Return a worker for each shard, or as many as are asked for; shards beyond them wait their turn."""
        shape = self.shard_resources
        if shape is None:
            return None
        most = min(self.shards, shape.workers or self.shards)
        return InnerWorkers(most, 1 if shape.workers is None else most, shape.cpu, shape.gpu)

    def with_more_gpu(self, grow: Callable[[float], float]) -> SisaConfig:
        """Return the config with more of a GPU for each shard's worker."""
        shape = self.shard_resources
        if shape is None:
            return self
        return self.model_copy(update={"shard_resources": shape.model_copy(update={"gpu": grow(shape.gpu)})})


def _slice_epochs(epochs: object, unsliced: object, slices: object) -> int | None:
    """Epochs of a slice; None where a value is not a number yet.

    References:
        Bourtoule et al. 2021, arXiv 1912.03817, section V-B2 (e' = 2 e / (R + 1)).
    """
    if unsliced is not None:
        both = isinstance(unsliced, int) and isinstance(slices, int) and slices >= 1
        return max(1, round(2 * unsliced / (slices + 1))) if both else None  # type: ignore[operator]
    if epochs is None:
        return _DEFAULT_EPOCHS
    return epochs if isinstance(epochs, int) else None


def examine(config: SisaConfig, population: Population, key: bytes) -> Placement:
    """Find what is wrong with a config for a training set, before anything starts.

    Args:
        config: The config.
        population: The training set.
        key: 32 bytes, public: of the data seed.

    Returns:
        The map that the trial will use.

    Raises:
        ValueError: If places are empty, ids unknown (listed), too few can ask, an attribute is missing, or a private
            inner learner has no plan for a slice's size.
    """
    placed = place(config, config.requests, population, key)
    placed.check()
    if config.requests.looks_at_models:
        if config.requests.count > len(population):
            raise ValueError(f"count must be at most {len(population):,}, but got count={config.requests.count:,}")
    else:
        settle_stream(config.requests, population, key)
    if isinstance(config.inner, DpsgdConfig):
        for size in sorted(set(placed.counts().cumsum(axis=1).ravel().tolist())):
            try:
                slice_plan(config, size, len(population))
            except PlanError as error:
                raise ValueError(f"inner, for a slice's {size} examples: {error}") from error
    return placed


def slice_plan(config: SisaConfig, size: int, population: int) -> PrivacyPlan:
    """Return the privacy plan of one slice's training: of the size at the start, whatever is deleted later.

    Args:
        config: The config, with a private inner learner.
        size: Examples of the slice and those before it in its shard, at the start.
        population: Examples of all shards, at the start.

    Raises:
        PlanError: If the batch is larger than the slice, or delta too large.
    """
    inner = inner_of(config, population)
    try:
        check_delta(inner.delta, population, "example")  # of the whole set: a slice's own number promises less
    except ValueError as error:
        raise PlanError(str(error)) from error
    return PrivacyPlan.build(inner, size)


def inner_of(config: SisaConfig, population: int) -> Any:  # noqa: ANN401 - a member of InnerConfig
    """Return the inner learner's config; a private one has one delta for all slices, of the whole set."""
    inner = config.inner
    if isinstance(inner, DpsgdConfig) and inner.delta is None:
        return inner.model_copy(update={"delta": default_delta(population)})
    return inner


def exactness(config: SisaConfig, drawn_by: Sequence[str] = ()) -> str:
    """Return what a deletion is equal to.

    Args:
        config: The config.
        drawn_by: Sections that draw the training set; see `LearningTask.drawn_by`.
    """
    if config.is_private:
        return (
            "In distribution: retraining takes fresh noise; sampling rates and steps stay those of the sizes at the "
            "start; each retraining is charged to the examples that stay."
        )
    if config.strategy == "hash" and not drawn_by:
        return (
            "Bit for bit, without conditions: the weights are those of training without the deleted examples, the map "
            "and the training set included, on the same type of device with as many threads."
        )
    refilled = (
        ""
        if not drawn_by
        else (
            f" The training set was drawn by {' and '.join(drawn_by)} from all examples together: had the deleted ones "
            "not been there, others might have taken their places."
        )
    )
    if config.strategy == "hash":
        return (
            "Bit for bit, given the training set: the weights are those of training without the deleted examples, and "
            "without them the map would be the same, on the same type of device with as many threads." + refilled
        )
    return (
        "Bit for bit, given the map: the weights are those of training with the map as frozen at the start and without "
        "the deleted examples, on the same type of device with as many threads. The map itself was made with them."
        + refilled
    )
