"""The width of the PSF from covariances: exact where they are exact, within its error on frames, cautious where it must be."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tifffile
from scipy.ndimage import convolve1d

import fluogan_core as fg
from fluogan_core.calibration import psf_width
from fluogan_core.calibration.flicker import PairKernels
from fluogan_core.calibration.pixel_moments import Halves, PixelMoments, windows
from fluogan_core.calibration.psf_width import Doubt
from fluogan_core.simulation.phantom import smooth_background
from fluogan_core.simulation.photokinetics import Blinking
from fluogan_core.tuning import DEFAULT

SHAPE, FACTOR = (26, 28), 2


def gaussian(width: float = 1.0, shape=SHAPE, **options) -> fg.Psi:
    return fg.Psi(fg.gaussian_psf(width * 318, 100, FACTOR), shape, FACTOR, backend="numpy", **options)


def airy(width: float = 1.0) -> fg.Psi:
    return fg.Psi(fg.airy_psf(width * 620, 1.2, 100, FACTOR, radius_nm=1200), SHAPE, FACTOR, backend="numpy")


def exact_moments(psi: fg.Psi, optics: PairKernels, x: np.ndarray, *, lamp=0.0, row=0.0) -> PixelMoments:
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
    return PixelMoments(
        mean,
        mean + np.diag(covariance).reshape(SHAPE),
        at,
        at,
        np.full(100, mean.mean()),
        Halves(np.array([mean, mean]), {}, {}),
    )


def width_by(moments: PixelMoments, optics: PairKernels, assumed: fg.Psi, live: np.ndarray | None = None) -> float:
    live = np.ones(SHAPE, dtype=bool) if live is None else live
    weight = psf_width._weight(moments, live, optics.near)
    targets = psf_width._targets(moments, moments.whole, optics, live, weight)
    return psf_width._best(targets, *psf_width._autocorrelations(assumed, optics.near))[0]


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
    optics = PairKernels(assumed)
    moments = exact_moments(true, optics, samples()[sample])
    # what is left: splines between and inside the PSFs, and emission that is not uniform within a camera pixel
    assert width_by(moments, optics, assumed) == pytest.approx(width, rel=0.006)


def test_a_psf_that_is_no_gaussian_has_its_width_measured_too():
    assumed = airy()
    optics = PairKernels(assumed)
    for sample in samples().values():
        assert width_by(exact_moments(airy(1.1), optics, sample), optics, assumed) == pytest.approx(1.1, rel=0.012)


@pytest.mark.parametrize("brightness", [1.0, 300.0])
def test_lamp_and_row_noise_do_not_pass_for_width(brightness):
    assumed = gaussian()
    optics = PairKernels(assumed)
    x = brightness * samples()["lines"]
    plain = exact_moments(gaussian(1.08), optics, x)
    disturbed = exact_moments(gaussian(1.08), optics, x, lamp=2e-3 / brightness, row=0.5 * brightness)
    shares = [disturbed.whole[shift].sum() / plain.whole[shift].sum() for shift in optics.near]
    assert max(shares) > 1.1  # they would
    assert width_by(disturbed, optics, assumed) == pytest.approx(width_by(plain, optics, assumed), rel=1e-3)


@pytest.mark.parametrize("sample", ["lines", "everywhere"])
def test_pixels_that_are_left_out_leave_the_width(sample):
    assumed = gaussian()
    optics = PairKernels(assumed)
    live = np.ones(SHAPE, dtype=bool)
    live[10, 9], live[17] = False, False
    moments = exact_moments(gaussian(1.08), optics, samples()[sample])
    assert width_by(moments, optics, assumed, live) == pytest.approx(1.08, rel=0.008)


def blinking(seed: int, frames: int = 300, part: tuple[slice, ...] = ()) -> np.ndarray:
    """Frames of blinking lines, or of a part of them."""
    pattern = fg.argolight_pattern((240.0,), pixel_size_nm=100, factor=FACTOR, shape=(32, 32), margin_nm=200)
    lit = np.zeros_like(pattern.x)
    lit[part] = pattern.x[part]
    pattern = dataclasses.replace(pattern, x=lit)
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


def test_it_does_not_matter_how_bright_an_emission_is_said_to_be_nor_how_the_stack_lies():
    frames = blinking(0, 60)
    plain = fg.estimate_psf_width(frames, gaussian(1.0, (32, 32)))
    brighter = gaussian(1.0, (32, 32), photons_per_emitter=9.0)
    again = fg.estimate_psf_width(np.asfortranarray(frames.astype(np.float64)), brighter)
    assert again.measured == pytest.approx(plain.measured, rel=1e-6)


def test_a_stack_and_an_array_are_the_same_frames(tmp_path):
    frames, psi = blinking(0, 60), gaussian(1.0, (32, 32))
    plain = fg.estimate_psf_width(frames, psi)
    tifffile.imwrite(tmp_path / "stack.tif", frames.astype(np.float32))

    read = fg.read_stack(tmp_path / "stack.tif")
    assert fg.estimate_psf_width(read, psi).measured == pytest.approx(plain.measured, rel=1e-4)


def test_steady_light_says_nothing():
    rng = np.random.default_rng(5)
    found = fg.estimate_psf_width(rng.poisson(5.0 + 100.0 * np.eye(32), (200, 32, 32)), gaussian(1.0, (32, 32)))
    assert found.width == 1.0
    assert "the flicker does not determine it" in found.note


def test_light_in_a_corner_is_light_enough():
    found = fg.estimate_psf_width(blinking(1, part=(slice(0, 32), slice(0, 32))), gaussian(1.0, (32, 32)))
    assert found.error < 0.04
    assert abs(found.measured - 1.0) < 4.0 * found.error


@pytest.mark.parametrize("swing", [1.0, 2.0])
def test_a_sample_that_moves_is_not_taken_for_a_wide_psf(swing):
    frames = blinking(0)
    steps = np.rint(swing * np.sin(np.arange(len(frames)) / 10.0)).astype(int)
    moving = np.stack([np.roll(frame, step, axis=1) for frame, step in zip(frames, steps)])
    found = fg.estimate_psf_width(moving, gaussian(1.0, (32, 32)))
    assert found.width == 1.0
    assert not found.note.endswith("times as wide as described)"), found.note  # it is seen that something is wrong


def test_pixels_that_leak_are_not_taken_for_a_narrow_psf():
    leaking = convolve1d(blinking(0), [0.05, 0.9, 0.05], axis=2)
    found = fg.estimate_psf_width(leaking, gaussian(1.0, (32, 32)))
    assert abs(found.measured - 1.0) > 2.0 * found.error  # it would be
    assert found.width == 1.0
    assert "give different widths" in found.note


@pytest.mark.parametrize(
    ("measured", "error", "doubts", "taken", "said"),
    [
        (1.05, 0.01, [], 1.05, "this width is used"),
        (0.93, 0.02 - 1e-9, [], 0.93, "this width is used"),
        (1.025, 0.015, [], 1.0, "as described"),  # less than two standard errors
        (1.008, 0.001, [], 1.0, "as described"),  # clear, and of no account
        (1.05, 0.01, [Doubt("it moves", 1.5)], 1.0, "used as described, because it moves"),
        (1.05, 0.01, [Doubt("it moves", np.nan)], 1.0, "used as described, because it moves"),
        (1.05, 0.01, [Doubt("it moves", 1.25)], 1.025, "1.025 is used, between the two, because it moves"),
        (1.05, 0.01, [Doubt("it moves", 1.0)], 1.05, "this width is used"),
        (1.05, 0.02, [], 1.025, "hardly more than its error"),
        (1.35, 0.01, [], 1.0, "out of focus"),
        (1.15, 0.05, [], 1.0, "does not determine"),
        (DEFAULT.calibration.psf_width.narrowest, 0.0, [], 1.0, "no PSF 0.6 to 1.7 times as wide"),
        (DEFAULT.calibration.psf_width.widest, 0.0, [], 1.0, "no PSF 0.6 to 1.7 times as wide"),
        (float("nan"), float("inf"), [], 1.0, "hardly any"),
    ],
)
def test_only_what_is_clear_is_taken(measured, error, doubts, taken, said):
    found = psf_width._judged(measured, error, doubts)
    assert found.width == pytest.approx(taken, abs=1e-12)
    assert said in found.note


def test_no_hairs_breadth_decides():
    """Along whatever path the width, its error and a doubt change, what is taken changes by a few times as much at most."""
    steps = np.linspace(0, 1, 2001)
    paths = {
        "width": (0.7 + 0.6 * steps, 0.01 + 0 * steps, 0 * steps),
        "error": (1.06 + 0 * steps, 0.05 * steps, 0 * steps),
        "doubt": (1.06 + 0 * steps, 0.01 + 0 * steps, 2 * steps),
    }
    for name, path in paths.items():
        taken = np.array([psf_width._judged(m, e, [Doubt("it moves", d)]).width for m, e, d in zip(*path)])
        assert np.ptp(taken) > 0.05, name
        assert np.abs(np.diff(taken)).max() < 0.004, name


def test_frames_with_nothing_to_say_are_no_reason_to_stop():
    psi = gaussian(1.0, (32, 32))
    dead = np.zeros((40, 32, 32))
    dead[:, 3:6, 4:7] = blinking(0, 40)[:, 3:6, 4:7]
    assert "the flicker does not determine it (5 of 1024 pixels fluctuate" in fg.estimate_psf_width(dead, psi).note


def test_widths_that_fit_alike_are_no_width(rng):
    """Where every width predicts the same pairs but for their strength, rounding would choose one, the same in every block."""
    widths = np.linspace(0.6, 1.7, 111)
    angles, target = 0.1 * widths, np.array([[np.cos(0.1), np.sin(0.1)]])
    curves = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert psf_width._best(target, widths, curves) == pytest.approx(1.0)
    alike = np.outer(1 + rng.random(len(widths)), [np.cos(0.1), np.sin(0.1)])
    assert np.isnan(psf_width._best(target, widths, alike)).all()


def test_psfs_of_which_no_width_can_be_told_are_left_alone():
    ring = np.zeros((41, 41))
    ring[[0, -1]] = ring[:, [0, -1]] = 1.0
    for psf in (ring, np.ones((1, 9))):
        found = fg.estimate_psf_width(blinking(0, 60), fg.Psi(psf, (32, 32), FACTOR, backend="numpy"))
        assert found.width == 1.0, found.note


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("side", [1, 3, 5, 9, 15])
def test_a_psf_whose_covariances_do_not_follow_its_width_has_no_width(side, factor):
    """A box on a few fine pixels is the same at many widths; then rounding picks one, in every block the same."""
    psi = fg.Psi(np.ones((side, side)), (32, 32), factor, backend="numpy")
    frames = blinking(0, 60).astype(np.float64)
    rng = np.random.default_rng(0)
    for stack in (frames, frames * (1 + 1e-15 * rng.standard_normal(frames.shape)), np.asfortranarray(frames[::-1])):
        found = fg.estimate_psf_width(stack, psi)
        assert (found.width, found.error) == (1.0, np.inf), found.note
        assert "too coarse" in found.note or "as small as a pixel" in found.note


@pytest.mark.parametrize("fwhm_nm", [150, 200, 318, 450])
@pytest.mark.parametrize("factor", [1, 2, 4])
def test_the_covariances_of_a_smooth_psf_follow_its_width(fwhm_nm, factor):
    for psf in (fg.gaussian_psf(fwhm_nm, 100, factor), fg.airy_psf(2.4 * fwhm_nm, 1.2, 100, factor, radius_nm=900)):
        psi = fg.Psi(psf, (48, 48), factor, backend="numpy")
        curves = psf_width._autocorrelations(psi, PairKernels(psi).near)[1]
        assert np.isfinite(curves).all()


def test_an_error_of_nought_is_no_certainty():
    """Replicates that are all alike tell the width to the step of the grid, no better; one that tells nothing, not at all."""
    same = np.full(26, 1.05)
    assert psf_width._with_error(same) == (1.05, pytest.approx(DEFAULT.calibration.psf_width.grid / np.sqrt(12)))
    same[7] = np.nan
    assert psf_width._with_error(same)[1] == np.inf
    one_step = np.full(26, 1.05) + DEFAULT.calibration.psf_width.grid
    assert psf_width._disagreement(one_step, np.full(26, 1.05)) <= 1
    assert psf_width._disagreement(one_step + 4 * DEFAULT.calibration.psf_width.grid, np.full(26, 1.05)) > 1
    assert np.isnan(psf_width._disagreement(same, np.full(26, 1.05)))


# -- however the camera was mounted -------------------------------------------------------------------------------------

MOUNTED = {
    "upside down": lambda frames: frames[:, ::-1],
    "mirrored": lambda frames: frames[:, :, ::-1],
    "transposed": lambda frames: frames.transpose(0, 2, 1),
    "turned": lambda frames: frames.transpose(0, 2, 1)[:, ::-1],
}


@pytest.mark.parametrize(("seed", "side"), [(3, 32), (4, 30)], ids=["blocks of unequal size", "middles on borders of blocks"])
def test_the_width_does_not_depend_on_how_the_camera_was_mounted(seed, side):
    frames = blinking(seed, 120)[:, :side, :side]
    for assumed in (0.92, 1.0):
        psi = gaussian(assumed, (side, side))
        plain = fg.estimate_psf_width(frames, psi)
        for turn in MOUNTED.values():
            other = fg.estimate_psf_width(np.ascontiguousarray(turn(frames)), psi)
            assert other.measured == pytest.approx(plain.measured, abs=DEFAULT.calibration.psf_width.grid)
            assert other.error == pytest.approx(plain.error, rel=0.02)
            assert other.width == pytest.approx(plain.width, abs=3 * DEFAULT.calibration.psf_width.grid)
            assert other.note.split("(")[0][:60] == plain.note.split("(")[0][:60]


def test_shifts_of_equal_strength_take_part_together():
    for side, fwhm_nm in ((32, 318), (32, 200), (20, 450)):
        optics = PairKernels(fg.Psi(fg.gaussian_psf(fwhm_nm, 100, 2, truncate=3), (side, side), 2, backend="numpy"))
        for part in (optics.near, optics.closer, optics.wider):
            unsigned = {tuple(sorted(map(abs, shift))) for shift in part}
            for a, b in unsigned:
                images = {(a, b), (b, a)} | ({(a, -b), (b, -a)} if a and b else set())
                assert images <= set(part), part
        assert optics.closer + optics.wider == optics.near
        assert len(optics.near) >= 6


@pytest.mark.parametrize("size", [25, 30, 32])
def test_blocks_of_a_mirrored_field_are_mirrored_blocks(size):
    y = np.arange(2 * size - 1) / 2
    middle = np.full(len(y), size / 2 - 0.5)
    down = psf_width._shares(y, middle, (size, size)).reshape(5, 5, -1)
    across = psf_width._shares(middle, y, (size, size)).reshape(5, 5, -1)
    np.testing.assert_allclose(down.sum(axis=(0, 1)), 1.0)
    np.testing.assert_array_equal(down, down[::-1, :, ::-1])
    np.testing.assert_array_equal(down, across.swapaxes(0, 1))
    # pixels and points between them: a block holds a fifth, to one and a half
    assert np.abs(down.sum(axis=(1, 2)) - len(y) / 5).max() <= 1.5


@pytest.mark.parametrize(("frames", "side"), [(10, 32), (40, 8)], ids=["few frames", "small field"])
def test_too_little_is_said_not_guessed(frames, side):
    psi = fg.Psi(fg.gaussian_psf(200, 100, FACTOR, truncate=2), (side, side), FACTOR, backend="numpy")
    found = fg.estimate_psf_width(blinking(0, frames)[:, :side, :side], psi)
    assert found.width == 1.0
    assert "does not determine" in found.note


def test_bad_input_is_named():
    psi = gaussian(1.0, (32, 32))
    with pytest.raises(ValueError, match=r"frames are 20 x 32 pixels but psi's field is 32 x 32"):
        fg.estimate_psf_width(np.ones((30, 20, 32)), psi)
    with pytest.raises(ValueError, match="NaN or infinite"):
        fg.estimate_psf_width(np.full((30, 32, 32), np.nan), psi)
    with pytest.raises(ValueError, match="frames, rows, columns"):
        fg.estimate_psf_width(np.ones((32, 32)), psi)
