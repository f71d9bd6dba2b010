"""Dimensions that exist only where a value of another one is taken, and whole sections as dimensions."""

import pytest

from fairsweep.sweeps.planning.expand import expand, trials_at
from fairsweep.sweeps.search.storage import open_storage
from fairsweep.sweeps.search.study import SearchStudy
from fairsweep.sweeps.spec.search_space import SearchSpace
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError

SGD, ADAM = {"name": "sgd", "momentum": {"uniform": [0.1, 0.9]}}, {"name": "adam", "lr": {"loguniform": [0.001, 0.1]}}


@pytest.fixture
def sweep(mapping):
    """Makes a sweep of one learner at one level of imbalance."""
    mapping["imbalance"]["share"] = 0.7
    mapping["seeds"] = 1

    def make(optimizer, search=None, **sections):
        mapping["learners"] = [{"name": "tuned", "kind": "sgd", "epochs": 2, "optimizer": optimizer}]
        return Sweep.from_mapping(mapping | sections | ({} if search is None else {"search": search}))

    return make


def guided(algorithm, samples=12):
    objectives = [{"max": "accuracy"}] if algorithm == "cmaes" else [{"max": "accuracy"}, {"min": "seconds"}]
    return {"algorithm": algorithm, "samples": samples, "objectives": objectives}


def test_a_grid_of_branches_has_the_trials_of_each(sweep, toy):
    optimizer = {"grid": [{"name": "sgd", "momentum": {"grid": [0.0, 0.9]}}, {"name": "adam"}]}
    trials = expand(sweep(optimizer), toy)
    assert [trial.label for trial in trials] == [
        "tuned-optimizer-sgd-momentum.0_s0".replace(".0_", "0_"),
        "tuned-optimizer-sgd-momentum.9_s0",
        "tuned-optimizer-adam_s0",
    ]
    plain = [expand(sweep(o), toy)[0].trial for o in ({"name": "sgd"}, {"name": "sgd", "momentum": 0.9})]
    adam = expand(sweep({"choice": [{"name": "adam"}]}, {"algorithm": "random", "samples": 1}), toy)
    assert [trial.trial for trial in trials] == [*plain, adam[0].trial]
    assert expand(sweep({"name": "adam"}), toy)[0].trial == adam[0].trial


@pytest.mark.parametrize("algorithm", ["random", "sobol"])
def test_draws_exist_only_in_their_branch(sweep, toy, algorithm):
    trials = expand(sweep({"choice": [SGD, ADAM]}, {"algorithm": algorithm, "samples": 12}), toy)
    optimizers = [trial.config.learner.optimizer for trial in trials]
    assert {optimizer.name for optimizer in optimizers} == {"sgd", "adam"}
    for optimizer in optimizers:
        assert (getattr(optimizer, "momentum", 0.0) > 0) == (optimizer.name == "sgd")
        assert (optimizer.lr < 0.1) == (optimizer.name == "adam")


@pytest.mark.parametrize("algorithm", ["tpe", "gp", "nsga2", "nsga3", "cmaes"])
def test_guided_searches_take_branches_and_repeat_them(sweep, toy, tmp_path, algorithm):
    made = sweep({"choice": [SGD, ADAM]}, guided(algorithm))
    space = SearchSpace(made)
    (condition,) = space.conditions
    names = ["tuned.optimizer", "tuned.optimizer.sgd.momentum", "tuned.optimizer.adam.lr"]
    assert list(space.distributions()) == names
    probed = [probe.learners[0][0].config(probe.learners[0][1]).optimizer for probe in space.probes()]
    assert [(o.name, getattr(o, "momentum", 0.0), o.lr) for o in probed] == [
        ("sgd", 0.1, 0.1),
        ("adam", 0.0, 0.001),
        ("sgd", 0.9, 0.1),
        ("adam", 0.0, 0.001),
        ("adam", 0.0, 0.1),
    ]

    def study():
        return SearchStudy("toy", made.search, space, condition, open_storage(None, tmp_path), 1)

    asked = study()
    for number in range(8):
        asked.ask()
        suggested = asked.suggested(number)
        (trial,) = trials_at(made, toy, None, [space.chosen(condition, suggested)])
        assert trial.config.learner.optimizer.name == suggested["tuned.optimizer"]
        if algorithm == "tpe":
            other = {"sgd": "tuned.optimizer.adam.lr", "adam": "tuned.optimizer.sgd.momentum"}
            assert other[suggested["tuned.optimizer"]] not in suggested
        asked.tell(number, [0.5 + 0.01 * number, 1.0][: len(made.search.objectives)])
    again = study()
    assert [again.suggested(number) for number in range(8)] == [asked.suggested(number) for number in range(8)]
    assert len({asked.suggested(number)["tuned.optimizer"] for number in range(8)}) == 2


def test_grids_around_draws_are_conditions_and_grids_within_choices_are_refused(sweep):
    space = SearchSpace(sweep({"grid": [SGD, {"name": "adam"}]}, guided("tpe"), model={"width": {"choice": [4, 8]}}))
    assert [condition.label for condition in space.conditions] == ["tuned.optimizer sgd", "tuned.optimizer adam"]
    momentum = next(p for p in space.parameters if p.place[-1] == "momentum")
    assert [space.can_exist(momentum, condition) for condition in space.conditions] == [True, False]
    with pytest.raises(SweepError, match=r"tuned.optimizer.sgd.momentum is a grid within a choice: .* write {choice"):
        sweep({"choice": [{"name": "sgd", "momentum": {"grid": [0, 0.9]}}, {"name": "adam"}]}, guided("tpe"))


def test_whole_sections_are_dimensions(sweep, toy):
    share = {"attribute": "tone", "majority": "light", "share": {"grid": [0.5, 0.7]}, "size": 120}
    imbalance = {"grid": [share, {"attribute": "tone", "keep": {"dark": 50}}, None]}
    trials = expand(sweep({"name": "sgd"}, imbalance=imbalance), toy)
    assert [trial.label.removeprefix("tuned_imbalance") for trial in trials] == [
        "-tone-light-120_share.5_s0",
        "-tone-light-120_share.7_s0",
        "-tone-50_s0",
        "-None_s0",
    ]
    assert trials[-1].config.imbalance is None
    alone = [expand(sweep({"name": "sgd"}, imbalance=one), toy)[0].trial for one in (share | {"share": 0.7}, None)]
    assert [trials[1].trial, trials[3].trial] == alone
    models = expand(sweep({"name": "sgd"}, model={"grid": [{"name": "linear"}, {"width": {"grid": [4, 8]}}]}), toy)
    assert [trial.config.model.name for trial in models] == ["linear", "cnn", "cnn"]
    splits = {"grid": [None, {"kind": "folds", "folds": 2}]}
    assert len(expand(sweep({"name": "sgd"}, split=splits), toy)) == 3
    found = SearchSpace(sweep({"choice": [SGD, ADAM]}, guided("tpe"), imbalance=imbalance)).conditions
    assert len(found) == 4
    assert found[0].label == "imbalance 0, imbalance[0].share 0.5"


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (
            {"evaluation": {"grid": [{"per_cell": 5}, {"per_cell": 6}]}},
            "evaluation cannot be a search dimension",
        ),
        ({"evaluation": {"per_cell": {"grid": [5, 6]}}}, "evaluation cannot be a search dimension: it is fixed"),
        ({"seeds": {"grid": [1, 2]}}, "seeds"),
        ({"model": {"grid": [None, {"name": "linear"}]}}, "model: must be a mapping"),
        ({"model": {"width": {"values": [4, 8]}}}, r"model.width: .* write {grid: \[a, b\]} to cross"),
        ({"model": {"width": {"min": 4, "max": 8}}}, r"write {uniform: \[a, b\]}, {loguniform"),
        ({"model": {"width": {"distribution": "uniform", "min": 4, "max": 8}}}, r"write {uniform: \[a, b\]}"),
        ({"model": {"width": {"grid_search": [4, 8]}}}, r"model.width: .* write {grid: \[a, b\]}"),
        ({"model": {"width": "tune.choice([4, 8])"}}, r"model: .* 'tune.choice\(\[4, 8\]\)': write {grid"),
        ({"model": {"width": {"uniform": [4, 8], "log": True}}}, r"without log; there are loguniform"),
        (
            {"model": {"width": {"quniform": [4, 8]}}},
            r"quniform needs numbers a < b and a step q > 0, but got",
        ),
        ({"model": {"width": {"lograndint": [0, 8]}}}, r"lograndint needs 0 < a, but got \[0, 8\]; use randint"),
    ],
)
def test_what_is_no_dimension_of_ours_is_refused_in_one_line(sweep, section, words):
    with pytest.raises(SweepError, match=words) as caught:
        sweep({"name": "sgd"}, **section)
    assert "\n" not in str(caught.value)


def test_steps_and_whole_logarithms(sweep, toy):
    model = {"width": {"quniform": [4, 16, 4]}}
    optimizer = {"lr": {"quniform": [0.1, 0.5, 0.1]}}
    trials = expand(sweep(optimizer, {"algorithm": "sobol", "samples": 16}, model=model), toy)
    assert {trial.config.model.width for trial in trials} == {4, 8, 12, 16}
    assert {trial.config.learner.optimizer.lr for trial in trials} == {0.1, 0.2, 0.3, 0.4, 0.5}
    made = sweep(optimizer, guided("tpe"), model={"width": {"lograndint": [4, 17]}})
    width, lr = SearchSpace(made).parameters
    assert (width.distribution.low, width.distribution.high, width.distribution.log) == (4, 16, True)
    assert lr.value(2) == 0.3
