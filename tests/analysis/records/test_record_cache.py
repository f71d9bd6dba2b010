"""The cache of a large sweep: a copy that is never preferred to what stands in the folders of the trials."""

import random

import numpy as np
import pandas as pd
import pytest

import fairsweep.analysis as analysis
import fairsweep.analysis.records.files as files
import fairsweep.analysis.records.loading as loading
import fairsweep.analysis.records.record_cache as record_cache
import fairsweep.analysis.records.trial_folder as trial_folder
import fairsweep.analysis.results.opened_sweeps as sources
from fairsweep.analysis.records.cell_records import CellsFile, read_cells, write_cells
from fairsweep.analysis.records.file_names import CELLS, TRIALS
from fairsweep.analysis.records.record_cache import CACHE
from fairsweep.analysis.records.trial_cells import TrialCells, combined, separated


@pytest.fixture
def sweep(tmp_path, simulate, monkeypatch):
    """A small sweep that is taken for a large one: six trials done, one running."""
    for module in (loading, sources):
        monkeypatch.setattr(module, "LEAST_TRIALS", 2)
    simulation = simulate["faces"](tmp_path / "s", replicates=1, shares=(0.5, 0.9), per_cell=5)
    simulate["face_trial"](simulation, {"name": "tuned", "kind": "sgd"}, 0.99, 0, state="running")
    return simulation.folder


@pytest.fixture
def read(monkeypatch):
    """Names of the files that are opened."""
    opened = []
    readers = [(trial_folder, name) for name in ("read_json", "read_state", "read_cells")]
    for module, name in [(files, "read_json"), *readers]:
        original = getattr(module, name)

        def noting(path, *rest, _original=original):
            opened.append(str(path))
            return _original(path, *rest)

        monkeypatch.setattr(module, name, noting)
    return opened


def tables(folder, **options):
    results = analysis.load(folder, **options)
    return results.trials, results.rates(["accuracy"], states=None, at="all"), results.cells()


def change_counts(folder):
    """Write the cells of one trial anew, with every count doubled."""
    path = folder / CELLS
    file = read_cells(path)
    doubled = file.table.set_column(
        file.table.column_names.index("count"), "count", [np.asarray(file.table.column("count").to_numpy()) * 2]
    )
    write_cells(path, doubled, list(file.vocabularies.values()), file.label)


def test_finished_trials_are_read_once_and_the_numbers_stay_the_same(sweep, read):
    plain = tables(sweep, cache=False)
    assert not (sweep / CACHE).exists()
    first = tables(sweep)
    assert (sweep / CACHE).exists()
    read.clear()
    again = tables(sweep)
    (running,) = plain[0].loc[plain[0]["state"] == "running", "trial"]
    assert {path.split("/")[-2] for path in read} == {"s", running}
    for one, two, three in zip(plain, first, again, strict=True):
        pd.testing.assert_frame_equal(one, two)
        pd.testing.assert_frame_equal(one, three)


def test_a_trial_that_changed_is_read_again(sweep, read):
    tables(sweep)
    changed = sorted(path for path in (sweep / TRIALS).iterdir() if path.name.startswith("private"))[0]
    change_counts(changed)
    read.clear()
    frame = analysis.load(sweep).rates(["accuracy"], by=())
    assert sum(path.endswith(CELLS) for path in read) == 2  # the changed one and the running one
    sizes = frame.set_index("trial")["n"]
    assert sizes[changed.name] == 2 * sizes.drop(changed.name).iloc[0]
    # An outdated copy is not kept: the cache was written anew.
    read.clear()
    tables(sweep)
    assert sum(path.endswith(CELLS) for path in read) == 1


def test_a_cache_that_is_damaged_or_of_another_version_is_ignored(sweep, monkeypatch):
    expected = tables(sweep)
    whole = (sweep / CACHE).read_bytes()
    (sweep / CACHE).write_bytes(whole[: len(whole) // 2])
    pd.testing.assert_frame_equal(tables(sweep)[1], expected[1])
    (sweep / CACHE).write_bytes(b"")
    pd.testing.assert_frame_equal(tables(sweep)[1], expected[1])
    monkeypatch.setattr(record_cache, "_VERSION", b"another")
    assert record_cache.RecordCache(sweep).names == set()
    pd.testing.assert_frame_equal(tables(sweep)[1], expected[1])


def test_a_folder_that_cannot_be_written_to_is_read_all_the_same(sweep, monkeypatch):
    def refuse(*_):
        raise PermissionError("read-only file system")

    monkeypatch.setattr(record_cache, "write_whole", refuse)
    assert len(tables(sweep)[1]) > 0
    assert not (sweep / CACHE).exists()


def test_a_reader_keeps_what_it_opened_while_another_writes(sweep):
    tables(sweep)
    one = analysis.load(sweep)
    path = sorted((sweep / TRIALS).iterdir())[0]
    change_counts(path)
    other = analysis.load(sweep).cells()
    mine = one.cells()
    assert other["count"].sum() > mine["count"].sum()


def test_a_small_sweep_has_no_cache(tmp_path, simulate):
    simulation = simulate["faces"](tmp_path / "s", replicates=1, shares=(0.5,), per_cell=2)
    analysis.load(simulation.folder).rates()
    assert not (simulation.folder / CACHE).exists()


def test_codes_are_combined_and_separated():
    rng = np.random.default_rng(0)
    sizes = (3, 7, 2, 10)
    codes = [rng.integers(0, size, 50) for size in sizes]
    number = combined(codes, sizes, 50)
    assert number.max() < np.prod(sizes)
    np.testing.assert_array_equal(separated(number, sizes), codes)


def test_cells_in_any_order_are_the_same(sweep):
    path = next((sweep / TRIALS).iterdir()) / CELLS
    file = read_cells(path)
    shuffled = file.table.take(np.random.default_rng(1).permutation(len(file.table)))
    one, two = TrialCells.of(file), TrialCells.of(CellsFile(shuffled, *vars_of(file)))
    np.testing.assert_array_equal(one.evaluations, two.evaluations)
    np.testing.assert_array_equal(one.length, two.length)
    start = 0
    for length in one.length.tolist():
        part = slice(start, start + length)
        mine = sorted(zip(one.cell[part].tolist(), one.count[part].tolist(), strict=True))
        assert mine == sorted(zip(two.cell[part].tolist(), two.count[part].tolist(), strict=True))
        start += length


def vars_of(file):
    return file.groups, file.vocabularies, file.label


def test_a_flipped_byte_makes_the_cache_as_good_as_none(sweep):
    expected = tables(sweep)
    whole, rng = (sweep / CACHE).read_bytes(), random.Random(22)
    for number in range(40):
        content = bytearray(whole)
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        (sweep / CACHE).write_bytes(content if number else content[:5])
        assert record_cache.RecordCache(sweep).names == set()
    for one, other in zip(tables(sweep), expected, strict=True):
        pd.testing.assert_frame_equal(one, other)
    assert len(record_cache.RecordCache(sweep).names) == 6


def test_what_all_cells_mean_is_written_out_once_however_many_trials_there_are(sweep, monkeypatch):
    described, original = [], record_cache._text
    monkeypatch.setattr(record_cache, "_text", lambda schema: described.append(schema) or original(schema))
    tables(sweep)
    assert len(described) == 1
