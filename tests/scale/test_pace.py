"""The pace of fits, measured in a core and followed elsewhere."""

from __future__ import annotations

import types

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.objective.blur import GaussianKernel
from fluogan_core.objective.terms import Objective
from fluogan_core.scale.pace import Steps, follow_pace, follow_steps, measure_pace, measure_steps
from fluogan_core.solvers.flicker import typical_brightness
from fluogan_core.solvers.mean_fit import MeanPhase


def phase():
    return types.SimpleNamespace()


def test_brightness_is_that_of_the_fine_pixels_of_the_core(rng):
    rows, columns = slice(1, 3), slice(2, 7)
    for measure in (measure_pace, measure_steps):
        noting = phase()
        found = measure(noting, (rows, columns), 3)
        images = [rng.gamma(1.0, 2.0, (12, 24)).astype(np.float32) for _ in range(2)]
        expected = [typical_brightness(image[3:9, 6:21]) for image in images]
        assert [noting.brightness_of(image) for image in images] == expected
        assert (found if measure is measure_pace else [steps.brightness for steps in found]) == expected


def test_the_last_is_taken_where_there_are_no_more():
    paced, stepped, warm = phase(), phase(), phase()
    follow_pace(paced, (2.0, 5.0, 3.0))
    steps = [Steps(2.0, 0.4), Steps(5.0, 0.3), Steps(3.0, 0.7)]
    follow_steps(stepped, steps, warm=False)
    follow_steps(warm, steps, warm=True)
    assert [paced.brightness_of(None) for _ in range(5)] == [2.0, 5.0, 3.0, 3.0, 3.0]
    assert [(stepped.brightness_of(None), stepped.longest_of(9.0)) for _ in range(4)] == [*steps, steps[-1]]
    assert (warm.brightness_of(None), warm.longest_of(9.0), warm.longest_of(0.1)) == (3.0, 0.7, 0.1)
    dark = phase()
    follow_steps(dark, (), warm=False)
    assert (dark.brightness_of(None), dark.longest_of(9.0)) == (0.0, 0.0), "of a part without light nothing is taken"


def mean_fit(left):
    """A fit of the mean of a field of 16 x 32 camera pixels, with spots of this light in its left half, and others."""
    psi = fg.Psi(fg.gaussian_psf(318, 100, 2), (16, 32), 2, backend="numpy")
    x = np.zeros(psi.fine_shape, np.float32)
    x[8:24:4, 6:28:6] = left
    x[8:24:8, 36:60:4] = 20.0
    objective = Objective(psi, psi.forward(x) + 3, sparsity=0.01, smoothness=3.0**8, order=4, total_variation=1e-4)
    return MeanPhase(objective, GaussianKernel(psi, 0.1), planned=20)


def run(phase):
    while phase.stop is None:
        phase.step()
    return phase


def test_a_fit_of_the_mean_measures_its_brightness_in_its_core():
    rows, right = slice(0, 16), slice(16, 32)
    found = []
    for left in (5.0, 500.0):
        phase = mean_fit(left)
        found.append(measure_steps(phase, (rows, right), 2))
        run(phase)
    assert [len(steps) for steps in found] == [2, 2], "at a twentieth and at half of its steps"
    # the halves light each other a little
    assert found[1][1].brightness == pytest.approx(found[0][1].brightness, rel=0.2)
    whole = mean_fit(500.0)
    everywhere = measure_steps(whole, (rows, slice(0, 32)), 2)
    run(whole)
    assert everywhere[1].brightness > 5 * found[1][1].brightness
    alone = run(mean_fit(500.0))
    np.testing.assert_array_equal(alone.images.z, whole.images.z, "measured everywhere, it is as nobody had looked")


@pytest.mark.parametrize("warm", [False, True])
def test_other_fits_of_the_mean_take_its_steps_as_far_as_they_are_safe(warm):
    first, other = mean_fit(5.0), mean_fit(500.0)
    steps = measure_steps(first, (slice(0, 16), slice(0, 32)), 2)
    run(first)
    follow_steps(other, steps, warm=warm)
    asked = [other.brightness_of(other.images.z) for _ in range(3)]
    expected = [steps[-1].brightness] * 3 if warm else [steps[0].brightness, *[steps[1].brightness] * 2]
    assert asked == expected
    assert other.longest_of(0.5 * steps[1].longest) == 0.5 * steps[1].longest
    assert other.longest_of(2 * steps[1].longest) == steps[1].longest
    again = mean_fit(5.0)
    follow_steps(again, steps, warm=False)
    np.testing.assert_array_equal(run(again).images.z, first.images.z)
    dark = mean_fit(5.0)
    follow_steps(dark, (), warm=warm)
    assert np.isfinite(run(dark).images.z).all(), "of a part without light there is nothing to take"
