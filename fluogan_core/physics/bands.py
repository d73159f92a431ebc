"""Products with a matrix whose entries lie near its diagonal, in blocks that leave out what is zero."""

from __future__ import annotations

import numpy as np

from ..backend.arrays import Backend
from ..backend.products import product
from ..backend.typing import Array

__all__ = ["BandMatrix"]

#: Rows of a block are about as many as the columns that one row reaches, so that little of a block is zero and few are needed.
_LEAST_ROWS = 16


class BandMatrix:
    """A matrix with a band, multiplied block by block: work that grows with the band, not with the square of the size.

    For the CPU: on a card a launch costs more than the zeros.

    Parameters
    ----------
    matrix : (P, N) on the host
    backend : Backend
    dtype : dtype

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> from fluogan_core.physics.bands import BandMatrix
    >>> matrix = BandMatrix(np.eye(40), fg.get_backend("numpy"), np.float32)
    >>> bool((matrix.times(np.ones((40, 3), np.float32)) == 1).all())
    True
    """

    def __init__(self, matrix: np.ndarray, backend: Backend, dtype: np.dtype) -> None:
        self.rows, self.backend = len(matrix), backend
        lit = matrix != 0
        reach = max(1, int(lit.sum(axis=1).max(initial=1)))
        high = max(_LEAST_ROWS, reach * self.rows // max(1, matrix.shape[1]))
        high = min(high, self.rows)
        self._blocks = []
        for top in range(0, self.rows, high):
            rows = slice(top, min(top + high, self.rows))
            columns = np.flatnonzero(lit[rows].any(axis=0))
            inside = slice(int(columns[0]), int(columns[-1]) + 1) if len(columns) else slice(0, 1)
            self._blocks.append((rows, inside, backend.asarray(matrix[rows, inside], dtype=dtype)))

    def times(self, images: Array, out: Array | None = None) -> Array:
        """Return the matrix times images (..., N, C), (..., P, C)."""
        xp = self.backend.xp
        if out is None:
            out = xp.empty((*images.shape[:-2], self.rows, images.shape[-1]), dtype=images.dtype)
        for rows, inside, block in self._blocks:
            product(block, images[..., inside, :], out[..., rows, :])
        return out

    def beside(self, images: Array, out: Array | None = None) -> Array:
        """Return images (..., C, N) times the transpose of the matrix, (..., C, P)."""
        xp = self.backend.xp
        if out is None:
            out = xp.empty((*images.shape[:-1], self.rows), dtype=images.dtype)
        for rows, inside, block in self._blocks:
            product(images[..., inside], block.T, out[..., rows])
        return out
