r"""A coarser lattice of emitters, and the interpolation back to every fine pixel.

As a function of the emitter's position, :math:`h_i = E[D(y + \alpha P(C_i)) - D(y)]` inherits the smoothness of the PSF: its
part of order n in the emission's photons is limited by the spectrum of a product of n PSFs.  Where the fine grid samples the
PSF far more finely than needed, every second fine pixel determines all of them.
"""

from __future__ import annotations

from functools import cache, cached_property
from weakref import WeakKeyDictionary

import numpy as np

from ..backend.checks import whole_number
from ..backend.typing import Array
from ..physics.psi import Psi
from ..tuning import DEFAULT, LatticeTuning

__all__ = ["Lattice", "safe_spacing"]


def safe_spacing(psf: np.ndarray, tuning: LatticeTuning = DEFAULT.lattice) -> int:
    """Return the spacing of the nodes that loses nothing that matters: 2 for a wide PSF, else 1.

    2 needs the squared PSF's spectrum to be below a millionth of its peak beyond a quarter cycle per fine pixel.  The squared
    PSF weights the critic's interactions between neighbouring pixels where two photons of one emission meet.

    Parameters
    ----------
    psf : (K1, K2) array
        On the fine grid.
    tuning : LatticeTuning, optional

    Returns
    -------
    int

    Examples
    --------
    >>> import fluogan_core as fg
    >>> from fluogan_core.critics.lattice import safe_spacing
    >>> [safe_spacing(fg.gaussian_psf(fwhm_nm=318, pixel_size_nm=100, factor=factor)) for factor in (2, 4)]
    [1, 2]
    """
    size = 4 * max(psf.shape)
    spectrum = np.abs(np.fft.fft2(psf**2, (size, size)))
    frequency = np.abs(np.fft.fftfreq(size))
    beyond = (frequency[:, None] >= 0.25) | (frequency[None, :] >= 0.25)
    return 2 if spectrum[beyond].max() < tuning.aliased * spectrum[0, 0] else 1


#: Spacings found before: a solver makes a lattice at every step.
_SPACINGS: WeakKeyDictionary[Psi, dict[LatticeTuning, int]] = WeakKeyDictionary()


def _spacing_of(psi: Psi, tuning: LatticeTuning) -> int:
    if not hasattr(psi, "table"):  # the PSF may differ from place to place
        return 1
    known = _SPACINGS.setdefault(psi, {})
    if tuning not in known:
        known[tuning] = safe_spacing(psi.psf, tuning)
    return known[tuning]


def _nodes(size: int, spacing: int, degree: int) -> np.ndarray:
    nodes = np.arange(0, size, spacing)
    if len(nodes) <= degree:  # too few for the spline
        return np.arange(size)
    return nodes if nodes[-1] == size - 1 else np.append(nodes, size - 1)


@cache
def _interpolation(size: int, spacing: int, degree: int) -> np.ndarray:
    """Interpolation along one axis from nodes to fine pixels, as a matrix."""
    from scipy.interpolate import make_interp_spline

    nodes = _nodes(size, spacing, degree)
    if len(nodes) == size:
        return np.eye(size)
    return make_interp_spline(nodes, np.eye(len(nodes)), k=degree)(np.arange(size))


class Lattice:
    """Every ``spacing``-th fine pixel per axis, the last one included.

    Parameters
    ----------
    psi : Psi
    spacing : int or "auto"
        1 evaluates every fine pixel; ``"auto"`` is :func:`safe_spacing` of psi's PSF.
    tuning : LatticeTuning, optional

    Attributes
    ----------
    indices : (P,) int64
        Flat fine pixels of the nodes, row by row.
    """

    def __init__(self, psi: Psi, spacing: int | str = "auto", tuning: LatticeTuning = DEFAULT.lattice) -> None:
        self.tuning = tuning
        self.spacing = _spacing_of(psi, tuning) if spacing == "auto" else whole_number(spacing, "lattice", low=1)
        self._backend = psi.backend
        self._nodes = [_nodes(n, self.spacing, tuning.spline_degree) for n in psi.fine_shape]
        self.indices = (self._nodes[0][:, None] * psi.fine_shape[1] + self._nodes[1][None, :]).ravel()
        self._sizes = psi.fine_shape

    @cached_property
    def _weights(self) -> list[Array]:
        return [self._backend.asarray(_interpolation(n, self.spacing, self.tuning.spline_degree)) for n in self._sizes]

    def fill(self, values: Array) -> Array:
        """Return the values at every fine pixel, (N1, N2) float64, from those at the nodes, (P,)."""
        grid = values.reshape(len(self._nodes[0]), len(self._nodes[1])).astype(np.float64, copy=False)
        if self.spacing == 1:
            return grid
        return self._weights[0] @ grid @ self._weights[1].T
