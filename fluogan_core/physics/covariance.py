r"""Covariances of camera pixels that the flicker of x causes, :math:`\Psi\,\mathrm{diag}(x)\,\Psi^T`, in windows.

All windows have the same columns of Psi, given relative to their first pixel.  Where Psi is separable, the covariance of two
pixels is a product of two sums along rows and columns.  Else the columns of a window are one matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ..backend.products import product
from ..backend.typing import Array
from .polyphase import line_table
from .psi import Psi
from .windows import Windows

__all__ = ["WindowCovariances", "tiles"]


def tiles(size: int, block: int) -> list[slice]:
    """Return the tiles of one axis: slices of at most ``block`` pixels, of nearly equal length."""
    edges = np.linspace(0, size, -(-size // block) + 1).round().astype(int)
    return [slice(int(a), int(z)) for a, z in pairwise(edges)]


class WindowCovariances:
    """The map of x to covariances in windows, and its adjoint.

    Parameters
    ----------
    psi : Psi
    windows : Windows

    Attributes
    ----------
    reach : (slice, slice)
        Fine pixels whose light reaches a window, relative to the window's first fine pixel.
    reached : int
        Their number.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> from fluogan_core.physics.covariance import WindowCovariances
    >>> from fluogan_core.physics.windows import windows_of
    >>> psi = fg.Psi(np.ones((3, 3)), (20, 12), 2, backend="numpy")
    >>> seen = WindowCovariances(psi, windows_of(psi.shape, 8))
    >>> seen.pairs(np.ones(psi.fine_shape, np.float32), [0, 3]).shape
    (2, 64, 64)
    """

    def __init__(self, psi: Psi, windows: Windows) -> None:
        self.psi, self.windows, factor = psi, windows, psi.factor
        spans = [
            (-(origin + taps - 1), side - origin) for origin, taps, side in zip(psi.origin, psi.table.shape[2:], windows.sides)
        ]
        self.reach = tuple(slice(low * factor, high * factor) for low, high in spans)
        self.reached = math.prod(reach.stop - reach.start for reach in self.reach)
        self._margin = max(max(-reach.start, reach.stop - side * factor) for reach, side in zip(self.reach, windows.sides))
        asarray = psi.backend.asarray
        reached = [np.arange(reach.start, reach.stop) for reach in self.reach]
        self._lines = None if psi.axis_matrices is None else self._axis_lines(reached)
        if self._lines is not None:
            # two pixels share as much in either order: along each axis every pair is looked at once
            chosen = [np.triu_indices(len(lines)) for lines in self._lines]
            pairs = [lines[i] * lines[j] for lines, (i, j) in zip(self._lines, chosen)]
            self._products = [asarray(pair, dtype=np.float32) for pair in pairs]
            self._spread, self._folded, self._times = (asarray(array) for array in _orders(chosen, windows.sides))
        else:
            self._columns = asarray(self.columns(*reached), np.float32)

    def _axis_lines(self, places: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Columns of a window along each axis, (side, fine pixels), of a Psi that is separable."""
        psi, lines = self.psi, []
        for axis, (side, place) in enumerate(zip(self.windows.sides, places)):
            table, origin = line_table(psi.psf.sum(axis=1 - axis), psi.factor, psi.binning)
            lines.append(_placed(table, origin, side, place))
        return [lines[0] * psi.photons_per_emitter, lines[1]]

    def columns(self, down: np.ndarray, across: np.ndarray) -> np.ndarray:
        """Return the columns of Psi within a window, of emissions at rows and columns relative to it.

        Parameters
        ----------
        down, across : (F1,), (F2,) int
            Fine pixels, relative to the window's first one.

        Returns
        -------
        (n1 * n2, F1 * F2) float64
        """
        psi, (high, wide) = self.psi, self.windows.sides
        rows, phases_down, inside_down = _taps(psi.table.shape[2], psi.origin[0], psi.factor, high, down)
        columns, phases_across, inside_across = _taps(psi.table.shape[3], psi.origin[1], psi.factor, wide, across)
        entries = psi.table[
            phases_down[None, None, :, None],
            phases_across[None, None, None, :],
            rows[:, None, :, None],
            columns[None, :, None, :],
        ]
        entries = entries * (inside_down[:, None, :, None] & inside_across[None, :, None, :])
        return entries.reshape(high * wide, -1)

    def axis_columns(self, down: np.ndarray, across: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Return columns of Psi within a window along each axis, where Psi is separable: their products are :meth:`columns`.

        Parameters
        ----------
        down, across : (F1,), (F2,) int
            Fine pixels, relative to the window's first one.

        Returns
        -------
        (n1, F1) and (n2, F2) float32, or None
        """
        if self._lines is None:
            return None
        first, second = self._axis_lines((down, across))
        return first.astype(np.float32), second.astype(np.float32)

    def _light(self, x: Array, chosen: Sequence[int] | np.ndarray) -> Array:
        """x in the reach of each window, (B, F1, F2)."""
        xp, factor = self.psi.backend.xp, self.psi.factor
        padded = xp.pad(x.astype(np.float32, copy=False), self._margin)
        places = [
            self.psi.backend.asarray(starts[chosen, None] * factor + self._margin + np.arange(reach.start, reach.stop))
            for starts, reach in zip((self.windows.rows, self.windows.columns), self.reach)
        ]
        return padded[places[0][:, :, None], places[1][:, None, :]]

    def pairs(self, x: Array, chosen: Sequence[int] | np.ndarray) -> Array:
        """Return Psi diag(x) Psi^T in some windows.

        Parameters
        ----------
        x : (N1, N2) array
        chosen : sequence of int
            Numbers of windows.

        Returns
        -------
        (B, n, n) float32
        """
        light, (high, wide) = self._light(x, chosen), self.windows.sides
        if self._lines is None:
            columns = self._columns
            return self.psi.backend.xp.stack([(columns * image.ravel()) @ columns.T for image in light])
        both = product(product(self._products[0], light), self._products[1].T)
        found = self.psi.backend.xp.take(both.reshape(len(both), -1), self._spread, axis=1)
        return found.reshape(-1, high * wide, high * wide)

    def pull(self, quadratics: Array, chosen: Sequence[int] | np.ndarray) -> Array:
        """Return the adjoint: C_i^T Q C_i for every fine pixel i, summed over some windows.

        Parameters
        ----------
        quadratics : (B, n, n) float32
        chosen : sequence of int
            Numbers of windows.

        Returns
        -------
        (N1, N2) float32
        """
        xp = self.psi.backend.xp
        if self._lines is None:
            columns = self._columns
            pulled = xp.stack([((quadratic @ columns) * columns).sum(axis=0) for quadratic in quadratics])
        else:
            flat = quadratics.reshape(len(quadratics), -1)
            both = self._times * sum(xp.take(flat, entries, axis=1) for entries in self._folded)
            both = both.reshape(-1, *(len(pairs) for pairs in self._products))
            pulled = product(product(self._products[0].T, both), self._products[1])
        sizes = [reach.stop - reach.start for reach in self.reach]
        pulled = pulled.reshape(len(chosen), *sizes)
        image = xp.zeros(tuple(size + 2 * self._margin for size in self.psi.fine_shape), dtype=np.float32)
        for number, part in zip(chosen, pulled):
            starts = (self.windows.rows[number], self.windows.columns[number])
            top, left = (int(s) * self.psi.factor + self._margin + reach.start for s, reach in zip(starts, self.reach))
            image[top : top + sizes[0], left : left + sizes[1]] += part
        return image[self._margin : -self._margin or None, self._margin : -self._margin or None]


def _orders(chosen: list[tuple[np.ndarray, np.ndarray]], sides: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where pairs of rows and pairs of columns are found in matrices of pairs of pixels, and the other way round.

    Parameters
    ----------
    chosen : two tuples of (P,) int
        The pairs i <= k of rows, and j <= l of columns.
    sides : (n1, n2)

    Returns
    -------
    spread : (n * n,) int64
        The number ``P2 * (i, k) + (j, l)`` of every entry ``(i, j), (k, l)``.
    folded : (4, P1 * P2) int64
        The four entries of such a number; some are the same where i = k or j = l,
    times : (P1 * P2,) float32
        and have this weight then.
    """
    numbers = []
    for (first, second), side in zip(chosen, sides):
        number = np.empty((side, side), dtype=np.int64)
        number[first, second] = number[second, first] = np.arange(len(first))
        numbers.append(number)
    spread = len(chosen[1][0]) * numbers[0][:, None, :, None] + numbers[1][None, :, None, :]
    (i, k), (j, l) = ((a[:, None], b[:, None]) if axis == 0 else (a, b) for axis, (a, b) in enumerate(chosen))
    high, wide = sides
    entries = [
        (row * wide + column) * (high * wide) + other_row * wide + other_column
        for row, other_row in ((i, k), (k, i))
        for column, other_column in ((j, l), (l, j))
    ]
    times = np.where(i == k, 0.5, 1.0) * np.where(j == l, 0.5, 1.0)
    return spread.ravel(), np.stack([entry.ravel() for entry in entries]), times.ravel().astype(np.float32)


def _taps(taps: int, origin: int, factor: int, side: int, places: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Entry of the table for each pixel of a window and each fine pixel, the phases, and which entries there are."""
    own, phases = np.divmod(places, factor)
    entry = np.arange(side)[:, None] - own[None] - origin
    inside = (entry >= 0) & (entry < taps)
    return np.where(inside, entry, 0), phases, inside


def _placed(table: np.ndarray, origin: int, side: int, places: np.ndarray) -> np.ndarray:
    """Columns of one axis, (side, places), of a table (L, T)."""
    entry, phases, inside = _taps(table.shape[1], origin, len(table), side, places)
    return table[phases[None], entry] * inside
