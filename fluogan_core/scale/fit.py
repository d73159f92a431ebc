"""One tile of one window: its frames read, its fit with the weights of the whole field, cut smaller where memory is short."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import zlib
from collections.abc import Callable

import numpy as np

from ..backend.replace import replace_file
from ..backend.typing import Array
from ..calibration.row_shift import filled_and_straightened
from ..critics.quadratic import QuadraticCritic
from ..io.lazy import LazyStack
from ..physics.on_field import on_field
from ..physics.psf import psf_sigma
from ..physics.psi import Psi
from ..physics.windows import Windows, windows_of
from ..solvers.covariance_fit import CovariancePhase
from ..solvers.options import SolverOptions
from ..solvers.problem import Problem
from ..solvers.solver import Solver
from ..solvers.weights import Weights
from ..tuning import DEFAULT
from .core import core_critic, flicker_of_core
from .grid import Grid, Tile, slices
from .pace import Steps, follow_pace, follow_steps, measure_pace, measure_steps
from .plan import Plan
from .shared import Fitted, Shared, as_shared, shared_flicker

__all__ = ["fit_field", "fit_tile", "pieces_that_worked"]

log = logging.getLogger("fluogan_core")

#: Frames that are read at a time where the mean alone is fitted.
_BLOCK = 32
#: The file that says in how many pieces tiles had to be cut for the memory that there was.
_PIECES = "pieces.txt"
#: Standard deviations of the PSF from which on light from beyond a border is none.
_LIT_FROM_BEYOND = 4.0

Slices = tuple[slice, slice]


def fit_field(
    problem: Problem,
    options: SolverOptions,
    weights: Weights,
    *,
    start: np.ndarray | None = None,
    wanted: bool = True,
    shared: Shared | None = None,
    core: Slices | None = None,
    windows: Windows | None = None,
) -> Fitted:
    r"""Fit one field, as a part of a larger one or of a movie.

    The step size of the mean fit follows from the norm of :math:`\Psi` on a field without borders, and later from the image, by
    numbers that one part measures for all.  So all tiles are at the same point of their way after the same number of steps.
    Where no light stands out of the noise, :math:`\Psi^T(\bar y - b) \le \lambda_1 / \gamma` everywhere with b the best
    background of a field without light, x = 0 is the minimum of (11), and no step is taken.

    Parameters
    ----------
    problem : Problem
    options : SolverOptions
    weights : Weights
        Of the whole field; its ``iterations`` are taken.
    start : (N1, N2), optional
        z to start from.
    wanted : bool
        Without it the background alone is fitted.
    shared : Shared, optional
        What another part or window of the recording has decided for all.
    core : two slices, optional
        Rows and columns in which this part measures and decides, where it does so for all.
    windows : Windows, optional
        Of the covariance fit; of this field by default.

    Returns
    -------
    Fitted
    """
    psi, tuning = problem.psi, DEFAULT
    if shared is not None:
        options, tuning = as_shared(options, shared)
    if not float(problem.mean.max()) > 0:
        dark = np.zeros(psi.fine_shape, np.float32)
        return Fitted(dark, dark, np.zeros(psi.shape, np.float32), 0, {})
    critic: Callable[..., QuadraticCritic] = QuadraticCritic
    if core is not None:
        critic = core_critic(core, windows)
    elif windows is not None:
        critic = functools.partial(QuadraticCritic, window=windows)
    solver = Solver(problem=problem, options=options, weights=weights, x0=start, tuning=tuning, quadratic_critic=critic)
    objective, phase, host = solver.objective, solver.mean_phase, psi.backend.to_host
    nothing = psi.backend.xp.zeros(psi.shape, dtype=np.float32)
    background = objective.best_background(nothing)
    light = objective.fidelity * float(phase.operator.adjoint(objective.mean - background).max())
    if light <= weights.sparsity or not wanted:
        dark = np.zeros(psi.fine_shape, np.float32)
        return Fitted(dark, dark, host(background), 0, {})
    phase.step_size = 1.0 / (objective.fidelity * borderless_norm(psi) ** 2)
    steps: list[Steps] = []
    if shared is not None:
        follow_steps(phase, shared.mean_steps, warm=start is not None)
    elif core is not None:
        steps = measure_steps(phase, core, psi.factor)
    covariance = next((later for later in solver.phases if isinstance(later, CovariancePhase)), None)
    pace: list[float] | None = None
    if covariance is not None and shared is not None and shared.flicker is not None:
        covariance.measure = shared_flicker(shared.flicker)
    elif covariance is not None and core is not None:
        covariance.measure = flicker_of_core(core, psi.factor)
    if covariance is not None and shared is not None and shared.pace is not None:
        follow_pace(covariance, shared.pace)
    elif covariance is not None and core is not None:
        pace = measure_pace(covariance, core, psi.factor)
    while solver.current is not None:
        solver.step()
    if covariance is not None and shared is not None and covariance.stop is not None:
        covariance.stop = dataclasses.replace(covariance.stop, share=shared.share)
    outcome = solver.outcome
    stops = {phase.name: phase.stop for phase in solver.phases if phase.stop is not None}
    flicker = covariance.flicker if covariance is not None and covariance.taken else None
    images = (host(outcome.x), host(outcome.z), host(outcome.b))
    return Fitted(*images, solver.steps_done, stops, flicker, None if pace is None else tuple(pace), tuple(steps))


def borderless_norm(psi: Psi) -> float:
    r""":math:`\|\Psi\|` on a field without borders: of operators without negative values, the gain of what is uniform."""
    return math.sqrt(float((psi.table.sum(axis=(2, 3)) ** 2).sum()))


def fit_tile(plan: Plan, source: LazyStack, tile: Tile, window: int, start: np.ndarray | None = None) -> Fitted:
    """Fit one tile; where memory is short, in smaller pieces with halos of the same width.

    Parameters
    ----------
    plan : Plan
    source : LazyStack
    tile : Tile
    window : int
    start : (N1, N2), optional
        z to start from.

    Returns
    -------
    Fitted

    Raises
    ------
    MemoryError
        If the smallest pieces are too large.
    """
    pieces = pieces_that_worked(plan)
    while True:
        try:
            return _fit_in_pieces(plan, source, tile, window, start, pieces)
        except MemoryError:  # CuPy's is one too
            pieces *= 2
            if max(tile.shape) // pieces < max(8, 2 * plan.grid.blend):
                raise
            log.warning("tile %d does not fit into memory: it is cut into %d x %d pieces", tile.number, pieces, pieces)
            _remember(plan, pieces)


def _remember(plan: Plan, pieces: int) -> None:
    replace_file(plan.folder / _PIECES, lambda handle: handle.write(b"%d\n" % pieces))


def pieces_that_worked(plan: Plan) -> int:
    """In how many pieces, along each side, tiles have to be cut for the memory that there is."""
    try:
        return max(1, int((plan.folder / _PIECES).read_text()))
    except (OSError, ValueError):
        return 1


def _fit_in_pieces(plan: Plan, source: LazyStack, tile: Tile, window: int, start: np.ndarray | None, pieces: int) -> Fitted:
    """A tile of ``pieces`` x ``pieces`` smaller ones, blended as tiles are; one is the tile itself."""
    if pieces == 1:
        return _fit(plan, source, tile, window, start)
    (top, bottom), (left, right) = tile.outer
    grid = Grid((bottom - top, right - left), -(-max(tile.shape) // pieces), plan.grid.halo, plan.grid.blend)
    factor, brightest = plan.psi.factor, None
    x, z = (np.zeros((factor * tile.shape[0], factor * tile.shape[1]), np.float32) for _ in range(2))
    b = np.zeros(tile.shape, np.float32)
    for piece in grid.tiles:
        (up, down), (west, east) = piece.outer
        place = ((piece.core[0][0] + top, piece.core[0][1] + top), (piece.core[1][0] + left, piece.core[1][1] + left))
        moved = dataclasses.replace(tile, core=place, outer=((up + top, down + top), (west + left, east + left)))
        begin = None if start is None else start[factor * up : factor * down, factor * west : factor * east]
        found = _fit(plan, source, moved, window, begin)
        if brightest is None or found.x.sum() > brightest.x.sum():
            brightest = found
        for image, part, scale in ((x, found.x, factor), (z, found.z, factor), (b, found.b, 1)):
            image[_of(piece.kept, scale)] += grid.weight(piece, scale) * part[piece.inside(scale)]
    assert brightest is not None, "a grid has a tile"
    return brightest._replace(x=x, z=z, b=b)


def _of(part: tuple[tuple[int, int], tuple[int, int]], factor: int) -> Slices:
    rows, columns = (slice(factor * start, factor * stop) for start, stop in part)
    return rows, columns


def _fit(plan: Plan, source: LazyStack, tile: Tile, window: int, start: np.ndarray | None) -> Fitted:
    plan, options = plan.of_window(window), plan.options
    if "network" in options.phases:  # a tile's randomness depends on where it is, not on who computes it, nor when
        place = f"{options.seed} {tile.outer[0][0]} {tile.outer[1][0]} {window}"
        options = dataclasses.replace(options, seed=zlib.crc32(place.encode()))
    weights = plan.weights if start is None else dataclasses.replace(plan.weights, iterations=plan.warm_steps)
    wanted = plan.wanted is None or bool(plan.wanted[slice(*tile.core[0]), slice(*tile.core[1])].any())
    problem, windows, core = tile_problem(plan, source, tile, window), None, None
    if "covariance" in options.phases and tile.outer != tuple((0, n) for n in plan.grid.shape):
        windows = windows_of(plan.grid.shape, DEFAULT.quadratic_critic.window, tile.window)
        problem = dataclasses.replace(problem, bad_pixels=problem.bad_pixels | unexplained(plan, tile))
    if plan.shared is None and len(plan.grid.tiles) * len(plan.windows) > 1:
        core = slices(tile.core, tile.outer)
    return fit_field(problem, options, weights, start=start, wanted=wanted, shared=plan.shared, core=core, windows=windows)


def unexplained(plan: Plan, tile: Tile) -> np.ndarray:
    """Pixels of a tile that emissions beyond its borders within the field light, (M1, M2) bool: they have no part in
    covariances, and the background of a covariance fit does not follow them."""
    (rows, columns), (top, bottom), (left, right) = tile.shape, *tile.outer
    reach = math.ceil(_LIT_FROM_BEYOND * psf_sigma(plan.psi.psf) / plan.psi.factor)
    reach = min(reach, (plan.grid.halo - plan.grid.blend) // 2)
    found = np.ones((rows, columns), bool)
    within = [
        slice(reach if start > 0 else 0, stop - start - (reach if stop < size else 0))
        for (start, stop), size in zip(((top, bottom), (left, right)), plan.grid.shape)
    ]
    found[within[0], within[1]] = False
    return found


def tile_problem(plan: Plan, source: LazyStack, tile: Tile, window: int) -> Problem:
    """What a tile's frames pose, with the noise and the bad pixels of the whole field."""
    measured, (rows, columns), numbers = plan.of_window(window).measured[0], tile.window, plan.frames(window)
    psi = on_field(measured.psi, tile.shape)
    bad = measured.bad_pixels[rows, columns]
    values = measured.bad_values[rows, columns][bad]
    camera, backend = measured.camera, psi.backend
    offset, gain = np.float32(camera.offset), camera.gain
    shifted, corner = measured.row_shift, (int(rows.start), int(columns.start))
    name = f"{plan.source['path']} rows {tile.outer[0]} columns {tile.outer[1]} window {window}"
    counts: Array
    if plan.options.phases == ("mean",):
        total = np.zeros(tile.shape)
        for first in range(0, len(numbers), _BLOCK):
            block = _read(source, numbers[first : first + _BLOCK], tile)
            total += (block.astype(np.float32) - offset).sum(axis=0, dtype=np.float64)
        mean = filled_and_straightened(total[None] / len(numbers), bad, values, psi, shifted, corner)[0]
        mean = backend.asarray((mean / gain).astype(np.float32))
        # the frames themselves do not matter to this phase: a view of their number, without memory
        counts = backend.xp.broadcast_to(mean, (len(numbers), *tile.shape))
    else:
        counts = backend.asarray(_read(source, numbers, tile), dtype=np.float32)
        counts -= offset
        counts = filled_and_straightened(counts, bad, values, psi, shifted, corner)
        mean = (counts.mean(axis=0, dtype=np.float64) / gain).astype(np.float32)
    trend = plan.trends[window] if plan.trends else None
    return Problem(psi, camera, counts, mean, measured.noise, bad, name, trend=trend)


def _read(source: LazyStack, numbers: list[int], tile: Tile) -> np.ndarray:
    """Frames of a tile by their numbers; those between two that are left out together, since files hold many in one chunk."""
    rows, columns = tile.window
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    parts = [source.read(range(int(run[0]), int(run[-1]) + 1), rows, columns) for run in runs]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
