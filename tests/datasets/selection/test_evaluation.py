"""Evaluation sets: balanced as asked, the same for every imbalance and seed, and honest about what is missing."""

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from fairsweep.datasets.selection.evaluation import EvaluationConfig, SplitEvaluation, evaluation_rows
from fairsweep.datasets.selection.randomness import generator, seed_key
from fairsweep.datasets.storage.prepared import Attribute, PreparedDataset, write_prepared

TONE = Attribute(name="tone", values=("light", "dark"))
AGE = Attribute(name="age", values=("young", "middle", "old"))
COUNTS = {(0, 0): 90, (0, 1): 40, (0, 2): 25, (1, 0): 33, (1, 1): 21, (1, 2): 17}


def make_dataset(folder, *, splits=("train", "validation", "test"), counts=COUNTS):
    """Writes a dataset of 1x1 pixels in which every split has `counts` of each (tone, age)."""
    codes = np.repeat(np.array(list(counts)), list(counts.values()), axis=0)
    table = np.concatenate([codes] * len(splits))
    ids = generator(seed_key(0, "test"), "ids").permutation(len(table)) * 2 + 1
    examples = pa.table(
        {
            "id": ids,
            "tone": table[:, 0].astype(np.int16),
            "age": table[:, 1].astype(np.int16),
            "split": np.repeat(splits, len(codes)),
        }
    )
    path = write_prepared(
        folder, name="s", attributes=[TONE, AGE], examples=examples, images=np.zeros((len(table), 1, 1, 1), np.uint8)
    )
    return PreparedDataset.open(path)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("evaluation") / "set")


def cells(dataset, rows):
    counts = np.zeros((2, 3), dtype=int)
    np.add.at(counts, (dataset.codes("tone")[rows], dataset.codes("age")[rows]), 1)
    return counts


def test_by_default_both_sets_are_the_whole_splits(dataset):
    for split in ("validation", "test"):
        np.testing.assert_array_equal(evaluation_rows(dataset, EvaluationConfig(), split), dataset.split(split))


@pytest.mark.parametrize(
    ("balance", "per_cell", "expected"),
    [
        (("tone", "age"), 10, [[10, 10, 10], [10, 10, 10]]),
        (("tone", "age"), 17, [[17, 17, 17], [17, 17, 17]]),
        (("tone", "age"), None, [[17, 17, 17], [17, 17, 17]]),
    ],
)
def test_every_combination_gets_per_cell_examples(dataset, balance, per_cell, expected):
    rows = evaluation_rows(dataset, EvaluationConfig(balance=balance, per_cell=per_cell), "test")
    assert cells(dataset, rows).tolist() == expected
    assert (np.diff(rows) > 0).all()
    assert np.isin(rows, dataset.split("test")).all()


def test_one_attribute_is_balanced_over_its_values_alone(dataset):
    rows = evaluation_rows(dataset, EvaluationConfig(balance=("age",), per_cell=42), "test")
    assert cells(dataset, rows).sum(axis=0).tolist() == [42, 42, 42]
    # Inside an age the draw is at random: 25 light and 17 dark of the old ones are all there are.
    assert cells(dataset, rows)[:, 2].tolist() == [25, 17]


def test_the_order_of_the_attributes_does_not_matter(dataset):
    one, other = (
        evaluation_rows(dataset, EvaluationConfig(balance=balance, per_cell=5), "test")
        for balance in (("tone", "age"), ("age", "tone"))
    )
    np.testing.assert_array_equal(one, other)


def test_extra_random_examples_come_on_top_of_the_balanced_ones(dataset):
    base = set(evaluation_rows(dataset, EvaluationConfig(balance=("tone", "age"), per_cell=9), "test").tolist())
    config = EvaluationConfig(balance=("tone", "age"), per_cell=9, extra_random=63)
    more = evaluation_rows(dataset, config, "test")
    assert len(more) == len(base) + 63
    assert base < set(more.tolist())
    everything = config.model_copy(update={"extra_random": 226 - 54})
    np.testing.assert_array_equal(evaluation_rows(dataset, everything, "test"), dataset.split("test"))


def test_sets_are_nested_in_per_cell_and_differ_by_key(dataset):
    sets = [
        set(evaluation_rows(dataset, EvaluationConfig(balance=("tone", "age"), per_cell=n), "test").tolist())
        for n in (1, 5, 17)
    ]
    assert sets[0] < sets[1] < sets[2]
    other = evaluation_rows(dataset, EvaluationConfig(balance=("tone", "age"), per_cell=5, key=1), "test")
    assert set(other.tolist()) != sets[1]


def test_the_choice_is_uniform_inside_a_cell(dataset):
    old = np.flatnonzero((dataset.codes("tone") == 0) & (dataset.codes("age") == 2))
    old = np.intersect1d(old, dataset.split("test"))
    taken = np.zeros(len(dataset), dtype=int)
    draws = 400
    for key in range(draws):
        taken[evaluation_rows(dataset, EvaluationConfig(balance=("age", "tone"), per_cell=5, key=key), "test")] += 1
    # 5 of these 25 each time: Binomial(400, 1/5) each.
    scores = (taken[old] - draws / 5) / np.sqrt(draws * 0.2 * 0.8)
    assert taken[old].sum() == 5 * draws
    assert np.abs(scores).max() < 4.5
    assert 0.5 < scores.std() < 1.6


def test_validation_has_a_block_of_its_own(dataset):
    config = EvaluationConfig.model_validate(
        {"balance": ["tone"], "per_cell": 50, "validation": {"balance": ["age"], "per_cell": 3}}
    )
    assert cells(dataset, evaluation_rows(dataset, config, "test")).sum(axis=1).tolist() == [50, 50]
    assert cells(dataset, evaluation_rows(dataset, config, "validation")).sum(axis=0).tolist() == [3, 3, 3]
    assert EvaluationConfig.model_validate_json(config.model_dump_json()) == config


def test_an_absent_split_is_named(tmp_path):
    dataset = make_dataset(tmp_path / "set", splits=("train", "test"))
    assert len(evaluation_rows(dataset, EvaluationConfig(), "test")) == 226
    with pytest.raises(ValueError, match="no example in its validation split"):
        evaluation_rows(dataset, EvaluationConfig(), "validation")


def test_asking_too_many_names_the_scarcest_combination_and_the_largest_per_cell(dataset):
    config = EvaluationConfig(balance=("tone", "age"), per_cell=18)
    with pytest.raises(ValueError, match=r"17 examples with tone = dark, age = old; the largest .* is 17"):
        evaluation_rows(dataset, config, "test")
    with pytest.raises(ValueError, match="extra_random=500 asks for more than the 220 examples"):
        evaluation_rows(dataset, EvaluationConfig(balance=("tone", "age"), per_cell=1, extra_random=500), "test")


@pytest.mark.parametrize("per_cell", [None, 1])
def test_an_empty_combination_is_named(tmp_path, per_cell):
    dataset = make_dataset(tmp_path / "set", counts={(0, 0): 5, (0, 1): 5, (1, 0): 5, (1, 2): 5, (0, 2): 5})
    config = EvaluationConfig(balance=("tone", "age"), per_cell=per_cell)
    with pytest.raises(ValueError, match="0 examples with tone = dark, age = middle"):
        evaluation_rows(dataset, config, "test")


def test_an_unknown_attribute_is_answered_with_the_nearest_one(dataset):
    with pytest.raises(ValueError, match="no attribute 'tones': did you mean 'tone'"):
        evaluation_rows(dataset, EvaluationConfig(balance=("tones",)), "test")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"per_cell": 5}, "need balance"),
        ({"extra_random": 5}, "need balance"),
        ({"balance": []}, "at least one"),
        ({"balance": ["tone", "tone"]}, "each attribute once"),
        ({"balance": ["tone"], "per_cell": 0}, "greater than or equal to 1"),
        ({"balance": ["tone"], "extra_random": -1}, "greater than or equal to 0"),
        ({"balance": ["tone"], "key": -1}, "greater than or equal to 0"),
        ({"balanced": ["tone"]}, "Extra inputs"),
    ],
)
def test_senseless_blocks_are_refused_where_they_are_made(fields, message):
    for model in (SplitEvaluation, EvaluationConfig):
        with pytest.raises(ValidationError, match=message):
            model.model_validate(fields)
