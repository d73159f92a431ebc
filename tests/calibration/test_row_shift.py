"""Odd and even rows that are shifted against each other, as a bidirectional scan leaves them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.calibration.noise import stack_noise
from fluogan_core.calibration.row_shift import row_shift_from, straightened
from fluogan_core.tuning import DEFAULT

FWHM, PX = 300.0, 110.0


def lines(shift: float, *, centres=(9.4, 20.0, 22.0, 33.7), shape=(36, 44), brightness=3.0) -> np.ndarray:
    """Vertical lines in photons per pixel, odd rows ``shift`` pixels to the right of even ones."""
    sigma = FWHM / 2.3548 / PX
    column = np.arange(shape[1])
    light = np.full(shape, 0.002)
    for row in range(shape[0]):
        for centre in centres:
            light[row] += brightness * np.exp(-0.5 * ((column - centre - shift * (row % 2 - 0.5)) / sigma) ** 2)
    return light


def recorded(light: np.ndarray, seed: int, frames: int = 300) -> np.ndarray:
    return np.random.default_rng(seed).poisson(light, (frames, *light.shape)).astype(np.uint16)


def operator(shape=(36, 44), factor: int = 1) -> fg.Psi:
    return fg.Psi(fg.gaussian_psf(FWHM, PX, factor), shape, factor, backend="numpy")


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shift", [-0.5, 0.0, 0.12, 0.9])
def test_the_shift_is_measured_along_rows_and_columns(shift, axis):
    pulls = []
    for seed in range(8):
        stack = recorded(lines(shift), seed)
        found = fg.estimate_row_shift(stack.swapaxes(1, 2) if axis else stack, operator((44, 36) if axis else (36, 44)))
        if shift:
            assert found.axis == axis
            assert found.error < 0.03
            assert found.applied == found.shift
            pulls.append((found.shift - shift) / found.error)
        else:
            assert found.applied == 0
            assert abs(found.shift) < 3.5 * found.error
    assert np.abs(pulls).max(initial=0.0) < 4
    assert not pulls or abs(np.mean(pulls)) < 1.5


def uneven(shift: float, seed: int, background: float) -> np.ndarray:
    """Counts of a camera with stripes and unequal pixels, on a background that no scan shifts."""
    rng = np.random.default_rng(100 + seed)
    shape = (36, 44)
    slope = background * np.exp(-((np.arange(44) - 30) ** 2) / 400) * np.ones((36, 1))
    counts = 2.0 * recorded(lines(shift) + slope, seed)
    fixed = rng.normal(0, 1.0, (36, 1)) + rng.normal(0, 0.3, shape)
    if not shift:  # a scan has no columns of its own
        fixed = fixed + rng.normal(0, 1.0, 44)
    return counts + 100 + fixed


def test_stripes_unequal_pixels_and_a_background_are_no_shift_and_hide_none():
    for shift in (0.0, 0.3):
        pulls = []
        for seed in range(10):
            found = fg.estimate_row_shift(uneven(shift, seed, background=2.0), operator())
            pulls.append((found.shift - (shift if found.axis == 0 else 0.0)) / found.error)
            assert (found.applied != 0) == (shift != 0)
        assert np.abs(pulls).max() < 4
        assert 0.3 < np.sqrt(np.mean(np.square(pulls))) < 2


def test_without_light_or_without_rows_nothing_is_measured():
    noise = np.random.default_rng(3).standard_normal((20, 36, 44))
    assert fg.estimate_row_shift(noise, operator()) == fg.RowShift(np.nan, np.inf) or not (
        fg.estimate_row_shift(noise, operator()).applied
    )
    small = fg.estimate_row_shift(recorded(lines(0.3)[:15], 1), operator((15, 44)))
    assert np.isnan(small.shift)
    assert (small.error, small.applied, small.note) == (np.inf, 0.0, "")
    # a PSF of which nothing is empty
    narrow = fg.Psi(fg.gaussian_psf(20, 110, 1), (36, 44), 1, backend="numpy")
    assert np.isnan(fg.estimate_row_shift(recorded(lines(0.3), 1), narrow).shift)


def test_a_shift_is_moved_back_by_degrees():
    mean, psi = recorded(lines(0.05), 2).mean(axis=0), operator()
    base = DEFAULT.calibration.row_shift
    found = row_shift_from(mean, mean / 300, psi, base)
    errors = abs(found.shift) / found.error
    assert 5 < errors < 50
    shares = []
    for chance in np.linspace(0.6, 1.4, 9) * errors:
        applied = row_shift_from(mean, mean / 300, psi, replace(base, chance=chance, clear=1.25 * chance, least=0.001)).applied
        shares.append(applied / found.shift)
    assert shares[0] == pytest.approx(1)
    assert shares[-1] == 0
    assert np.all(np.diff(shares) <= 0)
    assert any(0.05 < share < 0.95 for share in shares)
    assert row_shift_from(mean, mean / 300, psi, replace(base, least=0.1)).applied == 0


def test_rows_that_are_moved_back_are_those_without_a_shift():
    straight = lines(0.0)
    for axis in (0, 1):
        shifted = lines(0.3).T if axis else lines(0.3)
        back = straightened(shifted.astype(np.float32), 0.3, axis=axis)
        assert back.dtype == np.float32
        np.testing.assert_allclose(back.T if axis else back, straight, atol=2e-3)
        np.testing.assert_allclose(back, straightened(shifted[None], 0.3, axis=axis)[0], atol=1e-5)
    np.testing.assert_allclose(straightened(lines(0.3)[1:], 0.3, first=1), straight[1:], atol=2e-3)
    assert straightened(straight, 0.0) is straight


@pytest.mark.parametrize("shift", [-0.4, 0.16, 0.3])
def test_a_constant_is_kept_and_white_noise_stays_white(shift):
    matrix = straightened(np.broadcast_to(np.eye(40)[:, None], (40, 2, 40)).copy(), shift)  # rows of both kinds
    for row in (0, 1):
        one = matrix[:, row]
        np.testing.assert_allclose(one.sum(axis=0), 1, atol=1e-12)
        inside = (one.T @ one)[4:-4, 4:-4]
        np.testing.assert_allclose(inside, np.eye(32), atol=0.06)
    # mirrored images, mirrored rows
    np.testing.assert_allclose(matrix[::-1, 0, ::-1], straightened(np.eye(40)[:, None].copy(), -shift)[:, 0], atol=1e-12)


def test_the_camera_estimate_says_by_how_much_rows_are_shifted():
    found = fg.estimate_camera(recorded(lines(0.3), 5), operator(), gain=1.0, offset=0.0, noise_std=0.0)
    (note,) = (note for note in found.notes if "bidirectional" in note)
    assert float(note.split("lie ")[1].split()[0]) == pytest.approx(0.3, abs=0.04)
    assert note.startswith("odd rows lie")


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_a_hot_pixel_is_no_shift(shift):
    stack = recorded(lines(shift), 7)
    stack[:, 17, 22] += 500
    found = fg.estimate_row_shift(stack, operator())
    assert found.applied == pytest.approx(shift, abs=0.04)
    assert (found.applied != 0) == (shift != 0)


KNOWN = {"camera": fg.Camera(), "photons_per_emitter": 1.0, "psf_width": 1.0}


def test_calibrate_moves_rows_back_unless_told_otherwise():
    stack, psi = recorded(lines(0.3), 11), operator()
    found, left = fg.calibrate(stack, psi, **KNOWN), fg.calibrate(stack, psi, row_shift=0, **KNOWN)
    assert found.row_shift.applied == pytest.approx(0.3, abs=0.03)
    assert found.remarks[-1].endswith("they are moved back for the fit")
    assert not any("moved back" in remark for remark in left.remarks)
    assert found.noise.patterned == 0 < left.noise.patterned
    counts = fg.Problem.of(stack, calibration=found).counts
    np.testing.assert_allclose(counts.mean(axis=0), found.mean, atol=1e-4)
    np.testing.assert_array_equal(fg.Problem.of(stack, calibration=left).counts, stack)
    given = fg.calibrate(stack, psi, row_shift=fg.RowShift(found.row_shift.shift, 0.0), **KNOWN)
    np.testing.assert_array_equal(given.mean, found.mean)
    assert "(given)" in given.remarks[-1]
    turned = fg.calibrate(stack.swapaxes(1, 2), operator((44, 36)), **KNOWN)
    assert turned.row_shift.axis == 1
    np.testing.assert_allclose(turned.mean.T, found.mean, atol=1e-4)


def test_a_stack_without_a_shift_is_fitted_as_it_is():
    stack, psi = recorded(lines(0.0), 12, frames=60), operator()
    for calibration in ({"camera": fg.Camera()}, {}):
        found, left = (
            fg.Problem.of(stack, psi=psi, row_shift=shift, **calibration, **({} if calibration else {"psf_width": 1}))
            for shift in (None, 0)
        )
        assert found.counts.tobytes() == left.counts.tobytes()
        assert found.identity() == left.identity()


def test_a_checkpoint_knows_how_rows_were_moved():
    stack, psi = recorded(lines(0.3), 13, frames=60), operator()
    found, left = (fg.Problem.of(stack, psi=psi, camera=fg.Camera(), row_shift=shift) for shift in (None, 0))
    assert found.fingerprint.startswith(left.fingerprint)
    assert "rows moved back by 0." in found.fingerprint
    np.testing.assert_allclose(found.counts.mean(axis=0), straightened(stack.mean(axis=0), found_shift(found)), atol=1e-4)


def found_shift(problem: fg.Problem) -> float:
    return float(problem.fingerprint.split()[-1])


@pytest.mark.parametrize("value", [np.nan, 2.5, fg.RowShift(np.nan, np.inf)])
def test_what_is_no_shift_is_refused(value):
    with pytest.raises(ValueError, match="row_shift"):
        fg.calibrate(recorded(lines(0.0), 1, frames=10), operator(), row_shift=value, **KNOWN)


def test_shifted_rows_are_no_white_noise_of_the_mean():
    psi = fg.Psi(fg.gaussian_psf(FWHM, PX, 4), (36, 44), 4)
    straight, shifted = (stack_noise(recorded(lines(shift), 8).astype(float), psi) for shift in (0.0, 0.4))
    assert straight.patterned == 0
    assert straight.excess == pytest.approx(1.0, abs=0.12)
    assert shifted.patterned > 0.5
    assert shifted.excess == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("columns", [False, True])
def test_a_pair_of_lines_comes_apart_although_rows_are_shifted(columns):
    light = lines(0.36, shape=(24, 44))
    stack = recorded(light.T if columns else light, 9, frames=400)
    stack = np.ascontiguousarray(stack)
    psi = fg.Psi(fg.gaussian_psf(FWHM, PX, 4), stack.shape[1:], 4)
    x = fg.reconstruct(stack, psi=psi, camera=fg.Camera()).x
    across = (x.T if columns else x)[24:-24].sum(axis=0)
    first, second = (int(4 * (centre + 0.5)) for centre in (20.0, 22.0))
    between = across[first : second + 1].min()
    assert between < 0.7 * min(across[first - 2 : first + 3].max(), across[second - 2 : second + 3].max())
