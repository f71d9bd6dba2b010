"""Folds, hold-outs and what a balanced test set leaves: disjoint, stratified, keyed."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from pydantic import TypeAdapter, ValidationError
from scipy import stats

from fairsweep.datasets.selection.division import SplitConfig, divide
from fairsweep.datasets.selection.evaluation import EvaluationConfig, evaluation_rows
from fairsweep.datasets.selection.imbalance import ShareImbalance, plan_training
from fairsweep.datasets.selection.randomness import seed_key
from fairsweep.datasets.storage.prepared import Attribute, PreparedDataset, write_prepared

COUNT = 403
WHOLE = EvaluationConfig()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """403 examples, all in the split "train": four cells of different sizes."""
    rng = np.random.default_rng(3)
    examples = pa.table(
        {
            "id": np.arange(COUNT) * 5,
            "label": (rng.random(COUNT) < 0.3).astype(np.int16),
            "tone": (rng.random(COUNT) < 0.15).astype(np.int16),
            "split": ["train"] * COUNT,
        }
    )
    attributes = [Attribute(name=name, values=("no", "yes")) for name in ("label", "tone")]
    folder = tmp_path_factory.mktemp("division") / "toy"
    images = np.zeros((COUNT, 2, 2, 1), np.uint8)
    write_prepared(folder, name="toy", attributes=attributes, examples=examples, images=images)
    return PreparedDataset.open(folder)


def config(**fields):
    return TypeAdapter(SplitConfig).validate_python(fields)


def divided(dataset, evaluation=WHOLE, seed=0, **fields):
    return divide(
        dataset, config(**fields), evaluation, label="label", groups=("tone",), data_key=seed_key(seed, "data")
    )


def cells(dataset, rows):
    return np.bincount(dataset.codes("label")[rows] * 2 + dataset.codes("tone")[rows], minlength=4)


def assert_parts(dataset, division):
    parts = (division.train, division.validation, division.test)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(dataset)))
    assert all((np.diff(part) > 0).all() for part in parts)


@pytest.mark.parametrize("folds", [2, 5, 10])
def test_each_example_is_tested_in_exactly_one_fold(dataset, folds):
    divisions = [divided(dataset, kind="folds", folds=folds, fold=fold) for fold in range(folds)]
    for division in divisions:
        assert_parts(dataset, division)
    tested = np.concatenate([division.test for division in divisions])
    assert np.array_equal(np.sort(tested), np.arange(COUNT))
    sizes = np.array([cells(dataset, division.test) for division in divisions])
    assert (np.ptp(sizes, axis=0) <= 1).all()
    assert np.ptp(sizes.sum(axis=1)) <= 1
    # Validation is a stratified tenth of the rest.
    for division in divisions:
        rest = cells(dataset, np.concatenate([division.train, division.validation]))
        assert (abs(cells(dataset, division.validation) - rest / 10) < 1.5).all()


def test_folds_are_the_same_for_every_seed_and_others_for_another_key(dataset):
    one, same = (divided(dataset, seed=seed, kind="folds", folds=5, fold=1) for seed in (0, 7))
    assert np.array_equal(one.test, same.test)
    assert np.array_equal(one.validation, same.validation)
    other = divided(dataset, kind="folds", folds=5, fold=1, key=1)
    # Two independent fifths have a twenty-fifth of all in common.
    shared = len(np.intersect1d(one.test, other.test))
    assert abs(shared - COUNT / 25) < 5 * (COUNT / 25) ** 0.5


def test_a_hold_out_is_drawn_anew_with_every_data_seed(dataset):
    divisions = [divided(dataset, seed=seed, kind="hold_out", test=0.2, validation=0.1) for seed in range(40)]
    for division in divisions:
        assert_parts(dataset, division)
        assert (len(division.test), len(division.validation)) == (round(0.2 * COUNT), round(0.1 * COUNT))
        assert (abs(cells(dataset, division.test) - 0.2 * cells(dataset, np.arange(COUNT))) < 1).all()
    assert len({division.test.tobytes() for division in divisions}) == 40
    # Every example has the same chance of being tested on.
    tested = np.bincount(np.concatenate([division.test for division in divisions]), minlength=COUNT)
    expected = stats.binom.pmf(np.arange(41), 40, 81 / COUNT) * COUNT
    few, many = slice(0, 5), slice(12, None)
    observed = np.bincount(tested, minlength=41)
    found = [observed[few].sum(), *observed[5:12], observed[many].sum()]
    wanted = [expected[few].sum(), *expected[5:12], expected[many].sum()]
    assert stats.chisquare(found, np.array(wanted) * COUNT / sum(wanted)).pvalue > 1e-3


def test_training_sets_are_nested_within_a_fold(dataset):
    division = divided(dataset, kind="folds", folds=4, fold=2)
    plans = [
        plan_training(
            dataset,
            ShareImbalance(attribute="tone", majority="no", share=share, size=40),
            label="label",
            data_key=seed_key(1, "data"),
            pool=division.train,
        )
        for share in (0.8, 0.9)
    ]
    for plan in plans:
        assert np.isin(plan.rows, division.train).all()
    assert len(np.intersect1d(plans[0].rows, plans[1].rows)) == 36


def test_the_rest_of_a_balanced_test_set_is_learnt_from(dataset):
    """The one line of a study on UTKFace, here with label and tone."""
    evaluation = EvaluationConfig(balance=("label", "tone"), per_cell=9, extra_random=13)
    division = divided(dataset, evaluation, kind="rest")
    assert_parts(dataset, division)
    assert len(division.test) == 4 * 9 + 13
    assert (cells(dataset, division.test) >= 9).all()
    # The block finds the same set again among the test rows.
    assert np.array_equal(evaluation_rows(dataset, evaluation, "test", division.test), division.test)
    with pytest.raises(ValueError, match=r"evaluation: \{balance: "):
        divided(dataset, kind="rest")


def test_strata_of_one_example_each_are_no_special_case(dataset):
    ones = [divided(dataset, kind="folds", folds=5, fold=fold, stratify=("label", "tone")) for fold in range(5)]
    none = [divided(dataset, kind="folds", folds=5, fold=fold, stratify=()) for fold in range(5)]
    for divisions in (ones, none):
        assert sorted(len(division.test) for division in divisions) == [80, 80, 81, 81, 81]
    assert not any(np.array_equal(one.test, other.test) for one, other in itertools.product(ones, none))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "folds", "folds": 5, "fold": 5}, r"fold must be in \[0, 5\), but got fold=5"),
        ({"kind": "folds", "folds": 1, "fold": 0}, "greater than or equal to 2"),
        ({"kind": "hold_out", "test": 0.6, "validation": 0.4}, "together be below 1"),
        ({"kind": "thirds"}, "'official', 'folds', 'hold_out', 'rest'"),
    ],
)
def test_a_wrong_split_is_refused(fields, words):
    with pytest.raises(ValidationError, match=words):
        config(**fields)


def test_a_part_without_examples_is_refused(dataset):
    with pytest.raises(ValueError, match="leaves no examples for the validation part of the 403"):
        divided(dataset, kind="hold_out", validation=0.0001)
    with pytest.raises(ValueError, match="has no attribute 'tine': did you mean 'tone'"):
        divided(dataset, kind="folds", folds=5, fold=0, stratify=["tine"])
    with pytest.raises(ValueError, match=r"no example in its test split .*split: \{kind: hold_out\}"):
        evaluation_rows(dataset, WHOLE, "test")


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """400 examples of 130 users, who have one to six each; the label is the user's own, the tone is not."""
    rng = np.random.default_rng(5)
    users = np.repeat(np.arange(130) * 7, rng.integers(1, 7, 130))[:400]
    examples = pa.table(
        {
            "id": np.arange(len(users)),
            "label": (users % 3 == 0).astype(np.int16),
            "tone": (rng.random(len(users)) < 0.3).astype(np.int16),
            "user": users,
            "split": ["train"] * len(users),
        }
    )
    attributes = [Attribute(name=name, values=("no", "yes")) for name in ("label", "tone")]
    folder = tmp_path_factory.mktemp("people") / "toy"
    images = np.zeros((len(users), 2, 2, 1), np.uint8)
    write_prepared(folder, name="toy", attributes=attributes, examples=examples, images=images)
    return PreparedDataset.open(folder)


def users_of(dataset, *parts):
    return [set(dataset.users[part].tolist()) for part in parts]


def test_folds_keep_the_images_of_a_user_together(people):
    divisions = [divided(people, kind="folds", folds=5, fold=fold) for fold in range(5)]
    for division in divisions:
        assert_parts(people, division)
        train, validation, test = users_of(people, division.train, division.validation, division.test)
        assert train.isdisjoint(validation)
        assert test.isdisjoint(train | validation)
    tested = np.concatenate([division.test for division in divisions])
    assert np.array_equal(np.sort(tested), np.arange(len(people)))
    sizes = [len(division.test) for division in divisions]
    assert max(sizes) - min(sizes) <= 12
    shares = [people.codes("label")[division.test].mean() for division in divisions]
    assert np.ptp(shares) < 0.1


def test_hold_outs_keep_the_images_of_a_user_together(people):
    divisions = [divided(people, seed=seed, kind="hold_out", test=0.2, validation=0.1) for seed in range(40)]
    for division in divisions:
        assert_parts(people, division)
        train, validation, test = users_of(people, division.train, division.validation, division.test)
        assert train.isdisjoint(validation)
        assert test.isdisjoint(train | validation)
        assert abs(len(division.test) / len(people) - 0.2) < 0.04
    # Every user has the same chance, however many images it has.
    often = np.bincount(np.concatenate([division.test for division in divisions]), minlength=len(people))
    counts = np.bincount(people.users, minlength=1)[people.users]
    assert abs(often[counts >= 4].mean() - often[counts <= 2].mean()) < 1.5


def test_no_user_of_a_balanced_test_set_is_learnt_from(people):
    rest = divided(people, EvaluationConfig(balance=("label",), per_cell=9), kind="rest", validation=0.3)
    train, validation, test, left_out = users_of(people, rest.train, rest.validation, rest.test, rest.left_out)
    assert train.isdisjoint(validation)
    assert test.isdisjoint(train | validation)
    assert len(rest.test) == 18
    assert len(rest.left_out) > 0
    assert left_out <= test
    every = np.concatenate([rest.train, rest.validation, rest.test, rest.left_out])
    np.testing.assert_array_equal(np.sort(every), np.arange(len(people)))
