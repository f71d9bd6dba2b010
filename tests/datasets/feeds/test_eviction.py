import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from fairsweep.datasets.feeds.eviction import LIMIT_VARIABLE, cache_limit, evict, mark_used
from fairsweep.datasets.feeds.resident import ResidentFeed
from fairsweep.datasets.storage.layout import Attribute
from fairsweep.datasets.storage.prepared import PreparedDataset, write_prepared

SIZE = 1000


def make_copies(folder, *names):
    """Copies of 1000 bytes, the first one used longest ago."""
    for age, name in enumerate(names):
        (folder / f"{name}.npy").write_bytes(bytes(SIZE))
        os.utime(folder / f"{name}.npy", (1_000_000 + age, 1_000_000 + age))


def left(folder):
    return sorted(path.stem for path in folder.glob("*.npy"))


@pytest.mark.parametrize(
    ("room", "limit", "stay"),
    [
        (0, 4 * SIZE, ["a", "b", "c"]),
        (SIZE, 4 * SIZE, ["a", "b", "c"]),
        (SIZE, 4 * SIZE - 1, ["b", "c"]),
        (2 * SIZE, 3 * SIZE, ["c"]),
        (9 * SIZE, 3 * SIZE, []),
    ],
)
def test_the_copy_used_longest_ago_goes_first_and_no_more_than_needed(tmp_path, room, limit, stay):
    make_copies(tmp_path, "a", "b", "c")
    gone = evict(tmp_path, room, limit)
    assert left(tmp_path) == stay
    assert [path.stem for path in gone] == [name for name in "abc" if name not in stay]


def test_other_files_are_neither_counted_nor_deleted(tmp_path):
    make_copies(tmp_path, "a")
    (tmp_path / "a.lock").write_bytes(bytes(10 * SIZE))
    (tmp_path / "b.1234.partial").write_bytes(bytes(10 * SIZE))
    assert evict(tmp_path, SIZE, 2 * SIZE) == []
    assert {path.name for path in tmp_path.iterdir()} == {"a.npy", "a.lock", "b.1234.partial"}


def test_opening_a_copy_makes_it_young(tmp_path):
    make_copies(tmp_path, "a", "b")
    with (tmp_path / "a.npy").open("rb") as file:
        assert mark_used(file, tmp_path / "a.npy")
    evict(tmp_path, 0, SIZE)
    assert left(tmp_path) == ["a"]


def test_a_copy_that_was_evicted_in_the_moment_between_is_noticed(tmp_path):
    make_copies(tmp_path, "a")
    with (tmp_path / "a.npy").open("rb") as file:
        (tmp_path / "a.npy").unlink()
        assert not mark_used(file, tmp_path / "a.npy")
        make_copies(tmp_path, "a")
        assert not mark_used(file, tmp_path / "a.npy")


def test_a_copy_mapped_by_another_process_stays_until_that_process_dies(tmp_path):
    make_copies(tmp_path, "a", "b")
    code = """
import sys, pathlib, numpy as np
from fairsweep.datasets.feeds.eviction import mark_used
path = pathlib.Path(sys.argv[1])
with path.open("rb") as file:
    mark_used(file, path)
    images = np.memmap(file, np.uint8, "r")
print("mapped", flush=True)
sys.stdin.read()
"""
    arguments = [sys.executable, "-c", code, str(tmp_path / "a.npy")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "mapped\n"
        os.utime(tmp_path / "a.npy", (1, 1))
        assert [path.stem for path in evict(tmp_path, 0, 0)] == ["b"]
        process.kill()
        process.wait()
    assert [path.stem for path in evict(tmp_path, 0, 0)] == ["a"]


def test_the_limit_comes_from_the_environment(monkeypatch):
    monkeypatch.delenv(LIMIT_VARIABLE, raising=False)
    assert cache_limit() == 100 * 10**9
    monkeypatch.setenv(LIMIT_VARIABLE, "0.5")
    assert cache_limit() == 5 * 10**8
    for wrong in ("many", "-1", "nan"):
        monkeypatch.setenv(LIMIT_VARIABLE, wrong)
        with pytest.raises(ValueError, match="must be a number of gigabytes"):
            cache_limit()


def test_resident_feeds_evict_old_copies_and_never_those_in_use(tmp_path, monkeypatch):
    monkeypatch.setenv(LIMIT_VARIABLE, "1e-6")
    random = np.random.default_rng(0)
    datasets = []
    for name in "abc":
        images = random.integers(0, 256, (4, 10, 10, 1), dtype=np.uint8)
        examples = pa.table({"id": np.arange(4), "label": np.zeros(4, np.int16), "split": ["train"] * 4})
        attributes = [Attribute(name="label", values=("no", "yes"))]
        path = write_prepared(tmp_path / name, name=name, attributes=attributes, examples=examples, images=images)
        datasets.append((PreparedDataset.open(path), images))
    (first, first_images), (second, _), (third, _) = datasets
    cache = tmp_path / "cache"
    kept = {dataset.info.content_hash: dataset.info.name for dataset, _ in datasets}
    with ResidentFeed.open(first, cache) as feed:
        ResidentFeed.open(second, cache).close()
        assert {kept[name] for name in left(cache / "resident")} == {"a", "b"}
        # Two copies are the limit: b is not in use, a is.
        ResidentFeed.open(third, cache).close()
        assert {kept[name] for name in left(cache / "resident")} == {"a", "c"}
        np.testing.assert_array_equal(feed.images(np.arange(4)), first_images)
    with ResidentFeed.open(second, cache) as feed:
        assert {kept[name] for name in left(cache / "resident")} == {"b", "c"}
        np.testing.assert_array_equal(feed.images(np.arange(4)), datasets[1][1])
