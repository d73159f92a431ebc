"""The part of a field that holds most of something: where the light is, where pixels flicker."""

from __future__ import annotations

import numpy as np

__all__ = ["Part", "brightest_part"]

#: Rows and columns.
Part = tuple[slice, slice]


def brightest_part(image: np.ndarray, side: int) -> Part:
    """Return the rows and columns of the part with the largest sum, at most ``side`` camera pixels wide.

    Parameters
    ----------
    image : (M1, M2)
    side : int

    Returns
    -------
    rows, columns : slice

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((10, 12))
    >>> image[7, 2] = 1
    >>> brightest_part(image, 4)
    (slice(4, 8, None), slice(0, 4, None))
    """
    down, across = (min(side, n) for n in image.shape)
    summed = np.pad(image.astype(np.float64), ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    sums = summed[down:, across:] - summed[:-down, across:] - summed[down:, :-across] + summed[:-down, :-across]
    row, column = (int(n) for n in np.unravel_index(np.argmax(sums), sums.shape))
    return slice(row, row + down), slice(column, column + across)
