r"""What a quadratic critic measures of its frames before a fit: the strength of their flicker, and noise that nothing explains.

The strength :math:`\varphi` is the weighted least squares fit of S to :math:`F = \Psi\,\mathrm{diag}(x)\,\Psi^T`, both without
their diagonals, which are free of shot noise and read noise then, with :math:`1 \pm 1` known beforehand.  It absorbs an error of
the photons per emission, and the flicker slower than a chunk of frames, which those frames do not show.

What the diagonals of S then exceed those of :math:`\mathrm{diag}(\mu + \sigma^2) + \varphi F` by, a mean weighted by one over the
square of what is predicted, is variance that the model lacks: pixels that are noisier than the camera's one read noise says, or a
background that flickers.  A fit that does not know it explains it by the shot noise of more background, and takes that light from
the molecules.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..backend.products import product
from ..backend.typing import Array
from .moments import WindowMoments

__all__ = ["Measured", "measured"]


class Measured(NamedTuple):
    r"""Flicker and noise of some frames.

    Attributes
    ----------
    chosen : (K,) int64 on the host
        Numbers of the windows with flicker, which it was measured in.
    flicker : float32
        :math:`\varphi`.
    extra_variance : float32
        Variance of every pixel beyond what light, read noise and flicker explain, photons^2; no less than minus the read noise's.
    """

    chosen: np.ndarray
    flicker: np.float32
    extra_variance: np.float32


def measured(moments: WindowMoments, recorded: Array, freedom: int, x: Array, b: Array) -> Measured:
    """Measure the flicker of frames in units of what x predicts, and the noise beyond it.

    Parameters
    ----------
    moments : WindowMoments
    recorded : (B, n, n) float32
        Covariances of the frames in each window, photons^2.
    freedom : int
        Their degrees of freedom.
    x : (N1, N2) float32
        Emissions per fine pixel and frame.
    b : (M1, M2) float32
        Photons per camera pixel and frame.

    Returns
    -------
    Measured
    """
    one, asarray = np.float32(1.0), moments.model.backend.asarray
    light = moments.model.psi.forward(x) + b
    chosen = moments.lit(x, light, one)
    found = expected = 2.0 / freedom  # the variance of found / expected is 2 / freedom / expected
    for batch in moments.batches(chosen):
        covariances = moments.predicted(x, light, one, batch)
        weights, pairs = moments.weights(covariances, batch), moments.without_diagonal(covariances)
        weighted = product(product(weights, pairs), weights)
        expected += float((weighted * pairs).sum(dtype=np.float64))
        found += float((moments.without_diagonal(weighted) * recorded[asarray(batch)]).sum(dtype=np.float64))
    flicker = np.float32(max(found / expected, 0.0))
    left = weight = 0.0
    for batch in moments.batches(chosen):
        covariances = moments.predicted(x, light, flicker, batch)
        variances = moments.diagonal(moments.invertible(covariances, batch))
        weights = (moments.amplitude[asarray(batch)] / variances) ** 2
        left += float((weights * moments.diagonal(recorded[asarray(batch)] - covariances)).sum(dtype=np.float64))
        weight += float(weights.sum(dtype=np.float64))
    extra = np.float32(max(left / weight, -float(moments.read_variance))) if weight > 0 else np.float32(0.0)
    return Measured(chosen, flicker, extra)
