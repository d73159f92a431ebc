"""A PSF far narrower than a camera pixel says that neighbouring pixels share no light."""

from __future__ import annotations

import numpy as np
import pytest

import fluogan_core as fg


def test_flicker_that_explains_all_variance_is_refused_with_a_way_out():
    """Each pixel flickers on its own, as the photons in it do: nothing distinguishes the two."""
    psi = fg.Psi(fg.gaussian_psf(30, 100, 1), (12, 12), 1, backend="numpy")
    model = fg.ForwardModel(psi, gain=2.0, noise_std=1.0)
    x, b = np.random.default_rng(0).gamma(0.5, 2, psi.fine_shape).astype("f4"), np.full(psi.shape, 3, "f4")
    stack = model.sample(x, b, 40) + 100
    with pytest.raises(ValueError, match="so narrow a PSF cannot tell the two apart"):
        fg.estimate_camera(stack, psi)
    assert fg.estimate_camera(stack).camera.gain > 0
