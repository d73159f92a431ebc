"""A movie from frames as they come: each window starts from the image of the one before."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Unpack

import numpy as np

from ..backend.checks import whole_number
from ..backend.typing import ArrayLike
from ..calibration.calibrate import Calibration, calibrate
from ..calibration.odd_frames import find_odd_frames
from ..physics.psi import Psi
from ..physics.requirements import require
from ..solvers.chosen_weights import chosen_weights
from ..solvers.options import SolverOptions
from ..solvers.problem import Problem
from ..solvers.weights import Weights, weights_for
from .field import Known
from .fit import fit_field
from .plan import WARM
from .shared import Shared, shared_by_all

__all__ = ["Image", "movie"]


class Image(NamedTuple):
    """One image of a movie, on the host.

    Attributes
    ----------
    frames : (int, int)
        Its frames, (start, stop), counted from the first that came.
    x : (N1, N2) float32
        Expected emissions per fine pixel per frame.
    b : (M1, M2) float32
        Background, expected photons per camera pixel per frame.
    steps : int
        Steps of the solver.

    Examples
    --------
    >>> Image((0, 200), np.zeros((4, 4)), np.zeros((2, 2)), 3000).frames
    (0, 200)
    """

    frames: tuple[int, int]
    x: np.ndarray
    b: np.ndarray
    steps: int


def movie(
    frames: Iterable[ArrayLike],
    *,
    psi: Psi,
    window: int,
    step: int | None = None,
    options: SolverOptions | None = None,
    calibration: Calibration | None = None,
    recalibrate: bool = False,
    **given: Unpack[Known],
) -> Iterator[Image]:
    """Reconstruct a movie while frames arrive: from a camera, a file that is read frame by frame, an array.

    As many frames as a window has are held.  The calibration is measured on the first window and used for all, unless each
    window is to have its own.  The first window also decides whether the covariance fit, or a network's, runs.  Frames that
    stand apart (dark, bright, saturated, repeated) are left out of every window that they are in.

    Parameters
    ----------
    frames : iterable of (M1, M2) arrays
        Counts, one frame after the other; it may go on for ever.
    psi : Psi
        The operator of the field, with the PSF as described.
    window, step : int
        Frames per image, and from one image to the next; without a step windows follow each other.
    options : SolverOptions, optional
    calibration : Calibration, optional
        Of this camera and sample; of the first window by default.
    recalibrate : bool
        Measure camera, emitters, width of the PSF, noise and weights anew in every window, as far as they are not given: where
        focus, lamp or gain change.  What is measured varies by its own noise from window to window, and the images with it.
    **given
        What is known of camera and emitters, as for :func:`fluogan_core.calibrate`.

    Yields
    ------
    Image
        As soon as the last frame of a window has come.

    Raises
    ------
    ValueError, TypeError
        As for :func:`fluogan_core.calibrate`; if a frame has another shape than psi's field; if a calibration is given that
        is to be measured anew.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> psi = fg.Psi(fg.gaussian_psf(250, 100, 2), (16, 16), 2, backend="numpy")
    >>> light = np.full((16, 16), 50.0)
    >>> light[6:10, 6:10] = 200.0
    >>> camera = (np.random.default_rng(k).poisson(light) + 100 for k in range(40))
    >>> known = {"camera": fg.Camera(offset=100.0), "photons_per_emitter": 1.0, "psf_width": 1.0}
    >>> options = fg.SolverOptions(method="none", warm_steps=10)
    >>> [(i.frames, i.steps) for i in fg.scale.movie(camera, psi=psi, window=20, step=10, options=options, **known)]
    [((0, 20), 10), ((10, 30), 4), ((20, 40), 4)]
    """
    if recalibrate and calibration is not None:
        raise ValueError("recalibrate=True measures every window by itself: leave calibration= out, or recalibrate=")
    require(psi, "calibration")
    window = whole_number(window, "window", low=2, high=sys.maxsize)
    step = window if step is None else whole_number(step, "step", low=1)
    options = SolverOptions() if options is None else options
    held: deque[np.ndarray] = deque(maxlen=window)
    weights: Weights | None = None
    shared: Shared | None = None
    start: np.ndarray | None = None
    for number, frame in enumerate(frames, 1):
        array = np.asarray(frame)
        if array.shape != psi.shape:
            raise ValueError(f"frame {number - 1} is {array.shape}, and psi's field is {psi.shape}: cut both alike")
        held.append(array)
        if number < window or (number - window) % step:
            continue
        stack = np.stack(held)
        if calibration is None or recalibrate:
            calibration, weights = calibrate(stack, psi, **given), None
        apart = find_odd_frames(stack).numbers
        problem = Problem.of(stack, calibration=dataclasses.replace(calibration, left_out=apart))
        if weights is None:
            weights = chosen_weights(weights_for(problem, options), problem, options)
        iterations = weights.iterations if start is None else math.ceil(WARM * weights.iterations)
        weights_now = dataclasses.replace(weights, iterations=iterations)
        core = None if shared is not None else (slice(0, psi.shape[0]), slice(0, psi.shape[1]))
        fitted = fit_field(problem, options, weights_now, start=start, shared=shared, core=core)
        if shared is None:
            shared = shared_by_all(options, fitted)
        start = fitted.z
        yield Image((number - window, number), fitted.x, fitted.b, fitted.steps)
