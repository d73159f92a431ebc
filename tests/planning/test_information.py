"""What frames hold of a pair: its moments against the operator's, its distance against simulated frames, its limits."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.planning import information, scatter
from fluogan_core.planning.information import Optics, Sight, separability

OPTICS = Optics(fg.gaussian_psf(300, 100, 4), 100.0, 4)
SIGHT = Sight(60.0, 5.0, 10.0, 1.5, frames=400, length_nm=1000)


def airy(factor: int = 4) -> Optics:
    return Optics(fg.airy_psf(680, 1.1, 100, factor, radius_nm=700), 100.0, factor)


@pytest.mark.parametrize("optics", [OPTICS, airy()], ids=["gaussian", "airy"])
def test_mean_and_covariance_are_those_of_the_operator(optics):
    model = information.Model(optics)
    rows = 2 * (len(model.share) - 1)
    rng = np.random.default_rng(3)
    profile = rng.random(model.fine)
    # every row is seen by the same rows about it: the middle row of a field that is high enough
    psi = fg.Psi(optics.psf, (3 * rows, model.columns), optics.factor, backend="numpy")
    x = np.repeat(profile[None].astype("f4"), psi.fine_shape[0], axis=0)
    middle = 3 * rows // 2
    np.testing.assert_allclose(model.mean(profile), psi.forward(x)[middle], rtol=1e-5)

    # covariance of the middle row with all rows about it, summed over the distance with the phase of each frequency
    seen = np.zeros((model.columns, *psi.shape), dtype="f4")
    seen[np.arange(model.columns), middle, np.arange(model.columns)] = 1
    light = psi.adjoint(seen) * x
    covariances = psi.forward(light.astype("f4"))  # (column, row, other column)
    near = slice(middle - rows // 2, middle - rows // 2 + rows)
    distance = np.arange(rows) - rows // 2
    strongest = model.flicker(profile)[0].real.max()
    for k in (0, 1, 3, rows // 2):
        phases = np.exp(2j * np.pi * k * distance / rows)
        expected = np.einsum("crd,r->cd", covariances[:, near], phases)
        np.testing.assert_allclose(model.flicker(profile)[k], expected, atol=1e-5 * strongest)


def test_shares_are_those_of_all_frequencies_of_the_rows():
    assert information.Model(OPTICS).share.sum() == pytest.approx(1)


def test_distance_by_the_mean_is_what_frames_of_eq_1_show():
    """Mean frames of the pair and of the nearest image without a gap, told apart by the best linear statistic."""
    model = information.Model(OPTICS)
    pair, bars = information.profiles_of(model, 200.0, OPTICS)
    pair = pair * SIGHT.photons / model.mean(pair).max()
    distance, other, background = information.Distances(model, pair, SIGHT).nearest(bars, by_mean=True)
    rows, frames, kappa = 10, 3000, SIGHT.photons_per_emitter
    # the lines reach beyond the rows that are looked at
    psi = fg.Psi(OPTICS.psf, (rows + 12, model.columns), OPTICS.factor, backend="numpy")
    rng = np.random.default_rng(5)

    def summed(profile, b):
        x = np.repeat(profile[None], psi.fine_shape[0], axis=0) / kappa
        found = []
        for _ in range(frames // 100):
            rate = kappa * psi.forward(rng.poisson(x, (100, *psi.fine_shape)).astype("f4"))[:, 6:-6]
            photons = rng.poisson(np.maximum(rate + b, 0)) + rng.normal(0, SIGHT.read_noise, rate.shape)
            found.append(photons.sum(axis=1))
        return np.concatenate(found)

    of_pair, of_other = summed(pair, SIGHT.background), summed(other, background)
    predicted = rows * (model.mean(pair - other) + SIGHT.background - background)
    weights = np.linalg.solve(np.cov(of_pair, rowvar=False), predicted)
    measured = weights @ (of_pair.mean(axis=0) - of_other.mean(axis=0)) / np.std(of_pair @ weights)
    expected = distance / np.sqrt(SIGHT.frames * SIGHT.length_nm / 1000)
    assert expected > 0.3
    assert measured == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("kappa", [3.0, 10.0, 50.0, 200.0])
def test_distance_by_both_is_what_frames_of_eq_1_show(kappa):
    """Single frames of the pair and of the nearest image without a gap, told apart by the best sum of the two statistics."""
    model, rows = information.Model(OPTICS), 10
    pair, bars = information.profiles_of(model, 200.0, OPTICS)
    pair = pair * SIGHT.photons / model.mean(pair).max()
    one = Sight(SIGHT.photons, SIGHT.background, kappa, SIGHT.read_noise, frames=1, length_nm=100 * rows)
    stated, other, background = information.Distances(model, pair, one).nearest(bars, by_mean=False)
    psi = fg.Psi(OPTICS.psf, (rows + 12, model.columns), OPTICS.factor, backend="numpy")
    rng, size = np.random.default_rng(5), rows * model.columns
    pixels = np.zeros((size, *psi.shape), dtype="f4")
    pixels[np.arange(size), 6 + np.arange(size) // model.columns, np.arange(size) % model.columns] = 1
    matrix = psi.adjoint(pixels).reshape(size, -1).astype(float)

    def moments(profile, b):
        x = np.repeat(profile[None], psi.fine_shape[0], axis=0).ravel()
        mean = matrix @ x + np.broadcast_to(b, (rows, model.columns)).ravel()
        return mean, kappa * (matrix * x) @ matrix.T + np.diag(mean + SIGHT.read_noise**2)

    def frames(profile, b):
        x, found = np.repeat(profile[None], psi.fine_shape[0], axis=0) / kappa, []
        for _ in range(10):
            rate = kappa * psi.forward(rng.poisson(x, (200, *psi.fine_shape)).astype("f4"))[:, 6:-6]
            found.append((rng.poisson(np.maximum(rate + b, 0)) + rng.normal(0, SIGHT.read_noise, rate.shape)).reshape(200, -1))
        return np.concatenate(found)

    images = ((pair, SIGHT.background), (other, background))
    (mean, spread), (other_mean, other_spread) = (moments(*image) for image in images)
    linear = np.linalg.solve(spread, mean - other_mean)
    quadratic = np.linalg.solve(spread, np.linalg.solve(spread, spread - other_spread).T)

    def told(y):
        centred = y - mean
        return np.stack([centred @ linear, 0.5 * ((centred @ quadratic) * centred).sum(axis=1)])

    here, there = (told(frames(*image)) for image in images)
    apart = here.mean(axis=1) - there.mean(axis=1)
    measured = np.sqrt(apart @ np.linalg.solve((np.cov(here) + np.cov(there)) / 2, apart))
    assert stated == pytest.approx(measured, rel=0.15)


def test_statistics_of_frames_of_eq_1_scatter_by_their_fourth_cumulants():
    """Variance of a quadratic statistic, and its covariance with a linear one, over frames drawn emission by emission."""
    rng, factor, rows, columns, kappa = np.random.default_rng(2), 2, 6, 5, 40.0
    psf = fg.gaussian_psf(220, 100, factor)
    profile = np.zeros(columns * factor)
    profile[[3, 6]] = 2.0, 4.0
    background, linear = rng.uniform(0.5, 2, columns), rng.uniform(-1, 1, columns)
    shape = np.arange(rows * columns)
    whole = (
        rng.uniform(-1, 1, (rows, columns, columns))
        * np.exp(-np.minimum(np.arange(rows), rows - np.arange(rows)))[:, None, None]
    )
    whole = (whole + whole[(-np.arange(rows)) % rows].swapaxes(1, 2)) / 2  # a symmetric form
    matrix = whole[(shape[:, None] // columns - shape[None] // columns) % rows, shape[:, None] % columns, shape[None] % columns]
    excess, cross = scatter.excess_scatter(psf, factor, profile, kappa, background, linear, np.fft.rfft(whole, axis=0))

    lit = np.array([3, 6])
    seen = np.concatenate(
        [np.roll(scatter._seen(psf, factor, rows, columns, s % factor, lit), s // factor, 1) for s in range(rows * factor)]
    )
    seen = seen.reshape(len(seen), -1)
    rates = np.tile(profile[lit] / kappa, rows * factor)
    mean = rates @ (kappa * seen) + np.tile(background, rows)
    y = rng.poisson(kappa * rng.poisson(rates, (40000, len(rates))) @ seen + np.tile(background, rows)) - mean
    spread = kappa**2 * (seen.T * rates) @ seen + np.diag(mean)
    turned = matrix @ spread
    quadratic = 0.5 * np.einsum("ta,ta->t", y @ matrix, y)
    assert quadratic.var() == pytest.approx(0.5 * np.trace(turned @ turned) + rows * excess, rel=0.06)
    assert rows * excess > 0.3 * quadratic.var()
    across = np.cov(y @ np.tile(linear, rows), quadratic)
    assert across[0, 1] == pytest.approx(rows * cross, abs=0.05 * np.sqrt(across[0, 0] * across[1, 1]))


def test_distance_by_both_is_that_of_gaussian_frames():
    """The log likelihood ratio of the two images has a mean of half the squared distance, over frames of the pair."""
    model = information.Model(OPTICS)
    pair, bars = information.profiles_of(model, 150.0, OPTICS)
    pair = pair * SIGHT.photons / model.mean(pair).max()
    distances = information.Distances(model, pair, SIGHT)
    weights, squared = distances._reduced(bars).mixture(1.0)
    distance = np.sqrt(distances.samples * squared)
    other, background = weights[: len(bars)] @ bars, weights[len(bars) :] @ distances._reduced(bars).waves
    means = [model.mean(pair) + SIGHT.background, model.mean(other) + background]
    noise = SIGHT.read_noise**2 * np.eye(model.columns)
    spreads = [SIGHT.photons_per_emitter * model.flicker(p) + np.diag(m) + noise for p, m in zip((pair, other), means)]
    ratio = np.linalg.solve(spreads[1], spreads[0])
    divergence = np.einsum("kcc->k", ratio).real - model.columns - np.linalg.slogdet(ratio)[1]
    difference = means[0] - means[1]
    squared = (
        SIGHT.frames
        * SIGHT.length_nm
        / 100
        * (difference @ np.linalg.solve(spreads[1][0].real, difference) + (model.share * divergence).sum())
    )
    assert distance == pytest.approx(np.sqrt(squared), rel=0.1)


def test_distances_grow_with_separation_light_and_frames_and_with_the_second_moment():
    near, far = separability(120, OPTICS, SIGHT), separability(180, OPTICS, SIGHT)
    assert near.mean < near.both < far.both
    assert near.mean < far.mean
    more = Sight(60.0, 5.0, 10.0, 1.5, frames=1600, length_nm=1000)
    assert separability(120, OPTICS, more).both == pytest.approx(2 * near.both, rel=1e-6)
    longer = Sight(60.0, 5.0, 10.0, 1.5, frames=400, length_nm=4000)
    assert separability(120, OPTICS, longer).mean == pytest.approx(2 * near.mean, rel=1e-6)
    steady = Sight(60.0, 5.0, 1e-9, 1.5, frames=400, length_nm=1000)
    still = separability(120, OPTICS, steady)
    assert still.both == pytest.approx(still.mean, rel=0.05)


def test_a_fixed_pattern_is_noise_of_the_mean_that_no_number_of_frames_removes():
    """In the mean of T frames its variance is that of T times as much in each frame; covariances do not see it."""
    clean, uneven = separability(150, OPTICS, SIGHT), dataclasses.replace(SIGHT, fixed_pattern=0.2)
    found = separability(150, OPTICS, uneven)
    noisy = dataclasses.replace(SIGHT, read_noise=float(np.sqrt(SIGHT.read_noise**2 + SIGHT.frames * 0.2**2)))
    assert found.mean == pytest.approx(separability(150, OPTICS, noisy).mean, rel=1e-6)
    assert found.mean < 0.9 * clean.mean
    assert clean.both > found.both > separability(150, OPTICS, noisy).both
    long, longer = (separability(150, OPTICS, dataclasses.replace(uneven, frames=frames)) for frames in (1e6, 1e8))
    assert longer.mean == pytest.approx(long.mean, rel=0.01)
    assert longer.both > 3 * long.both


def test_the_camera_pixel_does_not_matter_where_it_is_small_and_the_camera_is_quiet():
    found = []
    for pixel in (50.0, 60.0, 75.0):
        area = (pixel / 100) ** 2
        optics = Optics(fg.gaussian_psf(300, pixel, round(pixel / 12)), pixel, round(pixel / 12))
        found.append(separability(180, optics, Sight(60 * area, 5 * area, 10.0, 0.0, 400, 1000)).mean)
    assert np.ptp(found) < 0.06 * np.mean(found)
