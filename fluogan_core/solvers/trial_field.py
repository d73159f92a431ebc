"""Parts of a field on which weights are tried: bounds the time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..backend.typing import ArrayLike
from ..calibration.brightest import Part, brightest_part
from ..physics.on_field import on_field
from ..physics.psi import Psi
from ..tuning import Tuning
from .assembly import build_objective, given_background, mean_phase
from .problem import Problem
from .weights import Weights

__all__ = ["TrialField", "varying_parts"]


class TrialField:
    """A part of a mean frame, with the variance of its noise, and fits of it.

    Parameters
    ----------
    problem : Problem
    background : (M1, M2) or float, optional
        Where it is given, photons.
    tuning : Tuning
    part : two slices, optional
        Rows and columns; the brightest part by default.

    Attributes
    ----------
    part : two slices
    mean, variance : (m1, m2) float64
        Photons, and photons squared: the variance of the noise of the mean frame.
    good : (m1, m2) bool
        Pixels that are not bad.
    """

    def __init__(
        self, problem: Problem, background: ArrayLike | float | None, tuning: Tuning, part: Part | None = None
    ) -> None:
        self.tuning, backend, whole = tuning, problem.psi.backend, type(problem.psi) is not Psi
        mean = np.asarray(backend.to_host(problem.mean), dtype=np.float64)
        variance = np.maximum(mean, 0.0) + (problem.camera.noise_std / problem.camera.gain) ** 2
        variance = np.maximum(variance, 1e-3 * variance.mean())
        # distributed as shot noise is, with the size that was measured: unequal pixels are noise too
        variance *= problem.noise_of_mean**2 / variance.mean()
        # an operator of another kind is not cut: it may differ from place to place
        if whole:
            part = slice(None), slice(None)
        elif part is None:
            part = brightest_part(mean, tuning.unseen_photons.field)
        self.part = part
        self.psi = problem.psi if mean[part].shape == mean.shape else on_field(problem.psi, mean[part].shape)
        known = None if background is None else given_background(problem.psi, problem.mean, background)
        self.background = None if known is None else np.asarray(backend.to_host(known))[part]
        self.mean, self.variance, self.good = mean[part], variance[part], ~problem.bad_pixels[part]

    def fitted(self, mean: np.ndarray, weights: Weights) -> tuple[np.ndarray, np.ndarray]:
        r"""Fit a mean frame of this part, and return :math:`\Psi x` and b, (m1, m2) float64 each, photons."""
        backend, tuning = self.psi.backend, self.tuning
        # as precise as the fit: rounded to single precision, thinned frames of a turned stack would differ in their last digits
        image = backend.asarray(mean, dtype=np.float64 if backend.cuda is None else np.float32)
        objective, kernel = build_objective(self.psi, image, weights, tuning=tuning.objective, background=self.background)
        phase = mean_phase(objective, kernel, weights, 0.0, tuning)
        for _ in range(weights.iterations):
            phase.advance()
        b, both = (np.asarray(backend.to_host(image), dtype=np.float64) for image in (phase.background, phase.fitted))
        return both - b, b


def varying_parts(image: np.ndarray, side: int, count: int, apart: Part) -> Iterator[Part]:
    """Yield the parts of an image with the largest squares, the largest first: what lies in one of them counts for no other.

    Parameters
    ----------
    image : (M1, M2)
    side : int
        Camera pixels, of the parts.
    count : int
        At most so many parts.
    apart : two slices
        A part that is known already.

    Yields
    ------
    rows, columns : slice

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((10, 12))
    >>> image[7, 2] = 1
    >>> list(varying_parts(image, 4, 2, (slice(0, 4), slice(0, 4))))
    [(slice(4, 8, None), slice(0, 4, None))]
    """
    left = np.square(image, dtype=np.float64)
    left[apart] = 0.0
    for _ in range(count):
        if not left.any():
            return
        part = brightest_part(left, side)
        yield part
        left[part] = 0.0
