"""The pair kernels of :mod:`.flicker` for an operator of the user's own, from its entries."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..physics.psi import Psi
from ..physics.requirements import NOMINAL, has_table, require
from ..tuning import DEFAULT
from ..tuning.calibration import FlickerTuning
from .flicker import PairKernels
from .high_pass import binomial
from .pixel_moments import Shift, windows

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["EntryPairs", "entries_leakage", "pair_kernels"]

#: Relative residual at which the mean image counts as deconvolved: the filter itself loses far more.
_RESIDUAL = 1e-6


def pair_kernels(psi: Psi, tuning: FlickerTuning = DEFAULT.calibration.flicker) -> PairKernels:
    """Return how flicker correlates pairs of pixels: from the table of Psi, or from the entries of an own operator.

    Raises
    ------
    TypeError
        If an operator has neither.
    """
    return PairKernels(psi, tuning) if has_table(psi) else EntryPairs(psi, tuning)


class EntryPairs(PairKernels):
    """Covariances of pixel pairs as the entries of an operator predict them.

    Parameters
    ----------
    psi : Operator or another object
        With ``matrix``.
    tuning : FlickerTuning
    """

    def __init__(self, psi: Psi, tuning: FlickerTuning = DEFAULT.calibration.flicker) -> None:
        require(psi, "calibration", NOMINAL)
        self.tuning, self.shape = tuning, psi.shape
        self.matrix: csr_array = psi.matrix / psi.photons_per_emitter  # type: ignore[attr-defined]
        self._norm = psi.norm / psi.photons_per_emitter
        self._number = np.arange(self.matrix.shape[0]).reshape(self.shape)
        reach = [min(extent, m - 1) for extent, m in zip(_extents(self.matrix, self.shape), self.shape)]
        self._choose(reach, self._mean_strength)

    def _products(self, shift: Shift) -> csr_array:
        """Products of the entries of each pixel and its partner, (pairs, N1 N2)."""
        first, second = (self._number[window].ravel() for window in windows(shift, self.shape))
        return self.matrix[first].multiply(self.matrix[second]).tocsr()

    def _mean_strength(self, shift: Shift) -> float:
        return float(self._products(shift).sum()) / self.matrix.shape[1]

    def predictor(self, mean: np.ndarray) -> Callable[[Shift], np.ndarray]:
        """As :meth:`PairKernels.predictor`; the regularised inverse of the operator stands for that of the blur.

        The constant that belongs to no emission, offset and background, is fitted beside it (generalised least squares): light
        from beyond the border, which an operator need not have, would have to make up for it there.
        """
        from scipy.sparse.linalg import LinearOperator, cg

        a, wiener = self.matrix, self.tuning.wiener * self._norm**2
        size = a.shape[0]
        normal = LinearOperator((size, size), matvec=lambda v: a @ (a.T @ v) + wiener * v, dtype=np.float64)
        solved, constant = (cg(normal, image, rtol=_RESIDUAL, maxiter=10 * size)[0] for image in (mean.ravel(), np.ones(size)))
        level = float(solved.sum()) / float(constant.sum())
        emission = (1.0 + self.tuning.wiener) * (a.T @ (solved - level * constant))

        def predict(shift: Shift) -> np.ndarray:
            first, _ = windows(shift, self.shape)
            made = np.zeros(self.shape)
            made[first] = (self._products(shift) @ emission).reshape(made[first].shape)
            return made

        return predict


def _extents(matrix: csr_array, shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the camera that the widest column of a matrix covers."""
    entries = matrix.tocsc()
    clear = np.abs(entries.data) > 1e-6 * np.abs(entries.data).max()
    of = np.repeat(np.arange(matrix.shape[1]), np.diff(entries.indptr))[clear]
    found = []
    for place in np.divmod(entries.indices[clear], shape[1]):
        low, high = np.full(matrix.shape[1], np.iinfo(np.int64).max), np.full(matrix.shape[1], -1)
        np.minimum.at(low, of, place)
        np.maximum.at(high, of, place)
        lit = high >= 0
        found.append(int((high[lit] - low[lit]).max()) + 1)
    return found[0], found[1]


def entries_leakage(psi: Psi, order: int) -> float:
    """Return what the filter of an order passes of the variance that emissions add to pixels, as a part of it, 0 to 1.

    The counterpart of ``leakage(table, order) / leakage(table, 0)`` of :mod:`.high_pass`.
    """
    from scipy.sparse import diags_array, kron

    taps = binomial(order)
    bands = [diags_array(list(taps), offsets=list(range(order + 1)), shape=(m - order, m)) for m in psi.shape]
    matrix: csr_array = psi.matrix  # type: ignore[attr-defined]
    filtered = kron(bands[0], bands[1], format="csr") @ matrix
    inside = (psi.shape[0] - order) * (psi.shape[1] - order) / (psi.shape[0] * psi.shape[1])
    return float((filtered.data**2).sum()) / float((matrix.data**2).sum()) / inside
