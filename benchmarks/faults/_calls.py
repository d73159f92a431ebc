"""Public functions called with arguments at random, sound and odd ones: finite numbers, or an error of a documented type."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import fluogan_core as fg

__all__ = ["calls"]

#: What a public function may raise on arguments that make no sense.
PROMISED = (ValueError, TypeError, FloatingPointError, MemoryError)
#: Seconds within which a call on a small field must be back, on a busy machine too.
LONGEST = 60

Pool = Sequence[Any]


def _numbers(good: float | int) -> Pool:
    """A sound number first, then what users, files and overflows hand over."""
    odd: list[Any] = [0, -1, 1, 2, 0.5, 1e-30, 1e-6, 1e6, 1e30, 1e300, math.nan, math.inf, -math.inf, True, None, "3", 2**70]
    return [good, *odd, np.float32(3), np.int8(5), np.array(2.0), 1 + 2j, [], (1, 2)]


def _stacks() -> Pool:
    rng = np.random.default_rng(0)
    good = rng.poisson(30 + 40 * (rng.random((12, 12)) < 0.2), (24, 12, 12)) + 100
    spoiled = [good.astype(float) for _ in range(3)]
    spoiled[0][3, 4, 5], spoiled[1][3, 4, 5], spoiled[2][:, 4, 5] = math.nan, math.inf, 1e30
    flashes = good.copy()
    flashes[::2] = 0
    odd: list[Any] = [
        good.astype(np.uint8),
        good.astype(np.float32),
        np.asfortranarray(good),
        good[:, ::-1],
        good[::-1, :, ::2],
        good[0],
        good[:1],
        good[:2],
        good[:0],
        good[:, :1, :1],
        good[None],
        *spoiled,
        0 * good,
        0 * good + 7,
        -good,
        good * 1e30,
        good * 1e300,
        good * 1e-30,
        good > 120,
        good.astype(complex),
        good.astype(object),
        good.astype(str),
        good.tolist(),
        "stack",
        None,
        3.0,
        np.ma.masked_greater(good, 150),
        np.ma.masked_array(good),
        flashes,
        np.zeros((24, 12, 12), np.float16) + 60000,
    ]
    return [good, *odd]


def _images(shape: tuple[int, ...], dtype: Any = np.float32, seed: int = 1) -> Pool:
    rng = np.random.default_rng(seed)
    good = rng.gamma(1.0, 5.0, shape).astype(dtype)
    huge = (good / good.max()).astype(dtype) * dtype(1e37)
    spoiled = [good.copy() for _ in range(2)]
    spoiled[0].flat[5], spoiled[1].flat[5] = math.nan, math.inf
    odd: list[Any] = [
        good.astype(float),
        good.astype(int),
        good.T.copy().T,
        good[1:],
        good[..., None],
        good[:0],
        *spoiled,
        0 * good,
        -good,
        good * 1e-30,
        huge,
        good.astype(complex),
        good.tolist(),
        None,
        "image",
        2.0,
        np.ma.masked_greater(good, 6),
    ]
    return [good, *odd]


def _made(make: Callable[[], Any]) -> Pool:
    return [make(), None, "psi", 3]


def _quick(stack: Any, psi: Any, camera: Any, **options: Any) -> Any:
    return fg.reconstruct(stack, psi=psi, camera=camera, options=fg.SolverOptions(method="none", warm_steps=3, **options))


def functions() -> dict[str, tuple[Callable[..., Any], dict[str, Pool]]]:
    """Name -> the function, and for each argument what it may be given: a sound value first."""
    psf = fg.gaussian_psf(250, 100, 2)
    psi = fg.Psi(psf, (12, 12), 2, backend="numpy")
    operators = [
        psi,
        *(fg.Psi(p, (12, 12), 2, backend="numpy") for p in (np.ones((1, 1)), fg.gaussian_psf(30, 100, 2))),
        None,
        3,
    ]
    fine, coarse, stacks = _images((24, 24)), _images((12, 12)), _stacks()
    cameras = [
        fg.Camera(1.0, 100.0, 1.0),
        fg.Camera(1e-30, 100.0, 1.0),
        fg.Camera(1.0, 1e30, 0.0),
        fg.Camera(1e20, 0.0, 1e20),
        None,
        3,
    ]
    n = _numbers
    dual = [np.zeros((4, 24, 24), np.float32), np.zeros((2, 24, 24), np.float32), np.zeros((4, 24, 24)), None]
    measured = dict(gain=n(1.0), offset=n(100.0), noise_std=n(1.0))
    return {
        "gaussian_psf": (fg.gaussian_psf, dict(fwhm_nm=n(250), pixel_size_nm=n(100), factor=n(2))),
        "airy_psf": (fg.airy_psf, dict(wavelength_nm=n(600), na=n(1.2), pixel_size_nm=n(100), factor=n(2))),
        "measured_psf": (fg.measured_psf, dict(images=_images((15, 15)))),
        "Psi": (
            lambda psf, shape, factor, ppe: fg.Psi(psf, shape, factor, photons_per_emitter=ppe, backend="numpy").norm,
            dict(
                psf=[psf, *_images((5, 5))],
                shape=[(12, 12), (1, 1), (0, 3), 5, None, (3.5, 2), (-1, 4)],
                factor=n(2),
                ppe=n(1.0),
            ),
        ),
        "Psi.forward": (lambda psi, x: psi.forward(x), dict(psi=[psi], x=fine)),
        "Psi.adjoint": (lambda psi, y: psi.adjoint(y), dict(psi=[psi], y=coarse)),
        "ForwardModel.sample": (
            lambda psi, gain, noise, x, b, frames, seed: fg.ForwardModel(psi, gain=gain, noise_std=noise).sample(
                x, b, frames, seed
            ),
            dict(psi=operators, gain=n(1.0), noise=n(1.0), x=fine, b=coarse, frames=[2, 0, -1, 1.5, None, "2"], seed=n(0)),
        ),
        "prox_step": (fg.prox_step, dict(x=fine, grad=fine, step=n(0.5), threshold=n(0.1))),
        "prox_total_variation": (
            fg.prox_total_variation,
            dict(v=fine, weight=[*n(0.5), *fine], dual=dual, sweeps=[3, 0, -1, 1.5, None, "3", math.nan]),
        ),
        "Objective.terms": (
            lambda psi, mean, fidelity, tv, x, b: fg.Objective(psi, mean, fidelity=fidelity, total_variation=tv).terms(x, b),
            dict(psi=operators[:3], mean=coarse, fidelity=n(1.0), tv=n(0.1), x=fine, b=coarse),
        ),
        "Camera": (fg.Camera, measured),
        "SolverOptions": (
            fg.SolverOptions,
            dict(steps=n(3), warm_steps=n(3), fidelity=n(1), sparsity=n(1), smoothness=n(2), detail=n(0.1), seed=n(0)),
        ),
        "estimate_camera": (fg.estimate_camera, dict(stack=stacks, psi=operators, **measured)),
        "estimate_psf_width": (fg.estimate_psf_width, dict(stack=stacks, psi=operators)),
        "calibrate": (
            fg.calibrate,
            dict(stack=stacks, psi=operators, **measured, photons_per_emitter=n(2.0), psf_width=n(1.0)),
        ),
        "reconstruct": (_quick, dict(stack=stacks, psi=operators, camera=cameras, total_variation=n(0.15), smoothness=n(2.6))),
        "argolight_pattern": (
            lambda **given: fg.argolight_pattern(**given).x,
            dict(
                separations_nm=[(200.0,), (), 3, (math.nan,), (-5.0,), (1e9,)],
                pixel_size_nm=n(100),
                factor=n(2),
                shape=[(24, 24), (1, 1), None],
            ),
        ),
        "smooth_background": (fg.smooth_background, dict(shape=[(12, 12), (1, 1), (0, 0), 3, None], level=n(10.0), seed=n(0))),
        "metrics.nrmse": (fg.metrics.nrmse, dict(x=fine, truth=fine)),
        "metrics.psnr": (fg.metrics.psnr, dict(x=fine, truth=_images((24, 24), seed=2))),
        "metrics.blurred_agreement": (fg.metrics.blurred_agreement, dict(x=fine, mean=coarse, psi=operators)),
    }


def sound(value: object) -> bool:
    """Whether an argument is finite, in single precision too."""
    if isinstance(value, np.ma.MaskedArray | str):
        return False
    if isinstance(value, np.ndarray | list):
        array = np.asarray(value)
        return array.dtype.kind in "biuf" and bool((np.abs(array.astype(float)) < 1e37).all())
    if isinstance(value, int | float | np.generic):
        return bool(np.isfinite(np.float64(np.real(value))))
    return True


#: What is not a number where something cannot be known, and says so in its documentation.
_UNKNOWN = {"PSFWidth", "CameraEstimate", "BlurredAgreement"}


def not_finite(value: object, name: str = "result") -> str:
    """The part of a result that holds NaN or infinite values; empty if none does."""
    if type(value).__name__ in _UNKNOWN:
        return ""
    if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not np.isfinite(value).all():
        return name
    if isinstance(value, float) and not math.isfinite(value):
        return name
    if type(value).__name__ == "Result":
        return next(filter(None, (not_finite(getattr(value, part), part) for part in ("x", "b", "x_mean_fit", "mean"))), "")
    if type(value).__name__ == "Calibration":
        return next(filter(None, (not_finite(getattr(value, part), part) for part in ("mean", "camera"))), "")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return next(filter(None, (not_finite(part, f"{name}[{key!r}]") for key, part in value.items())), "")
    if isinstance(value, tuple | list):
        return next(filter(None, (not_finite(part, f"{name}[{number}]") for number, part in enumerate(value))), "")
    return ""


def said(value: object) -> str:
    """An argument, in short."""
    if isinstance(value, np.ndarray):
        return f"<{value.shape} {value.dtype} {type(value).__name__}>"
    return repr(value)[:40]


def call(number: int, seed: int) -> str:
    """Make one call; return what gave way, "" if nothing did."""
    rng = np.random.default_rng((seed, number))
    table = functions()
    name = list(table)[int(rng.integers(len(table)))]
    function, pools = table[name]
    given = {key: pool[0 if rng.random() < 0.7 else int(rng.integers(len(pool)))] for key, pool in pools.items()}
    how = f"{name}({', '.join(f'{key}={said(value)}' for key, value in given.items())}), seed ({seed}, {number})"
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            value = function(**given)
    except PROMISED as error:
        return "" if str(error).strip() else f"{how}: {type(error).__name__} without a word"
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{how}: {type(error).__name__}: {error} ({last.filename.rsplit('/', 1)[-1]}:{last.lineno})"
    part = not_finite(value) if all(map(sound, given.values())) else ""
    return f"{how}: {part} is not finite" if part else ""


def calls(count: int, seed: int) -> Iterator[str]:
    """Make calls in forked processes, some at a time: a hang or a crash ends one of them, and the next goes on behind it."""
    number = 0
    while number < count:
        reads, writes = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reads)
            with os.fdopen(writes, "w") as out:
                for each in range(number, count):
                    signal.alarm(LONGEST)
                    out.write(" ".join(call(each, seed).split()) + "\n")
                    out.flush()
            os._exit(0)
        os.close(writes)
        with os.fdopen(reads) as answers:
            for line in answers:
                number += 1
                yield line.strip()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status:
            number += 1
            yield f"seed ({seed}, {number - 1}): {'hangs' if status == -signal.SIGALRM else f'ends with {status}'}"
