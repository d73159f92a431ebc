"""From a stack to a result in one call."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from ..calibration.calibrate import Calibration
from ..calibration.camera import Camera
from ..physics.requirements import OperatorLike
from ..stack import StackLike
from .options import SolverOptions
from .phase import Callback
from .problem import Problem
from .result import Result
from .solver import Solver, SolverArguments

__all__ = ["reconstruct"]


def reconstruct(
    stack: StackLike,
    *,
    psi: OperatorLike | None = None,
    camera: Camera | None = None,
    calibration: Calibration | None = None,
    options: SolverOptions | None = None,
    callback: Callback | None = None,
    progress: bool | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    **solver_arguments: Unpack[SolverArguments],
) -> Result:
    """Reconstruct x and b from a stack: calibrate where nothing is given, then everything that :class:`Solver` does.

    Parameters
    ----------
    stack : (T, M1, M2) array or Stack
        Recorded frames, counts: of NumPy, CuPy, torch, JAX or another library with DLPack.
    psi : Psi
        The operator.  Without ``camera`` its PSF width and photons per emission are measured
        (:func:`fluogan_core.calibrate`); the result's ``psi`` is the corrected one.
    camera : Camera, optional
        Gain, offset and noise.  With it, psi is taken as it is and nothing is estimated.
    calibration : Calibration, optional
        In place of psi and camera: what :func:`fluogan_core.calibrate` has found of this stack.
    options : SolverOptions, optional
    callback, progress, checkpoint
        As for :meth:`Solver.run`.
    resume : bool
        Continue from ``checkpoint``, which must exist.
    **solver_arguments
        ``critic``, ``prior``, ``weights``, ``x0``, ``b0``, ``background``, ``quadratic_critic``, ``tuning``, as for
        :class:`Solver`.

    Returns
    -------
    Result
        Its images are of the kind of the stack, on the stack's device.

    Raises
    ------
    ValueError, TypeError
        As :class:`Solver` and :func:`fluogan_core.calibrate` raise, before any work.
    FileNotFoundError
        If there is no checkpoint to continue from.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> stack = np.random.default_rng(0).poisson(50.0, (20, 16, 16)) + 100
    >>> psi = fg.Psi(fg.gaussian_psf(250, 100, 2), (16, 16), 2, backend="numpy")
    >>> options = fg.SolverOptions(method="none", warm_steps=10)
    >>> result = fg.reconstruct(stack, psi=psi, camera=fg.Camera(offset=100.0), options=options)
    >>> result.x.shape, result.stops["mean"].reason is not None
    ((32, 32), True)
    """
    if resume and checkpoint is None:
        raise ValueError("resume=True needs checkpoint=, the file to continue from")
    problem = Problem.of(stack, psi=psi, camera=camera, calibration=calibration)
    solver = Solver(problem=problem, options=options, **solver_arguments)
    if resume:
        solver.load(Path(str(checkpoint)))
    found = solver.run(callback=callback, progress=progress, checkpoint=checkpoint)
    return found.like(getattr(stack, "frames", stack))
