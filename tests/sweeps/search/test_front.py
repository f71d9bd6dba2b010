"""What is printed of a finished search: settings that miss its constraints are marked."""

import pandas as pd
import pytest

from fairsweep.analysis.report.summary_table import SummaryTable
from fairsweep.sweeps.execution.run import describe
from fairsweep.sweeps.planning.preflight import check_sweep
from fairsweep.sweeps.search.front import mark_infeasible, search_fronts
from fairsweep.sweeps.search.search_budget import open_studies
from fairsweep.sweeps.search.study import SETTING
from fairsweep.sweeps.spec.search_space import SearchSpace
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.sweep import Sweep


@pytest.fixture
def searched(mapping):
    """An output folder whose search was told of three settings: two keep epsilon <= 6, one misses it."""
    mapping["imbalance"]["share"] = 0.7
    mapping["learners"] = mapping["learners"][:1]
    mapping["learners"][0]["noise_multiplier"] = {"uniform": [0.8, 2.0]}
    mapping["search"] = {
        "algorithm": "tpe",
        "samples": 3,
        "objectives": [{"max": "accuracy"}],
        "constraints": ["epsilon <= 6"],
    }
    sweep = Sweep.from_mapping(mapping)
    plan, output = check_sweep(sweep), OutputFolder.at(sweep.folder)
    output.path.mkdir()
    describe(plan, output, None, 2)
    (study,) = open_studies(sweep, plan.content, SearchSpace(sweep), output.path, 2)
    for name, accuracy, excess in (("kept", 0.8, -1.0), ("missed", 0.8, 2.5), ("worse", 0.7, -1.0)):
        number = study.ask()
        study.note(number, {SETTING: name})
        study.tell(number, [accuracy], [excess])
    return output.path


def test_settings_that_miss_a_constraint_are_marked_in_the_tables_and_explained(searched):
    rows = (("private", "4.1", "80.0"), ("private", "8.5", "80.0"), ("matched", "∞", "82.0"))
    # Two metrics of each setting, as averages are.
    numbers = pd.DataFrame({"setting": ["kept", "kept", "missed", "missed", "twin", "twin"]})
    table = SummaryTable("Accuracy", "In %.", ("learner", "ε", "all"), rows, (), numbers)
    (marked,) = mark_infeasible([table], searched)
    assert [row[0] for row in marked.rows] == ["private", "private *", "matched"]
    assert [row[1:] for row in marked.rows] == [row[1:] for row in rows]
    assert marked.caption == "In %. * misses a constraint of the search on the validation split: epsilon <= 6."
    (front,) = search_fronts(searched)
    assert "2 of them within epsilon <= 6" in front.caption
    assert front.numbers["setting"].tolist() == ["kept"]


def test_a_collapsed_setting_is_best_only_where_all_have_collapsed(searched):
    (front,) = search_fronts(searched, {"kept"})
    assert front.numbers["setting"].tolist() == ["worse"]
    assert front.rows[0][2] == "0.7"
    assert "1 collapsed (a run predicts one class for the whole validation split) and left out" in front.caption
    (front,) = search_fronts(searched, {"kept", "worse"})
    assert front.numbers["setting"].tolist() == ["kept"]
    assert front.rows[0][1].endswith("(collapsed)")
    assert "2 collapsed" in front.caption


def test_a_table_without_such_settings_stays_as_it_is(searched):
    table = SummaryTable("A", "In %.", ("learner",), (("private",),), (), pd.DataFrame({"setting": ["kept"]}))
    assert mark_infeasible([table], searched) == (table,)
