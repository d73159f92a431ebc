"""Step sizes that differ from pixel to pixel: longer where an image is bright.

Where the entries of a second derivative H are 0 or more, the diagonal matrix of :math:`(H t)_i / t_i` is nowhere below H, for
any image t above 0 (De Pierro 1995).  With t the image itself on a pedestal, a bright pixel takes most of what its
neighbourhood may change.  One step size for all would be as short as a single molecule in the dark needs it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..backend.arrays import backend_of
from ..backend.typing import Array

__all__ = ["curvature_at", "longest_step"]


def curvature_at(image: Array, bent: Array, least: float) -> Array:
    r"""Return :math:`(H t)_i / t_i`, no less than a part of its maximum.

    Parameters
    ----------
    image, bent : (N1, N2)
        t, above 0, and H t.
    least : float
        The part: steps are divided by the result.

    Returns
    -------
    (N1, N2) array
    """
    curvature = bent / image
    return backend_of(image=image).xp.maximum(curvature, image.dtype.type(least) * curvature.max())


def longest_step(
    second: Callable[..., tuple[Array, ...]],
    curvatures: Sequence[Array],
    start: Sequence[Array],
    *,
    iterations: int,
    margin: float,
) -> float:
    r"""Return the longest safe step in units of 1 over the curvatures, by a power iteration.

    The steps are that number over each pixel's curvature c: safe where no eigenvalue of :math:`c^{-1/2} H c^{-1/2}` exceeds 1
    over it.

    Parameters
    ----------
    second : callable
        H: takes one image of each unknown, returns as many.
    curvatures : sequence of arrays
        c of each unknown; an array of no dimension holds for all its pixels.
    start : sequence of arrays
        Where the iteration starts, in those units: images with some of the first eigenvector.
    iterations : int
    margin : float
        The step is this much shorter than the iteration allows: it approaches its limit from below.

    Returns
    -------
    float

    Examples
    --------
    >>> import numpy as np
    >>> diagonal = np.array([[4.0, 1.0]])
    >>> longest_step(lambda u: (diagonal * u,), [np.ones((1, 2))], [np.ones((1, 2))], iterations=30, margin=1.0)
    0.25
    """
    across = [1 / backend_of(image=image).xp.sqrt(curvature) for curvature, image in zip(curvatures, start)]
    images, norm = list(start), 1.0
    for _ in range(iterations):
        bent = second(*(a * image for a, image in zip(across, images)))
        images = [a * image for a, image in zip(across, bent)]
        norm = math.sqrt(sum(float((image * image).sum(dtype=np.float64)) for image in images))
        images = [image / image.dtype.type(norm) for image in images]
    return 1.0 / (margin * norm)
