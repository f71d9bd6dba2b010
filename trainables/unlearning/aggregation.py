"""Aggregation of several models' predictions, as logits whose softmax is the aggregate; and as one module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import nn

from fairsweep.trainables.learning.learner import LearningTask
from fairsweep.trainables.models.network import Network

Aggregation = Literal["mean-probability", "majority-vote", "mean-logit"]

# The share of the mean probability that is mixed into a vote: it breaks ties, and no class gets probability 0.
TIE_SHARE = 2.0**-10
ROWS_AT_ONCE = 2048
"""Images that a shard's model predicts together."""


def aggregate(kind: Aggregation, logits_SBK: torch.Tensor, weights_S: torch.Tensor) -> torch.Tensor:
    """Aggregate the models' logits.

    Args:
        kind: ``mean-probability``: the weighted mean of the models' probabilities. ``majority-vote``: each model votes
            for its most probable class with its weight; 1/1024 of the result is the mean probability, so that it
            decides between classes whose votes are equal (or differ by less than 1/1024 of all). ``mean-logit``: the
            weighted mean of the logits, each model's centred by its own normaliser.
        logits_SBK: float [S, B, K].
        weights_S: float [S], >= 0, at least one positive.

    Returns:
        float32 [B, K], finite; its softmax is the aggregate.

    Raises:
        ValueError: If no weight is positive.
    """
    weights = weights_S.double()
    if not bool((weights >= 0).all()) or not bool(weights.sum() > 0):
        raise ValueError(f"weights must be >= 0 and one of them positive, but got {weights_S.tolist()}")
    used = weights > 0
    return mix(kind, logits_SBK[used], weights[used] / weights.sum())


def mix(kind: Aggregation, logits_SBK: torch.Tensor, shares_S: torch.Tensor) -> torch.Tensor:
    """Aggregate as `aggregate` does, without a look at any value, so that the computation can be exported.

    Args:
        kind: See `aggregate`.
        logits_SBK: float [S, B, K].
        shares_S: float64 [S], > 0, adding up to 1.

    Returns:
        float32 [B, K], finite; its softmax is the aggregate.
    """
    shares = shares_S.view(-1, 1, 1)
    log_probabilities = torch.log_softmax(logits_SBK.double(), dim=2)
    if kind == "mean-logit":
        return (shares * log_probabilities).sum(dim=0).float()
    mean = torch.logsumexp(log_probabilities + shares.log(), dim=0)
    if kind == "mean-probability":
        return mean.float()
    votes = torch.zeros_like(mean)
    for share, log_probability in zip(shares_S.unbind(), log_probabilities.unbind(), strict=True):
        voted = log_probability.argmax(dim=1, keepdim=True)
        votes = votes.scatter_add(1, voted, share.expand_as(voted))
    mixed = torch.logaddexp(
        votes.log() + torch.log1p(torch.tensor(-TIE_SHARE)).double(), mean + torch.tensor(TIE_SHARE).double().log()
    )
    return mixed.float()


def accuracy_of(model: Network, task: LearningTask) -> float:
    """Return a model's accuracy on the validation split. Raises: ValueError if there is none."""
    validation = task.validation
    if validation is None or len(validation.rows) == 0:
        raise ValueError("weighting 'validation-accuracy' needs a validation split, but there is none: choose another")
    right = 0
    for start in range(0, len(validation.rows), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        predicted = model.predict(task.feed.images(validation.rows[part])).argmax(dim=1).numpy()
        right += int((predicted == validation.labels[part]).sum())
    return right / len(validation.rows)


class ShardMixture(nn.Module):
    """The networks of shards that have examples, aggregated.

    Args:
        kind: How; see `fairsweep.trainables.unlearning.aggregation.aggregate`.
        networks: One for each shard.
        weights_S: float64 [S], each shard's weight, >= 0; a shard of weight 0 is left out.
    """

    shares: torch.Tensor

    def __init__(self, kind: Aggregation, networks: Mapping[int, nn.Module], weights_S: torch.Tensor) -> None:
        super().__init__()
        used = [shard for shard in networks if float(weights_S[shard]) > 0]
        self.kind = kind
        self.networks = nn.ModuleList(networks[shard] for shard in used)
        self.register_buffer("shares", weights_S[used].double() / weights_S.double().sum())

    def forward(self, inputs_BCHW: torch.Tensor) -> torch.Tensor:
        """Map float32 [B, C, H, W] to logits [B, K], whose softmax is the aggregate."""
        return mix(self.kind, torch.stack([network(inputs_BCHW) for network in self.networks]), self.shares)


def mixture_of(
    kind: Aggregation,
    weights_S: Sequence[float],
    state: Mapping[str, torch.Tensor],
    build: Callable[[Mapping[str, torch.Tensor]], nn.Module],
) -> ShardMixture:
    """Return the networks of shards as one module.

    Args:
        kind: How they are aggregated.
        weights_S: Each shard's weight, >= 0.
        state: Every shard's ``state_dict``; names begin with ``shards.NUMBER.``.
        build: Makes a shard's network with its weights.
    """
    networks = {}
    for shard in range(len(weights_S)):
        prefix = f"shards.{shard}."
        networks[shard] = build(
            {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        )
    return ShardMixture(kind, networks, torch.tensor(weights_S, dtype=torch.float64))
