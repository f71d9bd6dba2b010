"""Download of raw data through torchvision's dataset classes, which know the addresses and check the hashes."""

from __future__ import annotations

import urllib.error
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Download:
    """How torchvision fetches a dataset.

    Attributes:
        dataset: Name of the class in `torchvision.datasets`.
        arguments: What the class takes beside `root` and `download`.
        folder: Where below `root` it leaves the raw files, in the form that our source reads.
    """

    dataset: str
    arguments: tuple[tuple[str, str | bool], ...]
    folder: str


# By the name of the source that reads the files.
DOWNLOADS: dict[str, Download] = {
    "mnist": Download("MNIST", (("train", True),), "MNIST/raw"),
    "fashion-mnist": Download("FashionMNIST", (("train", True),), "FashionMNIST/raw"),
    "kmnist": Download("KMNIST", (("train", True),), "KMNIST/raw"),
    "celeba": Download("CelebA", (("split", "all"),), "celeba"),
}


def download(name: str, root: str | Path) -> Path:
    """Fetch a dataset, unless it lies there already.

    Args:
        name: A key of `DOWNLOADS`.
        root: Folder for raw data; each dataset gets a folder of its own in it.

    Returns:
        The folder of raw files, to be given to the dataset's source.

    Raises:
        ValueError: The name is unknown, or the data cannot be fetched.
    """
    if name not in DOWNLOADS:
        raise ValueError(
            f"only {', '.join(DOWNLOADS)} can be downloaded, but got {name!r}: download it yourself and give its path"
        )
    import torchvision

    known = DOWNLOADS[name]
    arguments: dict[str, Any] = dict(known.arguments)
    root = Path(root)
    folder = root / known.folder
    # Outermost last.
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    root.mkdir(parents=True, exist_ok=True)
    try:
        # The class also loads what it has fetched, so that a file cut short is found here.
        getattr(torchvision.datasets, known.dataset)(root=str(root), download=True, **arguments)
    except (RuntimeError, OSError, urllib.error.URLError, ImportError, EOFError, ValueError) as error:
        for path in made:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{name} cannot be downloaded ({reason}): check the connection, or download its files another way and give "
            "their folder (--from RAW)"
        ) from error
    return folder
