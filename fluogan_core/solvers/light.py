r"""The light of every structure set to that of the mean frame, the shape left as it is.

Penalties on light and on edges take some light from whatever is small or dim, and covariances that no common flicker strength
explains pull at it too.  The mean frame knows the light of a structure to within its detection noise.  So a fit of mean and
covariance ends with

.. math:: x \leftarrow x\,\frac{1 + G\left(x \circ \Psi^T V (\bar y - b)\right)}{1 + G\left(x \circ \Psi^T V \Psi x\right)},

V one over the variance of the mean frame and G the sum over a Gaussian window as wide as the PSF.  Without the ones this is the
factor by which the light in the window fits the mean frame best (weighted least squares); they hold it at 1 where the light in
the window is below its own noise.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..backend.typing import Array
from ..objective.blur import GaussianKernel
from ..physics.psf import psf_sigma
from ..physics.psi import Psi
from ..tuning import DEFAULT, CovariancePhaseTuning

__all__ = ["LightFactor", "light_factor", "weight_of_mean"]


class LightFactor(NamedTuple):
    """What an image is multiplied by.

    Attributes
    ----------
    factor : (N1, N2) float32
        Smooth, 1 where nothing is known better.
    largest : float
        Largest departure from 1 where the light of a window stands three standard errors or more out of the noise.
    """

    factor: Array
    largest: float


def light_factor(
    x: Array, b: Array, *, psi: Psi, mean: Array, weight: Array, tuning: CovariancePhaseTuning = DEFAULT.covariance_phase
) -> LightFactor:
    """Return the factor by which x explains the light of the mean frame above b in every window.

    Parameters
    ----------
    x : (N1, N2) float32
        Emissions per fine pixel and frame.
    b : (M1, M2) float32
        Background, photons per camera pixel and frame.
    psi : Psi
    mean : (M1, M2) float32
        Mean frame, photons.
    weight : (M1, M2) float32
        One over the variance of the mean frame, photons^-2.
    tuning : CovariancePhaseTuning, optional

    Returns
    -------
    LightFactor

    Examples
    --------
    An image that has lost a third of its light gets it back:

    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> psi = fg.Psi(fg.gaussian_psf(300, 100, 2), (16, 16), 2, backend="numpy")
    >>> x = np.zeros(psi.fine_shape, np.float32)
    >>> x[15:18, 15:18] = 20
    >>> b = np.full(psi.shape, 3, np.float32)
    >>> lost = x * np.float32(2 / 3)
    >>> found = light_factor(lost, b, psi=psi, mean=psi.forward(x) + b, weight=np.full_like(b, 50))
    >>> bool(abs((found.factor * lost).sum() / x.sum() - 1) < 0.001), round(found.largest, 2)
    (True, 0.5)
    """
    xp, kernel, sigma = psi.backend.xp, GaussianKernel(psi, 1.0), psf_sigma(psi.psf)
    area = np.float32(4.0 * math.pi * sigma**2)

    def summed(image: Array) -> Array:
        return area * kernel(image)

    factor, above = xp.ones_like(x), weight * (mean - b)
    for _ in range(tuning.light_iterations):
        scaled = factor * x
        there = summed(scaled * psi.adjoint(weight * psi.forward(scaled)))
        wanted = summed(scaled * psi.adjoint(above))
        factor = factor * (xp.maximum(1 + wanted, 0) / (1 + there))
    clear = (x > 0) & (there > tuning.clear_light**2)
    return LightFactor(factor, float(xp.abs(factor[clear] - 1).max()) if clear.any() else 0.0)


def weight_of_mean(
    x: Array, b: Array, *, psi: Psi, read_variance: Array | float, frames: Array | float,
    tuning: CovariancePhaseTuning = DEFAULT.covariance_phase,
) -> Array:  # fmt: skip
    """Return one over the variance of the mean frame, as x and b explain it.

    Parameters
    ----------
    x : (N1, N2) float32
        Emissions per fine pixel and frame.
    b : (M1, M2) float32
        Background, photons per camera pixel and frame.
    psi : Psi
    read_variance : float or (M1, M2)
        Of a frame, photons^2.
    frames : float or (M1, M2)
        How many frames a pixel's mean is worth; 0 where it is bad.
    tuning : CovariancePhaseTuning, optional

    Returns
    -------
    (M1, M2) float32
        Photons^-2.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> psi = fg.Psi(fg.gaussian_psf(300, 100, 2), (16, 16), 2, backend="numpy")
    >>> dark, b = np.zeros(psi.fine_shape, np.float32), np.full(psi.shape, 3, np.float32)
    >>> round(float(1 / weight_of_mean(dark, b, psi=psi, read_variance=1.0, frames=100).max()), 3)
    0.04
    """
    variance = psi.forward(x) + b + np.float32(read_variance)
    variance = variance + np.float32(tuning.variance_floor) * variance.mean() + np.float32(1e-12)
    return frames / variance
