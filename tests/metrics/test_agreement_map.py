"""RSE and RSP maps: what an image lacks is found where it lacks it; flat regions have no correlation."""

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.metrics import agreement_map, blurred_agreement


def scene(shape=(40, 48), factor=2):
    psi = fg.Psi(fg.gaussian_psf(318, 100, factor), shape, factor, backend="numpy")
    x = np.zeros(psi.fine_shape)
    x[10:-10, [20, min(60, x.shape[1] - 10)]] = 20.0
    return psi, x


def test_the_truth_in_another_unit_agrees_everywhere():
    psi, x = scene()
    found = agreement_map(0.01 * x, 5 * psi.forward(x) + 3, psi)
    assert np.abs(found.error).max() < 5e-6 * psi.forward(x).max()
    lit = np.isfinite(found.rsp)
    np.testing.assert_allclose(found.rsp[lit], 1.0, rtol=0, atol=5e-6)
    # far from the lines there is nothing to correlate
    assert lit[20, 10]
    assert not lit[20, 47]


def test_the_region_of_the_whole_field_has_the_figures_of_the_whole_field():
    psi, x = scene((30, 31))
    rng = np.random.default_rng(0)
    image, mean = x + 2 * rng.random(x.shape), psi.forward(x) + rng.standard_normal(psi.shape)
    whole = blurred_agreement(image, mean, psi)
    found = agreement_map(image, mean, psi, side=63)
    assert found.whole == whole
    assert found.rsp == pytest.approx(np.full(psi.shape, whole.rsp), abs=5e-6)
    assert found.rse == pytest.approx(np.full(psi.shape, whole.rse), rel=1e-6)


def test_each_value_is_that_of_its_region():
    """By the definition, pixel by pixel."""
    psi, x = scene((20, 24))
    mean = psi.forward(x) + np.random.default_rng(1).standard_normal(psi.shape)
    found = agreement_map(x, mean, psi, side=5)
    blurred = found.whole.scale * psi.forward(x) + found.whole.offset
    for row, column in [(3, 8), (9, 11), (19, 12), (12, 7)]:
        region = slice(max(row - 2, 0), row + 3), slice(max(column - 2, 0), column + 3)
        rms = np.sqrt(((mean - blurred)[region] ** 2).mean())
        pearson = np.corrcoef(blurred[region].ravel(), mean[region].ravel())[0, 1]
        assert found.rse[row, column] == pytest.approx(rms, rel=1e-5)
        assert found.rsp[row, column] == pytest.approx(pearson, abs=1e-5)


def test_light_that_is_lacking_is_above_zero_and_invented_light_below():
    psi, x = scene()
    lacks, invents = x.copy(), x.copy()
    lacks[20:40, 60], invents[20:40, 90] = 0, 20
    there = slice(13, 17)
    assert agreement_map(lacks, psi.forward(x), psi).error[there, 30].min() > 1
    assert agreement_map(invents, psi.forward(x), psi).error[there, 45].max() < -1


@pytest.mark.parametrize("size", [256, 257])
def test_one_row_more_changes_nothing(size):
    psi, x = scene((256, 64))
    larger = fg.Psi(psi.psf, (size, 64), 2, backend="numpy")
    more = np.zeros(larger.fine_shape)
    more[: len(x)] = x
    wrong = more.copy()
    wrong[100:140, 60] = 0
    found = agreement_map(wrong, larger.forward(more), larger)
    first = agreement_map(wrong[: len(x)], psi.forward(x), psi)
    assert found.side == first.side
    # the scale is that of the whole field, which has one row of darkness more
    assert found.rse[:250] == pytest.approx(first.rse[:250], rel=0.02, abs=0.02)
    assert np.array_equal(np.isnan(found.rsp[:250]), np.isnan(first.rsp[:250]))


def test_noise_has_no_correlation():
    psi, x = scene((60, 60))
    rng = np.random.default_rng(2)
    mean = psi.forward(x) + 10 + 0.3 * rng.standard_normal(psi.shape)
    image = x + 0.1 * rng.random(x.shape)
    found = agreement_map(image, mean, psi, noise=np.full(psi.shape, 0.3))
    assert np.isnan(found.rsp[30, 50])
    assert found.rsp[30, 10] > 0.99
    assert found.rse[30, 50] == pytest.approx(0.3, rel=0.3)


def test_a_flat_image_has_an_error_and_no_correlation():
    psi, x = scene()
    found = agreement_map(np.zeros(psi.fine_shape), psi.forward(x), psi)
    assert np.isnan(found.rsp).all()
    assert found.whole.rsp is None
    assert np.isfinite(found.rse).all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"side": 4}, "odd"),
        ({"side": 1}, "side"),
        ({"noise": np.ones((3, 3))}, "noise"),
        ({"noise": -np.ones((40, 48))}, "noise"),
    ],
)
def test_what_does_not_fit_is_refused(options, said):
    psi, x = scene()
    with pytest.raises(ValueError, match=said):
        agreement_map(x, psi.forward(x), psi, **options)
