"""The ledger of a sweep at the command line: before the run, and after it."""

import numpy as np
import pyarrow as pa
import pytest
import yaml

from fairsweep import analysis
from fairsweep.analysis.accounting.composition import composed
from fairsweep.analysis.accounting.epsilons import epsilon_of
from fairsweep.analysis.accounting.events import sampled_gaussian
from fairsweep.analysis.accounting.user_events import event_of_user
from fairsweep.analysis.inference.privacy_ledger import epsilon_text
from fairsweep.analysis.records.files import read_json
from fairsweep.datasets.storage.layout import Attribute
from fairsweep.datasets.storage.prepared import write_prepared
from fairsweep.sweeps.plan import plan_sweep
from fairsweep.sweeps.sweep import Sweep
from fairsweep.trainables.privacy.privacy_statement import PrivacyStatement

PRIVATE = sampled_gaussian(1.0, 24 / 120, 15)  # three epochs of batches of 24 from 120 examples


def planned(fairsweep, mapping, folder):
    (folder / "sweep.yaml").write_text(yaml.safe_dump(mapping))
    code, out, err = fairsweep("plan", folder / "sweep.yaml")
    assert code == 0, err
    return out


def test_a_plan_says_what_all_trials_will_cost_together(fairsweep, mapping, tmp_path):
    mapping["privacy"] = {"delta_sweep": 1e-4}
    found = plan_sweep(Sweep(**mapping)).charges
    assert {charge.event for charge in found if charge.guarantees} == {PRIVATE}
    out = planned(fairsweep, mapping, tmp_path)
    together = epsilon_of(composed([PRIVATE] * 4), 1e-4)
    assert f"the 4 private trials together cost ε = {epsilon_text(together.pld)} at δ = 0.0001" in out
    assert "8 trials without a guarantee" in out
    assert "the winner alone" not in out


def test_a_plan_has_prices_of_the_winner_for_independent_draws_alone(fairsweep, mapping, tmp_path):
    mapping["learners"][0]["l2_clip_norm"] = {"uniform": [0.5, 2.0]}
    mapping["search"] = {"algorithm": "random", "samples": 2}
    out = planned(fairsweep, mapping, tmp_path)
    assert "the winner alone, K geometric" in out
    assert "is drawn at random and stays secret, which it does not in a sweep file" in out


def test_a_plan_of_folds_charges_those_that_train_on_an_example(fairsweep, mapping, tmp_path):
    mapping |= {"imbalance": None, "split": {"kind": "folds", "folds": 3}, "seeds": 1}
    found = plan_sweep(Sweep(**mapping)).charges
    private = [charge for charge in found if charge.guarantees]
    assert sorted(charge.fold.held_out for charge in private) == [0, 1, 2]
    out = planned(fairsweep, mapping, tmp_path)
    assert "it takes part in at most 2" in out


def test_a_plan_of_a_search_by_results_says_when_its_cost_is_known(fairsweep, mapping, tmp_path):
    mapping["learners"][0]["l2_clip_norm"] = {"uniform": [0.5, 2.0]}
    mapping["search"] = {"algorithm": "tpe", "samples": 4, "objectives": [{"max": "accuracy"}]}
    out = planned(fairsweep, mapping, tmp_path)
    assert "Every setting that a search tries is charged" in out
    assert "What a release will cost" not in out


def test_the_ledger_of_a_finished_sweep(fairsweep, finished):
    code, out, err = fairsweep("privacy", finished)
    assert (code, err) == (0, "")
    alone = epsilon_of(sampled_gaussian(1.0, 0.2, 5), 1e-3)
    assert "For each example: one trial has a guarantee" in out
    assert "What a release costs" in out
    assert "1 trial on the same data had no guarantee" in out
    assert "Research mode" in out
    assert "zero_out" in out
    code, out, _ = fairsweep("privacy", finished, "--delta", "1e-3")
    assert f"ε = {epsilon_text(alone.pld)} at δ = 0.001" in out


@pytest.fixture
def of_users(tmp_path):
    """The file of a sweep on a dataset whose training examples belong to users with up to six of them."""
    rows = np.arange(960)
    columns = {"id": rows, "smiling": (rows // 4 % 2).astype(np.int16), "tone": (rows // 8 % 2).astype(np.int16)}
    split = np.array(["train", "train", "validation", "test"])[rows % 4]
    examples = pa.table({**columns, "split": split, "user": rows // 12})
    attributes = [Attribute(name="smiling", values=("no", "yes")), Attribute(name="tone", values=("light", "dark"))]
    images = np.random.default_rng(0).integers(0, 255, (960, 8, 8, 1)).astype(np.uint8)
    folder = tmp_path / "users"
    write_prepared(folder, name="users", attributes=attributes, examples=examples, images=images)
    learner = {"name": "private", "kind": "dpsgd", "epochs": 1, "batch_size": 48, "noise_multiplier": 2.0}
    content = {
        "name": "users",
        "dataset": {"path": str(folder), "label": "smiling", "groups": ["tone"]},
        "model": {"name": "linear"},
        "learners": [learner | {"performance": {"gradient_mode": "hooks"}}],
        "seeds": {"data": 1, "train": 2},
        "output": str(tmp_path / "of users"),
    }
    file = tmp_path / "users.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def test_who_has_several_examples_pays_for_all_of_them(fairsweep, of_users, run_here):
    own = event_of_user(sampled_gaussian(2.0, 0.1, 10), 6)
    code, out, err = fairsweep("plan", of_users)
    assert code == 0, err
    assert "Users have up to 6 of them in the first seed's training set, and ε for all examples of such a user" in out
    folder = run_here(of_users)
    for path in folder.glob("trials/*/privacy.json"):
        statement = PrivacyStatement.model_validate(read_json(path))
        assert statement.of_user.examples == 6
        assert statement.of_user.epsilon == epsilon_of(own, statement.delta)
        assert any("a user pays of_user.epsilon" in text for text in statement.assumptions)
    code, out, _ = fairsweep("privacy", folder, "--delta", "1e-4")
    both = epsilon_text(epsilon_of(composed([own] * 2), 1e-4).pld)
    assert f"For each user: the 2 private trials together cost ε = {both}" in out
    assert "ε of a user" in out


def test_a_sweep_with_a_budget_runs_once_and_costs_the_budget(fairsweep, mapping, run_here, tmp_path):
    learner = {name: value for name, value in mapping["learners"][0].items() if name != "noise_multiplier"}
    mapping |= {"learners": [learner | {"epochs": 1}], "privacy": {"epsilon_sweep": 2.0}, "seeds": 1}
    assert "2 trials of 2 settings, 2 of them to run" in planned(fairsweep, mapping, tmp_path)
    folder = run_here(tmp_path / "sweep.yaml")
    assert "2 trials of 2 settings, 0 of them to run" in planned(fairsweep, mapping, tmp_path)
    ledger = analysis.privacy_ledger(analysis.load(folder))
    (together,) = ledger.prices["ε (PLD)"][ledger.prices["what is released"] == "all trials"]
    assert 1.98 < float(together) <= 2
    code, out, _ = fairsweep("privacy", folder)
    assert code == 0
    assert f"the 2 private trials together cost ε = {together}" in out


def test_what_has_no_ledger_is_said(fairsweep, finished, tmp_path):
    code, out, err = fairsweep("privacy", tmp_path)
    assert (code, out) == (2, "")
    assert "is not a sweep folder" in err
    for delta in ("2", "1e-16"):
        code, _, err = fairsweep("privacy", finished, "--delta", delta)
        assert (code, err.count("\n")) == (2, 1)
        assert f"delta must be at least 1e-12 and below 1, but got {delta}" in err
    code, _, err = fairsweep("privacy", finished, "--delta", "0.01")
    assert (code, err.count("\n")) == (2, 1)
    assert "delta must be below 1/N = 0.00833, N being the number of examples, but got 0.01" in err
    for path in finished.glob("trials/*/privacy.json"):
        path.unlink()
    code, out, _ = fairsweep("privacy", finished)
    assert (code, out) == (0, "No trial has stated what it costs: none is private, or none has ended.\n")
