"""The ledger of a sweep: events composed apart by unit; deployments, folds and unprotected trials said."""

import pytest

from fairsweep import analysis
from fairsweep.analysis.accounting.composition import composed
from fairsweep.analysis.accounting.epsilons import epsilon_of
from fairsweep.analysis.accounting.events import describe, sampled_gaussian
from fairsweep.analysis.inference.privacy_ledger import epsilon_text, privacy_ledger
from fairsweep.analysis.records.file_names import CONFIG, MORE_PLANS, PLANS, PRIVACY, STATE, SWEEP_JSON, TRIALS
from fairsweep.analysis.records.files import append_line, read_json, write_json

STATED = sampled_gaussian(1.1, 0.064, 125)  # what the private trials of the simulated sweeps state
PRIVATE = {"name": "private", "kind": "dpsgd", "epsilon": 3.0, "noise_multiplier": None}
CLIENTS = {"unit": "client", "events": [describe(sampled_gaussian(1.0, 0.1, 20))], "delta": 1e-3}
DEPLOYED = {
    **CLIENTS,
    "simulation": "A simulation of 10,000 clients.",
    "deployment_cohort": 1000,
    "population": 100,
    "sampling_rate": 0.1,
    "noise_multiplier": 1.0,
    "epsilon": {"pld": 1.55, "rdp": 1.8},
    "epsilon_of_this_training": {"pld": 2148.0, "rdp": 2400.0},
}


@pytest.fixture
def small(tmp_path, simulate):
    """A sweep of three private trials and one without privacy; a function that changes them and reads the ledger."""
    simulation = simulate["faces"](tmp_path / "s", replicates=0)
    for replicate in range(3):
        simulate["face_trial"](simulation, PRIVATE, 0.9, replicate)
    simulate["face_trial"](simulation, {"name": "tuned", "kind": "sgd"}, 0.9, 0)
    simulation.write_sweep_json()

    def read(privacy=None, config=None, **options):
        privates = sorted((simulation.folder / TRIALS).glob("private*"))
        for number, folder in enumerate(privates):
            for file, change in ((PRIVACY, privacy), (CONFIG, config)):
                if (folder / file).exists():
                    write_json(folder / file, read_json(folder / file) | (change(number) if change else {}))
        return privacy_ledger(analysis.load(simulation.folder, cache=False), **options)

    return read


def prices(ledger, unit="example"):
    mine = ledger.prices[ledger.prices["unit"] == unit]
    return dict(zip(mine["what is released"], mine["ε (PLD)"], strict=True))


def test_trials_are_composed_by_their_events_not_added(small, tmp_path):
    ledger = small()
    together = epsilon_of(composed([STATED] * 3), 1e-5)
    assert prices(ledger)["all trials"] == epsilon_text(together.pld)
    assert prices(ledger)["one trial, named beforehand"] == epsilon_text(epsilon_of(STATED, 1e-5).pld)
    assert "winner" not in " ".join((*prices(ledger), *ledger.headline))
    of_draws = read_json(tmp_path / "s" / SWEEP_JSON)
    of_draws["sweep"]["search"] = {"algorithm": "random", "samples": 3}
    write_json(tmp_path / "s" / SWEEP_JSON, of_draws)
    ledger = small()
    assert any("The price of the winner alone is for comparison" in text for text in ledger.headline)
    assert [name for name in prices(ledger) if "winner" in name] == [
        f"the winner alone, K {draws}" for draws in ("logarithmic", "geometric", "poisson")
    ]
    assert f"the 3 private trials together cost ε = {epsilon_text(together.pld)} at δ = 1e-05" in ledger.headline[0]
    assert any("1 trial on the same data had no guarantee" in text for text in ledger.headline)
    stricter = small(delta=1e-6)
    assert prices(stricter)["all trials"] == epsilon_text(epsilon_of(composed([STATED] * 3), 1e-6).pld)


def test_a_row_is_that_of_the_trial_of_the_largest_epsilon_and_so_is_that_of_a_setting(small, tmp_path):
    def costlier(number):
        return {"epsilon": {"pld": 3.0 + number, "rdp": 4.0}, "delta": 10.0 ** -(3 + number), "steps": 10 + number}

    row = small(privacy=costlier).statements.iloc[0]
    assert (row["ε (PLD)"], row["δ"], row["steps"], row["trials"]) == ("5", 1e-5, 12, 3)
    results = analysis.load(tmp_path / "s", cache=False)
    assert results.settings.set_index("learner").loc["private", "epsilon"] == 5
    means = analysis.average(results.rates(["accuracy"], by=()))
    assert means.set_index("learner").loc["private", "epsilon"] == 5


def test_the_steps_beside_an_epsilon_are_those_that_are_charged(small):
    assert small(privacy=lambda number: {"steps": 8, "charged_steps": 24}).statements["steps"].tolist() == [24]


def test_a_ledger_shows_itself_in_a_few_lines(small):
    ledger = small()
    lines = repr(ledger).splitlines()
    assert lines[0].startswith("PrivacyLedger(")
    assert "settings: " in lines[0]
    assert len(lines) == 2 + len(ledger.prices)
    assert "all trials" in repr(ledger)
    shown = ledger._repr_html_()
    assert all(text in shown for text in ("all trials", "Each setting alone", ledger.headline[0].split(":")[0]))


def test_examples_and_clients_are_never_in_one_number(small):
    ledger = small(privacy=lambda number: CLIENTS if number == 2 else {})
    assert prices(ledger)["all trials"] == epsilon_text(epsilon_of(composed([STATED] * 2), 1e-5).pld)
    of_clients = epsilon_of(sampled_gaussian(1.0, 0.1, 20), 1e-3).pld
    assert prices(ledger, "client") == {"one trial, named beforehand": epsilon_text(of_clients)}
    assert any("These numbers do not combine" in text for text in ledger.headline)


def test_clients_of_two_partitions_are_different_units(small):
    iid = {"name": "private", "kind": "dpfedavg", "clients": {"partition": "iid", "count": 100}}
    drawn = small(privacy=lambda number: CLIENTS, config=lambda number: {"learner": iid})
    assert drawn.prices["unit"].tolist() == ["client of private, partitions 1 to 3, alike"]
    seeds = {"seeds": {"data": 0, "train": 0}}
    two = small(config=lambda number: seeds | {"learner": iid | ({"name": "fed", "clients": {}} if number else {})})
    assert dict.fromkeys(two.prices["unit"]) == dict.fromkeys(["client of private", "client of fed"])
    assert any("For each client of fed: the 2 private trials" in text for text in two.headline)
    by_user = {**iid, "clients": {"partition": "user"}}
    together = small(config=lambda number: {"learner": by_user})
    assert set(together.prices["unit"]) == {"client"}
    exact = epsilon_of(composed([sampled_gaussian(1.0, 0.1, 20)] * 3), 1e-3).pld
    assert prices(together, "client")["all trials"] == epsilon_text(exact)


def test_an_assumption_names_its_learners_where_others_do_without_it(small):
    ledger = small()
    assert not any(text.startswith("Of ") for text in ledger.assumptions)
    small(config=lambda number: {"learner": {"name": "cut" if number else "plain", "kind": "dpsgd"}})
    own = {"assumptions": ["Batches are cut.", "Public and fixed: the ids."]}
    said = small(privacy=lambda number: own if number else {}).assumptions
    assert "Of cut: Batches are cut." in said
    assert "Public and fixed: the ids." in said
    assert "Of plain: The guarantee is simulated." in said


def test_a_simulated_deployment_enters_with_what_was_really_spent(small):
    learner = {"name": "private", "kind": "dpfedavg", "deployment_cohort": 1000}
    ledger = small(
        privacy=lambda number: DEPLOYED,
        config=lambda number: {"seeds": {"data": 0, "train": number}, "learner": learner},
    )
    assert "Simulations of a larger deployment among them (3)" in ledger.headline[0]
    real = sampled_gaussian(0.01, 0.1, 20)  # a cohort of 10 stands for one of 1,000
    assert prices(ledger, "client")["one trial, named beforehand"] == epsilon_text(epsilon_of(real, 1e-3).pld)
    assert prices(ledger, "client")["all trials"] == epsilon_text(epsilon_of(composed([real] * 3), 1e-3).pld)
    assert epsilon_of(real, 1e-3).pld > 1000
    assert any("a deployment that nobody ran" in text for text in ledger.headline)
    assert (ledger.statements["guarantee"] == "simulates a larger deployment").all()
    assert ledger.statements["ε (PLD)"].tolist() == ["2.15e+03"]
    assert ledger.statements["ε of the simulated deployment"].tolist() == ["1.55"]


def test_a_deployment_counts_by_what_was_trained_as_earlier_versions_and_this_one_state_it(small):
    real = sampled_gaussian(0.01, 0.1, 20)
    own = {"epsilon": {"pld": 2148.0, "rdp": 2400.0}, "epsilon_of_simulated_deployment": {"pld": 1.55, "rdp": 1.8}}
    now = DEPLOYED | own | {"events": [describe(real)], "noise_multiplier": 0.01, "epsilon_of_this_training": None}
    ledgers = [small(privacy=lambda number, stated=stated: stated) for stated in (DEPLOYED, now)]
    assert prices(ledgers[0], "client") == prices(ledgers[1], "client")
    columns = ["ε (PLD)", "ε of the simulated deployment", "guarantee"]
    assert ledgers[0].statements[columns].equals(ledgers[1].statements[columns])


def test_folds_train_on_each_others_test_sets(small):
    def fold(number):
        split = {"kind": "folds", "folds": 3, "fold": number, "key": 0, "stratify": None, "validation": 0.1}
        return {"split": split, "seeds": {"data": 0, "train": 0}}

    ledger = small(config=fold)
    assert prices(ledger)["all trials"] == epsilon_text(epsilon_of(composed([STATED] * 2), 1e-5).pld)
    assert "it takes part in at most 2" in ledger.headline[0]
    assert any("trials train on each other's test sets" in text for text in ledger.headline)


@pytest.mark.parametrize(("file", "write"), [(PLANS, write_json), (MORE_PLANS, append_line)])
def test_trials_that_have_not_ended_are_charged_as_planned(small, tmp_path, file, write):
    folder = sorted((tmp_path / "s" / TRIALS).glob("private*"))[2]
    (folder / PRIVACY).unlink()
    state = read_json(folder / STATE)
    write_json(folder / STATE, state | {"state": "failed"})
    whole = sampled_gaussian(1.1, 0.064, 250)
    planned = {"unit": "example", "delta": 1e-5, "events": [describe(whole)]}
    assert "1 private trial that began, with neither a statement nor a plan" in " ".join(small().headline)
    write(tmp_path / "s" / file, {"trials": {state["trial"]: "mark"}, "charges": {"mark": planned}, "plans": {}})
    ledger = small()
    assert prices(ledger)["all trials"] == epsilon_text(epsilon_of(composed([STATED, STATED, whole]), 1e-5).pld)
    assert "Charged for all planned steps: 1 trial that began" in " ".join(ledger.headline)


def test_statements_without_events_are_left_out_and_counted(small):
    ledger = small(privacy=lambda number: {"events": []} if number else {})
    assert prices(ledger) == {"one trial, named beforehand": epsilon_text(epsilon_of(STATED, 1e-5).pld)}
    assert any("2 privacy statements without a list of events" in text for text in ledger.headline)


def test_without_the_accountant_the_ledger_says_what_to_install(small, monkeypatch):
    monkeypatch.setattr("fairsweep.analysis.inference.privacy_ledger.is_installed", lambda name: False)
    ledger = small()
    assert ledger.prices.empty
    assert "needs dp_accounting, which is not installed: pip install 'fairsweep[train]'" in ledger.headline[0]
    assert len(ledger.statements) == 1
