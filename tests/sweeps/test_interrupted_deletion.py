"""A request for deletion that is cut short at any moment ends, with the same command, as one that ran through."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap

import pytest

from fairsweep.analysis.records import write_examples, write_json
from fairsweep.analysis.unlearning_records import PLACEMENT, read_placement
from fairsweep.sweeps.deletion_journal import explain_unfinished
from fairsweep.sweeps.errors import SweepError
from fairsweep.sweeps.forget import forget_ids
from fairsweep.sweeps.output import OutputFolder
from fairsweep.sweeps.preflight import check_sweep
from fairsweep.sweeps.spec import Sweep
from fairsweep.trainables.trial import Trial

# What differs between two undisturbed runs too: the time, and hashes under a key that is drawn.
_VARYING = ("time", "seconds", "updated", "ids")


@pytest.fixture
def world(mapping, toy_path, tmp_path):
    """A folder with a dataset and a sweep of two trials that can forget and one that cannot, and a way back to it."""
    shutil.copytree(toy_path, tmp_path / "world" / "data")
    out = tmp_path / "world" / "out"
    mapping["dataset"]["path"] = str(tmp_path / "world" / "data")
    mapping["imbalance"] |= {"share": 0.5, "size": 40}
    inner = {"kind": "sgd", "batch_size": 16}
    sisa = {"kind": "sisa", "shards": 2, "slices": 2, "epochs": 1, "inner": inner}
    mapping["learners"] = [sisa | {"name": "a"}, sisa | {"name": "b", "shards": 1}, {"name": "c", "kind": "sgd"}]
    mapping["seeds"] = 1
    mapping["output"] = str(out)
    plan = check_sweep(Sweep.from_mapping(mapping))
    for trial in plan.trials:
        Trial(trial.config, out / "trials" / trial.folder_name).run()
    write_examples(out / "examples.parquet", plan.dataset.examples())
    dataset = {"name": "toy", "path": mapping["dataset"]["path"], "content_hash": plan.dataset.info.content_hash}
    write_json(out / "sweep.json", {"format_version": 1, "name": "toy", "trials": 3, "dataset": dataset, "sweep": {}})
    ids = read_placement(next(out.glob("trials/a*")) / PLACEMENT).column("id").to_pylist()
    (tmp_path / "ids").write_text("\n".join(map(str, (ids[2], ids[9], ids[30]))))
    return tmp_path / "world"


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
            found[name] = None if path.name == "requests.key" else path.read_bytes()
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


@pytest.mark.parametrize("erase", [pytest.param(False, id="forget"), pytest.param(True, id="erase")])
def test_the_same_command_goes_on_from_any_moment(world, tmp_path, monkeypatch, request, erase):
    def command():
        return forget_ids(world / "out", tmp_path / "ids", erase=erase)

    copies = moments_of(world, tmp_path / "copies", monkeypatch, command)
    expected = content(world)
    assert len(copies) > 40
    print(len(copies))
    for copy in copies:
        shutil.rmtree(world)
        shutil.copytree(copy, world)
        command()
        after = content(world)
        assert after.keys() == expected.keys(), copy
        assert [name for name in after if after[name] != expected[name]] == [], copy
