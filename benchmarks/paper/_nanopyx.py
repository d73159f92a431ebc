"""SRRF and eSRRF as nanopyx computes them: on the CPU, without output, moved to the right place.

nanopyx looks for OpenCL devices when it is imported, prints what it runs, keeps its run times in the home folder and lets them
choose the implementation; where one fails it takes another.  Here it is told which to take, what it prints is read for
failures and dropped, and its files go to a folder that is removed at the end.  Its own settings are its documented defaults.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import io
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
from scipy import ndimage

import fluogan_core as fg

__all__ = ["esrrf", "landings", "srrf", "why_no_nanopyx"]

#: One implementation for all: compiled loops on OMP_NUM_THREADS threads.  "unthreaded" does not exist for SRRF.
_RUN = {"_force_run_type": "threaded"}
#: Displacements below this many fine pixels are left alone: moving an image costs a little sharpness.
_HARMLESS = 0.1
#: Side of the field on which points are tried, camera pixels: room for PSF, ring and the border that stays dark.
_TRIAL = 24


def srrf(frames: np.ndarray, psi: fg.Psi) -> np.ndarray:
    """Radial fluctuations, mean over the frames (order 1, its default); (N1, N2), no unit."""
    return _registered(_srrf, frames, psi)


def esrrf(frames: np.ndarray, psi: fg.Psi) -> np.ndarray:
    """Radial gradient convergence, mean over the frames ("AVG", its default); (N1, N2), no unit."""
    return _registered(_esrrf, frames, psi)


def landings(psi: fg.Psi) -> dict[str, float]:
    """How far down and right of its place a point source lands, fine pixels; measured once per process and PSF."""
    return {"SRRF": _where(_srrf, psi), "eSRRF": _where(_esrrf, psi)}


def _srrf(frames: np.ndarray, factor: int, **settings: Any) -> np.ndarray:
    with _quiet():
        nanopyx = _nanopyx()
        found = nanopyx.SRRF(frames, magnification=factor, **settings, **_RUN)
        return nanopyx.core.transform.sr_temporal_correlations.calculate_SRRF_temporal_correlations(found)


def _esrrf(frames: np.ndarray, factor: int, **settings: Any) -> np.ndarray:
    with _quiet():
        return _nanopyx().eSRRF(frames, magnification=factor, **settings, **_RUN)


def _registered(method: Callable[..., np.ndarray], frames: np.ndarray, psi: fg.Psi) -> np.ndarray:
    """The image of a method, moved to where light lies on our grid."""
    image = np.maximum(method(frames.astype(np.float32), psi.factor), 0.0).astype(np.float64)
    off = _where(method, psi)
    return image if abs(off) < _HARMLESS else np.maximum(ndimage.shift(image, -off, order=3), 0.0)


def _where(method: Callable[..., np.ndarray], psi: fg.Psi) -> float:
    return _landing(method, psi.psf.tobytes(), psi.psf.shape, psi.psf.dtype.str, psi.factor)


@functools.cache
def _landing(method: Callable[..., np.ndarray], psf: bytes, shape: tuple[int, int], dtype: str, factor: int) -> float:
    """Displacement of a point source, mean of nine places within a camera pixel.

    eSRRF's gradients are differences towards the upper left neighbour, kept as if they were the pixel's own, and so half a
    camera pixel off; its brightness is off by half a fine pixel.  Measured rather than assumed: what comes of the two depends
    on the PSF, and another release may differ.
    """
    psi = fg.Psi(np.frombuffer(psf, dtype).reshape(shape), (_TRIAL, _TRIAL), factor, backend="numpy")
    off = []
    for place in np.ndindex(3, 3):
        at = tuple(factor * (_TRIAL // 2) + k * factor // 3 for k in place)
        point = np.zeros(psi.fine_shape, dtype=np.float32)
        point[at] = 1e4
        # one point alone has no macro-pixel pattern to correct: the correction would take the point for it
        image = method(psi.forward(point)[None], factor, macro_pixel_correction=False)
        bright = np.maximum(image - 0.3 * image.max(), 0.0)
        parts, _ = ndimage.label(bright)
        peak = parts == parts[np.unravel_index(bright.argmax(), bright.shape)]
        off.append(np.subtract(ndimage.center_of_mass(bright * peak), at))
    return float(np.mean(off))


# -- the library ------------------------------------------------------------------------------------------------------


@functools.cache
def why_no_nanopyx() -> str:
    """Why nanopyx cannot be used here; empty if it can."""
    if importlib.util.find_spec("nanopyx") is None:
        return "nanopyx is not installed"
    try:
        with _quiet():
            _nanopyx()
    except Exception as error:  # its many dependencies raise errors of many kinds: an absent peer must not stop the comparison
        return f"nanopyx cannot be imported: {type(error).__name__}: {error}"
    return ""


@functools.cache
def _home() -> tempfile.TemporaryDirectory[str]:
    """Stands in for the home folder; removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="nanopyx-")


@functools.cache
def _nanopyx() -> ModuleType:
    """Import nanopyx; within :func:`_quiet`, for it looks up the home folder now and keeps it."""
    importlib.import_module("nanopyx.core.transform.sr_temporal_correlations")
    return importlib.import_module("nanopyx")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Run the body without OpenCL, without output and without touching the user's files.

    Raises
    ------
    RuntimeError
        If it reported that an implementation failed: its result then came from another one.
    """
    importlib.import_module("matplotlib.font_manager")  # nanopyx loads it: its cache belongs into the true home
    ours = {"HOME": _home().name, "USERPROFILE": _home().name, "NANOPYX_DISABLE_OPENCL": "1", "MPLBACKEND": "agg"}
    before = dict(os.environ)  # its dependencies set library and plug-in paths for every process to come
    said = io.StringIO()
    try:
        os.environ.update(ours)
        with contextlib.redirect_stdout(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)
    failures = [line for line in said.getvalue().splitlines() if line.startswith("Unexpected")]
    if failures:
        raise RuntimeError(f"nanopyx did not run as it was told: {said.getvalue().strip()}")
