"""Canaries in the shards of SISA with a private inner learner."""

import dataclasses

import numpy as np
import pytest
from pydantic import ValidationError

from fairsweep.analysis.records.file_names import AUDIT
from fairsweep.analysis.records.learner_records import read_audit
from fairsweep.trainables.unlearning.sisa import Sisa
from fairsweep.trainables.unlearning.sisa_config import SisaConfig

INNER = {"kind": "dpsgd", "batch_size": 8, "noise_multiplier": 0.3, "performance": {"gradient_mode": "hooks"}}


def config(**fields):
    given = {"shards": 2, "slices": 2, "epochs": 2, "inner": INNER, "audit": {"canaries": 40, "by": "tone"}}
    return SisaConfig(**(given | fields))


def train(learner):
    while learner.iteration < learner.iterations:
        learner.step()
    return learner


def table_of(learner, folder):
    learner.files()[AUDIT](folder / AUDIT)
    found = read_audit(folder / AUDIT).to_pandas().set_index("unit")
    (folder / AUDIT).unlink()
    return found


def test_a_canary_keeps_its_coin_in_every_training_of_its_shard(make_sisa, tmp_path):
    learner = train(make_sisa(config(), n=120))
    found = table_of(learner, tmp_path)
    assert len(found) == 40
    assert found["group"].value_counts().to_dict() == {"light": 20, "dark": 20}
    gap = found.groupby("included")["score"].mean()
    assert gap[True] > gap[False] + 1
    # Who sits in the first slice is trained on twice, in steps that reveal more of it.
    placed = dict(zip(learner.population.ids.tolist(), learner.placement.slice.tolist(), strict=True))
    first = found[[placed[unit] == 0 for unit in found.index]]
    later = found[[placed[unit] == 1 for unit in found.index]]
    between = [part.groupby("included")["score"].mean() for part in (first, later)]
    assert between[0][True] - between[0][False] > between[1][True] - between[1][False]


def test_an_audit_resumes_to_the_bit_in_memory_and_in_files(make_sisa, tmp_path):
    whole = table_of(train(make_sisa(config(), n=120)), tmp_path)
    half = make_sisa(config(), n=120)
    half.step()
    rest = make_sisa(config(), n=120)
    rest.load(half.state())
    assert table_of(train(rest), tmp_path).equals(whole)
    kept = make_sisa(config(), n=120, folder=tmp_path)
    kept.step()
    again = make_sisa(config(), n=120, folder=tmp_path)
    again.load(kept.state())
    assert table_of(train(again), tmp_path).equals(whole)


def test_a_canary_that_is_forgotten_is_gone_and_the_others_keep_their_coins(make_sisa, tmp_path):
    learner = train(make_sisa(config(), n=120, folder=tmp_path))
    for name, write in learner.files().items():
        write(tmp_path / name)
    before = read_audit(tmp_path / AUDIT).to_pandas().set_index("unit")
    gone = before.index[before["included"]].to_numpy()[:1]
    again = make_sisa(config(), n=120, folder=tmp_path)  # as after the trial: coins are those of the record
    again.load(learner.state())
    again.forget(gone)
    again.files()[AUDIT](tmp_path / AUDIT)
    after = read_audit(tmp_path / AUDIT).to_pandas().set_index("unit")
    assert after.index.tolist() == before.index.drop(gone).tolist()
    assert after["included"].equals(before["included"].drop(gone))
    assert (after["score"] != before["score"].drop(gone)).any()
    assert again.privacy().epsilon.pld > learner.privacy().epsilon.pld


def test_the_claim_is_that_of_a_training_without_an_audit(make_sisa):
    audited, plain = train(make_sisa(config(), n=120)), train(make_sisa(config(audit=None), n=120))
    assert audited.privacy().epsilon == plain.privacy().epsilon
    assert "40 of the 120 examples as canaries" in " ".join(audited.privacy().assumptions)
    assert AUDIT in audited.privacy().reveals


def test_what_cannot_be_audited_is_refused(make_task):
    with pytest.raises(ValidationError, match="give it to the sisa learner itself"):
        config(inner=INNER | {"audit": {"canaries": 16}})
    with pytest.raises(ValidationError, match="which claims none"):
        config(inner={"kind": "sgd"})
    with pytest.raises(ValidationError, match="forgotten: true"):
        config(audit={"by": "tone"})
    task = make_task("linear", n=120, ids=np.arange(120))
    with pytest.raises(ValueError, match="mode: research"):
        Sisa(config(), dataclasses.replace(task, diagnostics=False))
