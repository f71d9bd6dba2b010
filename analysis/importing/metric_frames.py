"""A trial's predictions as fairlearn's MetricFrame."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from fairsweep.analysis.records.files import RecordError
from fairsweep.analysis.results.outcomes import read_outcomes

if TYPE_CHECKING:
    from fairsweep.analysis.results.results import SweepResults
    from fairsweep.analysis.results.sweep_frames import At


def to_metric_frame(
    results: SweepResults,
    trial: str,
    metrics: Mapping[str, Callable[..., float]] | None = None,
    *,
    by: str | Sequence[str] | None = None,
    split: str = "test",
    at: At = "last",
) -> Any:  # noqa: ANN401 - fairlearn is imported when it is called
    """Return the predictions of one trial as a ``fairlearn.metrics.MetricFrame``.

    Args:
        results: the sweep.
        trial: name of the trial.
        metrics: functions of (y_true, y_pred), by name; None takes fairlearn's count and selection rate, TPR and FPR
            of class 1 where there are two, and scikit-learn's accuracy.
        by: attributes of ``examples.parquet``, the sensitive features; None takes the sweep's groups.
        split: ``test`` or ``validation``.
        at: ``last`` or ``selected``.

    Returns:
        The frame; labels and predictions are codes, sensitive features the names of groups.

    Raises:
        ImportError: if fairlearn is not installed.
        RecordError: if the trial has no predictions, or the attributes are not recorded.
    """
    try:
        import fairlearn.metrics as fairlearn
        from sklearn.metrics import accuracy_score
    except ImportError as error:
        raise ImportError(
            "to_metric_frame needs fairlearn, which is not installed: pip install fairlearn. `rates` and `disparities` "
            "compute the same metrics without it"
        ) from error
    chosen = results.evaluations(split=split, at=at, states=None)
    asked = pd.DataFrame({"trial": chosen.trial, "iteration": chosen.iteration})
    outcomes = read_outcomes(results, split, asked[asked["trial"] == trial])
    if outcomes is None:
        raise RecordError(
            f"{trial} must have predictions on {split}, but has none; see .trials for the names of trials"
        )
    names = list(results.groups) if by is None else ([by] if isinstance(by, str) else list(by))
    features = _features(results, outcomes.ids, names)
    if metrics is None:
        metrics = {"count": fairlearn.count, "accuracy": accuracy_score}
        if len(results.classes) == 2:
            metrics |= {
                "selection_rate": fairlearn.selection_rate,
                "true_positive_rate": fairlearn.true_positive_rate,
                "false_positive_rate": fairlearn.false_positive_rate,
            }
    return fairlearn.MetricFrame(
        metrics=dict(metrics),
        y_true=outcomes.label,
        y_pred=outcomes.prediction[0],
        sensitive_features=features,
    )


def _features(results: SweepResults, ids: npt.NDArray[np.int64], names: Sequence[str]) -> pd.DataFrame:
    """Attributes of some ids, a column each; names of groups where the sweep has a vocabulary, else codes."""
    examples = results.examples
    if examples is None or not {"id", *names} <= set(examples.column_names):
        known = [] if examples is None else examples.column_names
        raise RecordError(f"examples.parquet must have the columns {list(names)}, but has {known}: choose with by=")
    table: pd.DataFrame = examples.select(["id", *names]).to_pandas().set_index("id")
    if not pd.Index(ids).isin(table.index).all():
        raise RecordError("examples.parquet must know every id of the predictions, but lacks some")
    table = table.loc[ids].reset_index(drop=True)
    vocabularies = results.all_cells.vocabularies
    for name in set(names) & set(vocabularies):
        table[name] = np.array(vocabularies[name].values, object)[table[name].to_numpy(np.int64)]
    return table
