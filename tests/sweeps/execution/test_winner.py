"""A sweep of which only the winner is published: what stays of it, what does not, and what it says to have cost."""

import hashlib
import math
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from fairsweep import analysis
from fairsweep.analysis.accounting.epsilons import epsilon_of
from fairsweep.analysis.accounting.events import rebuilt, sampled_gaussian
from fairsweep.analysis.accounting.winner import winner_epsilon
from fairsweep.analysis.disclosure.columns import COLUMNS, WHOLE
from fairsweep.analysis.records.files import read_json, write_json
from fairsweep.datasets.storage.prepared import Attribute, write_prepared
from fairsweep.sweeps.execution.run import describe
from fairsweep.sweeps.execution.winner import SecretRun
from fairsweep.sweeps.planning import secret_draws
from fairsweep.sweeps.planning.preflight import check_sweep, privacy_plans
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.trainables.privacy.privacy_statement import PrivacyStatement
from fairsweep.trainables.trial import key_file
from fairsweep.trainables.trial.trial import Trial

COUNT = 240
LEARNER = {"name": "private", "kind": "dpsgd", "epochs": 1, "batch_size": 24, "noise_multiplier": 1.0, "delta": 1e-3}
LEARNER |= {"performance": {"gradient_mode": "hooks"}, "l2_clip_norm": {"loguniform": [0.1, 2.0]}}
EVENT = sampled_gaussian(1.0, 24 / 120, 5)


def write(folder, changed=()):
    """240 drawings, the even ones trained on; image, label and tone of some are others."""
    rng = np.random.default_rng(3)
    label, tone = rng.integers(0, 2, COUNT), rng.integers(0, 2, COUNT)
    images = rng.integers(0, 160, (COUNT, 8, 8, 1))
    images[:, :4] += (60 * label)[:, None, None, None]
    for row in changed:
        label[row], tone[row], images[row] = 1 - label[row], 1 - tone[row], 255 - images[row]
    split = np.array(["train", "validation", "train", "test"])[np.arange(COUNT) % 4]
    columns = {"id": np.arange(COUNT), "smiling": label.astype(np.int16), "tone": tone.astype(np.int16), "split": split}
    attributes = [Attribute(name="smiling", values=("no", "yes")), Attribute(name="tone", values=("light", "dark"))]
    shutil.rmtree(folder, ignore_errors=True)
    write_prepared(
        folder, name="toy", attributes=attributes, examples=pa.table(columns), images=images.astype(np.uint8)
    )


class Work:
    """Runs a sweep in this process, without Ray."""

    def __init__(self, folder, **search):
        self.out = folder / "out"
        content = {
            "name": "secret",
            "dataset": {"path": str(folder / "data"), "label": "smiling", "groups": ["tone"]},
            "model": {"name": "linear"},
            "learners": [LEARNER],
            "search": {"release": "winner", "draws": {"geometric": 4}} | search,
            "privacy": {"mode": "release"},
            "output": str(self.out),
        }
        self.plan = check_sweep(Sweep.from_mapping(content))
        self.output = OutputFolder.at(self.out)
        self.run = SecretRun(self.plan, self.output)

    def begin(self):
        describe(self.plan, self.output, None, 1)
        return self.run.begin()

    def train(self, plan, folder, trials):
        """Train some of the draws; return those that are on disk."""
        queued = folder.ledger.queue(trials)
        privacy = privacy_plans(plan, trials)
        for trial in trials:
            entry = queued[trial.trial]
            Trial(trial.config, entry.folder, plan=privacy[trial.trial], run=entry.state.run).run()

    def whole(self):
        with self.output.held():
            draws, folder, source = self.begin()
            self.train(draws, folder, source.samples)
            self.run.publish(draws, folder)
        return draws


@pytest.fixture
def work(tmp_path, monkeypatch):
    write(tmp_path / "data")
    monkeypatch.setattr(secret_draws, "number_of_draws", lambda draws, key: 4)
    monkeypatch.setattr("fairsweep.sweeps.execution.winner.number_of_draws", lambda draws, key: 4)
    return Work(tmp_path)


def accuracies(folder):
    """Validation accuracy of the draws, by hash, from their records."""
    found = {}
    for path in (folder.path / "trials").iterdir():
        cells = pq.read_table(path / "cells.parquet").to_pandas().query("split == 'validation'")
        cells = cells[cells["iteration"] == cells["iteration"].max()]
        right = cells.loc[cells["label"] == cells["prediction"], "count"].sum()
        found[read_json(path / "config.json")["trial"]] = right / cells["count"].sum()
    return found


def test_the_best_draw_alone_is_left_and_charged_for_the_selection(work):
    with work.output.held():
        draws, folder, source = work.begin()
        assert not work.run.is_over
        charged = analysis.privacy_ledger(analysis.load(work.out))  # before anything is trained
        assert "the winner of a secret number of draws, geometric with mean 4, costs" in charged.headline[0]
        assert any("Charged in full though no winner is published" in text for text in charged.headline)
        work.train(draws, folder, source.samples)
        values = accuracies(folder)
        assert len(values) == 4
        best = max(values, key=values.get)
        losers = [path.name for path in (folder.path / "trials").iterdir() if not path.name.endswith(best[:8])]
        losers += [trial.trial for trial in draws.trials if trial.trial != best]
        losers += [str(trial.config.seeds.train) for trial in draws.trials if trial.trial != best]
        assert len(losers) == 9
        assert work.run.publish(draws, folder).startswith("published the winner, private-clip")
        assert work.run.is_over
    (folder,) = (work.out / "trials").iterdir()
    config, state = read_json(folder / "config.json"), read_json(folder / "state.json")
    assert config["trial"] == state["trial"] == best
    left = [path for path in work.out.rglob("*") if path.is_file()]
    assert not [path for path in left if path.name.startswith(".") and path.name not in (".lock",)]
    for path in left:
        content = path.read_bytes()
        assert not [name for name in losers if name.encode() in content], path
        assert not [name for name in losers if name in str(path)]
    assert len({round(path.stat().st_mtime, 6) for path in left if path.name != ".lock"}) == 1
    stated = PrivacyStatement.model_validate(read_json(folder / "privacy.json"))
    price = winner_epsilon(EVENT, "geometric", 4, 1e-3)
    assert stated.epsilon.rdp == stated.epsilon.pld == pytest.approx(price)
    assert stated.selection.epsilon_of_one_draw == epsilon_of(EVENT, 1e-3)
    assert price > 1.5 * stated.selection.epsilon_of_one_draw.pld
    assert epsilon_of(rebuilt(stated.events[0]), 1e-3).pld == pytest.approx(price)
    assert state["metrics"]["epsilon"] == pytest.approx(price)
    assert any("K is geometric with mean 4, secret" in text for text in stated.assumptions)
    assert any("how long the sweep ran" in text for text in stated.assumptions)
    results = analysis.load(work.out)
    assert results.trials["epsilon"].tolist() == [pytest.approx(price)]
    assert results.problems.empty
    prices = analysis.privacy_ledger(results).prices
    assert prices["what is released"].tolist() == ["the winner alone, K geometric"]
    assert prices["ε (RDP)"].tolist() == [f"{price:.3g}"]
    assert read_json(work.out / "sweep.json")["trials"] == 1


def test_a_run_that_is_cut_short_goes_on_with_the_same_draws(work, tmp_path):
    with work.output.held():
        draws, folder, source = work.begin()
        work.train(draws, folder, source.samples[:2])
    key = work.out / ".winner" / "draws.key"
    assert key.stat().st_mode & 0o777 == 0o600
    again = Work(tmp_path)
    with again.output.held():
        same, folder, source = again.begin()
        assert [trial.trial for trial in same.trials] == [trial.trial for trial in draws.trials]
        assert [trial.trial for trial in source.samples] == [trial.trial for trial in draws.trials[2:]]
        again.train(same, folder, source.samples)
        values = accuracies(folder)
        with pytest.MonkeyPatch.context() as patch:  # killed between the folder and what is said of it
            patch.setattr(SecretRun, "purge", lambda self: None)
            again.run.publish(same, folder)
    (published,) = (work.out / "trials").iterdir()
    assert values[read_json(published / "config.json")["trial"]] == max(values.values())
    # A kill after the winner was copied, and before anything was said: the same one stays.
    write_json(work.out / "winner.json", read_json(work.out / "winner.json") | {"state": "running"})
    last = Work(tmp_path)
    with last.output.held():
        assert last.run.publish(*last.begin()[:2]).startswith(f"published the winner, {published.name}")
    assert last.run.is_over
    assert not (work.out / ".winner").exists()
    assert [path.name for path in (work.out / "trials").iterdir()] == [published.name]


def test_no_draw_at_all_publishes_that_and_costs_the_same(work, monkeypatch):
    monkeypatch.setattr("fairsweep.sweeps.execution.winner.number_of_draws", lambda draws, key: 0)
    with work.output.held():
        draws, folder, source = work.begin()
        assert source.is_done()
        assert "the secret number of draws was 0" in work.run.publish(draws, folder)
        assert work.run.is_over
    assert not list(work.out.glob("trials/*"))
    ledger = analysis.privacy_ledger(analysis.load(work.out))
    assert f"ε = {winner_epsilon(EVENT, 'geometric', 4, 1e-3):.3g}" in ledger.headline[0]


def test_draws_that_failed_lose_and_if_all_did_there_is_none(work):
    with work.output.held():
        draws, folder, source = work.begin()
        work.train(draws, folder, source.samples[:1])
        queued = folder.ledger.queue(source.samples[1:])
        for entry in queued.values():
            entry.mark({"state": "failed", "error": "the worker died"})
        assert draws.trials[0].folder_name in work.run.publish(draws, folder)
        shutil.rmtree(work.out)
    with work.output.held():
        draws, folder, source = work.begin()
        for entry in folder.ledger.queue(source.samples).values():
            entry.mark({"state": "failed", "error": "the worker died"})
        with pytest.raises(
            SweepError, match="every draw failed, so there is no winner; the first one because: the worker"
        ):
            work.run.publish(draws, folder)
        assert not work.run.is_over


def test_a_folder_takes_one_winner_and_a_cluster_none(work, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    work.whole()
    Work(tmp_path).run.check(None)
    with pytest.raises(SweepError, match="holds the winner of other draws: each winner needs an output folder"):
        Work(tmp_path, draws={"geometric": 5}).run.check(None)
    (work.out / "winner.json").unlink()
    with pytest.raises(SweepError, match="holds trials: each winner needs an output folder"):
        Work(tmp_path).run.check(None)
    with pytest.raises(SweepError, match="leave --address and RAY_ADDRESS out"):
        Work(tmp_path).run.check("ray://head:10001")


def parts(folder):
    """Every column of every file, as texts by (file, column)."""
    values = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            values |= {(name, column): str(table[column].to_pylist()) for column in table.column_names}
        elif path.suffix == ".json":
            values |= {(name, column): str(value) for column, value in read_json(path).items()}
        else:
            values[name, ""] = hashlib.sha256(path.read_bytes()).hexdigest()
    return values


def test_two_winners_of_sweeps_that_differ_in_one_person_differ_in_what_is_noised_alone(tmp_path, monkeypatch):
    """All secrets are the same ones here, so that nothing else can hide a difference."""
    monkeypatch.setattr(key_file.os, "urandom", lambda size: b"s" * size)
    monkeypatch.setattr("fairsweep.sweeps.execution.winner.number_of_draws", lambda draws, key: 2)
    found = []
    for changed in ((), (0,)):
        write(tmp_path / "data", changed)
        work = Work(tmp_path)
        work.whole()
        values = parts(work.out)
        (name,) = (path.name for path in (work.out / "trials").iterdir())
        found.append({(file.replace(name, "winner"), column): value for (file, column), value in values.items()})
        shutil.rmtree(work.out)
    first, other = found
    assert first.keys() == other.keys()
    differing = {place for place in first if first[place] != other[place]} - {
        ("sweep.json", "created"),
        ("sweep.json", "updated"),
    }
    assert ("trials/winner/weights.pt", "") in differing
    # Which draw wins, and so its settings and its seed, follows from the noised models.
    chosen = {("sweep.json", "members"), ("trials/winner/state.json", "trial"), ("trials/winner/state.json", "secrets")}
    chosen |= {("trials/winner/config.json", column) for column in ("learner", "seeds", "setting", "trial")}
    chosen |= {("trials/winner/privacy.json", column) for column in ("l2_clip_norm",)}
    for file, column in differing - chosen:
        own = file.rsplit("/", 1)[-1]
        kind = WHOLE.get(own) or COLUMNS[own].get(column, COLUMNS[own].get("*"))
        assert kind == "noised", (file, column, first[file, column], other[file, column])
    assert not math.isnan(float(first["trials/winner/privacy.json", "delta"]))
