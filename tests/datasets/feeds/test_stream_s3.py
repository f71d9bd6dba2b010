"""Datasets on S3, served by an S3 server on this machine."""

import logging

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import fs

from fairsweep.datasets.feeds.resident import ResidentFeed
from fairsweep.datasets.feeds.stream import StreamFeed, StreamLimits
from fairsweep.datasets.selection.sampling import Poisson, Shuffled
from fairsweep.datasets.storage.layout import Attribute, DatasetError
from fairsweep.datasets.storage.prepared import PreparedDataset, write_prepared

COUNT, SHAPE = 300, (8, 8, 3)
IMAGE_BYTES = 192
CREDENTIALS = ("AKIDEXAMPLE", "not-a-secret")


@pytest.fixture(scope="module")
def server():
    """Host and port of the server."""
    moto_server = pytest.importorskip("moto.server")
    logger = logging.getLogger("werkzeug")
    level = logger.level
    logger.setLevel(logging.ERROR)
    running = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    yield "{}:{}".format(*running.get_host_and_port())
    running.stop()
    logger.setLevel(level)


@pytest.fixture(scope="module")
def bucket(server, tmp_path_factory):
    """A prepared dataset: here, and as bucket/faces on S3."""
    images = np.random.default_rng(0).integers(0, 256, (COUNT, *SHAPE), dtype=np.uint8)
    examples = pa.table({"id": np.arange(COUNT), "label": np.arange(COUNT) % 2, "split": ["train"] * COUNT})
    folder = write_prepared(
        tmp_path_factory.mktemp("s3") / "faces",
        name="noise",
        attributes=[Attribute(name="label", values=("no", "yes"))],
        examples=examples,
        images=images,
        rows_per_shard=64,
    )
    s3 = filesystem(server)
    s3.create_dir("bucket")
    fs.copy_files(str(folder), "bucket/faces", destination_filesystem=s3)
    return PreparedDataset.open(folder), s3


def filesystem(server):
    key, secret = CREDENTIALS
    return fs.S3FileSystem(
        access_key=key,
        secret_key=secret,
        endpoint_override=server,
        scheme="http",
        region="us-east-1",
        allow_bucket_creation=True,
    )


def uri(server, path="bucket/faces"):
    return f"s3://{':'.join(CREDENTIALS)}@{path}?endpoint_override={server}&scheme=http&region=us-east-1"


def test_a_dataset_on_s3_is_the_dataset_here(server, bucket):
    here, s3 = bucket
    for there in (PreparedDataset.open(uri(server)), PreparedDataset.open("bucket/faces", filesystem=s3)):
        assert there.info == here.info
        assert there.examples().equals(here.examples())
        np.testing.assert_array_equal(there.shard_images(3), here.shard_images(3))
        assert CREDENTIALS[1] not in repr(there)
        with pytest.raises(DatasetError, match="not a folder on this machine"):
            _ = there.path


def test_a_stream_from_s3_gives_the_batches_of_the_resident_feed(server, bucket, ray_session, tmp_path):
    here, _ = bucket
    there = PreparedDataset.open(uri(server))
    rows = np.arange(20, 280)
    limits = StreamLimits(memory_bytes=200 * IMAGE_BYTES, scratch_bytes=150 * IMAGE_BYTES, scratch_dir=tmp_path)
    with StreamFeed.open(there, limits) as stream, ResidentFeed.open(here) as resident:
        for sampler in (Shuffled(260, 16, 1, b"s3" * 16), Poisson(260, 0.05, 12, b"s3" * 16)):
            for ours, theirs in zip(stream.batches(rows, sampler, 2), resident.batches(rows, sampler, 2), strict=True):
                assert ours.step == theirs.step
                np.testing.assert_array_equal(ours.ids, theirs.ids)
                np.testing.assert_array_equal(ours.images, theirs.images)
        np.testing.assert_array_equal(stream.images(rows[::9]), resident.images(rows[::9]))
        assert stream.usage.peak_scratch_bytes > 0


def test_the_resident_feed_builds_its_copy_from_s3(server, bucket, tmp_path):
    here, _ = bucket
    with ResidentFeed.open(PreparedDataset.open(uri(server)), tmp_path) as feed:
        images = feed.images(np.arange(COUNT))
    np.testing.assert_array_equal(images, np.concatenate([here.shard_images(k) for k in range(len(here.info.shards))]))


def test_what_is_missing_on_s3_is_told_like_what_is_missing_here(server, bucket):
    _, s3 = bucket
    with pytest.raises(DatasetError, match="there is no dataset at s3://bucket/nowhere: make one with"):
        PreparedDataset.open(uri(server, "bucket/nowhere"))
    fs.copy_files("bucket/faces", "bucket/half", source_filesystem=s3, destination_filesystem=s3)
    s3.delete_file("bucket/half/shards/00002.parquet")
    with pytest.raises(DatasetError, match=r"s3://bucket/half is damaged: shards/00002\.parquet is missing"):
        PreparedDataset.open(uri(server, "bucket/half"))
    s3.delete_file("bucket/half/dataset.json")
    with pytest.raises(DatasetError, match=r"there is no dataset\.json in it"):
        PreparedDataset.open(uri(server, "bucket/half"))


def test_a_shard_that_vanishes_from_s3_stops_the_stream(server, bucket, ray_session):
    _, s3 = bucket
    fs.copy_files("bucket/faces", "bucket/vanishing", source_filesystem=s3, destination_filesystem=s3)
    opened = PreparedDataset.open(uri(server, "bucket/vanishing"))
    s3.delete_file("bucket/vanishing/shards/00004.parquet")
    with StreamFeed.open(opened) as stream, pytest.raises(DatasetError, match=r"shards/00004\.parquet cannot be read"):
        stream.images(np.arange(COUNT))
