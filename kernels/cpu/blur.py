"""A symmetric blur, along both axes in one pass over the rows of an image.  One thread, as in ``iteration.py``."""

from __future__ import annotations

import numpy as np

from ._compile import given, kernel

__all__ = ["blur"]


@kernel()
def _blur(image, taps, row, out):  # type: ignore[no-untyped-def]
    rows, columns = image.shape
    reach = len(taps) - 1
    middle = row[reach : reach + columns]
    for i in range(rows):
        source = image[i]
        for j in range(columns):
            middle[j] = taps[0] * source[j]
        for k in range(1, reach + 1):
            tap = taps[k]
            for near in (i - k, i + k):
                if 0 <= near < rows:
                    source = image[near]
                    for j in range(columns):
                        middle[j] += tap * source[j]
        target = out[i]
        for j in range(columns):
            target[j] = taps[0] * middle[j]
        for k in range(1, reach + 1):
            tap, before, after = taps[k], row[reach - k : reach - k + columns], row[reach + k : reach + k + columns]
            for j in range(columns):
                target[j] += tap * (before[j] + after[j])


def blur(image: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Return an image convolved along both axes with ``taps[K:0:-1], taps[0], ..., taps[K]``; outside it is zero.

    Parameters
    ----------
    image : (N1, N2) float32 or float64
    taps : (K + 1,), of image's dtype

    Returns
    -------
    (N1, N2), of image's dtype
    """
    out = np.empty_like(image, order="C")
    row = np.zeros(image.shape[1] + 2 * (len(taps) - 1), image.dtype)
    _blur(given(image), given(taps, image.dtype), row, out)
    return out
