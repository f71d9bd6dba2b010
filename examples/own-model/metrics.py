"""A metric of your own: what the mistakes of a screening cost, where a missed case is five times as bad as an alarm."""

from fairsweep.analysis import Metric

screening_cost = Metric(
    "screening_cost",
    lambda counts: (5 * counts.fn + counts.fp) / counts.n,
    "lower",
    title="Screening cost",
    range=(0, 5),
)
