"""Correction for the number of tests of one family."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fairsweep.analysis.metrics.rates import Floats


def holm(p_values: npt.ArrayLike) -> Floats:
    """Return the p-values adjusted for their number; NaN entries are no comparisons and stay NaN.

    References:
        Holm 1979, Scandinavian Journal of Statistics 6(2).

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, np.float64)
    adjusted = np.full(p.shape, np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    stepped = np.maximum.accumulate(p[order] * (len(order) - np.arange(len(order))))
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted
