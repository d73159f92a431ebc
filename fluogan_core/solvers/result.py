"""What a reconstruction found."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..calibration.camera import Camera
from ..physics.psi import Psi
from .options import SolverOptions
from .phase import Stop

__all__ = ["Result"]


@dataclass
class Result:
    """What a reconstruction found, on the host.

    Attributes
    ----------
    x : (N1, N2) float32
        Expected emissions per fine pixel per frame; times ``psi.photons_per_emitter`` it is expected photons.
    b : (M1, M2) float32
        Background, expected photons per camera pixel per frame.
    x_mean_fit, b_mean_fit : like x and b
        The mean fit, which the covariance fit or network fit started from.
    mean : (M1, M2) float32
        The mean frame, photons.
    bad_pixels : (M1, M2) bool
        Hot, dead or stuck pixels, left out of the fit; there the mean is what the other pixels predict.
    history : dict of arrays
        One entry per step for each of :data:`fluogan_core.solvers.history.QUANTITIES`; ``phase`` is 0 while the
        mean is fitted, 1 in the covariance fit or network fit.
    options, camera, psi
        What it was found with.
    timings : dict of float
        Seconds: total, and per stage.  On a card the stages do not wait for each other: a stage's time is what the host spent
        on it, its waiting for the work of earlier ones included.
    device : str
        Where it was computed.
    stop_reason : str
        Why each phase ended, in words.
    stops : dict of str to Stop
        The same by the name of the phase, to be tested: ``result.stops["mean"].reason is StopReason.CONVERGED``.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> stack = np.random.default_rng(0).poisson(50.0, (20, 16, 16)) + 100
    >>> psi = fg.Psi(fg.gaussian_psf(250, 100, 2), (16, 16), 2, backend="numpy")
    >>> options = fg.SolverOptions(method="none", warm_steps=3)
    >>> result = fg.reconstruct(stack, psi=psi, camera=fg.Camera(offset=100.0), options=options)
    >>> result.stops["mean"].reason is fg.StopReason.STEPS, len(result.history["objective"])
    (True, 3)
    """

    x: np.ndarray
    b: np.ndarray
    x_mean_fit: np.ndarray
    b_mean_fit: np.ndarray
    mean: np.ndarray
    bad_pixels: np.ndarray
    history: dict[str, np.ndarray]
    options: SolverOptions
    camera: Camera
    psi: Psi
    timings: dict[str, float] = field(default_factory=dict)
    device: str = "cpu"
    stop_reason: str = ""
    stops: dict[str, Stop] = field(default_factory=dict)
