"""The resident feed: right pixels, one copy for all processes, and no trace of a builder that was killed."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fairsweep.datasets.feeds.feed import Batch
from fairsweep.datasets.feeds.machine_copy import CACHE_VARIABLE, cache_root
from fairsweep.datasets.feeds.resident import ResidentFeed
from fairsweep.datasets.selection.randomness import seed_key
from fairsweep.datasets.selection.sampling import Poisson, Shuffled
from fairsweep.datasets.storage.prepared import Attribute, DatasetError, PreparedDataset, write_prepared

KEY = seed_key(1, "train")
TONE = Attribute(name="tone", values=("light", "dark"))


def make_dataset(folder, n=90, seed=0):
    rng = np.random.default_rng(seed)
    ids = np.sort(rng.permutation(10 * n)[:n])
    examples = pa.table({"id": ids, "tone": rng.integers(0, 2, n).astype(np.int16), "split": ["train"] * n})
    images = rng.integers(0, 256, (n, 6, 5, 3), dtype=np.uint8)
    write_prepared(folder, name="pairs", attributes=[TONE], examples=examples, images=images, rows_per_shard=20)
    return PreparedDataset.open(folder), images


@pytest.fixture
def pair(tmp_path):
    """A dataset and its images, row for row."""
    return make_dataset(tmp_path / "set")


def files(cache):
    return sorted(path.suffix for path in (cache / "resident").iterdir())


# --- what it gives ---


def test_images_come_in_the_order_asked_and_are_copies(pair, tmp_path):
    dataset, images = pair
    with ResidentFeed.open(dataset, tmp_path / "cache") as feed:
        rows = np.array([5, 89, 5, 0])
        taken = feed.images(rows)
        assert taken.dtype == np.uint8
        np.testing.assert_array_equal(taken, images[rows])
        taken[:] = 0
        np.testing.assert_array_equal(feed.images(rows), images[rows])
        assert feed.images(np.array([], dtype=np.int64)).shape == (0, 6, 5, 3)


@pytest.mark.parametrize(
    "sampler", [Shuffled(n=40, batch_size=7, epochs=2, key=KEY), Poisson(n=40, sampling_rate=0.05, steps=30, key=KEY)]
)
def test_batches_join_sampler_plan_and_images(pair, tmp_path, sampler):
    dataset, images = pair
    rows = np.sort(np.random.default_rng(1).permutation(90)[:40])
    feed = ResidentFeed.open(dataset, tmp_path / "cache")
    batches = list(feed.batches(rows, sampler))
    assert [batch.step for batch in batches] == list(range(sampler.steps))
    for batch in batches:
        assert isinstance(batch, Batch)
        np.testing.assert_array_equal(batch.positions, sampler.positions(batch.step))
        np.testing.assert_array_equal(batch.rows, rows[batch.positions])
        np.testing.assert_array_equal(batch.ids, dataset.ids[batch.rows])
        np.testing.assert_array_equal(batch.images, images[batch.rows])
        assert len(batch) == len(batch.ids)
        assert batch.images.shape[1:] == (6, 5, 3)
    if isinstance(sampler, Poisson):
        assert any(len(batch) == 0 for batch in batches)


def test_starting_at_any_step_gives_the_same_batches(pair, tmp_path):
    dataset, _ = pair
    sampler = Poisson(n=90, sampling_rate=0.1, steps=12, key=KEY)
    rows = np.arange(90)
    feed = ResidentFeed.open(dataset, tmp_path / "cache")
    whole = list(feed.batches(rows, sampler))
    for start, stop in ((0, 0), (5, 6), (7, None), (12, None), (3, 12)):
        part = list(feed.batches(rows, sampler, start, stop))
        expected = whole[start : 12 if stop is None else stop]
        assert [batch.step for batch in part] == [batch.step for batch in expected]
        for one, other in zip(part, expected, strict=True):
            np.testing.assert_array_equal(one.images, other.images)


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (0, 13), (5, 4), (13, None)])
def test_steps_outside_the_run_are_refused(pair, tmp_path, start, stop):
    feed = ResidentFeed.open(pair[0], tmp_path / "cache")
    sampler = Poisson(n=90, sampling_rate=0.1, steps=12, key=KEY)
    with pytest.raises(ValueError, match="0 <= start <= stop <= 12"):
        list(feed.batches(np.arange(90), sampler, start, stop))


@pytest.mark.parametrize("row", [-1, 90])
def test_rows_that_do_not_exist_are_refused(pair, tmp_path, row):
    feed = ResidentFeed.open(pair[0], tmp_path / "cache")
    with pytest.raises(IndexError):
        feed.images(np.array([3, row]))


def test_a_closed_feed_gives_nothing_and_closes_twice(pair, tmp_path):
    feed = ResidentFeed.open(pair[0], tmp_path / "cache")
    feed.close()
    feed.close()
    with pytest.raises(ValueError, match="this feed is closed: open a new one"):
        feed.images(np.array([0]))


def test_an_empty_dataset_is_fed(tmp_path):
    dataset, _ = make_dataset(tmp_path / "set", n=0)
    feed = ResidentFeed.open(dataset, tmp_path / "cache")
    assert feed.images(np.array([], dtype=np.int64)).shape == (0, 6, 5, 3)


# --- the copy ---


def test_the_cache_folder_is_that_of_the_environment_or_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "mine"))
    assert cache_root() == tmp_path / "mine"
    monkeypatch.delenv(CACHE_VARIABLE)
    assert cache_root() == Path.home() / ".cache" / "fairsweep"


@pytest.mark.parametrize("home", ["file", "/proc/nohome"])
def test_without_a_home_that_can_be_written_to_copies_are_among_the_users_own_temporary_files(
    pair, monkeypatch, tmp_path, home
):
    (tmp_path / "file").touch()
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv("HOME", str(tmp_path / home))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    root = cache_root()
    assert root.parent == tmp_path
    assert root.stat().st_mode & 0o077 == 0
    ResidentFeed.open(pair[0]).close()
    assert (root / "resident").is_dir()
    root.rename(tmp_path / "away")
    root.symlink_to(tmp_path / "away")  # as somebody else may have done in a folder for all
    assert cache_root() == tmp_path / home / ".cache" / "fairsweep"


def test_the_copy_is_kept_by_content_and_used_again(pair, tmp_path, monkeypatch):
    dataset, images = pair
    ResidentFeed.open(dataset, tmp_path / "cache").close()
    monkeypatch.setattr(PreparedDataset, "shard_images", None)  # nothing is decoded a second time
    np.testing.assert_array_equal(ResidentFeed.open(dataset, tmp_path / "cache").images(np.arange(90)), images)
    monkeypatch.undo()
    other, other_images = make_dataset(tmp_path / "other", seed=1)
    np.testing.assert_array_equal(ResidentFeed.open(other, tmp_path / "cache").images(np.arange(90)), other_images)
    assert files(tmp_path / "cache").count(".npy") == 2


@pytest.mark.parametrize("spoil", [b"", b"garbage", None])
def test_a_copy_that_is_cut_short_is_built_anew(pair, tmp_path, spoil):
    dataset, images = pair
    ResidentFeed.open(dataset, tmp_path / "cache").close()
    copy = next((tmp_path / "cache" / "resident").glob("*.npy"))
    copy.write_bytes(copy.read_bytes()[:-1] if spoil is None else spoil)
    np.testing.assert_array_equal(ResidentFeed.open(dataset, tmp_path / "cache").images(np.arange(90)), images)


def test_a_damaged_image_stops_the_build_and_leaves_nothing(pair, tmp_path):
    dataset, _ = pair
    path = dataset.shards()[3]
    path.write_bytes(path.read_bytes()[:100] + bytes(path.stat().st_size - 100))
    with pytest.raises(DatasetError, match=r"00003\.parquet"):
        ResidentFeed.open(dataset, tmp_path / "cache")
    assert ".npy" not in files(tmp_path / "cache")
    assert ".partial" not in files(tmp_path / "cache")


def test_a_cache_that_cannot_be_written_is_said_with_the_remedy(pair, tmp_path):
    (tmp_path / "cache").write_text("a file stands here")
    with pytest.raises(DatasetError, match=f"set {CACHE_VARIABLE} to a folder with space for 0 MB"):
        ResidentFeed.open(pair[0], tmp_path / "cache")


# --- several processes, and death ---

CHILD = """
import sys, time
from pathlib import Path
from fairsweep.datasets.feeds import machine_copy, resident
from fairsweep.datasets.storage.prepared import PreparedDataset

folder, cache, work = map(Path, sys.argv[1:4])
dataset = PreparedDataset.open(folder)
build, shard_images = machine_copy._build, PreparedDataset.shard_images

def counted(*arguments):
    with (work / "builds").open("a") as log:
        log.write("built\\n")
    time.sleep(0.2)  # the others arrive meanwhile
    build(*arguments)

def hanging(self, number):
    if number == 2:
        (work / "hangs").touch()
        time.sleep(600)
    return shard_images(self, number)

machine_copy._build = counted
if len(sys.argv) > 4:
    PreparedDataset.shard_images = hanging
(work / f"ready-{time.time_ns()}").touch()
while not (work / "go").exists():
    time.sleep(0.005)
feed = resident.ResidentFeed.open(dataset, cache)
import hashlib, numpy as np
print(hashlib.sha256(feed.images(np.arange(len(dataset))).tobytes()).hexdigest())
"""


def start(dataset, cache, work, *more):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(dataset.path), str(cache), str(work), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def wait_for(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_eight_processes_that_start_together_build_one_copy(pair, tmp_path):
    dataset, _ = pair
    children = [start(dataset, tmp_path / "cache", tmp_path) for _ in range(8)]
    wait_for(lambda: len(list(tmp_path.glob("ready-*"))) == 8 or any(c.poll() for c in children))
    (tmp_path / "go").touch()
    results = [child.communicate(timeout=120) for child in children]
    assert [child.returncode for child in children] == [0] * 8, results
    assert len({out for out, _ in results}) == 1
    assert (tmp_path / "builds").read_text() == "built\n"
    assert files(tmp_path / "cache").count(".npy") == 1
    assert ".partial" not in files(tmp_path / "cache")


def test_a_builder_that_is_killed_leaves_nothing_that_looks_complete(pair, tmp_path):
    dataset, images = pair
    (tmp_path / "go").touch()
    with start(dataset, tmp_path / "cache", tmp_path, "hang") as child:
        wait_for(lambda: (tmp_path / "hangs").exists() or child.poll() is not None)
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    left = files(tmp_path / "cache")
    assert ".partial" in left
    assert ".npy" not in left
    # The next one is neither blocked by the dead one's lock nor misled by its file, and clears it away.
    np.testing.assert_array_equal(ResidentFeed.open(dataset, tmp_path / "cache").images(np.arange(90)), images)
    assert ".partial" not in files(tmp_path / "cache")


def test_no_flipped_byte_of_a_copy_is_trained_on(pair, tmp_path, monkeypatch):
    dataset, images = pair
    rng = random.Random(20)
    with ResidentFeed.open(dataset, tmp_path / "cache") as feed:
        expected = feed.images(np.arange(90))
    (copy,) = (tmp_path / "cache" / "resident").glob("*.npy")
    whole = copy.read_bytes()
    for number in range(80):
        content = bytearray(whole)
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        # A new file, as a process sees it that has not looked yet.
        copy.unlink()
        copy.write_bytes(content if number else content[: len(content) // 2])
        monkeypatch.setattr("fairsweep.datasets.feeds.copy_checksums._checked", set())
        with ResidentFeed.open(dataset, tmp_path / "cache") as feed:
            np.testing.assert_array_equal(feed.images(np.arange(90)), expected)
    np.testing.assert_array_equal(expected, images)


def test_a_copy_of_several_blocks_is_checked_whole(pair, tmp_path, monkeypatch):
    monkeypatch.setattr("fairsweep.datasets.feeds.copy_checksums.BLOCK_BYTES", 1000)
    dataset, images = pair
    for _ in range(2):
        monkeypatch.setattr("fairsweep.datasets.feeds.copy_checksums._checked", set())
        with ResidentFeed.open(dataset, tmp_path / "cache") as feed:
            np.testing.assert_array_equal(feed.images(np.arange(90)), images)
    (copy,) = (tmp_path / "cache" / "resident").glob("*.npy")
    before = copy.stat().st_ino
    with ResidentFeed.open(dataset, tmp_path / "cache"):
        assert copy.stat().st_ino == before
