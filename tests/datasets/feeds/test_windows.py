import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairsweep.datasets.feeds.schedule import plan_passes, plan_windows
from fairsweep.datasets.feeds.windows import Gauge, WindowStream
from fairsweep.datasets.selection.sampling import Shuffled
from fairsweep.datasets.storage.layout import DatasetError
from fairsweep.datasets.storage.reading import StreamError

ROWS, IMAGE_BYTES = 60, 5
IMAGES = np.random.default_rng(0).integers(0, 256, (ROWS, IMAGE_BYTES), dtype=np.uint8)


def in_pieces(part, piece, order):
    """The images of a pass, cut into pieces that come in any order."""
    rows = np.concatenate([window.rows for window in part.windows])
    slots = np.arange(len(rows))
    pieces = [slots[start : start + piece] for start in range(0, len(slots), piece)]
    for number in np.random.default_rng(order).permutation(len(pieces)):
        yield pieces[number], IMAGES[rows[pieces[number]]]


def windows_of(capacity, batch=4, epochs=2):
    sampler = Shuffled(ROWS, batch, epochs, b"windows!" * 4)
    return list(plan_windows(np.arange(ROWS), sampler, range(sampler.steps), capacity))


def stream(windows, read, tmp_path, *, capacity, spill):
    memory, scratch = Gauge(), Gauge()
    opened = WindowStream(
        plan_passes(windows, spill),
        read,
        image_bytes=IMAGE_BYTES,
        capacity=capacity,
        scratch_dir=tmp_path / "scratch",
        memory=memory,
        scratch=scratch,
    )
    return opened, memory, scratch


@settings(max_examples=40, deadline=None)
@given(capacity=st.integers(1, 2 * ROWS), spill=st.integers(0, 200), piece=st.integers(1, 70), order=st.integers(0, 99))
def test_every_window_comes_with_its_images_whatever_order_they_came_in(
    tmp_path_factory, capacity, spill, piece, order
):
    windows = windows_of(capacity)
    opened, memory, scratch = stream(
        windows,
        lambda part: in_pieces(part, piece, order),
        tmp_path_factory.getbasetemp(),
        capacity=capacity,
        spill=spill,
    )
    seen = []
    for window, images in opened:
        np.testing.assert_array_equal(images, IMAGES[window.rows])
        seen.append(window.first)
    opened.close()
    assert seen == [window.first for window in windows]
    assert memory.peak <= 2 * max(capacity, 4) * IMAGE_BYTES
    assert scratch.peak <= spill * IMAGE_BYTES


def test_nothing_is_left_on_the_disk_and_no_thread_runs_on(tmp_path):
    opened, _, scratch = stream(windows_of(10), lambda part: in_pieces(part, 7, 0), tmp_path, capacity=10, spill=1000)
    next(iter(opened))
    assert scratch.peak > 0
    assert list((tmp_path / "scratch").iterdir()) == []
    opened.close()
    opened.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "fairsweep-stream"]
    assert list(opened) == []


def test_reading_runs_ahead_by_one_window_and_no_further(tmp_path):
    windows = windows_of(10)
    asked = []
    ahead = threading.Event()

    def read(part):
        asked.append(part.windows[0].first)
        if len(asked) == 2:
            ahead.set()
        yield from in_pieces(part, 100, 0)

    opened, _, _ = stream(windows, read, tmp_path, capacity=10, spill=0)
    iterator = iter(opened)
    next(iterator)
    # The second window is read while the first is consumed; a third buffer for the third window does not exist.
    assert ahead.wait(60)
    assert asked == [window.first for window in windows[:2]]
    opened.close()


def test_a_step_too_large_for_a_buffer_gets_one_of_its_own_and_gives_it_back(tmp_path):
    windows = windows_of(3, batch=50, epochs=3)
    opened, memory, _ = stream(windows, lambda part: in_pieces(part, 9, 1), tmp_path, capacity=3, spill=0)
    for window, images in opened:
        np.testing.assert_array_equal(images, IMAGES[window.rows])
    opened.close()
    assert memory.peak <= 2 * 50 * IMAGE_BYTES


def test_an_error_while_reading_reaches_the_consumer(tmp_path):
    def read(part):
        yield from in_pieces(part, 5, 0)
        raise DatasetError("shard 3 is damaged")

    opened, _, _ = stream(windows_of(10), read, tmp_path, capacity=10, spill=0)
    with pytest.raises(DatasetError, match="shard 3 is damaged"):
        list(opened)
    opened.close()


def test_images_that_do_not_come_are_an_error(tmp_path):
    def read(part):
        yield next(in_pieces(part, 5, 0))

    opened, _, _ = stream(windows_of(10), read, tmp_path, capacity=10, spill=100)
    with pytest.raises(DatasetError, match="gave 5 of "):
        list(opened)
    opened.close()


def test_a_reader_is_closed_when_the_consumer_leaves(tmp_path):
    closed = threading.Event()

    def read(part):
        try:
            while True:
                yield np.zeros(1, np.int64), IMAGES[:1]
        finally:
            closed.set()

    opened, _, _ = stream(windows_of(10), read, tmp_path, capacity=10, spill=0)
    opened.close()
    assert closed.wait(60)


def test_no_room_on_the_disk_is_told_with_the_remedy(tmp_path):
    (tmp_path / "scratch").write_text("a file where the folder should be")
    opened, _, _ = stream(windows_of(10), lambda part: in_pieces(part, 5, 0), tmp_path, capacity=10, spill=100)
    with pytest.raises(StreamError, match=r"cannot keep .* choose another folder \(scratch_dir\)"):
        list(opened)
    opened.close()
