"""The size of a guided search, as far as it is known in advance, and its studies."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import TrialState

from fairsweep.sweeps.planning.expand import seed_pairs
from fairsweep.sweeps.planning.preflight import SweepPlan
from fairsweep.sweeps.search.storage import open_storage
from fairsweep.sweeps.search.study import SearchStudy
from fairsweep.sweeps.spec.search_space import SearchSpace
from fairsweep.sweeps.spec.sweep_spec import SweepSpec
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.sweeps.syntax.renamed_keys import with_former_names

_SHORT = 6
# Of the section search, what decides neither what is proposed nor what is told, or belongs to no guided search.
_FREE = {"samples", "storage", "release", "draws"}


@dataclass(frozen=True)
class Extent:
    """The size of a guided search.

    Attributes:
        conditions: labels of the combinations of grid values; each has a search of its own.
        samples: settings of each.
        replicates: trials of a setting, its twins' left out.
        twins: most twins that any learner has.
    """

    conditions: tuple[str, ...]
    samples: int
    replicates: int
    twins: int

    @classmethod
    def of(cls, sweep: SweepSpec) -> Extent:
        """Return the size of a sweep's search."""
        space = SearchSpace(sweep)
        twins = max(len(probe.learners) for probe in space.probes()) - 1
        labels = tuple(condition.label for condition in space.conditions)
        return cls(labels, sweep.search.samples or 0, len(seed_pairs(sweep)), twins)

    @property
    def settings(self) -> int:
        """Settings in all, the twins' left out."""
        return len(self.conditions) * self.samples

    @property
    def trials(self) -> int:
        """Most trials in all: settings that repeat run once."""
        return self.settings * self.replicates * (1 + self.twins)

    def batch(self, at_once: int) -> int:
        """Return the settings at once in each study, so that so many trials run at once."""
        return max(1, math.ceil(at_once / (len(self.conditions) * self.replicates * (1 + self.twins))))

    def needed_bytes(self, plan: SweepPlan) -> int:
        """Estimate of what the trials write, each as much as the largest of those that were checked."""
        largest = max(map(plan.trial_bytes, plan.trials))
        return self.trials * largest + plan.needed_bytes(plan.trials[:1])


def open_studies(
    sweep: SweepSpec, content: Sequence[str], space: SearchSpace, folder: Path, batch: int
) -> tuple[SearchStudy, ...]:
    """Open or make a study for each condition.

    Args:
        sweep: the sweep.
        content: content hashes of its datasets.
        space: what it searches.
        folder: the output folder.
        batch: settings under way at once in each, unless the sweep or an earlier run has said so.

    Raises:
        SweepError: if the storage cannot be opened.
    """
    storage = open_storage(sweep.search.storage, folder, timed=sweep.privacy.mode == "research")
    return tuple(
        SearchStudy(name, sweep.search, space, condition, storage, batch)
        for name, condition in zip(study_names(sweep, content, space), space.conditions, strict=True)
    )


def told_settings(sweep: SweepSpec, content: Sequence[str], space: SearchSpace, folder: Path) -> int:
    """Count the settings that have been told, whether or not the studies exist yet; arguments as `open_studies`."""
    storage = open_storage(sweep.search.storage, folder, timed=sweep.privacy.mode == "research")
    known = set(optuna.get_all_study_names(storage))
    studies = [
        optuna.load_study(study_name=name, storage=storage)
        for name in study_names(sweep, content, space)
        if name in known
    ]
    states = (TrialState.COMPLETE, TrialState.FAIL)
    return sum(len(study.get_trials(deepcopy=False, states=states)) for study in studies)


def study_names(sweep: SweepSpec, content: Sequence[str], space: SearchSpace) -> tuple[str, ...]:
    """Return the name of each condition's study.

    A study belongs to what is searched and how: where any of it changes, a new one begins, and trials that it proposes
    again are not run again. More samples go on with the one there is.

    Args:
        sweep: the sweep.
        content: content hashes of its datasets.
        space: what it searches.

    Raises:
        SweepError: if two conditions are written alike.
    """
    identity = {
        "space": space.identity(),
        "search": sweep.search.model_dump(mode="json", exclude=_FREE),
        "seeds": sweep.model_dump(mode="json")["seeds"],
        "evaluation": sweep.evaluation.model_dump(mode="json", exclude={"dataset"}),
        "label": sweep.dataset.label,
        "groups": list(sweep.dataset.groups),
        "content": list(content),
        "mode": sweep.privacy.mode,
        "key": sweep.privacy.key,
    }
    text = json.dumps(with_former_names(identity), sort_keys=True, default=str)
    mark = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()[:_SHORT]
    labels = [condition.label for condition in space.conditions]
    if len(set(labels)) < len(labels):
        raise SweepError("two grid values have the same label; write them differently", ("search",))
    return tuple(f"{sweep.name}, {label} ({mark})" if label else f"{sweep.name} ({mark})" for label in labels)
