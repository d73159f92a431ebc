"""The parts of a solver, built from a problem, options and weights."""

from __future__ import annotations

import dataclasses
import functools
import logging
import numbers
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend.checks import host_image, real_number
from ..backend.typing import Array, ArrayLike
from ..critics.quadratic import QuadraticCritic, QuadraticCriticLike
from ..objective.blur import GaussianKernel
from ..objective.prior import Prior
from ..objective.reweighting import ReweightedL1
from ..objective.terms import Objective
from ..physics.psi import Psi
from ..physics.requirements import reads, require
from ..tuning import DEFAULT, ObjectiveTuning, Tuning
from .choice import UnlessMixed, UnlessWorse
from .covariance_fit import CovariancePhase
from .likelihood_fit import LikelihoodPhase
from .mean_fit import MeanPhase
from .network_fit import NetworkPhase
from .options import SolverOptions
from .phase import Images, Phase
from .problem import Problem
from .weights import Weights, weights_for

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger("fluogan_core")

#: What remains for an operator that the covariance fit cannot take.
MEAN_ONLY = (
    "take SolverOptions(method='none'), the mean fit alone, or a method that trains a network ('corrected', 'photon', 'linear')"
)

__all__ = ["build_objective", "given_images", "later_phases", "mean_phase"]


def build_objective(
    psi: Psi,
    mean: Array,
    weights: Weights,
    prior: Prior | None = None,
    tuning: ObjectiveTuning = DEFAULT.objective,
    *,
    background: ArrayLike | float | None = None,
) -> tuple[Objective, GaussianKernel]:
    """Return the objective (11) with these weights, or with a prior or a background of your own, and the blur G."""
    of_image: dict[str, Any] = (
        {} if prior is not None else {"sparsity": weights.sparsity, "total_variation": weights.total_variation}
    )
    objective = Objective(
        psi,
        mean,
        fidelity=weights.fidelity,
        smoothness=weights.smoothness,
        order=weights.order,
        prior=prior,
        background=None if background is None else given_background(psi, mean, background),
        tuning=tuning,
        **of_image,
    )
    return objective, GaussianKernel(psi, weights.detail)


def given_background(psi: Psi, mean: Array, background: ArrayLike | float) -> Array:
    """A background that is given, checked, on the solver's backend: (M1, M2) float32, photons."""
    shape, backend = psi.shape, psi.backend
    if isinstance(background, numbers.Real):
        background = np.full(shape, real_number(background, "background", low=0), dtype=np.float32)
    host = host_image(background, "background")
    if host.shape != tuple(shape) or host.min() < 0:
        raise ValueError(
            f"background must be a number of photons or an image of shape {tuple(shape)}, without negative values; got shape "
            f"{host.shape} with minimum {host.min():g} (subtract the camera's offset, divide by its gain, cut at zero)"
        )
    brightest = float(mean.max())
    if float(host.min()) >= brightest:
        raise ValueError(
            f"background is {host.min():g} photons or more everywhere, but the brightest pixel of the mean frame has "
            f"{brightest:g}: nothing would be left for x; give it in photons per pixel and frame, above the offset"
        )
    return backend.asarray(host, dtype=np.float32)


def mean_phase(objective: Objective, kernel: GaussianKernel, weights: Weights, tolerance: float, tuning: Tuning) -> MeanPhase:
    """Return the fit of the mean, with the schedule of its l1 weights."""
    schedule = ReweightedL1(objective, weights.lit, weights.iterations, tuning.reweighting)
    return MeanPhase(
        objective, kernel, planned=weights.iterations, tolerance=tolerance, reweighting=schedule, tuning=tuning.mean_phase
    )


def later_phases(
    problem: Problem,
    objective: Objective,
    kernel: GaussianKernel,
    options: SolverOptions,
    critic: nn.Module | None,
    quadratic_critic: Callable[..., QuadraticCriticLike],
    tuning: Tuning,
    *,
    weights: Weights,
    weights_given: bool = False,
    prior: Prior | None = None,
    background: ArrayLike | float | None = None,
) -> tuple[Phase, ...]:
    """Return the phases that the method asks for after the fit of the mean; none for the mean alone.

    Prior and background are those that the user has given, if any.
    """
    method = options.method
    if method in ("moments", "likelihood", "auto", "none") and critic is not None:
        raise ValueError(
            f"method={method!r} trains no network; to train the one given as critic= take "
            "SolverOptions(method='corrected'), or another estimator of its gradient"
        )
    if method == "none" or not options.steps:
        return ()
    if method not in ("moments", "likelihood", "auto"):
        return (NetworkPhase(problem, objective, options, kernel, critic, tuning.network_phase, tuning.estimators),)
    require(problem.psi, "covariance fit", MEAN_ONLY)
    if method == "likelihood":
        require(problem.psi, "likelihood fit", "take method='moments', the default")
    if not callable(quadratic_critic):
        raise TypeError(
            "quadratic_critic= must be a class or function that takes what fluogan_core.QuadraticCritic takes, got "
            f"{type(quadratic_critic).__name__}"
        )
    own = quadratic_critic is not QuadraticCritic
    if not own:
        quadratic_critic = functools.partial(QuadraticCritic, tuning=tuning.quadratic_critic)
    # a width beyond what the options ask for is what unseen photons of the mean frame want: single emissions show more
    narrow = GaussianKernel(problem.psi, min(weights.detail, max(options.detail, tuning.likelihood_phase.detail)))
    detection = weights.detection
    given: dict[str, Any] = {
        "detection": detection,
        "quadratic_critic": quadratic_critic,
        "tuning": tuning.covariance_phase,
    }
    if method == "moments":
        return (_ready(CovariancePhase(problem, objective, options, kernel, **given), own),)
    if method == "auto":
        rival = functools.partial(
            _mean_and_covariance, options=options.for_method("moments"), weights=weights,
            weights_given=weights_given, prior=prior, background=background,
            quadratic_critic=quadratic_critic, tuning=tuning,
        )  # fmt: skip
        covariances = _ready(CovariancePhase(problem, objective, options, kernel, **given), own)
        if not reads(problem.psi, "likelihood fit"):
            log.info(
                "the full likelihood is not tried: it reads of an operator what %s does not have", type(problem.psi).__name__
            )
            return (covariances,)
        return covariances, UnlessWorse(problem, objective, options, narrow, detection, tuning, rival=rival)
    likelihood = LikelihoodPhase(problem, objective, options, narrow, detection, tuning)
    covariance = UnlessMixed(problem, objective, options, kernel, **given)
    covariance.likelihood = likelihood
    return likelihood, _ready(covariance, own)


def _ready(phase: CovariancePhase, own: bool) -> CovariancePhase:
    """The phase, with its critics where they are of the user's own: what they refuse is known before the mean is fitted."""
    if own:
        phase.critics.both  # noqa: B018
    return phase


def _mean_and_covariance(
    problem: Problem,
    *,
    options: SolverOptions,
    weights: Weights,
    weights_given: bool,
    prior: Prior | None,
    background: ArrayLike | float | None,
    quadratic_critic: Callable[..., QuadraticCriticLike],
    tuning: Tuning,
) -> Images:
    """Return what the default method finds."""
    if not weights_given:  # of these frames; what unseen photons have chosen stays
        own = weights_for(problem, options, tuning).with_length(weights.length)
        weights = dataclasses.replace(own, detail=weights.detail, lit=weights.lit)
    objective, kernel = build_objective(problem.psi, problem.mean, weights, prior, tuning.objective, background=background)
    mean = mean_phase(objective, kernel, weights, options.tolerance, tuning)
    images: Images | None = None
    for phase in (mean, *later_phases(problem, objective, kernel, options, None, quadratic_critic, tuning, weights=weights)):
        if images is not None:
            phase.start(images, fitted=True)
        while phase.stop is None:
            phase.step()
        images = phase.outcome
    return mean.outcome if images is None else images


def given_images(phase: MeanPhase, x0: ArrayLike | None, b0: ArrayLike | None) -> Images:
    """Return the images to start from: those given, checked, and the phase's own for what is not given."""
    (z, _, b), psi, images = phase.images, phase.objective.psi, []
    for image, name, default, shape in ((x0, "x0", z, psi.fine_shape), (b0, "b0", b, psi.shape)):
        if image is None:
            images.append(default)
            continue
        host = host_image(image, name)
        if host.shape != tuple(shape) or host.min() < 0:
            raise ValueError(
                f"{name} must have shape {tuple(shape)} and no negative value, got {host.shape} with minimum {host.min():g}"
            )
        images.append(psi.backend.asarray(host, dtype=np.float32))
    return Images(images[0], phase.kernel(images[0]), images[1])
