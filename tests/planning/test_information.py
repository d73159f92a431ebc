"""What frames hold of a pair: its moments against the operator's, its distance against simulated frames, its limits."""

from __future__ import annotations

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.planning import information
from fluogan_core.planning.information import Optics, Sight, separability

OPTICS = Optics(fg.gaussian_psf(300, 100, 4), 100.0, 4)
SIGHT = Sight(60.0, 5.0, 10.0, 1.5, frames=400, length_nm=1000)


def airy(factor: int = 4) -> Optics:
    return Optics(fg.airy_psf(680, 1.1, 100, factor, radius_nm=700), 100.0, factor)


@pytest.mark.parametrize("optics", [OPTICS, airy()], ids=["gaussian", "airy"])
def test_mean_and_covariance_are_those_of_the_operator(optics):
    model = information._Model(optics)
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
    assert information._Model(OPTICS).share.sum() == pytest.approx(1)


def test_distance_by_the_mean_is_what_frames_of_eq_1_show():
    """Mean frames of the pair and of the nearest image without a gap, told apart by the best linear statistic."""
    model = information._Model(OPTICS)
    pair, bars = information._profiles(model, 200.0, OPTICS)
    pair = pair * SIGHT.photons / model.mean(pair).max()
    distance, other, background = information._Distances(model, pair, SIGHT).nearest(bars, by_mean=True)
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


def test_distance_by_both_is_nearly_what_frames_of_eq_1_show():
    """Single frames of the pair and of the nearest image without a gap, told apart by the ratio of Gaussian likelihoods."""
    model, kappa, rows = information._Model(OPTICS), SIGHT.photons_per_emitter, 10
    pair, bars = information._profiles(model, 200.0, OPTICS)
    pair = pair * SIGHT.photons / model.mean(pair).max()
    one = Sight(SIGHT.photons, SIGHT.background, kappa, SIGHT.read_noise, frames=1, length_nm=100 * rows)
    stated, other, background = information._Distances(model, pair, one).nearest(bars, by_mean=False)
    psi = fg.Psi(OPTICS.psf, (rows + 12, model.columns), OPTICS.factor, backend="numpy")
    rng, size = np.random.default_rng(5), rows * model.columns
    pixels = np.zeros((size, *psi.shape), dtype="f4")
    pixels[np.arange(size), 6 + np.arange(size) // model.columns, np.arange(size) % model.columns] = 1
    matrix = psi.adjoint(pixels).reshape(size, -1).astype(float)

    def moments(profile, b):
        x = np.repeat(profile[None], psi.fine_shape[0], axis=0).ravel()
        mean = matrix @ x + np.broadcast_to(b, (rows, model.columns)).ravel()
        covariance = kappa * (matrix * x) @ matrix.T + np.diag(mean + SIGHT.read_noise**2)
        return mean, np.linalg.inv(covariance)

    def frames(profile, b):
        x, found = np.repeat(profile[None], psi.fine_shape[0], axis=0) / kappa, []
        for _ in range(20):
            rate = kappa * psi.forward(rng.poisson(x, (200, *psi.fine_shape)).astype("f4"))[:, 6:-6]
            found.append((rng.poisson(np.maximum(rate + b, 0)) + rng.normal(0, SIGHT.read_noise, rate.shape)).reshape(200, -1))
        return np.concatenate(found)

    images = ((pair, SIGHT.background), (other, background))
    (mean, inverse), (other_mean, other_inverse) = (moments(*image) for image in images)

    def ratio(y):
        near, far = y - mean, y - other_mean
        return 0.5 * (((far @ other_inverse) * far).sum(axis=1) - ((near @ inverse) * near).sum(axis=1))

    here, there = (ratio(frames(*image)) for image in images)
    measured = (here.mean() - there.mean()) / np.sqrt((here.var() + there.var()) / 2)
    assert measured == pytest.approx(stated, rel=0.15)


def test_distance_by_both_is_that_of_gaussian_frames():
    """The log likelihood ratio of the two images has a mean of half the squared distance, over frames of the pair."""
    model = information._Model(OPTICS)
    pair, bars = information._profiles(model, 150.0, OPTICS)
    pair = pair * SIGHT.photons / model.mean(pair).max()
    distances = information._Distances(model, pair, SIGHT)
    distance, other, background = distances.nearest(bars, by_mean=False)
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


def test_the_camera_pixel_does_not_matter_where_it_is_small_and_the_camera_is_quiet():
    found = []
    for pixel in (50.0, 60.0, 75.0):
        area = (pixel / 100) ** 2
        optics = Optics(fg.gaussian_psf(300, pixel, round(pixel / 12)), pixel, round(pixel / 12))
        found.append(separability(180, optics, Sight(60 * area, 5 * area, 10.0, 0.0, 400, 1000)).mean)
    assert np.ptp(found) < 0.06 * np.mean(found)
