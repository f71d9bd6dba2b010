import numpy as np
import psutil
import pyarrow as pa
import pytest

from fairsweep.datasets.feeds import feed_choice
from fairsweep.datasets.feeds.feed_choice import (
    FeedChoice,
    choose_feed,
    cpus_outside_trials,
    decoded_bytes,
    machine_memory,
    open_feed,
)
from fairsweep.datasets.feeds.resident import ResidentFeed
from fairsweep.datasets.feeds.stream import StreamFeed, StreamLimits
from fairsweep.datasets.storage.layout import Attribute
from fairsweep.datasets.storage.prepared import PreparedDataset, write_prepared

COUNT, SHAPE = 20, (4, 5, 3)


@pytest.fixture
def dataset(tmp_path):
    examples = pa.table({"id": np.arange(COUNT), "label": np.arange(COUNT) % 2, "split": ["train"] * COUNT})
    attributes = [Attribute(name="label", values=("no", "yes"))]
    images = np.random.default_rng(0).integers(0, 256, (COUNT, *SHAPE), dtype=np.uint8)
    path = write_prepared(tmp_path / "noise", name="noise", attributes=attributes, examples=examples, images=images)
    return PreparedDataset.open(path)


def test_auto_goes_by_the_decoded_size(dataset):
    assert decoded_bytes(dataset) == 20 * 60
    limits = StreamLimits(memory_bytes=1000)
    for datasets, wish, memory, kind, words in (
        ([dataset], "auto", None, "resident", "they fit into half of it"),
        ([dataset], "auto", 2400, "resident", "they fit into half of it"),
        ([dataset], "auto", 2399, "stream", "they do not fit into half of it"),
        ([dataset, dataset], "auto", 2400, "stream", "they do not fit into half of it"),
        ([dataset], "resident", 1, "resident", "as asked for"),
        ([dataset], "stream", None, "stream", "as asked for"),
    ):
        choice = choose_feed(datasets, wish, limits, memory)
        assert (choice.kind, choice.limits) == (kind, limits)
        assert words in choice.reason
    assert choose_feed([dataset], "stream").limits == StreamLimits()
    assert FeedChoice().kind == "resident"


def test_memory_is_the_container_s_where_that_is_less(tmp_path, monkeypatch):
    total = psutil.virtual_memory().total
    limit, broken = tmp_path / "memory.max", tmp_path / "broken"
    monkeypatch.setattr(feed_choice, "_CGROUP_LIMITS", (broken, limit))
    for text, expected in (("max\n", total), ("123456\n", 123456), (str(2**62), total)):
        limit.write_text(text)
        assert machine_memory() == expected


def test_only_a_stream_needs_a_cpu_outside_trials():
    assert cpus_outside_trials("resident") == 0
    assert cpus_outside_trials("stream") == 1


def test_the_feed_that_was_chosen_is_opened(dataset, ray_session):
    rows = np.arange(COUNT)
    streaming = FeedChoice("stream", StreamLimits(readers=1))
    with open_feed(dataset, FeedChoice()) as resident, open_feed(dataset, streaming, rows[:3]) as stream:
        assert isinstance(resident, ResidentFeed)
        assert isinstance(stream, StreamFeed)
        np.testing.assert_array_equal(resident.images(rows), stream.images(rows))
