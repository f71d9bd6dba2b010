"""Clipping: no example moves the sum by more than S."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairsweep.trainables.privacy.clipping import Clipping

norms = st.lists(st.floats(0, 1e15), min_size=1, max_size=12)


@given(norms=norms, bound=st.floats(1e-3, 1e3), kind=st.sampled_from(["flat", "per_layer"]))
def test_no_clipped_gradient_exceeds_the_bound_and_short_ones_stay(norms, bound, kind):
    squared = torch.tensor(norms, dtype=torch.float64).square()[:, None]
    factors = Clipping(kind, bound).factors(squared)
    clipped = (factors.square() * squared).sum().sqrt()
    assert float(clipped) <= bound * (1 + 1e-12)
    assert bool(((factors > 0) & (factors <= 1)).all())
    if squared.sum().sqrt() < bound / (math.sqrt(len(norms)) if kind == "per_layer" else 1):
        assert bool((factors == 1).all())


def test_flat_clipping_keeps_the_direction_and_per_layer_clips_each_layer_to_its_share():
    squared = torch.tensor([[9.0, 0.01], [16.0, 0.0]])
    assert torch.equal(Clipping("flat", 1.0).factors(squared), torch.tensor([[0.2, 1.0], [0.2, 1.0]]))
    share = 1 / math.sqrt(2)
    torch.testing.assert_close(
        Clipping("per_layer", 1.0).factors(squared), torch.tensor([[share / 3, 1.0], [share / 4, 1.0]])
    )


def test_a_zero_gradient_has_a_finite_factor():
    for kind in ("flat", "per_layer"):
        assert torch.equal(Clipping(kind, 0.5).factors(torch.zeros(3, 2)), torch.ones(3, 2))


@pytest.mark.parametrize("norm", [None, 0.0, -1.0, math.inf, math.nan])
def test_clipping_needs_a_positive_norm(norm):
    with pytest.raises(ValueError, match="positive and finite"):
        Clipping("flat", norm)
    assert torch.equal(Clipping("none", norm).factors(torch.full((1, 2), 1e9)), torch.ones(1, 2))
