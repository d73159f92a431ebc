"""The frames without what their pixels differ by, for a fit that looks at every frame by itself."""

from __future__ import annotations

import numpy as np

from ..calibration.bad_pixels import filled_per_frame
from .phase import Images
from .problem import Problem

__all__ = ["without_pattern"]


def without_pattern(problem: Problem, images: Images) -> np.ndarray:
    r"""Return the counts of a problem's frames, bad pixels filled, with pixels made equal as far as the images tell.

    A pattern of unequal gains and offsets is in every frame, and emissions would explain it.  Where the mean frame is u times
    as noisy as its fluctuations explain, :math:`(1 - 1/u) (\bar y - \Psi x - b)` is taken from every frame: the mean is then
    as noisy as its fluctuations explain.  What a frame has more than the mean stays as it is.

    Parameters
    ----------
    problem : Problem
    images : Images
        x and b that fit its mean frame.

    Returns
    -------
    (T, M1, M2) float32, counts above the offset, on the host
    """
    host, more = problem.psi.backend.to_host, problem.noise.unexplained
    counts = filled_per_frame(host(problem.counts), problem.bad_pixels)
    if not more > 1.0:
        return counts
    pattern = host(problem.mean - problem.psi.forward(images.x) - images.b)
    return counts - np.float32((1.0 - 1.0 / more) * problem.model.gain) * pattern
