"""Measures of predicted probabilities, and aims that have no value."""

import math

import numpy as np
import pytest

from fairsweep.analysis.metrics.calibration_errors import calibration_error, expected_calibration_error
from fairsweep.analysis.metrics.catalogue import resolve
from fairsweep.analysis.metrics.probabilities import auc, log_loss
from fairsweep.datasets.storage.prepared import PreparedDataset
from fairsweep.sweeps.planning.preflight import check_sweep
from fairsweep.sweeps.search.stopping_rules import Plateau
from fairsweep.sweeps.search.undefined_values import UndefinedValues
from fairsweep.sweeps.spec.stop_section import PlateauSection
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.trainables.learning.measures import Meaning, Measure, Standing
from fairsweep.trainables.learning.validation_predictions import ValidationPredictions

MEANING = Meaning("smiling", ("tone",), {"smiling": ("no", "yes"), "tone": ("light", "dark")})
RNG = np.random.default_rng(3)
LABEL, TONE = RNG.integers(0, 2, 200), RNG.integers(0, 2, 200)
LOG_P = np.log(RNG.dirichlet([1, 1], 200)).astype(np.float32)
PREDICTIONS = ValidationPredictions(LOG_P, LABEL, {"tone": TONE})


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("auc", auc),
        ("log_loss", log_loss),
        ("calibration_error", calibration_error),
        ("expected_calibration_error", expected_calibration_error),
    ],
)
def test_they_are_those_of_the_analysis_overall_and_by_group(name, function):
    whole, light, dark = (function(LOG_P, LABEL, w[None])[0] for w in (np.ones(200), 1.0 * (TONE == 0), 1.0 * TONE))
    worst = min(light, dark) if name == "auc" else max(light, dark)
    notion = "calibration" if name == "calibration_error" else name
    expected = {
        name: whole,
        f"{name} where tone=dark": dark,
        f"worst_group_{name} by tone": worst,
        f"{notion}_difference by tone": abs(light - dark),
    }
    for text, value in expected.items():
        measure = Measure.parse(text).settled(MEANING)
        assert not measure.of_cells
        assert measure.of(Standing(None, predictions=PREDICTIONS), MEANING) == pytest.approx(value)
        assert math.isnan(measure.of(Standing(None), MEANING))


def test_names_are_alike_in_files_and_in_python():
    assert Measure.parse("true_positive_rate[8] where tone=dark") == Measure.parse(
        "true_positive_rate of 8 where tone=dark"
    )
    assert resolve("true_positive_rate of 8", tuple("0123456789")).name == "true_positive_rate[8]"
    for wrong, right in (("ece", "expected_calibration_error"), ("roc_auc", "auc"), ("log_los", "log_loss")):
        with pytest.raises(ValueError, match=f"no metric '{wrong}': did you mean '{right}'"):
            Measure.parse(wrong)


@pytest.fixture
def aims(mapping):
    """Makes a sweep with one objective and a validation set."""
    mapping["imbalance"]["share"] = 0.7
    mapping["learners"] = mapping["learners"][2:]

    def make(objective, **sections):
        rule = {"plateau": {"objective": objective, "patience": 2}}
        return Sweep.from_mapping(mapping | {"stop": rule} | sections)

    return make


def test_aims_that_can_have_no_value_are_refused(aims, toy, monkeypatch):
    check_sweep(aims({"max": "worst_group_auc by tone"}))
    codes = PreparedDataset.codes

    def without_dark(dataset, name):
        return codes(dataset, name) * (0 if name == "tone" else 1)

    sweep = aims({"min": "accuracy_difference by tone"}, imbalance=None)
    check_sweep(sweep)
    monkeypatch.setattr(PreparedDataset, "codes", without_dark)
    with pytest.raises(SweepError, match=r"stop.plateau.objective: accuracy_difference by tone is undefined on the "):
        check_sweep(sweep)

    def only_light_smiles(dataset, name):
        return codes(dataset, name) * (codes(dataset, "tone") == 0 if name == "smiling" else 1)

    monkeypatch.setattr(PreparedDataset, "codes", only_light_smiles)
    for text in ("true_positive_rate where tone=dark", "auc where tone=dark", "equal_opportunity_difference by tone"):
        with pytest.raises(SweepError, match=r"it has 0 examples of tone=dark & smiling=yes"):
            check_sweep(aims({"max": text}, imbalance=None))


def test_an_undefined_value_neither_ends_a_trial_nor_goes_unsaid(aims):
    plateau = Plateau(PlateauSection(objective={"max": "accuracy"}, patience=2), MEANING)
    for value in (0.5, math.nan, math.nan, math.nan, 0.4):
        plateau.see(value)
    assert not plateau.reached
    plateau.see(0.4)
    assert plateau.reached
    said = []
    callback = UndefinedValues(aims({"max": "positive_predictive_value"}), said.append)
    for _ in range(2):
        callback.on_trial_result(0, [], None, {"positive_predictive_value": None, "loss": None, "iteration": 3})
    assert len(said) == 1
    assert said[0].startswith("positive_predictive_value is undefined in iteration 3")
