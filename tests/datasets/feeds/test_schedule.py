from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fairsweep.datasets.feeds.schedule import Window, plan_passes, plan_requests, plan_windows
from fairsweep.datasets.selection.sampling import Poisson, Shuffled
from fairsweep.datasets.storage.layout import ShardInfo

KEY = b"schedule" * 4


@dataclass(frozen=True)
class Listed:
    """A sampler that is a list."""

    drawn: list[list[int]]

    @property
    def steps(self):
        return len(self.drawn)

    def positions(self, step):
        return np.array(self.drawn[step], np.int64)


@st.composite
def runs(draw):
    """Rows of a training set, a sampler on them, and a range of its steps."""
    rows = np.array(sorted(draw(st.sets(st.integers(0, 99), min_size=1, max_size=30))), np.int64)
    n = len(rows)
    sampler = draw(
        st.one_of(
            st.builds(Shuffled, st.just(n), st.integers(1, 12), st.integers(0, 3), st.just(KEY)),
            st.builds(Poisson, st.just(n), st.floats(0, 1), st.integers(0, 20), st.just(KEY)),
            st.builds(Listed, st.lists(st.lists(st.integers(0, n - 1), unique=True), max_size=12)),
        )
    )
    start = draw(st.integers(0, sampler.steps))
    return rows, sampler, range(start, draw(st.integers(start, sampler.steps)))


@given(runs(), st.integers(1, 40))
def test_windows_hold_every_step_once_and_as_many_images_as_they_may(run, capacity):
    rows, sampler, steps = run
    windows = list(plan_windows(rows, sampler, steps, capacity))
    listed = [(window.first + k, positions) for window in windows for k, positions in enumerate(window.positions)]
    assert [step for step, _ in listed] == list(steps)
    for step, positions in listed:
        np.testing.assert_array_equal(positions, sampler.positions(step))
    for window in windows:
        needed = np.unique(rows[np.concatenate(window.positions)])
        np.testing.assert_array_equal(window.rows, needed)
        assert len(window.rows) <= capacity or len(window.positions) == 1


@given(runs(), st.integers(1, 40))
def test_a_window_ends_only_where_it_must(run, capacity):
    rows, sampler, steps = run
    windows = list(plan_windows(rows, sampler, steps, capacity))
    for window, after in pairwise(windows):
        one_more = np.concatenate([*window.positions, after.positions[0]])
        assert len(np.unique(one_more)) > capacity or len(one_more) + len(window.positions) >= 8 * capacity


def test_steps_without_anybody_do_not_make_an_endless_window():
    empty = Poisson(5, 0.0, 10_000, KEY)
    windows = plan_windows(np.arange(5), empty, range(10_000), 100)
    assert max(len(window.positions) for window in windows) <= 800


@given(runs(), st.integers(1, 20), st.integers(0, 60))
def test_passes_hold_every_window_once_within_the_room_on_the_disk(run, capacity, spill):
    rows, sampler, steps = run
    windows = list(plan_windows(rows, sampler, steps, capacity))
    passes = list(plan_passes(windows, spill))
    assert [window.first for part in passes for window in part.windows] == [window.first for window in windows]
    for part in passes:
        sizes = [len(window.rows) for window in part.windows]
        np.testing.assert_array_equal(part.offsets, np.cumsum([0, *sizes]))
        assert sum(sizes[1:]) <= spill
    for part, after in pairwise(passes):
        # The next window would not have fitted.
        assert sum(len(w.rows) for w in part.windows[1:]) + len(after.windows[0].rows) > spill


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=8).flatmap(
        lambda sizes: st.tuples(
            st.just(sizes),
            st.lists(st.sets(st.integers(0, sum(sizes) - 1)), min_size=1, max_size=5),
            st.lists(st.booleans(), min_size=len(sizes), max_size=len(sizes)),
        )
    )
)
def test_requests_bring_each_row_to_each_of_its_slots(case):
    sizes, sets, verified = case
    shards = [ShardInfo(file=f"{k}", rows=size, bytes=0, hash="") for k, size in enumerate(sizes)]
    row_sets = [np.array(sorted(rows), np.int64) for rows in sets]
    starts = np.cumsum([0, *sizes])
    wanted = np.concatenate(row_sets)
    found = np.full(len(wanted), -1)
    requests = plan_requests(row_sets, shards, np.array(verified))
    for request in requests:
        assert (found[request.slots] == -1).all()
        found[request.slots] = starts[request.number] + request.picks
        assert ((request.picks >= 0) & (request.picks < request.shard.rows)).all()
        assert request.shard is shards[request.number]
        assert request.verify is not verified[request.number]
        # So that what one set wants of one shard is one run of slots.
        assert (np.diff(request.slots) > 0).all()
    np.testing.assert_array_equal(found, wanted)
    numbers = [request.number for request in requests]
    assert numbers == sorted(set(np.searchsorted(starts, wanted, side="right") - 1))


def test_a_row_that_joins_many_steps_of_a_window_is_held_once():
    drawn = [[0, 1, 2], [2, 1], [0], []] * 2
    (window,) = plan_windows(np.array([10, 20, 30]), Listed(drawn), range(8), 3)
    assert isinstance(window, Window)
    assert window.rows.tolist() == [10, 20, 30]
    assert [positions.tolist() for positions in window.positions] == drawn
