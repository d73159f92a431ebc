"""The plan of a recording: everything that is decided for all tiles together, before the first of them."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from ..backend.checks import whole_number
from ..backend.memory import default_memory_budget
from ..backend.threads import one_thread
from ..backend.typing import ArrayLike
from ..calibration.calibrate import Calibration
from ..calibration.camera import Camera
from ..io.files import prepare_directory
from ..io.lazy import LazyStack
from ..physics.bleaching import trend_of
from ..physics.on_field import on_field
from ..physics.psi import Psi
from ..physics.requirements import refuse_own
from ..solvers.chosen_weights import chosen_weights
from ..solvers.options import SolverOptions
from ..solvers.trial_field import brightest_part
from ..solvers.weights import weights_of_field
from .canvas import create_canvas
from .field import Known, calibrate_field
from .fit import fit_tile, pieces_that_worked, tile_problem
from .grid import Grid, Tile
from .movie import WARM
from .plan import NUMBERS, Plan, load_plan, windows_of
from .shared import shared_by_all
from .source import source_of
from .unit import keep

__all__ = ["Settings", "halo_of", "prepare", "tile_bytes"]

log = logging.getLogger("fluogan_core")

#: Largest side of a core that is chosen by itself, camera pixels.
_LARGEST_TILE = 256
#: Halo in units of the background's length scale: beyond it a background does not feel what lies outside.
_HALO = 9.0
#: The part of the halo that is blended with the neighbour.
_BLEND = 0.25
#: Bytes of a process before it works; per camera pixel and frame of a tile whose frames are held; per fine pixel of a tile; per
#: camera pixel of the covariance fit: four matrices of 144 x 144 for each window, of which one begins at every 36th pixel.
_AT_REST, _PER_COUNT, _PER_FINE_PIXEL, _PER_WINDOWED = 450 * 2**20, 26, 200, 9200


class Settings(Known, total=False):
    """Arguments of :func:`prepare` that others hand on."""

    options: SolverOptions | None
    calibration: Calibration | None
    tile: int | None
    halo: int | None
    window: int | None
    step: int | None
    channel: int | None
    mask: ArrayLike | None
    pixel_size_nm: float | None
    memory_budget: int | None


def halo_of(psi: Psi, smoothness: float) -> tuple[int, int]:
    """Return the halo of a tile and its blended part, camera pixels.

    Parameters
    ----------
    psi : Psi
    smoothness : float
        Length scale of the background, camera pixels (:class:`fluogan_core.SolverOptions`).

    Returns
    -------
    halo, blend : int
        The larger of the PSF's support and of nine length scales of the background, and a quarter of that.

    Examples
    --------
    >>> import fluogan_core as fg
    >>> halo_of(fg.Psi(fg.gaussian_psf(318, 100, 4), (32, 32), 4, backend="numpy"), 2.6)
    (24, 6)
    """
    support = math.ceil(max(psi.psf.shape) / psi.factor)
    halo = max(8, support, math.ceil(_HALO * smoothness))
    return halo, max(2, int(_BLEND * halo))


def tile_bytes(outer: int, frames: int, factor: int, options: SolverOptions) -> int:
    """Return about how many bytes a process takes that fits a tile.

    Parameters
    ----------
    outer : int
        Side of the tile with its halo, camera pixels.
    frames : int
        Of a window.
    factor : int
        Fine pixels per camera pixel and axis.
    options : SolverOptions

    Returns
    -------
    int
    """
    held = frames if len(options.phases) > 1 else 2
    windowed = _PER_WINDOWED if "covariance" in options.phases else 0
    return _AT_REST + outer**2 * (_PER_COUNT * held + _PER_FINE_PIXEL * factor**2 + windowed)


def prepare(
    recording: str | os.PathLike[str] | ArrayLike,
    folder: str | os.PathLike[str],
    *,
    psi: Psi,
    options: SolverOptions | None = None,
    calibration: Calibration | None = None,
    tile: int | None = None,
    halo: int | None = None,
    window: int | None = None,
    step: int | None = None,
    channel: int | None = None,
    mask: ArrayLike | None = None,
    pixel_size_nm: float | None = None,
    memory_budget: int | None = None,
    **given: Unpack[Known],
) -> Plan:
    """Measure what all tiles share, and write it into a folder: the first step of every large reconstruction.

    A folder that holds the plan of the same request is taken as it is.  Several processes may call this at once: one of them
    makes the plan, the others wait for it.

    Parameters
    ----------
    recording : path-like or (T, M1, M2) array
        A file that :func:`fluogan_core.io.lazy.open_lazily` reads, or frames (NumPy, Dask, Zarr).  Mapped ``.npy`` files and
        Zarr arrays in folders are read where they are; other frames are written to ``frames.zarr`` in the folder some at a
        time.
    folder : path-like
        Made if need be.
    psi : Psi
        The operator with the PSF as described, of any field; its backend does the work.
    options : SolverOptions, optional
    calibration : Calibration, optional
        Of this recording; measured by :func:`fluogan_core.scale.calibrate_field` by default.
    tile : int, optional
        Largest side of a tile without its halo, camera pixels; by default 256, or what the memory budget allows.
    halo : int, optional
        Camera pixels around a tile that are fitted with it (:func:`halo_of`).
    window, step : int, optional
        For a movie: frames per image, and from one image to the next.
    channel : int, optional
        Of a recording of several.
    mask : (M1, M2) bool, optional
        Where an image is wanted: tiles without any such pixel get their background only.
    pixel_size_nm : float, optional
        Camera pixel, nm; from the file by default.
    memory_budget : int, optional
        Bytes that one process may take.
    **given
        What is known of camera and emitters, as for :func:`fluogan_core.calibrate`.

    Returns
    -------
    Plan

    Raises
    ------
    ValueError, TypeError
        If the recording cannot be read or measured; if the folder holds another reconstruction; if an option is out of its
        range.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> folder = tempfile.TemporaryDirectory()
    >>> stack = np.random.default_rng(0).poisson(50.0, (20, 48, 24)) + 100
    >>> psi = fg.Psi(fg.gaussian_psf(250, 100, 2), (24, 24), 2, backend="numpy")
    >>> given = {"camera": fg.Camera(offset=100.0), "photons_per_emitter": 1.0, "psf_width": 1.0}
    >>> options = fg.SolverOptions(method="none", warm_steps=3)
    >>> plan = fg.scale.prepare(stack, folder.name, psi=psi, options=options, tile=24, **given)
    >>> len(plan.grid.tiles), plan.weights.iterations
    (2, 3)
    >>> folder.cleanup()
    """
    refuse_own(psi, "a field in tiles")
    folder = prepare_directory(folder)
    options = SolverOptions() if options is None else options
    with _alone(folder):
        source = source_of(recording, folder, channel=channel, planned=(folder / NUMBERS).is_file())
        request = _request(source, psi, options, tile, halo, window, step, mask, given)
        if (folder / NUMBERS).is_file():
            plan = load_plan(folder)
            if plan.request != request or plan.source != source.identity():
                different = [name for name in request if plan.request.get(name) != request[name]] or ["the recording"]
                raise ValueError(
                    f"{folder} holds another reconstruction (different: {', '.join(different)}): choose another folder, or "
                    "remove this one"
                )
            return plan
        return _made(source, folder, psi, options, calibration, request, mask, pixel_size_nm, memory_budget, given)


def _alone(folder: Path) -> Any:
    """Hold a lock of its own while a plan is made; others wait."""
    from filelock import FileLock

    return FileLock(folder / ".plan.lock")


def _request(
    source: LazyStack,
    psi: Psi,
    options: SolverOptions,
    tile: int | None,
    halo: int | None,
    window: int | None,
    step: int | None,
    mask: ArrayLike | None,
    given: Known,
) -> dict[str, Any]:
    """What was asked for, in numbers and words: equal requests are of one reconstruction."""
    frames = source.shape[0]
    if step is not None and window is None:
        raise ValueError("step= is the distance of two windows: give window= too, the frames of one image")
    if window is not None:
        window = whole_number(window, "window", low=2, high=frames)
        step = window if step is None else whole_number(step, "step", low=1)
    mask_sum = None
    if mask is not None:
        wanted = np.asarray(mask, dtype=bool)
        if wanted.shape != source.shape[1:]:
            raise ValueError(f"mask must have the shape of the field, {source.shape[1:]}, got {wanted.shape}")
        mask_sum = [int(wanted.sum()), int(np.flatnonzero(wanted).sum())]
    values = {name: dataclasses.asdict(v) if isinstance(v, Camera) else v for name, v in sorted(given.items())}
    request = {
        "psf": psi.fingerprint,
        "options": dataclasses.asdict(options),
        "tile": tile,
        "halo": halo,
        "window": window,
        "step": step,
        "mask": mask_sum,
        "given": values,
    }
    return dict(json.loads(json.dumps(request)))


def _made(
    source: LazyStack,
    folder: Path,
    psi: Psi,
    options: SolverOptions,
    calibration: Calibration | None,
    request: dict[str, Any],
    mask: ArrayLike | None,
    pixel_size_nm: float | None,
    memory_budget: int | None,
    given: Known,
) -> Plan:
    budget = default_memory_budget() if memory_budget is None else whole_number(memory_budget, "memory_budget", low=1)
    windows = windows_of(source.shape[0], request["window"], request["step"])
    if calibration is None:
        free = max(budget - _AT_REST, 64 * 2**20)
        calibration = calibrate_field(source, psi, frames=range(*windows[0]), budget=free, **given)
    for remark in calibration.remarks:
        log.info("%s", remark)
    psi = calibration.psi
    halo, blend = halo_of(psi, options.smoothness)
    if request["halo"] is not None:
        halo = whole_number(request["halo"], "halo", low=2)
        blend = max(1, min(blend, halo // 2))
    frames, shape = windows[0][1] - windows[0][0], source.shape[1:]
    size = _size(request["tile"], halo, frames, psi.factor, options, budget)
    grid = Grid(shape, size, halo, blend)
    small = on_field(psi, tuple(min(n, core + 2 * halo) for n, core in zip(shape, grid.core_shape)))
    taken = frames - len([n for n in calibration.left_out if n < frames])
    weights = weights_of_field(small, calibration.noise, calibration.camera, options, frames=taken, shape=shape)
    plan = Plan(
        folder=folder,
        source=source.identity(),
        request=request,
        windows=windows,
        left_out=calibration.left_out,
        grid=grid,
        psi=small,
        camera=calibration.camera,
        noise=calibration.noise,
        weights=weights,
        options=options,
        bad_pixels=calibration.bad_pixels,
        bad_pixel_values=calibration.bad_pixel_values,
        wanted=None if mask is None else np.asarray(mask, dtype=bool),
        warm_steps=math.ceil(WARM * weights.iterations),
        budget=budget,
        pixel_size_nm=source.pixel_size_nm if pixel_size_nm is None else pixel_size_nm,
    )
    create_canvas(plan)
    pilot = _pilot(plan, calibration.mean, _fitting(_LARGEST_TILE, halo, frames, psi.factor, options, budget))
    problem = tile_problem(plan, source, dataclasses.replace(pilot, outer=pilot.core), 0)
    weights = chosen_weights(weights, problem, options)
    plan = dataclasses.replace(plan, weights=weights, warm_steps=math.ceil(WARM * weights.iterations))
    if "covariance" in options.phases and len(grid.tiles) * len(windows) > 1:
        plan = dataclasses.replace(plan, trends=_trends(plan, source, pilot))
    if len(options.phases) > 1 and len(grid.tiles) * len(windows) > 1:
        plan = _decided(plan, source, pilot)
    plan.save()
    plan = load_plan(folder)
    log.info("%d tiles of %d x %d camera pixels, halo %d", len(grid.tiles), *grid.core_shape, halo)
    return plan


def _size(asked: int | None, halo: int, frames: int, factor: int, options: SolverOptions, budget: int) -> int:
    """The largest core that fits the budget, and at most what was asked for."""
    size = whole_number(asked, "tile", low=8) if asked is not None else _LARGEST_TILE
    size = _fitting(size, halo, frames, factor, options, budget)
    if tile_bytes(size + 2 * halo, frames, factor, options) > budget:
        log.warning(
            "the smallest tiles take about %.2g GiB, more than the budget of %.2g GiB: take fewer frames per window",
            tile_bytes(size + 2 * halo, frames, factor, options) / 2**30,
            budget / 2**30,
        )
    elif asked is not None and size < asked:
        log.warning("tiles of %d camera pixels do not fit the memory budget: they are made of %d", asked, size)
    return size


def _fitting(size: int, halo: int, frames: int, factor: int, options: SolverOptions, budget: int) -> int:
    """The largest core up to this size that fits the budget; 32 camera pixels if none does."""
    smallest = min(size, 32)
    while size > smallest and tile_bytes(size + 2 * halo, frames, factor, options) > budget:
        size = max(smallest, size - 8)
    return size


def _pilot(plan: Plan, mean: np.ndarray, side: int) -> Tile:
    """What decides for all: the tile with the most light, or a larger part of the field with the most light.

    What is decided are sums over it: in a small tile they say something else than in the field.
    """
    sides = [min(side, n) for n in plan.grid.shape]
    if plan.wanted is not None:  # what is not asked for decides nothing
        mean = np.where(plan.wanted, mean, mean.min())
    if plan.options.phases in (("mean",), ("mean", "covariance")) and any(
        wide > own for wide, own in zip(sides, plan.grid.core_shape)
    ):
        rows, columns = brightest_part(mean, side)
        core = ((rows.start, rows.stop), (columns.start, columns.stop))
        outer = [(max(0, a - plan.grid.halo), min(n, b + plan.grid.halo)) for (a, b), n in zip(core, plan.grid.shape)]
        return Tile(-1, core, core, (outer[0], outer[1]))
    dark = float(np.quantile(mean, 0.1))
    return max(plan.grid.tiles, key=lambda t: float((mean[slice(*t.core[0]), slice(*t.core[1])] - dark).sum()))


def _trends(plan: Plan, source: LazyStack, pilot: Tile) -> tuple[np.ndarray, ...]:
    """The trend of bleaching in every window, where the field is brightest: small tiles would take it from noise."""
    part = dataclasses.replace(pilot, outer=pilot.core)
    problems = (tile_problem(plan, source, part, window) for window in range(len(plan.windows)))
    return tuple(trend_of(problem.counts, plan.psi.backend) for problem in problems)


def _decided(plan: Plan, source: LazyStack, pilot: Tile) -> Plan:
    """Decide on one part of the field, in the first window, what all tiles and windows share."""
    log.info(
        "rows %d to %d and columns %d to %d, with the most light, are fitted first: they decide on the method of all",
        *pilot.core[0],
        *pilot.core[1],
    )
    with one_thread():
        fitted = fit_tile(plan, source, pilot, 0)
    shared = shared_by_all(plan.options, fitted.stops, fitted.flicker, fitted.pace)
    decided = dataclasses.replace(plan, shared=shared, options=plan.options.for_method(shared.method))
    # where chains of emissions did not mix, or pieces decided each by itself, the tile is fitted once more, as all others
    if pilot.number >= 0 and shared.method in ("none", plan.options.method) and pieces_that_worked(plan) == 1:
        keep(decided, pilot.number, 0, fitted)
    return decided
