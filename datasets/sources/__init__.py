"""Where raw images come from: the table of sources. To add one, write its file, then one row here.

Installed packages bring sources without a row.
"""

from __future__ import annotations

import dataclasses
import re
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from fairsweep.datasets.sources.celeba import CelebA
from fairsweep.datasets.sources.faces import Faces
from fairsweep.datasets.sources.folder import Folder
from fairsweep.datasets.sources.hugging_face import HuggingFace
from fairsweep.datasets.sources.idx import Idx
from fairsweep.datasets.sources.mnist_likes import FashionMnist, KuzushijiMnist
from fairsweep.datasets.sources.utkface import UTKFace
from fairsweep.datasets.storage.layout import nearest

# By the name that `fairsweep prepare` takes; each is a dataclass whose fields are its options.
SOURCES: dict[str, type[Any]] = {
    "faces": Faces,
    "mnist": Idx,
    "fashion-mnist": FashionMnist,
    "kmnist": KuzushijiMnist,
    "celeba": CelebA,
    "utkface": UTKFace,
    "folder": Folder,
    "hf": HuggingFace,
}

ENTRY_POINTS = "fairsweep.sources"
"""Group of entry points by which installed packages offer sources of their own."""
_PATH = re.compile(r"[\w.]+:\w+")


def source_type(name: str) -> type[Any]:
    """Return a source: a row of the table, or one of an installed package.

    Args:
        name: A row of `SOURCES`, the name of an entry point in the group ``fairsweep.sources``, or
            ``package.module:Class``.

    Raises:
        ValueError: If there is none; the message names the nearest, or what is wrong with the package's.
    """
    if name in SOURCES:
        return SOURCES[name]
    offered = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    if _PATH.fullmatch(name):
        offered[name] = EntryPoint(name, name, ENTRY_POINTS)
    if name not in offered:
        raise ValueError(
            f"there is no source {name!r}: {nearest(name, [*SOURCES, *offered])}; one of your own is FILE.py:CLASS"
        )
    try:
        found = offered[name].load()
    except Exception as error:  # whatever the package raises
        raise ValueError(f"the source {name!r} does not import: {type(error).__name__}: {error}") from error
    return checked_source(name, found)


def checked_source(name: str, found: object) -> type[Any]:
    """Refuse what is no source.

    Raises:
        ValueError: With what it lacks.
    """
    lacking = [part for part in ("attributes", "image_shape", "examples", "images") if not hasattr(found, part)]
    if not isinstance(found, type) or not dataclasses.is_dataclass(found) or lacking:
        raise ValueError(
            f"{name!r} must be a frozen dataclass with the parts of fairsweep.datasets.sources.source.Source, but "
            + (f"lacks {', '.join(lacking)}" if lacking else f"is {found!r:.80}")
        )
    return found
