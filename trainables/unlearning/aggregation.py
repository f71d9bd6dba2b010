"""Aggregation of several models' predictions, as logits whose softmax is the aggregate."""

from __future__ import annotations

from typing import Literal

import torch

from fairsweep.datasets.feeds.feed import Feed
from fairsweep.trainables.learning.learner import LabelledRows
from fairsweep.trainables.models.network import Network

Aggregation = Literal["mean-probability", "majority-vote", "mean-logit"]

# The share of the mean probability that is mixed into a vote: it breaks ties, and no class gets probability 0.
TIE_SHARE = 2.0**-10


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
    shares = (weights[used] / weights.sum()).view(-1, 1, 1)
    log_probabilities = torch.log_softmax(logits_SBK[used].double(), dim=2)
    if kind == "mean-logit":
        return (shares * log_probabilities).sum(dim=0).float()
    mean = torch.logsumexp(log_probabilities + shares.log(), dim=0)
    if kind == "mean-probability":
        return mean.float()
    votes = torch.zeros_like(mean)
    for share, log_probability in zip(shares.flatten().tolist(), log_probabilities, strict=True):
        votes.scatter_add_(1, log_probability.argmax(dim=1, keepdim=True), torch.full((len(mean), 1), share).double())
    mixed = torch.logaddexp(
        votes.log() + torch.log1p(torch.tensor(-TIE_SHARE)).double(), mean + torch.tensor(TIE_SHARE).double().log()
    )
    return mixed.float()


def accuracy_of(model: Network, validation: LabelledRows, feed: Feed, at_once: int) -> float:
    """Return a model's accuracy on the validation split, so many images at a time."""
    right = 0
    for start in range(0, len(validation.rows), at_once):
        part = slice(start, start + at_once)
        predicted = model.predict(feed.images(validation.rows[part])).argmax(dim=1).numpy()
        right += int((predicted == validation.labels[part]).sum())
    return right / len(validation.rows)
