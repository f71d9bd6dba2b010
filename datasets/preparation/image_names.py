"""From the names of image files to the ids of a prepared dataset."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fairsweep.datasets.storage.layout import DatasetError
from fairsweep.datasets.storage.prepared import PreparedDataset

_SHOWN = 8


def read_names(path: Path) -> tuple[str, ...]:
    """Read names of files, one a line; empty lines are left out.

    Raises:
        ValueError: If the file cannot be read or names nothing.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read names of files from {path}: {error}") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise ValueError(f"{path} must hold names of files, one a line, but it is empty")
    return names


def ids_of_images(dataset: PreparedDataset, names: Iterable[str]) -> NDArray[np.int64]:
    """Find images by the files that they were prepared from.

    Args:
        dataset: The dataset.
        names: For each image its path in the raw data, or as much of the end of it as is needed to be unambiguous:
            ``17.png`` stands for ``women/17.png`` where there is only one.

    Returns:
        int64 [k], ascending, each once.

    Raises:
        DatasetError: If the dataset knows no files, a name fits none, or several; the message lists the candidates.
    """
    if dataset.source_paths is None:
        raise DatasetError(
            f"the dataset at {dataset.location} does not know the files of its images (its source has none, or an "
            "earlier fairsweep prepared it): name the ids"
        )
    paths: list[str] = dataset.source_paths.to_pylist()
    exact = {path: row for row, path in enumerate(paths)}
    by_name: dict[str, list[int]] = {}
    for row, path in enumerate(paths):
        by_name.setdefault(path.rsplit("/", 1)[-1], []).append(row)
    rows, unknown = set(), []
    for name in names:
        wanted = unicodedata.normalize("NFC", name.strip()).replace("\\", "/").removeprefix("./")
        if wanted in exact:
            rows.add(exact[wanted])
            continue
        ending = f"/{wanted}"
        found = [row for row in by_name.get(wanted.rsplit("/", 1)[-1], ()) if paths[row].endswith(ending)]
        if len(found) > 1:
            raise DatasetError(
                f"{name!r} must name one image, but {len(found)} fit: {_listed([paths[row] for row in found])}; "
                "name it with its folder"
            )
        if found:
            rows.update(found)
        else:
            unknown.append(name)
    if unknown:
        raise DatasetError(
            f"the dataset at {dataset.location} has no image of these names: {_listed(unknown)}; names are as in the "
            f"folder that was prepared, for instance {paths[0] if paths else ''}"
        )
    return dataset.ids[np.array(sorted(rows), dtype=np.int64)]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")
