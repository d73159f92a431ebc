"""E[D(Y)] and its gradient from the same simulated frames, as an optimiser wants them."""

from __future__ import annotations

from typing import NamedTuple, TypedDict, Unpack, cast

import numpy as np

from ..backend.kinds import any_kind
from ..backend.typing import Array, CriticLike
from ..physics.forward import ForwardModel
from .evaluator import CriticEvaluator
from .gradient import gradient_job
from .job import Gradient, RunningMean

__all__ = ["ExpectedScore", "ScoreOptions", "expected_score"]


class ExpectedScore(NamedTuple):
    """The mean score of simulated frames, and its gradient.

    Attributes
    ----------
    value : float
        The mean of D(y) over the frames.
    x : (N1, N2) float64
        The gradient of E[D(Y)] with respect to x.
    b : (M1, M2) float64
        With respect to b.
    """

    value: float
    x: Array
    b: Array


class ScoreOptions(TypedDict, total=False):
    """Options of :func:`expected_score`, as they are described for :func:`fluogan_core.critic_gradient`."""

    background_rule: str
    corrected_frames: int | None
    lattice: int | str
    first_frame: int
    step: int
    memory_budget: int | None


@any_kind("x", "b")
@np.errstate(under="ignore")
def expected_score(
    critic: CriticLike | CriticEvaluator,
    model: ForwardModel,
    x: Array,
    b: Array,
    frames: int = 200,
    seed: int = 0,
    method: str = "corrected",
    **options: Unpack[ScoreOptions],
) -> ExpectedScore:
    """Return the mean score of simulated frames and the gradient of its expectation, from one sampling.

    Parameters
    ----------
    critic : torch.nn.Module, callable or CriticEvaluator
        Maps (S, M1, M2) counts above the offset to (S,).  It is evaluated in eval mode.
    model : ForwardModel
    x : (N1, N2), emissions per fine pixel per frame
    b : (M1, M2), photons per camera pixel per frame
    frames : int
        Simulated frames to average over.
    seed : int
        Of the random streams.
    method : {"corrected", "coupled", "photon", "linear", "direct"} or another registered one
    **options
        ``background_rule``, ``corrected_frames``, ``lattice``, ``first_frame``, ``step`` and ``memory_budget``, as for
        :func:`fluogan_core.critic_gradient`.

    Returns
    -------
    ExpectedScore
        A tuple ``value, x, b``; x and b are those of :func:`fluogan_core.critic_gradient`.

    Raises
    ------
    TypeError
        For an option that there is not.
    ValueError
        As for :func:`fluogan_core.critic_gradient`; if the estimator does not draw its frames by ``job.sampled_frames()``.
    FloatingPointError
        If a score of the critic, or its gradient, is NaN or infinite.

    Examples
    --------
    The mean brightness of a frame as a critic: 1 photon of background on each of 64 pixels, and nothing else.

    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> psi = fg.Psi(np.ones((3, 3)), (8, 8), 2, photons_per_emitter=4.0, backend="numpy")
    >>> x, b = np.zeros(psi.fine_shape, np.float32), np.ones(psi.shape, np.float32)
    >>> found = fg.expected_score(lambda y: y.sum(dim=(1, 2)), fg.ForwardModel(psi), x, b, frames=400, method="linear")
    >>> abs(found.value - 64) < 2, float(found.b[4, 4])
    (True, 1.0)
    """
    if unknown := set(options) - ScoreOptions.__annotations__.keys():
        known = ", ".join(ScoreOptions.__annotations__)
        raise TypeError(f"expected_score has no option {', '.join(sorted(unknown))}; its options are {known}")
    score = RunningMean(squares=False)
    estimator, job = gradient_job(critic, model, x, b, frames=frames, seed=seed, method=method, **options, score=score)
    gradient = cast("Gradient", estimator(job))
    if score.weight != frames:
        raise ValueError(
            f"the estimator {method!r} did not score its frames: it must draw them by job.sampled_frames(); use another "
            "method, or critic_gradient if the gradient is enough"
        )
    return ExpectedScore(float(score.mean), gradient.x, gradient.b)
