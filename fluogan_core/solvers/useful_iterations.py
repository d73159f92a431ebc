r"""How many iterations of the fit of the mean are of use where the model is wrong.

Where operator or background are not quite those of the recording, no image explains the mean frame within its noise.  Then

.. math:: \chi^2 = \frac1N \sum_n \frac{\big(\sum_{m \in n} (\Psi x + b - \bar y)_m\big)^2}{\sum_{m \in n} v_m},

over all N squares n of two by two pixels, stays above 1 however long the fit goes on.  (Squares, since a bidirectional scan
shifts every second row: that is no smooth error, a square does not see it, and finer detail beside it is real.)  More
iterations find finer detail, but what they find explains the error of the model, not the sample: an early end is the better
image (semi-convergence, Engl, Hanke and Neubauer 1996).  So the plan of iterations is halved as long as that raises
:math:`\chi^2` by little beside what exceeds 1, and by little beside 1 and itself.  Where :math:`\chi^2` comes down to 1 nothing
is halved, and neither is it in dim light, which pays for few iterations anyway.

The shortest plan is tried first, then one twice as long, and so on.  Where a plan explains the mean frame, longer ones do too,
and are not tried; neither are they where doubling the iterations was of no use twice in a row.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable

import numpy as np

from ..backend.typing import ArrayLike
from ..tuning import DEFAULT, Tuning, UsefulIterationsTuning
from .problem import Problem
from .shares import rising
from .trial_field import TrialField
from .weights import Weights

__all__ = ["halvings", "useful_iterations"]

log = logging.getLogger("fluogan_core")


def useful_iterations(
    weights: Weights, problem: Problem, background: ArrayLike | float | None = None, tuning: Tuning = DEFAULT
) -> Weights:
    """Return the weights with as many iterations as are of use.

    Parameters
    ----------
    weights : Weights
    problem : Problem
        Its bad pixels do not count.
    background : (M1, M2) or float, optional
        Where it is given.
    tuning : Tuning, optional

    Returns
    -------
    Weights
        The same object where nothing changes.
    """
    planned, t, fewest = weights.iterations, tuning.useful_iterations, tuning.mean_phase.fewest
    if planned < max(tuning.mean_phase.most, fewest + 1):
        return weights
    trial = TrialField(problem, background, tuning)
    variance = _in_squares(np.where(trial.good, trial.variance, 0.0))
    seen = variance > 0
    if not seen.any():
        return weights

    def misfit(halved: int) -> float:
        plan = dataclasses.replace(weights, iterations=max(fewest, round(planned / 2**halved)))
        residual = _in_squares(np.where(trial.good, sum(trial.fitted(trial.mean, plan)) - trial.mean, 0.0))
        return float((residual[seen] ** 2 / variance[seen]).mean())

    independent = max(1.0, trial.good.sum() / 4)
    most = min(t.most_halvings, math.ceil(math.log2(planned / fewest)))  # as many as make plans that differ
    by = halvings(misfit, 1.0 + t.clear * math.sqrt(2.0 / independent), dataclasses.replace(t, most_halvings=most))
    found = max(fewest, round(planned / 2**by))
    if found == planned:
        return weights
    log.info(
        "no image explains the mean frame within its noise (operator or background are not quite those of the recording): "
        "the fit of the mean takes %d iterations in place of %d, since more would explain that error",
        found,
        planned,
    )
    return dataclasses.replace(weights, iterations=found)


def _in_squares(image: np.ndarray) -> np.ndarray:
    """Sums over all squares of two by two pixels; of a single row or column over pairs."""
    for axis in (0, 1):
        if image.shape[axis] > 1:
            image = np.take(image, range(1, image.shape[axis]), axis) + np.take(image, range(image.shape[axis] - 1), axis)
    return image


def halvings(misfit: Callable[[int], float], expected: float, tuning: UsefulIterationsTuning) -> float:
    r"""Return how often a plan of iterations is to be halved, by degrees.

    Parameters
    ----------
    misfit : callable
        :math:`\chi^2` after a plan that is halved so many times.
    expected : float
        What noise alone makes of it at most.
    tuning : UsefulIterationsTuning

    Returns
    -------
    float
        From 0 to ``tuning.most_halvings``.

    Examples
    --------
    A misfit that stays at 3 and doubles where less than a quarter of the iterations are taken:

    >>> from fluogan_core.tuning import UsefulIterationsTuning
    >>> halvings(lambda halved: 3.0 if halved <= 2 else 6.0, 1.0, UsefulIterationsTuning())
    2.0

    One that noise explains:

    >>> halvings(lambda halved: 0.9, 1.0, UsefulIterationsTuning())
    0.0
    """
    misfits: dict[int, float] = {}
    useful: dict[int, float] = {}
    for halved in range(tuning.most_halvings, -1, -1):
        misfits[halved] = misfit(halved)
        if halved and misfits[halved] <= expected:
            return 0.0
        if halved < tuning.most_halvings:
            useful[halved + 1] = _use(misfits[halved + 1], misfits[halved], expected, tuning)
            if useful[halved + 1] == useful.get(halved + 2) == 0.0:
                break
    found, left = 0.0, 1.0
    for halved in range(1, tuning.most_halvings + 1):
        left *= 1.0 - useful.get(halved, 0.0)
        found += left
    return found


def _use(shorter: float, longer: float, expected: float, tuning: UsefulIterationsTuning) -> float:
    """Of how much use a plan is that takes twice the iterations, 0 to 1, by the misfits of the two."""
    excess = longer - expected
    won = (shorter - longer) / excess if excess > 0 else math.inf
    of_rest = rising(won, tuning.useless, tuning.useful)
    of_noise = rising((shorter - longer) / (tuning.clear_gain * max(longer / expected, 1.0)), 1.0, 2.0)
    return 1.0 - (1.0 - of_rest) * (1.0 - of_noise)
