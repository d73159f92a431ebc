"""The Gaussian kernel that the image is sought through: its width, its symmetry, and the operator behind it."""

from __future__ import annotations

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.objective.blur import GaussianKernel, psf_sigma
from fluogan_core.testing import assert_adjoint


def test_the_kernel_is_a_symmetric_blur_of_the_stated_width():
    psi = fg.Psi(fg.gaussian_psf(318, 100, 4), (32, 32), 4)
    assert psf_sigma(psi.psf) == pytest.approx(318 / 2.3548 / 25, rel=1e-3)
    kernel = GaussianKernel(psi, 0.5)
    point = np.zeros(psi.fine_shape, dtype=np.float32)
    point[64, 60] = 1.0
    spot = kernel(point).astype(np.float64)
    place = np.arange(128)
    assert spot.sum() == pytest.approx(1.0, rel=1e-5)
    for axis, centre in ((0, 64), (1, 60)):
        profile = spot.sum(axis=1 - axis)
        assert profile @ place == pytest.approx(centre, abs=1e-3)
        # cut at four standard deviations
        assert np.sqrt(profile @ (place - centre) ** 2) == pytest.approx(0.5 * psf_sigma(psi.psf), rel=5e-3)
    assert_adjoint(kernel, kernel, psi.fine_shape, psi.fine_shape, dtype=np.float32)
    np.testing.assert_array_equal(GaussianKernel(psi, 0.0)(point), point)
    assert GaussianKernel(psi, 0.0).operator is psi


@pytest.mark.parametrize("shape", [(24, 20), (10, 11)])
def test_the_kernels_operator_is_psi_after_the_blur(shape, rng):
    """Where nothing leaves the field; in a field that is no larger than the PSF, too."""
    psi = fg.Psi(fg.gaussian_psf(318, 100, 2, truncate=3), shape, 2, photons_per_emitter=3.0)
    kernel = GaussianKernel(psi, 0.3)
    z = np.zeros(psi.fine_shape)
    reach = len(kernel.taps) - 1
    z[reach:-reach, reach:-reach] = rng.random((psi.fine_shape[0] - 2 * reach, psi.fine_shape[1] - 2 * reach))
    expected = psi.forward(kernel(z))
    # both PSFs are cut at three standard deviations, where the Gaussian is exp(-4.5) = 0.011 of its peak
    np.testing.assert_allclose(kernel.operator.forward(z), expected, rtol=0.012)
