"""How a field is cut into tiles: cores that cover it once, halos around them, and ramps that blend neighbours."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..backend.checks import image_shape, whole_number

__all__ = ["Grid", "Tile"]

Span = tuple[int, int]


@dataclass(frozen=True)
class Tile:
    """One tile, in camera pixels of the whole field.

    Attributes
    ----------
    number : int
        From 0, row by row.
    core : two (start, stop)
        Rows and columns; the cores of all tiles cover the field once.
    kept : two (start, stop)
        The core and the ramps around it, which are blended with the neighbours.
    outer : two (start, stop)
        What is fitted: the core and its halo, as far as the field goes.
    """

    number: int
    core: tuple[Span, Span]
    kept: tuple[Span, Span]
    outer: tuple[Span, Span]

    @property
    def shape(self) -> tuple[int, int]:
        """Camera pixels that are fitted."""
        (top, bottom), (left, right) = self.outer
        return bottom - top, right - left

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the field that are read."""
        return slice(*self.outer[0]), slice(*self.outer[1])

    def inside(self, factor: int = 1) -> tuple[slice, slice]:
        """Where the kept part lies in an image of the outer part, ``factor`` pixels per camera pixel."""
        return slices(self.kept, self.outer, factor)


def slices(part: tuple[Span, Span], of: tuple[Span, Span], factor: int = 1) -> tuple[slice, slice]:
    """Where a part lies in an image of a larger one, both in camera pixels of the field."""
    rows, columns = (slice(factor * (a - start), factor * (b - start)) for (a, b), (start, _) in zip(part, of))
    return rows, columns


@dataclass(frozen=True)
class Grid:
    """The tiles of a field, all of about the same size.

    Parameters
    ----------
    shape : (M1, M2)
        Camera pixels of the field.
    size : int
        Largest side of a core; cores are as equal as they can be.
    halo : int
        Camera pixels around a core that are fitted with it.
    blend : int
        Of these, the ones over which neighbours are blended.

    Raises
    ------
    ValueError
        If the halo is not wider than the blended part, or a core is too small for the blended part.

    Examples
    --------
    >>> grid = Grid((100, 64), 64, halo=16, blend=4)
    >>> len(grid.tiles), grid.tiles[1].core, grid.tiles[1].outer
    (2, ((50, 100), (0, 64)), ((34, 100), (0, 64)))
    """

    shape: tuple[int, int]
    size: int
    halo: int
    blend: int

    def __post_init__(self) -> None:
        image_shape(self.shape)
        whole_number(self.size, "tile", low=8)
        whole_number(self.blend, "blend", low=0)
        whole_number(self.halo, "halo", low=0)
        if self.halo <= self.blend:
            raise ValueError(f"halo must be wider than the blended border of {self.blend} camera pixels, got {self.halo}")
        if len(self.tiles) > 1 and min(self.core_shape) < 2 * self.blend:
            raise ValueError(
                f"tiles of {self.core_shape[0]} x {self.core_shape[1]} camera pixels are too small: at least {2 * self.blend} "
                "are needed for the blended borders; take larger tiles"
            )

    @cached_property
    def counts(self) -> tuple[int, int]:
        """Tiles along rows and columns."""
        down, across = (math.ceil(n / self.size) for n in self.shape)
        return down, across

    @cached_property
    def core_shape(self) -> tuple[int, int]:
        """Rows and columns of a core; of the last ones perhaps fewer."""
        down, across = (math.ceil(n / count) for n, count in zip(self.shape, self.counts))
        return down, across

    @cached_property
    def tiles(self) -> tuple[Tile, ...]:
        """All of them, row by row."""
        sides = []
        for n, size in zip(self.shape, self.core_shape):
            cores = [(start, min(start + size, n)) for start in range(0, n, size)]
            sides.append([(core, self._grown(core, n, self.blend), self._grown(core, n, self.halo)) for core in cores])
        made = []
        for number, (down, across) in enumerate(itertools.product(*sides)):
            core, kept, outer = zip(down, across)
            made.append(Tile(number, core, kept, outer))
        return tuple(made)

    @staticmethod
    def _grown(core: Span, n: int, by: int) -> Span:
        return max(0, core[0] - by), min(n, core[1] + by)

    def beside(self, number: int) -> list[Tile]:
        """The tiles that have a part in the core of this one, itself too, in their order."""
        mine = self.tiles[number].core
        return [tile for tile in self.tiles if all(a < stop and start < b for (a, b), (start, stop) in zip(tile.kept, mine))]

    def weight(self, tile: Tile, factor: int = 1) -> np.ndarray:
        """Weight of a tile in the whole image, over its kept part; the weights of all tiles add up to 1 everywhere.

        Parameters
        ----------
        tile : Tile
        factor : int
            Pixels per camera pixel and axis.

        Returns
        -------
        (rows, columns) float32
        """
        down, across = (self._ramp(core, kept, factor) for core, kept in zip(tile.core, tile.kept))
        return np.outer(down, across).astype(np.float32)

    def _ramp(self, core: Span, kept: Span, factor: int) -> np.ndarray:
        """1 inside, falling in a straight line over ``2 blend`` pixels across each border that a neighbour lies beyond."""
        place = (np.arange(factor * kept[0], factor * kept[1]) + 0.5) / factor
        ramp = np.ones(len(place))
        if kept[0] < core[0]:
            ramp = np.minimum(ramp, (place - kept[0]) / (2 * self.blend))
        if kept[1] > core[1]:
            ramp = np.minimum(ramp, (kept[1] - place) / (2 * self.blend))
        return np.clip(ramp, 0.0, 1.0)
