"""What fairlearn computes from a trial's predictions is what the tables say."""

import builtins

import numpy as np
import pytest

import fairsweep.analysis as analysis


def test_fairlearn_computes_the_same_rates(faces):
    pytest.importorskip("fairlearn")
    results = analysis.load(faces.folder)
    trial = results.trials["trial"].iloc[4]
    metrics = ["accuracy", "selection_rate", "true_positive_rate", "false_positive_rate"]
    frame = analysis.to_metric_frame(results, trial, by="tone")
    ours = results.rates(metrics, by="tone")
    ours = ours[ours["trial"] == trial].pivot(index="group", columns="metric", values="value")
    np.testing.assert_allclose(frame.by_group.loc[ours.index, metrics].to_numpy(float), ours[metrics].to_numpy())
    both = analysis.to_metric_frame(results, trial, {"count": lambda true, predicted: len(true)})
    assert both.by_group.index.names == ["tone", "shape"]
    assert both.by_group["count"].sum() == both.overall["count"]


def test_what_is_missing_is_said(faces, monkeypatch):
    pytest.importorskip("fairlearn")
    results = analysis.load(faces.folder)
    with pytest.raises(analysis.RecordError, match="no-such-trial"):
        analysis.to_metric_frame(results, "no-such-trial")
    with pytest.raises(analysis.RecordError, match="choose with by="):
        analysis.to_metric_frame(results, results.trials["trial"].iloc[0], by="age")
    original = builtins.__import__

    def without(name, *rest, **more):
        if name.startswith("fairlearn"):
            raise ImportError(name)
        return original(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="pip install fairlearn"):
        analysis.to_metric_frame(results, results.trials["trial"].iloc[0])
