"""Large images out as OME-TIFF, tile by tile."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from ..backend.replace import stage_file

__all__ = ["TIFF_TILE", "write_ome_tiff"]

#: Side of a tile in the file, pixels.
TIFF_TILE = 256


def write_ome_tiff(
    path: Path, tiles: Iterator[np.ndarray], shape: tuple[int, ...], *, identity: str, pixel_size_nm: float | None = None
) -> Path:
    """Write an image, or a movie, of which only some tiles are in memory at a time; it is put in place when it is whole.

    Parameters
    ----------
    path : Path
    tiles : iterator of (rows, columns) float32
        :data:`TIFF_TILE` pixels wide and high, at the right and lower border as many as there are; row by row, image by image.
    shape : (N1, N2) or (T, N1, N2)
    identity : str
        What the image is of; its UUID follows, so that the same image has the same bytes.
    pixel_size_nm : float, optional
        Pixel in the object plane, nm.

    Returns
    -------
    Path
    """
    metadata: dict[str, Any] = {"axes": "TYX"[-len(shape) :], "UUID": str(uuid.uuid5(uuid.NAMESPACE_OID, identity))}
    if pixel_size_nm is not None:
        for axis in "XY":
            metadata |= {f"PhysicalSize{axis}": pixel_size_nm / 1000, f"PhysicalSize{axis}Unit": "µm"}

    # by its name: of an open file tifffile wants that too
    temporary = stage_file(path, lambda handle: None)
    try:
        tifffile.imwrite(
            temporary,
            tiles,
            shape=shape,
            dtype=np.float32,
            tile=(TIFF_TILE, TIFF_TILE),
            ome=True,
            bigtiff=True,
            photometric="minisblack",
            metadata=metadata,
        )
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
