"""Preparing a source: the same bytes from any number of workers or attempts, damage counted, nothing half made."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pytest
from filelock import FileLock

from fairsweep.datasets.preparation.preparing import prepare
from fairsweep.datasets.raw.damaged import Damaged
from fairsweep.datasets.sources.faces import Faces
from fairsweep.datasets.storage.prepared import Attribute, DatasetError, PreparedDataset


@dataclass(frozen=True)
class Tiles:
    """A source made up for these tests: id i is a tile of the grey i, or damaged where 7 divides i - 3."""

    count: int = 100
    damage: bool = True
    name: str = "tiles"
    version: str = "1"

    attributes = (Attribute(name="bright", values=("no", "yes")),)
    image_shape = (4, 3, 1)

    def examples(self):
        ids = np.arange(self.count)
        split = np.where(ids % 5 == 0, "test", "train")
        return pa.table({"id": ids, "bright": (ids >= self.count // 2).astype(np.int16), "split": split})

    def images(self, ids):
        for example in ids.tolist():
            if self.damage and example % 7 == 3:
                yield Damaged(f"tile {example} is broken")
            else:
                yield np.full(self.image_shape, example, np.uint8)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_prepared_is_what_the_source_gives(tmp_path):
    source = Tiles(damage=False)
    info = prepare(source, tmp_path / "set", parallel=False, rows_per_shard=16)
    dataset = PreparedDataset.open(tmp_path / "set")
    assert dataset.info == info
    assert (info.name, info.version, info.skipped) == ("tiles", "1", ())
    assert info.counts == {"train": 80, "validation": 0, "test": 20}
    assert [shard.rows for shard in info.shards] == [16] * 6 + [4]
    images = np.concatenate([dataset.shard_images(number) for number in range(7)])
    np.testing.assert_array_equal(images[:, 0, 0, 0], np.arange(100))
    np.testing.assert_array_equal(dataset.codes("bright"), np.arange(100) >= 50)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


def test_damaged_images_are_skipped_counted_and_listed_in_order(tmp_path):
    info = prepare(Tiles(), tmp_path / "set", parallel=False, rows_per_shard=16, max_damaged=0.2)
    lost = list(range(3, 100, 7))
    assert [(entry.id, entry.reason) for entry in info.skipped] == [(i, f"tile {i} is broken") for i in lost]
    dataset = PreparedDataset.open(tmp_path / "set")
    assert dataset.ids.tolist() == [i for i in range(100) if i not in lost]
    assert sum(info.counts.values()) == 100 - len(lost)
    images = np.concatenate([dataset.shard_images(number) for number in range(len(info.shards))])
    np.testing.assert_array_equal(images[:, 0, 0, 0], dataset.ids)


def test_a_shard_without_a_single_whole_image_is_empty(tmp_path):
    @dataclass(frozen=True)
    class Broken(Tiles):
        def images(self, ids):
            for example in ids.tolist():
                yield Damaged("no") if 10 <= example < 20 else np.full(self.image_shape, example, np.uint8)

    info = prepare(Broken(), tmp_path / "set", parallel=False, rows_per_shard=10, max_damaged=0.1)
    assert [shard.rows for shard in info.shards] == [10, 0, *[10] * 8]
    dataset = PreparedDataset.open(tmp_path / "set")
    assert len(dataset) == 90
    assert dataset.shard_images(1).shape == (0, 4, 3, 1)


@pytest.mark.parametrize("limit", [0.13, 0.0])
def test_more_damage_than_the_limit_is_an_error_that_leaves_nothing(tmp_path, limit):
    # 14 of 100 are damaged.
    with pytest.raises(DatasetError, match=r"of 100 images .*\(id 3: tile 3 is broken.*--max-damaged"):
        prepare(Tiles(), tmp_path / "set", parallel=False, rows_per_shard=16, max_damaged=limit)
    assert list(tmp_path.iterdir()) == []


def test_damage_up_to_the_limit_is_accepted(tmp_path):
    info = prepare(Tiles(), tmp_path / "set", parallel=False, rows_per_shard=16, max_damaged=0.14)
    assert len(info.skipped) == 14


@pytest.mark.parametrize("fields", [{"max_damaged": -0.1}, {"max_damaged": 1.1}, {"rows_per_shard": 0}])
def test_senseless_limits_are_refused(tmp_path, fields):
    with pytest.raises(ValueError, match=r"must be in \[0, 1\] and rows_per_shard >= 1"):
        prepare(Tiles(), tmp_path / "set", parallel=False, **fields)


def test_a_source_that_lists_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="lists none"):
        prepare(Tiles(count=0), tmp_path / "set", parallel=False)


def test_progress_counts_images_and_damage_up_to_the_end(tmp_path):
    seen = []
    prepare(Tiles(), tmp_path / "set", parallel=False, rows_per_shard=25, max_damaged=1, on_progress=seen.append)
    assert [(now.done, now.total) for now in seen] == [(0, 100), (25, 100), (50, 100), (75, 100), (100, 100)]
    assert [now.damaged for now in seen] == [0, 4, 7, 11, 14]


def test_a_target_that_holds_something_is_refused_before_any_work(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine").write_text("mine")

    @dataclass(frozen=True)
    class Untouched(Tiles):
        def examples(self):
            raise AssertionError("nothing must be read")

    # What is no dataset, a sweep's results perhaps, is not to be deleted.
    with pytest.raises(DatasetError, match=r"exists already: nothing is overwritten; choose another folder$"):
        prepare(Untouched(), tmp_path / "set", parallel=False)
    assert contents(tmp_path / "set") == {"mine": b"mine"}


def test_two_preparations_of_one_target_do_not_meet(tmp_path):
    with FileLock(tmp_path / ".set.partial.lock"), pytest.raises(DatasetError, match="another preparation is writing"):
        prepare(Tiles(), tmp_path / "set", parallel=False)


def test_ray_is_not_started_behind_the_users_back(tmp_path, monkeypatch):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(RuntimeError, match=r"call ray\.init\(\) first, or give parallel=False"):
        prepare(Tiles(), tmp_path / "set", rows_per_shard=16)


def test_ray_is_connected_only_where_there_are_several_shards(tmp_path, monkeypatch):
    import ray

    asked = []

    def connected():
        asked.append("Ray")
        return nullcontext()

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    info = prepare(Tiles(), tmp_path / "one", max_damaged=1, connected=connected)
    assert asked == []
    assert len(info.shards) == 1
    with pytest.raises(RuntimeError):
        prepare(Tiles(), tmp_path / "several", rows_per_shard=16, max_damaged=1, connected=connected)
    assert asked == ["Ray"]


# --- the same bytes ---


@pytest.mark.timeout(300)
def test_workers_of_ray_write_the_same_bytes_as_this_process(tmp_path, ray_session):
    source = Faces(count=160, size=16)
    prepare(source, tmp_path / "here", parallel=False, rows_per_shard=32)
    prepare(source, tmp_path / "ray", rows_per_shard=32)
    assert contents(tmp_path / "ray") == contents(tmp_path / "here")


class Stop(Exception):  # noqa: N818 - it stands for a crash
    pass


def stop_after(done):
    def on_progress(now):
        if now.done >= done:
            raise Stop

    return on_progress


def interrupted(source, to, done, **fields):
    with pytest.raises(Stop):
        prepare(source, to, parallel=False, rows_per_shard=10, on_progress=stop_after(done), **fields)
    assert not to.exists()


def test_an_interrupted_preparation_goes_on_where_it_was(tmp_path):
    fields = {"parallel": False, "rows_per_shard": 10, "max_damaged": 1}
    prepare(Tiles(), tmp_path / "whole", **fields)
    interrupted(Tiles(), tmp_path / "set", 40, max_damaged=1)
    seen = []
    prepare(Tiles(), tmp_path / "set", **fields, on_progress=seen.append)
    assert seen[0].done == 40
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "whole"]


@pytest.mark.parametrize("change", [{"version": "2"}, {"count": 99}, {"damage": False}])
def test_shards_of_another_source_are_not_taken_over(tmp_path, change):
    interrupted(Tiles(), tmp_path / "set", 40, max_damaged=1)
    seen = []
    source = replace(Tiles(), **change)
    fields = {"parallel": False, "rows_per_shard": 10, "max_damaged": 1}
    prepare(source, tmp_path / "set", **fields, on_progress=seen.append)
    assert seen[0].done == 0
    prepare(source, tmp_path / "whole", **fields)
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")


@pytest.mark.parametrize("spoiled", ["source.json", "00001.json", "shards/00001.parquet"])
@pytest.mark.parametrize("how", ["empty", "gone"])
def test_what_an_earlier_attempt_left_half_written_is_written_again(tmp_path, spoiled, how):
    interrupted(Tiles(), tmp_path / "set", 40, max_damaged=1)
    path = tmp_path / ".set.partial" / spoiled
    assert path.exists()
    if how == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
    fields = {"parallel": False, "rows_per_shard": 10, "max_damaged": 1}
    prepare(Tiles(), tmp_path / "set", **fields)
    prepare(Tiles(), tmp_path / "whole", **fields)
    assert contents(tmp_path / "set") == contents(tmp_path / "whole")


CHILD = """
import sys, time
from pathlib import Path
from fairsweep.datasets.preparation.preparing import prepare
from fairsweep.datasets.sources.faces import Faces

def slowly(now):
    print(now.done, flush=True)
    time.sleep(0.2)

prepare(Faces(count=160, size=16), Path(sys.argv[1]), parallel=False, rows_per_shard=16, on_progress=slowly)
"""


@pytest.mark.parametrize("after", [0, 32, 96])
def test_a_preparation_that_is_killed_leaves_no_dataset_and_can_be_repeated(tmp_path, after):
    target = tmp_path / "set"
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(target)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as child:
        for line in child.stdout:
            if int(line) >= after:
                break
        time.sleep(0.05 * (after % 5))
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    with pytest.raises(DatasetError, match="there is no dataset"):
        PreparedDataset.open(target)
    with pytest.raises(DatasetError, match=r"there is no dataset\.json in it"):
        PreparedDataset.open(tmp_path / ".set.partial")
    source = Faces(count=160, size=16)
    prepare(source, target, parallel=False, rows_per_shard=16)
    prepare(source, tmp_path / "whole", parallel=False, rows_per_shard=16)
    assert contents(target) == contents(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "whole"]
