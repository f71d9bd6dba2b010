"""One iteration of several learners, step by step, side by side.

A step of a small network takes most of its time in calls, not in arithmetic: here each operation is called once for
all. Every learner keeps its own batches, noise, clipping norm, learning rate, momentum and state. No number of one
depends on another's, but sums are taken in another order than alone, so that results equal those of a single run up to
rounding.

Shapes: M learners, B examples of the largest batch, P parameters.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from fairsweep.trainables.learning.iteration_report import IterationReport
from fairsweep.trainables.learning.stack_member import Found, StackableLearner, StackMember
from fairsweep.trainables.models.inputs import normalise, to_device
from fairsweep.trainables.privacy.flat_chain import FlatChain
from fairsweep.trainables.privacy.gradients import ExampleGradients
from fairsweep.trainables.privacy.precision import full_precision
from fairsweep.trainables.stacks.chain_pass import add_gradients

_MOST_ROWS, _MOST_BYTES = 4096, 64 * 2**20
"""Examples of all learners that are worked on at once, and what they take, where no learner sets a bound."""


@full_precision()
@torch.no_grad()
def step_together(learners: Sequence[StackableLearner]) -> list[IterationReport]:
    """Do one iteration of each learner.

    Args:
        learners: Of one `StackableLearner.stack_kind`, on one dataset, none of which has done all its iterations. They
            need not be at the same one.

    Returns:
        Their reports, each with an equal part of the seconds.
    """
    began = time.perf_counter()
    members = [learner.stack_member() for learner in learners]
    found = [Found(torch.zeros((), device=member.labels.device)) for member in members]
    done = 0
    while active := [place for place, member in enumerate(members) if member.stop - member.start > done]:
        until = min(members[place].stop - members[place].start for place in active)
        steps = _Steps([members[place] for place in active], [found[place] for place in active])
        for step in range(done, until):
            steps.take(step)
        steps.write_back()
        done = until
    seconds = (time.perf_counter() - began) / len(members)
    return [replace(member.report(outcome), seconds=seconds) for member, outcome in zip(members, found, strict=True)]


class _Steps:
    """Takes steps of some members, whose weights and momenta are rows of two matrices meanwhile.

    Args:
        members: Those that have steps left.
        found: What is found of each.
    """

    def __init__(self, members: Sequence[StackMember], found: Sequence[Found]) -> None:
        self._members, self._found = members, found
        first, self._device = members[0], members[0].labels.device
        chain, optimizers = FlatChain.of(first.network.model), [member.network.optimizer for member in members]
        if chain is None:
            raise ValueError("only chains of linear layers can be trained side by side: train the others alone")
        self._outline, self._feed = chain.outline, first.feed
        self._kind = "none" if first.clipping is None else first.clipping.kind
        self._momenta = [getattr(optimizer, "momentum", 0.0) for optimizer in optimizers]
        self._decays = [optimizer.weight_decay for optimizer in optimizers]
        self._is_nesterov = getattr(optimizers[0], "nesterov", False)
        self._shapes = [parameter.shape for parameter in first.network.parameters]
        self._weights_MP = self._rows([member.network.parameters for member in members])
        self._velocities_MP = self._rows([member.network.velocities() for member in members])
        self._momentum_M1, self._decay_M1 = self._column(self._momenta), self._column(self._decays)
        self._std_M1 = self._column([0.0 if member.noise is None else member.noise.std for member in members])
        self._denominator_M1 = self._column([member.denominator or 1.0 for member in members])
        self._bounds_M1 = None
        if self._kind != "none":
            norms = [None if member.clipping is None else member.clipping.l2_clip_norm for member in members]
            self._bounds_M1 = torch.tensor(norms, dtype=torch.float64, device=self._device)[:, None]
        # Labels and weights of all training sets one after the other: one index finds those of a whole step.
        self._labels = torch.cat([member.labels for member in members])
        self._offsets = np.cumsum([0, *(len(member.labels) for member in members[:-1])])
        self._loss_weights = None
        if any(member.loss_weights is not None for member in members):
            ones = [torch.ones_like(member.labels, dtype=torch.float32) for member in members]
            given = [one if m.loss_weights is None else m.loss_weights for m, one in zip(members, ones, strict=True)]
            self._loss_weights = torch.cat(given)
        most = min(_MOST_ROWS, _MOST_BYTES // (4 * self._outline.widths[0]))
        self._at_once = max(1, min(most, *(member.most_rows or most for member in members)) // len(members))

    def take(self, step: int) -> None:
        """Take a step, counted from the beginning of the iteration."""
        members, steps = self._members, [member.start + step for member in self._members]
        positions = [member.sampler.positions(own) for member, own in zip(members, steps, strict=True)]
        sums_MP = torch.zeros_like(self._weights_MP)
        self._add_batches(positions, sums_MP)
        if self._kind != "none":
            for place in (~sums_MP.sum(dim=1).isfinite()).nonzero()[:, 0].tolist():
                self._give_weights(place)
                with torch.enable_grad():
                    members[place].finite_sum(steps[place], self._views(sums_MP[place].zero_()))
        self._add_noise(steps, sums_MP)
        sums_MP.div_(self._denominator_M1)
        for place, member in enumerate(members):
            if member.measures(step):
                self._give_weights(place)
                with torch.enable_grad():
                    member.measure(step, self._views(sums_MP[place]))
        self._update(steps, sums_MP)

    def write_back(self) -> None:
        """Give every network its weights, and its optimiser its momenta."""
        for place, member in enumerate(self._members):
            self._give_weights(place)
            if self._momenta[place]:
                member.network.take_velocities(self._views(self._velocities_MP[place]))

    def _add_batches(self, positions: Sequence[np.ndarray], sums_MP: torch.Tensor) -> None:
        """Add the clipped gradients of all batches, as many columns at once as memory is allowed."""
        sizes = np.array([len(own) for own in positions])
        # Shorter batches are filled up with an example of their own, or of their training set, that weighs nothing.
        longest = max(sizes.max(initial=0), *(member.padded for member in self._members))
        places_MB = np.zeros((len(positions), longest), np.int64)
        for row, own in zip(places_MB, positions, strict=True):
            row[: len(own)] = own
            row[len(own) :] = own[0] if len(own) else 0
        parts = [
            self._add_columns(places_MB[:, start : start + self._at_once], sizes, start, sums_MP)
            for start in range(0, places_MB.shape[1], self._at_once)
        ]
        for place, (found, own) in enumerate(zip(self._found, positions, strict=True)):
            found.positions.append(own)
            mine = [(part.losses[place], part.norms[place], part.clipped[place]) for part in parts]
            if len(own):
                losses, norms, clipped = (torch.cat(each)[: len(own)] for each in zip(*mine, strict=True))
                found.loss_sum += losses.sum()
                found.gradients.append(ExampleGradients(losses, norms, clipped))

    def _add_columns(
        self, places_Mb: np.ndarray, sizes: np.ndarray, start: int, sums_MP: torch.Tensor
    ) -> ExampleGradients:
        """Add the gradients of some columns."""
        rows_Mb = np.stack([member.rows[own] for member, own in zip(self._members, places_Mb, strict=True)])
        inputs = normalise(to_device(self._feed.images(rows_Mb.ravel()), self._device))
        chosen_Mb = torch.from_numpy(places_Mb + self._offsets[:, None]).to(self._device)
        is_there_Mb = np.arange(start, start + places_Mb.shape[1]) < sizes[:, None]
        weights = is_there_Mb.astype(np.float32)
        for place, member in enumerate(self._members):
            if member.denominator is None and sizes[place]:
                weights[place] /= sizes[place]
        weights_Mb = torch.from_numpy(weights).to(self._device)
        if self._loss_weights is not None:
            weights_Mb = weights_Mb * self._loss_weights[chosen_Mb]
        return add_gradients(
            self._outline,
            self._weights_MP,
            inputs.reshape(*places_Mb.shape, -1),
            self._labels[chosen_Mb],
            weights_Mb,
            self._kind,
            self._bounds_M1,
            sums_MP,
        )

    def _add_noise(self, steps: Sequence[int], sums_MP: torch.Tensor) -> None:
        drawn = np.zeros(sums_MP.shape, np.float32)
        noises = [(place, m.noise) for place, m in enumerate(self._members) if m.noise is not None and m.noise.std > 0]
        for place, noise in noises:
            drawn[place] = noise.draw(sums_MP.shape[1], steps[place], torch.device("cpu")).numpy()
        if noises:
            sums_MP.addcmul_(torch.from_numpy(drawn).to(self._device), self._std_M1)

    def _update(self, steps: Sequence[int], updates_MP: torch.Tensor) -> None:
        """Take a step of SGD, as `torch.optim.SGD` does."""
        rates = [member.network.learning_rate(step) for member, step in zip(self._members, steps, strict=True)]
        if any(self._decays):
            updates_MP.addcmul_(self._weights_MP, self._decay_M1)
        if any(self._momenta):
            self._velocities_MP.mul_(self._momentum_M1).add_(updates_MP)
            if self._is_nesterov:
                updates_MP.addcmul_(self._velocities_MP, self._momentum_M1)
            else:
                updates_MP = self._velocities_MP
        self._weights_MP.addcmul_(updates_MP, self._column(rates), value=-1)

    def _give_weights(self, place: int) -> None:
        for parameter, weights in zip(
            self._members[place].network.parameters, self._views(self._weights_MP[place]), strict=True
        ):
            parameter.copy_(weights)

    def _views(self, flat_P: torch.Tensor) -> list[torch.Tensor]:
        """Return a vector as a tensor for each parameter."""
        parts = torch.split(flat_P, [shape.numel() for shape in self._shapes])
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def _rows(self, tensors: Sequence[Sequence[torch.Tensor]]) -> torch.Tensor:
        return torch.stack([torch.cat([part.detach().flatten() for part in own]) for own in tensors])

    def _column(self, values: Sequence[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self._device)[:, None]
