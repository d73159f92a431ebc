"""Overlapping windows of the camera, equal in size, with weights that fade towards their edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Windows", "windows_of"]


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows at all pairs of a row and a column from a list.

    Attributes
    ----------
    shape : (M1, M2)
        Camera pixels.
    sides : (n1, n2)
        Of every window.
    rows, columns : (B,) int64
        Where each window starts.
    amplitude : (B, n1 * n2) float64
        Weight of each pixel in each window.  A covariance term is of second order in weights of pairs of pixels, and so of
        fourth order in this.  Its fourth powers add up to one at every pixel of the camera, so that covariances of
        neighbouring pixels count once, wherever windows begin.
    pixels : (B, n1 * n2) int64
        Flat camera pixels ``m1 * M2 + m2``.
    """

    shape: tuple[int, int]
    sides: tuple[int, int]
    rows: np.ndarray
    columns: np.ndarray
    amplitude: np.ndarray
    pixels: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


def windows_of(shape: tuple[int, int], side: int, part: tuple[slice, slice] | None = None) -> Windows:
    """Cover a field with windows that overlap by half of their side or more; a smaller field is one window.

    Parameters
    ----------
    shape : (M1, M2)
        Camera pixels.
    side : int
        Camera pixels, at least 1.
    part : two slices, optional
        Rows and columns of the field.  Then these are windows of the part alone: those of the field that lie within it, and
        one more at each of its borders that they do not reach.

    Returns
    -------
    Windows

    Examples
    --------
    >>> from fluogan_core.physics.windows import windows_of
    >>> windows = windows_of((12, 6), 8)
    >>> windows.sides, windows.rows.tolist(), windows.columns.tolist()
    ((8, 6), [0, 4], [0, 0])
    >>> windows_of((5, 5), 8).amplitude.min()
    np.float64(1.0)

    In a part of a field windows stand where those of the field do:

    >>> windows_of((32, 8), 8).rows.tolist(), windows_of((32, 8), 8, (slice(6, 30), slice(0, 8))).rows.tolist()
    ([0, 4, 8, 12, 16, 20, 24], [0, 2, 6, 10, 14, 16])
    """
    spans = [(0, size) for size in shape] if part is None else [(along.start, along.stop) for along in part]
    starts, fades = zip(*(_along(size, side, *span) for size, span in zip(shape, spans)))
    shape = (spans[0][1] - spans[0][0], spans[1][1] - spans[1][0])
    sides = tuple(fade.shape[1] for fade in fades)
    rows, columns = (axis.ravel() for axis in np.meshgrid(*starts, indexing="ij"))
    amplitude = (fades[0][:, None, :, None] * fades[1][None, :, None, :]).reshape(len(rows), -1)
    down, across = (axis.ravel() for axis in np.mgrid[: sides[0], : sides[1]])
    pixels = (rows[:, None] + down) * shape[1] + columns[:, None] + across
    return Windows(shape, (sides[0], sides[1]), rows, columns, amplitude, pixels)


def _along(size: int, side: int, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Starts of the windows of a part of an axis, and the weights of their pixels, (windows, side)."""
    starts, length = _starts(size, min(side, size)) - begin, end - begin
    side = min(side, length)
    starts = starts[(starts >= 0) & (starts <= length - side)]
    starts = np.unique(np.concatenate([[0], starts, [length - side]]))
    places = starts[:, None] + np.arange(side)
    squares = np.broadcast_to(np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2, places.shape)
    total = np.bincount(places.ravel(), weights=squares.ravel(), minlength=length)
    return starts, (squares / total[places]) ** 0.25


def _starts(size: int, side: int) -> np.ndarray:
    """Starts of the windows along an axis."""
    count = -(-(size - side) // max(1, side // 2)) + 1
    free = size - side
    count += free % 2 and count % 2  # else the middle window has no place in the middle
    starts = np.array([(2 * k * free + count - 1) // (2 * max(1, count - 1)) for k in range(count)], dtype=np.int64)
    half = count // 2
    starts[count - half :] = free - starts[:half][::-1]  # a mirrored field has mirrored windows
    return starts
