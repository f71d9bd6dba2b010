"""The embedded dataset: drawn faces. They show the software and prove nothing about people.

Every picture is a function of (key, id, its attributes) alone. In every split the attributes are balanced against each
other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairsweep.datasets.raw.damaged import Damaged
from fairsweep.datasets.selection.randomness import generator, seed_key
from fairsweep.datasets.sources.camera import Shot
from fairsweep.datasets.sources.portrait import SKIN, Person, draw
from fairsweep.datasets.storage.layout import Attribute

# Upper edges of the age bins, inclusive, as UTKFace's users bin them.
AGE_EDGES = (2, 9, 20, 27, 45, 65, 90)
_LEVELS_OF_GROUP = len(SKIN) // 2
# Two values each of smiling, tone, shape and glasses; then every pair of a level and an age bin.
_BLOCK = 16
_ROUND = _BLOCK * _LEVELS_OF_GROUP * len(AGE_EDGES)


@dataclass(frozen=True)
class Faces:
    """Draws faces.

    Attributes:
        count: Number of faces, >= 48.
        size: Pixels of an edge, >= 16.
        seed: Public number; another one draws other faces.
    """

    count: int = 12_000
    size: int = 32
    seed: int = 0

    name: ClassVar[str] = "faces"
    attributes: ClassVar[tuple[Attribute, ...]] = (
        Attribute(name="smiling", values=("no", "yes"), display=("not smiling", "smiling")),
        Attribute(name="tone", values=("light", "dark")),
        Attribute(name="tone_level", values=tuple(str(level + 1) for level in range(len(SKIN)))),
        Attribute(name="shape", values=("round", "long")),
        Attribute(
            name="age",
            values=tuple(
                f"{low}-{high}" for low, high in zip((0, *(e + 1 for e in AGE_EDGES[:-1])), AGE_EDGES, strict=True)
            ),
        ),
        Attribute(name="glasses", values=("no", "yes"), display=("no glasses", "glasses")),
    )

    def __post_init__(self) -> None:
        if self.count < 3 * _BLOCK or self.size < 16:
            raise ValueError(
                f"faces needs count >= {3 * _BLOCK} and size >= 16, but got count={self.count}, size={self.size}"
            )

    @property
    def version(self) -> str:
        """Version of the drawing, and the seed."""
        return f"1-seed{self.seed}"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(size, size, 3)."""
        return (self.size, self.size, 3)

    def split_counts(self) -> dict[str, int]:
        """Return the number of faces of each split: about 19% test, 9.5% validation, in whole rounds of all values."""
        counts = {}
        for split, share in (("validation", 0.095), ("test", 0.19)):
            wanted = int(self.count * share)
            whole = _ROUND if wanted >= _ROUND else _BLOCK
            counts[split] = max(whole, wanted // whole * whole)
        return {"train": self.count - sum(counts.values()), **counts}

    def examples(self) -> pa.Table:
        """List all faces; the attributes of each split are balanced as far as its size divides."""
        columns: dict[str, list[NDArray[np.int16]]] = {attribute.name: [] for attribute in self.attributes}
        splits: list[str] = []
        for split, count in self.split_counts().items():
            for name, codes in _balanced_codes(count).items():
                columns[name].append(codes)
            splits += [split] * count
        # Ids are dealt at random, so that neither a split nor a value has a range of ids of its own.
        ids = generator(seed_key(self.seed, "faces"), "ids").permutation(self.count)
        table = pa.table(
            {"id": ids, **{name: np.concatenate(parts) for name, parts in columns.items()}, "split": splits}
        )
        return table.sort_by("id")

    def images(self, ids: NDArray[np.int64]) -> Iterator[NDArray[np.uint8] | Damaged]:
        """Draws the faces of ids, uint8 [size, size, 3] each."""
        examples = self.examples()
        codes = {attribute.name: examples.column(attribute.name).to_numpy() for attribute in self.attributes}
        for example in ids.tolist():
            # Ids are 0 to count - 1, and examples() is sorted by id.
            yield self.face(example, {name: int(column[example]) for name, column in codes.items()})

    def face(self, example: int, codes: dict[str, int]) -> NDArray[np.uint8]:
        """Draws one face, uint8 [size, size, 3].

        Args:
            example: Its id, which keys all that its attributes leave open.
            codes: Code of each attribute.
        """
        random = generator(seed_key(self.seed, "faces"), "portrait", example)
        youngest = AGE_EDGES[codes["age"] - 1] + 1 if codes["age"] else 0
        person = Person(
            tone_level=codes["tone_level"],
            long=bool(codes["shape"]),
            years=random.uniform(youngest, AGE_EDGES[codes["age"]] + 1),
            glasses=bool(codes["glasses"]),
            smiling=bool(codes["smiling"]),
        )
        shot = Shot.draw(random)
        return shot.take(draw(person, self.size, random), random)


def _balanced_codes(count: int) -> dict[str, NDArray[np.int16]]:
    """Deals codes to `count` faces so that every prefix is as balanced over all attributes as its length allows."""
    index = np.arange(count)
    block = index // _BLOCK
    tone = (index // 2) % 2
    # Five levels and seven age bins are coprime, so counting through both at once meets every pair of them.
    level = tone * _LEVELS_OF_GROUP + block % _LEVELS_OF_GROUP
    codes = {
        "smiling": index % 2,
        "tone": tone,
        "tone_level": level,
        "shape": (index // 4) % 2,
        "age": block % len(AGE_EDGES),
        "glasses": (index // 8) % 2,
    }
    return {name: column.astype(np.int16) for name, column in codes.items()}
