"""Distances between images, and what is left after a blur: known errors have known figures."""

import math

import numpy as np
import pytest
from scenes import flickering, region_of_a_pair

from fluogan_core.metrics.images import blurred_agreement, nrmse, psnr


def test_brightness_is_matched_before_anything_is_compared():
    truth = region_of_a_pair(240).x
    assert nrmse(7.5 * truth, truth) == pytest.approx(0.0, abs=1e-12)
    assert psnr(7.5 * truth, truth) > 250


def test_known_errors_have_known_figures():
    truth = np.array([[0.0, 2.0], [2.0, 0.0]])
    x = np.array([[1.0, 1.0], [1.0, 1.0]])
    assert nrmse(x, truth) == pytest.approx(2.0 / math.sqrt(8.0))
    assert psnr(x, truth) == pytest.approx(10 * math.log10(4.0))
    assert psnr(truth, truth) == math.inf


@pytest.mark.parametrize("metric", [nrmse, psnr])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((3, 4)), "same shape"),
        (np.zeros((4, 4)), "positive sum"),
        (np.full((4, 4), np.nan), "NaN"),
        (np.ones(16), "rows, columns"),
    ],
)
def test_what_cannot_be_compared_is_refused(metric, x, message):
    with pytest.raises(ValueError, match=message):
        metric(x, np.ones((4, 4)))


@pytest.fixture(scope="module")
def small():
    return flickering()


def test_a_blurred_truth_agrees_and_its_unit_does_not_matter(small):
    model, x, _ = small
    psi = model.psi
    mean = 3.0 * psi.forward(x) + 7.0
    agreement = blurred_agreement(x, mean, psi)
    assert agreement.rsp == pytest.approx(1.0)
    assert agreement.rse == pytest.approx(0.0, abs=1e-9 * mean.max())
    assert (agreement.scale, agreement.offset) == (pytest.approx(3.0), pytest.approx(7.0))
    # what is orthogonal to a constant and to the blurred image stays as it is
    rng = np.random.default_rng(0)
    blurred = psi.forward(x).ravel()
    basis, _ = np.linalg.qr(np.stack([np.ones_like(blurred), blurred], axis=1))
    noise = rng.standard_normal(blurred.size)
    noise -= basis @ (basis.T @ noise)
    spoilt = blurred_agreement(x, mean + noise.reshape(mean.shape), psi)
    power = 9 * blurred.var()
    assert spoilt.rse == pytest.approx(math.sqrt((noise**2).mean()))
    assert spoilt.rsp == pytest.approx(math.sqrt(power / (power + (noise**2).mean())))


def test_flat_images_agree_with_nothing_and_say_so(small):
    psi = small[0].psi
    assert blurred_agreement(np.zeros(psi.fine_shape), np.ones(psi.shape), psi).reason == "the blurred image is flat"
    mean = np.ones(psi.shape)
    assert blurred_agreement(small[1], mean, psi).rsp is None
    with pytest.raises(ValueError, match="psi's shape"):
        blurred_agreement(mean, mean, psi)
