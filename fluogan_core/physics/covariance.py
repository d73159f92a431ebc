r""":math:`\Psi\,\mathrm{diag}(x)\,\Psi^T` of tiles of the camera, and its adjoint: what the flicker of x makes pixels share.

Where Psi is a product of two lines, so is every pair's part of it.  Else the pairs of a step v between pixels are one more
blur of x, by :math:`\Psi_{ji}\Psi_{j+v,i}`: the transforms of x's phases, taken once, meet the spectra of all steps at each
frequency in a small matrix product, which is several times faster than rows of Psi as large as a tile sees.
"""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise, product
from typing import Any, Protocol

import numpy as np

from .psi import Psi, ahead

__all__ = ["Part", "parts_of", "tiles"]

#: Sides of a tile, camera pixels: where Psi is a product of lines, and else; and of what is transformed at once.
_OF_PRODUCTS, _OF_ANY, _AT_ONCE = 16, 8, 64

Window = tuple[slice, slice]


class Part(Protocol):
    """Some tiles that are worked on together."""

    cameras: list[Window]  #: the tiles
    fine: Window  #: what they see of the fine grid

    def pairs(self, x: Any) -> list[Any]:
        """Psi diag(x) Psi^T of each tile, (n, n) for its n pixels, given x on the part's fine window."""

    def pull(self, quadratics: list[Any]) -> Any:
        """The adjoint, C_i^T Q C_i added up over the tiles for every fine pixel i of the window."""


def parts_of(psi: Psi, block: int | None = None) -> list[Part]:
    """Cut the camera into tiles of at most ``block`` pixels a side."""
    matrices = psi.axis_matrices
    if matrices is not None:
        return [
            _SeparableTile(matrices, rows, columns, psi)
            for rows, columns in product(*(tiles(size, block or _OF_PRODUCTS) for size in psi.shape))
        ]
    block = block or _OF_ANY
    edges = [tiles(size, block) for size in psi.shape]
    together = max(1, _AT_ONCE // block)
    groups = [[axis[start : start + together] for start in range(0, len(axis), together)] for axis in edges]
    spectra = _Spectra(psi, edges, groups)
    return [_Any(spectra, down, across) for down, across in product(*groups)]


class _SeparableTile:
    """One tile where Psi x = R x C^T: pairs are two small products too, of the lines' own pairs."""

    def __init__(self, matrices: tuple[np.ndarray, np.ndarray], rows: slice, columns: slice, psi: Psi) -> None:
        self.cameras = [(rows, columns)]
        asarray = psi.backend.asarray
        twos, fine = [], []
        for matrix, part in zip(matrices, (rows, columns)):
            seen = np.flatnonzero(matrix[part].any(axis=0))
            fine.append(slice(int(seen[0]), int(seen[-1]) + 1))
            lines = matrix[part, fine[-1]]
            twos.append(asarray((lines[:, None] * lines[None]).reshape(-1, lines.shape[1]), dtype=np.float32))
        self.fine = (fine[0], fine[1])
        self.twos = twos
        self.sides = (rows.stop - rows.start, columns.stop - columns.start)

    def pairs(self, x: Any) -> list[Any]:
        high, wide = self.sides
        both = (self.twos[0] @ x @ self.twos[1].T).reshape(high, high, wide, wide)
        return [both.swapaxes(1, 2).reshape(high * wide, high * wide)]

    def pull(self, quadratics: list[Any]) -> Any:
        high, wide = self.sides
        both = quadratics[0].reshape(high, wide, high, wide).swapaxes(1, 2).reshape(high * high, wide * wide)
        return self.twos[0].T @ both @ self.twos[1]


class _Spectra:
    """What all parts share of a Psi: the spectra of its pairs, by steps between two pixels of a tile."""

    def __init__(self, psi: Psi, edges: list[list[slice]], groups: list[list[list[slice]]]) -> None:
        self.psi = psi
        self.taps = psi.table.shape[2:]
        sides = [max(edge.stop - edge.start for edge in axis) for axis in edges]
        # each step once: the way back shares the same
        self.steps = [(0, across) for across in range(sides[1])]
        self.steps += list(product(range(1, sides[0]), range(1 - sides[1], sides[1])))
        longest = [max(group[-1].stop - group[0].start for group in axis) for axis in groups]
        self._within: dict[tuple[int, int], tuple[Any, Any, Any, Any, Any]] = {}
        # what wraps around reaches no pixel of a part
        self.size = tuple(psi.backend.fft.next_fast_len(far + reach - 1, True) for far, reach in zip(longest, self.taps))

    @cached_property
    def kernels(self) -> Any:
        """(frequencies, steps, phases) complex64."""
        psi, xp, fft = self.psi, self.psi.backend.xp, self.psi.backend.fft
        rows, columns = ((np.arange(reach) + first) % size for reach, first, size in zip(self.taps, psi.origin, self.size))
        phases = psi.factor**2
        made = xp.empty((self.size[0] * (self.size[1] // 2 + 1), len(self.steps), phases), dtype=np.complex64)
        for number, (down, across) in enumerate(self.steps):
            table = psi.table * ahead(ahead(psi.table, down, 2), across, 3)
            placed = np.zeros((phases, *self.size), dtype=np.float32)
            placed[:, rows[:, None], columns] = table.reshape(phases, *self.taps)
            made[:, number] = fft.rfft2(xp.asarray(placed)).reshape(phases, -1).T
        return made

    def within(self, high: int, wide: int) -> tuple[Any, Any, Any, Any, Any]:
        """Of a tile so large: the two pixels of each pair, the number of its step, and the first pixel's row and column."""
        if (high, wide) not in self._within:
            i, j = (a.ravel() for a in np.mgrid[:high, :wide])
            down, across = i[None] - i[:, None], j[None] - j[:, None]
            first, second = np.nonzero((down > 0) | ((down == 0) & (across >= 0)))
            number = {step: place for place, step in enumerate(self.steps)}
            which = [number[int(down[pair]), int(across[pair])] for pair in zip(first, second)]
            found = (self.psi.backend.asarray(np.asarray(a)) for a in (first, second, which, i[first], j[first]))
            self._within[high, wide] = tuple(found)
        return self._within[high, wide]


class _Any:
    """Neighbouring tiles of any Psi."""

    def __init__(self, spectra: _Spectra, down: list[slice], across: list[slice]) -> None:
        self.spectra, psi = spectra, spectra.psi
        self.cameras = [(rows, columns) for rows, columns in product(down, across)]
        # light comes from the pixels this far away, and from as many behind it as there are taps
        firsts = [1 - reach - origin for reach, origin in zip(spectra.taps, psi.origin)]
        near = [
            slice(max(axis[0].start + first, 0), min(axis[-1].stop + first + reach - 1, size))
            for axis, first, reach, size in zip((down, across), firsts, spectra.taps, psi.shape)
        ]
        self.seen = tuple(part.stop - part.start for part in near)
        fine = [slice(part.start * psi.factor, part.stop * psi.factor) for part in near]
        self.fine = (fine[0], fine[1])
        self.corners = [(rows.start - near[0].start, columns.start - near[1].start) for rows, columns in self.cameras]

    def pairs(self, x: Any) -> list[Any]:
        spectra, (high, wide), factor = self.spectra, self.seen, self.spectra.psi.factor
        xp, fft = spectra.psi.backend.xp, spectra.psi.backend.fft
        phases = x.reshape(high, factor, wide, factor).transpose(1, 3, 0, 2).reshape(factor**2, high, wide)
        waves = fft.rfft2(phases, spectra.size).reshape(factor**2, -1).T[:, :, None]
        of_steps = (spectra.kernels @ waves)[:, :, 0].T.reshape(-1, spectra.size[0], spectra.size[1] // 2 + 1)
        shared = fft.irfft2(of_steps, spectra.size)
        made = []
        for (rows, columns), (top, left) in zip(self.cameras, self.corners):
            sides = rows.stop - rows.start, columns.stop - columns.start
            first, second, which, i, j = spectra.within(*sides)
            covariance = xp.empty((sides[0] * sides[1],) * 2, dtype=np.float32)
            covariance[first, second] = covariance[second, first] = shared[which, i + top, j + left]
            made.append(covariance)
        return made

    def pull(self, quadratics: list[Any]) -> Any:
        spectra, (high, wide), factor = self.spectra, self.seen, self.spectra.psi.factor
        xp, fft = spectra.psi.backend.xp, spectra.psi.backend.fft
        of_steps = xp.zeros((len(spectra.steps), high, wide), dtype=np.float32)
        for quadratic, (rows, columns), (top, left) in zip(quadratics, self.cameras, self.corners):
            first, second, which, i, j = spectra.within(rows.stop - rows.start, columns.stop - columns.start)
            both = (quadratic + quadratic.T)[first, second]
            of_steps[which, i + top, j + left] = xp.where(first == second, 0.5 * both, both)
        waves = fft.rfft2(of_steps, spectra.size).reshape(len(spectra.steps), -1).T[:, :, None]
        pulled = (spectra.kernels.swapaxes(1, 2) @ waves.conj())[:, :, 0].conj()
        phases = fft.irfft2(pulled.T.reshape(-1, spectra.size[0], spectra.size[1] // 2 + 1), spectra.size)[:, :high, :wide]
        return phases.reshape(factor, factor, high, wide).transpose(2, 0, 3, 1).reshape(high * factor, wide * factor)


def tiles(size: int, block: int) -> list[slice]:
    """Tiles of at most ``block``, of nearly equal size."""
    edges = np.linspace(0, size, -(-size // block) + 1).round().astype(int)
    return [slice(int(a), int(z)) for a, z in pairwise(edges)]
