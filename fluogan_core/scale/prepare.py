"""The plan of a recording: everything that is decided for all tiles together, before the first of them."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from ..backend.checks import whole_number
from ..backend.memory import default_memory_budget
from ..backend.threads import one_thread
from ..backend.typing import ArrayLike
from ..calibration.brightest import brightest_part
from ..calibration.calibrate import Calibration
from ..calibration.camera import Camera
from ..calibration.odd_frames import find_odd_frames
from ..calibration.row_shift import RowShift
from ..io.files import prepare_directory
from ..io.lazy import LazyStack
from ..physics.bleaching import trend_of
from ..physics.psi import Psi
from ..physics.requirements import refuse_own
from ..solvers.chosen_weights import chosen_weights
from ..solvers.options import SolverOptions
from ..solvers.weights import length_scale
from .canvas import create_canvas, has_canvas, space_of
from .field import Known, calibrate_field
from .fit import fit_tile, pieces_that_worked, tile_problem
from .grid import Grid, Tile
from .measured import measured_of
from .plan import LOCK, NUMBERS, REPORT, Plan, load_plan, windows_of
from .shared import shared_by_all
from .sizes import AT_REST, LARGEST_TILE, asked_sizes, fitting, halo_of, size_of_tiles
from .source import source_of
from .unit import keep

__all__ = ["Settings", "prepare"]

log = logging.getLogger("fluogan_core")


class Settings(Known, total=False):
    """Arguments of :func:`prepare` that others hand on."""

    options: SolverOptions | None
    calibration: Calibration | None
    tile: int | None
    halo: int | None
    window: int | None
    step: int | None
    recalibrate: bool
    channel: int | None
    mask: ArrayLike | None
    pixel_size_nm: float | None
    memory_budget: int | None


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
    recalibrate: bool = False,
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
        Camera pixels around a tile that are fitted with it (:func:`halo_of`), as far as the field goes.
    window, step : int, optional
        For a movie: frames per image, and from one image to the next.
    recalibrate : bool
        Measure camera, emitters, width of the PSF, noise and weights in every window, as far as they are not given, and not in
        the first for all: where focus, lamp or gain change.
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
    if recalibrate and calibration is not None:
        raise ValueError("recalibrate=True measures every window by itself: leave calibration= out, or recalibrate=")
    folder = prepare_directory(folder)
    options = SolverOptions() if options is None else options
    with _alone(folder):
        source = source_of(recording, folder, channel=channel, planned=(folder / NUMBERS).is_file())
        request = _request(source, psi, options, tile, halo, window, step, recalibrate, mask, given)
        if (folder / NUMBERS).is_file():
            plan = load_plan(folder)
            if plan.request != request or plan.source != source.identity():
                different = [name for name in request if plan.request.get(name) != request[name]] or ["the recording"]
                raise ValueError(
                    f"{folder} holds another reconstruction (different: {', '.join(different)}): choose another folder, or "
                    "remove this one"
                )
            _mend(plan)
            return plan
        _clear(folder)
        return _made(source, folder, psi, options, calibration, request, mask, pixel_size_nm, memory_budget, given)


def _clear(folder: Path) -> None:
    """Remove what another plan has left, of which the file of numbers is gone: its parts would be taken for ours."""
    (folder / REPORT).unlink(missing_ok=True)
    shutil.rmtree(folder / "parts", ignore_errors=True)


def _mend(plan: Plan) -> None:
    """Make images anew that are gone; of a plan that was finished, its tiles are computed again."""
    if not has_canvas(plan):
        log.warning("%s lacks images: they are made anew", plan.folder)
        (plan.folder / REPORT).unlink(missing_ok=True)
        create_canvas(plan)


def _warn_of_space(plan: Plan) -> None:
    """Say before any work that the images may not fit on the disk."""
    free, wanted = shutil.disk_usage(plan.folder).free, space_of(plan)
    if wanted > free:
        log.warning(
            "%s has %.2g GiB of free space, and parts and images take up to %.2g GiB: make room, or take another folder",
            plan.folder,
            free / 2**30,
            wanted / 2**30,
        )


def _alone(folder: Path) -> Any:
    """Hold a lock of its own while a plan is made; others wait."""
    from filelock import FileLock

    return FileLock(folder / LOCK)


def _request(
    source: LazyStack,
    psi: Psi,
    options: SolverOptions,
    tile: int | None,
    halo: int | None,
    window: int | None,
    step: int | None,
    recalibrate: bool,
    mask: ArrayLike | None,
    given: Known,
) -> dict[str, Any]:
    """What was asked for, in numbers and words: equal requests are of one reconstruction."""
    sizes = asked_sizes(tile, halo, window, step, recalibrate)
    if window is not None:
        whole_number(window, "window", low=2, high=source.shape[0])
    mask_sum = None
    if mask is not None:
        wanted = np.asarray(mask, dtype=bool)
        if wanted.shape != source.shape[1:]:
            raise ValueError(f"mask must have the shape of the field, {source.shape[1:]}, got {wanted.shape}")
        mask_sum = [int(wanted.sum()), int(np.flatnonzero(wanted).sum())]
    values = {name: dataclasses.asdict(v) if isinstance(v, Camera | RowShift) else v for name, v in sorted(given.items())}
    request = {
        "psf": psi.fingerprint,
        "options": dataclasses.asdict(options),
        **sizes,
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
    free = max(budget - AT_REST, 64 * 2**20)
    if calibration is None:
        calibration = calibrate_field(source, psi, frames=range(*windows[0]), budget=free, **given)
    for remark in calibration.remarks:
        log.info("%s", remark)
    frames, shape = windows[0][1] - windows[0][0], source.shape[1:]
    halo, blend = halo_of(calibration.psi, length_scale(options))
    if request["halo"] is not None:
        halo = min(request["halo"], max(2, *shape))
        blend = max(1, min(blend, halo // 2))
    asked = None if request["tile"] is None else min(request["tile"], max(8, *shape))
    size = size_of_tiles(asked, halo, frames, psi.factor, options, budget)
    grid = Grid(shape, size, halo, blend)
    first = measured_of(calibration, options, grid, frames)
    plan = Plan(
        folder=folder,
        source=source.identity(),
        request=request,
        windows=windows,
        left_out=calibration.left_out,
        grid=grid,
        measured=(first,),
        options=options,
        wanted=None if mask is None else np.asarray(mask, dtype=bool),
        budget=budget,
        pixel_size_nm=source.pixel_size_nm if pixel_size_nm is None else pixel_size_nm,
    )
    _warn_of_space(plan)
    create_canvas(plan)
    pilot = _pilot(plan, calibration.mean, fitting(LARGEST_TILE, halo, frames, psi.factor, options, budget))
    plan = dataclasses.replace(plan, left_out=(*plan.left_out, *_apart_later(source, windows, pilot)))
    measured = [first]
    if request["recalibrate"]:
        for window in windows[1:]:
            anew = calibrate_field(source, psi, frames=range(*window), budget=free, **given)
            measured.append(measured_of(anew, options, grid, frames))
    chosen = []
    for number, of in enumerate(measured):
        part = dataclasses.replace(plan, measured=(of,))
        problem = tile_problem(part, source, dataclasses.replace(pilot, outer=pilot.core), number)
        chosen.append(dataclasses.replace(of, weights=chosen_weights(of.weights, problem, options)))
    plan = dataclasses.replace(plan, measured=tuple(chosen))
    if "covariance" in options.phases and len(grid.tiles) * len(windows) > 1:
        plan = dataclasses.replace(plan, trends=_trends(plan, source, pilot))
    if len(grid.tiles) * len(windows) > 1:
        plan = _decided(plan, source, pilot)
    plan.save()
    plan = load_plan(folder)
    log.info("%d tiles of %d x %d camera pixels, halo %d", len(grid.tiles), *grid.core_shape, halo)
    return plan


def _apart_later(source: LazyStack, windows: tuple[tuple[int, int], ...], pilot: Tile) -> tuple[int, ...]:
    """Frames that stand apart after the first window, by the part of the field with the most light; as many at a time."""
    length, rows, columns = windows[0][1] - windows[0][0], *(slice(*side) for side in pilot.core)
    found: list[int] = []
    for start in range(windows[0][1], windows[-1][1], length):
        # the last ones with as many before them as a window has: a few alone say not what is usual
        stop = min(start + length, windows[-1][1])
        odd = find_odd_frames(source.read(range(stop - length, stop), rows, columns))
        new = [stop - length + number for number in odd.numbers if stop - length + number >= start]
        if new:
            said = odd.sentence(stop - length)
            log.warning("frames left out because they differ from those about them: %s", said)
            found += new
    return tuple(found)


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
        "rows %d to %d and columns %d to %d, with the most light, are fitted first: they decide for all",
        *pilot.core[0],
        *pilot.core[1],
    )
    with one_thread():
        fitted = fit_tile(plan, source, pilot, 0)
    shared = shared_by_all(plan.options, fitted)
    decided = dataclasses.replace(plan, shared=shared, options=plan.options.for_method(shared.method))
    # where chains of emissions did not mix, or pieces decided each by itself, the tile is fitted once more, as all others
    if pilot.number >= 0 and shared.method in ("none", plan.options.method) and pieces_that_worked(plan) == 1:
        keep(decided, pilot.number, 0, fitted)
    return decided
