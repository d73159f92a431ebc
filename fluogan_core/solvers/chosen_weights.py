"""Weights that follow from the stack itself, by trial fits of a part of its mean frame."""

from __future__ import annotations

from ..backend.threads import one_thread
from ..backend.typing import ArrayLike
from ..tuning import DEFAULT, Tuning
from .options import SolverOptions
from .problem import Problem
from .unseen_photons import predicting_weights
from .useful_iterations import useful_iterations
from .weights import Weights

__all__ = ["chosen_weights"]


def chosen_weights(
    weights: Weights,
    problem: Problem,
    options: SolverOptions,
    background: ArrayLike | float | None = None,
    tuning: Tuning = DEFAULT,
) -> Weights:
    """Return the weights as trial fits want them: ``detail``, ``lit`` and ``iterations``.

    Parameters
    ----------
    weights : Weights
        Those that the light of the stack means (:func:`fluogan_core.solvers.weights.weights_for`).
    problem : Problem
    options : SolverOptions
    background : (M1, M2) or float, optional
        Where it is given.
    tuning : Tuning, optional

    Returns
    -------
    Weights
        The same object where nothing changes.
    """
    if not weights.iterations or not float(problem.mean.max()) > 0:
        return weights
    with one_thread():  # as the fits themselves
        weights = predicting_weights(weights, problem, options, background, tuning)
        return weights if options.warm_steps is not None else useful_iterations(weights, problem, background, tuning)
