"""Permutation of groups among examples that are otherwise alike, for tests of disparities.

What is held fixed is what the metric is given: the label for rates of one label, the prediction for predictive values,
nothing for rates of all examples. So groups that differ in their base rates alone are equal in true positive rate here.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from fairsweep.analysis.metrics.disparities import BASES, Disparity
from fairsweep.analysis.metrics.rates import Counts, Floats, Given


def held_fixed(row: Disparity) -> Given:
    """Return what a permutation of the groups must hold fixed for a disparity.

    It is nothing where the disparity's rates disagree.
    """
    given = {BASES[name].given for name in row.rates}
    return given.pop() if len(given) == 1 else "nothing"


def permuted_cells(cells: Counts, given: Given, draws: int, generator: np.random.Generator) -> Counts:
    """Return the cells after random permutations of the groups.

    Args:
        cells: int64 [G, K, K].
        given: within what the groups are permuted.
        draws: number of permutations.
        generator: source of the draws.

    Returns:
        int64 [draws, G, K, K]; the size of each group (and label, or prediction) is that of ``cells``.

    References:
        Patefield 1981, doi 10.2307/2346669: tables with given margins, drawn as permutations draw them.
    """
    groups, classes, _ = cells.shape
    result = np.zeros((draws, *cells.shape), np.int64)
    if given == "nothing":
        result[:] = _tables(cells.reshape(groups, -1), draws, generator).reshape(draws, groups, classes, classes)
        return result
    for code in range(classes):
        if given == "label":
            result[:, :, code, :] = _tables(cells[:, code, :], draws, generator)
        else:
            result[:, :, :, code] = _tables(cells[:, :, code], draws, generator)
    return result


def permuted_groups(groups: Counts, given: Counts | None, draws: int, generator: np.random.Generator) -> Counts:
    """Return the groups of examples after random permutations: int64 [N] -> int64 [draws, N].

    Args:
        groups: code of each example's group.
        given: codes within which the groups are permuted, int64 [N]; None permutes all.
        draws: number of permutations.
        generator: source of the draws.
    """
    result = np.repeat(groups[None], draws, axis=0)
    for rows in [np.arange(len(groups))] if given is None else [np.flatnonzero(given == c) for c in np.unique(given)]:
        result[:, rows] = generator.permuted(result[:, rows], axis=1)
    return result


def p_value(observed: float, drawn: Floats, row: Disparity) -> float:
    """Return the share of permutations at least as unfair as what was observed, which counts as one of them.

    A disparity that is undefined in a permutation counts as no less unfair. NaN where ``observed`` is.

    References:
        Phipson & Smyth 2010, doi 10.2202/1544-6115.1585.
    """
    if not np.isfinite(observed):
        return float("nan")
    slack = 1e-12
    sign = -1.0 if row.falls else 1.0
    extreme = ~(sign * drawn < sign * observed - slack)
    return float((1 + extreme.sum()) / (1 + len(drawn)))


def _tables(table: Counts, draws: int, generator: np.random.Generator) -> Counts:
    """Return random tables with the margins of one: int64 [R, C] -> int64 [draws, R, C]."""
    result = np.zeros((draws, *table.shape), np.int64)
    rows, columns = np.flatnonzero(table.sum(1)), np.flatnonzero(table.sum(0))
    if len(rows) < 2 or len(columns) < 2:
        result[:] = table
        return result
    inside = table[np.ix_(rows, columns)]
    drawn = stats.random_table(inside.sum(1), inside.sum(0)).rvs(size=draws, random_state=generator)
    result[np.ix_(np.arange(draws), rows, columns)] = np.rint(drawn).astype(np.int64)
    return result
