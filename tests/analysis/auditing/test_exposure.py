import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from fairsweep.analysis.auditing.exposure import exposures, most_exposed, rates
from fairsweep.analysis.auditing.shadow_scores import lira, rmia, scaled_logits

GROUPS = np.repeat([0, 1], [150, 50])


def shadows(*, gain=(0.0, 2.0), hardness=(0.0, 0.0), models=24, seed=0):
    """Log probabilities of models that know members of each group better by a gain in logits."""
    draws = np.random.default_rng(seed)
    included = draws.random((models, len(GROUPS))) < 0.5
    logits = draws.standard_normal((models, len(GROUPS))) + draws.standard_normal(len(GROUPS)) * 3
    logits += np.take(hardness, GROUPS) + included * np.take(gain, GROUPS)
    return -np.log1p(np.exp(-logits)), included


def test_rates_are_those_of_scikit_learn():
    draws = np.random.default_rng(1)
    included = draws.random(3000) < 0.4
    scores = np.round(draws.standard_normal(3000) + included, 1)  # with ties
    auc, tpr = rates(scores, included)
    assert auc == pytest.approx(roc_auc_score(included, scores))
    false, true, _ = roc_curve(included, scores, drop_intermediate=False)
    assert true[false <= 0.01].max() <= tpr <= true[false >= 0.01].min()
    twice = rates(np.repeat(scores, 2), np.repeat(included, 2))
    assert rates(scores, included, np.full(3000, 2.0)) == pytest.approx(twice)
    assert np.isnan(rates(scores, np.ones(3000, dtype=bool))).all()


def test_logits_of_certain_predictions_are_finite():
    found = scaled_logits(np.array([0.0, -1e-12, np.log(0.5), -1e4, -np.inf]))
    assert np.isfinite(found).all()
    assert found[2] == pytest.approx(0)
    assert (np.diff(found) <= 0).all()


@pytest.mark.parametrize("attack", [lira, rmia])
def test_attacks_see_members_of_the_group_that_is_memorised(attack):
    log_p, included = shadows()
    scores = attack(log_p, included, GROUPS)
    by_group = {e.group: e for e in exposures(scores, included, GROUPS, generator=np.random.default_rng(0), draws=50)}
    assert by_group[1].auc > 0.8
    assert by_group[0].auc_low < 0.5 < by_group[0].auc_high
    assert by_group[1].tpr > 5 * 0.01
    assert by_group[0].candidates == 150
    assert by_group[None].pairs == included.size
    group, p_value = most_exposed(scores, included, GROUPS, generator=np.random.default_rng(0), draws=99)
    assert (group, p_value) == (1, 0.01)


@pytest.mark.parametrize("attack", [lira, rmia])
def test_a_harder_group_is_not_mistaken_for_a_more_exposed_one(attack):
    p_values = []
    for seed in range(5):
        log_p, included = shadows(gain=(1.0, 1.0), hardness=(0.0, -4.0), seed=seed)
        scores = attack(log_p, included, GROUPS)
        p_values.append(most_exposed(scores, included, GROUPS, generator=np.random.default_rng(0), draws=99)[1])
    assert np.mean(p_values) > 0.2
    # A threshold on the loss alone, one for all, is mistaken: it takes members of the easy group only.
    log_p, included = shadows(gain=(1.0, 1.0), hardness=(0.0, -4.0))
    threshold = np.quantile(log_p[~included], 0.99)
    caught = (log_p > threshold) & included
    assert caught[:, GROUPS == 0].mean() > 2 * caught[:, GROUPS == 1].mean()


def test_intervals_cover_what_many_repetitions_give():
    truth = np.mean([rates(*_flat(lira(*shadows(gain=(1.0, 1.0), seed=s), GROUPS), s))[0] for s in range(50, 60)])
    covered = 0
    for seed in range(10):
        log_p, included = shadows(gain=(1.0, 1.0), seed=seed)
        everybody = exposures(
            lira(log_p, included, GROUPS), included, GROUPS, generator=np.random.default_rng(seed), draws=60
        )[0]
        covered += everybody.auc_low <= truth <= everybody.auc_high
    assert covered >= 8


def _flat(scores, seed):
    return scores.ravel(), shadows(gain=(1.0, 1.0), seed=seed)[1].ravel()


def test_an_example_that_all_other_shadows_know_has_no_score():
    log_p, included = shadows()
    included[:, 0] = True
    assert np.isnan(lira(log_p, included, GROUPS)[:, 0]).all()
    assert np.isnan(rmia(log_p, included, GROUPS)[:, 0]).all()


def test_a_group_too_small_to_be_attacked_has_no_number():
    log_p, included = shadows()
    groups = GROUPS.copy()
    groups[0] = 2
    included[:, 0] = False  # nobody trained on it
    scores = lira(log_p, included, groups)
    found = exposures(scores, included, groups, generator=np.random.default_rng(0), draws=20)
    assert [each.group for each in found] == [None, 0, 1, 2]
    assert np.isnan([found[3].auc, found[3].auc_low, found[3].tpr_high]).all()
    assert most_exposed(scores, included, groups, generator=np.random.default_rng(0), draws=19)[0] == 1
