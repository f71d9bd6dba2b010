import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairsweep.datasets.storage import reading
from fairsweep.datasets.storage.layout import Attribute, DatasetError
from fairsweep.datasets.storage.prepared import PreparedDataset, write_prepared
from fairsweep.datasets.storage.reading import ShardRequest, StreamError, check_ray, read_pieces, shard_images, spread

COUNT, SHAPE = 50, (4, 6, 3)


@pytest.fixture
def dataset(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (COUNT, *SHAPE), dtype=np.uint8)
    examples = pa.table({"id": np.arange(COUNT) * 7, "label": np.zeros(COUNT, np.int16), "split": ["train"] * COUNT})
    path = write_prepared(
        tmp_path / "noise",
        name="noise",
        attributes=[Attribute(name="label", values=("no", "yes"))],
        examples=examples,
        images=images,
        rows_per_shard=20,
    )
    return PreparedDataset.open(path), images


def request(dataset, number, picks, verify=True, first_slot=0):
    slots = np.arange(len(picks), dtype=np.int64) + first_slot
    return ShardRequest(number, dataset.info.shards[number], verify, np.array(picks, np.int32), slots)


def gathered(tables):
    found = {}
    for table in tables:
        assert table.column("error").null_count == table.num_rows
        images = np.stack([np.frombuffer(image.as_py(), np.uint8) for image in table.column("image")])
        found |= dict(zip(table.column("slot").to_pylist(), images, strict=True))
    return found


def test_a_shard_gives_its_images_in_order(dataset):
    opened, images = dataset
    for number, begin in enumerate((0, 20, 40)):
        read = shard_images(opened.location, opened.info.shards[number], SHAPE)
        np.testing.assert_array_equal(read, images[begin : begin + 20])
        np.testing.assert_array_equal(opened.shard_images(number), read)


def test_the_shards_can_be_read_with_pyarrow_alone(dataset):
    opened, images = dataset
    table = pq.read_table(opened.path / "shards")
    field = table.schema.field("image")
    shape = tuple(int(part) for part in field.metadata[b"shape"].decode().strip("[]").split(","))
    assert shape == SHAPE
    read = np.stack([np.frombuffer(image.as_py(), np.uint8).reshape(shape) for image in table.column("image")])
    np.testing.assert_array_equal(read, images)


@pytest.mark.parametrize("piece_bytes", [1, 300, 10**6])
def test_pieces_bring_what_was_picked_in_any_order_and_number(dataset, monkeypatch, piece_bytes):
    opened, images = dataset
    monkeypatch.setattr(reading, "PIECE_BYTES", piece_bytes)
    picks = {0: [3, 4, 5, 6], 1: [19, 0, 0, 7], 2: list(range(10))}
    requests = [request(opened, number, rows, first_slot=100 * number) for number, rows in picks.items()]
    tables = list(read_pieces(opened.location, requests, SHAPE))
    found = gathered(tables)
    expected = {100 * k + i: images[20 * k + row] for k, rows in picks.items() for i, row in enumerate(rows)}
    assert found.keys() == expected.keys()
    for slot, image in found.items():
        np.testing.assert_array_equal(image.reshape(SHAPE), expected[slot])
    assert max(table.num_rows for table in tables) <= max(1, piece_bytes // (4 * 6 * 3))


def rewrite(dataset, number, change):
    """Writes a shard anew with other images and without another word about it."""
    path = dataset.path / dataset.info.shards[number].file
    table = pq.read_table(path, partitioning=None)
    images = change(np.stack([np.frombuffer(image.as_py(), np.uint8) for image in table.column("image")]))
    column = pa.array([image.tobytes() for image in images], pa.binary(images.shape[1]))
    table = table.select([name for name in table.column_names if name != "image"]).slice(0, len(images))
    pq.write_table(table.append_column("image", column), path)


def test_images_that_are_not_those_that_were_prepared_are_found_where_asked_for(dataset):
    opened, _ = dataset

    def one_bit(images):
        changed = images.copy()
        changed[5, 7] ^= 1
        return changed

    rewrite(opened, 1, one_bit)
    shard = opened.info.shards[1]
    with pytest.raises(DatasetError, match=r"00001.parquet do not match their hash; copy it again"):
        shard_images(opened.location, shard, SHAPE)
    assert shard_images(opened.location, shard, SHAPE, verify=False).shape == (20, *SHAPE)
    (table,) = read_pieces(opened.location, [request(opened, 1, [0])], SHAPE)
    assert "do not match their hash" in table.column("error")[0].as_py()


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("change", [lambda images: images[:-1], lambda images: images[:, :-1]])
def test_missing_rows_and_other_shapes_are_found_even_unverified(dataset, change, verify):
    opened, _ = dataset
    rewrite(opened, 1, change)
    with pytest.raises(DatasetError, match=r"does not hold 20 images of \[4, 6, 3\]"):
        shard_images(opened.location, opened.info.shards[1], SHAPE, verify=verify)


def test_a_shard_that_is_gone_or_garbage_is_told_with_the_remedy(dataset):
    opened, _ = dataset
    (opened.path / opened.info.shards[0].file).unlink()
    (opened.path / opened.info.shards[1].file).write_bytes(b"PAR1 not really")
    for number in (0, 1):
        with pytest.raises(DatasetError, match=r"cannot be read .* run `fairsweep prepare` once more"):
            shard_images(opened.location, opened.info.shards[number], SHAPE)


def pieces(dataset, requests, readers=None):
    return spread(dataset.location, requests, SHAPE, readers=readers, store_bytes=10**8)


@pytest.mark.parametrize("readers", [None, 1])
def test_workers_bring_everything(ray_session, dataset, monkeypatch, readers):
    opened, images = dataset
    monkeypatch.setattr(reading, "_TASK_BYTES", 2000)
    rows = np.random.default_rng(1).permutation(20)
    requests = [request(opened, 0, rows, first_slot=3), request(opened, 2, [9, 9, 1], verify=False)]
    found = [
        (slot, image)
        for slots, part in pieces(opened, requests, readers)
        for slot, image in zip(slots, part, strict=True)
    ]
    expected = [(3 + i, images[row]) for i, row in enumerate(rows)] + [
        (i, images[40 + r]) for i, r in ((0, 9), (1, 9), (2, 1))
    ]
    assert sorted((int(slot), image.tobytes()) for slot, image in found) == sorted(
        (slot, image.tobytes()) for slot, image in expected
    )
    assert list(pieces(opened, [])) == []


def test_damage_found_by_a_worker_is_the_same_error_as_anywhere(ray_session, dataset):
    opened, _ = dataset
    rewrite(opened, 1, lambda images: images[::-1])
    with pytest.raises(DatasetError, match=r"^the dataset at .*00001.parquet do not match their hash") as caught:
        list(pieces(opened, [request(opened, 0, [1]), request(opened, 1, [1])]))
    assert type(caught.value) is DatasetError


def test_a_file_system_that_fails_in_a_worker_is_told(ray_session, dataset):
    opened, _ = dataset
    path = opened.path / opened.info.shards[0].file
    path.unlink()
    path.mkdir()
    with pytest.raises(DatasetError, match=r"00000\.parquet"):
        list(pieces(opened, [request(opened, 0, [1])]))


def test_reading_is_refused_while_trials_hold_every_cpu(ray_session, dataset):
    import ray

    opened, _ = dataset
    check_ray()
    group = ray.util.placement_group([{"CPU": 1}, {"CPU": 1}])
    assert group.wait(60)
    try:
        with pytest.raises(StreamError, match=r"hold 2 of the 2 CPUs: run fewer trials at once"):
            next(pieces(opened, [request(opened, 0, [1])]))
    finally:
        ray.util.remove_placement_group(group)
    check_ray()


def test_a_trial_that_leaves_one_cpu_can_read(ray_session, dataset):
    """From inside a placement group that captures its child tasks, as a trial's does."""
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    opened, images = dataset
    group = ray.util.placement_group([{"CPU": 1}])
    assert group.wait(60)
    inside = PlacementGroupSchedulingStrategy(group, placement_group_capture_child_tasks=True)

    @ray.remote(num_cpus=1, scheduling_strategy=inside)
    def trial(location, requests):
        from fairsweep.datasets.storage.reading import spread

        return [part.copy() for _, part in spread(location, requests, (4, 6, 3), readers=None, store_bytes=10**8)]

    try:
        (found,) = ray.get(trial.remote(opened.location, [request(opened, 0, [7, 8])]), timeout=120)
    finally:
        ray.util.remove_placement_group(group)
    np.testing.assert_array_equal(found.reshape(2, *SHAPE), images[7:9])


def test_ray_data_says_nothing_of_a_streams_reads_and_all_of_others(ray_session):
    check_ray()
    handlers = logging.getLogger("ray.data").handlers
    assert handlers

    def printed(level, text):
        record = logging.LogRecord("ray.data._internal.execution", level, __file__, 1, text, (), None)
        return {bool(handler.filter(record)) for handler in handlers}

    assert printed(logging.INFO, "Starting execution of Dataset fairsweep_stream_1") == {False}
    assert printed(logging.WARNING, "Dataset fairsweep_stream_1 is slow") == {True}
    assert printed(logging.INFO, "Starting execution of Dataset dataset_1") == {True}
