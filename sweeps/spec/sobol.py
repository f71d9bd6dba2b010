"""Sobol' points: draws that fill a space more evenly than independent ones.

All drawn dimensions of a sweep share one sequence, so that they are even together: point number n gives every dimension
of sample n its value. The first points of a longer sequence are those of a shorter one: samples can be added.

References:
    Sobol' 1967, doi 10.1016/0041-5553(67)90144-9; scrambling: Matousek 1998, doi 10.1006/jcom.1998.0489.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fairsweep.datasets.selection.randomness import derive
from fairsweep.sweeps.syntax.errors import Location

Coordinate = tuple[str, Location]
"""What keeps the draws of one space apart from another's, and the place of a dimension in it."""


class SobolDraws:
    """The draws of a Sobol' search.

    Args:
        coordinates: every drawn dimension of the sweep, in the order of the file.
        key: of the search.
        samples: how many points are needed.

    Raises:
        ValueError: if there are more dimensions than the sequence is known for.
    """

    def __init__(self, coordinates: Sequence[Coordinate], key: bytes, samples: int) -> None:
        from scipy.stats import qmc

        if len(coordinates) > qmc.Sobol.MAXDIM:
            raise ValueError(f"sobol knows {qmc.Sobol.MAXDIM} dimensions, but the sweep draws {len(coordinates)}")
        self._position = {coordinate: number for number, coordinate in enumerate(coordinates)}
        self._points = _points(len(coordinates), key, (samples - 1).bit_length()) if coordinates else np.empty((0, 0))

    def share(self, purpose: str, place: Location, sample: int) -> float:
        """Where in [0, 1) a dimension of a sample lies."""
        return float(self._points[sample, self._position[purpose, place]])


@functools.lru_cache(maxsize=8)
def _points(dimensions: int, key: bytes, exponent: int) -> npt.NDArray[np.float64]:
    """Return the first 2**exponent points: only so many together are balanced."""
    from scipy.stats import qmc

    # SciPy spawns generators of its own, which one made from a key alone cannot do: it gets a number.
    seed = int.from_bytes(derive(key, "search sobol", dimensions)[:8], "little")
    engine = qmc.Sobol(dimensions, scramble=True, rng=seed)
    return np.asarray(engine.random_base2(exponent), np.float64)
