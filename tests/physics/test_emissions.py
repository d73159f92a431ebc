"""Chains of emissions visit what eq. (1) and the frame allow: against enumeration, and calibrated on simulated frames."""

from __future__ import annotations

import itertools
import math
import time

import numpy as np
import pytest
from psfs import tiny_psf
from scipy import stats

import fluogan_core as fg
from fluogan_core.physics.emissions import KINDS, Brightness, EmissionChains, likelihood_score, move_emissions

B = np.full((3, 4), 0.8)


def tiny_model(kappa: float = 6.0, **camera: float) -> fg.ForwardModel:
    return fg.ForwardModel(fg.Psi(tiny_psf(3), (3, 4), 1, photons_per_emitter=kappa, backend="numpy"), **camera)


def image(**places: float) -> np.ndarray:
    x = np.zeros((3, 4))
    for name, value in places.items():
        x[int(name[1]), int(name[2])] = value
    return x


def columns(model: fg.ForwardModel, x: np.ndarray) -> list[np.ndarray]:
    """Light of one emission at every place of x that emits."""
    unit = np.eye(x.size)[np.flatnonzero(x)].reshape(-1, *x.shape)
    return [model.psi.forward(one) for one in unit]


def settled(model, x, frame, brightness, proposals, chains=4000):
    """Many chains of one frame."""
    found = EmissionChains.empty(chains, 40)
    counts = np.broadcast_to(frame.astype(np.float32), (chains, *frame.shape))
    moved = move_emissions(found, counts, model, x, B, brightness, proposals=proposals, seed=3)
    return found, moved


def numbers_of(chains: EmissionChains, places: np.ndarray) -> np.ndarray:
    """Emissions at each of some places, (T, places)."""
    there = np.arange(chains.place.shape[1]) < chains.count[:, None]
    return np.stack([(there & (chains.place == place)).sum(1) for place in places], axis=1)


def chi_square(seen: np.ndarray, probabilities: np.ndarray) -> float:
    """p-value of counts under a law; classes of small expectation are put together."""
    expected = probabilities / probabilities.sum() * seen.sum()
    rare = expected < 8
    classes = [np.append(a[~rare], a[rare].sum()) for a in (seen, expected)]
    if classes[1][-1] == 0:
        classes = [a[:-1] for a in classes]
    return float(stats.chisquare(*classes).pvalue)


@pytest.mark.parametrize("noise", [0.0, 1.5])
def test_equal_emissions_are_visited_as_often_as_they_are_likely(noise):
    """All numbers at four places, two of them neighbours: the sum over all of them is the posterior."""
    model = tiny_model(gain=2.0, noise_std=2.0 * noise)
    x = image(p11=0.5, p12=0.3, p00=0.4, p23=0.2)
    places, light = np.flatnonzero(x), columns(model, x)
    frame = 2.0 * np.round(B + 1.3 * light[0] + 1.0 * light[3])
    most, law = 7, {}
    for n in itertools.product(range(most), repeat=4):
        rate = B + model.epsilon + noise**2 + sum(k * column for k, column in zip(n, light))
        y = np.maximum(frame / 2.0 + noise**2, 0)
        prior = sum(k * math.log(value) - math.lgamma(k + 1) for k, value in zip(n, x.ravel()[places]))
        law[n] = prior + float((y * np.log(rate) - rate).sum())
    chains, moved = settled(model, x, frame, Brightness(), 600)
    found = numbers_of(chains, places)
    assert found.max() < most
    seen = np.bincount(np.ravel_multi_index(found.T, (most,) * 4), minlength=most**4)
    weight = np.exp(np.array(list(law.values())) - max(law.values()))
    assert chi_square(seen, weight) > 1e-3
    assert chi_square(seen, weight * np.exp(0.15 * np.arange(most**4) / most**3)) < 1e-3  # a little wrong is seen
    used = dict(zip(KINDS, moved.accepted))
    assert min(used[kind] for kind in ("birth", "death", "place", "pair")) > 0
    assert used["split"] == used["merge"] == used["brightness"] == 0


@pytest.mark.parametrize(("mean", "shape"), [(1.0, 3.0), (0.6, 0.8), (1.2, 20.0)])
def test_emissions_of_random_brightness_are_visited_as_often_as_they_are_likely(mean, shape):
    """The light of n emissions at one place is gamma again, of n times the shape: a double integral is the posterior."""
    model, x = tiny_model(kappa=8.0), image(p11=0.6, p12=0.5)
    places, light = np.flatnonzero(x), columns(model, x)
    frame = np.round(B + 0.8 * light[0] + 0.5 * light[1])
    most, grid = 8, (np.arange(400) + 0.5) * 0.02
    first, second = np.meshgrid(grid, grid, indexing="ij")
    rate = B + model.epsilon + first[..., None, None] * light[0] + second[..., None, None] * light[1]
    likelihood = np.exp((frame * np.log(rate) - rate).sum((2, 3)) - (frame * np.log(frame + 1e-9) - frame).sum())
    alone = [
        np.exp((frame * np.log(r) - r).sum((1, 2)) - (frame * np.log(frame + 1e-9) - frame).sum())
        for r in (B + model.epsilon + grid[:, None, None] * column for column in light)
    ]
    none = B + model.epsilon
    nothing = float(np.exp((frame * np.log(none) - none).sum() - (frame * np.log(frame + 1e-9) - frame).sum()))
    edges = np.arange(401) * 0.02

    def law_of(n: int) -> np.ndarray:  # of the light of n emissions, by cells of the grid
        return np.diff(stats.gamma.cdf(edges, n * shape, scale=mean / shape))

    weight = np.zeros((most, most))
    for n, m in itertools.product(range(most), repeat=2):
        prior = 0.6**n * 0.5**m / math.factorial(n) / math.factorial(m)
        if n and m:
            weight[n, m] = prior * (law_of(n) @ likelihood @ law_of(m))
        else:
            weight[n, m] = prior * (law_of(n) @ alone[0] if n else law_of(m) @ alone[1] if m else nothing)
    chains, moved = settled(model, x, frame, Brightness(mean, shape), 900)
    found = numbers_of(chains, places)
    assert found.max() < most
    seen = np.bincount(found[:, 0] * most + found[:, 1], minlength=most**2)
    assert chi_square(seen, weight.ravel()) > 1e-3
    assert min(moved.accepted) > 0
    # and the light of one place, of frames with emissions at both
    both = (found > 0).all(1)
    there = np.arange(chains.place.shape[1]) < chains.count[:, None]
    total = (chains.bright * (there & (chains.place == places[0]))).sum(1)[both]
    laws = [sum(0.5**m / math.factorial(m) * law_of(m) for m in range(1, most))]
    laws += [sum(0.6**n / math.factorial(n) * law_of(n) for n in range(1, most))]
    density = laws[1] * (likelihood @ laws[0])
    cells = np.interp(np.linspace(0, 1, 11)[1:-1], np.cumsum(density) / density.sum(), edges[1:])
    assert chi_square(np.bincount(np.searchsorted(cells, total), minlength=10), np.ones(10)) > 1e-3


@pytest.mark.parametrize("shape", [math.inf, 2.0])
def test_ranks_of_the_truth_among_draws_are_uniform(shape):
    """Simulation-based calibration (Talts et al. 2018): 200 frames, the truth's rank among draws from its posterior."""
    rng, frames, draws = np.random.default_rng(5), 200, 19
    psi = fg.Psi(tiny_psf(5), (6, 6), 2, photons_per_emitter=25.0, backend="numpy")
    model, brightness = fg.ForwardModel(psi, gain=1.0), Brightness(0.9, shape)
    x, b = np.full(psi.fine_shape, 0.02), np.full(psi.shape, 0.5)
    x[4:8, 5] = 0.2
    truth, y = [], []
    for _ in range(frames):
        n = rng.poisson(x)
        w = 0.9 * n if math.isinf(shape) else rng.gamma(np.maximum(n * shape, 1e-9), 0.9 / shape) * (n > 0)
        y.append(rng.poisson(psi.forward(w) + b + model.epsilon))
        truth.append((n.sum(), w.sum(), w[:, :6].sum(), n[4:8, 5].sum()))
    chains, drawn = EmissionChains.empty(frames, 60), []
    for step in range(draws):
        proposals = 3000 if step == 0 else 700
        move_emissions(chains, np.array(y, np.float32), model, x, b, brightness, proposals=proposals, seed=8, step=step)
        there = np.arange(chains.place.shape[1]) < chains.count[:, None]
        row, col = chains.place // 12, chains.place % 12
        line = there & (row >= 4) & (row < 8) & (col == 5)
        light = chains.bright * there
        drawn.append(np.stack([chains.count, light.sum(1), (light * (col < 6)).sum(1), line.sum(1)], axis=1))
    truth, drawn = np.array(truth, float), np.array(drawn, float)
    for k in range(4):
        below = (drawn[:, :, k] < truth[:, k] - 1e-9).sum(0)
        ties = (np.abs(drawn[:, :, k] - truth[:, k]) <= 1e-9).sum(0)
        ranks = below + np.floor(rng.random(frames) * (ties + 1)).astype(int)  # ties in random order
        assert chi_square(np.bincount(ranks // 2, minlength=10), np.ones(10)) > 1e-3, k


def test_the_score_is_what_one_more_emission_adds():
    """Gradient of the log likelihood by differences of the enumerated one, against the chains."""
    model, x = tiny_model(), image(p11=0.5, p12=0.3)
    places, light = np.flatnonzero(x), columns(model, x)
    frame = np.round(B + 1.2 * light[0])

    def log_likelihood(values):
        total = 0.0
        for n, m in itertools.product(range(12), repeat=2):
            rate = B + model.epsilon + n * light[0] + m * light[1]
            total += math.exp(stats.poisson.logpmf([n, m], values).sum() + float((frame * np.log(rate) - rate).sum()) + 20)
        return math.log(total)

    values = x.ravel()[places]
    slope = [(log_likelihood(values + h) - log_likelihood(values - h)) / 2e-5 for h in 1e-5 * np.eye(2)]
    chains, _ = settled(model, x, frame, Brightness(), 400, chains=12_000)
    score = likelihood_score(chains.image((3, 4)).ravel()[places], values)
    error = numbers_of(chains, places).std(0) / math.sqrt(12_000) / values
    assert (np.abs(score - slope) < 4 * error).all()


def test_chains_in_pieces_are_the_same_chains():
    model, x = tiny_model(), image(p11=0.9, p12=0.6, p00=0.5)
    rng = np.random.default_rng(2)
    frames = rng.poisson(3.0, (40, 3, 4)).astype(np.float32)
    whole, more = EmissionChains.empty(40, 30), {"proposals": 50, "seed": 4, "step": 2}
    at_once = move_emissions(whole, frames, model, x, B, Brightness(1.0, 4.0), **more)
    parts, ratio = [], 0
    for first, last in ((0, 17), (17, 40)):
        part = EmissionChains.empty(last - first, 30)
        moved = move_emissions(part, frames[first:last], model, x, B, Brightness(1.0, 4.0), first_frame=first, **more)
        ratio = ratio + moved.ratio * (last - first) / 40
        parts.append(part)
    for name in ("place", "bright", "count"):
        np.testing.assert_array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(whole, name))
    np.testing.assert_allclose(ratio, at_once.ratio, rtol=1e-12)


def test_chains_keep_their_emissions_where_they_get_more_room():
    chains = EmissionChains.empty(3, 4)
    chains.count[:], chains.place[:], chains.bright[:] = [4, 0, 2], np.arange(12).reshape(3, 4), 0.5
    grown = chains.with_room(10)
    assert grown.place.shape == (3, 32)
    np.testing.assert_array_equal(grown.image((3, 4)), chains.image((3, 4)))
    assert grown.image((3, 4), light=True).sum() == pytest.approx(1.0)
    assert grown.with_room(10) is grown
    assert chains.with_room(10, most=0).place.shape == (3, 20)
    assert chains.with_room(0, most=2) is chains


def test_cost_is_that_of_the_proposals():
    """Twice the frames or the proposals, twice the work; a larger field costs its pixels once, not once per proposal."""
    rng, taken = np.random.default_rng(1), {}
    for side, frames, proposals in ((16, 40, 400), (16, 80, 400), (16, 40, 800), (48, 40, 400)):
        psi = fg.Psi(fg.gaussian_psf(300, 100, 2), (side, side), 2, photons_per_emitter=50.0, backend="numpy")
        x = np.full(psi.fine_shape, 4 / psi.fine_shape[0] ** 2)
        y = rng.poisson(2.0, (frames, side, side)).astype(np.float32)
        seconds = []
        for _ in range(3):
            chains, begun = EmissionChains.empty(frames, 300), time.thread_time()
            move_emissions(chains, y, fg.ForwardModel(psi), x, np.full(psi.shape, 2.0), proposals=proposals)
            seconds.append(time.thread_time() - begun)
        taken[side, frames, proposals] = min(seconds)
    once = taken[16, 40, 400]
    assert taken[16, 80, 400] < 3 * once
    assert taken[16, 40, 800] < 3 * once
    assert taken[48, 40, 400] < 3 * once  # nine times the pixels
