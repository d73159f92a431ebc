r"""Images without detail finer than the light can show: :math:`x = G z`, z non-negative, G a narrow Gaussian blur.

Deconvolution at the limit of the signal-to-noise answers with spikes: the likelihood prefers them to the smooth image that
made the data (Snyder and Miller 1985, the method of sieves).  Looking for x among blurred images takes the spikes out of the
question and leaves everything coarser to the data.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np

from ..backend.checks import real_number
from ..backend.typing import Array
from ..physics.norm import spectral_norm
from ..physics.psf import cut_psf, psf_sigma
from ..physics.psi import Psi
from ..physics.requirements import has_table

__all__ = ["BlurredOperator", "GaussianKernel"]


class GaussianKernel:
    """The blur G on the fine grid of a Psi: symmetric, and zero outside the field.

    Parameters
    ----------
    psi : Psi
    detail : float
        Standard deviation of the blur, as a fraction of the PSF's; 0 blurs nothing.

    Attributes
    ----------
    operator : Psi or BlurredOperator
        Psi G: the operator with a PSF that is blurred too, at no cost per step.  At the border it differs from Psi after G by
        the light that G moves out of the field and that shines back into it.  An operator of the user's own is Psi after G.
    """

    def __init__(self, psi: Psi, detail: float) -> None:
        sigma = real_number(detail, "detail", low=0, high=1) * psf_sigma(psi.psf)
        reach = min(math.ceil(4.0 * sigma), min(psi.fine_shape) - 1)
        taps = np.exp(-0.5 * (np.arange(reach + 1) / sigma) ** 2) if reach else np.ones(1)
        self.taps = taps / (taps[0] + 2.0 * taps[1:].sum())
        self.psi = psi
        # on a card one launch for each axis, in place of one for every tap
        self._banded = None if psi.backend.cuda is None or not reach else psi.backend.kernel("banded")
        self._bands = [] if self._banded is None else [self._bands_of(size) for size in psi.fine_shape]

    def _bands_of(self, size: int) -> tuple[Array, Array]:
        """The first column of every row of G along an axis, and what the row holds from there on."""
        reach, asarray = len(self.taps) - 1, self.psi.backend.asarray
        line = np.concatenate([self.taps[:0:-1], self.taps]).astype(np.float32)
        return asarray(np.arange(size, dtype=np.int64) - reach), asarray(np.tile(line, (size, 1)))

    def __call__(self, image: Array) -> Array:
        """Return G image; G is its own adjoint."""
        kernel = self.psi.backend.kernel("blur")
        if kernel is not None and image.dtype in (np.float32, np.float64):
            return kernel(image, self.taps.astype(image.dtype))
        if self._banded is not None and image.shape == self.psi.fine_shape and image.dtype == np.float32:
            for bands in self._bands:
                image = self._banded(*bands, image)
            return image
        for _ in range(2):
            blurred = image * image.dtype.type(self.taps[0])
            for k, tap in enumerate(self.taps[1:].astype(image.dtype), 1):
                blurred[k:] += tap * image[:-k]
                blurred[:-k] += tap * image[k:]
            image = blurred.T
        return image

    @cached_property
    def operator(self) -> Psi | BlurredOperator:
        psi, reach = self.psi, len(self.taps) - 1
        if not reach:
            return psi
        if not has_table(psi):
            return BlurredOperator(self)
        blurred = self(np.pad(psi.psf, reach))
        return psi.replaced(psf=cut_psf(blurred, psi.fine_shape))


class BlurredOperator:
    """Psi after G, for an operator of the user's own: a wider PSF alone need not be the blur of all that it does.

    Parameters
    ----------
    kernel : GaussianKernel
    """

    axis_matrices = None

    def __init__(self, kernel: GaussianKernel) -> None:
        self.kernel, self.psi = kernel, kernel.psi
        self.shape, self.fine_shape, self.backend = self.psi.shape, self.psi.fine_shape, self.psi.backend

    def _blurred(self, images: Array) -> Array:
        flat = images.reshape(-1, *self.fine_shape)
        return self.backend.xp.stack([self.kernel(image) for image in flat]).reshape(images.shape)

    def forward(self, x: Array) -> Array:
        """Return Psi G x, (..., M1, M2), for x (..., N1, N2)."""
        return self.psi.forward(self._blurred(x))

    def adjoint(self, y: Array) -> Array:
        """Return G Psi^T y, (..., N1, N2), for y (..., M1, M2)."""
        return self._blurred(self.psi.adjoint(y))

    @cached_property
    def norm(self) -> float:
        """The largest singular value, photons per emission."""
        return spectral_norm(self)
