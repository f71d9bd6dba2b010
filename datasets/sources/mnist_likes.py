"""Fashion-MNIST and Kuzushiji-MNIST: IDX files like MNIST's, with class names as labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from fairsweep.datasets.sources.idx import Idx
from fairsweep.datasets.storage.layout import Attribute


@dataclass(frozen=True)
class _Named(Idx):
    """IDX files with known labels; unlike MNIST's, none are bundled, so that `raw` must be given."""

    raw: str | Path = field()

    values: ClassVar[tuple[str, ...]]

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """The label by its names."""
        return (Attribute(name=self.attribute, values=self.values),)


@dataclass(frozen=True)
class FashionMnist(_Named):
    """Reads Fashion-MNIST; see `Idx`.

    References:
        Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747, table 2.
    """

    attribute: str = "garment"
    name: str = "fashion-mnist"

    values: ClassVar[tuple[str, ...]] = (
        *("t-shirt", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
    )


@dataclass(frozen=True)
class KuzushijiMnist(_Named):
    """Reads Kuzushiji-MNIST; see `Idx`.

    References:
        Clanuwat et al. 2018, arXiv 1812.01718, section 2.
    """

    attribute: str = "character"
    name: str = "kmnist"

    values: ClassVar[tuple[str, ...]] = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
