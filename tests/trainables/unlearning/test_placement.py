"""Placement: every strategy's rule, checked on counts and order; request models against the reference's numbers."""

from statistics import harmonic_mean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline

from fairsweep.datasets.selection.randomness import first_by_priority, seed_key
from fairsweep.trainables.unlearning.known_examples import Population, UnknownIdsError
from fairsweep.trainables.unlearning.placement import STRATEGIES, PlacementConfig, place
from fairsweep.trainables.unlearning.request_models import RequestModelConfig, SurveyConfig, weighted_order

KEY = seed_key(3, "data")
SURVEY = RequestModelConfig(model="survey")
UNIFORM = RequestModelConfig()


def utkface(n=2000, seed=0):
    """Codes in UTKFace's vocabularies, as `prepare utkface` writes them."""
    random = np.random.default_rng(seed)
    return Population(
        ids=np.sort(random.choice(10 * n, n, replace=False)).astype(np.int64),
        codes={
            "age_bin": random.integers(0, 7, n),
            "gender": random.integers(0, 2, n),
            "race": random.choice(5, n, p=[0.42, 0.19, 0.15, 0.17, 0.07]),
            "age": random.integers(0, 121, n),
        },
        values={
            "age_bin": ("0-2", "3-9", "10-20", "21-27", "28-45", "46-65", "66-120"),
            "gender": ("male", "female"),
            "race": ("white", "black", "asian", "indian", "others"),
            "age": tuple(str(age) for age in range(121)),
        },
        users=random.integers(0, n // 8, n),
    )


class TestTheSurvey:
    def test_knowledge_is_the_harmonic_mean_of_the_references_probabilities(self):
        population = utkface(300)
        x = [0, 10, 20, 25, 33, 40, 48, 53, 62, 80, 90, 100, 120]
        y = [0.30, 0.32, 0.36, 0.40, 0.45, 0.46, 0.43, 0.36, 0.29, 0.23, 0.21, 0.20, 0.18]
        spline = CubicSpline(x, y)
        race, gender = [0.40, 0.30, 0.43, 0.43, 0.32], [0.38, 0.34]
        codes = population.codes
        expected = [harmonic_mean([gender[g], race[r]]) for g, r in zip(codes["gender"], codes["race"], strict=True)]
        np.testing.assert_allclose(SURVEY.knowledge(population), expected, rtol=1e-12)
        by_age = RequestModelConfig(model="survey", survey=SurveyConfig(attributes=("age", "gender", "race")))
        expected = [
            harmonic_mean([float(spline(a)), gender[g], race[r]])
            for a, g, r in zip(codes["age"], codes["gender"], codes["race"], strict=True)
        ]
        np.testing.assert_allclose(by_age.knowledge(population), expected, rtol=1e-12)
        nobody = RequestModelConfig(model="survey", survey=SurveyConfig(attributes=()))
        assert set(nobody.knowledge(population)) == {0.36}
        np.testing.assert_allclose(SURVEY.request_probability(population), 0.001 * SURVEY.knowledge(population))

    def test_bins_are_read_at_their_middle_or_where_the_config_says(self):
        survey = SurveyConfig(attributes=("age_bin",), age="age_bin", years={"66-120": 75})
        spline = CubicSpline(survey.age_knots, survey.age_probabilities)
        by_value = survey.by_value("age_bin", ("0-2", "10-20", "66-120"))
        np.testing.assert_allclose(by_value, spline([1, 15, 75]))
        with pytest.raises(ValueError, match="years"):
            survey.by_value("age_bin", ("old",))

    def test_high_risk_is_drawn_at_the_stated_rate_and_by_id_alone(self):
        population = utkface(20_000)
        risk = SURVEY.high_risk(population, KEY)
        expected = 0.66 * SURVEY.knowledge(population)
        assert abs(risk.mean() - expected.mean()) < 4 * np.sqrt(0.25 / 20_000)
        some = population.without(population.ids[::3])
        np.testing.assert_array_equal(SURVEY.high_risk(some, KEY), risk[np.isin(population.ids, some.ids)])

    def test_group_weights_scale_the_probability(self):
        model = RequestModelConfig(model="groups", weights={"gender": {"female": 2.0}, "race": {"black": 0.5}})
        population = utkface(200)
        female, black = population.codes["gender"] == 1, population.codes["race"] == 1
        expected = 0.36 * np.where(female, 2, 1) * np.where(black, 0.5, 1)
        np.testing.assert_allclose(model.knowledge(population), expected)
        with pytest.raises(ValueError, match="no value 'woman'"):
            RequestModelConfig(model="groups", weights={"gender": {"woman": 2.0}}).knowledge(population)
        with pytest.raises(ValueError, match="'groups'"):
            RequestModelConfig(weights={"gender": {"female": 2.0}})
        with pytest.raises(ValueError, match="name one of these"):
            RequestModelConfig(model="groups", weights={"tone": {"dark": 2.0}}).knowledge(population)

    def test_a_weighted_draw_is_in_proportion_without_replacement_and_nested(self):
        ids = np.arange(3)
        probability = np.array([0.5, 0.25, 0.0])
        firsts = [weighted_order(seed_key(seed, "data"), "test", ids, probability)[0] for seed in range(3000)]
        assert abs(np.mean(np.array(firsts) == 0) - 2 / 3) < 4 * np.sqrt(2 / 9 / 3000)
        assert sorted(weighted_order(KEY, "test", ids, probability)) == [0, 1]


def config(strategy="random-balanced", shards=5, slices=3, **more):
    return PlacementConfig(strategy=strategy, shards=shards, slices=slices, **more)


def reference_pieces(order, shards, slices, put_in):
    """The reference's rule, written out: cut in sequence, then for slices hand the pieces out from the last slice."""
    quotient, rest = divmod(len(order), shards * slices)
    lengths = [quotient + int(i < rest) for i in range(shards * slices)]
    pieces, start = [], 0
    for length in lengths:
        pieces.append(order[start : start + length])
        start += length
    if put_in == "slice":
        waiting, new = list(range(len(pieces))), [0] * len(pieces)
        for i in reversed(range(slices)):
            for j in range(shards):
                new[slices * j + i] = waiting.pop(0)
        pieces = [pieces[i] for i in new]
    return pieces


class TestStrategies:
    @pytest.mark.parametrize("put_in", ["slice", "shard"])
    @pytest.mark.parametrize(("shards", "slices"), [(5, 3), (4, 1), (1, 4)])
    def test_sorted_agrees_with_the_reference_piece_by_piece(self, put_in, shards, slices):
        population = utkface(1003)
        placed = place(config("sorted-balanced", shards, slices, put_in=put_in), SURVEY, population, KEY)
        order = first_by_priority(KEY, "sisa placement", population.ids)
        risk = SURVEY.high_risk(population, KEY)
        ordered = np.concatenate([order[risk[order]], order[~risk[order]]])
        for number, piece in enumerate(reference_pieces(ordered, shards, slices, put_in)):
            shard, part = divmod(number, slices)
            here = np.flatnonzero((placed.shard == shard) & (placed.slice == part))
            assert sorted(here) == sorted(piece)

    def test_high_risk_sits_in_the_last_slices_or_the_first_shards(self):
        population = utkface(3000)
        risk = SURVEY.high_risk(population, KEY)
        late = place(config("sorted-balanced", put_in="slice"), SURVEY, population, KEY)
        early = place(config("sorted-balanced", put_in="shard"), SURVEY, population, KEY)
        assert late.slice[risk].min() >= late.slice[~risk].max()
        assert early.shard[risk].max() <= early.shard[~risk].min()

    @pytest.mark.parametrize("strategy", ["random-random", "random-balanced", "sorted-balanced", "group-stratified"])
    def test_pieces_are_equal_within_one(self, strategy):
        assert np.ptp(place(config(strategy), SURVEY, utkface(1003), KEY).counts()) <= 1

    def test_hash_depends_on_the_id_alone(self):
        population = utkface(1000)
        whole = place(config("hash"), UNIFORM, population, KEY)
        assert whole.unconditional
        kept = np.arange(1000) % 7 != 0
        part = place(config("hash"), SURVEY, population.without(population.ids[~kept]), KEY)
        np.testing.assert_array_equal(part.shard, whole.shard[kept])
        np.testing.assert_array_equal(part.slice, whole.slice[kept])
        assert whole.counts().min() > 30

    def test_distribution_aware_gives_each_shard_the_same_expected_requests_and_likely_ones_sit_together(self):
        population = utkface(4000)
        placed = place(config("distribution-aware", shards=4), SURVEY, population, KEY)
        p = SURVEY.request_probability(population)
        expected = np.bincount(placed.shard, weights=p)
        np.testing.assert_allclose(expected, p.sum() / 4, rtol=0.01)
        sizes = placed.counts().sum(axis=1)
        assert (np.diff(sizes) <= 0).all()
        assert sizes[0] > sizes[-1]
        for shard in range(3):
            assert p[placed.shard == shard].max() <= p[placed.shard == shard + 1].min()
        equal = place(config("distribution-aware", shards=4), UNIFORM, population, KEY)
        assert np.ptp(equal.counts().sum(axis=1)) <= 1

    def test_stratified_gives_every_shard_the_same_mix(self):
        population = utkface(3000)
        placed = place(config("group-stratified", placed_by=("race", "gender")), UNIFORM, population, KEY)
        for race in range(5):
            for gender in range(2):
                here = (population.codes["race"] == race) & (population.codes["gender"] == gender)
                assert np.ptp(np.bincount(placed.shard[here], minlength=5)) <= 1

    @pytest.mark.parametrize("shards", [2, 5, 8])
    def test_by_group_mixes_groups_in_a_shard_only_if_it_must(self, shards):
        population = utkface(3000)
        placed = place(config("by-group", shards=shards, placed_by=("race",)), UNIFORM, population, KEY)
        race = population.codes["race"]
        if shards >= 5:
            for shard in range(shards):
                assert len(np.unique(race[placed.shard == shard])) == 1
        else:
            for code in range(5):
                assert len(np.unique(placed.shard[race == code])) == 1
        placed.check()

    @settings(max_examples=25, deadline=None)
    @given(
        strategy=st.sampled_from(sorted(STRATEGIES)),
        shards=st.integers(1, 6),
        slices=st.integers(1, 4),
        n=st.integers(40, 200),
        seed=st.integers(0, 100),
    )
    def test_every_strategy_gives_each_id_one_place_whatever_the_order(self, strategy, shards, slices, n, seed):
        population = utkface(n, seed)
        placed = place(config(strategy, shards, slices), SURVEY, population, KEY)
        assert placed.counts().sum() == n
        shuffled = np.random.default_rng(seed).permutation(n)
        again = Population(
            population.ids[shuffled], {k: v[shuffled] for k, v in population.codes.items()}, population.values
        )
        moved = place(config(strategy, shards, slices), SURVEY, again, KEY)
        np.testing.assert_array_equal(moved.shard, placed.shard[shuffled])
        np.testing.assert_array_equal(moved.slice, placed.slice[shuffled])


def test_high_risk_in_late_slices_costs_less_than_a_random_map():
    """Expected cost of one request drawn by the survey, summed over everybody and averaged over maps."""
    population = utkface(4000)
    probability = SURVEY.request_probability(population)
    costs = {"sorted-balanced": [], "random-balanced": []}
    for strategy, found in costs.items():
        for seed in range(20):
            placed = place(config(strategy), SURVEY, population, seed_key(seed, "data"))
            sizes = placed.counts().cumsum(axis=1)
            again = sizes[:, ::-1].cumsum(axis=1)[:, ::-1][placed.shard, placed.slice]
            found.append((probability * again).sum() / probability.sum())
    differences = np.subtract(costs["random-balanced"], costs["sorted-balanced"])
    assert differences.mean() > 3 * differences.std(ddof=1) / np.sqrt(20)


class TestBadInput:
    def test_more_shards_than_examples_and_empty_slices_are_refused(self):
        with pytest.raises(ValueError, match="lower shards to at most 3"):
            place(config(shards=4, slices=1), UNIFORM, small(3), KEY).check()
        with pytest.raises(ValueError, match="slice 3 of shard 3"):
            place(config(shards=3, slices=3), UNIFORM, small(8), KEY).check()
        place(config(shards=3, slices=3), UNIFORM, small(9), KEY).check()

    def test_fields_of_other_strategies_are_refused(self):
        with pytest.raises(ValueError, match="put_in"):
            config("hash", put_in="shard")
        with pytest.raises(ValueError, match="placed_by"):
            config("hash", placed_by=("race",))

    def test_unknown_ids_are_listed(self):
        population = small(5)
        with pytest.raises(UnknownIdsError, match=r"2 are not: 77, 99;"):
            population.positions(np.array([1, 77, 99]))
        np.testing.assert_array_equal(population.positions(np.array([3, 0])), [3, 0])


def small(n):
    return Population(ids=np.arange(n), codes={"tone": np.zeros(n, int)}, values={"tone": ("light",)})
