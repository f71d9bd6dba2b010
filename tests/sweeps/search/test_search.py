"""Guided searches below Ray: what is proposed follows from the results alone, whatever happens in between."""

import json
import math
import re
from types import SimpleNamespace

import optuna
import pytest
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.trial import FrozenTrial

from fairsweep.analysis.records.failed_trials import counted_causes
from fairsweep.sweeps.planning.expand import expand, trials_at
from fairsweep.sweeps.planning.refusals import refusal_lines
from fairsweep.sweeps.search.ask_tell import AskTell
from fairsweep.sweeps.search.storage import JOURNAL, open_storage
from fairsweep.sweeps.search.study import SearchStudy
from fairsweep.sweeps.spec.search_space import SearchSpace
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError

LEARNERS = [
    {
        "name": "private",
        "kind": "dpsgd",
        "epochs": 3,
        "batch_size": 24,
        "noise_multiplier": {"uniform": [0.5, 3.0]},
        "l2_clip_norm": {"choice": [0.1, 1.0]},
    },
    {"name": "matched", "twin_of": "private"},
    {"name": "tuned", "kind": "sgd", "epochs": {"randint": [1, 5]}, "optimizer": {"lr": {"loguniform": [0.001, 1.0]}}},
]
TWO = [{"max": "accuracy"}, {"min": "equalized_odds_difference by tone"}]


@pytest.fixture
def search(mapping):
    """A sweep of two learners and a twin that compete under one condition."""
    mapping["imbalance"]["share"] = 0.7
    mapping["learners"] = json.loads(json.dumps(LEARNERS))
    mapping["seeds"] = 1

    def make(**section):
        mapping["search"] = {"algorithm": "tpe", "samples": 14, "objectives": TWO} | section
        return Sweep.from_mapping(mapping)

    return make


class Answers:
    """Stands for the trials of a search: their values are a function of the setting."""

    def __init__(self, constraints=0, objectives=2, failing=lambda values: False, refusing=lambda values: False):
        self.done, self.proposed, self.ran = set(), [], []
        self._objectives = objectives
        self._constraints, self._failing, self._refusing = constraints, failing, refusing
        self._values = {}

    def plan(self, chosen):
        learner, point = chosen.learners[0]
        values = {"learner": learner.name} | {".".join(map(str, place)): value for place, value in point.values}
        if self._refusing(values):
            raise SweepError("this one cannot run")
        name = json.dumps(values, sort_keys=True)
        self.proposed.append(name)
        self._values[name] = values
        return [SimpleNamespace(trial=name, setting=name, config=SimpleNamespace(twin_of=None))]

    def has_ended(self, trial):
        return trial.trial in self.done and not self.has_failed(trial)

    def has_failed(self, trial):
        return trial.trial in self.done and self._failing(self._values[trial.trial])

    def values(self, trial):
        values = self._values[trial.trial]
        if self._failing(values):
            return None
        noise = values.get("noise_multiplier", 0.3)
        accuracy = 0.9 - 0.1 * noise + 0.02 * values.get("epochs", 1)
        gap = abs(math.log10(values.get("optimizer.lr", 0.1)) + 1) + 1 / (1 + noise)
        return [*[accuracy, gap][: self._objectives], *[2.0 - noise] * self._constraints]


def conductor_of(sweep, answers, folder, batch=1, *, timed=True):
    space = SearchSpace(sweep)
    storage = open_storage(sweep.search.storage, folder, timed=timed)
    studies = [
        SearchStudy(f"toy {condition.label}", sweep.search, space, condition, storage, batch)
        for condition in space.conditions
    ]
    return AskTell(space, studies, answers, len(sweep.search.objectives)), studies


def drive(conductor, answers, *, most=math.inf, newest_first=False):
    """Run trials until all is told or so many have ended; the order in which they end is that of a stack or a queue."""
    running, ended = [], 0
    while ended < most:
        running += conductor.advance()
        if not running:
            return
        trial = running.pop(-1 if newest_first else 0)
        answers.done.add(trial.trial)
        answers.ran.append(trial.trial)
        conductor.ended(trial.trial)
        ended += 1


def suggestions(study):
    return [study.suggested(number) for number in range(study.asked)]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("algorithm", ["tpe", "nsga2", "nsga3", "gp", "cmaes"])
def test_a_search_that_is_killed_proposes_what_the_undisturbed_one_proposes(search, tmp_path, algorithm, batch):
    objectives = TWO[:1] if algorithm == "cmaes" else TWO
    constraints = [] if algorithm == "cmaes" else ["epsilon <= 3"]
    sweep = search(algorithm=algorithm, objectives=objectives, constraints=constraints, samples=12)
    whole = Answers(len(constraints), objectives=len(objectives))
    conductor, (undisturbed,) = conductor_of(sweep, whole, tmp_path / "whole", batch)
    drive(conductor, whole)
    assert undisturbed.asked == 12
    assert conductor.told == 12
    answers = Answers(len(constraints), objectives=len(objectives))
    for most in (1, 4, 3, 0, math.inf):  # each time from what lies on the disk, and trials end in another order
        conductor, (study,) = conductor_of(sweep, answers, tmp_path / "killed", batch)
        drive(conductor, answers, most=most, newest_first=True)
    assert suggestions(study) == suggestions(undisturbed)
    stored = [
        optuna.load_study(study_name="toy ", storage=open_storage(None, tmp_path / name))
        for name in ("whole", "killed")
    ]
    assert [t.values for t in stored[0].trials] == [t.values for t in stored[1].trials]
    assert [t.number for t in stored[0].best_trials] == [t.number for t in stored[1].best_trials]


def test_a_kill_between_any_two_writes_changes_nothing(search, tmp_path):
    sweep = search(samples=8, startup_trials=3, constraints=["epsilon <= 3"])
    answers = Answers(1)
    conductor, (undisturbed,) = conductor_of(sweep, answers, tmp_path / "whole", 2)
    drive(conductor, answers)
    lines = (tmp_path / "whole" / "search.journal").read_bytes().splitlines(keepends=True)
    for cut in range(5, len(lines), 4):
        folder = tmp_path / f"cut{cut}"
        folder.mkdir()
        # Half a line more: what a kill in the middle of a write leaves.
        (folder / "search.journal").write_bytes(b"".join(lines[:cut]) + lines[cut][: len(lines[cut]) // 2])
        again = Answers(1)
        again.done = set(answers.done)
        conductor, (study,) = conductor_of(sweep, again, folder, 2)
        drive(conductor, again)
        assert suggestions(study) == suggestions(undisturbed)


def test_optuna_opens_the_storage_with_names_constraints_and_hashes(search, tmp_path):
    sweep = search(constraints=["epsilon <= 3"], storage=str(tmp_path / "search.db"))
    answers = Answers(1)
    conductor, _ = conductor_of(sweep, answers, tmp_path)
    drive(conductor, answers)
    study = optuna.load_study(study_name="toy ", storage=f"sqlite:///{tmp_path / 'search.db'}")
    assert study.metric_names == ["max accuracy", "min equalized_odds_difference by tone"]
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert len(study.trials) == 14
    for trial in study.trials:
        noise = trial.params.get("private.noise_multiplier", 0.3)
        assert trial.constraints == {"epsilon <= 3": pytest.approx(2.0 - noise)}
        assert trial.user_attrs["fairsweep:trials"] == [answers.proposed[trial.number]]
    assert all(trial.constraints["epsilon <= 3"] <= 0 for trial in study.best_trials)
    assert study.best_trials


def test_more_samples_go_on_with_the_search(search, tmp_path):
    answers = Answers()
    conductor, (short,) = conductor_of(search(samples=6), answers, tmp_path)
    drive(conductor, answers)
    first = suggestions(short)
    conductor, (longer,) = conductor_of(search(samples=9), answers, tmp_path)
    drive(conductor, answers)
    assert suggestions(longer)[:6] == first
    assert longer.asked == 9


def test_a_search_that_waits_does_not_look_through_what_it_has_been_told(search, tmp_path, monkeypatch):
    answers = Answers(refusing=lambda values: values.get("l2_clip_norm") == 0.1)
    conductor, (study,) = conductor_of(search(samples=20), answers, tmp_path, batch=2)
    drive(conductor, answers, most=8)
    conductor.advance()
    looked = []
    for storage in (InMemoryStorage, JournalStorage):
        monkeypatch.setattr(storage, "get_all_trials", lambda *_, **__: looked.append("all") or [])
    assert conductor.advance() == []
    assert conductor.told == study.asked - 2
    assert study.waiting == (study.asked - 2, study.asked - 1)
    assert not study.wants_more
    assert len(study.refusals) > 0
    assert study.suggested(study.asked - 1)["learner"] in ("private", "tuned")
    assert looked == []


@pytest.mark.parametrize("algorithm", ["nsga2", "nsga3", "gp", "cmaes"])
def test_each_setting_is_looked_at_once_for_which_parameters_all_have(search, tmp_path, monkeypatch, algorithm):
    looked, distributions = [], FrozenTrial.distributions
    counted = property(lambda trial: looked.append(trial) or distributions.fget(trial), distributions.fset)
    monkeypatch.setattr(FrozenTrial, "distributions", counted)
    section = {"algorithm": algorithm, "objectives": TWO[:1] if algorithm == "cmaes" else TWO, "batch": 2}
    section |= {"startup_trials": 1000} if algorithm in ("gp", "cmaes") else {}
    totals = []
    for samples in (20, 80):
        answers = Answers(objectives=len(section["objectives"]))
        conductor, _ = conductor_of(search(samples=samples, **section), answers, tmp_path / str(samples), batch=2)
        drive(conductor, answers)
        totals.append(len(looked))
        looked.clear()
    assert totals[1] <= 5 * totals[0]


def test_failed_and_refused_settings_are_told_as_failed(search, tmp_path):
    said = []
    answers = Answers(
        failing=lambda values: values.get("epochs", 0) >= 2, refusing=lambda values: values.get("l2_clip_norm") == 0.1
    )
    conductor, _ = conductor_of(search(samples=20), answers, tmp_path)
    conductor._say = said.append
    drive(conductor, answers)
    stored = optuna.load_study(study_name="toy ", storage=open_storage(None, tmp_path))
    causes = [trial.user_attrs.get("fairsweep:cause") for trial in stored.trials]
    for trial, cause in zip(stored.trials, causes, strict=True):
        assert (trial.state == optuna.trial.TrialState.FAIL) == (cause is not None)
    assert {cause for cause in causes if cause} == {"a trial failed", "this one cannot run"}
    assert len(said) == sum(cause is not None for cause in causes)


def test_a_setting_that_is_proposed_again_takes_over_what_is_known(search, mapping, tmp_path):
    mapping["learners"][2] = {"name": "tuned", "kind": "sgd", "epochs": {"choice": [1, 2]}}
    mapping["learners"] = mapping["learners"][2:]
    mapping["search"] = {"algorithm": "tpe", "samples": 9, "objectives": TWO}
    sweep = Sweep.from_mapping(mapping)
    whole = Answers(failing=lambda values: values["epochs"] == 2)
    conductor, (undisturbed,) = conductor_of(sweep, whole, tmp_path / "whole")
    drive(conductor, whole)
    assert len(whole.done) == 2
    assert conductor.told == 9
    answers = Answers(failing=lambda values: values["epochs"] == 2)
    for most in (1, 1, math.inf):  # also a failure that was told counts for good
        conductor, (study,) = conductor_of(sweep, answers, tmp_path / "killed")
        drive(conductor, answers, most=most)
        conductor.advance()
    assert suggestions(study) == suggestions(undisturbed)
    assert len(answers.ran) == 2


def test_the_journal_of_a_release_holds_no_time_and_proposes_the_same(search, tmp_path):
    sweep, proposed = search(samples=4), []
    for timed in (True, False):
        answers, folder = Answers(), tmp_path / str(timed)
        for most in (2, math.inf):  # resumed in between
            conductor, (study,) = conductor_of(sweep, answers, folder, timed=timed)
            drive(conductor, answers, most=most)
        proposed.append(suggestions(study))
    assert proposed[0] == proposed[1]
    journals = [(tmp_path / name / JOURNAL).read_text() for name in ("True", "False")]
    times = [set(re.findall(r"\d{4}-\d\d-\d\dT[^\"]*", text)) for text in journals]
    assert len(times[0]) > 4
    assert times[1] == {"1970-01-01T00:00:00+00:00"}


def test_refusals_are_counted_by_cause():
    counts = counted_causes(["width 7 is odd", "no momentum", "width 5 is odd"])
    assert counts == {"width 7 is odd": 2, "no momentum": 1}
    assert refusal_lines(counts)[1] == "1 setting was refused: no momentum"


def test_an_undefined_value_fails_and_an_infinite_one_is_large(search, tmp_path):
    answers = Answers()
    answers.values = lambda trial: [math.nan if "tuned" in trial.trial else 0.5, math.inf]
    conductor, _ = conductor_of(search(), answers, tmp_path)
    drive(conductor, answers)
    stored = optuna.load_study(study_name="toy ", storage=open_storage(None, tmp_path))
    for trial in stored.trials:
        expected = None if trial.params["learner"] == "tuned" else [0.5, 1e12]
        assert trial.values == expected


def test_learners_compete_with_their_own_dimensions_and_twins_follow(search, toy):
    sweep = search()
    space = SearchSpace(sweep)
    assert [learner.name for learner in space.competitors] == ["private", "tuned"]
    assert list(space.distributions()) == [
        "learner",
        "private.noise_multiplier",
        "private.l2_clip_norm",
        "tuned.epochs",
        "tuned.optimizer.lr",
    ]
    assert [parameter.name for parameter in space.needed("tuned")] == ["tuned.epochs", "tuned.optimizer.lr"]
    (condition,) = space.conditions
    suggested = {"learner": "private", "private.noise_multiplier": 1.5, "private.l2_clip_norm": 0.1}
    private, twin = trials_at(sweep, toy, None, [space.chosen(condition, suggested)])
    assert (private.config.learner.noise_multiplier, private.config.learner.l2_clip_norm) == (1.5, 0.1)
    assert (twin.config.learner.name, twin.config.twin_of) == ("matched", "private")
    assert (twin.config.learner.noise_multiplier, twin.config.learner.l2_clip_norm) == (0.0, None)


def test_grid_values_are_conditions_with_a_study_each(mapping, toy):
    mapping["learners"][0]["noise_multiplier"] = {"grid": [1.0, 2.0]}
    mapping["learners"][2]["epochs"] = {"randint": [1, 4]}
    mapping["search"] = {"algorithm": "tpe", "samples": 3, "objectives": [{"max": "accuracy"}]}
    space = SearchSpace(Sweep.from_mapping(mapping))
    labels = [condition.label for condition in space.conditions]
    assert labels == [
        f"imbalance.share {share}, private.noise_multiplier {noise}" for share in (0.5, 0.9) for noise in (1.0, 2.0)
    ]
    chosen = space.chosen(space.conditions[3], {"learner": "private"})
    assert chosen.shared[0].values == ((("share",), 0.9),)
    assert chosen.learners[0][1].values == ((("noise_multiplier",), 2.0),)


def test_sobol_points_are_even_and_grow_without_changing(mapping, toy):
    mapping["imbalance"]["share"] = {"uniform": [0.5, 0.9]}
    mapping["learners"] = [
        {"name": "tuned", "kind": "sgd", "epochs": {"choice": [1, 2]}, "optimizer": {"lr": {"loguniform": [0.01, 1.0]}}}
    ]
    mapping["seeds"] = 1
    mapping["search"] = {"algorithm": "sobol", "samples": 16}
    trials = expand(Sweep.from_mapping(mapping), toy)
    assert len(trials) == 16
    epochs = [trial.config.learner.epochs for trial in trials]
    assert epochs.count(1) == 8
    # Of 16 points each of 16 equal intervals holds one: that is what random draws lack.
    rates = [trial.config.learner.optimizer.lr for trial in trials]
    assert sorted(int(16 * math.log(rate / 0.01) / math.log(100)) for rate in rates) == list(range(16))
    mapping["search"] |= {"samples": 5}
    assert expand(Sweep.from_mapping(mapping), toy) == trials[:5]
    mapping["search"] |= {"seed": 1}
    assert expand(Sweep.from_mapping(mapping), toy)[0] != trials[0]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"algorithm": "tpee", "samples": 3}, r"search.algorithm: .*'tpe'.*but got 'tpee'"),
        (
            {"algorithm": "tpe", "objectives": TWO},
            r"samples is the number of settings .* got algorithm='tpe', samples=None",
        ),
        ({"algorithm": "tpe", "samples": 3}, r"tpe needs objectives, but got none"),
        ({"algorithm": "grid", "objectives": TWO}, r"grid does not use results, so it takes no objectives"),
        ({"algorithm": "cmaes", "samples": 3, "objectives": TWO}, r"cmaes takes one objective"),
        ({"algorithm": "tpe", "samples": 3, "objectives": [{"max": "acuracy"}]}, r"no metric 'acuracy': did you mean"),
        ({"algorithm": "tpe", "samples": 3, "objectives": [{"max": "accuracy", "min": "epsilon"}]}, r"exactly one of"),
        (
            {"algorithm": "tpe", "samples": 3, "objectives": TWO[:1], "constraints": ["epsilon < 3"]},
            r"written 'MEASURE <= NUMBER' .* got 'epsilon < 3'",
        ),
        (
            {"algorithm": "nsga2", "samples": 3, "objectives": TWO, "startup_trials": 4},
            r"startup_trials belongs to tpe, gp and cmaes",
        ),
        (
            {"algorithm": "tpe", "samples": 3, "objectives": [{"max": "accuracy by tone"}]},
            r"takes 'where ATTRIBUTE=VAL",
        ),
        ({"algorithm": "tpe", "samples": 3, "objectives": [{"min": "epsilon by tone"}]}, r"belongs to the trial"),
    ],
)
def test_a_section_that_cannot_work_is_refused_in_one_line(search, section, message):
    with pytest.raises(SweepError, match=message) as caught:
        search(**({"samples": None, "objectives": []} | section))
    assert "\n" not in str(caught.value)


def test_a_search_with_nothing_to_choose_is_refused(mapping):
    mapping["learners"] = [{"name": "tuned", "kind": "sgd", "epochs": 1}]
    mapping["search"] = {"algorithm": "tpe", "samples": 3, "objectives": [{"max": "accuracy"}]}
    with pytest.raises(SweepError, match="needs at least one search dimension"):
        Sweep.from_mapping(mapping)


def test_both_ends_of_every_dimension_are_checked_beforehand(search, mapping):
    mapping["learners"][2]["epochs"] = {"randint": [0, 5]}
    with pytest.raises(SweepError, match="epochs"):
        search()
