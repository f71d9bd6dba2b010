"""Population-based training: members train in parallel, and the worst are replaced by perturbed copies of the best.

A whole population is one learner, so that one trial's keys decide all of it: where it is stopped and resumed, every
member goes on as if nothing had happened.

References:
    Jaderberg et al. 2017, "Population based training of neural networks", arXiv 1711.09846.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fairsweep.analysis.records.file_names import LINEAGE
from fairsweep.analysis.records.learner_records import lineage_table, write_lineage
from fairsweep.datasets.selection.randomness import generator
from fairsweep.trainables.learning.evaluation import DivergedError, EvaluationSet, rows_at_once
from fairsweep.trainables.learning.iteration_report import IterationReport
from fairsweep.trainables.learning.learner import Learner, LearningTask
from fairsweep.trainables.learning.measures import Standing
from fairsweep.trainables.models.network import Network, evaluated_weights
from fairsweep.trainables.models.optimizers import SgdOptimizer
from fairsweep.trainables.population.hyperparameters import Value, with_values
from fairsweep.trainables.population.pbt_config import PbtConfig, meaning_of
from fairsweep.trainables.population.selection_rounds import parents, ranked
from fairsweep.trainables.sgd.sgd_learner import Sgd, SgdConfig

State = Mapping[str, Any]


@dataclass(frozen=True)
class Member:
    """One member of a population between two generations.

    Attributes:
        values: Of its hyperparameters, by name.
        parent: The member that it went on from after the last generation: its own number, or that of the member that
            replaced it; None before the first.
        state: Of its learner, on the CPU; None before the first generation.
    """

    values: Mapping[str, Value]
    parent: int | None = None
    state: State | None = None


@dataclass(frozen=True)
class _Trained:
    """A member after a generation: its score is NaN if it is undefined, or the member has diverged."""

    member: Member
    score: float
    diverged: bool
    loss: float
    examples: int
    steps: int


class Pbt(Learner):
    """Trains a population, generation by generation; see `Learner` for what it offers.

    What it predicts, and the weights that it gives, are those of the member that was best in the last generation.

    Args:
        config: How.
        task: On what; members are ranked on its validation split.
    """

    config = PbtConfig
    final_weights = "weights of the member that validation ranked best"

    def __init__(self, config: PbtConfig, task: LearningTask) -> None:
        super().__init__(config, task)
        self.iterations = config.generations
        self._config = config
        self._task = task
        self._hyperparameters = config.hyperparameters
        self._meaning = meaning_of(task.roles)
        self._objective = config.objective.settled(self._meaning)
        self._validation = _validation_set(task)
        self.members = [Member(self._drawn(number)) for number in range(config.population)]
        self.best = 0
        self._lineage: list[dict[str, Any]] = []
        self._network: Network | None = None

    @property
    def lineage(self) -> tuple[Mapping[str, Any], ...]:
        """One row a generation and member, as in ``lineage.parquet``."""
        return tuple(self._lineage)

    def _iterate(self) -> IterationReport:
        """Trains and ranks one generation, and lets the worst go on from the best.

        Raises:
            DivergedError: If every member has diverged.
            ValueError: If the objective is undefined for every member.
        """
        generation = self.iteration + 1
        self._network = None  # made anew when it is asked for: until then the device holds one member alone
        trained = [self._train(number, generation) for number in range(len(self.members))]
        scores = [one.score * self._objective.sign for one in trained]
        best = ranked(scores)[0]
        self._lineage += [self._row(generation, number, one, best) for number, one in enumerate(trained)]
        self._check_some_score(trained, generation)
        members = [one.member for one in trained]
        if generation < self.iterations:
            chosen = parents(scores, self._config.quantile, self._task.keys.train, generation)
            members = self._next(members, chosen, generation)
        self.members, self.best, self.iteration = members, best, generation
        loss = trained[best].loss if self._task.diagnostics else math.nan
        examples, steps = sum(one.examples for one in trained), sum(one.steps for one in trained)
        return IterationReport(generation, loss, examples, steps)

    def predict(self, images_BHWC: np.ndarray) -> torch.Tensor:
        """Map uint8 [B, H, W, C] to the best member's logits, float32 [B, K] on the CPU."""
        return self._published().predict(images_BHWC)

    def _state(self) -> dict[str, Any]:
        return {
            "best": self.best,
            "members": [
                {"values": dict(member.values), "parent": member.parent, "state": member.state}
                for member in self.members
            ],
            "lineage": [dict(row) for row in self._lineage],
        }

    def _load(self, state: Mapping[str, Any]) -> None:
        if len(state["members"]) != len(self.members):
            raise ValueError(
                f"state must be of a population of {len(self.members)}, but is of one of {len(state['members'])}"
            )
        self.members = [Member(**content) for content in state["members"]]
        self.best = int(state["best"])
        self._lineage = [dict(row) for row in state["lineage"]]
        self._network = None

    def weights(self) -> dict[str, torch.Tensor]:
        """Return a copy of the best member's ``state_dict`` on the CPU."""
        return self._published().weights()

    def files(self) -> dict[str, Callable[[Path], None]]:
        """Return what writes the learner's own record: the lineage."""
        table = lineage_table(self._lineage, [field.name for field in self._hyperparameters])
        return {LINEAGE: lambda path: write_lineage(path, table)}

    # --- inside ---

    def _train(self, number: int, generation: int) -> _Trained:
        """Trains one member for a generation and scores it; no other member is on the device meanwhile."""
        member, config = self.members[number], self._config
        inner = with_values(config.inner, member.values)
        learner = Sgd(inner, self._member_task(number))
        if member.state is not None:
            learner.load(_under(inner, member.state, learner.state()))
        stop = min(generation * config.interval, inner.epochs)
        reports = [learner.step() for _ in range(learner.iteration, stop)]
        examples = sum(report.examples for report in reports)
        loss = sum(report.loss * report.examples for report in reports) / examples
        score = self._score(learner) if math.isfinite(loss) else None
        return _Trained(
            replace(member, state=learner.state()),
            math.nan if score is None else score,
            score is None,
            loss,
            examples,
            sum(report.steps for report in reports),
        )

    def _score(self, learner: Sgd) -> float | None:
        """Return the objective's measure on the validation split; None if the model's outputs are not finite."""
        try:
            outputs = self._validation.log_probabilities(learner, self._task.feed)
        except DivergedError:
            return None
        standing = Standing(
            self._validation.cells(0, outputs), predictions=self._validation.validation_predictions(outputs)
        )
        return self._objective.measure.of(standing, self._meaning)

    def _next(self, members: list[Member], chosen: list[int], generation: int) -> list[Member]:
        """Return the members after a generation: those that go on, and copies with changed hyperparameters."""
        return [
            replace(member, parent=number)
            if parent == number
            else Member(self._explored(members[parent].values, generation, number), parent, members[parent].state)
            for number, (member, parent) in enumerate(zip(members, chosen, strict=True))
        ]

    def _drawn(self, number: int) -> dict[str, Value]:
        return {field.name: field.draw(self._stream(field.name, 0, number)) for field in self._hyperparameters}

    def _explored(self, values: Mapping[str, Value], generation: int, number: int) -> dict[str, Value]:
        explored = {}
        for field in self._hyperparameters:
            stream = self._stream(field.name, generation, number)
            anew = stream.random() < self._config.resample
            explored[field.name] = (
                field.draw(stream) if anew else field.moved(values[field.name], self._config.factors, stream)
            )
        return explored

    def _stream(self, name: str, generation: int, number: int) -> np.random.Generator:
        """Return what a member draws for a hyperparameter after a generation; 0 is before the first."""
        return generator(self._task.keys.train, f"pbt explore {name}", generation, number)

    def _member_task(self, number: int) -> LearningTask:
        """Return a member's task: the first has the trial's own keys, so it trains as a learner of kind sgd would."""
        keys = self._task.keys
        if number:
            keys = keys.derived("pbt member", number)
        # Who has diverged is known by the loss, in every mode; it is reported where the task says so.
        return replace(self._task, keys=keys, folder=None, diagnostics=True)

    def _row(self, generation: int, number: int, trained: _Trained, best: int) -> dict[str, Any]:
        shown = self._task.diagnostics and math.isfinite(trained.loss)
        return {
            "generation": generation,
            "member": number + 1,
            "parent": None if trained.member.parent is None else trained.member.parent + 1,
            "score": None if math.isnan(trained.score) else trained.score,
            "loss": trained.loss if shown else None,
            "published": number == best and not math.isnan(trained.score),
            **trained.member.values,
        }

    def _check_some_score(self, trained: list[_Trained], generation: int) -> None:
        if all(one.diverged for one in trained):
            names = ", ".join(field.name for field in self._hyperparameters)
            raise DivergedError(
                f"all {len(trained)} members of the population have diverged in generation {generation}: their losses "
                f"or outputs are not finite; lower what is explored ({names}), above all learning rates"
            )
        if all(math.isnan(one.score) for one in trained):
            raise ValueError(
                f"the objective {self._objective} is undefined for every member in generation {generation}: the "
                "validation split must have examples of each group and label that it uses; enlarge it, or choose "
                "another objective"
            )

    def _published(self) -> Network:
        if self._network is None:
            task = self._task
            # Before the first generation, the initial weights of the first member: they follow from the key.
            self._network = Network(
                task.model,
                task.image_shape,
                task.classes,
                SgdOptimizer(),
                1,
                task.keys.of_weights,
                task.device,
                tail=task.tail,
            )
            state = self.members[self.best].state
            if state is not None:
                self._network.load_weights(evaluated_weights(state["network"]))
        return self._network


def _validation_set(task: LearningTask) -> EvaluationSet:
    """Return the examples by which members are ranked: those of the trial's own evaluation, cut as they are there."""
    chosen = task.validation
    if chosen is None or len(chosen.rows) == 0:
        raise ValueError(
            "a population is ranked on the validation split, but there is none: prepare the dataset with one, or write "
            "a split that makes one"
        )
    missing = [name for name in task.groups if name not in chosen.groups]
    if missing:
        raise ValueError(f"validation must have the codes of every group, but lacks {', '.join(missing)}")
    labels = np.asarray(chosen.labels, dtype=np.int16)
    groups = {name: chosen.groups[name] for name in task.groups}
    return EvaluationSet("validation", chosen.rows, chosen.rows, labels, groups, rows_at_once(task.image_shape))


def _under(config: SgdConfig, state: State, fresh: State) -> State:
    """Return a member's state as a learner with other hyperparameters takes it over.

    An optimiser keeps its hyperparameters beside its state: they are those of the new learner. Without momentum it
    keeps no velocity, so that one which comes back later does not begin with an old one.
    """
    optimizer = {**state["network"]["optimizer"], "param_groups": fresh["network"]["optimizer"]["param_groups"]}
    if config.optimizer.moments == 0:
        optimizer["state"] = {}
    return {**state, "network": {**state["network"], "optimizer": optimizer}}
