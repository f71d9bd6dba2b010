"""Trials that end early: who decides it, on what, and what is left of them."""

import itertools
import json

import numpy as np
import optuna
import pyarrow.compute as pc
import pytest
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from fairsweep import analysis
from fairsweep.analysis.accounting.events import describe
from fairsweep.analysis.records.cell_records import count_cells, read_cells
from fairsweep.analysis.records.files import read_json
from fairsweep.analysis.records.prediction_records import write_examples
from fairsweep.analysis.records.vocabularies import Vocabulary
from fairsweep.sweeps.execution.tasks import Watches
from fairsweep.sweeps.planning.preflight import check_sweep
from fairsweep.sweeps.search.outcomes import recorded_values
from fairsweep.sweeps.search.pareto import ParetoHalving, crowding_distances, nondominated_ranks, positions
from fairsweep.sweeps.search.scheduler import Verdicts, make_judge, make_scheduler, recorded_course
from fairsweep.sweeps.search.stopping_rules import TrialWatch, steps_within
from fairsweep.sweeps.spec.scheduler_section import SchedulerSection
from fairsweep.sweeps.spec.stop_section import StopSection
from fairsweep.sweeps.store.ledger import Entry, Ledger
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.trainables.learning.measures import Meaning, Measure, Standing
from fairsweep.trainables.learning.objectives import Objective
from fairsweep.trainables.privacy.plan import PrivacyPlan
from fairsweep.trainables.privacy.privacy_statement import PrivacyStatement
from fairsweep.trainables.trial.checkpoint import CheckpointPolicy
from fairsweep.trainables.trial.other_dataset import recorded_examples
from fairsweep.trainables.trial.state import TrialStateFile
from fairsweep.trainables.trial.trial import Trial

ACCURACY = [{"max": "accuracy"}]
BOTH = [{"max": "accuracy"}, {"min": "accuracy_difference by tone"}]


class FakeTrial:
    """What of Tune's trials our scheduler looks at."""

    def __init__(self, name):
        self.config = {"trial": name}


def brute_force_ranks(values):
    """Peel fronts off, point by point, by the definition."""
    left, ranks, rank = set(range(len(values))), {}, 0

    def dominated(i):
        return any(
            all(a >= b for a, b in zip(values[j], values[i], strict=True)) and tuple(values[j]) != tuple(values[i])
            for j in left
        )

    while left:
        front = {i for i in left if not dominated(i)}
        ranks |= dict.fromkeys(front, rank)
        left, rank = left - front, rank + 1
    return [ranks[i] for i in range(len(values))]


@pytest.mark.parametrize(("seed", "objectives"), list(itertools.product(range(4), (1, 2, 3))))
def test_ranks_are_those_of_the_definition_and_of_optuna(seed, objectives):
    # Few distinct values, so that there are ties.
    values = np.random.default_rng(seed).integers(0, 5, (40, objectives)).astype(float)
    ranks = nondominated_ranks(values)
    assert ranks.tolist() == brute_force_ranks(values.tolist())
    optunas = optuna.study._multi_objective._fast_non_domination_rank(-values)
    assert ranks.tolist() == optunas.tolist()


def test_crowding_prefers_the_ends_and_the_lonely():
    front = np.array([[0.0, 4.0], [1.0, 3.5], [2.0, 3.0], [3.5, 1.0], [4.0, 0.0]])
    distances = crowding_distances(front)
    assert np.isinf(distances[[0, 4]]).all()
    # By hand: (2 - 0) / 4 + (4 - 3) / 4, and so on.
    assert distances[1:4] == pytest.approx([0.75, 1.25, 1.25])
    dominated = np.vstack([front, [[0.5, 0.5]]])
    assert positions(dominated).tolist() == [0, 4, 2, 3, 1, 5]


def test_pareto_halving_keeps_one_in_so_many_and_never_the_front_alone():
    halving = ParetoHalving(grace_period=2, reduction=2)
    assert not halving.ends("early", 1, [0.0, 0.0])
    kept = [
        name
        for name, values in [
            ("a", [1, 1]),
            ("b", [2, 0]),
            ("c", [0, 0]),
            ("d", [0.5, 0.9]),
            ("e", [3, 3]),
            ("f", [2, 2]),
        ]
        if not halving.ends(name, 2, values)
    ]
    # a is first; b is on the front with it but one of two goes on; e beats all; f is second of six.
    assert kept == ["a", "e", "f"]
    assert not halving.ends("e", 3, [0, 0])
    assert not halving.ends("a", 4, [0, 0])
    assert halving.ends("f", 5, [-1, 0])


@pytest.mark.parametrize("reduction", [2, 3, 4])
def test_asha_decides_as_tunes_own(reduction):
    rng = np.random.default_rng(reduction)
    section = SchedulerSection(kind="asha", objectives=ACCURACY, reduction=reduction)
    judge = make_judge(section, 0)
    tunes = AsyncHyperBandScheduler(
        time_attr="iteration", metric="value", mode="max", max_t=1000, grace_period=1, reduction_factor=reduction
    )
    names = [f"t{n}" for n in range(12)]
    stand_ins = {name: type("T", (), {"trial_id": name})() for name in names}
    for stand_in in stand_ins.values():
        tunes.on_trial_add(None, stand_in)
    for iteration, name in itertools.product(range(1, 20), names):
        value = float(rng.random())
        expected = tunes.on_trial_result(None, stand_ins[name], {"iteration": iteration, "value": value})
        assert judge.ends(name, iteration, [value]) == (expected == TrialScheduler.STOP)


@pytest.mark.parametrize("kind", ["hyperband", "median"])
def test_the_other_rules_end_the_worst_and_draw_from_no_global_generator(kind):
    section = SchedulerSection(kind=kind, objectives=ACCURACY, grace_period=2)
    before = np.random.get_state()[1].tolist()  # noqa: NPY002 - it must stay as it is
    ended = set()
    judge = make_judge(section, 0)
    for iteration in range(1, 30):
        for number in reversed(range(20)):  # the best comes first
            name = f"t{number}"
            if name not in ended and judge.ends(name, iteration, [number / 20]):
                assert iteration >= 2
                ended.add(name)
    assert "t0" in ended
    assert "t19" not in ended
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


@pytest.mark.parametrize("kind", ["median", "asha", "hyperband", "pareto-asha"])
def test_what_shall_end_may_report_its_end(kind):
    """The last report of a trial comes after the verdict on it; Tune's median rule fails at a second one."""
    objectives = BOTH if kind == "pareto-asha" else ACCURACY
    section = SchedulerSection(kind=kind, objectives=objectives, grace_period=1, reduction=2, min_trials=1)
    judge = make_judge(section, 0)
    values = [[1 - number / 8] * len(objectives) for number in range(8)]
    ended = [number for number, reached in enumerate(values) if judge.ends(f"t{number}", 1, reached)]
    assert ended
    for number in ended:
        judge.ends(f"t{number}", 1, values[number])


def test_verdicts_reach_the_state_and_tune_goes_on(mapping, toy, tmp_path):
    entry = Entry(tmp_path, TrialStateFile(tmp_path).queue("bad"))
    sweep = Sweep.from_mapping(mapping | {"scheduler": {"kind": "asha", "objectives": ACCURACY, "reduction": 2}})
    scheduler = make_scheduler(sweep, toy, Ledger(tmp_path / "none"), {"bad": entry}.__getitem__)
    for name, value in [("good", 0.9), ("fine", 0.95), ("bad", 0.1)]:
        result = {"iteration": 1, "accuracy": value, "done": False, "failed": 0.0}
        assert scheduler.on_trial_result(None, FakeTrial(name), result) == TrialScheduler.CONTINUE
    state = entry.file.read()
    assert (state.state, state.stop_at, state.reason) == ("queued", 1, "others did better by max accuracy")
    # Nothing is decided by what failed, by what is over, or without the metric.
    for changes in ({"failed": 1.0}, {"done": True}, {"accuracy": None}):
        result = {"iteration": 1, "accuracy": 0.0, "done": False, "failed": 0.0} | changes
        scheduler.on_trial_result(None, FakeTrial("nobody"), result)
    assert isinstance(scheduler, Verdicts)


@pytest.fixture
def trial_of(mapping, tmp_path):
    """Makes the first trial of a sweep, which is private, with what is watched of it."""

    def make(name="trial", seed=0, **sections):
        mapping["learners"][0] |= {"epochs": 6, "noise_multiplier": 8.0}
        mapping["imbalance"]["share"] = 0.5
        mapping["learners"] = mapping["learners"][:1]
        sweep = Sweep.from_mapping(mapping | sections)
        checked = check_sweep(sweep)
        planned = checked.trials[seed]
        plan = PrivacyPlan.build(planned.config.learner, checked.units[planned.trial])
        watch = Watches(checked).of(plan)
        policy = CheckpointPolicy(every=1, seconds=0)
        return lambda: Trial(planned.config, tmp_path / name, plan=plan, watch=watch, checkpoints=policy), plan

    return make


def state_of(folder):
    return TrialStateFile(folder).read()


def test_a_trial_that_a_stopper_ends_is_whole_and_charged_for_its_steps(trial_of, tmp_path):
    plan = trial_of()[1]
    bound = plan.epsilon(3 * plan.steps // 6).pld
    open_trial, plan = trial_of("stopped", stop={"epsilon": float(bound) + 1e-9})
    folder = open_trial().run()
    state = state_of(folder)
    assert (state.state, state.by, state.iteration, state.iterations) == ("stopped", "stopper", 3, 6)
    assert state.ended
    assert "another iteration would spend more" in state.reason
    assert read_json(folder / "privacy.json")["steps"] == plan.steps // 2
    assert "charged_steps" not in read_json(folder / "privacy.json")
    assert float(read_json(folder / "privacy.json")["epsilon"]["pld"]) == pytest.approx(bound)
    assert not (folder / "checkpoints").exists()
    whole = trial_of("whole")[0]().run()
    cells = read_cells(whole / "cells.parquet").table
    assert read_cells(folder / "cells.parquet").table == cells.filter(pc.less_equal(cells.column("iteration"), 3))
    assert (folder / "predictions.parquet").exists()
    with pytest.raises(ValueError, match="is stopped"):
        open_trial()


def assert_charged_as_planned(folder, plan, *, steps, charged=None):
    """When such a trial ends depends on the private model: the steps taken are no bound."""
    statement = PrivacyStatement.model_validate(read_json(folder / "privacy.json"))
    assert (statement.steps, statement.charged_steps) == (steps, charged or plan.steps)
    assert statement.epsilon == plan.epsilon(charged)
    assert statement.events == (describe(plan.event(charged)),)
    assert f"all {statement.charged_steps} steps that it could have taken are charged" in statement.assumptions[-1]


@pytest.mark.parametrize(
    "rule",
    [
        {"target": ["accuracy >= 0"]},
        {"seconds": 1e-9},
        {"plateau": {"objective": {"max": "accuracy"}, "patience": 1, "min_delta": 0.9}},
    ],
    ids=["target", "time", "plateau"],
)
def test_an_end_that_depends_on_the_model_is_charged_as_planned(trial_of, rule):
    open_trial, plan = trial_of("ended", stop=rule)
    folder = open_trial().run()
    taken = read_json(folder / "privacy.json")["steps"]
    assert taken < plan.steps
    assert_charged_as_planned(folder, plan, steps=taken)
    assert state_of(folder).metrics["epsilon"] == plan.epsilon().pld


def test_beside_a_bound_on_epsilon_no_more_than_the_bound_is_charged(trial_of):
    plan = trial_of()[1]
    bound = plan.epsilon(20).pld
    open_trial, plan = trial_of("both", stop={"target": ["accuracy >= 0"], "epsilon": float(bound)})
    folder = open_trial().run()
    assert state_of(folder).reason.startswith("target reached")
    assert_charged_as_planned(folder, plan, steps=5, charged=20)


def test_a_plateau_is_seen_again_after_a_resume(trial_of, tmp_path):
    stop = {"plateau": {"objective": {"max": "accuracy"}, "patience": 2, "min_delta": 0.5}}
    whole = trial_of("whole", stop=stop)[0]().run()
    open_trial, _ = trial_of("resumed", stop=stop)
    first = open_trial()
    first.iterate()
    first.iterate()
    first.close()
    folder = open_trial().run()
    # The first value improves on nothing known; two more do not by half.
    assert state_of(whole).iteration == state_of(folder).iteration == 3
    assert read_cells(folder / "cells.parquet").table == read_cells(whole / "cells.parquet").table
    assert state_of(folder).reason.startswith("plateau: max accuracy has not improved for 2 iterations")


def test_measures_of_probabilities_are_recorded_and_repeated(trial_of, mapping, toy, tmp_path):
    measures = [Measure.parse("log_loss"), Measure.parse("worst_group_auc by tone")]
    stop = {"plateau": {"objective": {"min": "log_loss"}, "patience": 2, "min_delta": 9.0}}
    stop["target"] = ["worst_group_auc by tone >= 1"]
    open_trial, _ = trial_of("out/trials/t", stop=stop)
    first = open_trial()
    first.iterate()
    before = first.iterate()
    first.close()
    second = open_trial()
    assert {str(m): second._watched[str(m)] for m in measures} == {str(m): before[str(m)] for m in measures}
    metrics = second.iterate()
    assert state_of(second.folder).reason.startswith("plateau: min log_loss has not improved for 2 iterations")
    second.close()
    meaning = Meaning("smiling", ("tone",), {"smiling": ("no", "yes"), "tone": ("light", "dark")})
    write_examples(tmp_path / "out" / "examples.parquet", recorded_examples(toy, None))
    values = recorded_values(second.folder, measures, meaning)
    assert values == pytest.approx([metrics[str(measure)] for measure in measures])
    objectives = [Objective(min=measures[0])]
    assert recorded_course(second.folder, objectives, meaning) == [(3, [pytest.approx(-values[0])])]


def test_a_trial_ends_where_its_scheduler_wished_also_after_a_kill(trial_of, tmp_path):
    open_trial, plan = trial_of("wished", scheduler={"kind": "asha", "objectives": ACCURACY})
    trial = open_trial()
    metrics = trial.iterate()
    assert metrics["accuracy"] == metrics["accuracy"]
    assert trial.wish() is None
    TrialStateFile(trial.folder).mark({"stop_at": 2, "reason": "others did better"})
    assert trial.wish() is None  # it has not come so far yet
    trial.close()
    TrialStateFile(trial.folder).queue(trial.config.trial)
    trial = open_trial()
    trial.iterate()
    metrics = trial.end(trial.wish())
    assert (metrics["done"], metrics["stopped"]) == (1.0, 1.0)
    state = state_of(trial.folder)
    assert (state.state, state.by, state.iteration) == ("stopped", "scheduler", 2)
    assert_charged_as_planned(trial.folder, plan, steps=plan.steps // 3)


def test_targets_hold_for_every_group_or_not_at_all():
    meaning = Meaning("smiling", ("tone",), {"smiling": ("no", "yes"), "tone": ("light", "dark")})
    stop = StopSection(target=["worst_group_accuracy by tone >= 0.6", "accuracy >= 0.6"])
    watch = TrialWatch("smiling", ("tone",), (Measure.parse("accuracy"),), stop)

    def cells(light, dark):
        return count_cells(
            iteration=1,
            split="validation",
            groups={"tone": [0] * 10 + [1] * 10},
            label=[1] * 20,
            prediction=[1] * light + [0] * (10 - light) + [1] * dark + [0] * (10 - dark),
        )

    vocabularies = [Vocabulary(name, values) for name, values in meaning.values.items()]
    watcher = watch.begin(vocabularies)
    assert watcher.see(cells(10, 5)) == {"accuracy": 0.75, "worst_group_accuracy by tone": 0.5}
    assert watcher.verdict(seconds=1, steps=1, next_steps=1) is None
    watcher.see(cells(10, 6))
    assert watcher.verdict(seconds=1, steps=1, next_steps=1).reason.startswith("target reached")
    assert Measure.parse("accuracy").of(Standing(cells(10, 6)), meaning) == 0.8


def test_steps_within_a_bound_are_the_most_that_it_allows(trial_of):
    plan = trial_of()[1]
    bound = plan.epsilon(10).pld
    assert steps_within(plan, bound) == 10
    assert steps_within(plan, bound - 1e-6) == 9
    assert steps_within(plan, 1e9) == plan.steps


def test_analysis_takes_who_was_stopped_by_a_rule_and_leaves_out_who_was_beaten(trial_of, mapping, tmp_path):
    rule, _ = trial_of("out/trials/rule", stop={"target": ["accuracy >= 0"]})
    rule().run()
    beaten, _ = trial_of("out/trials/beaten", seed=1, scheduler={"kind": "asha", "objectives": ACCURACY})
    trial = beaten()
    trial.iterate()
    trial.end("others did better")
    (tmp_path / "out" / "sweep.json").write_text(json.dumps({"format_version": 1, "name": "toy", "sweep": {}}))
    trials = analysis.load(tmp_path / "out").trials.set_index("trial")
    assert trials["state"].to_dict() == {"rule": "done", "beaten": "stopped"}
    assert trials["stopped_by"].to_dict() == {"rule": "stopper", "beaten": "scheduler"}
    assert set(analysis.load(tmp_path / "out").rates(["accuracy"])["trial"]) == {"rule"}
    states = [entry.state for entry in Ledger(tmp_path / "out").entries().values()]
    assert all(state.ended for state in states)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"scheduler": {"kind": "asha"}}, r"scheduler: asha needs one objective, but got 0; write objectives"),
        ({"scheduler": {"kind": "pareto-asha", "objectives": ACCURACY}}, r"pareto-asha needs two objectives or more"),
        ({"scheduler": {"kind": "asha", "objectives": BOTH}}, r"asha needs one objective, but got 2"),
        (
            {"scheduler": {"kind": "asha", "objectives": [{"min": "epsilon"}]}},
            r"epsilon is not a metric of the validation",
        ),
        ({"scheduler": {"objectives": ACCURACY}}, r"nothing to compare"),
        ({"scheduler": {"kind": "pbt", "objectives": ACCURACY}}, r"scheduler.kind: .*but got 'pbt'"),
        ({"stop": {"plateau": {"objective": {"max": "accuracy"}}}}, r"patience is required"),
        ({"stop": {"target": ["seconds >= 3"]}}, r"seconds is not a metric of the validation split"),
    ],
)
def test_sections_that_cannot_work_are_refused_in_one_line(mapping, sections, message):
    with pytest.raises(SweepError, match=message) as caught:
        Sweep.from_mapping(mapping | sections)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("sections", "place"),
    [
        (
            {"scheduler": {"kind": "asha", "objectives": [{"max": "accuracy where tone=drak"}]}},
            "scheduler.objectives[0]",
        ),
        ({"stop": {"target": ["worst_group_accuracy by tome >= 0.5"]}}, "stop.target[0]"),
        ({"stop": {"plateau": {"objective": {"max": "accuracy of 8"}, "patience": 1}}}, None),
    ],
)
def test_groups_that_do_not_exist_are_refused_before_the_start(mapping, sections, place):
    sweep = Sweep.from_mapping(mapping | sections)
    if place is None:
        check_sweep(sweep)  # a class has no meaning for the accuracy, and does no harm
        return
    with pytest.raises(SweepError) as caught:
        check_sweep(sweep)
    assert str(caught.value).startswith(f"{place}: ")
