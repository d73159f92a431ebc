"""The weights of (11): the options' dimensionless ones, made real by the noise of a stack."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from ..backend.checks import real_number, whole_number
from ..calibration.camera import Camera
from ..calibration.noise import StackNoise
from ..physics.psf import psf_sigma
from ..physics.psi import Psi
from ..tuning import DEFAULT, MeanPhaseTuning, ReweightingTuning, Tuning
from .options import SolverOptions
from .problem import Problem

__all__ = ["Weights", "detail_for_snr", "iterations_for_snr", "length_scale", "lit_from", "weights_for", "weights_of_field"]


@dataclass(frozen=True)
class Weights:
    r"""The weights of (11), in photons.

    Tiles of one field share those of the whole: each by itself would make its own.

    Attributes
    ----------
    fidelity, sparsity, total_variation, smoothness : float
        :math:`\gamma`, :math:`\lambda_1`, :math:`\lambda_3`, :math:`\lambda_2`.
    order : int
        p, the order of the background's smoothness.
    detail : float
        Standard deviation of the blur G that the image is sought through, as a fraction of the PSF's.
    lit : float
        Photons per camera pixel from which on a pixel counts as lit (:mod:`fluogan_core.objective.reweighting`).
    iterations : int
        Of the fit of the mean.
    detection : float
        Variance of the detection noise of a pixel and frame, photons^2, flicker not included: with the fidelity it weighs what
        the frames say against the priors after the fit of the mean.

    Raises
    ------
    ValueError, TypeError
        If a weight is out of its range.

    Examples
    --------
    A solver takes the weights of another one's field:

    >>> import dataclasses
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> stack = np.random.default_rng(0).poisson(50.0, (20, 16, 16)) + 100
    >>> psi = fg.Psi(fg.gaussian_psf(250, 100, 2), (16, 16), 2, backend="numpy")
    >>> given = {"psi": psi, "camera": fg.Camera(offset=100.0), "options": fg.SolverOptions(method="none")}
    >>> weights = dataclasses.replace(fg.Solver(stack, **given).weights, iterations=3)
    >>> fg.Solver(stack, **given, weights=weights).total_steps
    3
    """

    fidelity: float
    sparsity: float
    total_variation: float
    smoothness: float
    order: int
    detail: float
    lit: float
    iterations: int
    detection: float

    @property
    def length(self) -> float:
        """Length scale of the background, camera pixels."""
        return float((self.smoothness / self.fidelity) ** (0.5 / self.order))

    def with_length(self, length: float) -> Weights:
        """Return the weights with another length scale of the background.

        Parameters
        ----------
        length : float
            Camera pixels.

        Returns
        -------
        Weights
        """
        return dataclasses.replace(self, smoothness=self.fidelity * length ** (2 * self.order))

    def __post_init__(self) -> None:
        for name in ("fidelity", "detection"):
            real_number(getattr(self, name), name, low=0, open_low=True)
        for name in ("sparsity", "total_variation", "smoothness", "lit"):
            real_number(getattr(self, name), name, low=0)
        whole_number(self.order, "order", low=1, high=8)
        real_number(self.detail, "detail", low=0, high=1)
        whole_number(self.iterations, "iterations", low=0)


def iterations_for_snr(noise: StackNoise, tuning: MeanPhaseTuning = DEFAULT.mean_phase) -> int:
    """Return the accelerated iterations that the light of a stack pays for: 36 times the mean frame's signal-to-noise ratio.

    At least 10, at most 900 (:class:`fluogan_core.tuning.MeanPhaseTuning`).
    """
    return int(min(max(tuning.iterations_per_snr * noise.signal_to_noise, tuning.fewest), tuning.most))


def detail_for_snr(detail: float, noise: StackNoise, tuning: MeanPhaseTuning = DEFAULT.mean_phase) -> float:
    r"""Return the width of the blur that an image is sought through, as a fraction of the PSF's.

    ``detail`` from a signal-to-noise ratio s of 200 on; in less light :math:`\sqrt{200 / s}` times that, and never more than
    the PSF.  The finest detail is the noisiest: in dim light it makes lines too narrow, and puts pairs too far apart.
    """
    return min(detail * math.sqrt(max(tuning.bright / max(noise.signal_to_noise, 1e-12), 1.0)), 1.0)


def length_scale(options: SolverOptions, tuning: Tuning = DEFAULT) -> float:
    """Return the length scale of the background, camera pixels: as asked for, or the shortest that a stack may choose."""
    return tuning.unseen_photons.lengths[0] if options.smoothness is None else options.smoothness


def lit_from(noise: float, signal: float, share: float, tuning: ReweightingTuning = DEFAULT.reweighting) -> float:
    """Return the light from which on a pixel is lit: what stands out of the noise, or this share of the signal if less."""
    return min(tuning.lit * noise, share * signal)


def weights_for(problem: Problem, options: SolverOptions, tuning: Tuning = DEFAULT) -> Weights:
    """Return the weights that the options mean for a stack, before anything is asked of its unseen photons."""
    return weights_of_field(
        problem.psi, problem.noise, problem.camera, options, frames=len(problem.counts), shape=problem.psi.shape, tuning=tuning
    )


def weights_of_field(
    psi: Psi,
    noise: StackNoise,
    camera: Camera,
    options: SolverOptions,
    *,
    frames: int,
    shape: tuple[int, int],
    tuning: Tuning = DEFAULT,
) -> Weights:
    """Return the weights that the options mean for a field of this shape and noise.

    Parameters
    ----------
    psi : Psi
        The operator, of any field that its PSF fits into.
    noise : StackNoise
        Of the whole field, counts.
    camera : Camera
    options : SolverOptions
    frames : int
    shape : (M1, M2)
        The whole field, camera pixels.
    tuning : Tuning, optional

    Returns
    -------
    Weights
    """
    gain = camera.gain
    variance = noise.variance / gain**2
    fidelity = options.fidelity * math.sqrt(frames / (shape[0] * shape[1])) / variance
    of_mean = noise.of_mean / gain
    # an edge is weighed in units of the brightest light: a prior that does not depend on how bright the sample is
    signal = max(noise.signal / gain, 0.0)
    edge = float(psi.column_sums.max()) * psf_sigma(psi.psf) * of_mean / max(signal, of_mean)
    return Weights(
        fidelity=fidelity,
        sparsity=options.sparsity * fidelity * of_mean * math.sqrt(float(psi.column_energies.max())),
        # what does not average out (unequal pixels, a PSF that is not quite the true one) is there at all frequencies, not
        # only where it is measured, and makes grains of what is flat
        total_variation=options.total_variation
        * fidelity
        * of_mean
        * edge
        * min(noise.unexplained, tuning.mean_phase.most_unexplained),
        smoothness=fidelity * length_scale(options, tuning) ** (2 * options.smoothness_order),
        order=options.smoothness_order,
        detail=detail_for_snr(options.detail, noise, tuning.mean_phase),
        lit=lit_from(of_mean, signal, tuning.reweighting.of_signal, tuning.reweighting),
        iterations=iterations_for_snr(noise, tuning.mean_phase) if options.warm_steps is None else options.warm_steps,
        detection=variance * min(1.0, noise.excess) ** 2,
    )
