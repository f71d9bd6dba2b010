"""A population is one learner: deterministic, resumable, and honest about who went on from whom."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from fairsweep.analysis.records.cell_records import read_cells
from fairsweep.analysis.records.file_names import LINEAGE
from fairsweep.analysis.records.files import RecordError
from fairsweep.analysis.records.learner_records import read_lineage
from fairsweep.datasets.selection.randomness import generator
from fairsweep.datasets.storage.layout import Attribute
from fairsweep.trainables.learners import AnyLearner, build_learner
from fairsweep.trainables.learning.evaluation import DivergedError
from fairsweep.trainables.learning.learner import LabelledRows
from fairsweep.trainables.learning.roles import Roles
from fairsweep.trainables.learning.tensor_bytes import decode, encode
from fairsweep.trainables.population.hyperparameters import Hyperparameter, with_values
from fairsweep.trainables.population.pbt_config import PbtConfig
from fairsweep.trainables.population.selection_rounds import parents, ranked
from fairsweep.trainables.sgd.sgd_learner import SgdConfig
from fairsweep.trainables.trial.checkpoint import CheckpointPolicy
from fairsweep.trainables.trial.trial import Trial

KEY = bytes(32)
EXPLORE = {"optimizer.lr": {"low": 1e-3, "high": 1.0, "log": True}, "optimizer.momentum": [0, 0.5, 0.9]}
INNER = {"epochs": 4, "batch_size": 16, "optimizer": {"lr": 0.1}}


def config(**fields):
    return PbtConfig(**{"population": 4, "inner": INNER, "explore": EXPLORE, **fields})


@pytest.fixture
def make(make_task):
    """Makes a population: ``make(config, fields of its task)``."""

    def build(given, n=96, **fields):
        task = make_task("linear", n=n, **fields)
        part = np.arange(0, n, 2)
        groups = {name: codes[part] for name, codes in task.groups.items()}
        return build_learner(given, replace(task, validation=LabelledRows(task.rows[part], task.labels[part], groups)))

    return build


def train(learner):
    return [learner.step() for _ in range(learner.iteration, learner.iterations)]


def lineage(learner):
    return {(row["generation"], row["member"]): row for row in learner.lineage}


def test_without_anything_to_explore_or_replace_a_member_is_the_learner_of_its_setting(make, make_task):
    population = make(config(quantile=0, explore={"optimizer.lr": [0.05], "optimizer.momentum": [0.9]}))
    train(population)
    inner = with_values(SgdConfig(**INNER), {"optimizer.lr": 0.05, "optimizer.momentum": 0.9})
    alone = build_learner(inner, make_task("linear", n=96))
    train(alone)
    first = population.members[0].state["network"]["model"]
    assert all(torch.equal(value, first[name]) for name, value in alone.weights().items())
    # The others begin elsewhere; what is published is the best of them.
    assert len({repr(member.state["network"]["model"]) for member in population.members}) == 4
    published = population.members[population.best].state["network"]["model"]
    assert all(torch.equal(value, published[name]) for name, value in population.weights().items())
    assert all(row["parent"] == row["member"] for row in population.lineage if row["generation"] > 1)


def test_the_lineage_is_that_of_truncation_selection(make):
    population = make(config(population=6, quantile=0.34, inner={**INNER, "epochs": 5}))
    reports = train(population)
    rows, copies = lineage(population), 0
    assert set(rows) == {(generation, member) for generation in range(1, 6) for member in range(1, 7)}
    for generation in range(1, 6):
        scores = [rows[generation, member]["score"] for member in range(1, 7)]
        best = [member for member in range(1, 7) if rows[generation, member]["published"]]
        assert best == [ranked(scores)[0] + 1]
        assert reports[generation - 1].loss == rows[generation, best[0]]["loss"]
        order = [member + 1 for member in ranked(scores)]
        for member in range(1, 7) if generation < 5 else ():
            child, own = rows[generation + 1, member], rows[generation, member]
            if child["parent"] == member:
                assert [child[name] for name in EXPLORE] == [own[name] for name in EXPLORE]
                continue
            copies += 1
            assert member in order[-3:]
            assert child["parent"] in order[:3]
            assert rows[generation, child["parent"]]["score"] > own["score"]
        assert all(rows[generation, member]["optimizer.lr"] >= 1e-3 for member in range(1, 7))
    assert copies >= 4
    assert sum(report.steps for report in reports) == 6 * 5 * 6
    assert (
        config(population=6, inner={**INNER, "epochs": 5})
        .workload(96)
        .startswith("6 members of 5 epochs each, one after the other: 180 steps a trial")
    )


def test_a_copy_takes_over_weights_and_optimiser_state_and_goes_on_under_its_own_hyperparameters(make):
    inner = {**INNER, "optimizer": {"name": "adam", "lr": 0.01}}
    explore = {"optimizer.lr": {"low": 1e-6, "high": 0.1, "log": True}, "optimizer.weight_decay": [0.0, 0.01, 0.1]}
    population = make(config(inner=inner, explore=explore, resample=0))
    population.step()
    copies = [number for number, member in enumerate(population.members) if member.parent != number]
    assert copies
    for number in copies:
        child, parent = population.members[number], population.members[population.members[number].parent]
        assert child.state is parent.state
        rate, before = child.values["optimizer.lr"], parent.values["optimizer.lr"]
        assert rate in (0.8 * before, min(1.2 * before, 0.1))
        assert child.values["optimizer.weight_decay"] != parent.values["optimizer.weight_decay"]
    values = [member.values for member in population.members]
    population._next = lambda members, chosen, generation: members
    population.step()
    for number in copies:
        now = population.members[number].state["network"]["optimizer"]
        assert now["param_groups"][0]["weight_decay"] == values[number]["optimizer.weight_decay"]
        assert now["state"][0]["step"] == 12  # of two epochs: the moments were taken over, not begun anew


def test_velocity_is_dropped_where_momentum_is_zero_and_begins_anew_later(make):
    population = make(config(explore={"optimizer.momentum": [0, 0.9]}, quantile=0))
    population.step()
    state = population.state()
    for member in state["members"]:
        member["values"] = {"optimizer.momentum": 0.9 - member["values"]["optimizer.momentum"]}
    population.load(state)
    population.step()
    for member in population.members:
        held = member.state["network"]["optimizer"]["state"]
        assert bool(held) == (member.values["optimizer.momentum"] > 0)


class _KilledError(Exception):
    pass


class _Dying:
    """A feed that dies once, when a batch is asked for the nth time."""

    def __init__(self, feed, calls):
        self._feed, self._calls = feed, calls

    def batches(self, *arguments, **named):
        self._calls -= 1
        if self._calls == 0:
            raise _KilledError
        return self._feed.batches(*arguments, **named)

    def __getattr__(self, name):
        return getattr(self._feed, name)


def test_a_trial_killed_amid_a_generation_and_resumed_equals_an_undisturbed_one(make_config, tmp_path, monkeypatch):
    learner = {
        "kind": "pbt",
        "population": 3,
        "inner": {"epochs": 3, "batch_size": 32},
        "explore": {**EXPLORE, "batch_size": {"low": 16, "high": 64}},
        "objective": {"max": "worst_group_accuracy by tone"},
    }
    policy = CheckpointPolicy(seconds=0)
    whole = Trial(make_config(learner), tmp_path / "whole", checkpoints=policy).run()
    trial = Trial(make_config(learner), tmp_path / "killed", checkpoints=policy)
    dying = _Dying(trial._learner._task.feed, 5)  # the second member of the second generation
    monkeypatch.setattr(trial._learner, "_task", replace(trial._learner._task, feed=dying))
    trial.iterate()
    with pytest.raises(_KilledError):
        trial.iterate()
    trial.close()
    resumed = Trial(make_config(learner), tmp_path / "killed", checkpoints=policy)
    assert resumed.iteration == 1
    folder = resumed.run()
    assert read_lineage(folder / LINEAGE).equals(read_lineage(whole / LINEAGE))
    assert read_lineage(folder / LINEAGE).num_rows == 9
    assert read_cells(folder / "cells.parquet").table.equals(read_cells(whole / "cells.parquet").table)
    assert (folder / "weights.pt").read_bytes() == (whole / "weights.pt").read_bytes()
    # The score of the published member is what the trial's own cells say.
    last = [row for row in read_lineage(whole / LINEAGE).to_pylist() if row["published"]][-1]
    cells = read_cells(whole / "cells.parquet").table.to_pandas().query("split == 'validation' and iteration == 3")
    right = cells[cells["label"] == cells["prediction"]].groupby("tone")["count"].sum()
    assert last["score"] == pytest.approx((right / cells.groupby("tone")["count"].sum()).min())


def test_a_learner_that_is_interrupted_within_a_step_goes_on_as_if_not(make):
    whole, other = make(config()), make(config())
    train(whole)
    other.step()
    task = other._task
    other._task = replace(task, feed=_Dying(task.feed, 3))
    with pytest.raises(_KilledError):
        other.step()
    other._task = task
    other.load(decode(encode(other.state())))
    train(other)
    assert other.lineage == whole.lineage
    assert all(torch.equal(value, whole.weights()[name]) for name, value in other.weights().items())


def test_a_member_that_diverges_is_replaced_as_the_worst_and_stays_in_the_lineage(make):
    explore = {"optimizer.lr": [0.01, 1e39]}
    population = make(config(explore=explore, quantile=0, resample=0, population=8))
    reports = train(population)
    rows = population.lineage
    lost = [row for row in rows if row["score"] is None]
    assert lost
    assert all(row["optimizer.lr"] == 1e39 and row["loss"] is None and not row["published"] for row in lost)
    assert all(math.isfinite(report.loss) for report in reports)
    after = lineage(population)
    for row in lost:
        if row["generation"] < 4:
            assert after[row["generation"] + 1, row["member"]]["parent"] != row["member"]


def test_where_all_diverge_or_nothing_can_be_measured_the_trial_fails_with_the_cause(make):
    population = make(config(explore={"optimizer.lr": [1e39, 1e40]}))
    with pytest.raises(DivergedError, match=r"all 4 members .* generation 1: .*lower .*optimizer\.lr"):
        population.step()
    assert [row["score"] for row in population.lineage] == [None] * 4
    nobody = make(config(objective={"max": "accuracy where tone=dark"}), groups={"tone": np.zeros(96, np.int16)})
    with pytest.raises(ValueError, match="accuracy where tone=dark is undefined for every member in generation 1"):
        nobody.step()


def test_without_a_validation_split_there_is_nothing_to_rank_by(make_task):
    with pytest.raises(ValueError, match="ranked on the validation split, but there is none"):
        build_learner(config(), make_task())


def test_release_mode_withholds_losses_and_decides_the_same(make):
    open_, withheld = make(config()), make(config(), diagnostics=False)
    train(open_)
    assert all(math.isnan(report.loss) for report in train(withheld))
    assert [{**row, "loss": None} for row in open_.lineage] == list(withheld.lineage)


def test_ranks_and_parents():
    nan = float("nan")
    assert ranked([nan, 0.5, 0.7, nan, 0.5]) == [2, 1, 4, 0, 3]
    # Nobody goes on from a member that is no better.
    assert parents([0.5] * 6, 0.5, KEY, 1) == list(range(6))
    assert parents([0.5, nan, 0.4, nan], 0, KEY, 1) == [0, 0, 2, 0]
    # 0.1 of 30 is 3, whatever floats say.
    chosen = parents([float(score) for score in range(30)], 0.1, KEY, 1)
    assert [member for member in range(30) if chosen[member] != member] == [0, 1, 2]
    drawn = {parents([3.0, 2.0, 1.0, 0.0], 0.5, KEY, generation)[3] for generation in range(40)}
    assert drawn == {0, 1}


def test_moves_stay_in_the_interval_and_lists_move_to_a_neighbour():
    def moved(field, value):
        found = {field.moved(value, (0.8, 1.2), generator(KEY, "move", number)) for number in range(40)}
        return {round(number, 12) if isinstance(number, float) else number for number in found}

    rate = Hyperparameter("lr", low=0.01, high=1.0, log=True)
    assert moved(rate, 0.1) == {0.08, 0.12}
    assert moved(rate, 0.9) == {0.72, 1.0}
    whole = Hyperparameter("batch_size", low=1, high=64, whole=True)
    assert moved(whole, 2) == {1, 3}
    assert moved(whole, 50) == {40, 60}
    listed = Hyperparameter("momentum", values=(0.0, 0.5, 0.9))
    assert [moved(listed, value) for value in listed.values] == [{0.5}, {0.0, 0.9}, {0.5}]
    assert moved(Hyperparameter("momentum", values=(0.5,)), 0.5) == {0.5}
    draws = np.array([rate.draw(generator(KEY, "draw", number)) for number in range(400)])
    assert 0.01 <= draws.min() < 0.011
    assert abs((draws < 0.1).mean() - 0.5) < 0.08
    assert {whole.draw(generator(KEY, "draw", number)) for number in range(2000)} == set(range(1, 65))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"population": 1}, "at least 2 members, but got population=1.*kind: sgd"),
        ({"inner": {"kind": "dpsgd", "noise_multiplier": 1.0}}, "'dpsgd': a copied model would have to be charged"),
        ({"inner": {"kind": "dpfedavg"}}, "'dpfedavg': a copied model would have to be charged"),
        ({"inner": {"kind": "sisa"}}, "must be of kind sgd, but got kind 'sisa'"),
        ({"explore": {"optimizer.lrr": [0.1]}}, r"no field 'optimizer\.lrr' .* did you mean 'optimizer\.lr'"),
        ({"explore": {"optimizer": {"lr": [0.1]}}}, r"write fields with dots, optimizer\.lr"),
        ({"explore": {"optimizer.lr": 0.1}}, r"optimizer\.lr is explored between .* but got 0\.1"),
        ({"explore": {"optimizer.name": ["sgd", "adam"]}}, r"optimizer\.name cannot be explored: the state of one"),
        ({"explore": {"epochs": [1, 2]}}, "epochs cannot be explored: all members train equally long"),
        (
            {"explore": {"optimizer.lr": {"low": 0, "high": 1}}},
            r"optimizer\.lr cannot be 0\.0 in inner: .*greater",
        ),
        (
            {"explore": {"optimizer.momentum": [0.5, 1.0]}},
            r"optimizer\.momentum cannot be 1\.0 in inner: .*less",
        ),
        ({"explore": {"batch_size": {"low": 8, "high": 16.5}}}, r"batch_size cannot be 16\.5 in inner: .*integer"),
        (
            {"explore": {"augmentation.flip": {"low": 0, "high": 1}}},
            r"augmentation\.flip is not numeric.*\[false",
        ),
        ({"explore": {"optimizer.lr": {"low": 1, "high": 1}}}, "low must be below high.*list"),
        ({"explore": {"optimizer.lr": {"low": -1, "high": 1, "log": True}}}, "log needs low above 0"),
        ({"explore": {"optimizer.momentum": [0, 0.0]}}, r"the values of optimizer\.momentum must differ"),
        ({"explore": {}}, "at least 1"),
        ({"interval": 4}, "interval must be below the epochs of inner"),
        ({"objective": {"min": "seconds"}}, "ranked by what they predict on the validation split, but got min seconds"),
        ({"quantile": 0.6}, "less than or equal to 0.5"),
    ],
)
def test_what_cannot_work_is_refused_with_the_remedy(fields, message):
    with pytest.raises(ValidationError, match=message):
        config(**fields)


def test_adam_with_momentum_to_explore_is_refused_before_any_work():
    with pytest.raises(ValidationError, match=r"no field 'optimizer\.momentum'.* did you mean 'optimizer\.betas'"):
        config(inner={"epochs": 4, "optimizer": {"name": "adam"}})


def test_objectives_must_name_what_exists():
    tone, label = Attribute(name="tone", values=("light", "dark")), Attribute(name="label", values=("0", "1"))
    with pytest.raises(ValueError, match="did you mean 'tone'"):
        config(objective={"max": "worst_group_accuracy by tome"}).check_values(Roles(label, (tone,)))
    config(objective={"min": "equalized_odds_difference"}).check_values(Roles(label, (tone,)))


def test_equal_populations_have_one_identity_however_they_are_written(make_config):
    def trial(**fields):
        return make_config(TypeAdapter(AnyLearner).validate_python({"kind": "pbt", "inner": INNER, **fields})).trial

    one = trial(explore=EXPLORE)
    same = {"optimizer.momentum": [0.0, 0.5, 0.9], "optimizer.lr": {"low": 0.001, "high": 1, "log": True}}
    assert trial(explore=same, name="other", objective={"max": "accuracy"}, population=8) == one
    assert trial(explore=same, inner={**INNER, "name": "members"}) == one
    assert len({one, trial(explore=EXPLORE, population=4), trial(explore=EXPLORE, resample=0.5)}) == 3
    given = make_config({"kind": "pbt", "inner": INNER, "explore": EXPLORE})
    assert type(given).from_record(given.record()) == given


def test_a_lineage_with_other_columns_is_refused(tmp_path, make):
    population = make(config())
    train(population)
    population.files()[LINEAGE](tmp_path / LINEAGE)
    table = read_lineage(tmp_path / LINEAGE)
    assert table.column_names[-2:] == ["optimizer.lr", "optimizer.momentum"]
    (tmp_path / LINEAGE).write_bytes(b"no")
    with pytest.raises(RecordError):
        read_lineage(tmp_path / LINEAGE)
