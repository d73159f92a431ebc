"""Where single frames stand out of an image: there the chains of emissions are to look first.

A molecule that is on in one frame of a hundred is below the noise of the mean frame, and may be dark in its image.  Births are
drawn from the image: they would hardly ever be tried there, and the emission would not be found, however bright it is.
"""

from __future__ import annotations

import numpy as np

from ..backend.typing import Array
from ..physics.forward import ForwardModel

__all__ = ["standing_out"]


def standing_out(counts: Array, model: ForwardModel, x: Array, b: Array, *, errors: float) -> Array:
    """Spread the light of an image evenly over where the brightest of some frames stands out of it.

    Parameters
    ----------
    counts : (T, M1, M2) float32
        Counts above the offset.
    model : ForwardModel
    x : (N1, N2) float32
        Expected emissions per fine pixel and frame.
    b : (M1, M2) float32
        Background, photons per camera pixel and frame.
    errors : float
        A camera pixel stands out where its brightest frame is above the expected light by so many standard deviations of
        photons and read noise.

    Returns
    -------
    (N1, N2) float64
        As many emissions as x has, within a PSF of the camera pixels that stand out; 0 everywhere if none does.

    Examples
    --------
    One frame of fifty shows a molecule that the image lacks:

    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> psi = fg.Psi(fg.gaussian_psf(250, 100, 2), (24, 24), 2, photons_per_emitter=300, backend="numpy")
    >>> model, b = fg.ForwardModel(psi), np.full(psi.shape, 2, np.float32)
    >>> known, more = np.zeros((2, *psi.fine_shape), np.float32)
    >>> known[12, 12], more[36, 36] = 0.5, 1
    >>> frames = np.tile(psi.forward(known) + b, (50, 1, 1))
    >>> frames[7] += psi.forward(more)
    >>> found = standing_out(frames, model, known, b, errors=5)
    >>> bool(found[36, 36] > 0), float(found[12, 12]), round(float(found.sum()), 3)
    (True, 0.0, 0.5)
    """
    psi, xp = model.psi, model.psi.backend.xp
    expected = psi.forward(x) + b
    above = counts.max(axis=0) / np.float32(model.gain) - expected
    noise = xp.sqrt(expected + np.float32((model.noise_std / model.gain) ** 2))
    spread = psi.adjoint((above > np.float32(errors) * noise).astype(np.float32)).astype(np.float64)
    return spread * (x.sum(dtype=np.float64) / xp.maximum(spread.sum(), 1e-12))
