"""What a deletion leaves in a model, as it is and sabotaged: prints two lines.

    python benchmarks/forgetting.py

Models of random halves of one training set forget a half of what they learnt. Models that forgot an example are told
from models that never saw it (U-LiRA; Hayes et al. 2024, arXiv 2403.01218): .5 is chance.
"""

from dataclasses import replace

import numpy as np
import torch

from fairsweep.analysis.auditing.exposure import Exposure, exposures
from fairsweep.analysis.auditing.shadow_scores import lira
from fairsweep.datasets.feeds.resident import ResidentFeed
from fairsweep.datasets.selection.randomness import derive, seed_key
from fairsweep.trainables.learning.learner import LearningTask, TrialKeys
from fairsweep.trainables.models.linear import LinearConfig
from fairsweep.trainables.sgd.sgd_learner import SgdConfig
from fairsweep.trainables.unlearning.shards import SliceJob
from fairsweep.trainables.unlearning.sisa import Sisa
from fairsweep.trainables.unlearning.sisa_config import SisaConfig

KEY = seed_key(0, "forgetting")


class ForgetsInTheLog(Sisa):
    """Writes down who was deleted, and trains nothing again."""

    def _chain(self, shard: int) -> tuple[SliceJob, ...]:
        alive = self._history.alive
        self._history.alive = np.ones_like(alive)
        try:
            return super()._chain(shard)
        finally:
            self._history.alive = alive


def audit_forgetting(kind: type[Sisa] = Sisa, shadows: int = 16, candidates: int = 120) -> Exposure:
    """Tell models that forgot an example from models that never saw it, by LiRA, over random halves of one set."""
    draws = np.random.default_rng(3)
    images, labels = draws.integers(0, 256, (candidates, 8, 8, 1)).astype(np.uint8), draws.integers(0, 2, candidates)
    task = LearningTask(
        model=LinearConfig(),
        classes=2,
        image_shape=images.shape[1:],
        rows=np.arange(candidates),
        labels=labels,
        groups={},
        feed=ResidentFeed(np.arange(candidates), images),
        keys=_keys(0),
        device=torch.device("cpu"),
        ids=np.arange(candidates),
    )
    quarter = candidates // 4
    config = SisaConfig(
        shards=2,
        slices=1,
        epochs=30,
        inner=SgdConfig(batch_size=16, optimizer={"name": "sgd", "lr": 0.5}),
        requests={"count": quarter, "batch": quarter},
    )
    log_p, forgotten = np.empty((shadows, candidates)), np.zeros((shadows, candidates), np.bool_)
    for shadow in range(shadows):
        members = np.flatnonzero(draws.random(candidates) < 0.5)
        learner = kind(config, replace(task.subset(members), keys=_keys(shadow)))
        while learner.iteration < learner.iterations:
            learner.step()
        logits = torch.log_softmax(learner.predict(images).double(), dim=1).numpy()
        log_p[shadow] = logits[np.arange(candidates), labels]
        log_p[shadow, members[learner.alive()]] = np.nan  # members who stayed are neither
        forgotten[shadow, members[~learner.alive()]] = True
    groups = np.zeros(candidates, np.int64)
    scores = lira(log_p, forgotten, groups)
    return exposures(scores, forgotten, groups, generator=np.random.default_rng(0), confidence=1 - 1e-3, draws=400)[0]


def _keys(shadow: int) -> TrialKeys:
    return TrialKeys(*(derive(KEY, name, shadow) for name in ("data", "train", "secret")))


def main() -> None:
    """Print the AUC of both with its interval."""
    for name, kind in (("as it is", Sisa), ("forgets in the log alone", ForgetsInTheLog)):
        found = audit_forgetting(kind)
        print(f"{name:28s} AUC {found.auc:.3f} [{found.auc_low:.3f}, {found.auc_high:.3f}] at 99.9%")


if __name__ == "__main__":
    main()
