"""Testing on another prepared dataset than the training one: what must agree, and how its examples are named.

In records an example of the other dataset has the id -1 - id, below 0, where no id of the training dataset is.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from fairsweep.analysis.records.prediction_records import foreign_ids
from fairsweep.datasets.storage.layout import SOURCE_PATH
from fairsweep.datasets.storage.prepared import PreparedDataset


def check_other(dataset: PreparedDataset, other: PreparedDataset, label: str, groups: tuple[str, ...]) -> None:
    """Check that a model trained on one dataset can be tested on another, and groups mean the same in both.

    Args:
        dataset: what is trained on.
        other: what is tested on.
        label: the attribute that is predicted.
        groups: the group attributes.

    Raises:
        ValueError: with the first difference.
    """
    here, there = dataset.info.name, other.info.name
    if dataset.info.image_shape != other.info.image_shape:
        raise ValueError(
            f"images of both datasets must have one shape, but those of {here!r} are {list(dataset.info.image_shape)} "
            f"and those of {there!r} are {list(other.info.image_shape)}: prepare one again with the other's image size"
        )
    for name in dict.fromkeys((label, *groups)):
        known = [attribute.name for attribute in other.info.attributes]
        if name not in known:
            raise ValueError(
                f"{there!r} must have the label and all groups of {here!r}, but has no attribute {name!r} "
                f"(it has {', '.join(known)}): prepare it with one, or leave {name!r} out"
            )
        ours, theirs = dataset.attribute(name).values, other.attribute(name).values
        if ours != theirs:
            raise ValueError(
                f"{name!r} must have the same values in both datasets, in one order, but has {_listed(ours)} in "
                f"{here!r} and {_listed(theirs)} in {there!r}: prepare one of them again"
            )
    for one in (dataset, other):
        if len(one) and one.ids[0] < 0:
            raise ValueError(
                f"ids must be at least 0 when another dataset is tested on, but {one.info.name!r} has the id "
                f"{one.ids[0]}: prepare it with others"
            )


def recorded_examples(
    dataset: PreparedDataset, other: PreparedDataset | None, *, with_source_paths: bool = False
) -> pa.Table:
    """Return what ``examples.parquet`` holds: the examples of the training dataset, then those of the other.

    Attributes that the other lacks, or whose values differ there, are null for its examples; its users are told apart
    as its ids are.

    Args:
        dataset: the training dataset.
        other: the dataset that is tested on, if it is another.
        with_source_paths: also where each image lies in the raw data, as far as the dataset knows. Paths may name
            people: nothing that is released has them.
    """
    examples = _examples(dataset, with_source_paths=with_source_paths)
    if other is None:
        return examples
    table = _examples(other, with_source_paths=with_source_paths)
    columns = []
    for field in examples.schema:
        if field.name in ("id", "user"):
            known = field.name in table.column_names
            columns.append(pa.array(foreign_ids(table.column(field.name).to_numpy())) if known else None)
        elif field.name in ("split", SOURCE_PATH):
            columns.append(table.column(field.name) if field.name in table.column_names else None)
        else:
            columns.append(table.column(field.name) if _shared(dataset, other, field.name) else None)
    schema = pa.schema([pa.field(field.name, field.type) for field in examples.schema])
    arrays = [
        pa.nulls(len(table), field.type) if column is None else pc.cast(column, field.type)
        for field, column in zip(schema, columns, strict=True)
    ]
    return pa.concat_tables([examples.cast(schema), pa.table(arrays, schema=schema)])


def _examples(dataset: PreparedDataset, *, with_source_paths: bool) -> pa.Table:
    examples, paths = dataset.examples(), dataset.source_paths if with_source_paths else None
    return examples if paths is None else examples.append_column(SOURCE_PATH, paths)


def _shared(dataset: PreparedDataset, other: PreparedDataset, name: str) -> bool:
    theirs = {attribute.name: attribute.values for attribute in other.info.attributes}
    return theirs.get(name) == dataset.attribute(name).values


def _listed(values: tuple[str, ...]) -> str:
    shown = ", ".join(values[:8])
    return f"[{shown}, … {len(values)} values]" if len(values) > 8 else f"[{shown}]"
