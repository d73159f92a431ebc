r"""Covariances of camera pixels that the flicker of x causes, :math:`\Psi\,\mathrm{diag}(x)\,\Psi^T`, by tiles.

Where Psi is separable, the covariance of two pixels is a product of two sums along rows and columns.  Else the covariances of
all pairs of pixels at one displacement v are a convolution of x with :math:`\Psi_{ji}\Psi_{j+v,i}`.  The phases of x (its
sub-images at one position within a camera pixel) are transformed once; at each frequency a small matrix product with the
spectra of all displacements gives every covariance.
"""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise, product
from typing import Any, Protocol

import numpy as np

from ..backend.typing import Array
from ..tuning import DEFAULT, CovarianceTuning
from .polyphase import ahead
from .psi import Psi

__all__ = ["Part", "Window", "parts_of", "tiles"]

Window = tuple[slice, slice]


class Part(Protocol):
    """Some tiles of the camera that are computed together.

    Attributes
    ----------
    cameras : list of (slice, slice)
        The tiles: rows and columns of the camera.
    fine : (slice, slice)
        The window of the fine grid whose light reaches them.
    """

    cameras: list[Window]
    fine: Window

    def pairs(self, x: Array) -> list[Array]:
        """Return Psi diag(x) Psi^T of each tile, (n, n) for its n pixels, given x on the part's fine window."""

    def pull(self, quadratics: list[Array]) -> Array:
        """Return the adjoint: C_i^T Q C_i, summed over the tiles, for every fine pixel i of the window."""


def parts_of(psi: Psi, block: int | None = None, *, tuning: CovarianceTuning = DEFAULT.covariance) -> list[Part]:
    """Cut the camera into tiles.

    Parameters
    ----------
    psi : Psi
    block : int, optional
        Largest side of a tile, camera pixels; that of ``tuning`` by default.
    tuning : CovarianceTuning, optional
        Sizes that trade time and memory.

    Returns
    -------
    list of Part
        One for each tile where psi is separable, else one for each group of neighbouring tiles.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> from fluogan_core.physics.covariance import parts_of
    >>> psi = fg.Psi(np.ones((3, 3)), (20, 12), 2, backend="numpy")
    >>> [part.cameras for part in parts_of(psi, 12)]
    [[(slice(0, 10, None), slice(0, 12, None))], [(slice(10, 20, None), slice(0, 12, None))]]
    """
    matrices = psi.axis_matrices
    if matrices is not None:
        return [
            _SeparableTile(matrices, rows, columns, psi)
            for rows, columns in product(*(tiles(size, block or tuning.separable_tile) for size in psi.shape))
        ]
    block = block or tuning.other_tile
    edges = [tiles(size, block) for size in psi.shape]
    together = max(1, tuning.group_side // block)
    groups = [[axis[start : start + together] for start in range(0, len(axis), together)] for axis in edges]
    spectra = _Spectra(psi, edges, groups)
    return [_SpectralTiles(spectra, down, across) for down, across in product(*groups)]


class _SeparableTile:
    """One tile where Psi x = R x C^T: its covariances are two small products, with the pairs of rows of R and of C."""

    def __init__(self, matrices: tuple[np.ndarray, np.ndarray], rows: slice, columns: slice, psi: Psi) -> None:
        self.cameras = [(rows, columns)]
        asarray = psi.backend.asarray
        products, fine = [], []
        for matrix, part in zip(matrices, (rows, columns)):
            seen = np.flatnonzero(matrix[part].any(axis=0))
            fine.append(slice(int(seen[0]), int(seen[-1]) + 1))
            lines = matrix[part, fine[-1]]
            products.append(asarray((lines[:, None] * lines[None]).reshape(-1, lines.shape[1]), dtype=np.float32))
        self.fine = (fine[0], fine[1])
        self.products = products
        self.sides = (rows.stop - rows.start, columns.stop - columns.start)

    def pairs(self, x: Array) -> list[Array]:
        high, wide = self.sides
        both = (self.products[0] @ x @ self.products[1].T).reshape(high, high, wide, wide)
        return [both.swapaxes(1, 2).reshape(high * wide, high * wide)]

    def pull(self, quadratics: list[Array]) -> Array:
        high, wide = self.sides
        both = quadratics[0].reshape(high, wide, high, wide).swapaxes(1, 2).reshape(high * high, wide * wide)
        return self.products[0].T @ both @ self.products[1]


class _Spectra:
    """What all parts of a Psi share: the spectra of its pairs, by the displacement between two pixels of a tile."""

    def __init__(self, psi: Psi, edges: list[list[slice]], groups: list[list[list[slice]]]) -> None:
        self.psi = psi
        self.taps = psi.table.shape[2:]
        sides = [max(edge.stop - edge.start for edge in axis) for axis in edges]
        # one of each displacement and its opposite: a covariance is symmetric
        self.displacements = [(0, across) for across in range(sides[1])]
        self.displacements += list(product(range(1, sides[0]), range(1 - sides[1], sides[1])))
        longest = [max(group[-1].stop - group[0].start for group in axis) for axis in groups]
        self._within: dict[tuple[int, int], tuple[Any, Any, Any, Any, Any]] = {}
        # so large that what wraps around reaches no pixel of a part
        self.size = tuple(psi.backend.fft.next_fast_len(far + reach - 1, True) for far, reach in zip(longest, self.taps))

    @cached_property
    def kernels(self) -> Any:
        """Spectra of the pairs, (frequencies, displacements, phases) complex64."""
        psi, xp, fft = self.psi, self.psi.backend.xp, self.psi.backend.fft
        rows, columns = ((np.arange(reach) + first) % size for reach, first, size in zip(self.taps, psi.origin, self.size))
        phases = psi.factor**2
        spectra = xp.empty((self.size[0] * (self.size[1] // 2 + 1), len(self.displacements), phases), dtype=np.complex64)
        for number, (down, across) in enumerate(self.displacements):
            table = psi.table * ahead(ahead(psi.table, down, 2), across, 3)
            placed = np.zeros((phases, *self.size), dtype=np.float32)
            placed[:, rows[:, None], columns] = table.reshape(phases, *self.taps)
            spectra[:, number] = fft.rfft2(xp.asarray(placed)).reshape(phases, -1).T
        return spectra

    def within(self, high: int, wide: int) -> tuple[Any, Any, Any, Any, Any]:
        """Of a tile of this size: the pixels of each pair, its displacement (a number), the first pixel's row and column."""
        if (high, wide) not in self._within:
            i, j = (a.ravel() for a in np.mgrid[:high, :wide])
            down, across = i[None] - i[:, None], j[None] - j[:, None]
            first, second = np.nonzero((down > 0) | ((down == 0) & (across >= 0)))
            number = {displacement: place for place, displacement in enumerate(self.displacements)}
            which = [number[int(down[pair]), int(across[pair])] for pair in zip(first, second)]
            put = self.psi.backend.asarray
            self._within[high, wide] = put(first), put(second), put(np.asarray(which)), put(i[first]), put(j[first])
        return self._within[high, wide]


class _SpectralTiles:
    """Neighbouring tiles of a Psi that need not be separable."""

    def __init__(self, spectra: _Spectra, down: list[slice], across: list[slice]) -> None:
        self.spectra, psi = spectra, spectra.psi
        self.cameras = [(rows, columns) for rows, columns in product(down, across)]
        # light comes from pixels at these distances, one for each tap of the PSF's table
        firsts = [1 - reach - origin for reach, origin in zip(spectra.taps, psi.origin)]
        near = [
            slice(max(axis[0].start + first, 0), min(axis[-1].stop + first + reach - 1, size))
            for axis, first, reach, size in zip((down, across), firsts, spectra.taps, psi.shape)
        ]
        self.seen = tuple(part.stop - part.start for part in near)
        fine = [slice(part.start * psi.factor, part.stop * psi.factor) for part in near]
        self.fine = (fine[0], fine[1])
        self.corners = [(rows.start - near[0].start, columns.start - near[1].start) for rows, columns in self.cameras]

    def pairs(self, x: Array) -> list[Array]:
        spectra, (high, wide), factor = self.spectra, self.seen, self.spectra.psi.factor
        xp, fft = spectra.psi.backend.xp, spectra.psi.backend.fft
        phases = x.reshape(high, factor, wide, factor).transpose(1, 3, 0, 2).reshape(factor**2, high, wide)
        waves = fft.rfft2(phases, spectra.size).reshape(factor**2, -1).T[:, :, None]
        of_displacements = (spectra.kernels @ waves)[:, :, 0].T.reshape(-1, spectra.size[0], spectra.size[1] // 2 + 1)
        shared = fft.irfft2(of_displacements, spectra.size)
        covariances = []
        for (rows, columns), (top, left) in zip(self.cameras, self.corners):
            sides = rows.stop - rows.start, columns.stop - columns.start
            first, second, which, i, j = spectra.within(*sides)
            covariance = xp.empty((sides[0] * sides[1],) * 2, dtype=np.float32)
            covariance[first, second] = covariance[second, first] = shared[which, i + top, j + left]
            covariances.append(covariance)
        return covariances

    def pull(self, quadratics: list[Array]) -> Array:
        spectra, (high, wide), factor = self.spectra, self.seen, self.spectra.psi.factor
        xp, fft = spectra.psi.backend.xp, spectra.psi.backend.fft
        of_displacements = xp.zeros((len(spectra.displacements), high, wide), dtype=np.float32)
        for quadratic, (rows, columns), (top, left) in zip(quadratics, self.cameras, self.corners):
            first, second, which, i, j = spectra.within(rows.stop - rows.start, columns.stop - columns.start)
            both = (quadratic + quadratic.T)[first, second]
            of_displacements[which, i + top, j + left] = xp.where(first == second, 0.5 * both, both)
        waves = fft.rfft2(of_displacements, spectra.size).reshape(len(spectra.displacements), -1).T[:, :, None]
        pulled = (spectra.kernels.swapaxes(1, 2) @ waves.conj())[:, :, 0].conj()
        phases = fft.irfft2(pulled.T.reshape(-1, spectra.size[0], spectra.size[1] // 2 + 1), spectra.size)[:, :high, :wide]
        return phases.reshape(factor, factor, high, wide).transpose(2, 0, 3, 1).reshape(high * factor, wide * factor)


def tiles(size: int, block: int) -> list[slice]:
    """Return the tiles of one axis: slices of at most ``block`` pixels, of nearly equal length."""
    edges = np.linspace(0, size, -(-size // block) + 1).round().astype(int)
    return [slice(int(a), int(z)) for a, z in pairwise(edges)]
