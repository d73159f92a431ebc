"""The second derivative of a quadratic critic's value for an operator of the user's own, as sparse matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..backend.products import product
from ..backend.typing import Array
from ..physics.entries import EntryCovariances, Skeleton

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from .moments import WindowMoments

__all__ = ["SparseSecondDerivative"]


class SparseSecondDerivative:
    """The quadratic form of :mod:`.second_derivative` between the pixels of a skeleton and those of the camera.

    Parameters
    ----------
    moments : WindowMoments
    flickering : EntryCovariances
        That of the moments.
    """

    def __init__(self, moments: WindowMoments, flickering: EntryCovariances) -> None:
        self.moments, self.flickering, psi = moments, flickering, flickering.psi
        self.skeleton = Skeleton(psi.matrix, psi.fine_shape, moments.tuning.node_error)
        size = psi.fine_shape[0] * psi.fine_shape[1]
        self._number = np.full(size, -1)
        self._number[self.skeleton.places] = np.arange(len(self.skeleton.places))
        self._energies = psi.backend.to_host(psi.column_energies).ravel()

    def update(self, weights: Array, chosen: np.ndarray, flicker: float) -> None:
        """Form the matrices for the weights W of some windows, (B, n, n)."""
        from scipy.sparse import csr_array

        host, tuning = self.moments.model.backend.to_host, self.moments.tuning
        fine, camera = len(self.skeleton.places), self.moments.model.psi.shape
        pixels = camera[0] * camera[1]
        between_fine, beside, between_pixels = (
            _Sum(shape, tuning.batch_bytes) for shape in ((fine, fine), (pixels, fine), (pixels, pixels))
        )
        for weight, number in zip(weights, chosen):
            w, own = host(weight), self.moments.windows.pixels[int(number)]
            places, columns = self.flickering.columns(int(number))
            inside = (columns * columns).sum(axis=0, dtype=np.float64) > tuning.least_inside * self._energies[places]
            taken = inside & (self._number[places] >= 0)
            nodes, columns = self._number[places[taken]], columns[:, taken]
            seen = product(w, columns)
            between_fine.add(nodes, nodes, product(columns.T, seen) ** 2, tuning.least_entry)
            beside.add(own, nodes, seen**2, 0.0)
            between_pixels.add(own, own, w**2, tuning.least_entry)
        scale = np.float32(0.5 * flicker)
        self._between_fine: csr_array = scale * np.float32(flicker) * between_fine.made()
        self._beside: csr_array = scale * beside.made()
        self._beside_turned = csr_array(self._beside.T)
        self._between_pixels: csr_array = np.float32(0.5) * between_pixels.made()

    def slope(self, x: Array, light: Array) -> tuple[Array, Array]:
        """Return the form's gradient at a change of the image (N1, N2) and of the mean frame (M1, M2): one of each."""
        backend, a = self.moments.model.backend, self.skeleton.weights
        u, v = a @ backend.to_host(x).ravel(), backend.to_host(light).ravel()
        of_u = self._between_fine @ u + self._beside_turned @ v
        of_v = self._beside @ u + self._between_pixels @ v
        of_x = a.T @ of_u
        return (
            backend.asarray(of_x.reshape(x.shape), dtype=np.float32),
            backend.asarray(of_v.reshape(light.shape), dtype=np.float32),
        )


class _Sum:
    """A sparse matrix that blocks are added to."""

    def __init__(self, shape: tuple[int, int], memory: int) -> None:
        from scipy.sparse import csr_array

        self.total, self.memory = csr_array(shape, dtype=np.float32), memory
        self.kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, rows: np.ndarray, columns: np.ndarray, block: np.ndarray, least: float) -> None:
        """Add a block; entries of less than ``least`` times the root of both diagonal ones are left out."""
        if least:
            diagonal = np.sqrt(block.diagonal())
            i, j = np.nonzero(block > least * diagonal[:, None] * diagonal)
        else:
            i, j = np.nonzero(block)
        self.kept.append((block[i, j], rows[i], columns[j]))
        if sum(entries.nbytes for entries, _, _ in self.kept) > self.memory // 6:
            self._join()

    def _join(self) -> None:
        from scipy.sparse import coo_array

        if self.kept:
            entries, rows, columns = (np.concatenate(parts) for parts in zip(*self.kept))
            self.total = self.total + coo_array((entries, (rows, columns)), self.total.shape).tocsr()
            self.kept = []

    def made(self) -> csr_array:
        self._join()
        return self.total
