"""A request for deletion that is cut short at any moment ends, with the same command, as one that ran through."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fairsweep import analysis
from fairsweep.analysis.records.file_names import PLACEMENT
from fairsweep.analysis.records.files import write_json
from fairsweep.analysis.records.learner_records import read_placement
from fairsweep.analysis.records.prediction_records import write_examples
from fairsweep.datasets.storage.prepared import PreparedDataset, write_prepared
from fairsweep.sweeps.cli.commands import ls
from fairsweep.sweeps.execution import forget
from fairsweep.sweeps.execution.forget import forget_ids
from fairsweep.sweeps.planning.preflight import check_sweep
from fairsweep.sweeps.store.deletion_journal import explain_unfinished
from fairsweep.sweeps.store.output import OutputFolder
from fairsweep.sweeps.sweep import Sweep
from fairsweep.sweeps.syntax.errors import SweepError
from fairsweep.trainables.trial.other_dataset import recorded_examples
from fairsweep.trainables.trial.trial import Trial

# What differs between two undisturbed runs too: the time, and hashes under a key that is drawn.
_VARYING = ("time", "seconds", "updated", "ids", "checksum", "hashes")


@pytest.fixture(scope="module")
def origin(toy_path, tmp_path_factory):
    """A folder with a dataset and a sweep of two trials that can forget and one that cannot; a copy beside it."""
    world = tmp_path_factory.mktemp("deletion") / "world"
    toy = PreparedDataset.open(toy_path)
    paths = pa.array([f"{('left', 'right')[example % 2]}/{example // 2}.png" for example in toy.ids.tolist()])
    images = np.concatenate([toy.shard_images(number) for number in range(len(toy.info.shards))])
    examples = toy.examples().append_column("source_path", paths)
    attributes = toy.info.attributes
    write_prepared(world / "data", name="toy", attributes=attributes, examples=examples, images=images)
    out = world / "out"
    sisa = {"kind": "sisa", "shards": 2, "slices": 2, "epochs": 1, "inner": {"kind": "sgd", "batch_size": 16}}
    mapping = {
        "name": "toy",
        "dataset": {"path": str(world / "data"), "label": "smiling", "groups": ["tone"]},
        "imbalance": {"attribute": "tone", "majority": "light", "share": 0.5, "size": 40},
        "model": {"name": "linear"},
        "learners": [sisa | {"name": "a"}, sisa | {"name": "b", "shards": 1}, {"name": "c", "kind": "sgd"}],
        "seeds": 1,
        "output": str(out),
    }
    plan = check_sweep(Sweep.from_mapping(mapping))
    for trial in plan.trials:
        Trial(trial.config, out / "trials" / trial.folder_name).run()
    write_examples(out / "examples.parquet", recorded_examples(plan.dataset, None, with_source_paths=True))
    dataset = {"name": "toy", "path": str(world / "data"), "content_hash": plan.dataset.info.content_hash}
    write_json(out / "sweep.json", {"format_version": 1, "name": "toy", "trials": 3, "dataset": dataset, "sweep": {}})
    ids = read_placement(next(out.glob("trials/a*")) / PLACEMENT).column("id").to_pylist()
    (world.parent / "ids").write_text("\n".join(map(str, (ids[2], ids[9], ids[30]))))
    shutil.copytree(world, world.parent / "origin")
    return world


@pytest.fixture
def world(origin):
    """The folder as it was."""
    shutil.rmtree(origin)
    return shutil.copytree(origin.parent / "origin", origin)


def content(world):
    """Every file, without what differs between two undisturbed runs."""
    found = {}
    for path in sorted(world.rglob("*")):
        name = path.relative_to(world).as_posix()
        if path.is_dir() or name.endswith(".lock"):
            continue
        if path.suffix == ".jsonl":
            found[name] = [without_time(json.loads(line)) for line in path.read_text().splitlines()]
        elif path.suffix == ".json":
            found[name] = without_time(json.loads(path.read_text()))
        else:
            found[name] = None if path.suffix == ".key" else path.read_bytes()
    return found


def without_time(value):
    if isinstance(value, dict):
        return {key: without_time(item) for key, item in value.items() if not key.endswith(_VARYING)}
    return [without_time(item) for item in value] if isinstance(value, list) else value


def moments_of(world, to, monkeypatch, command):
    """Run a command; returns copies of the world as a kill before each of its changes to the disk would leave it."""
    copies, seen = [], set()

    def copy_first(real):
        def change(*given, **named):
            looks = hash(tuple((str(path), path.stat().st_mtime_ns) for path in sorted(world.rglob("*"))))
            if looks not in seen:
                seen.add(looks)
                copies.append(to / str(len(copies)))
                with monkeypatch.context() as own:
                    for name, original in originals.items():
                        own.setattr(os, name, original)
                    shutil.copytree(world, copies[-1])
            return real(*given, **named)

        return change

    originals = {name: getattr(os, name) for name in ("replace", "rename", "unlink", "mkdir", "rmdir", "fsync")}
    with monkeypatch.context() as watched:
        for name, real in originals.items():
            watched.setattr(os, name, copy_first(real))
        command()
    return copies


def check_moments(world, tmp_path, monkeypatch, *, erase, every):
    def command():
        return forget_ids(world / "out", world.parent / "ids", erase=erase)

    copies = moments_of(world, tmp_path / "copies", monkeypatch, command)
    expected = content(world)
    assert not any(name.endswith((".tmp", "deletion.json")) for name in expected)
    assert len(copies) > 60
    for copied in copies[every // 2 :: every]:
        shutil.rmtree(world)
        shutil.copytree(copied, world)
        if copied.joinpath("out", "deletion.json").exists() or not copied.joinpath("data-v2").exists():
            command()
        else:  # all was done but for the last trace of the journal
            with pytest.raises(SweepError, match="or they were erased before"):
                command()
        after = content(world)
        assert after.keys() == expected.keys(), copied
        assert [name for name in after if after[name] != expected[name]] == [], copied


def test_the_same_command_goes_on_from_where_it_was_killed(world, tmp_path, monkeypatch):
    check_moments(world, tmp_path, monkeypatch, erase=True, every=16)


@pytest.mark.slow
@pytest.mark.parametrize("erase", [pytest.param(False, id="forget"), pytest.param(True, id="erase")])
def test_the_same_command_goes_on_from_any_moment(world, tmp_path, monkeypatch, erase):
    check_moments(world, tmp_path, monkeypatch, erase=erase, every=1)


def test_others_say_what_is_unfinished_and_how_to_finish_it(world, monkeypatch, capsys):
    """A kill through the command line; then other commands; then the sweep's folder alone finishes it."""
    out, ids = world / "out", str(world.parent / "ids")
    program = """
        import os, signal, sys
        from fairsweep.sweeps.execution import forget
        real, calls = forget.erase_from_trial, []
        def deadly(*given):
            calls.append(given)
            if len(calls) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*given)
        forget.erase_from_trial = deadly
        from fairsweep.sweeps.cli.app import main
        sys.argv = ["fairsweep", *sys.argv[1:]]
        main()
    """
    command = [sys.executable, "-c", textwrap.dedent(program), "forget", str(out), "--ids", ids, "--erase"]
    ended = subprocess.run(command, env=os.environ, timeout=300, check=False, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    said = f"an erasure of 3 examples from {out} is unfinished; finish it with: fairsweep forget {out}"
    assert explain_unfinished(out) == said
    with pytest.raises(SweepError, match=re.escape(said)):
        forget_ids(out, [0, 3])
    with pytest.raises(SweepError, match=re.escape(said)):
        forget_ids(next(out.glob("trials/a*")), Path(ids), erase=True)
    with pytest.raises(SweepError, match=re.escape(said)):
        OutputFolder.at(out).check(name="toy", content=(), trials=(), needed_bytes=0)
    ls(out)
    assert said in capsys.readouterr().err
    done = forget_ids(out, None)
    assert done.erasure.dataset == world / "data-v2"
    assert explain_unfinished(out) is None
    with pytest.raises(SweepError, match="there is no unfinished request"):
        forget_ids(out, None)


def test_nothing_is_changed_where_a_request_cannot_be_served(world):
    before = content(world)
    (trial, _) = sorted((world / "out" / "trials").glob("[ab]*"))
    known = read_placement(trial / PLACEMENT).column("id").to_pylist()[0]
    with pytest.raises(SweepError, match=r"no trial .* trained on these ids .*: 1;"):
        forget_ids(world / "out", [known, 1])
    with pytest.raises(SweepError, match="cannot read ids from"):
        forget_ids(world / "out", world / "none.csv", erase=True)
    assert content(world) == before


def test_images_are_named_by_their_files_also_when_the_request_was_cut_short(world, monkeypatch):
    """The second try cannot look the names up any more: examples and dataset have lost them."""
    out = world / "out"
    results = analysis.load(out)
    ids = read_placement(next(out.glob("trials/a*")) / PLACEMENT).column("id").to_pylist()[5:7]
    names = results.source_paths(ids).tolist()
    assert names == [f"{('left', 'right')[example % 2]}/{example // 2}.png" for example in ids]

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(forget, "purge_copies", fail)
        with pytest.raises(KeyboardInterrupt):
            forget_ids(out, files=names, erase=True)
    with pytest.raises(SweepError, match=r"an erasure of 2 examples .* is unfinished"):
        forget_ids(out, files=names[:1], erase=True)
    done = forget_ids(out, files=names, erase=True)
    assert len(PreparedDataset.open(done.erasure.dataset)) == 958
    assert results.source_paths([-5]).isna().all()
    with pytest.raises(SweepError, match="no image of these names"):
        forget_ids(out, files=names)
