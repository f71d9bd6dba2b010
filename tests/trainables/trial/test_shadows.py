"""Shadow trials: halves of one training set by independent coins, and what they say of the same candidates."""

import numpy as np
import pytest
from pydantic import ValidationError

from fairsweep.analysis.records.file_names import MEMBERSHIP, PLACEMENT
from fairsweep.analysis.records.learner_records import read_placement
from fairsweep.analysis.records.prediction_records import read_membership
from fairsweep.trainables.trial.forgetting import forget
from fairsweep.trainables.trial.trial import Trial
from fairsweep.trainables.trial.trial_config import TrialConfig
from fairsweep.trainables.trial.trial_data import drawn_plan, shadow_candidates, training_plan
from fairsweep.trainables.unlearning.sisa_config import SisaConfig

IMBALANCE = {"attribute": "tone", "majority": "light", "share": 0.9, "size": 100}


def shadow(make_config, sgd, seed, candidates=40):
    return make_config(sgd, imbalance=IMBALANCE, seeds={"data": seed, "train": seed}, shadow_candidates=candidates)


def test_every_example_is_in_half_of_the_shadows_independently(toy, make_config, sgd):
    configs = [shadow(make_config, sgd, seed) for seed in range(60)]
    pool = drawn_plan(toy, configs[0])
    assert all(np.array_equal(drawn_plan(toy, config).ids, pool.ids) for config in configs)
    included = np.stack([np.isin(pool.ids, training_plan(toy, config).ids) for config in configs])
    assert included.shape == (60, 100)
    assert abs(included.mean() - 0.5) < 0.03
    assert included.mean(axis=0).min() > 0.2
    assert included.mean(axis=0).max() < 0.8
    assert np.abs(np.corrcoef(included) - np.eye(60)).max() < 0.6


def test_candidates_are_the_same_for_all_shadows_and_equal_by_cell(toy, make_config, sgd):
    first, second = (shadow_candidates(toy, shadow(make_config, sgd, seed)) for seed in (0, 5))
    np.testing.assert_array_equal(first.ids, second.ids)
    cells = np.stack([first.groups["tone"], first.labels], axis=1)
    counts = dict(zip(*(x.tolist() for x in np.unique(cells @ [2, 1], return_counts=True)), strict=True))
    assert sum(counts.values()) == 40
    assert counts[2] == counts[3] == 5  # the minority has ten in all
    assert counts[0] == counts[1] == 15
    assert shadow_candidates(toy, make_config(sgd)) is None


def test_a_shadow_records_what_it_says_of_members_and_others(toy, make_config, sgd, tmp_path):
    config = shadow(make_config, sgd, 3)
    folder = Trial(config, tmp_path / "shadow").run()
    table = read_membership(folder / MEMBERSHIP).to_pandas()
    trained = training_plan(toy, config).ids
    np.testing.assert_array_equal(table["included"], np.isin(table["id"], trained))
    assert 5 < table["included"].sum() < 35
    assert len(table) == 40
    assert not (Trial(make_config(sgd), tmp_path / "plain").run() / MEMBERSHIP).exists()


@pytest.mark.parametrize("keep", [False, True])
def test_a_forgotten_candidate_is_predicted_only_where_an_audit_asks_for_it(toy, make_config, tmp_path, keep):
    fields = {"requests": {"count": 10, "batch": 10}, "audit": {"forgotten": True} if keep else None}
    learner = SisaConfig(shards=1, slices=1, epochs=1, inner={"kind": "sgd", "batch_size": 16}, **fields)
    folder = Trial(shadow(make_config, learner, 3, candidates=100), tmp_path / "shadow").run()
    placed = read_placement(folder / PLACEMENT).to_pandas().set_index("id")["deleted"]
    table = read_membership(folder / MEMBERSHIP).to_pandas().set_index("id")
    gone = placed.index[placed]
    assert len(gone) == 10
    assert table.index.isin(gone).sum() == (10 if keep else 0)
    assert not table.loc[table.index.isin(gone), "included"].any()
    assert len(table) == (100 if keep else 90)
    later = table.index[table["included"]][:1].to_numpy()
    forget(folder, later)
    assert read_membership(folder / MEMBERSHIP).to_pandas()["id"].isin(later).sum() == keep
    if keep:
        with pytest.raises(ValidationError, match="shadows: 32"):
            make_config(learner)


def test_a_shadow_is_another_trial_and_others_keep_their_hashes(make_config, sgd):
    plain, other = make_config(sgd), shadow(make_config, sgd, 0)
    assert plain.trial != make_config(sgd, shadow_candidates=40).trial
    assert "shadow_candidates" not in plain.record()
    assert TrialConfig.from_record(other.record()).trial == other.trial
    with pytest.raises(ValidationError, match="leave shadows out"):
        make_config(sgd, shadow_candidates=40, mode="release")
