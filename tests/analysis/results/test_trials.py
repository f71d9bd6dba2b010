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
