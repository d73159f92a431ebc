"""The width of the PSF from covariances: exact where they are exact, within its error on frames, cautious where it must be."""

from __future__ import annotations

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core import psf_width
from fluogan_core.flicker import Optics
from fluogan_core.phantom import smooth_background
from fluogan_core.photokinetics import Blinking
from fluogan_core.pixel_moments import PixelMoments, windows

SHAPE, FACTOR = (26, 28), 2


def gaussian(width: float = 1.0, shape=SHAPE, **options) -> fg.Psi:
    return fg.Psi(fg.gaussian_psf(width * 318, 100, FACTOR), shape, FACTOR, backend="numpy", **options)


def airy(width: float = 1.0) -> fg.Psi:
    return fg.Psi(fg.airy_psf(width * 620, 1.2, 100, FACTOR, radius_nm=1200), SHAPE, FACTOR, backend="numpy")


def exact_moments(psi: fg.Psi, optics: Optics, x: np.ndarray, *, lamp=0.0, row=0.0) -> PixelMoments:
    """What infinitely many frames of emissions x would show at the shifts of ``optics``, a lamp and row noise in it."""
    matrix = psi.adjoint(np.eye(SHAPE[0] * SHAPE[1]).reshape(-1, *SHAPE)).reshape(SHAPE[0] * SHAPE[1], -1)
    mean = psi.forward(x) + 2.0
    rows = np.arange(mean.size) // SHAPE[1]
    covariance = (matrix * x.ravel()) @ matrix.T + lamp * np.outer(mean, mean) + row * (rows[:, None] == rows)
    pixel = np.arange(mean.size).reshape(SHAPE)
    at = {}
    for shift in (*optics.near, *optics.far):
        first, second = windows(shift, SHAPE)
        at[shift] = covariance[pixel[first], pixel[second]]
    return PixelMoments(mean, mean + np.diag(covariance).reshape(SHAPE), at, at, np.full(100, mean.mean()))


def width_by(moments: PixelMoments, optics: Optics, assumed: fg.Psi) -> float:
    sums = psf_width._sums(moments, moments.whole, optics, np.ones(SHAPE, dtype=bool))
    assert sums is not None
    return psf_width._best(sums, *psf_width._autocorrelations(assumed, optics.near))[0]


def samples() -> dict[str, np.ndarray]:
    fine = (SHAPE[0] * FACTOR, SHAPE[1] * FACTOR)
    rng = np.random.default_rng(3)
    spots, lines = np.zeros(fine), np.zeros(fine)
    spots[rng.integers(6, 46, 30), rng.integers(6, 50, 30)] = 50.0
    lines[8:44, [20, 24, 36]] = 20.0
    return {"spots": spots, "lines": lines, "everywhere": np.full(fine, 5.0)}


@pytest.mark.parametrize("sample", ["spots", "lines", "everywhere"])
@pytest.mark.parametrize("width", [0.88, 1.0, 1.13])
def test_exact_covariances_give_the_width_whatever_the_sample(sample, width):
    true, assumed = gaussian(width), gaussian()
    optics = Optics(assumed)
    moments = exact_moments(true, optics, samples()[sample])
    # what is left: splines between and inside the PSFs, and emission that is not uniform within a camera pixel
    assert width_by(moments, optics, assumed) == pytest.approx(width, rel=0.006)


def test_a_psf_that_is_no_gaussian_has_its_width_measured_too():
    assumed = airy()
    optics = Optics(assumed)
    for sample in samples().values():
        assert width_by(exact_moments(airy(1.1), optics, sample), optics, assumed) == pytest.approx(1.1, rel=0.012)


def test_lamp_and_row_noise_do_not_pass_for_width():
    assumed = gaussian()
    optics = Optics(assumed)
    x = samples()["lines"]
    plain = exact_moments(gaussian(1.08), optics, x)
    disturbed = exact_moments(gaussian(1.08), optics, x, lamp=2e-3, row=0.5)
    shares = [disturbed.whole[shift].sum() / plain.whole[shift].sum() for shift in optics.near]
    assert max(shares) > 1.1  # they would
    assert width_by(disturbed, optics, assumed) == pytest.approx(width_by(plain, optics, assumed), rel=1e-3)


def blinking(seed: int, frames: int = 300) -> np.ndarray:
    pattern = fg.argolight_pattern((240.0,), pixel_size_nm=100, factor=FACTOR, shape=(32, 32), margin_nm=200)
    return fg.simulate_sofi(
        pattern, frames=frames, density_per_um2=500, fwhm_nm=318, blinking=Blinking(photons_per_frame=40.0),
        background=smooth_background((32, 32), 10.0, seed=seed), seed=seed,
    ).frames  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1])
def test_a_wrong_width_is_found_on_blinking_frames_and_a_right_one_left(seed):
    frames = blinking(seed)
    for assumed in (0.92, 1.0, 1.08):
        found = fg.estimate_psf_width(frames, gaussian(assumed, (32, 32)))
        assert found.error < 0.02
        assert abs(found.measured * assumed - 1.0) < 4.0 * found.error
        assert found.width == (1.0 if assumed == 1.0 else found.measured), found.note


def test_it_does_not_matter_how_bright_an_emission_is_said_to_be_nor_where_the_stack_lies():
    frames = blinking(0, 60)
    plain = fg.estimate_psf_width(frames, gaussian(1.0, (32, 32)))
    brighter = gaussian(1.0, (32, 32), photons_per_emitter=9.0)
    again = fg.estimate_psf_width(np.asfortranarray(frames.astype(np.float64)), brighter)
    assert again.measured == pytest.approx(plain.measured, rel=1e-6)


def steady(frames: int = 200, drift: float = 0.0) -> np.ndarray:
    """Lines that do not flicker but swing by ``drift`` camera pixels."""
    rng = np.random.default_rng(5)
    across = np.arange(32)[None, None, :] - drift * np.sin(np.arange(frames) / 15.0)[:, None, None]
    rate = 5.0 + 200.0 * np.exp(-0.5 * ((across - 14) / 1.5) ** 2) + 150.0 * np.exp(-0.5 * ((across - 21) / 1.5) ** 2)
    return rng.poisson(np.broadcast_to(rate, (frames, 32, 32))).astype(np.float32)


def test_steady_light_says_nothing():
    found = fg.estimate_psf_width(steady(), gaussian(1.0, (32, 32)))
    assert found.width == 1.0
    assert "not told by the flicker" in found.note


def test_a_sample_that_moves_is_not_taken_for_a_wide_psf():
    found = fg.estimate_psf_width(steady(drift=0.7), gaussian(1.0, (32, 32)))
    assert found.width == 1.0


@pytest.mark.parametrize(
    ("measured", "error", "moves", "taken", "said"),
    [
        (1.05, 0.01, False, 1.05, "so it is taken"),
        (0.93, 0.02, False, 0.93, "so it is taken"),
        (1.05, 0.025, False, 1.0, "as described"),  # two standard errors
        (1.008, 0.001, False, 1.0, "as described"),  # clear, and of no account
        (1.05, 0.01, True, 1.0, "moves"),
        (1.35, 0.01, False, 1.0, "out of focus"),
        (1.15, 0.05, False, 1.0, "not told"),
        (float("nan"), float("inf"), False, 1.0, "hardly any"),
    ],
)
def test_only_what_is_clear_is_taken(measured, error, moves, taken, said):
    found = psf_width._judged(measured, error, moves)
    assert found.width == taken
    assert said in found.note
    assert found.error == error


@pytest.mark.parametrize(("frames", "side"), [(10, 32), (40, 8)], ids=["few frames", "small field"])
def test_too_little_is_said_not_guessed(frames, side):
    psi = fg.Psi(fg.gaussian_psf(200, 100, FACTOR, truncate=2), (side, side), FACTOR, backend="numpy")
    found = fg.estimate_psf_width(blinking(0, frames)[:, :side, :side], psi)
    assert found.width == 1.0
    assert "not told" in found.note


def test_bad_input_is_named():
    psi = gaussian(1.0, (32, 32))
    with pytest.raises(ValueError, match=r"psi is for a field of \(32, 32\), the frames are \(20, 32\)"):
        fg.estimate_psf_width(np.ones((30, 20, 32)), psi)
    with pytest.raises(ValueError, match="NaN or infinite"):
        fg.estimate_psf_width(np.full((30, 32, 32), np.nan), psi)
    with pytest.raises(ValueError, match="frames, rows, columns"):
        fg.estimate_psf_width(np.ones((32, 32)), psi)
