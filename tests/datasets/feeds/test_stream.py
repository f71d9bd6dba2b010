import inspect
import threading
from contextlib import ExitStack
from functools import partial
from itertools import islice

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairsweep.datasets.feeds import stream
from fairsweep.datasets.feeds.resident import ResidentFeed
from fairsweep.datasets.feeds.stream import StreamFeed, StreamLimits
from fairsweep.datasets.selection import sampling
from fairsweep.datasets.selection.sampling import GroupBalanced, Poisson, Shuffled, TruncatedPoisson, WeightedPoisson
from fairsweep.datasets.storage import reading
from fairsweep.datasets.storage.layout import Attribute, DatasetError
from fairsweep.datasets.storage.prepared import PreparedDataset, write_prepared
from fairsweep.datasets.storage.reading import StreamError, read_pieces

COUNT, SHAPE = 150, (5, 4, 3)
IMAGE_BYTES = 60
KEY = b"streams!" * 4
# One line for each sampler: from the number of rows and a random generator to a sampler of a few steps.
SAMPLERS = {
    Shuffled: lambda n, draw: Shuffled(n, draw(st.integers(1, n + 3)), draw(st.integers(0, 3)), KEY),
    Poisson: lambda n, draw: Poisson(n, draw(st.floats(0, 1)), draw(st.integers(0, 12)), KEY),
    TruncatedPoisson: lambda n, draw: TruncatedPoisson(
        n, draw(st.floats(0, 1)), draw(st.integers(0, 12)), draw(st.integers(1, n + 3)), KEY
    ),
    WeightedPoisson: lambda n, draw: WeightedPoisson(
        np.resize([draw(st.floats(0, 1)), draw(st.floats(0, 1))], n), draw(st.integers(0, 12)), KEY
    ),
    GroupBalanced: lambda n, draw: GroupBalanced(
        np.minimum(np.arange(n), draw(st.integers(0, 2))), draw(st.integers(1, n + 3)), draw(st.integers(0, 3)), KEY
    ),
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    images = np.random.default_rng(0).integers(0, 256, (COUNT, *SHAPE), dtype=np.uint8)
    examples = pa.table({"id": np.arange(COUNT) * 3, "label": np.zeros(COUNT, np.int16), "split": ["train"] * COUNT})
    path = write_prepared(
        tmp_path_factory.mktemp("stream") / "noise",
        name="noise",
        attributes=[Attribute(name="label", values=("no", "yes"))],
        examples=examples,
        images=images,
        rows_per_shard=16,
    )
    return PreparedDataset.open(path)


@pytest.fixture(scope="module")
def resident(dataset):
    with ResidentFeed.open(dataset) as feed:
        yield feed


def read_here(location, requests, image_shape, order=0, **_):
    """Stands in for Ray: reads in this process, and gives the pieces in any order."""
    tables = list(read_pieces(location, requests, image_shape))
    for number in np.random.default_rng(order).permutation(len(tables)):
        for batch in tables[number].to_batches():
            yield reading.piece_of(batch, image_shape)


@pytest.fixture
def without_ray(monkeypatch):
    monkeypatch.setattr(stream, "check_ray", lambda: None)
    monkeypatch.setattr(stream, "spread", read_here)


def assert_same(ours, theirs):
    """Batch for batch, id for id, pixel for pixel."""
    count = 0
    for one, other in zip(ours, theirs, strict=True):
        count += 1
        assert one.step == other.step
        for name in ("positions", "rows", "ids", "images"):
            mine = getattr(one, name)
            assert mine.dtype == getattr(other, name).dtype
            np.testing.assert_array_equal(mine, getattr(other, name))
    return count


@st.composite
def runs(draw):
    """Rows, a sampler of one kind, a range of steps, and limits from far too little to enough."""
    rows = np.array(sorted(draw(st.sets(st.integers(0, COUNT - 1), min_size=1))), np.int64)
    if draw(st.booleans()):
        rows = rows[::-1].copy()
    sampler = SAMPLERS[draw(st.sampled_from(list(SAMPLERS)))](len(rows), draw)
    start = draw(st.integers(0, sampler.steps))
    stop = draw(st.one_of(st.none(), st.integers(start, sampler.steps)))
    memory = draw(st.sampled_from([1, 20, 60, 120, 400])) * IMAGE_BYTES
    scratch = draw(st.sampled_from([0, 30, 200, 10_000])) * IMAGE_BYTES
    return rows, sampler, start, stop, {"memory_bytes": memory, "scratch_bytes": scratch}


def test_every_sampler_is_listed_here():
    """A new sampler must join the comparison of the feeds."""
    kinds = {kind for _, kind in inspect.getmembers(sampling, inspect.isclass) if hasattr(kind, "positions")}
    assert kinds - {sampling.Sampler} == set(SAMPLERS)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(run=runs(), order=st.integers(0, 10))
def test_batches_are_those_of_the_resident_feed(
    dataset, resident, without_ray, tmp_path_factory, monkeypatch, run, order
):
    rows, sampler, start, stop, limits = run
    monkeypatch.setattr(stream, "spread", partial(read_here, order=order))
    limits = StreamLimits(**limits, scratch_dir=tmp_path_factory.getbasetemp() / "scratch")
    with StreamFeed.open(dataset, limits) as feed:
        assert_same(feed.batches(rows, sampler, start, stop), resident.batches(rows, sampler, start, stop))
        largest = max((len(sampler.positions(step)) for step in range(sampler.steps)), default=0) * IMAGE_BYTES
        assert feed.usage.peak_memory_bytes <= max(limits.memory_bytes, limits.memory_bytes // 2 + 2 * largest)
        assert feed.usage.peak_scratch_bytes <= limits.scratch_bytes


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(run=runs())
def test_batches_that_ray_reads_are_those_of_the_resident_feed(dataset, resident, ray_session, tmp_path_factory, run):
    rows, sampler, start, stop, limits = run
    limits |= {"memory_bytes": max(limits["memory_bytes"], 60 * IMAGE_BYTES), "scratch_bytes": 2000 * IMAGE_BYTES}
    with StreamFeed.open(dataset, StreamLimits(**limits)) as feed:
        assert_same(feed.batches(rows, sampler, start, stop), resident.batches(rows, sampler, start, stop))


@pytest.mark.parametrize("kind", SAMPLERS)
def test_an_epoch_through_ray_from_the_start_and_from_the_middle(dataset, resident, ray_session, kind):
    rows = np.arange(5, 145)
    sampler = {
        Shuffled: Shuffled(140, 9, 2, KEY),
        Poisson: Poisson(140, 0.07, 30, KEY),
        TruncatedPoisson: TruncatedPoisson(140, 0.07, 30, 9, KEY),
        WeightedPoisson: WeightedPoisson(np.resize([0.05, 0.1], 140), 30, KEY),
        GroupBalanced: GroupBalanced(np.minimum(np.arange(140), 2), 9, 2, KEY),
    }[kind]
    limits = StreamLimits(memory_bytes=100 * IMAGE_BYTES, scratch_bytes=120 * IMAGE_BYTES)
    with StreamFeed.open(dataset, limits) as feed:
        assert assert_same(feed.batches(rows, sampler), resident.batches(rows, sampler)) == sampler.steps
        assert feed.usage.peak_scratch_bytes > 0
        assert_same(feed.batches(rows, sampler, start=17), resident.batches(rows, sampler, start=17))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    asked=st.lists(st.lists(st.integers(0, COUNT - 1), max_size=60), max_size=6),
    memory=st.sampled_from([1, 40, 160, 1000]),
)
def test_images_are_those_of_the_resident_feed(dataset, resident, without_ray, asked, memory):
    with StreamFeed.open(dataset, StreamLimits(memory_bytes=memory * IMAGE_BYTES)) as feed:
        for listed in asked:
            rows = np.array(listed, np.int64)
            images = feed.images(rows)
            np.testing.assert_array_equal(images, resident.images(rows))
            images[:] = 0  # a copy of their own
            np.testing.assert_array_equal(feed.images(rows), resident.images(rows))


def test_what_fits_is_read_once_and_each_shard_no_more_often_than_needed(dataset, without_ray):
    rows, sampler = np.arange(10, 80), Shuffled(70, 8, 5, KEY)
    with StreamFeed.open(dataset, StreamLimits(memory_bytes=200 * IMAGE_BYTES)) as feed:
        for _ in range(3):
            assert sum(len(batch) for batch in feed.batches(rows, sampler)) == 350
        feed.images(np.arange(20, 60))
        # Rows 10 to 79 lie in shards 0 to 4 of 16 rows.
        assert (feed.usage.passes, feed.usage.shards, feed.usage.images) == (1, 5, 70)
        feed.images(np.arange(75, 85))
        assert (feed.usage.passes, feed.usage.shards, feed.usage.images) == (2, 6, 75)


def test_room_is_kept_for_rows_that_are_asked_for_again(dataset, resident, without_ray):
    """Evaluation sets are read once, though the training set comes first and would fill the memory."""
    rows, again = np.arange(90), np.arange(100, 120)
    limits, sampler = StreamLimits(memory_bytes=200 * IMAGE_BYTES), Shuffled(90, 10, 3, KEY)  # 100 images are kept
    with StreamFeed.open(dataset, limits, again) as feed:
        for epoch in range(3):
            part = (rows, sampler, 9 * epoch, 9 * epoch + 9)
            assert_same(feed.batches(*part), resident.batches(*part))
            for start in (100, 110):
                chunk = np.arange(start, start + 10)
                np.testing.assert_array_equal(feed.images(chunk), resident.images(chunk))
        assert feed.usage.images == 3 * 90 + 20
    with StreamFeed.open(dataset, limits) as feed:
        assert sum(len(batch) for batch in feed.batches(rows, sampler, 0, 9)) == 90
        for _ in range(3):
            feed.images(again)
        assert feed.usage.images == 90 + 3 * 20


@pytest.mark.parametrize(("scratch", "passes"), [(0, 8), (56, 3), (1000, 1)])
def test_the_disk_saves_passes_over_the_shards(dataset, without_ray, scratch, passes):
    # 150 images in steps of 10, windows of 20 (3 / 16 of 112 images is 21): 8 windows.
    limits = StreamLimits(memory_bytes=112 * IMAGE_BYTES, scratch_bytes=scratch * IMAGE_BYTES)
    with StreamFeed.open(dataset, limits) as feed:
        for _ in feed.batches(np.arange(COUNT), Shuffled(COUNT, 10, 1, KEY)):
            pass
        assert feed.usage.passes == passes
        assert feed.usage.images == COUNT


@pytest.mark.parametrize("scratch", [0, 1000])
def test_windows_in_which_nobody_joins_are_given_too(dataset, resident, without_ray, scratch):
    rows = np.arange(COUNT)
    sampler = Poisson(COUNT, 0.0005, 400, KEY)
    limits = StreamLimits(memory_bytes=IMAGE_BYTES, scratch_bytes=scratch * IMAGE_BYTES)
    with StreamFeed.open(dataset, limits) as feed:
        batches = list(feed.batches(rows, sampler))
        assert_same(batches, resident.batches(rows, sampler))
    assert 0 < sum(len(batch) for batch in batches) < 100


def test_what_was_read_ahead_serves_the_next_call_and_only_that(dataset, resident, without_ray):
    rows, other_rows = np.arange(COUNT), np.arange(COUNT)[::-1].copy()
    sampler, other = Shuffled(COUNT, 10, 4, KEY), Shuffled(COUNT, 10, 4, KEY[::-1])
    limits = StreamLimits(memory_bytes=100 * IMAGE_BYTES, scratch_bytes=1000 * IMAGE_BYTES)
    with StreamFeed.open(dataset, limits) as feed:
        # Four epochs of 15 steps, an epoch a call, with images of other rows between them: a pass for each epoch.
        for epoch in range(4):
            part = (15 * epoch, 15 * epoch + 15)
            assert_same(feed.batches(rows, sampler, *part), resident.batches(rows, sampler, *part))
            np.testing.assert_array_equal(feed.images(rows[:9]), resident.images(rows[:9]))
        # One pass more is that of the 9 images, which are then kept.
        assert feed.usage.passes == 5
        assert feed.usage.images == 4 * COUNT + 9
        # Whatever comes next, it gets its own batches.
        for this_rows, this, start, stop in (
            (rows, sampler, 0, 15),
            (rows, sampler, 16, 20),
            (rows, sampler, 20, 22),
            (rows, other, 22, 30),
            (other_rows, other, 30, 41),
            (other_rows, other, 41, 60),
            (other_rows, other, 0, 1),
        ):
            part = (this_rows, this, start, stop)
            assert_same(feed.batches(*part), resident.batches(*part))
        assert_same(islice(feed.batches(rows, sampler), 5), islice(resident.batches(rows, sampler), 5))
        assert_same(feed.batches(rows, sampler, 1, 3), resident.batches(rows, sampler, 1, 3))
    assert not [thread for thread in threading.enumerate() if thread.name == "fairsweep-stream"]


def test_two_runs_may_be_read_side_by_side(dataset, resident, without_ray):
    rows = np.arange(COUNT)
    samplers = [Shuffled(COUNT, 10, 1, KEY), Shuffled(COUNT, 10, 1, KEY[::-1])]
    with StreamFeed.open(dataset, StreamLimits(memory_bytes=100 * IMAGE_BYTES)) as feed:
        ours = zip(*(feed.batches(rows, sampler) for sampler in samplers), strict=True)
        theirs = zip(*(resident.batches(rows, sampler) for sampler in samplers), strict=True)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)


def test_a_run_that_is_left_early_lets_go_of_its_thread(dataset, without_ray):
    with StreamFeed.open(dataset, StreamLimits(memory_bytes=100 * IMAGE_BYTES)) as feed:
        batches = feed.batches(np.arange(COUNT), Shuffled(COUNT, 10, 4, KEY))
        next(batches)
        batches.close()
        assert not [thread for thread in threading.enumerate() if thread.name == "fairsweep-stream"]


def test_a_closed_feed_says_so_and_never_ends_a_run_silently(dataset, without_ray):
    with ExitStack() as stack:
        feed = stack.enter_context(StreamFeed.open(dataset, StreamLimits(memory_bytes=100 * IMAGE_BYTES)))
        running = feed.batches(np.arange(COUNT), Shuffled(COUNT, 10, 1, KEY))
        next(running)
    feed.close()
    for use in (
        lambda: list(running),
        lambda: feed.images(np.arange(3)),
        lambda: next(feed.batches(np.arange(2), Shuffled(2, 1, 1, KEY))),
    ):
        with pytest.raises(ValueError, match="closed: open a new one"):
            use()


def test_bad_steps_and_rows_are_refused(dataset, without_ray):
    sampler = Shuffled(3, 1, 1, KEY)
    with StreamFeed.open(dataset) as feed:
        with pytest.raises(ValueError, match="0 <= start <= stop <= 3"):
            list(feed.batches(np.arange(3), sampler, 2, 4))
        for rows in ([0, 1, COUNT], [-1, 0, 1]):
            with pytest.raises(IndexError, match="rows must be in"):
                list(feed.batches(np.array(rows), sampler))
            with pytest.raises(IndexError, match="rows must be in"):
                feed.images(np.array(rows))
        assert list(feed.batches(np.arange(3), sampler, 3)) == []
        assert feed.images(np.empty(0, np.int64)).shape == (0, *SHAPE)


def test_without_a_running_ray_the_remedy_is_told(dataset, monkeypatch):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(
        StreamError, match=r"needs a running Ray: .* call ray.init\(\) first; or take the resident feed"
    ):
        StreamFeed.open(dataset)


def test_damage_in_a_shard_stops_the_run_where_it_is_first_read(dataset, without_ray, tmp_path):
    other = tmp_path / "damaged"
    images = np.zeros((40, *SHAPE), np.uint8)
    examples = pa.table({"id": np.arange(40), "label": np.zeros(40, np.int16), "split": ["train"] * 40})
    attributes = [Attribute(name="label", values=("no", "yes"))]
    write_prepared(other, name="d", attributes=attributes, examples=examples, images=images, rows_per_shard=10)
    opened = PreparedDataset.open(other)
    opened.shards()[2].write_bytes(b"garbage")
    sampler = Shuffled(40, 4, 1, KEY)
    for memory in (10, 1000):
        with StreamFeed.open(opened, StreamLimits(memory_bytes=memory * IMAGE_BYTES)) as feed:
            with pytest.raises(DatasetError, match=r"00002.parquet cannot be read"):
                list(feed.batches(np.arange(40), sampler))
            assert feed.images(np.arange(20)).shape == (20, *SHAPE)


@pytest.mark.parametrize("field", ["memory_bytes", "readers", "scratch_bytes", "unknown"])
def test_limits_are_checked(field):
    with pytest.raises(ValueError, match=field):
        StreamLimits.model_validate({field: -1})
