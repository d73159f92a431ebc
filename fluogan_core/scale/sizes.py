"""How large tiles and halos are: what the physics asks for, and what memory allows."""

from __future__ import annotations

import logging
import math

from ..backend.checks import whole_number
from ..physics.psi import Psi
from ..solvers.options import SolverOptions

__all__ = ["AT_REST", "LARGEST_TILE", "asked_sizes", "fitting", "halo_of", "size_of_tiles", "tile_bytes"]

log = logging.getLogger("fluogan_core")

#: Largest side of a core that is chosen by itself, camera pixels.
LARGEST_TILE = 256
#: Halo in units of the background's length scale: beyond it a background does not feel what lies outside.
_HALO = 9.0
#: The part of the halo that is blended with the neighbour.
_BLEND = 0.25
#: Bytes of a process before it works.
AT_REST = 450 * 2**20
#: Bytes per camera pixel and frame of a tile whose frames are held; per fine pixel of a tile; per camera pixel of the
#: covariance fit: four matrices of 144 x 144 for each window, of which one begins at every 36th pixel.
_PER_COUNT, _PER_FINE_PIXEL, _PER_WINDOWED = 26, 200, 9200


def asked_sizes(
    tile: int | None = None,
    halo: int | None = None,
    window: int | None = None,
    step: int | None = None,
    recalibrate: bool = False,
) -> dict[str, int | bool | None]:
    """Return the sizes that were asked for as whole numbers, by their names; what no recording can take is said here.

    Parameters
    ----------
    tile, halo, window, step, recalibrate
        As for :func:`fluogan_core.scale.prepare`.

    Returns
    -------
    dict
        Of the five; where a window but no step is given, the step is the window.

    Raises
    ------
    ValueError, TypeError
        If one is no whole number or too small, or makes no sense without a window.

    Examples
    --------
    >>> asked_sizes(tile=64, window=100)
    {'tile': 64, 'halo': None, 'window': 100, 'step': 100, 'recalibrate': False}
    """
    if step is not None and window is None:
        raise ValueError("step= is the distance of two windows: give window= too, the frames of one image")
    if recalibrate and window is None:
        raise ValueError("recalibrate= measures every window of a movie: give window= too, the frames of one image")
    if window is not None:
        window = whole_number(window, "window", low=2)
        step = window if step is None else whole_number(step, "step", low=1)
    return {
        "tile": None if tile is None else whole_number(tile, "tile", low=8),
        "halo": None if halo is None else whole_number(halo, "halo", low=2),
        "window": window,
        "step": step,
        "recalibrate": recalibrate,
    }


def halo_of(psi: Psi, smoothness: float) -> tuple[int, int]:
    """Return the halo of a tile and its blended part, camera pixels.

    Parameters
    ----------
    psi : Psi
    smoothness : float
        Length scale of the background, camera pixels (:class:`fluogan_core.SolverOptions`); where a stack chooses it, the
        shortest.

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
    return AT_REST + outer**2 * (_PER_COUNT * held + _PER_FINE_PIXEL * factor**2 + windowed)


def size_of_tiles(asked: int | None, halo: int, frames: int, factor: int, options: SolverOptions, budget: int) -> int:
    """Return the largest side of a core that fits the budget, and is at most what was asked for.

    Parameters
    ----------
    asked : int or None
        Camera pixels; :data:`LARGEST_TILE` by default.
    halo, frames, factor, options
        As for :func:`tile_bytes`; the halo on each side.
    budget : int
        Bytes.

    Returns
    -------
    int
    """
    size = fitting(LARGEST_TILE if asked is None else asked, halo, frames, factor, options, budget)
    if tile_bytes(size + 2 * halo, frames, factor, options) > budget:
        log.warning(
            "the smallest tiles take about %.2g GiB, more than the budget of %.2g GiB: take fewer frames per window",
            tile_bytes(size + 2 * halo, frames, factor, options) / 2**30,
            budget / 2**30,
        )
    elif asked is not None and size < asked:
        log.warning("tiles of %d camera pixels do not fit the memory budget: they are made of %d", asked, size)
    return size


def fitting(size: int, halo: int, frames: int, factor: int, options: SolverOptions, budget: int) -> int:
    """Return the largest core up to this size that fits the budget; 32 camera pixels if none does.

    Parameters
    ----------
    size : int
        Camera pixels.
    halo, frames, factor, options, budget
        As for :func:`size_of_tiles`.

    Returns
    -------
    int
    """
    smallest = min(size, 32)
    while size > smallest and tile_bytes(size + 2 * halo, frames, factor, options) > budget:
        size = max(smallest, size - 8)
    return size
