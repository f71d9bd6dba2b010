"""What searches, schedulers and stoppers look at: metrics of the analysis, of the validation split alone."""

import numpy as np
import pyarrow as pa
import pytest

from fairsweep.analysis.metrics.disparities import DISPARITIES, disparity
from fairsweep.analysis.records.cell_records import CellsFile, count_cells, read_cells, write_cells
from fairsweep.analysis.records.file_names import CELLS, PRIVACY, STATE
from fairsweep.analysis.records.files import write_json
from fairsweep.analysis.records.vocabularies import Vocabulary
from fairsweep.sweeps.search.outcomes import recorded_values
from fairsweep.sweeps.spec.conditions import Condition
from fairsweep.trainables.learning.measures import Meaning, Measure, Standing, counts, validation_cells
from fairsweep.trainables.learning.objectives import Objective
from fairsweep.trainables.trial.state import TrialStateFile

VOCABULARIES = [
    Vocabulary("tone", ("light", "dark")),
    Vocabulary("shape", ("round", "long")),
    Vocabulary("smiling", ("no", "yes")),
]
MEANING = Meaning.of("smiling", ("tone", "shape"), VOCABULARIES)


def cells(seed, split, iteration):
    rng = np.random.default_rng(seed)
    groups = {"tone": rng.integers(0, 2, 400), "shape": rng.integers(0, 2, 400)}
    label = rng.integers(0, 2, 400)
    wrong = rng.random(400) < 0.1 + 0.2 * groups["tone"]
    prediction = np.where(wrong, 1 - label, label)
    return count_cells(iteration=iteration, split=split, groups=groups, label=label, prediction=prediction)


@pytest.fixture
def folder(tmp_path):
    """The records of a trial that has ended after two iterations."""

    def write(test_seed):
        parts = [cells(i, "validation", i) for i in (1, 2)] + [cells(test_seed + i, "test", i) for i in (1, 2, 3)]
        write_cells(tmp_path / CELLS, pa.concat_tables(parts), VOCABULARIES, "smiling")
        write_json(tmp_path / PRIVACY, {"epsilon": {"pld": 2.5}})
        attempt = TrialStateFile(tmp_path).begin("t") if not (tmp_path / STATE).exists() else None
        if attempt is not None:
            attempt.update(state="done", seconds=7.0)
        return tmp_path

    return write


def test_measures_are_the_metrics_of_the_analysis(folder):
    table = cells(2, "validation", 2)
    by_tone = counts(table, MEANING, ["tone"])
    dark = by_tone[1]
    texts = {
        "accuracy": np.trace(by_tone.sum(0)) / by_tone.sum(),
        "accuracy where tone=dark": np.trace(dark) / dark.sum(),
        "true_positive_rate where tone=dark": dark[1, 1] / dark[1].sum(),
        "equalized_odds_difference by tone": float(disparity(by_tone, DISPARITIES["equalized_odds_difference"], 1)),
        "worst_group_accuracy by tone": min(np.trace(group) / group.sum() for group in by_tone),
        "epsilon": 2.5,
        "seconds": 7.0,
    }
    found = recorded_values(folder(10), [Measure.parse(text).settled(MEANING) for text in texts], MEANING)
    assert found == pytest.approx(list(texts.values()))


def test_every_disparity_of_cells_can_be_a_measure_also_of_intersections(folder):
    four = counts(cells(2, "validation", 2), MEANING, ["tone", "shape"])
    rows = [row for row in DISPARITIES.values() if row.of_cells]
    measures = [Measure.parse(f"{row.name} by tone & shape").settled(MEANING) for row in rows]
    found = recorded_values(folder(10), measures, MEANING)
    assert found == pytest.approx([float(disparity(four, row, 1)) for row in rows], nan_ok=True)


def test_what_happens_on_the_test_split_never_shows(folder):
    measures = [Measure.parse(text).settled(MEANING) for text in ("accuracy", "accuracy_difference by tone")]
    before = recorded_values(folder(10), measures, MEANING)
    # The test cells change, and reach further than those of validation.
    assert recorded_values(folder(99), measures, MEANING) == before
    path = folder(10) / CELLS
    only_test = read_cells(path)
    with pytest.raises(ValueError, match="no evaluation on the validation split"):
        validation_cells(CellsFile(cells(1, "test", 1), ("tone",), only_test.vocabularies, "smiling"))
    for word in ("test accuracy", "accuracy on test", "accuracy where split=test"):
        with pytest.raises(ValueError, match=r"written 'METRIC'|is no group of the sweep"):
            Measure.parse(word).settled(MEANING)


def test_an_undefined_rate_is_nan_and_fulfils_nothing():
    table = cells(1, "validation", 1)
    lit = table.filter(pa.compute.equal(table.column("tone"), 0))
    measure = Measure.parse("accuracy where tone=dark").settled(MEANING)
    assert np.isnan(measure.of(Standing(lit), MEANING))
    assert not Condition.parse("accuracy where tone=dark >= 0").holds(Standing(lit), MEANING)
    assert not Condition.parse("accuracy where tone=dark <= 1").holds(Standing(lit), MEANING)


@pytest.mark.parametrize(
    "text", ["accuracy", "true_positive_rate of yes where tone=dark & shape=long", "accuracy_ratio by tone & shape"]
)
def test_a_measure_is_written_as_it_is_read(text):
    assert str(Measure.parse(text)) == text
    assert Measure.parse(str(Measure.parse(text))) == Measure.parse(text)


def test_conditions_and_objectives_read_and_write():
    condition = Condition.parse("worst_group_accuracy by tone >= 0.9")
    assert str(condition) == "worst_group_accuracy by tone >= 0.9"
    assert condition.excess(0.8) == pytest.approx(0.1)
    assert Condition.parse("epsilon ≤ 3").excess(4.0) == 1.0
    objective = Objective.model_validate({"min": "accuracy_difference by tone"})
    assert (objective.direction, objective.sign, str(objective)) == (
        "minimize",
        -1.0,
        "min accuracy_difference by tone",
    )
    assert Objective.model_validate(objective.model_dump(mode="json")) == objective


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("accuracy_difference", "must say between the groups of which attribute"),
        ("accuracy where tone=darkk", r"tone has no value 'darkk' .* did you mean 'dark'"),
        ("accuracy_difference by tome", r"'tome' .* is no group of the sweep: did you mean 'tone'"),
        ("true_positive_rate of maybe", "positive class must be one of"),
    ],
)
def test_attributes_values_and_classes_must_exist(text, message):
    with pytest.raises(ValueError, match=message):
        Measure.parse(text).settled(MEANING)
