r"""The critic's gradient with respect to x and b: the five estimators.

Eq. (12) is exact, :math:`\partial_{x_i} E[D(Y)] = E[D(Y(x, b + C_i)) - D(Y(x, b))]`.  Poisson superposition couples the two
terms: one frame y serves every i, with :math:`y_i = y + \alpha P(C_i)`.  ``docs/estimators.md`` says what each method keeps
of the exact gradient, what it costs, and when to use it.
"""

from __future__ import annotations

from typing import Literal, TypedDict, Unpack, overload

import numpy as np

from ..backend import random
from ..backend.arrays import backend_of
from ..backend.checks import one_of, real_number, whole_number
from ..backend.kinds import any_kind
from ..backend.typing import Array, CriticLike
from ..physics.forward import ForwardModel
from ..stack import finite_stack
from ..tuning import DEFAULT, EstimatorTuning
from .estimators import Estimator, estimator_named, estimator_names
from .evaluator import CriticEvaluator, evaluator_for
from .job import Gradient, GradientJob, GradientWithError, RunningMean
from .lattice import Lattice

__all__ = ["Gradient", "GradientWithError", "JobOptions", "critic_differences", "critic_gradient", "gradient_job"]


def __getattr__(name: str) -> tuple[str, ...]:
    if name == "METHODS":  # as it was called before there was a registry
        return estimator_names()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@any_kind("y")
@np.errstate(under="ignore")
def critic_differences(
    critic: CriticLike | CriticEvaluator, y: Array, step: float, method: str = "exact", *, memory_budget: int | None = None
) -> Array:
    """Return what one more count in each pixel does to the critic, ``D(y + step * e_j) - D(y)``.

    Parameters
    ----------
    critic : torch.nn.Module, callable or CriticEvaluator
        Maps (S, M1, M2) counts to (S,).  It is evaluated in eval mode.  An evaluator saves the preparation of many calls.
    y : (S, M1, M2) array, counts
        Cast to the critic's dtype, and not changed.
    step : float
        Counts of one detected photon (the gain).
    method : {"exact", "linear"}
        Every perturbed frame evaluated, or ``step`` times the gradient of D, by one backward pass.
    memory_budget : int, optional
        Bytes that perturbed frames and their activations may take.

    Returns
    -------
    d : (S, M1, M2), in the critic's precision

    Raises
    ------
    ValueError
        If y is not a stack of frames or not finite, the critic does not return one score per frame, or the score of a frame
        changes from call to call or with the other frames of the batch.
    FloatingPointError
        If a score of the critic is NaN or infinite.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> brightness = fg.critic_differences(lambda y: y.sum(dim=(1, 2)), np.ones((1, 2, 3)), step=0.5)
    >>> brightness.tolist()
    [[[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]]
    """
    one_of(method, "method", ("exact", "linear"))
    largest = float(np.finfo(np.float32).max)
    step = real_number(step, "step", low=-largest, high=largest)
    budget = None if memory_budget is None else whole_number(memory_budget, "memory_budget", low=1)
    backend = backend_of(y=y)
    if y.ndim != 3:
        raise ValueError(f"y must be (frames, rows, columns), got shape {tuple(y.shape)}; add an axis for one frame: y[None]")
    finite_stack(y, "y", low_frames=0)
    evaluator = evaluator_for(critic, tuple(y.shape[1:]), backend, budget)
    return step * evaluator.slope(y) if method == "linear" else evaluator.pixel_differences(y, step)


@overload
def critic_gradient(
    critic: CriticLike | CriticEvaluator,
    model: ForwardModel,
    x: Array,
    b: Array,
    frames: int = ...,
    seed: int = ...,
    method: str = ...,
    *,
    background_rule: str = ...,
    corrected_frames: int | None = ...,
    lattice: int | str = ...,
    first_frame: int = ...,
    step: int = ...,
    memory_budget: int | None = ...,
    with_error: Literal[False] = ...,
    tuning: EstimatorTuning = ...,
) -> Gradient: ...
@overload
def critic_gradient(
    critic: CriticLike | CriticEvaluator,
    model: ForwardModel,
    x: Array,
    b: Array,
    frames: int = ...,
    seed: int = ...,
    method: str = ...,
    *,
    background_rule: str = ...,
    corrected_frames: int | None = ...,
    lattice: int | str = ...,
    first_frame: int = ...,
    step: int = ...,
    memory_budget: int | None = ...,
    with_error: Literal[True],
    tuning: EstimatorTuning = ...,
) -> GradientWithError: ...
@any_kind("x", "b")
@np.errstate(under="ignore")
def critic_gradient(
    critic: CriticLike | CriticEvaluator,
    model: ForwardModel,
    x: Array,
    b: Array,
    frames: int = 200,
    seed: int = 0,
    method: str = "corrected",
    *,
    background_rule: str = "count",
    corrected_frames: int | None = None,
    lattice: int | str = "auto",
    first_frame: int = 0,
    step: int = 0,
    memory_budget: int | None = None,
    with_error: bool = False,
    tuning: EstimatorTuning = DEFAULT.estimators,
) -> Gradient | GradientWithError:
    r"""Return the gradient of E[D(Y)] with respect to x and b, estimated on simulated frames.

    Parameters
    ----------
    critic : torch.nn.Module, callable or CriticEvaluator
        Maps (S, M1, M2) counts above the offset to (S,).  It is evaluated in eval mode.  An evaluator saves the preparation of
        many calls.
    model : ForwardModel
    x : (N1, N2), emissions per fine pixel per frame
    b : (M1, M2), photons per camera pixel per frame
    frames : int
        Simulated frames to average over.
    seed, first_frame, step : int
        Counters of the random streams (see :mod:`fluogan_core.backend.random`).
    method : {"corrected", "coupled", "photon", "linear", "direct"} or another registered one
        See :func:`fluogan_core.register_estimator`.

        ``"direct"``: independent frames for each b + C_i, eq. (12) literally; unbiased, very noisy.
        ``"coupled"``: :math:`D(y + \alpha P(C_i)) - D(y)`; unbiased.
        ``"photon"``: :math:`\Psi^T E[D(y + \alpha e_j) - D(y)]`; for x drops what several photons of one emission do together.
        ``"linear"``: :math:`\alpha \Psi^T E[\nabla D]`; the shift of the mean only.
        ``"corrected"``: linear on every frame, plus coupled minus its own linear prediction on a few; unbiased.
        (Unbiased with ``lattice=1``; between the nodes of a coarser lattice the values are interpolated.)
    background_rule : {"count", "rate"}
        For b: ``"count"`` adds one detected photon to pixel j, the exact derivative; ``"rate"`` raises its rate by one, as the
        paper prints.  They differ by what several photons do together.  ``"linear"`` has no second rule.
    corrected_frames : int, optional
        Frames on which ``"corrected"`` evaluates its remainder; one in 32 by default, at least two.
    lattice : int or "auto"
        For ``"coupled"`` and ``"corrected"``: evaluate every ``lattice``-th fine pixel per axis and interpolate, which a wide
        PSF allows at a small error (:mod:`fluogan_core.critics.lattice`); 1 evaluates all, as on a field too small
        for the nodes that the interpolation needs.
    memory_budget : int, optional
        Bytes for intermediates; that of ``model.psi`` by default.
    with_error : bool
        Also return the standard error of each element (needs two frames).
    tuning : EstimatorTuning, optional
        Numbers that were found by trial (:mod:`fluogan_core.tuning`).

    Returns
    -------
    Gradient
        A tuple ``x, b`` of (N1, N2) and (M1, M2) float64.
    GradientWithError
        With ``with_error``: a tuple ``x, b, x_error, b_error``.

    Raises
    ------
    ValueError
        For an unknown method, an option that the method does not use, negative or misshaped x or b, fewer than one frame, or a
        critic whose score of a frame changes from call to call or with the other frames of the batch.
    FloatingPointError
        If a score of the critic, or its gradient, is NaN or infinite.

    Examples
    --------
    The mean brightness of a frame as a critic: one more emission in the middle of the field adds its four photons to it.

    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> psi = fg.Psi(np.ones((3, 3)), (8, 8), 2, photons_per_emitter=4.0, backend="numpy")
    >>> x, b = np.full(psi.fine_shape, 0.1, np.float32), np.ones(psi.shape, np.float32)
    >>> gradient = fg.critic_gradient(lambda y: y.sum(dim=(1, 2)), fg.ForwardModel(psi), x, b, frames=4, method="linear")
    >>> round(float(gradient.x[8, 8]), 3), float(gradient.b[4, 4])
    (4.0, 1.0)
    """
    estimator, job = gradient_job(
        critic,
        model,
        x,
        b,
        frames=frames,
        seed=seed,
        method=method,
        background_rule=background_rule,
        corrected_frames=corrected_frames,
        lattice=lattice,
        first_frame=first_frame,
        step=step,
        memory_budget=memory_budget,
        with_error=with_error,
        tuning=tuning,
    )
    return estimator(job)


class JobOptions(TypedDict, total=False):
    """Options of :func:`critic_gradient` and :func:`expected_score`, as they are described there."""

    background_rule: str
    corrected_frames: int | None
    lattice: int | str
    first_frame: int
    step: int
    memory_budget: int | None
    with_error: bool
    tuning: EstimatorTuning
    score: RunningMean | None


def gradient_job(
    critic: CriticLike | CriticEvaluator,
    model: ForwardModel,
    x: Array,
    b: Array,
    *,
    frames: int,
    seed: int,
    method: str,
    **options: Unpack[JobOptions],
) -> tuple[Estimator, GradientJob]:
    """Return the estimator and what it is given; everything that the caller says is checked."""
    estimator = estimator_named(method)
    background_rule, with_error = options.get("background_rule", "count"), options.get("with_error", False)
    corrected_frames, lattice = options.get("corrected_frames"), options.get("lattice", "auto")
    first_frame, step = options.get("first_frame", 0), options.get("step", 0)
    one_of(background_rule, "background_rule", ("count", "rate"))
    estimator.refuse_unused(background_rule=background_rule, corrected_frames=corrected_frames, lattice=lattice)
    frames = whole_number(frames, "frames", low=2 if with_error else 1)
    random.check_counters(first_frame, frames, step)
    x, b = model.check(x, b)
    memory_budget = options.get("memory_budget")
    if memory_budget is not None:
        memory_budget = whole_number(memory_budget, "memory_budget", low=1)
    elif not isinstance(critic, CriticEvaluator):
        memory_budget = model.psi.memory_budget
    evaluator = evaluator_for(critic, model.psi.shape, model.backend, memory_budget)
    if not evaluator.is_still:
        evaluator = evaluator.still(changed=None if evaluator is critic else False)  # one that was made now is prepared
    job = GradientJob(
        model=model,
        evaluator=evaluator,
        x=x,
        b=b,
        frames=frames,
        first_frame=first_frame,
        seed=seed,
        step=step,
        background_rule=background_rule,
        lattice=Lattice(model.psi, lattice),
        corrected_frames=corrected_frames,
        with_error=with_error,
        memory_budget=evaluator.memory_budget,
        tuning=options.get("tuning", DEFAULT.estimators),
        score=options.get("score"),
    )
    return estimator, job
