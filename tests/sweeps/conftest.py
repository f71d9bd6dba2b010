"""A tiny prepared dataset and a small sweep on it."""

import copy
import shutil
import sys

import numpy as np
import pyarrow as pa
import pytest

from fairsweep.datasets.storage.prepared import Attribute, PreparedDataset, write_prepared
from fairsweep.sweeps.cli import app as cli
from fairsweep.sweeps.execution.run import describe
from fairsweep.sweeps.planning.preflight import check_sweep, privacy_plans
from fairsweep.sweeps.planning.running_epsilon import write_plans
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.sweep_file import SweepSource
from fairsweep.trainables.trial.trial import Trial

SWEEP = {
    "name": "toy",
    "dataset": {"label": "smiling", "groups": ["tone"]},
    "imbalance": {"attribute": "tone", "majority": "light", "share": {"grid": [0.5, 0.9]}, "size": 120},
    "model": {"name": "linear"},
    "learners": [
        {
            "name": "private",
            "kind": "dpsgd",
            "epochs": 3,
            "batch_size": 24,
            "noise_multiplier": 1.0,
            "performance": {"gradient_mode": "hooks"},
        },
        {"name": "matched", "twin_of": "private"},
        {"name": "tuned", "kind": "sgd", "epochs": 3, "batch_size": 24},
    ],
    "seeds": 2,
}


@pytest.fixture(scope="session")
def toy_path(tmp_path_factory):
    """960 images of 8x8 whose brightness in the upper half says the label, noisier for the tone dark."""
    rng = np.random.default_rng(1)
    count = 960
    label, tone = rng.integers(0, 2, count), rng.integers(0, 2, count)
    images = rng.integers(0, 160, (count, 8, 8, 1))
    images[:, :4] += (40 * label * (2 - tone))[:, None, None, None]
    examples = pa.table(
        {
            "id": np.arange(count) * 3,
            "smiling": label.astype(np.int16),
            "tone": tone.astype(np.int16),
            "split": np.array(["train", "train", "validation", "test"])[np.arange(count) % 4],
        }
    )
    attributes = [Attribute(name="smiling", values=("no", "yes")), Attribute(name="tone", values=("light", "dark"))]
    folder = tmp_path_factory.mktemp("data") / "toy"
    return write_prepared(folder, name="toy", attributes=attributes, examples=examples, images=images.astype(np.uint8))


@pytest.fixture(scope="session")
def toy(toy_path):
    return PreparedDataset.open(toy_path)


FILE = """\
# what this is about
name: toy
dataset: {path: DATASET, label: smiling, groups: [tone]}
imbalance: {attribute: tone, majority: light, share: 0.5, size: 120}
model: {name: linear}
learners:
  - {name: private, kind: dpsgd, epochs: 1, batch_size: 24, noise_multiplier: 1.0, performance: {gradient_mode: hooks}}
  - {name: forgets, kind: sisa, shards: 2, slices: 2, epochs: 1, inner: {kind: sgd, batch_size: 24, epochs: 1}}
seeds: 1
output: OUTPUT
"""


@pytest.fixture(scope="session")
def sweep_text(toy_path):
    """The file of a sweep of two trials, private and forgetful, into a folder."""
    return lambda output: FILE.replace("DATASET", str(toy_path)).replace("OUTPUT", f"'{output}'")


@pytest.fixture(scope="session")
def run_here():
    """Runs what is missing of a sweep file in this process, without Ray; returns the output folder."""

    def run(file):
        source = SweepSource.read(file)
        sweep = Sweep.from_mapping(source.content)
        plan, output = check_sweep(sweep), OutputFolder.at(sweep.folder)
        trials = [trial.trial for trial in plan.trials]
        output.check(name=sweep.name, content=plan.content, trials=trials, needed_bytes=0)
        with output.held():
            missing = output.ledger.missing(plan.trials)
            privacy = privacy_plans(plan, missing)
            describe(plan, output, source.text, len(trials), trials)
            queued = output.ledger.queue(missing)
            write_plans(output.path, privacy)
            for trial in missing:
                entry = queued[trial.trial]
                Trial(trial.config, entry.folder, plan=privacy.get(trial.trial), run=entry.state.run).run()
            output.ledger.tidy(plan.trials)
        return output.path

    return run


@pytest.fixture(scope="session")
def finished_once(sweep_text, run_here, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    (folder / "sweep file.yaml").write_text(sweep_text(folder / "out"))
    return run_here(folder / "sweep file.yaml")


@pytest.fixture
def finished(finished_once, tmp_path):
    """A finished sweep of two trials, a copy that a test may damage."""
    return shutil.copytree(finished_once, tmp_path / "runs" / "toy [1]")


@pytest.fixture
def mapping(toy_path, tmp_path):
    """A sweep of 12 trials as plain values; a copy that a test may change."""
    content = copy.deepcopy(SWEEP)
    content["dataset"]["path"] = str(toy_path)
    content["output"] = str(tmp_path / "out")
    return content


@pytest.fixture
def fairsweep(monkeypatch, capsys, tmp_path):
    """Runs the command in this process; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["fairsweep", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        output = capsys.readouterr()
        return end.value.code or 0, output.out, output.err

    return call
