"""Sabotaged private learners, and whether an audit catches them: prints a table of figures and run times.

    python benchmarks/sabotages.py                # every learner as it is, then every sabotage
    python benchmarks/sabotages.py --threads 2

"claimed" is the epsilon of the plan, "bound" the audited lower bound at confidence 1 - 1e-4 and the same delta, and
"refuted" says whether the claim's whole trade-off function fell, which is the sharper test. Needs neither ray nor a
prepared dataset.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn

from fairsweep.analysis.accounting.composition import composed
from fairsweep.analysis.accounting.epsilons import epsilon_of
from fairsweep.analysis.accounting.events import rebuilt, sampled_gaussian
from fairsweep.analysis.auditing.claims import claim_of
from fairsweep.analysis.auditing.one_run import audit_scores
from fairsweep.analysis.auditing.repetitions import RepeatedBound, audit_repetitions
from fairsweep.analysis.records.file_names import AUDIT
from fairsweep.analysis.records.learner_records import read_audit
from fairsweep.datasets.feeds.resident import ResidentFeed
from fairsweep.datasets.selection.randomness import derive, seed_key
from fairsweep.datasets.selection.sampling import Sampler, Shuffled
from fairsweep.trainables.auditing.canaries import Contributing
from fairsweep.trainables.auditing.neighbours import Floats, audit_neighbours, published_updates
from fairsweep.trainables.dpsgd.dpsgd_config import DpsgdConfig
from fairsweep.trainables.dpsgd.dpsgd_learner import Dpsgd
from fairsweep.trainables.dpsgd.gradient_modes import GRADIENT_MODES
from fairsweep.trainables.learners import LEARNERS, build_learner
from fairsweep.trainables.learning.learner import Learner, LearningTask, TrialKeys
from fairsweep.trainables.models.cnn import CnnConfig
from fairsweep.trainables.models.linear import LinearConfig
from fairsweep.trainables.privacy.clipping import Clipping
from fairsweep.trainables.privacy.gradients import ExampleGradients, Plain
from fairsweep.trainables.privacy.noise import GaussianNoise
from fairsweep.trainables.privacy.plan import PrivacyPlan
from fairsweep.trainables.unlearning.shards import ShardWork
from fairsweep.trainables.unlearning.sisa import Sisa
from fairsweep.trainables.unlearning.sisa_config import SisaConfig

SIGNIFICANCE = 1e-4
KEY = seed_key(0, "sabotages")
FEW, MANY = 160, 430  # iterations of one learner, with and without a unit: what a doubled effect needs, and less
TARGET = 0

SMALL = {"name": "sgd", "lr": 1e-5}  # iterations stay alike
DPSGD = {
    "kind": "dpsgd",
    "epochs": 2,
    "batch_size": 300,
    "noise_multiplier": 1.0,
    "optimizer": SMALL,
    "performance": {"gradient_mode": "bookkeeping"},
    "audit": {"canaries": 1500},
}
DPFEDAVG = {
    "kind": "dpfedavg",
    "rounds": 20,
    "sampling_rate": 0.1,
    "noise_multiplier": 1.0,
    "clients": {"partition": "iid", "count": 1000},
    "audit": {"canaries": 500},
}
ONCE = DPSGD | {"epochs": 1, "noise_multiplier": 0.2}
LITTLE_NOISE = {"batch_size": 100, "noise_multiplier": 0.2}
# With little noise, what is seen of a canary is in how many trainings it was.
SISA = {
    "kind": "sisa",
    "shards": 2,
    "slices": 3,
    "epochs": 1,
    "inner": {name: DPSGD[name] for name in ("kind", "optimizer", "performance")} | LITTLE_NOISE,
    "audit": {"canaries": 1500},
}
WEIGHTS = {"attribute": "tone", "weights": {"dark": 2.0}}
HONEST: dict[str, dict[str, Any]] = {
    "dpsgd poisson": DPSGD,
    "dpsgd poisson, little noise": ONCE,
    "dpsgd poisson, per layer": DPSGD | {"clipping": "per_layer"},
    "dpsgd weighted_poisson": DPSGD | {"sampler": "weighted_poisson", "sampling_weights": WEIGHTS},
    "dpsgd truncated_poisson": DPSGD | {"sampler": "truncated_poisson"},
    "dpsgd truncated_poisson, cut often": DPSGD | {"sampler": "truncated_poisson", "max_batch_size": 310},
    "dpsgd full batches": DPSGD | {"epochs": 1, "batch_size": 3000},
    "dpfedavg": DPFEDAVG,
    "dpfedavg per layer": DPFEDAVG | {"clipping": {"kind": "per_layer"}},
    "dpfedavg adaptive": DPFEDAVG | {"clipping": {"quantile": 0.5}},
    "sisa": SISA,
    "sisa, requests": SISA | {"requests": {"count": 200, "batch": 200}},
}


@dataclass(frozen=True)
class Verdict:
    """What an audit says: the claim and the lower bounds of epsilon, at the claim's delta, and the seconds it took."""

    claimed: float
    one_run: float
    bound: float
    refuted: bool
    seconds: float


class Silent(PrivacyPlan):
    """Adds no noise."""

    def noise(self, secret: bytes, run: int, l2_clip_norm: float | None = None) -> GaussianNoise:
        return replace(super().noise(secret, run, l2_clip_norm), std=0.0)


class Halved(PrivacyPlan):
    """Adds half of the noise."""

    def noise(self, secret: bytes, run: int, l2_clip_norm: float | None = None) -> GaussianNoise:
        whole = super().noise(secret, run, l2_clip_norm)
        return replace(whole, std=whole.std / 2)


class ShuffledOrder(PrivacyPlan):
    """Shuffles, and is charged as if it drew Poisson batches."""

    def inclusion(self, secret: bytes, run: int, weights: np.ndarray | None = None) -> Sampler:
        batch = round(self.expected_batch_size)
        return Shuffled(self.population, batch, -(-self.steps * batch // self.population), derive(secret, "order", run))


class _Unclipped(Clipping):
    def factors(self, squared_norms_LB: torch.Tensor) -> torch.Tensor:
        factors = super().factors(squared_norms_LB).clone()
        factors[0] = 1
        return factors


class OneLayerUnclipped(PrivacyPlan):
    """Leaves the first layer's gradients as they are."""

    def bound(self) -> Clipping:
        return _Unclipped(self.clipping, self.l2_clip_norm)


class _ReadOff(Clipping):
    def factors(self, squared_norms_LB: torch.Tensor) -> torch.Tensor:
        norms_B = squared_norms_LB.sum(dim=0).sqrt()
        return (norms_B.mean() / norms_B).clamp(max=1).expand(len(squared_norms_LB), -1)


class BoundReadOff(PrivacyPlan):
    """Clips to the mean norm of the examples that were drawn."""

    def bound(self) -> Clipping:
        return _ReadOff(self.clipping, self.l2_clip_norm)


@dataclass
class _Counting:
    sampler: Sampler
    latest: int = 1

    @property
    def steps(self) -> int:
        return self.sampler.steps

    def positions(self, step: int) -> np.ndarray:
        drawn = self.sampler.positions(step)
        self.latest = max(1, len(drawn))
        return drawn


class RealisedBatch(PrivacyPlan):
    """Divides by the number of examples that a batch happened to have."""

    def inclusion(self, secret: bytes, run: int, weights: np.ndarray | None = None) -> Sampler:
        return self.counted(super().inclusion(secret, run, weights))

    def counted(self, sampler: Sampler) -> Sampler:
        """Return the sampler, and know from now on how many it has drawn last."""
        counting = _Counting(sampler)
        object.__setattr__(self, "_counting", counting)
        return counting

    @property
    def expected_batch_size(self) -> float:
        counting = self.__dict__.get("_counting")
        return super().expected_batch_size if counting is None else counting.latest


class NormAfterAverage:
    """Clips the mean gradient of a batch instead of each example's."""

    name = "bookkeeping"

    def __init__(self, model: nn.Module) -> None:
        self._plain = Plain(model)

    def add_clipped(
        self,
        inputs: torch.Tensor,
        labels: torch.Tensor,
        clipping: Clipping,
        sums: list[torch.Tensor],
        weights: torch.Tensor | None = None,
    ) -> ExampleGradients:
        """Add the clipped mean, times the batch's size."""
        own = [torch.zeros_like(total) for total in sums]
        found = self._plain.add_clipped(inputs, labels, Clipping("none", None), own, weights)
        mean = torch.cat([gradient.flatten() for gradient in own]) / len(labels)
        scale = min(1.0, float((clipping.l2_clip_norm or 1.0) / mean.norm()))
        for total, gradient in zip(sums, own, strict=True):
            total.add_(gradient, alpha=scale)
        return found


def canary_task(n: int = 3000, trial: int = 0) -> LearningTask:
    """Return random images and labels, enough of them for canaries."""
    draws = np.random.default_rng(7)
    images = draws.integers(0, 256, (n, 20, 20, 1)).astype(np.uint8)
    return _task(LinearConfig(), images, draws.integers(0, 4, n), 4, trial)


def worst_task(model: Any, *, others_bright: bool, trial: int = 0) -> LearningTask:
    """Return a few examples among which one, the target, has a large gradient against all others'."""
    labels = np.array([1] + [0] * (9 if others_bright else 2))
    images = np.full((len(labels), 12, 12, 1), 255 if others_bright else 127, np.uint8)
    images[TARGET] = 255
    return replace(_task(model, images, labels, 2, trial), groups={})  # nothing is measured by group


def _task(model: Any, images: np.ndarray, labels: np.ndarray, classes: int, trial: int) -> LearningTask:
    n = len(labels)
    return LearningTask(
        model=model,
        classes=classes,
        image_shape=images.shape[1:],
        rows=np.arange(n),
        labels=labels,
        groups={"tone": (np.arange(n) % 3 == 0).astype(np.int16)},
        feed=ResidentFeed(np.arange(n), images),
        keys=TrialKeys(derive(KEY, "data"), derive(KEY, "train"), derive(KEY, "secret", trial)),
        device=torch.device("cpu"),
        value_names={"label": tuple(map(str, range(classes))), "tone": ("light", "dark")},
    )


class LaterSlicesFree(Sisa):
    """Charges each shard for its first slice alone, though every slice is trained on the ones before."""

    def _run(self, work: Sequence[ShardWork]) -> None:
        charged = [job for line in work for job in line.jobs if job.slice == 0]
        self._ledger.charge(charged, self._task.keys)
        self._pool.train([self._canaries.placed(line) for line in work])


def audit_canaries(given: Mapping[str, Any], sabotage: type[PrivacyPlan] = PrivacyPlan) -> Verdict:
    """Train once with canaries, and audit what the training claims."""
    began = time.perf_counter()
    config = LEARNERS[str(given["kind"])].config.model_validate(given)
    task = canary_task()
    units = 1000 if given["kind"] == "dpfedavg" else task.size
    plan = config.plan(units)
    return _audited(build_learner(config, task, plan if plan is None else sabotage(**plan.model_dump())), began)


def audit_later_slices() -> Verdict:
    """Audit a SISA learner that charges too few of its trainings."""
    return _audited(LaterSlicesFree(SisaConfig.model_validate(SISA), canary_task()), time.perf_counter())


def _audited(learner: Learner, began: float) -> Verdict:
    """Train to the end, and audit what the learner's statement says."""
    while learner.iteration < learner.iterations:
        learner.step()
    stated = learner.privacy()
    with TemporaryDirectory() as folder:
        learner.files()[AUDIT](Path(folder) / AUDIT)
        table = read_audit(Path(folder) / AUDIT)
    scores, coins = table["score"].to_numpy(), table["included"].to_numpy(zero_copy_only=False)
    claim = claim_of(composed(rebuilt(event) for event in stated.events))
    numbers = {"delta": stated.delta, "significance": SIGNIFICANCE, "claim": claim}
    one, many = audit_scores(scores, coins, **numbers), audit_repetitions(scores, coins, **numbers)
    # All in every step and one step in all: a Gaussian mechanism, whose mu says more.
    bound = many.gaussian if stated.sampling_rate == stated.steps == 1 else many.epsilon
    refuted = bool(one.refuted or many.refuted)
    return Verdict(stated.epsilon.pld, one.epsilon, bound, refuted, time.perf_counter() - began)


def _worst_config(task: LearningTask, **fields: Any) -> DpsgdConfig:
    given = DPSGD | {"epochs": MANY, "batch_size": task.size, "delta": 1e-2, "audit": None}
    return DpsgdConfig.model_validate(given | fields)


def _zeroed(kind: type[PrivacyPlan]) -> type[PrivacyPlan]:
    """Return a plan of the same kind under which the target contributes nothing."""

    class Zeroed(kind):  # type: ignore[valid-type, misc]
        def inclusion(self, secret: bytes, run: int, weights: np.ndarray | None = None) -> Sampler:
            plain = PrivacyPlan.inclusion(self, secret, run, weights)
            present = Contributing(plain, np.arange(self.population) != TARGET)
            return self.counted(present) if kind is RealisedBatch else present

    return Zeroed


def _pair(config: DpsgdConfig, task: LearningTask, sabotage: type[PrivacyPlan]) -> tuple[Floats, Floats]:
    """Return what iterations publish with and without the target, under equal secrets."""
    plan = config.plan(task.size).model_dump()
    made = (sabotage(**plan), _zeroed(sabotage)(**plan))
    return tuple(published_updates(Dpsgd(config, task, p), config.epochs) for p in made)  # type: ignore[return-value]


def _judged(found: RepeatedBound, mu: float, delta: float, began: float) -> Verdict:
    claimed = epsilon_of(sampled_gaussian(1 / mu, 1.0, 1), delta).pld
    return Verdict(claimed, 0.0, found.gaussian, bool(found.refuted), time.perf_counter() - began)


def audit_worst_case(
    sabotage: type[PrivacyPlan] = PrivacyPlan, model: Any = None, *, others_bright: bool = False
) -> Verdict:
    """Train with and without a worst-case example, and tell the iterations apart; the claim is one step's Gaussian."""
    began = time.perf_counter()
    task = worst_task(model or LinearConfig(), others_bright=others_bright)
    config = _worst_config(task, **({} if model is None else {"l2_clip_norm": 0.1, "epochs": FEW}))
    with_it, without = _pair(config, task, sabotage)
    plan = config.plan(task.size)
    numbers = {"delta": plan.delta, "significance": SIGNIFICANCE, "claim": claim_of(plan.event(1))}
    return _judged(audit_neighbours(with_it, without, KEY, **numbers), 1.0, plan.delta, began)


def audit_norm_after_average() -> Verdict:
    """Audit a learner that averages first and clips then."""
    usual = GRADIENT_MODES["bookkeeping"]
    GRADIENT_MODES["bookkeeping"] = NormAfterAverage
    try:
        return audit_worst_case()
    finally:
        GRADIENT_MODES["bookkeeping"] = usual


def audit_two_trials(*, shared: bool) -> Verdict:
    """Audit two trials that are charged as two, of noise 1 and 2: one combination of both cancels noise they share."""
    began = time.perf_counter()
    task = worst_task(LinearConfig(), others_bright=False)
    first, second = _worst_config(task, epochs=FEW), _worst_config(task, epochs=FEW, noise_multiplier=2.0)
    one = _pair(first, task, PrivacyPlan)
    two = _pair(second, task if shared else worst_task(LinearConfig(), others_bright=False, trial=1), PrivacyPlan)
    with_it, without = (2 * a - b for a, b in zip(one, two, strict=True))
    mu = (1 + 1 / 4) ** 0.5
    delta = first.plan(task.size).delta
    numbers = {"delta": delta, "significance": SIGNIFICANCE, "claim": claim_of(sampled_gaussian(1 / mu, 1.0, 1))}
    return _judged(audit_neighbours(with_it, without, KEY, **numbers), mu, delta, began)


WORST_CASES: dict[str, Callable[[], Verdict]] = {
    "dpsgd, a worst-case example": audit_worst_case,
    "dpsgd, one against many": partial(audit_worst_case, others_bright=True),
    "dpsgd, cnn": partial(audit_worst_case, model=CnnConfig(width=4)),
    "dpsgd, two trials": partial(audit_two_trials, shared=False),
}
SABOTAGES: dict[str, Callable[[], Verdict]] = {
    "no noise": partial(audit_canaries, DPSGD, Silent),
    "no noise, dpfedavg": partial(audit_canaries, DPFEDAVG, Silent),
    "noise halved": partial(audit_canaries, HONEST["dpsgd full batches"], Halved),
    "one layer unclipped": partial(audit_worst_case, OneLayerUnclipped, CnnConfig(width=4)),
    "shuffled charged as Poisson": partial(audit_canaries, ONCE, ShuffledOrder),
    "division by the realised batch": partial(audit_worst_case, RealisedBatch, others_bright=True),
    "noise shared between two trials": partial(audit_two_trials, shared=True),
    "clip bound read off the drawn examples": partial(audit_worst_case, BoundReadOff),
    "norms taken after averaging": audit_norm_after_average,
    "sisa, later slices not charged": audit_later_slices,
}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    row = "{:44s} {:>8s} {:>8s} {:>8s} {:>8s} {:>8s}"
    honest = {name: partial(audit_canaries, given) for name, given in HONEST.items()} | WORST_CASES
    for title, audits in (("as it is", honest), ("sabotage", SABOTAGES)):
        print(row.format(title, "claimed", "one run", "bound", "refuted", "seconds"))
        for name, audit in audits.items():
            found = audit()
            numbers = (f"{value:.2f}" for value in (found.claimed, found.one_run, found.bound))
            print(row.format(name, *numbers, "yes" if found.refuted else "no", f"{found.seconds:.2f}"))
        print()


if __name__ == "__main__":
    main()
