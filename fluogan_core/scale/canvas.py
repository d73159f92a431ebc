"""The whole images, written piece by piece while tiles are done: OME-Zarr (Zarr v3), one file for the core of a tile.

Where that is large it is a shard of smaller chunks, so that who looks at a part reads no more.  A piece is the blend of the
tiles that have a part in it, added in their order: it has the same bytes whoever writes it, and writing it twice does no harm.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..io.ome import TIFF_TILE, write_ome_tiff
from .grid import Tile, slices
from .plan import Plan

if TYPE_CHECKING:
    import zarr

__all__ = ["IMAGES", "create_canvas", "has_canvas", "image", "paint", "space_of", "tiffs_of", "write_tiffs"]

#: The images and what a fine pixel is of them: x on the fine grid, b on the camera's.
IMAGES = ("x", "b")
#: Largest side of a chunk, pixels: a megabyte.
_CHUNK = 512


def _factor(plan: Plan, name: str) -> int:
    return plan.psi.factor if name == "x" else 1


def _path(plan: Plan, name: str) -> Path:
    return plan.folder / f"{name}.ome.zarr"


def _piece(side: int) -> int:
    """The largest part of a side, at most :data:`_CHUNK`, that divides it; all of it where that is a quarter or less."""
    parts = [n for n in range(min(side, _CHUNK), _CHUNK // 4, -1) if side % n == 0]
    return parts[0] if parts else side


def _tiff(plan: Plan, name: str) -> Path:
    return plan.folder / f"{name}.ome.tif"


def create_canvas(plan: Plan) -> None:
    """Make the images, empty.

    Parameters
    ----------
    plan : Plan

    Raises
    ------
    ImportError
        If zarr is not installed.
    """
    try:
        import zarr
    except ImportError as error:
        raise ImportError("tiles are written to Zarr: pip install 'fluogan-core[scale]'") from error
    for name in IMAGES:
        factor = _factor(plan, name)
        shape, chunks = (tuple(factor * n for n in size) for size in (plan.grid.shape, plan.grid.core_shape))
        axes: Any = [{"name": axis, "type": "space"} for axis in "yx"]
        scale, place = [1.0 / factor] * 2, [0.5 / factor - 0.5] * 2  # of centres, in camera pixels
        if plan.pixel_size_nm is not None:
            axes = [axis | {"unit": "micrometer"} for axis in axes]
            scale, place = ([1e-3 * plan.pixel_size_nm * value for value in values] for values in (scale, place))
        if plan.moving:
            shape, chunks, axes = (len(plan.windows), *shape), (1, *chunks), [{"name": "t", "type": "time"}, *axes]
            scale, place = [1.0, *scale], [0.0, *place]
        group = zarr.open_group(os.fspath(_path(plan, name)), mode="w", zarr_format=3)
        pieces = (*chunks[:-2], *map(_piece, chunks[-2:]))
        shards = None if pieces == chunks else chunks
        names = [axis["name"] for axis in axes]
        group.create_array("0", shape=shape, chunks=pieces, shards=shards, dtype="float32", dimension_names=names)
        moves: Any = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": place}]
        level = {"path": "0", "coordinateTransformations": moves}
        group.attrs["ome"] = {"version": "0.5", "multiscales": [{"name": name, "axes": axes, "datasets": [level]}]}


def has_canvas(plan: Plan) -> bool:
    """Return whether the images are there, empty or not.

    Parameters
    ----------
    plan : Plan

    Returns
    -------
    bool
    """
    return all((_path(plan, name) / "0" / "zarr.json").is_file() for name in IMAGES)


def space_of(plan: Plan) -> int:
    """Return about how many bytes the parts and the images take on a disk, at most.

    Parameters
    ----------
    plan : Plan

    Returns
    -------
    int
    """
    pixels, kept = plan.grid.shape[0] * plan.grid.shape[1], sum(math.prod(tile.shape) for tile in plan.grid.tiles)
    values = plan.psi.factor**2 + 1
    # two images each, of which OME-Zarr is compressed; a movie's windows start from the last one or two
    return 4 * values * (len(plan.windows) * (2 * pixels + kept) + (2 * kept if plan.moving else 0))


def image(plan: Plan, name: str) -> zarr.Array:
    """Open one of the images.

    Parameters
    ----------
    plan : Plan
    name : {"x", "b"}

    Returns
    -------
    zarr.Array
        (N1, N2) or (M1, M2) float32; of a movie with an axis of windows first.
    """
    import zarr

    return zarr.open_array(os.fspath(_path(plan, name) / "0"), mode="r+")


def paint(plan: Plan, number: int, window: int) -> None:
    """Write the chunks that a tile has a part in, as far as all their tiles are done.

    Parameters
    ----------
    plan : Plan
    number : int
        Of the tile.
    window : int
    """
    try:
        _paint(plan, number, window)
    except FileNotFoundError:
        if not plan.is_finished:  # else another process has put the images together meanwhile, and removed the parts
            raise


def _paint(plan: Plan, number: int, window: int) -> None:
    if plan.is_finished:
        return
    kept = plan.grid.tiles[number].kept
    cores = [t for t in plan.grid.tiles if all(a < d and c < b for (a, b), (c, d) in zip(t.core, kept))]
    canvases: dict[str, Any] = {}
    for tile in cores:
        beside = plan.grid.beside(tile.number)
        if all(plan.part(other.number, window).is_file() for other in beside):
            for name in IMAGES:
                canvas = canvases.setdefault(name, image(plan, name))
                factor = _factor(plan, name)
                rows, columns = (slice(factor * start, factor * stop) for start, stop in tile.core)
                place = (window, rows, columns) if plan.moving else (rows, columns)
                canvas[place] = _blended(plan, tile, beside, window, name)


def _blended(plan: Plan, tile: Tile, beside: list[Tile], window: int, name: str) -> np.ndarray:
    """The core of a tile in the whole image, of all tiles that have a part in it."""
    factor = _factor(plan, name)
    total = np.zeros([factor * (stop - start) for start, stop in tile.core], np.float32)
    for other in beside:
        values = plan.grid.weight(other, factor) * plan.load(plan.part(other.number, window), name)
        (top, bottom), (left, right) = ((max(a, c), min(b, d)) for (a, b), (c, d) in zip(tile.core, other.kept))
        common = ((top, bottom), (left, right))
        total[slices(common, tile.core, factor)] += values[slices(common, other.kept, factor)]
    return total


def tiffs_of(plan: Plan) -> list[Path]:
    """Return the OME-TIFF files of a plan, written or not.

    Parameters
    ----------
    plan : Plan

    Returns
    -------
    list of Path
    """
    return [_tiff(plan, name) for name in IMAGES]


def write_tiffs(plan: Plan) -> list[Path]:
    """Write the finished images as OME-TIFF, some tiles in memory at a time.

    Parameters
    ----------
    plan : Plan

    Returns
    -------
    list of Path
    """
    paths = tiffs_of(plan)
    for name, path in zip(IMAGES, paths):
        canvas = image(plan, name)
        pixel = None if plan.pixel_size_nm is None else plan.pixel_size_nm / _factor(plan, name)
        identity = json.dumps([name, plan.source, plan.request, plan.grid.size, plan.grid.halo])
        write_ome_tiff(path, _pieces(canvas), canvas.shape, identity=identity, pixel_size_nm=pixel)
    return paths


def _pieces(canvas: Any) -> Iterator[np.ndarray]:
    """Tiles of a TIFF in their order; a band of them is read at a time."""
    *leading, rows, columns = canvas.shape
    for window in range(leading[0]) if leading else [None]:
        for top in range(0, rows, TIFF_TILE):
            part = (slice(top, top + TIFF_TILE), slice(None))
            band = np.asarray(canvas[part if window is None else (window, *part)])
            for left in range(0, columns, TIFF_TILE):
                yield np.ascontiguousarray(band[:, left : left + TIFF_TILE])
