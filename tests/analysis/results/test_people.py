"""People with several images each: they are what was sampled, in tables, disparities, resamples and verdicts."""

import doctest

import numpy as np
import pandas as pd
import pytest

import fairsweep.analysis as analysis
import fairsweep.analysis.statistics.clusters as clusters
from fairsweep.analysis.figures import plots
from fairsweep.analysis.report.report_content import collect
from fairsweep.analysis.results.people import sampling_unit

PEOPLE, IMAGES = 60, 12


def sweep(images, **more):
    """Two groups of 30 people, each of whom has so many images that are right or wrong together."""
    rng = np.random.default_rng(0)
    tone = np.where(np.arange(PEOPLE) % 2 == 0, "light", "dark")
    truth, age = np.arange(PEOPLE) // 2 % 2, np.where(np.arange(PEOPLE) // 4 % 2 == 0, "old", "young")
    predicted = np.where(rng.random(PEOPLE) < 0.75, truth, 1 - truth)
    sure = np.where(predicted == 1, 0.8, 0.2) + rng.uniform(-0.1, 0.1, PEOPLE)
    each = {"tone": np.repeat(tone, images), "age": np.repeat(age, images)}
    user = np.repeat(np.arange(PEOPLE), images) if more.pop("named", True) else None
    return analysis.from_predictions(
        np.repeat(truth, images), groups=each, probabilities=np.repeat(sure, images), user=user, **more
    )


@pytest.fixture(scope="module")
def several():
    return sweep(IMAGES)


@pytest.fixture(scope="module")
def single():
    return sweep(1)


def bounds(frame):
    return frame[["low", "high"]].to_numpy(float)


def test_doctest():
    assert doctest.testmod(clusters).failed == 0


TABLES = {
    "rates": lambda results: results.rates(["accuracy", "true_positive_rate"], by="tone"),
    "scores": lambda results: results.rates(["f1"], by="tone"),
    "probabilities": lambda results: results.rates(["brier_score"], by="tone"),
    "gaps": lambda results: results.disparities(["accuracy_difference", "accuracy_from_overall"], by="tone"),
    "gaps of scores": lambda results: results.disparities(["f1_difference"], by="tone"),
    "gaps of probabilities": lambda results: results.disparities(["brier_score_difference"], by="tone"),
    "means over ages": lambda results: results.rates(["accuracy"], by="tone", mean_over="age"),
    "gaps within ages": lambda results: analysis.controlled_frame(
        results, ["accuracy_difference"], by="tone", within="age", min_group_size=1
    ),
    "resamples": lambda results: analysis.bootstrap_frame(results, ["accuracy"], by="tone", draws=300),
    "weights": lambda results: analysis.weighted_frame(
        results, ["accuracy"], pd.Series(1.0, results.examples["id"].to_numpy()), by="tone", draws=300
    ),
}


@pytest.mark.parametrize("table", list(TABLES))
def test_copies_of_a_persons_image_add_nothing(several, single, table):
    """Twelve copies of an image are worth one; as independent images their intervals would be 3.5 times as narrow."""
    many, one = (TABLES[table](results) for results in (several, single))
    np.testing.assert_allclose(many["value"], one["value"], atol=1e-6)
    widths = np.diff(bounds(many), axis=1) / np.diff(bounds(one), axis=1)
    assert (widths > 0.8).all()
    assert (widths < 1.4).all()
    assert many["interval"].str.endswith("people").all() or table in ("resamples", "weights")


def test_the_reliability_of_bins_knows_people(several, single):
    many, one = (analysis.reliability_frame(results).query("n > 0") for results in (several, single))
    widths = np.diff(bounds(many), axis=1) / np.diff(bounds(one), axis=1)
    assert (widths > 0.8).all()


def test_the_pooled_bands_of_a_reliability_diagram_know_people(several):
    """They were Wilson's of the images: a tenth as wide, for people with so many alike images."""
    figure = plots.reliability_by_group(several, "tone")
    frame = analysis.reliability_frame(several, "tone", bins=10).query("n > 0")
    for trace in (trace for trace in figure.data if trace.customdata is not None):
        alone = frame[frame["group"] == trace.name.split()[0]].groupby("bin_low")[["low", "high"]].mean()
        pooled = np.diff(trace.customdata[:, :2].astype(float), axis=1)[:, 0]
        np.testing.assert_allclose(pooled, (alone["high"] - alone["low"]).to_numpy(), rtol=0.25)


def test_a_page_says_what_is_independent(several, single):
    assert "the 60 people of the test set as independent of each other, not their 720 examples" in sampling_unit(
        several
    )
    assert sampling_unit(single) == "Intervals and verdicts take the test examples as independent of each other."
    assert sampling_unit(sweep(3, named=False)) == sampling_unit(single)
    assert sampling_unit(several) in collect(several).findings.test_images


def test_images_of_people_cannot_be_exchanged(several):
    with pytest.raises(ValueError, match="examples of a permutation test must be independent"):
        analysis.permutation_frame(several, ["accuracy_difference"], by="tone")
    gaps = several.disparities(["f1_difference"], by="tone")
    assert gaps["expected_if_equal"].isna().all()


def test_without_predictions_a_person_counts_as_one_image(tmp_path):
    results = sweep(IMAGES, to=tmp_path / "sweep")
    known = results.rates(["accuracy"], by="tone")
    for path in (tmp_path / "sweep").glob("trials/*/predictions.parquet"):
        path.unlink()
    unknown = analysis.load(tmp_path / "sweep").rates(["accuracy"], by="tone")
    np.testing.assert_allclose(bounds(known), bounds(unknown), atol=0.03)
