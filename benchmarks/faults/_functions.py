"""Public functions, and for each argument what it may be given: a sound value first."""

from __future__ import annotations

import dataclasses
import functools
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fluogan_core as fg

from ._pools import Pool, images, numbers, stacks

__all__ = ["functions"]

Table = dict[str, tuple[Callable[..., Any], dict[str, Pool]]]


def _quick(stack: Any, psi: Any, camera: Any, **options: Any) -> Any:
    return fg.reconstruct(stack, psi=psi, camera=camera, options=fg.SolverOptions(method="none", warm_steps=3, **options))


def older_functions() -> Table:
    """Operators, terms, calibration, the mean fit."""
    psf = fg.gaussian_psf(250, 100, 2)
    psi = fg.Psi(psf, (12, 12), 2, backend="numpy")
    operators = [
        psi,
        *(fg.Psi(p, (12, 12), 2, backend="numpy") for p in (np.ones((1, 1)), fg.gaussian_psf(30, 100, 2))),
        None,
        3,
    ]
    fine, coarse, frames = images((24, 24)), images((12, 12)), stacks()
    cameras = [
        fg.Camera(1.0, 100.0, 1.0),
        fg.Camera(1e-30, 100.0, 1.0),
        fg.Camera(1.0, 1e30, 0.0),
        fg.Camera(1e20, 0.0, 1e20),
        None,
        3,
    ]
    n = numbers
    dual = [np.zeros((4, 24, 24), np.float32), np.zeros((2, 24, 24), np.float32), np.zeros((4, 24, 24)), None]
    measured = dict(gain=n(1.0), offset=n(100.0), noise_std=n(1.0))
    return {
        "gaussian_psf": (fg.gaussian_psf, dict(fwhm_nm=n(250), pixel_size_nm=n(100), factor=n(2))),
        "airy_psf": (fg.airy_psf, dict(wavelength_nm=n(600), na=n(1.2), pixel_size_nm=n(100), factor=n(2))),
        "measured_psf": (fg.measured_psf, dict(images=images((15, 15)))),
        "Psi": (
            lambda psf, shape, factor, ppe: fg.Psi(psf, shape, factor, photons_per_emitter=ppe, backend="numpy").norm,
            dict(
                psf=[psf, *images((5, 5))],
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
        "estimate_camera": (fg.estimate_camera, dict(stack=frames, psi=operators, **measured)),
        "estimate_psf_width": (fg.estimate_psf_width, dict(stack=frames, psi=operators)),
        "calibrate": (
            fg.calibrate,
            dict(stack=frames, psi=operators, **measured, photons_per_emitter=n(2.0), psf_width=n(1.0)),
        ),
        "reconstruct": (_quick, dict(stack=frames, psi=operators, camera=cameras, total_variation=n(0.15), smoothness=n(2.6))),
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
        "metrics.psnr": (fg.metrics.psnr, dict(x=fine, truth=images((24, 24), seed=2))),
        "metrics.blurred_agreement": (fg.metrics.blurred_agreement, dict(x=fine, mean=coarse, psi=operators)),
    }


def _fitted(method: str) -> Callable[..., Any]:
    def fit(stack: Any, psi: Any, camera: Any, steps: Any, held_out: Any, background: Any, x0: Any) -> Any:
        options = fg.SolverOptions(method=method, warm_steps=3, steps=steps, held_out=held_out)
        return fg.reconstruct(stack, psi=psi, camera=camera, options=options, background=background, x0=x0, progress=False)

    return fit


def _tiles(recording: Any, psi: Any, tile: Any, halo: Any, window: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        options = fg.SolverOptions(method="none", warm_steps=3)
        known = {"camera": fg.Camera(1.0, 100.0, 1.0), "psf_width": 1.0, "photons_per_emitter": 2.0}
        more = {"tile": tile, "halo": halo, "window": window, "options": options, "progress": False, "tiff": False}
        made = fg.scale.reconstruct_tiles(recording, Path(folder) / "out", psi=psi, **known, **more)
        return np.asarray(fg.scale.image(made, "x")[...])


def _movie(frames: Any, psi: Any, window: Any, step: Any) -> Any:
    options, camera = fg.SolverOptions(method="none", warm_steps=3), fg.Camera(1.0, 100.0, 1.0)
    return list(fg.scale.movie(frames, psi=psi, window=window, step=step, options=options, camera=camera))


def _judged(frames: Any, model: Any, trust: Any, window: Any, x: Any, b: Any) -> Any:
    critic = fg.QuadraticCritic(frames, model, trust=trust, window=window)
    critic.update_weights(x, b)
    return critic.value(x, b), critic.slope(x, b)


def _written(result: Any, directory: Any, stack: Any, pixel_size_nm: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / directory if isinstance(directory, str) and directory else directory
        return sorted(map(str, fg.write_result(result, place, stack=stack, pixel_size_nm=pixel_size_nm, figure=False)))


def newer_functions() -> Table:
    """Plans, evidence, simulation, drift, bleaching, the other fits, tiles and movies, files."""
    psi = fg.Psi(fg.gaussian_psf(250, 100, 2), (12, 12), 2, backend="numpy")
    model, camera = fg.ForwardModel(psi, noise_std=1.0), fg.Camera(1.0, 100.0, 1.0)
    frames, fine, coarse, n = stacks(), images((24, 24)), images((12, 12)), numbers
    result = _quick(frames[0], psi, camera)
    calibration = fg.calibrate(frames[0], psi, camera=camera, psf_width=1.0, photons_per_emitter=2.0)
    shifts = [
        np.zeros((24, 2)),
        np.full((24, 2), math.nan),
        np.full((24, 2), 1e30),
        np.zeros((3, 2)),
        np.zeros(24),
        None,
        "drift",
    ]
    patterns: Pool = [fg.argolight_pattern((200.0,), pixel_size_nm=100, factor=2, shape=(24, 24)), None, 3, "pattern"]
    none, small, every = np.zeros((12, 12), bool), np.zeros((3, 3), bool), np.ones((12, 12), bool)
    psis: Pool = [psi, fg.Psi(fg.gaussian_psf(30, 100, 2), (12, 12), 2, backend="numpy"), None, 3]
    photons: Pool = [(frames[0] - 100.0).astype(np.float32), *frames]
    methods = {
        f"reconstruct, {name}": (
            _fitted(name),
            dict(
                stack=frames, psi=psis, camera=[camera, None, 3], steps=[2, 0, -1, 1.5, None, "2"], held_out=n(0.1),
                background=[None, 5.0, *n(5.0), *coarse], x0=[None, None, None, *fine],
            ),
        )
        for name in ("moments", "likelihood", "auto")
    }  # fmt: skip
    return methods | {
        "plan": (
            lambda separation, **given: fg.plan(length_nm=separation, **given),
            dict(
                separation=n(1000.0), pixel_size_nm=n(100.0), fwhm_nm=n(250.0), photons=n(50.0), background=n(10.0),
                photons_per_emitter=n(5.0), read_noise=n(1.5), frames=n(100), significance=n(3.0),
            ),
        ),
        "plan_from": (
            functools.partial(fg.plan_from, changes=False),
            dict(calibration=[calibration, None, 3], pixel_size_nm=n(100.0), frames=n(100), significance=n(3.0)),
        ),
        "evidence": (
            functools.partial(fg.evidence, finest=False),
            dict(
                frames=photons, model=[model, None, 3], x=fine, b=coarse, pixel_size_nm=n(100.0), image=[None, *fine],
                bad_pixels=[None, none, every, small, "none"], threshold=n(3.0),
            ),
        ),
        "estimate_psf_shape": (fg.estimate_psf_shape, dict(stack=frames, psi=psis)),
        "estimate_bleaching": (fg.estimate_bleaching, dict(stack=frames)),
        "estimate_drift": (fg.estimate_drift, dict(stack=frames, psi=psis)),
        "follow_drift": (
            lambda stack, psi, shifts: fg.follow_drift(stack, psi, fg.Drift(shifts, 0.0, 0.1)),
            dict(stack=frames, psi=psis, shifts=shifts),
        ),
        "corrected_counts": (
            fg.corrected_counts,
            dict(stack=frames, offset_map=[0 * coarse[0] + 100, *coarse], gain_map=[None, 0 * coarse[0] + 2, *coarse]),
        ),
        "Weights": (
            fg.Weights,
            {field.name: n(1) for field in dataclasses.fields(fg.Weights)},
        ),
        "Blinking": (fg.Blinking, dict(on_ms=n(20.0), off_ms=n(40.0), bleach_s=n(80.0), photons_per_frame=n(200.0))),
        "Detector": (
            fg.Detector,
            dict(
                kind=["emccd", "scmos", "none", None, 3], quantum_efficiency=n(0.7), gain=n(6.0), read_noise=n(1.6),
                offset=n(100.0),
            ),
        ),
        "simulate_sofi": (
            lambda **given: fg.simulate_sofi(**given).frames,
            dict(
                pattern=fine, frames=[3, 0, -1, 1.5, None, "3"], density_per_um2=[50.0, 0, -1, math.nan, 1e300, None, "5"],
                fwhm_nm=n(250.0), frame_ms=n(10.0), background=[2.0, -1, math.nan, math.inf, None, *coarse], seed=n(0),
                pixel_size_nm=[100.0, *n(100.0)], factor=[2, 2, *n(2)],
            ),
        ),
        "QuadraticCritic": (
            _judged,
            dict(frames=photons, model=[model, None, 3], trust=n(1.0), window=[None, *n(12)], x=fine, b=coarse),
        ),
        "sweep": (
            lambda stack, vary: fg.sweep(
                stack, psi=psi, camera=camera, options=fg.SolverOptions(method="none", warm_steps=3), vary=vary, progress=False
            ).trials[0].values,
            dict(
                stack=frames,
                vary=[
                    {"total_variation": (0.1, 0.2)}, {}, None, {"no such": (1,)}, {"detail": ()}, {"detail": (math.nan,)},
                    {"detail": 3}, "detail",
                ],
            ),
        ),
        "Stack": (fg.Stack, dict(frames=frames, pixel_size_nm=n(100.0), frame_interval_s=n(0.01))),
        "read_stack": (
            fg.read_stack,
            dict(
                path=["no such.tif", "", ".", None, 3, "a\0b", "https://example.org/x.tif", "x" * 5000, b"x.tif", __file__],
                roi=[None, (0, 0, 4, 4), (1, 2), "roi", 3],
                frames=[None, (0, 2), slice(None), "frames", 3],
            ),
        ),
        "write_result": (
            _written,
            dict(
                result=[result, None, 3], directory=["out", "a/b", "ü ß\n", "", None, 3, "x" * 300, "a\0b"],
                stack=[None, frames[0], frames[6], "stack"], pixel_size_nm=[None, *n(100.0)],
            ),
        ),
        "scale.reconstruct_tiles": (
            _tiles,
            dict(recording=frames, psi=psis, tile=[8, None, *n(8)], halo=[2, None, *n(2)], window=[None, 12, *n(12)]),
        ),
        "scale.movie": (_movie, dict(frames=frames, psi=psis, window=[8, *n(8)], step=[None, 4, *n(4)])),
        "metrics.held_out_score": (
            fg.metrics.held_out_score,
            dict(frames=photons, model=[model, None, 3], x=fine, b=coarse, block=n(6)),
        ),
        "metrics.fourier_ring_correlation": (
            fg.metrics.fourier_ring_correlation,
            dict(a=fine, b=images((24, 24), seed=2), pixel_size_nm=n(50.0), threshold=n(1 / 7)),
        ),
        "metrics.agreement_map": (
            fg.metrics.agreement_map,
            dict(x=fine, mean=coarse, psi=psis, noise=[None, *coarse], side=[None, *n(8)]),
        ),
        "metrics.resolution_map": (
            fg.metrics.resolution_map,
            dict(
                a=images((48, 48)), b=images((48, 48), seed=2), pixel_size_nm=n(50.0), side=n(16), step=n(8), threshold=n(1 / 7)
            ),
        ),
        "metrics.line_fluxes": (fg.metrics.line_fluxes, dict(x=images((48, 48)), pattern=patterns, group=n(0))),
        "metrics.pair_report": (
            fg.metrics.pair_report,
            dict(x=images((48, 48)), pattern=patterns, group=n(0), prominence=n(0.05)),
        ),
        "metrics.find_lines": (
            fg.metrics.find_lines,
            dict(x=fine, pixel_size_nm=n(100.0), factor=n(2), axis=n(0), prominence=n(0.1)),
        ),
        "metrics.line_profile": (
            fg.metrics.line_profile,
            dict(
                x=fine, fine_nm=[None, *n(50.0)], span_nm=[None, (0, 500), (3,), (500, 0), (math.nan, 3), "span"],
                axis=n(0),
            ),
        ),
        "get_backend": (
            fg.get_backend,
            dict(name=["numpy", "auto", "no such", None, 3, ""], device=[None, 0, -1, 99, 1.5, "0"]),
        ),
    }  # fmt: skip


@functools.cache
def functions() -> Table:
    """Name -> the function, and for each argument what it may be given: a sound value first."""
    return older_functions() | newer_functions()
