"""What every metric of confusion counts must do."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from fairsweep.analysis.metrics.catalogue import METRICS, Metric
from fairsweep.analysis.metrics.own_metrics import named_metric
from fairsweep.analysis.metrics.scores import Score
from fairsweep.sweeps.testing.contract import Contract, sources_of

_SHAPE = (3, 4)  # resamples and groups


class MetricContract(Contract):
    """The suite of metrics.

    Attributes:
        metric: As in a sweep file, ``FILE.py:NAME``, or a `fairsweep.analysis.Metric`.
        classes: How many classes there are.
    """

    given: ClassVar[tuple[str, ...]] = ("metric",)
    metric: Any
    classes: ClassVar[int] = 2

    @pytest.fixture
    def score(self, metric: str) -> Score:
        """Return its row."""
        name = metric if metric in METRICS else named_metric(metric, sources_of(metric))
        row = METRICS[name]
        assert isinstance(row, Score)
        return row

    @pytest.fixture
    def cells(self) -> Any:
        """Return counts, int64 [resamples, groups, K, K], some of them 0."""
        return np.random.default_rng(0).integers(0, 9, (*_SHAPE, self.classes, self.classes))

    def _values(self, score: Score, cells: Any) -> Any:
        return score.compute(cells, 1 if score.needs_positive else None)

    def test_it_is_one_number_for_each_entry_within_its_range(self, score: Score, cells: Any) -> None:
        values = self._values(score, cells)
        low, high = Metric(score, None, score.name).range
        assert values.shape == _SHAPE
        assert np.isfinite(values).any()
        known = values[np.isfinite(values)]
        assert low <= known.min()
        assert known.max() <= high

    def test_an_entry_does_not_depend_on_those_beside_it(self, score: Score, cells: Any) -> None:
        together = self._values(score, cells)
        for place in np.ndindex(_SHAPE):
            np.testing.assert_allclose(self._values(score, cells[place]), together[place])

    def test_without_examples_it_is_undefined_or_a_number_and_never_infinite(self, score: Score) -> None:
        assert not np.isinf(self._values(score, np.zeros((1, self.classes, self.classes), np.int64))).any()

    def test_it_changes_no_counts(self, score: Score, cells: Any) -> None:
        before = cells.copy()
        self._values(score, cells)
        assert np.array_equal(cells, before)

    def test_its_disparities_stand_beside_it(self, score: Score) -> None:
        assert f"{score.name}_difference" in METRICS
