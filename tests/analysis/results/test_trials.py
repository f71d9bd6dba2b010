"""Fields by which series are named and trials are matched."""

import doctest

from fairsweep.analysis.results import trials
from fairsweep.analysis.results.trials import varying_fields


def test_doctest():
    assert doctest.testmod(trials).failed == 0


def test_precision_names_a_series_and_speed_does_not():
    """Trials of versions before precision could be chosen had float32."""
    before = varying_fields({"learner": {"name": "x", "epochs": 3}})
    fast = varying_fields({"learner": {"name": "x", "epochs": 3, "performance": {"gradient_mode": "hooks"}}})
    half = varying_fields({"learner": {"name": "x", "epochs": 3, "performance": {"precision": "bfloat16"}}})
    assert fast == before
    changed = {key: (before[key], value) for key, value in half.items() if before[key] != value}
    assert changed == {"learner.performance.precision": ("float32", "bfloat16")}


def test_initial_weights_name_a_series():
    """Trials of versions before they could be chosen had He's, and do not say so."""
    before, now = (varying_fields({"model": {"name": "cnn", **named}}) for named in ({}, {"initial": "torch"}))
    assert {key: (before[key], now[key]) for key in now if before[key] != now[key]} == {
        "model.initial": ("he", "torch")
    }
