r"""What flicker causes in windows, :math:`\Psi\,\mathrm{diag}(x)\,\Psi^T`, from the entries of an operator of the user's own.

Nothing is assumed of the operator but that its columns are light: they may differ over the field, and the fine grid need not
lie on the camera.  :class:`EntryCovariances` is the exact map.  :class:`Skeleton` is a part of the fine pixels that the pairs
:math:`C_i C_i^T` of all others are combined from, by an interpolative decomposition (Cheng, Gimbutas, Martinsson and Rokhlin
2005) of the pixels of every tile of the fine grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..backend.typing import Array
from .windows import Windows

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from .operator import Operator

__all__ = ["EntryCovariances", "Skeleton"]

#: Side of the tiles of the fine grid that a skeleton is chosen in, fine pixels.
_TILE = 16


class EntryCovariances:
    """The map of x to covariances in windows, and its adjoint; the counterpart of :class:`.covariance.WindowCovariances`.

    Parameters
    ----------
    psi : Operator or another object
        With ``matrix``.
    windows : Windows

    Attributes
    ----------
    reached : int
        The most fine pixels whose light reaches one window.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> from fluogan_core.physics.entries import EntryCovariances
    >>> from fluogan_core.physics.windows import windows_of
    >>> class Same(fg.Operator):
    ...     def forward(self, x):
    ...         return self.nominal.forward(x)
    ...     def adjoint(self, y):
    ...         return self.nominal.adjoint(y)
    >>> psi = Same(fg.Psi(np.ones((3, 3)), (20, 12), 2, backend="numpy"))
    >>> seen = EntryCovariances(psi, windows_of(psi.shape, 8))
    >>> seen.pairs(np.ones(psi.fine_shape, np.float32), [0, 3]).shape
    (2, 64, 64)
    """

    def __init__(self, psi: Operator, windows: Windows) -> None:
        self.psi, self.windows = psi, windows
        self.reached = max(1, *(len(self.places(number)) for number in range(len(windows))))

    def _part(self, number: int) -> csr_array:
        return self.psi.matrix[self.windows.pixels[number]]

    def places(self, number: int) -> np.ndarray:
        """Return the flat fine pixels whose light reaches a window, (F,) int64, ascending."""
        lit = np.zeros(self.psi.fine_shape[0] * self.psi.fine_shape[1], dtype=bool)
        lit[self._part(number).indices] = True
        return np.flatnonzero(lit)

    def columns(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return those fine pixels, (F,), and the columns of Psi within the window, (n, F) float32, on the host."""
        part = self._part(number)
        lit = np.zeros(part.shape[1], dtype=bool)
        lit[part.indices] = True
        places, order = np.flatnonzero(lit), np.cumsum(lit) - 1
        dense = np.zeros((part.shape[0], len(places)), dtype=np.float32)
        dense[np.repeat(np.arange(part.shape[0]), np.diff(part.indptr)), order[part.indices]] = part.data
        return places, dense

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
        asarray, light = self.psi.backend.asarray, x.ravel().astype(np.float32, copy=False)
        found = []
        for number in chosen:
            places, columns = (asarray(part) for part in self.columns(int(number)))
            found.append((columns * light[places]) @ columns.T)
        return self.psi.backend.xp.stack(found)

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
        asarray, shape = self.psi.backend.asarray, self.psi.fine_shape
        image = self.psi.backend.xp.zeros(shape[0] * shape[1], dtype=np.float32)
        for number, quadratic in zip(chosen, quadratics):
            places, columns = (asarray(part) for part in self.columns(int(number)))
            image[places] += ((quadratic @ columns) * columns).sum(axis=0)
        return image.reshape(shape)


class Skeleton:
    r"""Fine pixels p and weights A with :math:`C_i C_i^T \approx \sum_p A_{pi}\, C_p C_p^T`.

    In every tile of the fine grid the scalar products of pairs, :math:`(C_i^T C_k)^2`, are factorised (Cholesky, with pivots);
    the pivots are the skeleton.  Where neighbouring columns are alike few are enough; an operator whose columns have nothing in
    common keeps them all.

    Parameters
    ----------
    matrix : (M1 M2, N1 N2) csr_array
        Entries of the operator.
    fine_shape : (N1, N2)
    error : float
        Largest error of a combined pair over the largest pair of its tile, both root sums of squares.

    Attributes
    ----------
    places : (P,) int64
        Flat fine pixels, by tile.
    weights : (P, N1 N2) csr_array float32
        A.
    """

    def __init__(self, matrix: csr_array, fine_shape: tuple[int, int], error: float) -> None:
        from scipy.linalg import lapack, solve_triangular
        from scipy.sparse import coo_array

        columns = matrix.tocsc()
        number = np.arange(fine_shape[0] * fine_shape[1]).reshape(fine_shape)
        places, entries, rows, of = [], [], [], []
        count = 0
        for top in range(0, fine_shape[0], _TILE):
            for left in range(0, fine_shape[1], _TILE):
                own = number[top : top + _TILE, left : left + _TILE].ravel()
                part = columns[:, own]
                gram = (part.T @ part).toarray() ** 2
                largest = float(gram.diagonal().max())
                if not largest > 0:
                    continue
                factor, pivots, rank, _ = lapack.dpstrf(gram, tol=error**2 * largest)
                order = pivots - 1
                solved = solve_triangular(np.triu(factor[:rank, :rank]), factor[:rank, rank:])
                combined = np.concatenate([np.eye(rank), solved], axis=1)
                places.append(own[order[:rank]])
                entries.append(combined.ravel())
                rows.append(np.repeat(count + np.arange(rank), len(own)))
                of.append(np.tile(own[order], rank))
                count += rank
        self.places = np.concatenate(places)
        made = coo_array((np.concatenate(entries), (np.concatenate(rows), np.concatenate(of))), (count, number.size))
        self.weights = made.tocsr().astype(np.float32)
        self.weights.eliminate_zeros()
