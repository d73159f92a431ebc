"""Which gaps the frames support, and how fine the light is for certain."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

import fluogan_core as fg
from fluogan_core.metrics.evidence_map import _Test, paid
from fluogan_core.metrics.sections import Optic, Section

PSI = fg.Psi(fg.gaussian_psf(318, 100, 4), (20, 20), 4, backend="numpy")
MODEL = fg.ForwardModel(PSI, gain=2.0, noise_std=2.0)
ROWS, COLUMNS = np.mgrid[:80, :80] - 39.5
B = np.full(PSI.shape, 4.0)
LONG = np.abs(ROWS) < 24


def pair(separation):
    return LONG * sum(np.clip(1.5 - np.abs(COLUMNS - s * separation / 2), 0, 1) for s in (-1, 1)) * 4.0


def bar(separation):
    inside = np.clip(separation / 2 + 1 - np.abs(COLUMNS) + 0.5, 0, 1) * LONG
    return inside * pair(separation).sum() / inside.sum()


SHOWN = pair(9.0)


def judged(truth, seed=0, frames=300, **options):
    """What frames of a truth say of an image that shows a pair."""
    y = MODEL.sample(truth, B, frames, seed)
    return fg.evidence(y, MODEL, truth, B, 100.0, **{"image": SHOWN, "finest": False} | options)


def test_a_pair_is_confirmed_and_a_bar_is_not():
    """Whatever the image shows: it is the same for both."""
    for seed in range(6):
        (gap,) = judged(pair(9.0), seed).gaps
        assert gap.significance > 3.5
        assert gap.separation_nm == pytest.approx(225, abs=30)
        assert (gap.row_nm, gap.column_nm) == (pytest.approx(1000, abs=40), pytest.approx(1000, abs=40))
        assert judged(bar(9.0), seed).confirmed == ()


def test_what_is_found_is_what_the_frames_hold():
    """Against the distance, in standard deviations, from the nearest image without a gap, of the whole field."""
    from scipy.optimize import nnls

    truth, frames = pair(9.0), 300
    bars = [np.clip(h + 0.5 - np.abs(COLUMNS), 0, 1) * LONG for h in np.arange(0.5, 24, 0.5)]
    down, across = (np.cos(np.pi * np.arange(3)[:, None] * (np.arange(20) + 0.5) / 20) for _ in range(2))
    waves = np.einsum("ai,bj->abij", down, across).reshape(9, -1)
    columns = np.concatenate([[PSI.forward(one).ravel() for one in bars], waves, -waves])
    mean = PSI.forward(truth) + B
    errors = np.sqrt((mean + 1 + PSI.squared_forward(truth)) / frames).ravel()
    bound = nnls((columns / errors).T, mean.ravel() / errors)[1]
    found = [judged(truth, seed, frames).gaps[0].alone for seed in range(12)]
    assert bound > 3
    assert bound / 1.3 < np.mean(found) < 1.2 * bound
    assert 0.5 < np.std(found) < 1.5


def test_claims_about_bars_are_no_more_frequent_than_stated():
    levels = [judged(bar(separation), seed).gaps[0].alone for separation in (5.0, 7.0, 9.0) for seed in range(20)]
    assert np.mean(np.array(levels) >= 1) < norm.sf(1) + 0.15
    assert max(levels) < norm.isf(0.01 / len(levels))


def test_the_unit_of_the_image_does_not_matter():
    one, other = judged(pair(9.0)), judged(pair(9.0), image=1e6 * SHOWN.astype(np.float32))
    assert one.gaps[0].significance == pytest.approx(other.gaps[0].significance, rel=0.02)


def test_the_number_of_gaps_is_paid_for():
    assert paid(3.0, 1) == pytest.approx(3.0)
    for count in (2, 30):
        assert norm.sf(paid(3.5, count)) == pytest.approx(count * norm.sf(3.5))
    assert paid(0.2, 40) == 0
    assert 39.9 < paid(40.0, 10) < 40


def test_a_blob_is_not_found_finer_than_it_is():
    for seed, width in enumerate((7.0, 10.0)):
        truth = 2 * np.exp(-4 * math.log(2) * (ROWS**2 + COLUMNS**2) / width**2)
        fine = judged(truth, seed, image=truth, finest=True).finest_nm
        assert not (fine < 25 * width).any()
        assert np.isfinite(fine).any() or width > 9


def test_a_thin_line_is_found_fine_and_a_resolved_gap_too():
    line = LONG * np.clip(1 - np.abs(COLUMNS), 0, 1) * 8.0
    fine = judged(line, image=line, finest=True).finest_nm
    assert np.nanmin(fine) < 200
    assert np.isnan(fine[0, 0])
    between = judged(pair(9.0), finest=True).finest_nm[40, 40]
    assert between == pytest.approx(225 * math.sqrt(2 * math.log(2)), rel=0.12)


def test_bad_pixels_say_nothing():
    y, bad = MODEL.sample(pair(9.0), B, 300, 0), np.zeros(PSI.shape, bool)
    y[:, 9, 10] += 5000
    bad[9, 10] = True
    found = fg.evidence(y, MODEL, pair(9.0), B, 100.0, image=SHOWN, bad_pixels=bad, finest=False)
    assert found.gaps[0].significance == pytest.approx(judged(pair(9.0)).gaps[0].significance, rel=0.25)


def test_a_psf_that_does_not_fit_the_frames_lowers_what_is_claimed():
    y = MODEL.sample(pair(9.0), B, 300, 0)
    wrong = fg.ForwardModel(PSI.scaled(0.5), gain=2.0, noise_std=2.0)
    assert fg.evidence(y, wrong, pair(9.0), B, 100.0, finest=False).gaps[0].alone < judged(pair(9.0)).gaps[0].alone


def test_a_gap_that_a_psf_described_too_wide_makes_is_none_within_its_error():
    """Edges of a bar are sharper than such a PSF lets through, which two lines can make up for."""
    wide = fg.ForwardModel(PSI.scaled(1.1), gain=2.0, noise_std=2.0)
    truth, options = 2 * bar(15.0), {"image": SHOWN, "finest": False, "covariances": False}
    for seed in range(2):
        y = MODEL.sample(truth, B, 1000, seed)
        assert fg.evidence(y, wide, truth, B, 100.0, **options).gaps[0].alone > 4
        assert fg.evidence(y, wide, truth, B, 100.0, **options, psf_error=0.1).gaps[0].alone < 2.5
    with pytest.raises(ValueError, match="psf_error"):
        fg.evidence(y, wide, truth, B, 100.0, psf_error=0.7)


def test_what_does_not_fit_is_refused():
    y = MODEL.sample(pair(9.0), B, 10, 0)
    with pytest.raises(ValueError, match="fine grid"):
        fg.evidence(y, MODEL, SHOWN, B, 100.0, image=SHOWN[:-1])
    with pytest.raises(ValueError, match="psi's field"):
        fg.evidence(y[:, 1:], MODEL, SHOWN, B, 100.0)
    with pytest.raises(ValueError, match="bad_pixels"):
        fg.evidence(y, MODEL, SHOWN, B, 100.0, bad_pixels=np.zeros((3, 3)))
    with pytest.raises(ValueError, match="pixel_size_nm"):
        fg.evidence(y, MODEL, SHOWN, B, 0.0)


def test_a_dark_image_shows_nothing():
    found = fg.evidence(MODEL.sample(0 * SHOWN, B, 10, 0), MODEL, 0 * SHOWN, B, 100.0)
    assert found.gaps == found.confirmed == ()
    assert np.isnan(found.finest_nm).all()


def test_an_even_structure_flickers_as_much_as_is_said():
    """The bins of bright molecules that blink scatter about their mean as the strip's noise says, in every direction."""
    psi = PSI.replaced(photons_per_emitter=1000.0)
    model, light = fg.ForwardModel(psi), np.full(PSI.fine_shape, 0.1)
    section = Section(PSI.shape, Optic(PSI.psf, 4), (39.5, 39.5), math.pi / 2, 5.0)
    expected = section.of(psi.forward(light) + B)
    squares = []
    for seed in range(12):
        test = _Test(model.sample(light, B, 200, seed), fg.ForwardModel(PSI), 1000 * light, B, None, True)
        strip = test.strip(section, (39.5, 39.5))
        squares.append(np.mean(strip.white(section.of(test.mean) - expected) ** 2))
    assert np.mean(squares) == pytest.approx(1, abs=0.3)
