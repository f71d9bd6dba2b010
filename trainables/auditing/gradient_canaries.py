"""Gradient canaries: large gradients along coordinates of their own, and what a training step reveals of them.

References:
    Nasr et al. 2023, "Tight auditing of differentially private machine learning", arXiv 2302.07956, section 5
    (gradients of the greatest norm, Dirac canaries); in one training: Steinke et al. 2023, arXiv 2305.08846, section 6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from fairsweep.datasets.selection.randomness import generator
from fairsweep.datasets.selection.sampling import Sampler
from fairsweep.trainables.auditing.canaries import Canaries
from fairsweep.trainables.privacy.clipping import Clipping
from fairsweep.trainables.privacy.gradients import layers_of
from fairsweep.trainables.privacy.mechanism import Mechanism

_BEFORE_CLIPPING = 10.0  # norm of a canary's gradient before clipping, over the clipping norm


class GradientCanaries:
    """Adds the gradients of the canaries that are in and drawn, and scores all canaries by what is published.

    With one norm over all layers, a canary's gradient is one coordinate of the whole vector; per layer it is one of
    each layer, so that its norm after clipping is S in both cases. Whoever scores knows the training but for noise,
    coins and who of the canaries was drawn: what others contributed is subtracted, unless the sampler cuts batches,
    where others' being there tells of the canaries.

    Args:
        canaries: Who is one.
        mechanism: What is claimed of the training.
        sampler: Who joins which step, canaries included.
        weights: float64 [n], each unit's sampling weight, for ``weighted_poisson``.
        model: Whose gradients they are.
        key: 32 bytes, public; coordinates follow from it.

    Attributes:
        scores: float64 [m] on the device, larger where a canary seems to be in: the log likelihood ratio of all steps.
    """

    def __init__(
        self,
        canaries: Canaries,
        mechanism: Mechanism,
        sampler: Sampler,
        weights: np.ndarray | None,
        model: nn.Module,
        key: bytes,
    ) -> None:
        parameters = [p for p in model.parameters() if p.requires_grad]
        device = parameters[0].device
        self._canaries, self._mechanism, self._sampler = canaries, mechanism, sampler
        self._places = np.full(mechanism.population, -1, np.int64)
        self._places[canaries.positions] = np.arange(len(canaries.positions))
        self._coordinates = torch.from_numpy(_coordinates(model, mechanism, len(canaries.positions), key)).to(device)
        own = np.ones(len(canaries.positions)) if weights is None else weights[canaries.positions]
        self._rates = torch.from_numpy(mechanism.sampling_rate * np.asarray(own, np.float64)).to(device)
        self._background: torch.Tensor | None = None
        self._norm = 1.0
        self.scores = torch.zeros(len(canaries.positions), dtype=torch.float64, device=device)

    def add_to(self, total: torch.Tensor, step: int, clipping: Clipping) -> np.ndarray:
        """Add a step's clipped gradients of canaries to the sum of everybody else's.

        Args:
            total: float32 [P]; changed in place.
            step: Which step.
            clipping: The rule of the step.

        Returns:
            float64 [C], the norms before clipping of the canaries that were drawn and are in.
        """
        if self._mechanism.max_batch_size is None:
            self._background = total[self._coordinates]
        places = self._places[self._sampler.positions(step)]
        drawn = places[places >= 0]
        drawn = drawn[self._canaries.coins[drawn]]
        self._norm = 1.0 if clipping.l2_clip_norm is None else clipping.l2_clip_norm
        layers, norm = len(self._coordinates), _BEFORE_CLIPPING * self._norm
        raw_LC = torch.full((layers, len(drawn)), norm / math.sqrt(layers), device=total.device)
        clipped_LC = raw_LC * clipping.factors(raw_LC.square())
        chosen = self._coordinates[:, torch.from_numpy(drawn).to(total.device)]
        total.index_add_(0, chosen.flatten(), clipped_LC.flatten())
        return np.full(len(drawn), norm)

    def observe(self, update: torch.Tensor, noise_std: float) -> None:
        """Score a step by the noised mean that it published.

        Args:
            update: float32 [P], the sum over the plan's constant.
            noise_std: Standard deviation of the noise of the sum, as the plan has it; 0 without noise.
        """
        seen_LM = update[self._coordinates].double() * self._mechanism.expected_batch_size
        if self._background is not None:
            seen_LM -= self._background
        along_M = seen_LM.sum(dim=0) / (math.sqrt(len(seen_LM)) * self._norm)
        if noise_std == 0:
            self.scores += along_M
            return
        ratio_M = (2 * along_M - 1) / (2 * (noise_std / self._norm) ** 2)
        self.scores += torch.logaddexp(torch.log1p(-self._rates), self._rates.log() + ratio_M)


def _coordinates(model: nn.Module, mechanism: Mechanism, count: int, key: bytes) -> np.ndarray:
    """Return where each canary's gradient is not 0, int64 [L, m]; different ones as far as a layer has enough."""
    sizes = [p.numel() for p in model.parameters() if p.requires_grad]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    layers: Sequence[Sequence[int]] = [range(len(sizes))]
    if mechanism.clipping == "per_layer":
        layers = [layer.indices for layer in layers_of(model)]
    found = []
    for number, indices in enumerate(layers):
        ends = np.cumsum([sizes[index] for index in indices])
        total, draws = int(ends[-1]), generator(key, "canary coordinates", number)
        inside = np.concatenate(
            [draws.choice(total, min(total, count - start), replace=False) for start in range(0, count, total)]
        )
        part = np.searchsorted(ends, inside, side="right")
        offsets = starts[list(indices)] - np.concatenate([[0], ends[:-1]])
        found.append(inside + offsets[part])
    return np.stack(found).astype(np.int64)
