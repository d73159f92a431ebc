"""The quadratic critic of mean and covariance: its equations, its derivatives, its log density."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from scenes import scene

import fluogan_core as fg
from fluogan_core.backend.threads import one_thread_held
from fluogan_core.critics.quadratic import QuadraticCritic, QuadraticCriticLike
from fluogan_core.tuning import DEFAULT

#: Second derivatives of every pair of pixels, from every fine pixel.
WHOLE = dataclasses.replace(DEFAULT.quadratic_critic, reach_fwhm=9.0, beside=9.0, node_error=0.0)


def critic_of(model, frames, **more):
    return QuadraticCritic(frames, model, frames.mean(axis=0), **({"tuning": WHOLE} | more))


def moments(model, x, b):
    """Mean and covariance by columns: one emission after the other."""
    fine = model.psi.fine_shape
    columns = np.stack([model.psi.column(i).ravel() for i in np.ndindex(*fine)], axis=1)
    mean = columns @ x.ravel().astype(np.float64) + b.ravel()
    return mean, np.diag(mean + model.noise_std**2) + (columns * x.ravel()) @ columns.T, columns


def test_the_slope_is_eq_12_summed_over_the_photons_of_one_more_emission():
    """-slope_i = E[D(Y + P(C_i)) - D(Y)], the two frames that D compares each counted, by summing over all counts."""
    model, x, b, frames = scene(shape=(2, 2), factor=2, kappa=1.0, psf=np.ones((3, 3)))
    critic = critic_of(model, frames)
    critic.update_weights(x * 1.5, b)
    (recorded,), (weight,) = critic.recorded, critic.weights
    mean, covariance, columns = moments(model, x, b)
    w = weight.astype(np.float64)
    linear = -critic.mean_weight.ravel().astype(np.float64) * (mean - frames.mean(axis=0).ravel())
    quadratic = -w @ (covariance - recorded) @ w
    most = 10  # more than nine photons where at most one is expected: less than 1e-6
    counts = np.array(list(itertools.product(range(most), repeat=4)))
    factorials = np.array([math.factorial(k) for k in range(most)], dtype=np.float64)
    change = counts @ linear + 0.5 * ((counts @ quadratic) * counts).sum(axis=1)
    expected = []
    for column in columns.T:
        weights = np.prod(column**counts * np.exp(-column) / factorials[counts], axis=1)
        assert weights.sum() == pytest.approx(1, abs=1e-6)
        expected.append(weights @ change)
    slope_x, slope_b = critic.slope(x, b)
    np.testing.assert_allclose(-slope_x.ravel(), expected, rtol=2e-4, atol=2e-5 * np.abs(expected).max())
    # one more photon of the background: D(y + e_j) - D(y)
    np.testing.assert_allclose(-slope_b.ravel(), linear + 0.5 * np.diag(quadratic), rtol=2e-4, atol=2e-5)


def test_flicker_that_is_not_as_predicted_is_measured():
    """Photons per emission four times too many, emissions four times too few: a quarter of the covariance that is predicted."""
    model, x, b, frames = scene(kappa=30.0, frames=4000)
    psi = fg.Psi(model.psi.psf, model.psi.shape, model.psi.factor, photons_per_emitter=120.0, backend="numpy")
    wrong, right = critic_of(fg.ForwardModel(psi, noise_std=0.7), frames), critic_of(model, frames)
    wrong.measure_flicker(x / 4, b)
    right.measure_flicker(x, b)
    assert wrong.flicker == pytest.approx(0.25, rel=0.05)
    assert right.flicker == pytest.approx(1.0, rel=0.05)
    # what it then predicts is what the right model does, and its slope that of its value
    for critic, at in ((wrong, x / 4), (right, x)):
        critic.update_weights(at, b)
    assert sum(wrong.value(x / 5, b)) == pytest.approx(sum(right.value(x / 1.25, b)), rel=0.05)
    slope, _ = wrong.slope(x / 5, b)
    ahead, behind = (sum(wrong.value(x * np.float32(f / 5), b)) for f in (1.01, 0.99))
    assert float((slope * x / 5).sum()) * 0.02 == pytest.approx(ahead - behind, rel=2e-2)


@pytest.mark.parametrize("more", [0.0, 2.0, -0.3])
def test_noise_that_nothing_explains_is_found_within_its_error(more):
    """Read noise that is another one than told, under flicker; what it is in the frames is what the critic then predicts."""
    model, x, b, _ = scene(shape=(12, 12), kappa=20.0)
    true = fg.ForwardModel(model.psi, noise_std=float(np.sqrt(0.49 + more)))
    found = []
    for seed in range(8):
        critic = critic_of(model, true.sample(x, b, 3000, seed=seed))
        critic.explain_noise(x, b)
        found.append(float(critic.moments.extra_variance))
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    assert abs(np.mean(found) - more) < 4 * error
    assert error < 0.1
    critic.update_weights(x, b)
    known = critic_of(true, true.sample(x, b, 20, seed=11))
    known.update_weights(x, b)
    np.testing.assert_allclose(critic.moments.dark_variance, 0.49 + found[-1], rtol=1e-4)
    np.testing.assert_allclose(1 / critic.mean_weight - 1 / known.mean_weight, found[-1] - more, rtol=0.01, atol=0.01)


def test_no_noise_is_less_than_none():
    model, x, b, frames = scene(shape=(12, 12), kappa=20.0)
    critic = critic_of(fg.ForwardModel(model.psi, noise_std=5.0), frames)
    critic.explain_noise(4 * x, 4 * b)
    assert float(critic.moments.dark_variance) == 0.0


def test_no_quadratic_critic_does_better(rng):
    model, x, b, frames = scene()
    critic = critic_of(model, frames)
    critic.update_weights(x * 0.5, b)
    (recorded,), (weight,) = critic.recorded, critic.weights
    mean, covariance, _ = moments(model, x, b)
    values, vectors = np.linalg.eigh(weight.astype(np.float64))
    root = (vectors * np.sqrt(values)) @ vectors.T
    detection = np.sqrt(critic.mean_weight.ravel().astype(np.float64))

    def told(v, m):
        """E[D recorded] - E[D simulated] less the penalty."""
        apart = (v * detection) @ (frames.mean(axis=0).ravel() - mean) + 0.5 * np.trace(
            root @ m @ root @ (recorded - covariance)
        )
        return apart - 0.5 * (v @ v) - 0.25 * (m * m).sum()

    v = -detection * (mean - frames.mean(axis=0).ravel())
    m = -root @ (covariance - recorded) @ root
    best = told(v, m)
    assert sum(critic.value(x, b)) == pytest.approx(best, rel=1e-4)
    for size in (1e-2, 1.0):
        for _ in range(20):
            other = rng.standard_normal(m.shape)
            assert told(v + size * rng.standard_normal(v.shape), m + size * (other + other.T)) < best


def test_the_mean_is_weighed_by_detection_noise_whatever_the_flicker():
    """One over shot noise and read noise, at each pixel; what flicker adds to the variance of a frame has no part in it."""
    for kappa in (1.0, 300.0):
        model, x, b, frames = scene(kappa=kappa)
        x = x / np.float32(kappa)  # as much light, by fewer emissions of more photons each
        critic = critic_of(model, frames)
        critic.update_weights(x, b)
        variance = model.psi.forward(x) + b + (model.noise_std / model.gain) ** 2
        np.testing.assert_allclose(critic.mean_weight, 1 / (variance + 1e-3 * variance.mean()), rtol=1e-5)


@pytest.mark.parametrize("psf", [None, np.array([[0, 1, 0], [1, 3, 2], [0, 1, 1.0]])], ids=["separable", "any"])
@pytest.mark.parametrize("window", [16, 3])
@pytest.mark.parametrize(("trust", "flicker"), [(1.0, 1.0), (0.2, 0.4), (30.0, 2.5)])
def test_the_slope_is_the_values_derivative(psf, window, trust, flicker, rng):
    """The value is quadratic: central differences are exact but for rounding, 1e-7 of the value over the step."""
    model, x, b, frames = scene(psf=psf)
    critic = critic_of(model, frames, window=window, trust=trust, tuning=DEFAULT.quadratic_critic)
    critic.flicker = np.float32(flicker)
    critic.update_weights(x, b)
    assert len(critic.weights) == (1 if window == 16 else 12)
    slope_x, slope_b = critic.slope(x, b)
    dx, db = rng.standard_normal(x.shape).astype(np.float32), rng.standard_normal(b.shape).astype(np.float32)
    ahead, behind = (sum(critic.value(x + sign * dx, b + sign * db)) for sign in (1, -1))
    expected = float((slope_x * dx).sum() + (slope_b * db).sum())
    assert (ahead - behind) / 2 == pytest.approx(expected, rel=1e-3, abs=1e-5 * (ahead + behind))


def by_windows(critic, x, b):
    """The value and its slopes by the formulas, one window after the other, under the critic's weights."""
    model, windows = critic.model, critic.moments.windows
    mean, covariance, columns = moments(model, x, b)
    covariance += (critic.flicker - 1) * (columns * x.ravel()) @ columns.T
    of_light = critic.trust * critic.mean_weight.ravel() * (mean - critic.mean.ravel())
    value = 0.5 * critic.trust * (critic.mean_weight.ravel() * (mean - critic.mean.ravel()) ** 2).sum()
    of_x = np.zeros(x.size)
    for number, weight in zip(critic.chosen, critic.weights.astype(np.float64)):
        pixels = windows.pixels[number]
        excess = covariance[np.ix_(pixels, pixels)] - critic.recorded[number]
        quadratic = 0.5 * weight @ excess @ weight
        value += 0.5 * (quadratic * excess).sum()
        of_light[pixels] += np.diag(quadratic)
        of_x += critic.flicker * ((quadratic @ columns[pixels]) * columns[pixels]).sum(axis=0)
    return value, (columns.T @ of_light + of_x).reshape(x.shape), of_light.reshape(b.shape)


@pytest.mark.parametrize("psf", [None, np.array([[0, 1, 0], [1, 3, 2], [0, 1, 1.0]])], ids=["separable", "any"])
@pytest.mark.parametrize(("shape", "window"), [((6, 5), 12), ((9, 13), 5), ((5, 11), 4)])
def test_value_and_slope_are_the_sums_over_windows_everywhere(psf, shape, window, rng):
    """At the images of the weights and far from them; with what the default leaves out of second derivatives, nearly."""
    model, x, b, frames = scene(shape=shape, psf=psf, kappa=20.0)
    for tuning, near in ((WHOLE, 2e-5), (DEFAULT.quadratic_critic, 0.05)):
        critic = critic_of(model, frames, window=window, tuning=tuning)
        critic.flicker = np.float32(0.7)
        critic.update_weights(x, b)
        for at, other, within in ((x, b, 2e-5), (x * rng.random(x.shape).astype(np.float32), 2 * b, near)):
            value, slope_x, slope_b = by_windows(critic, at, other)
            assert sum(critic.value(at, other)) == pytest.approx(value, rel=within)
            for found, expected in zip(critic.slope(at, other), (slope_x, slope_b)):
                np.testing.assert_allclose(found, expected, rtol=0, atol=within * np.abs(expected).max())


def test_windows_without_flicker_are_left_out_and_change_nothing_elsewhere(rng):
    model, x, b, frames = scene(shape=(8, 24), kappa=20.0)
    x[:, 20:] = 0
    critic, whole = critic_of(model, frames, window=6), critic_of(model, frames, window=6)
    whole.moments.tuning = dataclasses.replace(WHOLE, dark=-1.0)
    for one in (critic, whole):
        one.update_weights(x, b)
    flicker = ((moments(model, x, b)[2] ** 2) @ x.ravel())[critic.moments.windows.pixels]
    assert 0 < len(critic.chosen) < len(whole.chosen) == len(flicker)
    np.testing.assert_array_equal(critic.chosen, np.flatnonzero(flicker.max(axis=1) > 0.01))
    for mine, all_of_it in zip(critic.slope(x, b), whole.slope(x, b)):
        factor = mine.shape[1] // 24
        near = slice(0, 9 * factor)
        np.testing.assert_allclose(mine[:, near], all_of_it[:, near], rtol=0, atol=1e-5 * np.abs(mine).max())
    critic.update_weights(0 * x, b)
    assert len(critic.chosen) == 0
    assert critic.value(x, b).covariance == 0


def test_a_critic_without_weights_says_so():
    model, x, b, frames = scene()
    with pytest.raises(RuntimeError, match="call update_weights"):
        critic_of(model, frames).slope(x, b)


def test_the_log_density_is_a_gaussians():
    from scipy.stats import multivariate_normal

    model, x, b, frames = scene()
    mean, covariance, _ = moments(model, x, b)
    on = np.arange(len(mean))
    covariance[on, on] += 1e-3 * np.diag(covariance).mean()  # what keeps dark pixels from outweighing all others
    expected = multivariate_normal(mean, covariance).logpdf(frames.reshape(len(frames), -1)) / len(mean)
    found = critic_of(model, frames).log_density(frames, x, b)
    np.testing.assert_allclose(found - 0.5 * math.log(2 * math.pi), expected, rtol=1e-4)


def test_bleaching_is_not_taken_for_flicker():
    model, _, _, frames = scene(frames=400, kappa=1.0)
    fading = frames * np.linspace(1.5, 0.5, len(frames), dtype=np.float32)[:, None, None]
    plain = np.cov(fading.reshape(len(fading), -1).T)
    (recorded,) = critic_of(model, fading).recorded
    level = frames.mean(axis=0).ravel()
    trend = np.outer(level, level) / 12  # the variance of a line from 1.5 to 0.5
    assert np.trace(plain) > 0.8 * np.trace(trend)
    # 16 chunks leave a sixteenth of the line in each, and a 256th of its variance
    assert np.trace(recorded) < np.trace(plain) - 0.9 * np.trace(trend)


def test_the_share_of_flicker_is_the_variances(rng):
    model, x, b, frames = scene(kappa=7.0)
    critic = critic_of(model, frames, window=3)
    _, covariance, _ = moments(model, x, 0 * b)
    light = model.psi.forward(x)
    on_diagonal = np.diag(covariance) - model.noise_std**2
    assert critic.flicker_share(x) == pytest.approx(1 - light.sum() / on_diagonal.sum(), rel=1e-4)
    critic.flicker = np.float32(0.0)
    assert critic.flicker_share(x) == 0
    assert math.isnan(critic.flicker_share(0 * x))


def test_the_value_on_other_frames_takes_their_mean_and_their_covariance():
    """Against the formula written out, with two means and two covariances that differ."""
    model, x, b, frames = scene(frames=80)
    mine = QuadraticCritic(frames[:40], model, trust=0.3, tuning=WHOLE)
    other = QuadraticCritic(1.5 * frames[40:], model, like=mine)
    mine.update_weights(x, b)
    mean, covariance, _ = moments(model, x, b)
    w = mine.weights[0].astype(np.float64)
    residuals = [mean - critic.mean.ravel() for critic in (mine, other)]
    excesses = [covariance - critic.recorded[0] for critic in (mine, other)]
    found = mine.value(x, b, other)
    v = mine.mean_weight.ravel().astype(np.float64)
    assert found.mean == pytest.approx(0.15 * (residuals[0] * v) @ residuals[1], rel=1e-3)
    assert found.covariance == pytest.approx(0.25 * np.trace(w @ excesses[0] @ w @ excesses[1]), rel=1e-3)
    # and neither is what a critic says of its own frames
    other.update_weights(x, b)
    for critic in (mine, other):
        alone = mine.value(x, b, critic) if critic is mine else other.value(x, b)
        assert found.mean != pytest.approx(alone.mean, rel=0.05)
        assert found.covariance != pytest.approx(alone.covariance, rel=0.05)


def test_the_value_on_unseen_frames_has_no_bias_where_the_images_are_right():
    """Over 40 pairs of recordings; on its own frames each critic's value is of course above zero."""
    seen, unseen = [], []
    for seed in range(40):
        model, x, b, frames = scene(frames=200, shape=(5, 5), seed=seed)
        halves = [QuadraticCritic(half, model) for half in (frames[:100], frames[100:])]
        halves[0].update_weights(x, b)
        seen.append(halves[0].value(x, b))
        unseen.append(halves[0].value(x, b, halves[1]))
    seen, unseen = np.array(seen), np.array(unseen)
    error = unseen.std(axis=0, ddof=1) / math.sqrt(len(unseen))
    assert (np.abs(unseen.mean(axis=0)) < 3.5 * error).all()
    assert (seen.mean(axis=0) > 10 * error).all()


def test_the_mean_is_that_of_the_frames_in_photons_unless_it_is_given():
    model, x, b, frames = scene()
    doubled = fg.ForwardModel(model.psi, gain=2.0, noise_std=2 * model.noise_std)
    plain, of_counts = QuadraticCritic(frames, model), QuadraticCritic(2 * frames, doubled)
    np.testing.assert_allclose(of_counts.mean, plain.mean, rtol=1e-6)
    assert of_counts.read_variance == pytest.approx(0.7**2)
    for critic in (plain, of_counts):
        critic.update_weights(x, b)
    np.testing.assert_allclose(of_counts.slope(x, b)[0], plain.slope(x, b)[0], rtol=1e-3, atol=1e-4)


def test_whole_numbers_are_frames_too_and_no_frame_is_changed():
    model, _, _, frames = scene()
    counts = np.round(100 * frames).clip(0).astype(np.uint16)
    kept = counts.copy()
    counts.flags.writeable = False
    critic, expected = QuadraticCritic(counts, model), QuadraticCritic(kept.astype(np.float32), model)
    assert critic.recorded.tobytes() == expected.recorded.tobytes()
    np.testing.assert_array_equal(counts, kept)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": np.zeros((1, 6, 5), np.float32)}, "at least 2 frames"),
        ({"frames": np.zeros((9, 5, 6), np.float32)}, "psi's field is 6 x 5"),
        ({"frames": np.full((9, 6, 5), np.nan, np.float32)}, "NaN or infinite"),
        ({"mean": np.zeros((5, 6), np.float32)}, r"mean must be one frame of shape \(6, 5\)"),
        ({"bad_pixels": np.zeros((5, 6), bool)}, "bad_pixels must have shape"),
        ({"trust": -1.0}, "trust must be at least 0"),
        ({"trust": 1e300}, "at most 1e"),
        ({"window": 0}, "window must be at least 1"),
    ],
)
def test_bad_input_of_the_quadratic_critic_is_named(change, message):
    model, _, _, frames = scene()
    arguments = {"frames": frames} | change
    with pytest.raises(ValueError, match=message):
        fg.QuadraticCritic(arguments.pop("frames"), model, **arguments)


def test_it_is_what_a_phase_needs_of_a_quadratic_critic():
    model, _, _, frames = scene()
    assert isinstance(QuadraticCritic(frames, model), QuadraticCriticLike)
    assert not isinstance(fg.Critic((8, 8), channels=1, depth=1), QuadraticCriticLike)


def test_images_of_another_shape_are_refused_and_later_changes_of_them_do_not_matter():
    model, x, b, frames = scene()
    critic = QuadraticCritic(frames, model)
    x, b = x.astype(np.float64), b.astype(np.float64)
    critic.update_weights(x, b)
    expected = critic.slope(x, b)
    assert all(slope.dtype == np.float32 for slope in expected)
    x_later, b_later = x.copy(), b.copy()
    x *= 0
    b += 1
    for found, wanted in zip(critic.slope(x_later, b_later), expected):
        np.testing.assert_array_equal(found, wanted)
    for call in (critic.slope, critic.value, critic.update_weights, critic.measure_flicker):
        with pytest.raises(ValueError, match=r"b must be one image of shape \(6, 5\), got \(5,\)"):
            call(x, b[0])
        with pytest.raises(ValueError, match=r"x must be one image"):
            call(x[None], b)


def test_frames_to_be_judged_are_of_the_field():
    psi = fg.Psi(np.ones((5, 5)) / 25, (12, 10), 2, photons_per_emitter=10.0, backend="numpy")
    model = fg.ForwardModel(psi)
    x, b = np.full(psi.fine_shape, 0.1, np.float32), np.ones(psi.shape, np.float32)
    frames = model.sample(x, b, 20)
    critic = fg.QuadraticCritic(frames, model)
    of_all = critic.log_density(frames, x, b)
    assert of_all.dtype == np.float64
    np.testing.assert_allclose(critic.log_density(frames[3], x, b), of_all[3:4], rtol=1e-6)
    assert critic.log_density(frames[:0], x, b).shape == (0,)
    with pytest.raises(ValueError, match=r"frames must have shape \(..., 12, 10\)"):
        critic.log_density(frames.transpose(0, 2, 1), x, b)


def test_sums_do_not_depend_on_the_number_of_processors(monkeypatch):
    """Whatever multiplies matrices does so on one thread of the numerical libraries."""
    model, x, b, frames = scene()
    critic, other = (QuadraticCritic(half, model) for half in (frames[::2], frames[1::2]))
    held: list[tuple[str, bool]] = []

    def noting(owner, name):
        work = getattr(owner, name)

        def noted(*args, **kwargs):
            held.append((name, one_thread_held()))
            return work(*args, **kwargs)

        monkeypatch.setattr(owner, name, noted)

    for owner, name in ((critic.moments, "lit"), (critic.moments, "predicted"), (critic._second, "update")):
        noting(owner, name)
    for call in (lambda: critic.update_weights(x, b), lambda: critic.value(x, b, other), lambda: critic.measure_flicker(x, b)):
        held.clear()
        call()
        assert {"predicted"} <= {name for name, _ in held}
        assert all(one for _, one in held), held
    assert not one_thread_held()


def test_weights_change_only_where_they_are_updated():
    """Not by a look at other frames, though the flicker has been measured meanwhile."""
    model, x, b, frames = scene(kappa=20.0)
    critic, other = QuadraticCritic(frames[::2], model), QuadraticCritic(frames[1::2], model)
    critic.update_weights(x, b)
    kept = critic.weights.copy()
    critic.flicker = np.float32(0.5)
    critic.value(x, b, other)
    np.testing.assert_array_equal(critic.weights, kept)
    critic.update_weights(x, b)
    assert np.abs(critic.weights - kept).max() > 0.01 * np.abs(kept).max()
