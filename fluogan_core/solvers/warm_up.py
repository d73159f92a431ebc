"""Compile or load every kernel before it is needed."""

from __future__ import annotations

import logging
import time

import numpy as np

from ..backend.arrays import Backend, get_backend
from ..physics.forward import ForwardModel
from ..physics.psi import Psi

__all__ = ["warm_up"]

log = logging.getLogger("fluogan_core")


def warm_up(backend: str | Backend = "auto") -> float:
    """Compile or load every kernel of a backend, so that no later call waits for the compiler.

    Kernels are compiled on first use.  Those of the CPU are kept on disk, beside the package or in the user's cache, and later
    processes load them; the first process after an installation, and every container without such a cache, compiles.  Call this
    once while an image is built, before a job is timed, or before threads or processes start to share the work.

    Parameters
    ----------
    backend : {"auto", "numpy", "cupy"} or Backend
        As in :func:`fluogan_core.get_backend`.

    Returns
    -------
    seconds : float
        The time that it took.

    Raises
    ------
    RuntimeError
        If the backend cannot be used.

    Examples
    --------
    >>> import fluogan_core as fg
    >>> seconds = fg.warm_up("numpy")
    >>> fg.warm_up("numpy") < 60
    True
    """
    # imported here: torch is among them
    from ..calibration.camera import Camera
    from ..critics.gradient import critic_differences, critic_gradient
    from ..critics.network import Critic
    from ..critics.quadratic import QuadraticCritic
    from ..objective.blur import GaussianKernel
    from ..objective.fista import Acceleration, step_sums
    from ..objective.prior import SparseEdges
    from ..objective.prox import prox_step, prox_total_variation
    from .options import SolverOptions
    from .solver import Solver

    home, started = get_backend(backend), time.perf_counter()
    if home.cuda is not None:
        from ..kernels import cuda

        for program, macros in cuda.programs():
            home.cuda.module(program, **macros)
    # A small problem goes through every kernel, in both precisions where a kernel takes both.
    shape, factor = (8, 8), 2
    psi = Psi(np.ones((3, 3)), shape, factor, photons_per_emitter=5.0, backend=home)
    model = ForwardModel(psi, gain=2.0, noise_std=1.0)
    x, b = np.ones(psi.fine_shape), np.ones(shape)
    x[0, 0] = 100.0  # a mean that is drawn by rejection
    for dtype in (np.float32, np.float64):
        image = home.asarray(x, dtype=dtype)
        y = model.sample(image, home.asarray(b, dtype=dtype), 2)
        prox_step(image, image, step=0.1)
        step_sums(image, image)
        Acceleration(image).advance(image)
        SparseEdges(psi.fine_shape, home, total_variation=0.1).terms(image)
        for weight in (0.1, 0.1 * home.xp.ones_like(image)):
            prox_total_variation(image, weight, dual=home.xp.zeros((4, *image.shape), dtype=dtype), sweeps=1)
    critic = Critic(shape, channels=4, depth=2).to(home.device)
    critic_differences(critic, y, model.gain)
    critic_gradient(critic, model, home.asarray(x, dtype=np.float32), home.asarray(b, dtype=np.float32), 2, method="corrected")
    quadratic, image = QuadraticCritic(y, model), home.asarray(x, dtype=np.float32)
    quadratic.update_weights(image, home.asarray(b, dtype=np.float32))
    quadratic.slope(image, home.asarray(b, dtype=np.float32))
    dim = model.sample(
        home.xp.ones(psi.fine_shape, dtype=np.float32), home.asarray(b, dtype=np.float32), 2
    )  # no pixel stands apart
    steps = Solver(dim, psi=psi, camera=Camera(2.0, 0.0, 1.0), options=SolverOptions(method="none", warm_steps=3)).mean_phase
    for _ in range(3):
        steps.step()
    SparseEdges(psi.fine_shape, home, total_variation=0.1).moved(image, image, 0.1 * home.xp.ones_like(image))
    for dtype in (np.float32, np.float64):
        GaussianKernel(psi, 0.5)(home.asarray(x, dtype=dtype))
    home.synchronize()
    seconds = time.perf_counter() - started
    log.info("kernels are ready on %s after %.1f s", home.device, seconds)
    return seconds
