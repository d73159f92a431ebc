"""What the page of report says of the image: structures with their light, and where the mean frame is not explained."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.io.findings import brightest_structures, misfit_of_mean


def test_the_misfit_is_one_for_noise_and_bad_pixels_have_no_part_in_it(scene):
    _, _, result = scene
    rng, frames = np.random.default_rng(0), 50
    predicted = result.psi.forward(result.x) + result.b
    error = np.sqrt((predicted + (result.camera.noise_std / result.camera.gain) ** 2) / frames)
    bad = np.zeros(result.psi.shape, dtype=bool)
    bad[4, 5] = True
    mean = (predicted + error * rng.standard_normal(predicted.shape)).astype(np.float32)
    mean[4, 5] = 1e6
    rms, misfit = misfit_of_mean(dataclasses.replace(result, mean=mean, bad_pixels=bad), frames)
    assert abs(rms - 1) < 3 / np.sqrt(2 * predicted.size)
    assert np.isnan(misfit[4, 5])
    assert np.isfinite(misfit).sum() == misfit.size - 1


def test_a_camera_without_noise_and_a_dark_background_do_not_make_the_misfit_absurd(scene):
    _, _, result = scene
    camera, dark = fg.Camera(2.0, 100.0, 0.0), np.zeros(result.psi.shape, np.float32)
    x = np.zeros_like(result.x)
    x[15, 15] = 5
    mean = result.psi.forward(x)
    mean[0, 0] += 0.01 * mean.mean()
    rms, _ = misfit_of_mean(dataclasses.replace(result, camera=camera, x=x, b=dark, mean=mean), 100)
    assert 0 < rms < 1


def test_structures_are_found_where_they_are_with_their_light(scene):
    """Errors are those of amplitudes in least squares and of a Poisson number of emissions."""
    _, _, result = scene
    psi, frames = result.psi, 80
    x = np.zeros(psi.fine_shape, np.float32)
    x[7:9, 7:9], x[22:24, 20:23] = 1.0, 0.5
    truth = dataclasses.replace(result, x=x, b=np.full(psi.shape, 5, np.float32))
    first, second = brightest_structures(truth, frames)
    assert (first.row, first.column, second.row, second.column) == pytest.approx((4, 4, 11.5, 10.75))
    assert first.light == pytest.approx(4 * 20, rel=0.02)
    assert first.share + second.share == pytest.approx(1)
    assert first.area == 1

    shapes = [psi.forward(np.where(np.add.outer(np.arange(32), np.arange(32)) < 32, x, 0))]
    shapes += [psi.forward(x) - shapes[0], np.ones(psi.shape)]
    design = np.stack([shape.ravel() for shape in shapes], axis=1).astype(np.float64)
    read = result.camera.noise_std / result.camera.gain
    noise = np.sqrt((psi.forward(x) + 5 + read**2).ravel() / frames)
    rng, lights = np.random.default_rng(3), []
    for _ in range(1500):
        emitted = rng.poisson([4.0 * frames, 3.0 * frames]) / (np.array([4.0, 3.0]) * frames)
        seen = design @ [*emitted, 5.0] + noise * rng.standard_normal(noise.size)
        lights.append(np.linalg.lstsq(design / noise[:, None], seen / noise, rcond=None)[0][:2])
    scatter = np.std(lights, axis=0) * [first.light, second.light]
    np.testing.assert_allclose([first.error, second.error], scatter, rtol=0.08)


def test_structures_are_listed_by_the_light_that_was_recorded(scene):
    """Light that the border cuts off is in x, but not in the frames; light within its error is no structure."""
    result = scene[2]
    x = np.zeros(result.psi.fine_shape, np.float32)
    x[0, 0], x[16, 16] = 12.0, 6.0
    dim = dataclasses.replace(result, x=x, b=np.full(result.psi.shape, 5, np.float32))
    found = brightest_structures(dim, 40)
    assert len(found) == 2
    assert found[0].light > found[1].light
    assert found[0].row > 4
    assert len(brightest_structures(dim, 2)) < 2
    grainy = brightest_structures(dim, 40, 2.0)
    assert all(one.error > 1.1 * found[0].error for one in grainy[:1])
    assert not brightest_structures(dim, 40, 50.0)


def test_a_dark_image_has_no_structures(scene):
    assert brightest_structures(dataclasses.replace(scene[2], x=0 * scene[2].x), 10) == []
