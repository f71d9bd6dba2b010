"""Contracts that learners, models, sources, metrics and trackers of the user's own are put through, by pytest.

Importable as ``fairsweep.testing``::

    from fairsweep.testing import LearnerContract

    class TestMine(LearnerContract):
        learner = {"kind": "my_learner.py:Mine", "epochs": 2}
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from fairsweep.analysis.lazy import lazy_names

if TYPE_CHECKING:
    from fairsweep.sweeps.testing.learner_contract import LearnerContract
    from fairsweep.sweeps.testing.metric_contract import MetricContract
    from fairsweep.sweeps.testing.model_contract import ModelContract
    from fairsweep.sweeps.testing.source_contract import SourceContract
    from fairsweep.sweeps.testing.tracker_contract import TrackerContract

__all__ = ["LearnerContract", "MetricContract", "ModelContract", "SourceContract", "TrackerContract"]

_HOMES = {
    "LearnerContract": "learner_contract",
    "MetricContract": "metric_contract",
    "ModelContract": "model_contract",
    "SourceContract": "source_contract",
    "TrackerContract": "tracker_contract",
}

_MODULES = {f"fairsweep.sweeps.testing.{home}" for home in _HOMES.values()}
pytest.register_assert_rewrite(*(_MODULES - sys.modules.keys()))

__getattr__, __dir__ = lazy_names("fairsweep.sweeps.testing", _HOMES)
