r"""How much more than that of Gaussian frames the covariance of frames of eq. (1) scatters.

A frame of eq. (1) is a sum of emissions, each of a random number of photons :math:`c` on the pixels, Poisson about
:math:`m_i = \kappa h_i` for an emission at the fine pixel i, and of single photons of the background.  Cumulants of such a sum
are sums over emissions of moments of c, so that a linear and a quadratic statistic of a frame, :math:`w^T y` and
:math:`\tfrac12 (y - \mu)^T Q (y - \mu)`, have

.. math::

    \mathrm{Var} = \tfrac12 \mathrm{tr}(Q \Sigma Q \Sigma) + K, \qquad
    K = \tfrac14 \sum_i \lambda_i E[(c^T Q c)^2], \qquad X = \tfrac12 \sum_i \lambda_i E[(w^T c)(c^T Q c)],

X being the covariance of the two.  With q the diagonal of Q and :math:`c = m + \delta`,

.. math::

    E[(c^T Q c)^2] &= (m^T Q m + q^T m)^2 + \textstyle\sum_a m_a (2 (Q m)_a + q_a)^2 + 2 \sum_{ab} Q_{ab}^2 m_a m_b, \\
    E[(w^T c)(c^T Q c)] &= (w^T m)(m^T Q m + q^T m) + \textstyle\sum_a w_a m_a (2 (Q m)_a + q_a).

The image does not change along the rows, and nor does Q: it is given by its values at the frequencies along them.
"""

from __future__ import annotations

import numpy as np

__all__ = ["excess_scatter"]

#: Places of an emission within a camera row that are averaged over.
_PHASES = 4
#: Light below this part of the brightest has no part in it.
_DIM = 1e-6


def excess_scatter(
    psf: np.ndarray,
    factor: int,
    profile: np.ndarray,
    photons_per_emitter: float,
    background: np.ndarray,
    linear: np.ndarray,
    quadratic: np.ndarray,
) -> tuple[float, float]:
    """Return K and X of one camera row and frame.

    Parameters
    ----------
    psf : (K, K) array, K odd, sum 1
    factor : int
        Fine pixels per camera pixel.
    profile : (C * factor,) array
        Expected photons per fine pixel, across the lines.
    photons_per_emitter : float
        Photons of one emission.
    background : (C,) array
        Expected photons per camera pixel.
    linear : (C,) array
        w, equal in all rows.
    quadratic : (R // 2 + 1, C, C) complex array
        Q at the frequencies 0 to R // 2 of R camera rows.

    Returns
    -------
    excess, cross : float

    Examples
    --------
    One pixel per row, one photon per emission, and a statistic of single pixels: a Poisson number has the fourth cumulant 1.

    >>> import numpy as np
    >>> from fluogan_core.planning.scatter import excess_scatter
    >>> even = np.ones((13, 1, 1))
    >>> excess_scatter(np.ones((1, 1)), 1, np.zeros(1), 1.0, np.full(1, 7.0), np.ones(1), even)
    (1.75, 3.5)
    """
    rows, columns = 2 * (len(quadratic) - 1), quadratic.shape[1]
    whole = np.fft.irfft(quadratic, rows, axis=0)
    diagonal = np.ascontiguousarray(np.diagonal(whole[0]))
    squares = np.fft.rfft(whole**2, axis=0)
    excess = float((background * diagonal**2).sum())
    cross = float((background * linear * diagonal).sum())
    phases = np.unique(np.linspace(0, factor - 1, min(_PHASES, factor)).round().astype(int))
    lit = np.flatnonzero(profile > _DIM * profile.max())
    rates = profile[lit] / photons_per_emitter * factor / len(phases)
    for phase in phases if len(lit) else ():
        m = photons_per_emitter * _seen(psf, factor, rows, columns, int(phase), lit)
        # (frequencies, emissions, columns): one product of matrices for each frequency
        at = np.ascontiguousarray(np.fft.rfft(m, axis=1).swapaxes(0, 1))
        turned, pairs = (
            np.fft.irfft((at @ matrix.swapaxes(1, 2)).swapaxes(0, 1), rows, axis=1) for matrix in (quadratic, squares)
        )
        slope = 2 * turned + diagonal
        mean = (m * (turned + diagonal)).sum(axis=(1, 2))
        excess += float(rates @ (mean**2 + (m * (slope**2 + 2 * pairs)).sum(axis=(1, 2))))
        cross += float(rates @ ((m * linear).sum(axis=(1, 2)) * mean + (m * linear * slope).sum(axis=(1, 2))))
    return excess / 4, cross / 2


def _seen(psf: np.ndarray, factor: int, rows: int, columns: int, phase: int, lit: np.ndarray) -> np.ndarray:
    """Light of single emissions in these fine columns on (rows, columns) camera pixels, which close upon themselves."""
    half = np.array(psf.shape) // 2
    folded = np.zeros((rows, psf.shape[1]))
    np.add.at(folded, (np.arange(psf.shape[0]) - half[0] + phase) // factor % rows, psf)
    across = (np.arange(psf.shape[1]) - half[1] + lit[:, None]) // factor
    return np.asarray(folded @ (across[:, :, None] == np.arange(columns)).astype(np.float64))
