"""Linear maps of images whose entries lie near a diagonal, by kernels where there are some and by array code elsewhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from ..backend.arrays import Backend
from ..backend.typing import Array

__all__ = ["TOGETHER", "Separable", "Stencil", "bands_of"]

#: Rows whose bands begin alike: the CPU's kernel then reads an image once for all of them.
TOGETHER = 4


class Separable:
    """The map :math:`x \\mapsto A x B^T` with banded A and B.

    Parameters
    ----------
    rows, columns : (P1, N1), (P2, N2) array on the host
        A and B.
    backend : Backend

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> from fluogan_core.physics.local_maps import Separable
    >>> sums = Separable(np.ones((1, 2)), np.eye(3), fg.get_backend("numpy"))
    >>> sums.forward(np.ones((2, 3), np.float32))
    array([[2., 2., 2.]], dtype=float32)
    """

    def __init__(self, rows: np.ndarray, columns: np.ndarray, backend: Backend) -> None:
        self._kernel = backend.kernel("banded")
        pairs = ((rows, columns), (rows.T, columns.T))
        if self._kernel is None:
            self._ways = [tuple(backend.asarray(matrix, dtype=np.float32) for matrix in pair) for pair in pairs]
        else:
            together = 1 if backend.cuda is not None else TOGETHER
            self._ways = [
                tuple(tuple(map(backend.asarray, bands_of(matrix, together=together))) for matrix in pair) for pair in pairs
            ]

    def _apply(self, which: int, image: Array) -> Array:
        first, second = self._ways[which]
        if self._kernel is None:
            return first @ image @ second.T
        return self._kernel(*second, self._kernel(*first, image))

    def forward(self, x: Array) -> Array:
        """Return A x B^T, (P1, P2), of an image (N1, N2) float32."""
        return self._apply(0, x)

    def adjoint(self, y: Array) -> Array:
        """Return A^T y B, (N1, N2), of an image (P1, P2) float32."""
        return self._apply(1, y)


def bands_of(matrix: np.ndarray, dtype: DTypeLike = np.float32, together: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return the first column of every row's band, and the bands: what a row holds from there on, all of one width.

    Parameters
    ----------
    matrix : (P, N) on the host
    dtype : dtype, optional
        Of the bands.
    together : int
        So many rows in turn begin alike.

    Returns
    -------
    firsts : (P,) int64
    bands : (P, K)
    """
    lit = matrix != 0
    size, starts = matrix.shape[1], np.arange(0, len(matrix), together)
    first = np.minimum.reduceat(np.where(lit.any(axis=1), lit.argmax(axis=1), size - 1), starts)
    last = np.maximum.reduceat(np.where(lit.any(axis=1), size - lit[:, ::-1].argmax(axis=1), 1), starts)
    first, last = (np.repeat(ends, together)[: len(matrix)] for ends in (np.minimum(first, last - 1), last))
    width = int((last - first).max())
    first = np.minimum(first, matrix.shape[1] - width)
    return first.astype(np.int64), np.take_along_axis(matrix, first[:, None] + np.arange(width), axis=1).astype(dtype)


class Stencil:
    """A map of images with an entry for each pixel of the result and each place near it,

    .. math:: y_{ij} = \\sum_{ab} h_{iabj}\\, x_{r_i + a,\\, c_j + b}.

    Parameters
    ----------
    values : (D1, A, B, D2) float32
        h; places outside the source do not count.
    rows, columns : (D1,), (D2,) int on the host
        r and c.
    shape : (S1, S2)
        Of the source.
    backend : Backend
    """

    def __init__(self, values: Array, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int], backend: Backend) -> None:
        self.values, self.shape, self.backend = values, shape, backend
        taps, kernel = values.shape[1:3], backend.kernel("stencil")
        self._margins = [
            (max(0, -int(firsts.min())), max(0, int(firsts.max()) + tap - size))
            for firsts, tap, size in zip((rows, columns), taps, shape)
        ]
        if kernel is not None and backend.cuda is not None:  # to a card's kernel places outside are no trouble
            self._margins = [(0, 0), (0, 0)]
        self._firsts = [firsts + before for firsts, (before, _) in zip((rows, columns), self._margins)]
        self._padded = tuple(size + sum(margin) for size, margin in zip(shape, self._margins))
        self._inside = tuple(slice(before, before + size) for size, (before, _) in zip(shape, self._margins))
        if kernel is not None:
            self._firsts = [backend.asarray(firsts) for firsts in self._firsts]
        else:
            down, across = (firsts[:, None] + np.arange(tap) for firsts, tap in zip(self._firsts, taps))
            places = down[:, :, None, None] * self._padded[1] + across.T[None, None]
            self._places = backend.asarray(places)

    def forward(self, x: Array) -> Array:
        """Return y, (D1, D2), of an image (S1, S2) float32."""
        xp, kernel = self.backend.xp, self.backend.kernel("stencil")
        if self._padded == self.shape:
            source = x
        else:
            source = xp.zeros(self._padded, dtype=np.float32)
            source[self._inside] = x
        if kernel is not None:
            return kernel(self.values, *self._firsts, source)
        return (self.values * source.ravel()[self._places]).sum(axis=(1, 2))

    def adjoint(self, y: Array) -> Array:
        """Return the adjoint's image, (S1, S2), of an image (D1, D2) float32."""
        xp, kernel = self.backend.xp, self.backend.kernel("stencil_adjoint")
        if kernel is not None:
            return kernel(self.values, *self._firsts, y, self._padded)[self._inside]
        spread = self.values * y[:, None, None, :]
        size = self._padded[0] * self._padded[1]
        summed = xp.bincount(self._places.ravel(), weights=spread.ravel(), minlength=size)
        return summed.reshape(self._padded)[self._inside].astype(np.float32)
