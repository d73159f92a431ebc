"""Covariances of a strip: what they hold, how they scatter, and what must not be taken for a gap."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

import fluogan_core as fg
from fluogan_core.metrics.sections import Optic, Section, distance
from fluogan_core.metrics.strip_covariances import CovarianceStrip

PSI = fg.Psi(fg.gaussian_psf(318, 100, 4), (20, 20), 4, photons_per_emitter=100.0, backend="numpy")
MODEL = fg.ForwardModel(PSI)
ONE = fg.ForwardModel(PSI.replaced(photons_per_emitter=1.0))
ROWS, COLUMNS = np.mgrid[:80, :80] - 39.5
B = np.full(PSI.shape, 1.0)
LONG = np.abs(ROWS) < 20


def lines(separation):
    """Two lines, one fine pixel wide."""
    return LONG * sum(np.clip(1 - np.abs(COLUMNS - s * separation / 2), 0, 1) for s in (-1, 1)) * 0.06


def bar(separation):
    inside = (np.abs(COLUMNS) <= separation / 2 + 1) * LONG
    return inside * lines(separation).sum() / inside.sum()


PAIR, BAR, SHOWN = lines(6.0), bar(6.0), lines(7.0)


def gap_of(frames, light, **options):
    """The gap of an image of a pair, by an operator that knows of no blinking."""
    (gap,) = fg.evidence(frames, ONE, 100 * light, B, 100.0, image=SHOWN, finest=False, **options).gaps
    return gap


def test_covariances_hold_a_gap_that_the_mean_does_not():
    found = [gap_of(MODEL.sample(PAIR, B, 200, seed), PAIR) for seed in range(4)]
    assert np.median([gap.of_mean for gap in found]) < 2
    assert np.median([gap.alone for gap in found]) > 3.5


def test_bars_have_none():
    found = [gap_of(MODEL.sample(BAR, B, 200, seed), BAR).alone for seed in range(8)]
    assert max(found) < 3
    assert np.mean(np.array(found) > 1) < 0.6


@pytest.mark.parametrize("lamp", [0.0, 0.15])
def test_a_lamp_that_flickers_and_a_sample_that_trembles_are_no_gap(lamp):
    """Both raise the covariance at the two edges of a bar."""
    rng = np.random.default_rng(3)
    wide = bar(14.0) * 5
    images = [
        (1 + lamp * rng.standard_normal()) * PSI.forward(ndimage.shift(wide, (0, 0 if lamp else rng.normal(0, 0.6)), order=1))
        for _ in range(200)
    ]
    frames = rng.poisson(np.maximum(images, 0) + B)
    assert gap_of(frames.astype(float), wide).alone < 2


def strip_of(frames, mean, length=50.0):
    section = Section(PSI.shape, Optic(PSI.psf, 4), (39.5, 39.5), 0.0, length)
    pixels = frames.reshape(len(frames), -1)[:, section.pixels]
    light, slope = (image.ravel()[section.pixels] for image in (mean - B, np.gradient(mean)[1]))
    return CovarianceStrip(section, pixels, mean.ravel()[section.pixels], light, slope)


def test_a_strip_is_the_sum_of_its_pieces():
    section = Section(PSI.shape, Optic(PSI.psf, 4), (39.5, 39.5), 0.3, 50.0)
    pieces = section.pieces()
    assert len(pieces) > 2
    assert sum(weights for weights, _ in pieces) == pytest.approx(section.weights)
    assert sum(spread for _, spread in pieces) == pytest.approx(section.spread)


def test_errors_are_as_stated():
    """Frames of noise alone: what no noise of another size explains is one standard deviation."""
    mean, rng, rest = np.full(PSI.shape, 50.0), np.random.default_rng(0), []
    for _ in range(12):
        strip = strip_of(rng.poisson(mean, (240, *PSI.shape)).astype(float), mean)
        noise = strip.columns(strip.profiles.spread)[:, 0]
        unit = noise / np.linalg.norm(noise)
        rest.append(strip.target - unit * (unit @ strip.target))
        assert (strip.shares @ strip.blocks) == pytest.approx(strip.target)
    assert np.std(rest) == pytest.approx(1, abs=0.08)
    assert np.abs(np.mean(rest, axis=0)).max() < 4.5 / math.sqrt(12)


def test_profiles_are_the_covariances_of_light():
    """Light along the strip explains the covariances of molecules that blink, and nothing less does."""
    truth = 0.2 * LONG * (np.abs(COLUMNS) < 8)
    frames = MODEL.sample(truth, B, 1000, 1).astype(float)
    strip = strip_of(frames, PSI.forward(truth) + B, 30.0)
    free = len(strip.target)
    true = strip.profiles.spread @ (np.abs(strip.profiles.sources) < 8)[:, None]
    assert distance(strip.target, strip.columns(strip.profiles.spread))[0] ** 2 < 1.4 * free
    assert distance(strip.target, strip.columns(true[:, :0]))[0] ** 2 > 3 * free


def test_where_covariances_are_not_asked_for_or_not_to_be_had_the_mean_is_all():
    frames = MODEL.sample(PAIR, B, 200, 0)
    bad = np.zeros(PSI.shape, bool)
    bad[10, 9] = True
    for gap in (gap_of(frames, PAIR, covariances=False), gap_of(frames, PAIR, bad_pixels=bad), gap_of(frames[:31], PAIR)):
        assert gap.alone == gap.of_mean
    assert gap_of(frames, PAIR).alone != gap_of(frames, PAIR).of_mean
