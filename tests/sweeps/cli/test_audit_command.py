"""``fairsweep audit`` on a sweep with canaries and shadows."""

import shutil

import numpy as np
import pytest

from fairsweep import analysis
from fairsweep.analysis.auditing.sweep_exposure import exposure_frame
from fairsweep.analysis.auditing.trial_audits import audits
from fairsweep.analysis.records.files import read_json, write_json
from fairsweep.analysis.report.exposure_section import exposure_section
from fairsweep.analysis.results.imbalance_design import design_of

FILE = """\
name: audited
dataset: {path: DATASET, label: smiling, groups: [tone]}
imbalance: {attribute: tone, majority: light, share: 0.6, size: 160}
model: {name: linear}
learners:
  - {name: private, kind: dpsgd, epochs: 1, batch_size: 16, noise_multiplier: 2.0, delta: 1e-3,
     performance: {gradient_mode: hooks}, audit: {canaries: 24, by: tone}}
  - {name: overfitted, kind: sgd, epochs: 30, batch_size: 16, optimizer: {lr: 0.5}}
  - {name: forgetting, kind: sisa, shards: 1, slices: 1, epochs: 30, requests: {count: 30, batch: 30},
     inner: {kind: sgd, batch_size: 16, optimizer: {lr: 0.5}}, audit: {forgotten: true}}
shadows: {count: 8, candidates: 100}
output: OUTPUT
"""


@pytest.fixture(scope="module")
def audited(toy_path, run_here, tmp_path_factory):
    folder = tmp_path_factory.mktemp("audited")
    file = folder / "sweep.yaml"
    file.write_text(FILE.replace("DATASET", str(toy_path)).replace("OUTPUT", f"'{folder / 'out'}'"))
    return run_here(file)


def test_the_command_shows_bounds_and_who_is_recognised(fairsweep, audited):
    code, out, err = fairsweep("audit", audited)
    assert (code, err) == (0, "")
    assert "Lower bounds on ε from canaries" in out
    assert "No bound exceeds what is claimed, and no claim is refuted." in out
    assert "Membership inference from shadows" in out
    assert "is recognised best" in out
    code, _, err = fairsweep("audit", audited, "--confidence", "2")
    assert code == 2
    assert "confidence must be in (0, 1)" in err
    code, _, err = fairsweep("audit", audited, "-a", "race")
    assert code == 2
    assert "'race'" in err


def test_bounds_are_stated_by_trial_and_group(audited):
    found = audits(analysis.load(audited), confidence=0.99)
    assert set(found["group"]) == {"all", "light", "dark"}
    assert len(found) == 8 * 3
    assert (found["claimed"] < 10).all()
    assert (found["bound"] <= found["claimed"]).all()
    assert not found["refuted"].any()
    np.testing.assert_allclose(found[found["group"] == "all"]["significance"], 0.005)
    np.testing.assert_allclose(found[found["group"] == "dark"]["significance"], 0.0025)
    assert (found[found["group"] == "dark"]["canaries"] == 12).all()


def test_an_overfitted_learner_is_recognised_and_a_private_one_is_not(audited):
    found = exposure_frame(analysis.load(audited), draws=50, permutations=99)
    everybody = found[found["group"] == "all"].set_index(["learner", "attack"])
    assert everybody.loc[("overfitted", "LiRA"), "auc_low"] > 0.5
    assert everybody.loc[("overfitted", "RMIA"), "auc_low"] > 0.5
    assert everybody.loc[("private", "LiRA"), "auc_low"] < 0.5 < everybody.loc[("private", "LiRA"), "auc_high"]
    assert (everybody["candidates"] == 100).all()
    assert (found[found["group"] != "all"].groupby(["learner", "attack"])["most_exposed"].sum() == 1).all()
    assert ((found["p_value"] > 0) & (found["p_value"] <= 1)).all()


def test_what_an_exact_deletion_forgets_is_not_told_from_what_was_never_seen(fairsweep, audited):
    results = analysis.load(audited)
    found = exposure_frame(results, of="forgotten", draws=50, permutations=9)
    assert set(found["learner"]) == {"forgetting"}
    everybody = found[found["group"] == "all"]
    assert ((everybody["auc_low"] < 0.5) & (everybody["auc_high"] > 0.5)).all()
    # Members who stayed are neither; they are known, as those of any overfitted model are.
    counted = [folder for folder in results.folders if folder.learner == "forgetting"]
    stayed = sum(sum(folder.membership()["included"].to_pylist()) for folder in counted)
    assert everybody["pairs"].max() <= 8 * 100 - stayed
    members = exposure_frame(results, draws=50, permutations=9).query("learner == 'forgetting' and group == 'all'")
    assert (members["auc_low"] > 0.5).all()
    _, out, _ = fairsweep("audit", audited)
    assert "Forgotten examples, told from those never seen" in out


def test_the_report_shows_how_exposed_groups_are_where_there_are_shadows(audited, finished):
    results = analysis.load(audited)
    section = exposure_section(results, design_of(results))
    assert [figure.name for figure in section.figures] == [
        f"exposure-{of}-{rate}" for of in ("members", "forgotten") for rate in ("auc", "tpr")
    ]
    frame = exposure_frame(results, attacks=["LiRA"], permutations=0).query("group != 'all'")
    for bars in section.figures[0].figure.data:
        own = frame[frame["series"] == bars.name]
        assert list(bars.y) == own["auc"].tolist()
        low = np.array(bars.y) - np.array(bars.error_y.arrayminus)
        np.testing.assert_allclose(low, own["auc_low"])
    assert {bars.name for bars in section.figures[2].figure.data} == {"forgetting"}
    assert exposure_section(analysis.load(finished), design_of(analysis.load(finished))) is None


def test_a_canary_whose_gradient_was_replaced_counts_as_out(audited):
    results = analysis.load(audited)
    found = exposure_frame(results, draws=2, permutations=1).query("learner == 'private' and group == 'all'")
    members = canaries = 0
    for folder in results.folders:
        if folder.learner == "private":
            table = folder.membership().to_pandas().set_index("id")["included"]
            taken = set(folder.audit()["unit"].to_pylist()) & set(table.index)
            assert table.loc[list(taken)].all()
            members, canaries = members + table.sum(), canaries + len(taken)
    assert canaries > 0
    for attack in ("LiRA", "RMIA"):
        (scored,) = attacked(results, attack)
        assert scored.sum() == members - canaries
    assert len(found) == 2


def attacked(results, name):
    """Who counted as in, as the attack saw it."""
    from fairsweep.analysis.auditing import sweep_exposure

    seen, attack = [], sweep_exposure.ATTACKS[name]

    def watching(log_p, included, groups):
        seen.append(included)
        return attack(log_p, included, groups)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sweep_exposure.ATTACKS, name, watching)
        frame = exposure_frame(results, attacks=[name], draws=2, permutations=1)
    places = list(dict.fromkeys(frame["learner"]))
    return [seen[places.index("private")]]


def test_a_sweep_without_audits_says_how_to_have_some(fairsweep, finished):
    code, out, err = fairsweep("audit", finished)
    assert (code, err) == (0, "")
    assert "audit: {canaries: 200}" in out
    assert "shadows: 32" in out


def test_a_release_is_not_told_to_have_an_audit_that_it_would_refuse(fairsweep, finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "released")
    said = read_json(folder / "sweep.json")
    said["sweep"]["privacy"]["mode"] = "release"
    write_json(folder / "sweep.json", said)
    code, out, _ = fairsweep("audit", folder)
    assert code == 0
    assert "Run the same learners in mode: research" in out
    assert "canaries: 200" not in out
