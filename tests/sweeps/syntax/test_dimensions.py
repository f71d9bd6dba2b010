import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fairsweep.datasets.selection.randomness import seed_key
from fairsweep.sweeps.syntax.dimensions import Space
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.trainables.sgd.sgd_learner import SgdConfig

KEY = seed_key(0, "search")


def draws(dimension, count=400, key=KEY, purpose="model"):
    space = Space.parse({"x": dimension})
    return [next(space.points(sample, key, purpose))[("x",)] for sample in range(count)]


def test_a_space_without_dimensions_has_one_point():
    space = Space.parse({"name": "cnn", "optimizer": {"lr": 0.1}})
    (point,) = space.points(0, KEY, "model")
    assert space.at(point) == {"name": "cnn", "optimizer": {"lr": 0.1}}


def test_grids_are_crossed_in_the_order_of_the_file():
    space = Space.parse({"a": {"grid": [1, 2]}, "deep": {"b": {"grid": ["x", "y"]}}, "keep": {8: {"grid": [5, None]}}})
    filled = [space.at(point) for point in space.points(0, KEY, "model")]
    assert len(filled) == 8
    assert filled[0] == {"a": 1, "deep": {"b": "x"}, "keep": {8: 5}}
    assert filled[-1] == {"a": 2, "deep": {"b": "y"}, "keep": {8: None}}


def test_mappings_that_are_no_dimensions_stay():
    raw = {"balance": {"grid": [1], "other": 2}, "majority": {"code": 0}, "x": {"gird": [1]}}
    assert Space.parse(raw).dimensions == ()


def test_drawn_values_have_the_stated_distribution():
    uniform = draws({"uniform": [2, 5]})
    assert stats.kstest(uniform, stats.uniform(2, 3).cdf).pvalue > 1e-3
    logarithms = np.log(draws({"loguniform": [1e-4, 1e-1]}))
    span = math.log(1e-1) - math.log(1e-4)
    assert stats.kstest(logarithms, stats.uniform(math.log(1e-4), span).cdf).pvalue > 1e-3
    whole = np.bincount(draws({"randint": [3, 7]}), minlength=8)
    assert whole[:3].sum() == whole[7] == 0
    assert stats.chisquare(whole[3:7]).pvalue > 1e-3
    words = draws({"choice": ["a", "b", "c"]})
    assert stats.chisquare([words.count(word) for word in "abc"]).pvalue > 1e-3
    assert all(type(value) is int for value in draws({"randint": [0, 9]}, 5))


def test_a_draw_depends_on_its_own_place_alone():
    small = Space.parse({"x": {"uniform": [0, 1]}})
    large = Space.parse({"w": {"choice": [1, 2, 3]}, "x": {"uniform": [0, 1]}, "y": {"grid": [1, 2]}})
    for sample in range(5):
        (alone,) = small.points(sample, KEY, "model")
        among = list(large.points(sample, KEY, "model"))
        assert {point[("x",)] for point in among} == {alone[("x",)]}
    assert draws({"uniform": [0, 1]}, 3, purpose="model") != draws({"uniform": [0, 1]}, 3, purpose="imbalance")
    assert draws({"uniform": [0, 1]}, 3) != draws({"uniform": [0, 1]}, 3, key=seed_key(1, "search"))


@given(st.lists(st.integers(), min_size=1, max_size=5, unique=True), st.integers(1, 3))
def test_every_combination_comes_once(values, others):
    space = Space.parse({"a": {"grid": values}, "b": {"grid": list(range(others))}})
    found = [tuple(value for _, value in point.values) for point in space.points(0, KEY, "model")]
    assert len(found) == len(set(found)) == len(values) * others


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"grid": []}, "needs a list"),
        ({"grid": 3}, "needs a list"),
        ({"grid": [1, 1]}, "must differ"),
        ({"uniform": [1]}, "a < b"),
        ({"uniform": [2, 1]}, "a < b"),
        ({"uniform": ["a", "b"]}, "a < b"),
        ({"uniform": [0, float("inf")]}, "a < b"),
        ({"loguniform": [0, 1]}, "0 < a"),
        ({"randint": [0.5, 2]}, "whole numbers"),
    ],
)
def test_malformed_dimensions_are_named_with_their_place(raw, message):
    with pytest.raises(SweepError, match=message) as caught:
        Space.parse({"optimizer": {"lr": raw}})
    assert caught.value.location == ("optimizer", "lr")


def test_a_config_model_is_a_space_without_dimensions():
    space = Space.parse(SgdConfig(name="plain", epochs=3))
    assert space.raw == {"kind": "sgd", "name": "plain", "epochs": 3}
    with pytest.raises(SweepError, match="mapping"):
        Space.parse([1])
