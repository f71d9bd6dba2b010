"""What every source must do."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest

from fairsweep.datasets.raw.damaged import Damaged
from fairsweep.datasets.storage.layout import SPLITS
from fairsweep.datasets.storage.writing import checked_examples
from fairsweep.sweeps.testing.contract import Contract


class SourceContract(Contract):
    """The suite of sources.

    Attributes:
        source: The source.
        damaged: Ids of the images that are damaged in it.
    """

    given: ClassVar[tuple[str, ...]] = ("source", "damaged")
    source: Any
    damaged: Any = ()

    @pytest.fixture
    def ids(self, source: Any) -> Any:
        """Return a few ids, spread over all."""
        ids = source.examples().column("id").to_numpy()
        return ids[:: max(1, len(ids) // 12)]

    def test_it_says_what_it_is(self, source: Any) -> None:
        assert source.name == source.name.lower()
        assert source.name
        assert source.version
        names = [attribute.name for attribute in source.attributes]
        assert len(set(names)) == len(names) > 0
        height, width, channels = source.image_shape
        assert height > 0
        assert width > 0
        assert channels in (1, 3)

    def test_it_cannot_be_changed(self, source: Any) -> None:
        field = next(iter(source.__dataclass_fields__))
        with pytest.raises(AttributeError):
            setattr(source, field, None)

    def test_it_lists_examples_in_the_form_that_preparing_stores(self, source: Any) -> None:
        table = source.examples()
        assert isinstance(table, pa.Table)
        stored = checked_examples(table, source.attributes)
        assert stored.num_rows == table.num_rows > 0
        assert set(table.column_names) - {"user", "source_path"} == {
            "id",
            "split",
            *(a.name for a in source.attributes),
        }
        assert table.schema.field("id").type == pa.int64()
        assert table.column("id").null_count == 0

    def test_ids_are_unique_and_not_negative(self, source: Any) -> None:
        ids = source.examples().column("id").to_numpy()
        assert len(np.unique(ids)) == len(ids)
        assert ids.min() >= 0

    def test_there_is_something_to_train_on_and_to_test_on(self, source: Any) -> None:
        splits = source.examples().column("split").to_pylist()
        assert set(splits) <= set(SPLITS)
        assert {"train", "test"} <= set(splits)

    def test_asked_again_it_says_the_same(self, source: Any) -> None:
        first, again = source.examples(), source.examples()
        assert first.equals(again)
        assert source.attributes == source.attributes
        assert source.version == source.version

    def test_a_copy_in_another_process_says_the_same(
        self, source: Any, ids: Any, monkeypatch: Any, tmp_path_factory: Any
    ) -> None:
        copy = pickle.loads(pickle.dumps(source))
        # Workers run in folders of their own.
        monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
        assert copy == source
        assert hash(copy) == hash(source)
        assert copy.examples().equals(source.examples())
        assert copy.attributes == source.attributes
        assert_same(copy.images(ids), source.images(ids))

    def test_a_relative_path_is_meant_from_where_it_was_given(
        self, source: Any, ids: Any, monkeypatch: Any, tmp_path_factory: Any
    ) -> None:
        if getattr(source, "raw", None) is None:
            # A source without files has no path.
            return
        monkeypatch.chdir(source.raw.parent)
        relative = type(source)(**{**vars(source), "raw": source.raw.name})
        monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
        assert relative.examples().equals(source.examples())
        assert_same(relative.images(ids), source.images(ids))

    def test_images_are_bytes_in_the_shape_that_it_states(self, source: Any, ids: Any, damaged: Any) -> None:
        images = list(source.images(ids))
        assert len(images) == len(ids)
        for example, image in zip(ids.tolist(), images, strict=True):
            if example not in damaged:
                assert isinstance(image, np.ndarray), image
                assert image.dtype == np.uint8
                assert image.shape == source.image_shape

    def test_an_image_does_not_depend_on_those_beside_it(self, source: Any, ids: Any) -> None:
        together = list(source.images(ids))
        assert_same(source.images(ids[::-1]), together[::-1])
        for example, image in zip(ids[:3], together, strict=False):
            assert_same(source.images(np.array([example])), [image])

    def test_no_ids_give_no_images(self, source: Any) -> None:
        assert list(source.images(np.empty(0, np.int64))) == []

    def test_images_differ(self, source: Any, ids: Any, damaged: Any) -> None:
        whole = [image.tobytes() for image in source.images(ids) if not isinstance(image, Damaged)]
        assert len(set(whole)) > len(whole) // 2

    def test_damage_is_reported_in_its_place_and_not_raised(self, source: Any, damaged: Any) -> None:
        everything = source.examples().column("id").to_numpy()
        found = {
            example: image.reason
            for example, image in zip(everything.tolist(), source.images(everything), strict=True)
            if isinstance(image, Damaged)
        }
        assert sorted(found) == sorted(damaged)
        assert all(found.values())

    def test_it_changes_no_global_state(self, source: Any, ids: Any) -> None:
        # Global generators belong to the caller.
        before = np.random.get_state(legacy=False)["state"]["key"].tobytes()  # noqa: NPY002
        source.examples()
        list(source.images(ids))
        assert np.random.get_state(legacy=False)["state"]["key"].tobytes() == before  # noqa: NPY002


def assert_same(images: Iterable[Any], others: Iterable[Any]) -> None:
    """Compare images, and the reasons of damaged ones."""
    for image, other in zip(images, others, strict=True):
        if isinstance(image, Damaged):
            assert image == other
        else:
            assert np.array_equal(image, other)
