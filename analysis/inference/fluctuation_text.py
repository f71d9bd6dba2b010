"""Paragraph that describes the result of `explain_fluctuations`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from fairsweep.analysis.statistics.effects import POWER
from fairsweep.analysis.verdicts.verdict_sentences import points_text, reason
from fairsweep.analysis.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fairsweep.analysis.inference.level_tables import LevelTable
    from fairsweep.analysis.verdicts.verdict import Verdict

_LEVEL = 0.05


def describe_sources(table: LevelTable, parts: pd.DataFrame, test_p_value: float) -> str:
    """Return sentences on what the values of `explain_fluctuations` vary by, without a verdict."""
    sentences = _what(table), _test_alone(table, test_p_value), _components(parts)
    return " ".join(sentence for sentence in sentences if sentence)


def describe_verdicts(
    table: LevelTable, neighbours: pd.DataFrame, trend: Verdict | None, power: Sequence[float], change: float
) -> str:
    """Return sentences on the trend and the steps of `explain_fluctuations`, and on what would find a step.

    Args:
        table: the values.
        neighbours: the steps.
        trend: verdict on the trend.
        power: the detectable step, and the seeds and images that would find ``change``.
        change: a step.
    """
    detectable, seeds, images = power
    sentences = [
        _trend(table, trend),
        _steps(table, neighbours),
        _detectable(detectable),
        _needed(table, seeds, images, change, detectable),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def points(value: float) -> str:
    """Return a share in percentage points: ``1.4``.

    >>> points(0.0137)
    '1.4'
    """
    return f"{100 * value:.1f}" if abs(value) >= 0.0095 or value == 0 else f"{100 * value:.2g}"


def _what(table: LevelTable) -> str:
    replicates, levels = table.values.shape
    means = table.values.mean(0)
    who = f" of {table.group}" if table.group not in ("all", "") else ""
    low, high = 100 * means.min(), 100 * means.max()
    seeds = "one seed" if replicates == 1 else f"{replicates} replicates"
    n = sorted({int(value) for value in (table.n.min(), table.n.max())})
    images = f"{n[0]:,}" if len(n) == 1 else f"{n[0]:,} to {n[-1]:,}"
    return (
        f"The {table.metric}{who} lies between {low:.1f} and {high:.1f}% over {counted(levels, 'level')} of "
        f"{table.over} ({seeds} at each, {images} test {table.unit}s behind a value)."
    )


def _test_alone(table: LevelTable, p_value: float) -> str:
    if len(table.levels) == 1:
        return ""
    if np.isnan(p_value):
        return "The contribution of test sampling is unknown."
    if p_value >= _LEVEL:
        return (
            f"Test sampling alone suffices to explain these differences: values with one true {table.metric} would "
            f"vary at least as much in {100 * p_value:.0f}% of cases."
        )
    shown = f"{100 * p_value:.1f}%" if p_value >= 0.001 else "fewer than 0.1%"
    return (
        f"Test sampling alone does not explain these differences: it would cause as much variation in {shown} of cases."
    )


def _components(parts: pd.DataFrame) -> str:
    """Return the standard deviations of the identified components, and why others are not identified."""
    known = parts[parts["variance"].notna()]
    unknown = parts[parts["variance"].isna()]
    columns = (known[name].clip(lower=0) ** 0.5 for name in ("variance", "low", "high"))
    rows = zip(known["component"], *(column.tolist() for column in columns), strict=True)
    texts = [
        f"{name} {points(value)}" + (f" [{points(low)}, {points(high)}]" if np.isfinite([low, high]).all() else "")
        for name, value, low, high in rows
    ]
    sentence = f"Standard deviations in percentage points, with 95% intervals: {', '.join(texts)}." if texts else ""
    reasons = dict.fromkeys(unknown["reason"])
    missing = [
        f"{' and '.join(unknown.loc[unknown['reason'] == reason, 'component'])} ({reason})" for reason in reasons
    ]
    return f"{sentence} Not identified: {'; '.join(missing)}." if missing else sentence


def _trend(table: LevelTable, trend: Verdict | None) -> str:
    """Return the change from the first to the last level along a line, with its verdict."""
    if trend is None or not np.isfinite(trend.estimate):
        return ""
    change = points_text(trend.estimate, trend.low, trend.high)
    first, last = (_name(table.levels[place]) for place in (0, -1))
    return f"Along a line, the estimated change from {first} to {last} is {change}. {reason(trend)}"


def _steps(table: LevelTable, neighbours: pd.DataFrame) -> str:
    count = len(neighbours)
    if not count or len(table.values) == 1:
        return ""
    real = neighbours[neighbours["differ"]]
    counts = f"{counted(count, 'comparison')}, Holm"
    if not len(real):
        return f"No single step between neighbouring levels is statistically significant ({counts})."
    rows = zip(real["level"], real["next"], real["difference"].tolist(), strict=True)
    texts = [f"{_name(level)} and {_name(following)} ({100 * change:+.1f})" for level, following, change in rows]
    return f"Of {count} pairs of neighbouring levels, these differ significantly (Holm): {', '.join(texts)}."


def _name(level: object) -> str:
    return f"{level:g}" if isinstance(level, float) else str(level)


def _detectable(detectable: float) -> str:
    if np.isnan(detectable):
        return ""
    if np.isinf(detectable):
        return f"No change between neighbouring levels, however large, is detectable with {POWER:.0%} power."
    return f"A change of {points(detectable)} points between neighbouring levels is detectable with {POWER:.0%} power."


def _needed(table: LevelTable, seeds: float, images: float, change: float, detectable: float) -> str:
    if np.isfinite(detectable) and detectable <= change:
        return ""
    target = f"To find {points(change)} points"
    if len(table.values) == 1:
        return f"{target}, several seeds are needed first: one says nothing about the variation between training runs."
    more_seeds = f"{seeds:.0f} replicates" if np.isfinite(seeds) else "no number of replicates"
    if not table.same_images:
        return f"{target}, {more_seeds} with the same number of test {table.unit}s each would be enough."
    ways = [
        (np.isfinite(seeds), more_seeds, f"with these {table.unit}s"),
        (np.isfinite(images), f"{images:,.0f} test {table.unit}s behind a value", "with these replicates"),
    ]
    enough = [f"{what} would be enough {given}" for does, what, given in ways if does]
    none = ["no number of replicates", f"no number of {table.unit}s"]
    without = [f"{what} {given}" for what, (does, _, given) in zip(none, ways, strict=True) if not does]
    if not enough:
        return f"{target}, {' and '.join(without)} would be enough."
    return f"{target}, {' or '.join(enough)}{f', but {without[0]}' if without else ''}."
