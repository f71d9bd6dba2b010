"""Imbalanced training sets: exact sizes, nested draws, balanced labels, and errors that name the largest size."""

import itertools
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from fairsweep.datasets.selection.imbalance import (
    ImbalanceConfig,
    KeepImbalance,
    ShareImbalance,
    plan_training,
    portion,
)
from fairsweep.datasets.selection.randomness import generator, seed_key
from fairsweep.datasets.storage.prepared import Attribute, PreparedDataset, write_prepared

# The shares of Farrand et al. 2020 (arXiv 2009.06389), as their code and paper use them.
SHARES = (1, 0.999, 0.99, 0.98, 0.96, 0.95, 0.94, 0.92, 0.9, 0.85, 0.8, 0.7, 0.5)
MAJORITY_OF_24000 = (24000, 23976, 23760, 23520, 23040, 22800, 22560, 22080, 21600, 20400, 19200, 16800, 12000)
MAJORITY_OF_30000 = (30000, 29970, 29700, 29400, 28800, 28500, 28200, 27600, 27000, 25500, 24000, 21000, 15000)

KEY = seed_key(1, "data")
parse = TypeAdapter(ImbalanceConfig).validate_python


def make_dataset(folder, counts, attributes, *, held_out=0, name="synthetic"):
    """Writes a dataset of 1x1 pixels: `counts` maps the codes of all attributes to the size of their cell."""
    codes = np.repeat(np.array(list(counts)), list(counts.values()), axis=0)
    n = len(codes)
    # Ids with gaps, in an order of their own, so that rows, ids and cells are never mistaken for each other.
    ids = generator(KEY, "ids").permutation(n) * 3 + 5
    split = np.where(np.arange(n) % 10 < held_out, "test", "train")
    columns = {attribute.name: codes[:, place].astype(np.int16) for place, attribute in enumerate(attributes)}
    examples = pa.table({"id": ids, **columns, "split": split})
    images = np.zeros((n, 1, 1, 1), np.uint8)
    path = write_prepared(
        folder, name=name, attributes=attributes, examples=examples, images=images, rows_per_shard=10**6
    )
    return PreparedDataset.open(path)


SMILING = Attribute(name="smiling", values=("no", "yes"))
GENDER = Attribute(name="gender", values=("female", "male"))
DIGIT = Attribute(name="digit", values=tuple("0123456789"))


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """70,000 rows: enough for a share of 1 at size 30,000 on either side."""
    counts = {(1, 0): 16_900, (1, 1): 17_800, (0, 0): 17_500, (0, 1): 17_800}
    return make_dataset(tmp_path_factory.mktemp("people") / "set", counts, [GENDER, SMILING])


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    counts = {(digit,): 40 + digit for digit in range(10)}
    return make_dataset(tmp_path_factory.mktemp("digits") / "set", counts, [DIGIT])


@pytest.fixture(scope="module")
def races(tmp_path_factory):
    """Three groups in natural proportions, one of them without any smile, and a fourth value that nobody has."""
    race = Attribute(name="race", values=("a", "b", "c", "nobody"))
    counts = {(0, 0): 300, (0, 1): 100, (1, 0): 60, (1, 1): 30, (2, 0): 20}
    return make_dataset(tmp_path_factory.mktemp("races") / "set", counts, [race, SMILING])


def share_plan(dataset, share, size, *, key=KEY, **fields):
    config = parse({"attribute": "gender", "majority": "female", "share": share, "size": size, **fields})
    return plan_training(dataset, config, label="smiling", data_key=key)


def cell_counts(dataset, plan, attribute="gender", label="smiling"):
    shape = [len(dataset.attribute(name).values) for name in (attribute, label)]
    counts = np.zeros(shape, dtype=int)
    np.add.at(counts, (dataset.codes(attribute)[plan.rows], dataset.codes(label)[plan.rows]), 1)
    return counts


# --- sizes ---


@pytest.mark.parametrize(("size", "expected"), [(24_000, MAJORITY_OF_24000), (30_000, MAJORITY_OF_30000)])
def test_the_thirteen_published_shares_give_exact_sizes_and_equal_labels(people, size, expected):
    for share, majority in zip(SHARES, expected, strict=True):
        plan = share_plan(people, share, size)
        counts = cell_counts(people, plan)
        assert len(plan) == size
        assert counts.sum(axis=1).tolist() == [majority, size - majority]
        assert (counts.max(axis=1) - counts.min(axis=1) <= 1).all()


def test_plain_int_would_be_one_short_at_three_of_these_shares():
    short = [share for share in (0.92, 0.9, 0.8) if int((1 - share) * 24_000) != 24_000 - portion(share, 24_000)]
    assert short == [0.92, 0.9, 0.8]


@given(digits=st.integers(0, 10**6), size=st.integers(1, 10**6))
def test_portions_round_half_even_on_the_decimal_that_was_written(digits, size):
    share = digits / 10**6
    exact = Fraction(digits, 10**6) * size
    assert portion(share, size) == round(exact)
    assert portion(share, size) + portion(float(1 - Decimal(digits) / 10**6), size) in (size - 1, size, size + 1)


def test_halves_go_to_the_even_neighbour():
    assert [portion(0.5, size) for size in (1, 3, 5, 7)] == [0, 2, 2, 4]
    assert [portion(0.05, size) for size in (10, 30, 50, 70)] == [0, 2, 2, 4]


@pytest.mark.parametrize(("share", "females"), [(0, 0), (1, 1001), (0.5, 500)])
def test_odd_sizes_give_the_remainder_in_vocabulary_order(people, share, females):
    counts = cell_counts(people, share_plan(people, share, 1001))
    assert counts.sum(axis=1).tolist() == [females, 1001 - females]
    for side in counts:
        assert side[0] - side[1] in (0, 1)


# --- who ---


def test_a_plan_lists_ids_ascending_with_their_rows_and_only_from_the_training_split(tmp_path):
    counts = {(0, 0): 500, (0, 1): 500, (1, 0): 500, (1, 1): 500}
    dataset = make_dataset(tmp_path / "set", counts, [GENDER, SMILING], held_out=3)
    plan = share_plan(dataset, 0.75, 600)
    assert plan.ids.dtype == plan.rows.dtype == np.int64
    assert (np.diff(plan.ids) > 0).all()
    np.testing.assert_array_equal(dataset.ids[plan.rows], plan.ids)
    assert set(plan.rows.tolist()) <= set(dataset.split("train").tolist())
    natural = plan_training(dataset, None, label="smiling", data_key=KEY)
    np.testing.assert_array_equal(natural.rows, dataset.split("train"))


def test_a_pool_restricts_the_draw(people):
    pool = np.flatnonzero(people.ids % 2 == 0)[::-1]
    config = parse({"attribute": "gender", "majority": "male", "share": 0.9, "size": 1000})
    plan = plan_training(people, config, label="smiling", data_key=KEY, pool=pool)
    assert len(plan) == 1000
    assert (plan.ids % 2 == 0).all()
    whole = plan_training(people, None, label="smiling", data_key=KEY, pool=pool)
    np.testing.assert_array_equal(whole.rows, pool[::-1])


def test_neighbouring_shares_differ_in_as_few_examples_as_possible(people):
    plans = {share: set(share_plan(people, share, 24_000).ids.tolist()) for share in SHARES}
    for (high, more), (low, fewer) in itertools.pairwise(zip(SHARES, MAJORITY_OF_24000, strict=True)):
        # Of two sets of one size whose majorities differ by d, at least d examples must be exchanged.
        assert len(plans[high] - plans[low]) == len(plans[low] - plans[high]) == more - fewer


def test_growing_sizes_are_nested_in_both_kinds_of_parts(people):
    for balanced in (True, False):
        previous = set()
        for size in (0, 1, 2, 3, 10, 999, 1000, 1001, 20_000):
            if size:
                plan = set(share_plan(people, 0.9, size, label_balanced=balanced).ids.tolist())
                assert previous < plan
                previous = plan


def test_minority_sizes_are_nested_and_leave_the_majority_alone(people):
    plans = []
    for minority in (0, 1, 50, 51, 5000):
        config = parse({"attribute": "gender", "majority": "female", "majority_size": 4001, "minority_size": minority})
        plan = plan_training(people, config, label="smiling", data_key=KEY)
        counts = cell_counts(people, plan)
        assert counts.sum(axis=1).tolist() == [4001, minority]
        assert counts[0].tolist() == [2001, 2000]
        plans.append(set(plan.ids.tolist()))
    for smaller, larger in itertools.pairwise(plans):
        assert smaller < larger


def test_the_two_forms_with_the_same_counts_draw_the_same_set(people):
    config = parse({"attribute": "gender", "majority": "female", "majority_size": 900, "minority_size": 100})
    by_size = plan_training(people, config, label="smiling", data_key=KEY)
    np.testing.assert_array_equal(by_size.ids, share_plan(people, 0.9, 1000).ids)


def test_a_data_key_repeats_its_set_and_another_draws_independently(people):
    first, again = share_plan(people, 0.5, 20_000), share_plan(people, 0.5, 20_000)
    np.testing.assert_array_equal(first.ids, again.ids)
    other = share_plan(people, 0.5, 20_000, key=seed_key(2, "data"))
    # Inside each of the four cells two independent draws of k from n share k²/n on average, hypergeometrically.
    sizes = np.bincount(people.codes("gender") * 2 + people.codes("smiling")).tolist()
    mean = sum(5000**2 / n for n in sizes)
    deviation = np.sqrt(sum(5000**2 * (n - 5000) ** 2 / (n**2 * (n - 1)) for n in sizes))
    shared = len(np.intersect1d(first.ids, other.ids))
    assert abs(shared - mean) < 5 * deviation


def test_the_draw_does_not_depend_on_examples_of_other_cells(tmp_path, people):
    # Taking away all men changes nothing about which women are drawn.
    women = np.flatnonzero(people.codes("gender") == 0)
    config = parse({"attribute": "gender", "majority": "female", "share": 1, "size": 3000})
    alone = plan_training(people, config, label="smiling", data_key=KEY, pool=women)
    np.testing.assert_array_equal(alone.ids, share_plan(people, 1, 3000).ids)


# --- labels ---


def test_natural_parts_keep_each_sides_own_proportions(races):
    config = parse({"attribute": "race", "majority": "a", "share": 0.8, "size": 100, "label_balanced": False})
    counts = cell_counts(races, plan_training(races, config, label="smiling", data_key=KEY), "race")
    assert counts[0].tolist() == [60, 20]
    # All other values together: 80 without and 30 with a smile.
    assert counts[1:].sum(axis=0).tolist() == [15, 5]


def test_the_label_itself_may_be_the_attribute(digits):
    config = parse({"attribute": "digit", "majority": 8, "share": 0.1, "size": 93})
    plan = plan_training(digits, config, label="digit", data_key=KEY)
    counts = np.bincount(digits.codes("digit")[plan.rows], minlength=10)
    # 9 of the eights; 84 of the nine others: 9 each and one more for the first three.
    assert counts.tolist() == [10, 10, 10, 9, 9, 9, 9, 9, 9, 9]


def test_keep_cuts_the_named_groups_and_leaves_all_others_whole(digits):
    plan = plan_training(
        digits, parse({"attribute": "digit", "keep": {8: 5, "0": 0, "{code: 3}": 43}}), label="digit", data_key=KEY
    )
    counts = np.bincount(digits.codes("digit")[plan.rows], minlength=10)
    assert counts.tolist() == [0, 41, 42, 43, 44, 45, 46, 47, 5, 49]


def test_keep_is_nested_in_the_cap_and_keeps_natural_labels(races):
    previous = set()
    for cap in (0, 1, 40, 200, 400):
        config = parse({"attribute": "race", "keep": {"a": cap}})
        plan = plan_training(races, config, label="smiling", data_key=KEY)
        counts = cell_counts(races, plan, "race")
        assert counts[0].sum() == cap
        assert abs(counts[0, 0] - 0.75 * cap) < 1
        assert previous <= set(plan.ids.tolist())
        previous = set(plan.ids.tolist())
    assert len(previous) == 510


# --- configs ---


def test_a_value_may_be_a_name_a_number_or_a_code_and_means_the_same(digits, people):
    by = [{"attribute": "digit", "majority": value, "share": 0.5, "size": 20} for value in (8, "8", {"code": 8})]
    plans = [plan_training(digits, parse(config), label="digit", data_key=KEY).ids.tolist() for config in by]
    assert plans[0] == plans[1] == plans[2]
    assert parse(by[0]) == parse(by[1])
    coded = parse({"attribute": "gender", "majority": {"code": 0}, "share": 0.9, "size": 50})
    named = share_plan(people, 0.9, 50)
    np.testing.assert_array_equal(plan_training(people, coded, label="smiling", data_key=KEY).ids, named.ids)


@pytest.mark.parametrize(
    "config",
    [
        {"attribute": "gender", "majority": {"code": 0}, "share": 0.9, "size": 50},
        {"attribute": "gender", "majority": "male", "majority_size": 9, "minority_size": 1, "label_balanced": False},
        {"attribute": "digit", "keep": {8: 500, "{code: 3}": 1}},
    ],
)
def test_a_config_survives_json_inside_another_model(config):
    class Sweep(BaseModel):
        imbalance: ImbalanceConfig | None = None

    sweep = Sweep.model_validate({"imbalance": config})
    assert Sweep.model_validate_json(sweep.model_dump_json()) == sweep
    assert Sweep(imbalance=sweep.imbalance) == sweep
    assert Sweep(imbalance=None).imbalance is None
    assert isinstance(sweep.imbalance, type(parse(config)))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"attribute": "gender"}, "exactly one form"),
        ({"attribute": "g", "majority": "a", "share": 0.5, "size": 3, "keep": {"a": 1}}, "exactly one form"),
        ("half", "exactly one form"),
        ({"attribute": "g", "majority": "a", "share": 1.2, "size": 3}, "less than or equal to 1"),
        ({"attribute": "g", "majority": "a", "share": -0.1, "size": 3}, "greater than or equal to 0"),
        (
            {"attribute": "g", "majority": "a", "share": float("nan"), "size": 3},
            "finite number|less than or equal to 1",
        ),
        ({"attribute": "g", "majority": "a", "share": 0.5, "size": 0}, "greater than or equal to 1"),
        ({"attribute": "g", "majority": "a", "share": 0.5, "size": 3, "sise": 3}, "Extra inputs"),
        ({"attribute": "g", "majority": "a", "majority_size": 0, "minority_size": 0}, "both are 0"),
        ({"attribute": "g", "majority": True, "share": 0.5, "size": 3}, "by its name or as"),
        ({"attribute": "g", "majority": {"code": "a"}, "share": 0.5, "size": 3}, "by its name or as"),
        ({"attribute": "g", "keep": {}}, "at least 1 item"),
        ({"attribute": "g", "keep": {"a": -1}}, "greater than or equal to 0"),
    ],
)
def test_senseless_configs_are_refused_where_they_are_made(config, message):
    with pytest.raises(ValidationError, match=message):
        parse(config)


def test_configs_are_frozen():
    config = ShareImbalance(attribute="g", majority="a", share=0.5, size=3)
    with pytest.raises(ValidationError, match="frozen"):
        config.share = 0.6


# --- what does not exist ---


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("share", [0, 0.3, 0.5, 0.92, 0.999, 1])
def test_asking_too_many_names_the_largest_size_and_that_size_exists(races, share, balanced):
    fields = {"attribute": "race", "majority": "a", "share": share, "label_balanced": balanced}

    def plan(size):
        return plan_training(races, parse(fields | {"size": size}), label="smiling", data_key=KEY)

    with pytest.raises(ValueError, match="the largest size possible at this share is") as caught:
        plan(5000)
    largest = int(str(caught.value).rsplit(" ", 1)[1].replace(",", ""))
    assert len(plan(largest)) == largest
    with pytest.raises(ValueError, match=f"at this share is {largest:,}"):
        plan(largest + 1)


def test_the_message_says_what_is_asked_what_exists_and_how_it_is_divided(races):
    config = parse({"attribute": "race", "majority": "a", "share": 0.9, "size": 5000})
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole text is compared
        plan_training(races, config, label="smiling", data_key=KEY)
    assert str(caught.value) == (
        "share=0.9, size=5,000 asks for 4,500 examples with race = a, but at most 201 exist with smiling in equal "
        "parts (no: 300, yes: 100); the largest size possible at this share is 223"
    )


def test_too_large_a_majority_or_minority_names_which_and_how_many_exist(races):
    for fields, message in (
        ({"majority_size": 402, "minority_size": 10}, "majority_size=402 .* largest majority_size possible is 201"),
        ({"majority_size": 10, "minority_size": 62}, "minority_size=62 .* largest minority_size possible is 61"),
    ):
        config = parse({"attribute": "race", "majority": "a", **fields})
        with pytest.raises(ValueError, match=message):
            plan_training(races, config, label="smiling", data_key=KEY)


def test_a_group_that_nobody_belongs_to_can_be_kept_out_but_not_drawn(races):
    nobody = {"attribute": "race", "majority": "nobody"}
    plan = plan_training(races, parse(nobody | {"share": 0, "size": 100}), label="smiling", data_key=KEY)
    assert len(plan) == 100
    with pytest.raises(ValueError, match=r"race = nobody, but at most 0 exist .* largest size possible .* is 0"):
        plan_training(races, parse(nobody | {"share": 1, "size": 1}), label="smiling", data_key=KEY)
    with pytest.raises(ValueError, match=r"\{nobody: 1\} asks for .* this group is 0"):
        plan_training(races, parse({"attribute": "race", "keep": {"nobody": 1}}), label="smiling", data_key=KEY)


def test_a_group_without_one_of_the_labels_cannot_be_label_balanced(races):
    config = {"attribute": "race", "majority": "c", "share": 1, "size": 10}
    with pytest.raises(
        ValueError, match=r"race = c, but at most 1 exist with smiling in equal parts \(no: 20, yes: 0\)"
    ):
        plan_training(races, parse(config), label="smiling", data_key=KEY)
    natural = plan_training(races, parse(config | {"label_balanced": False}), label="smiling", data_key=KEY)
    assert cell_counts(races, natural, "race")[2].tolist() == [10, 0]


def test_an_empty_training_set_is_refused(digits):
    keep = KeepImbalance(attribute="digit", keep=dict.fromkeys("0123456789", 0))
    with pytest.raises(ValueError, match="training set is empty"):
        plan_training(digits, keep, label="digit", data_key=KEY)


@pytest.mark.parametrize(
    ("fields", "label", "message"),
    [
        ({"attribute": "gneder", "majority": "female"}, "smiling", "no attribute 'gneder': did you mean 'gender'"),
        ({"attribute": "gender", "majority": "femal"}, "smiling", "no value 'femal': did you mean 'female'"),
        ({"attribute": "gender", "majority": {"code": 2}}, "smiling", "are 0 to 1, but got code=2"),
        ({"attribute": "gender", "majority": "female"}, "smile", "no attribute 'smile': did you mean 'smiling'"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest_known_one(people, fields, label, message):
    config = parse(fields | {"share": 0.5, "size": 10})
    with pytest.raises(ValueError, match=message):
        plan_training(people, config, label=label, data_key=KEY)


def test_naming_a_group_twice_in_keep_is_refused(digits):
    config = parse({"attribute": "digit", "keep": {"8": 5, "{code: 8}": 6}})
    with pytest.raises(ValueError, match="'8' of 'digit' twice"):
        plan_training(digits, config, label="digit", data_key=KEY)
