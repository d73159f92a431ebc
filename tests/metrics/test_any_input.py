"""Seeded calls of public functions with numbers of every size: what comes back is finite, or an error names the argument."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core import metrics

SIZES = (0.0, 5e-324, 1e-300, 1e-40, 1e-12, 0.3, 1.0, 7.0, 100.0, 1e6, 1e15, 1e30, 1e38, 1e200, 1.7e308)
ODD = (-1.0, math.nan, math.inf, -math.inf, None, "7", 2.5, True, 1 + 2j)


def number(rng):
    """A number of any size, now and then one that is none."""
    return ODD[rng.integers(len(ODD))] if rng.random() < 0.1 else float(rng.choice(SIZES)) * (1 + rng.random())


def usual(rng):
    """A number as a user has it, now and then any."""
    return number(rng) if rng.random() < 0.25 else float(rng.choice([1, 2, 4, 100, 318]))


def nanometres(rng):
    """A length as a user has it, now and then any number."""
    return number(rng) if rng.random() < 0.25 else float(rng.choice([60.0, 100.0, 318.0]))


def whole(rng):
    return number(rng) if rng.random() < 0.2 else int(rng.integers(1, 6))


def image(rng, shape=(16, 16)):
    """An image of any scale and dtype, now and then of another shape, masked or with a NaN."""
    with np.errstate(all="ignore"):
        made = (rng.random(shape) * float(rng.choice(SIZES))).astype(rng.choice(["f4", "f8", ">f8", "f2"]))
    kind = rng.integers(25)
    if kind == 0:
        return np.ma.masked_less(made, np.median(made))
    if kind == 1:
        made.flat[-1] = np.nan
    return made[1:] if kind == 2 else made[0] if kind == 3 else made + 1 if kind == 4 else made


PATTERN = fg.argolight_pattern((300,), pixel_size_nm=100, factor=2, shape=(8, 16), margin_nm=100)
PSI = fg.Psi(fg.gaussian_psf(318, 100, 2), (16, 16), 2, backend="numpy")
FINE, FIELD = PSI.fine_shape, PSI.shape


def psf(rng):
    size = 2 * rng.integers(0, 4, 2) + 1
    return image(rng, tuple(size)) if rng.random() < 0.7 else np.ones(size)


def bead(rng):
    """An image of a bead of any brightness, now and then any image: of noise alone no PSF is made."""
    if rng.random() < 0.5:
        return image(rng)
    places = np.arange(21) - 10
    across = np.exp(-0.5 * (places / 2.0) ** 2)
    return np.outer(across, across) * float(rng.choice(SIZES))


def model(rng):
    psi = fg.Psi(np.ones((3, 5)), FIELD, 2, photons_per_emitter=usual(rng), backend="numpy")
    return fg.ForwardModel(psi, gain=usual(rng), noise_std=usual(rng), epsilon=usual(rng))


CALLS = {
    "gaussian_psf": lambda r: fg.gaussian_psf(nanometres(r), nanometres(r), whole(r)),
    "airy_psf": lambda r: fg.airy_psf(nanometres(r), r.choice([0.8, 1.1, 1.4, 3.0]), nanometres(r), whole(r)),
    "measured_psf": lambda r: fg.measured_psf(bead(r), zoom=r.choice([0.5, 1.0, 3.0])),
    "Psi": lambda r: fg.Psi(psf(r), FIELD, 2, photons_per_emitter=number(r), backend="numpy").column_energies,
    "mean": lambda r: model(r).mean(image(r, FINE), image(r, FIELD)),
    "variance": lambda r: model(r).variance(image(r, FINE), image(r, FIELD)),
    "sample": lambda r: model(r).sample(image(r, FINE), image(r, FIELD), whole(r)),
    "nrmse": lambda r: metrics.nrmse(image(r), image(r)),
    "psnr": lambda r: metrics.psnr(image(r), image(r)),
    "blurred_agreement": lambda r: metrics.blurred_agreement(image(r, FINE), image(r, FIELD), PSI),
    "fourier_ring_correlation": lambda r: metrics.fourier_ring_correlation(image(r, FINE), image(r, FINE), usual(r)),
    "line_profile": lambda r: metrics.line_profile(image(r), fine_nm=usual(r), span_nm=(usual(r), usual(r))),
    "find_lines": lambda r: metrics.find_lines(image(r), usual(r), whole(r)),
    "pair_report": lambda r: metrics.pair_report(image(r, PATTERN.x.shape), PATTERN),
    "line_fluxes": lambda r: metrics.line_fluxes(image(r, PATTERN.x.shape), PATTERN),
    "held_out_score": lambda r: metrics.held_out_score(
        image(r, (3, *FIELD)), fg.ForwardModel(PSI, noise_std=number(r)), image(r, FINE), image(r, FIELD)
    ),
    "smooth_background": lambda r: fg.smooth_background((whole(r), whole(r)), number(r)),
    "covariance": lambda r: fg.Blinking(usual(r), usual(r)).covariance(whole(r), usual(r)),
}


def numbers(result):
    """All numbers of a result."""
    if dataclasses.is_dataclass(result):
        result = [getattr(result, field.name) for field in dataclasses.fields(result)]
    if isinstance(result, (tuple, list)):
        return [n for part in result for n in numbers(part)]
    return [] if result is None or isinstance(result, (str, bool)) else np.ravel(result).tolist()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", CALLS)
def test_what_comes_back_is_finite_or_an_error_names_the_argument(name):
    taken = 0
    for seed in range(80):
        try:
            result = CALLS[name](np.random.default_rng(seed))
        except MemoryError:
            continue  # NumPy says how much it is that does not fit
        except (ValueError, TypeError) as error:
            message = str(error)
            assert len(message) > 20, (seed, message)
            assert not message.startswith(("operands", "cannot convert", "unsupported", "ufunc")), (seed, message)
            continue
        found = numbers(result)
        # psnr alone has a value at infinity: that of a perfect image
        assert all(math.isfinite(n) or (name == "psnr" and n == math.inf) for n in found), (seed, result)
        taken += 1
    assert taken >= 3, "too few calls are valid: the test would show nothing"


@pytest.mark.parametrize("model", [None, 3, "model"])
def test_what_is_no_forward_model_is_named(model):
    frames, x, b = np.ones((4, 12, 12), np.float32), np.ones((24, 24), np.float32), np.ones((12, 12), np.float32)
    calls = (
        lambda: fg.evidence(frames, model, x, b, 100.0),
        lambda: fg.metrics.held_out_score(frames, model, x, b),
        lambda: fg.QuadraticCritic(frames, model),
    )
    for call in calls:
        with pytest.raises(TypeError, match=r"model must be a ForwardModel, .* got"):
            call()


def test_what_is_no_calibration_result_or_recording_is_named(tmp_path):
    psi = fg.Psi(fg.gaussian_psf(250, 100, 2), (12, 12), 2, backend="numpy")
    frames = np.random.default_rng(0).poisson(30.0, (6, 12, 12)) + 100
    options, camera = fg.SolverOptions(method="none", warm_steps=2), fg.Camera(1.0, 100.0, 1.0)
    result = fg.reconstruct(frames, psi=psi, camera=camera, options=options)
    model = fg.ForwardModel(psi)
    critic = fg.QuadraticCritic(frames.astype(np.float32), model)
    x, b = np.ones(psi.fine_shape, np.float32), np.ones(psi.shape, np.float32)
    calls = [
        (lambda: fg.plan_from(None, 100.0), TypeError, "calibration must be a Calibration, got NoneType"),
        (lambda: fg.write_result(None, tmp_path), TypeError, "result must be a Result, got NoneType"),
        (lambda: fg.write_result(result, tmp_path, stack="stack"), TypeError, "got a path; read it first"),
        (lambda: fg.scale.reconstruct_tiles(3.0, tmp_path / "a", psi=psi), TypeError, "frames must be a path or an array"),
        (lambda: list(fg.scale.movie(frames, psi=3, window=4)), TypeError, "which int does not have"),
        (lambda: list(fg.scale.movie(frames, psi=psi, window=2**70)), ValueError, "window must be at most"),
        (lambda: metrics.held_out_score(frames.tolist(), model, x, b), TypeError, "frames must be an array"),
        (lambda: critic.update_weights(None, b), ValueError, "x must be one image of shape"),
    ]
    for call, kind, words in calls:
        with pytest.raises(kind) as caught:
            call()
        assert words in str(caught.value)
