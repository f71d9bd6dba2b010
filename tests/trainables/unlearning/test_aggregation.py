"""Aggregates of several models' predictions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsweep.trainables.unlearning.aggregation import aggregate

LOGITS = torch.tensor(
    [[[2.0, 0.0, -1.0], [0.0, 1.0, 0.9]], [[0.5, 1.0, 0.0], [0.0, 3.0, 0.0]], [[0.4, 0.6, 0.0], [5.0, 0.0, 0.0]]]
)


def test_mean_probability_is_the_log_of_the_weighted_mean():
    weights = torch.tensor([1.0, 2.0, 1.0])
    mean = (torch.softmax(LOGITS.double(), 2) * torch.tensor([0.25, 0.5, 0.25]).view(3, 1, 1)).sum(0)
    torch.testing.assert_close(torch.softmax(aggregate("mean-probability", LOGITS, weights).double(), 1), mean)


def test_mean_logit_has_the_order_of_the_sum_of_logits():
    ours = aggregate("mean-logit", LOGITS, torch.ones(3))
    torch.testing.assert_close(torch.softmax(ours, 1), torch.softmax(LOGITS.mean(0), 1))


def test_the_majority_wins_and_ties_go_by_mean_probability():
    ours = aggregate("majority-vote", LOGITS, torch.ones(3))
    assert ours[0].argmax() == 1  # two votes of three, though the mean probability prefers class 0
    assert aggregate("mean-probability", LOGITS, torch.ones(3))[0].argmax() == 0
    torch.testing.assert_close(torch.softmax(ours[0], 0), torch.tensor([1 / 3, 2 / 3, 0]), atol=2e-3, rtol=0)
    tied = aggregate("majority-vote", LOGITS[:2], torch.ones(2))[0]
    assert tied.argmax() == aggregate("mean-probability", LOGITS[:2], torch.ones(2))[0].argmax()


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(["mean-probability", "majority-vote", "mean-logit"]),
    scale=st.sampled_from([0.0, 1.0, 100.0, 1e4]),
    seed=st.integers(0, 100),
)
def test_logits_are_finite_whatever_the_models_say(kind, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(4, 6, 3, generator=generator)
    weights = torch.tensor([0.0, 1.0, 2.0, 0.5])
    ours = aggregate(kind, logits, weights)
    assert torch.isfinite(ours).all()
    assert torch.equal(ours, aggregate(kind, logits[1:], weights[1:]))


def test_without_a_positive_weight_there_is_no_aggregate():
    with pytest.raises(ValueError, match="one of them positive"):
        aggregate("mean-logit", LOGITS, torch.zeros(3))
