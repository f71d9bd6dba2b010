"""DP-SGD: Poisson batches, per-example clipping, Gaussian noise, a constant denominator.

References:
    Abadi et al. 2016, "Deep learning with differential privacy", arXiv 1607.00133, algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fairsweep.datasets.feeds.feed import Batch
from fairsweep.datasets.selection.user_units import most_of_one_user
from fairsweep.trainables.auditing.canaries import Canaries
from fairsweep.trainables.auditing.training_audit import audit_examples
from fairsweep.trainables.dpsgd.diagnostics import GroupDiagnostics
from fairsweep.trainables.dpsgd.dpsgd_config import DpsgdConfig
from fairsweep.trainables.dpsgd.gradient_modes import (
    check_mode,
    choose_mode,
    make_mode,
    physical_batch_size,
)
from fairsweep.trainables.dpsgd.mode_names import current_mode
from fairsweep.trainables.dpsgd.weighted_rates import weights_of
from fairsweep.trainables.layers.example_dropout import draw_masks
from fairsweep.trainables.layers.numerics import use_numerics
from fairsweep.trainables.learning.iteration_report import IterationReport
from fairsweep.trainables.learning.learner import LearningTask
from fairsweep.trainables.learning.stack_member import Found, StackableLearner, StackMember
from fairsweep.trainables.models.augmentation import augmented_views
from fairsweep.trainables.models.inputs import ahead, normalise, to_device
from fairsweep.trainables.models.network import Network
from fairsweep.trainables.privacy.clipping import Clipping
from fairsweep.trainables.privacy.gradients import ExampleGradients, GradientMode, Plain, add_finite, pad
from fairsweep.trainables.privacy.plan import PrivacyPlan
from fairsweep.trainables.privacy.precision import full_precision
from fairsweep.trainables.privacy.privacy_statement import Mode, PrivacyStatement

AddClipped = Callable[
    [torch.Tensor, torch.Tensor, Clipping, Sequence[torch.Tensor], torch.Tensor | None], ExampleGradients
]


class Dpsgd(StackableLearner):
    """Trains one model privately; see `Learner` for what it offers.

    Args:
        config: How.
        task: On what.
        plan: The privacy plan, if it was made before; it is verified. None makes it here.
        canaries: Who is a canary of an audit, where somebody else has drawn them; None draws them here.

    Attributes:
        plan: The privacy plan: sampler, clipping, noise and accounting all come from it.
    """

    config = DpsgdConfig
    _config: DpsgdConfig

    def __init__(
        self,
        config: DpsgdConfig,
        task: LearningTask,
        plan: PrivacyPlan | None = None,
        canaries: Canaries | None = None,
    ) -> None:
        super().__init__(config, task)
        config.check_model(task.model)
        if plan is not None:
            plan.verify(config, task.size)
        self.iterations = config.epochs
        self.plan = plan or config.plan(task.size)
        self._config = config
        self._task = task
        self._views = config.augmentation_multiplicity
        self._physical = physical_batch_size(config.performance, task.model, task.device, task.tail, self._views)
        self._clipping = self.plan.bound()
        self._noise = self.plan.noise(task.keys.secret, task.keys.run)
        self._rates = None if config.sampling_weights is None else weights_of(config.sampling_weights, task)
        self._sampler = self.plan.inclusion(task.keys.secret, task.keys.run, self._rates)
        self._network = Network(
            task.model,
            task.image_shape,
            task.classes,
            config.optimizer,
            self.plan.steps,
            task.keys.of_weights,
            task.device,
            epochs=config.epochs,
            ema=config.ema,
            tail=task.tail,
        )
        labels, model = task.labels, self._network.model
        use_numerics(model, config.performance, task.device)
        self._audit = audit_examples(config.audit, task, self.plan, self._sampler, self._rates, model, canaries)
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
        self._begin_diagnostics()
        start, stop = self.steps_after(self.iteration), self.steps_after(self.iteration + 1)
        loss_sum = torch.zeros((), device=self._task.device)
        examples = 0
        batches = self._task.feed.batches(self._task.rows, self._sampler, start=start, stop=stop)
        for batch in ahead(batches, self._task.device):
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

    def _begin_diagnostics(self) -> None:
        if self._task.diagnostics:
            self._diagnostics = self._diagnostics or GroupDiagnostics(
                self._task, self._network, self._gradients().name == Plain.name, self._loss_weights
            )
            self._diagnostics.restart()

    def stack_kind(self) -> Hashable:
        """See `StackableLearner`; all of a stack clip by one rule, each to a norm of its own."""
        kind = super().stack_kind()
        return None if kind is None else (kind, self._clipping.kind)

    def stack_member(self) -> StackMember:
        """See `StackableLearner`."""
        self._begin_diagnostics()
        start, stop = self.steps_after(self.iteration), self.steps_after(self.iteration + 1)
        diagnostics = self._diagnostics

        def finite_sum(step: int, sums: Sequence[torch.Tensor]) -> None:
            (batch,) = self._task.feed.batches(self._task.rows, self._sampler, start=step, stop=step + 1)
            self._add_finite(batch)
            for total, own in zip(sums, self._sums, strict=True):
                total.copy_(own)

        def report(found: Found) -> IterationReport:
            if diagnostics is not None:
                for positions, gradients in found.steps():
                    diagnostics.count(torch.from_numpy(positions).to(self._task.device), gradients)
            self.iteration += 1
            return self._report(found.loss_sum, found.examples, stop - start)

        return self._member(
            start,
            stop,
            report,
            loss_weights=self._loss_weights,
            clipping=self._clipping,
            noise=self._noise,
            denominator=self.plan.expected_batch_size,
            most_rows=self._config.performance.physical_batch_size,
            padded=self.plan.max_batch_size or 0,
            measures=lambda step: diagnostics is not None and diagnostics.measures_at(step, stop - start),
            measure=lambda step, update: (
                None if diagnostics is None else diagnostics.measure(step, stop - start, update)
            ),
            finite_sum=finite_sum,
        )

    def steps_after(self, iteration: int) -> int:
        """Return how many steps are done after so many iterations: T times their share, rounded."""
        return round(self.plan.steps * iteration / self.iterations)

    def _accumulate(self, batch: Batch) -> torch.Tensor:
        """Sum a logical batch's clipped gradients, one physical batch after another; returns the sum of losses."""
        self._total.zero_()
        parts = [self._add_part(batch, start, self._gradients().add_clipped) for start in self._starts(batch)]
        if self._clipping.kind != "none" and not bool(self._total.sum().isfinite()):
            parts = self._add_finite(batch)
        if self._diagnostics is not None:
            for positions, gradients in parts:
                self._diagnostics.count(positions, gradients)
        losses = [gradients.losses.sum() for _, gradients in parts]
        return torch.stack(losses).sum() if losses else torch.zeros((), device=self._task.device)

    def _add_finite(self, batch: Batch) -> list[tuple[torch.Tensor, ExampleGradients]]:
        """Sum anew, without the examples whose gradients are not finite."""
        self._total.zero_()
        add = partial(add_finite, self._gradients(), model=self._network.model)
        return [self._add_part(batch, start, add) for start in self._starts(batch)]

    def _starts(self, batch: Batch) -> range:
        """Return where physical batches begin; padded ones are as many in every step."""
        return range(0, self.plan.max_batch_size or len(batch.positions), self._physical)

    def _add_part(self, batch: Batch, start: int, add: AddClipped) -> tuple[torch.Tensor, ExampleGradients]:
        """Add the clipped gradients of one physical batch to the total; returns its positions and what is known."""
        part = slice(start, start + self._physical)
        inputs = normalise(to_device(batch.images[part], self._task.device))
        key, ids = self._task.keys.train, batch.ids[part]
        inputs = augmented_views(inputs, self._config.augmentation, key, batch.step, ids, self._views)
        positions = torch.from_numpy(batch.positions[part]).to(self._task.device)
        labels = self._labels[positions]
        weights = None if self._loss_weights is None else self._loss_weights[positions]
        if self.plan.max_batch_size is None:
            draw_masks(self._network.model, key, batch.step, ids, self._views)
            return positions, add(inputs, labels, self._clipping, self._sums, weights)
        blank = min(self._physical, self.plan.max_batch_size - start) - len(positions)
        draw_masks(self._network.model, key, batch.step, np.pad(ids, (0, blank)), self._views)
        padded = pad(inputs, labels, weights, len(positions) + blank, self._views)
        return positions, add(*padded[:2], self._clipping, self._sums, padded[2]).first(len(positions))

    def _gradients(self) -> GradientMode:
        """Return the gradient mode, chosen at the first call."""
        if self._mode is None:
            name: str = self._config.performance.gradient_mode
            if self._clipping.kind == "none":
                name = "plain"
            elif name == "auto":
                task = self._task
                precision = self._config.performance.precision
                name = choose_mode(
                    task.model,
                    task.image_shape,
                    task.classes,
                    self._clipping,
                    task.device,
                    self._physical,
                    task.tail,
                    self._views,
                    precision,
                ).mode
            self._mode = self._make_mode(name)
        return self._mode

    def _make_mode(self, name: str) -> GradientMode:
        model, task = self._network.model, self._task
        if task.model.is_foreign and name != Plain.name:
            check_mode(name, model, task.input_shape, self._clipping)
        return make_mode(name, model, self._config.performance.precision)

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

    def canary_scores(self) -> torch.Tensor | None:
        """Return the score of each canary so far, float64 [m] on the CPU; None without an audit."""
        return None if self._audit is None else torch.from_numpy(self._audit.scores(self.predict))

    def privacy(self, charged_steps: float | None = None) -> PrivacyStatement:
        """Return what has been spent so far."""
        mode: Mode = "research" if self._task.diagnostics else "release"
        done, users = self.steps_after(self.iteration), most_of_one_user(self._task.users)
        stated = self.plan.statement(done, mode, charged_steps, users, lost=len(self._task.former_secrets))
        return stated if self._audit is None else self._audit.state_assumption(stated)
