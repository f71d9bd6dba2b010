"""Arbitrariness against plain loops over pairs of models, what each kind of seed adds, and what intervals cover."""

import doctest
import itertools

import numpy as np
import pandas as pd
import pytest

import fairsweep.analysis as analysis
import fairsweep.analysis.disagreement.agreement as agreement
from fairsweep.analysis.disagreement.agreement import ImageGroups, disagreement, seed_pairs
from fairsweep.analysis.records.file_names import CONFIG, PREDICTIONS, TRIALS
from fairsweep.analysis.records.files import read_json, write_json
from fairsweep.analysis.records.prediction_records import read_predictions
from fairsweep.analysis.statistics.variance_components import ReplicateSeeds


@pytest.fixture(scope="module")
def results(faces):
    return analysis.load(faces.folder)


def test_doctest():
    assert doctest.testmod(agreement).failed == 0


def predicted(results):
    """Test predictions of every trial in one table with the images' groups, by plain pandas."""
    rows = [
        read_predictions(results.location.path + f"/{TRIALS}/{name}/{PREDICTIONS}")
        .to_pandas()
        .assign(trial=name)
        .query("split == 'test'")
        for name in results.trials["trial"]
    ]
    examples = results.examples.to_pandas().drop(columns="split")
    joined = pd.concat(rows).merge(examples, on="id").merge(results.trials, on="trial", suffixes=("", "_of_trial"))
    return joined


def by_pairs(table, consistency):
    """Disagreement, self-consistency and share of arbitrary images of one setting, pair by pair and image by image."""
    shares = []
    for image in table.pivot(index="id", columns="replicate", values="prediction").to_numpy().tolist():
        pairs = list(itertools.combinations(image, 2))
        shares.append(sum(a != b for a, b in pairs) / len(pairs))
    consistent = [1 - share for share in shares]
    below = [one < consistency for one in consistent]
    return {"disagreement": np.mean(shares), "self_consistency": np.mean(consistent), "arbitrary": np.mean(below)}


def between(table, best):
    """Ambiguity and discrepancy of one level, setting by setting and image by image."""
    wide = table.pivot(index=["id", "replicate"], columns="setting", values="prediction")
    others = [name for name in wide if name != best]
    differs = {name: wide[name] != wide[best] for name in others}
    return {
        "ambiguity": np.mean([any(row) for row in zip(*differs.values(), strict=True)]),
        "discrepancy": max(np.mean(list(one)) for one in differs.values()),
    }


@pytest.mark.parametrize(("sweep", "by"), [("faces", ("tone", "smiling")), ("digits", ("digit",))])
def test_numbers_are_those_of_plain_loops_over_pairs(sweep, by, request):
    results = analysis.load(request.getfixturevalue(sweep).folder)
    found = analysis.arbitrariness(results, by=by, margin=1.0, consistency=0.7)
    table = predicted(results)
    groups = [results.vocabulary(name).values for name in by]
    table["group"] = [
        " & ".join(values)
        for values in zip(*(np.array(names)[table[name]] for name, names in zip(by, groups, strict=True)), strict=True)
    ]
    seen = found.set_index(["setting", "group", "metric"])["value"]
    for (setting, group), rows in table.groupby(["setting", "group"]):
        for metric, value in by_pairs(rows, 0.7).items():
            assert seen[setting, group, metric] == pytest.approx(value), (group, metric)
    best = found[found["metric"] == "ambiguity"].drop_duplicates("level").set_index("level")["setting"]
    for (level, group), rows in table.groupby(["level", "group"]):
        for metric, value in between(rows, best[level]).items():
            assert seen[best[level], group, metric] == pytest.approx(value), (group, metric)
    assert (found["low"] <= found["value"]).all()
    assert (found["value"] <= found["high"]).all()


def test_random_tables_of_any_design_agree_with_a_loop_over_their_pairs():
    rng = np.random.default_rng(0)
    for _ in range(40):
        count, images = int(rng.integers(2, 9)), int(rng.integers(1, 30))
        seeds = {"data": rng.integers(0, 3, count), "train": rng.integers(0, 3, count)}
        prediction = rng.integers(0, int(rng.integers(2, 6)), (count, images))
        varied = [name for name, code in seeds.items() if len(set(code)) > 1]
        for name, pairs in seed_pairs(seeds).items():
            differing = varied if name == "all" else [name]
            listed = [
                (i, j)
                for i, j in itertools.combinations(range(count), 2)
                if all((seeds[seed][i] != seeds[seed][j]) == (seed in differing) for seed in varied)
            ]
            expected = np.mean([prediction[i] != prediction[j] for i, j in listed], axis=0)
            np.testing.assert_allclose(disagreement(prediction, pairs), expected, atol=1e-12)


def test_two_replicates_are_unbiased_for_what_many_disagree_on():
    """Images of class 1 with chance p: two trainings disagree on 2p(1 - p) of them, however many there are."""
    rng = np.random.default_rng(1)
    p = rng.random(400)
    for replicates in (2, 3, 8):
        found = [
            disagreement((rng.random((replicates, 400)) < p).astype(int), ~np.eye(replicates, dtype=bool)).mean()
            for _ in range(200)
        ]
        assert np.mean(found) == pytest.approx((2 * p * (1 - p)).mean(), abs=4 * np.std(found) / np.sqrt(200))


def test_intervals_hold_the_share_of_all_people_whoever_is_drawn():
    """1,000 sweeps of three trainings, 40 people of ten images each who are judged alike: 95% hold the truth."""
    rng = np.random.default_rng(2)
    people = np.repeat(np.arange(40), 10)
    shares = np.repeat(rng.choice([0.0, 2 / 3], p=[0.7, 0.3], size=(1000, 40)), 10, axis=1)
    label, group = np.arange(400) % 2, np.zeros(400, int)
    low, high = ImageGroups(group, 1, label, people).bounds(shares, 3)
    assert 0.93 < ((low <= 0.2) & (high >= 0.2)).mean() <= 0.975
    low, high = ImageGroups(group, 1, label).bounds(shares, 3)
    assert ((low <= 0.2) & (high >= 0.2)).mean() < 0.6  # as if the images were of 400 people


def test_crossed_seeds_tell_the_data_from_the_training(tmp_path, simulate):
    """Trainings that follow their data seed alone: pairs with other data disagree, those with other training do not."""
    simulation = simulate["faces"](tmp_path / "s", replicates=4, shares=(0.9,), per_cell=20, shared=0.3)
    for folder in (simulation.folder / TRIALS).iterdir():
        config = {key: value for key, value in read_json(folder / CONFIG).items() if key != "checksum"}
        number = config["replicate"]
        write_json(folder / CONFIG, config | {"seeds": {"data": number // 2, "train": number % 2}})
        if number % 2:  # as its neighbour with the same data
            (other,) = (simulation.folder / TRIALS).glob(f"{config['learner']['name']}_0.9_s{number - 1}-*")
            (folder / PREDICTIONS).write_bytes((other / PREDICTIONS).read_bytes())
    found = analysis.arbitrariness(analysis.load(simulation.folder), by="tone")
    shares = found[found["metric"] == "disagreement"].set_index(["series", "group", "seeds"])["value"].unstack()
    assert list(shares.columns) == ["all", "data", "train"]
    assert (shares["train"] == 0).all()
    assert (shares["data"] > 0.05).all()
    np.testing.assert_allclose(shares["data"], shares["all"])


def test_repetitions_under_further_noise_tell_the_noise(tmp_path, simulate):
    """Two data seeds, each with two trainings that differ in nothing but their noise."""
    simulation = simulate["faces"](tmp_path / "s", replicates=4, shares=(0.9,), per_cell=20, shared=0.3)
    for folder in (simulation.folder / TRIALS).iterdir():
        config = {key: value for key, value in read_json(folder / CONFIG).items() if key != "checksum"}
        data, noise = divmod(config["replicate"], 2)
        seeds = {"data": data, "train": 0} | ({"noise": noise} if noise else {})
        write_json(folder / CONFIG, config | {"seeds": seeds})
    results = analysis.load(simulation.folder)
    table = predicted(results).query("series == 'private' and tone == 1")
    wide = table.pivot(index="id", columns="replicate", values="prediction")
    found = analysis.arbitrariness(results, by="tone")
    shares = found[(found["metric"] == "disagreement") & (found["series"] == "private") & (found["group"] == "dark")]
    shares = shares.set_index("seeds")["value"]
    pairs = {"all": [(0, 3), (1, 2)], "data": [(0, 2), (1, 3)], "noise": [(0, 1), (2, 3)]}
    assert set(shares.index) == set(pairs)
    for name, listed in pairs.items():
        assert shares[name] == pytest.approx(np.mean([(wide[i] != wide[j]).mean() for i, j in listed]))
    # For all other questions they are trainings crossed with the data.
    seeds = ReplicateSeeds.of(
        *(results.trials.query("series == 'private'")[f"{name}_seed"] for name in ("data", "train"))
    )
    assert seeds.design == "crossed"


def test_order_and_initial_weights_are_sources_of_their_own(tmp_path, simulate):
    """One training seed, two orders, each from two initial weights: pairs by source, and components that say it."""
    simulation = simulate["faces"](tmp_path / "s", replicates=4, shares=(0.5, 0.9), per_cell=20, shared=0.3)
    for folder in (simulation.folder / TRIALS).iterdir():
        config = {key: value for key, value in read_json(folder / CONFIG).items() if key != "checksum"}
        order, init = divmod(config["replicate"], 2)
        numbers = {name: number for name, number in (("order", order), ("init", init)) if number}
        write_json(folder / CONFIG, config | {"seeds": {"data": 0, "train": 0} | numbers})
    results = analysis.load(simulation.folder)
    assert results.trials["train_seed"].nunique() == 4
    found = analysis.arbitrariness(results, by=()).query("metric == 'disagreement' and series == 'tuned'")
    pairs = found.set_index(["level", "seeds"])["pairs"]
    assert pairs["share 0.9"].to_dict() == {"all": 2, "order": 2, "init": 2}
    parts = analysis.explain_fluctuations(results, learner="tuned").parts
    assert "order of examples and initial weights" in set(parts["component"])
    one = analysis.explain_fluctuations(results.filter(replicate=[0, 1]), learner="tuned").parts
    assert {"data seed", "initial weights"} <= set(one["component"])


def test_what_cannot_be_compared_has_no_rows(tmp_path, simulate, results):
    alone = analysis.load(simulate["faces"](tmp_path / "s", replicates=1, shares=(0.9,), per_cell=10).folder)
    assert analysis.arbitrariness(alone, margin=0.0).empty
    assert set(analysis.arbitrariness(alone, margin=1.0)["metric"]) == {"ambiguity", "discrepancy"}
    with pytest.raises(ValueError, match="one evaluation of each trial"):
        analysis.arbitrariness(results, at="all")
    with pytest.raises(ValueError, match=r"margin must lie in \[0, 1\]"):
        analysis.arbitrariness(results, margin=2)


def test_settings_outside_of_the_margin_take_no_part(results):
    """Of private, matched and tuned at share 0.99 the private one is far below the best."""
    found = analysis.arbitrariness(results, margin=0.06)
    sets = found[found["metric"] == "ambiguity"].drop_duplicates("level").set_index("level")
    assert sets.loc["share 0.99", "settings"] == 2
    assert sets.loc["share 0.99", "learner"] in {"matched", "tuned"}
    assert set(analysis.arbitrariness(results, margin=1.0)["settings"]) == {1, 3}
