"""Where raw images come from: the table of sources. To add one, write its file, then one row here."""

from __future__ import annotations

from typing import Any

from fairsweep.datasets.sources.celeba import CelebA
from fairsweep.datasets.sources.faces import Faces
from fairsweep.datasets.sources.folder import Folder
from fairsweep.datasets.sources.hugging_face import HuggingFace
from fairsweep.datasets.sources.idx import Idx
from fairsweep.datasets.sources.mnist_likes import FashionMnist, KuzushijiMnist
from fairsweep.datasets.sources.utkface import UTKFace

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
