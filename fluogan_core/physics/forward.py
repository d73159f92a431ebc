"""The forward model of eq. (1): ``Y = gain * P(Psi P(x) + b) + N``, its samples, mean and variance."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backend import random
from ..backend.arrays import backend_of
from ..backend.checks import real_number, trailing_shape, whole_number
from ..backend.random import Stage
from .psi import Psi

__all__ = ["ForwardModel"]

#: The paper's epsilon: photons added to every camera pixel so that no rate vanishes.
EPSILON = 1e-6


class ForwardModel:
    r"""Simulated frames :math:`Y = \alpha P(\Psi P(x) + b + \epsilon) + N`, counts above the camera's offset.

    Parameters
    ----------
    psi : Psi
        The operator; its backend is the model's.
    gain : float
        alpha, counts per detected photon.
    noise_std : float
        Standard deviation of the additive Gaussian noise, counts.
    epsilon : float
        Photons per pixel added to every rate, so that none vanishes.

    Notes
    -----
    Randomness is counter-based: frame ``f`` of ``sample(..., seed=s, step=k)`` depends on ``(s, k, f)`` and on x and b alone,
    not on how many frames are drawn together.
    """

    def __init__(self, psi: Psi, *, gain: float = 1.0, noise_std: float = 0.0, epsilon: float = EPSILON) -> None:
        self.psi = psi
        self.gain = real_number(gain, "gain", low=0, open_low=True)
        self.noise_std = real_number(noise_std, "noise_std", low=0)
        self.epsilon = real_number(epsilon, "epsilon", low=0)
        self.backend = psi.backend

    def __repr__(self) -> str:
        return f"ForwardModel({self.psi!r}, gain={self.gain:g}, noise_std={self.noise_std:g})"

    def check(self, x: Any, b: Any) -> tuple[Any, Any]:
        """Return x and b as float32 or float64 arrays of the right shape, finite and non-negative, or raise."""
        if backend_of(x=x, b=b) != self.backend:
            raise ValueError(f"x and b are not on {self.backend.device}, where psi lives; move them with psi.backend.asarray")
        for array, shape, name, meaning in (
            (x, self.psi.fine_shape, "x", "the fine grid"),
            (b, self.psi.shape, "b", "the camera grid"),
        ):
            trailing_shape(array, shape, name, meaning)
            if array.ndim != 2:
                raise ValueError(f"{name} must be one image of shape {shape}, got {tuple(array.shape)}")
            low, high = self.backend.bounds(array)
            if not (low >= 0 and np.isfinite(high)):
                raise ValueError(
                    f"{name} must be finite and not negative: it is a rate of photons; its smallest value is {low:g} "
                    "(subtract the camera's offset, then cut at zero)"
                )
        return (a if a.dtype in (np.float32, np.float64) else a.astype(np.float32) for a in (x, b))  # type: ignore[return-value]

    def mean(self, x: Any, b: Any) -> Any:
        """Return E[Y] = gain * (Psi x + b + epsilon), counts, (M1, M2)."""
        x, b = self.check(x, b)
        return self.gain * (self.psi.forward(x) + b + self.epsilon)

    def variance(self, x: Any, b: Any) -> Any:
        r"""Return Var[Y] = gain^2 * (Psi x + b + epsilon + (Psi^2) x) + noise_std^2 per pixel, counts^2, (M1, M2).

        :math:`\Psi^2` squares the entries of Psi; the sum over pixels is the variance part of eq. (10).
        """
        x, b = self.check(x, b)
        rate = self.psi.forward(x) + b + self.epsilon
        return self.gain**2 * (rate + self.psi.squared_forward(x)) + self.noise_std**2

    def sample(self, x: Any, b: Any, frames: int, seed: int = 0, *, first_frame: int = 0, step: int = 0) -> Any:
        """Draw frames of eq. (1).

        Parameters
        ----------
        x : (N1, N2)
            Expected emissions per fine pixel per frame.
        b : (M1, M2)
            Background, photons per camera pixel per frame.
        frames : int
            How many to draw.
        seed : int
            64-bit seed.
        first_frame, step : int
            Counters of the first frame and of the solver's step, so that a stream can be drawn in pieces.

        Returns
        -------
        y : (frames, M1, M2) float32, counts above the offset
        """
        x, b = self.check(x, b)
        frames = whole_number(frames, "frames", low=1)
        random.check_counters(first_frame, frames, step)
        xp = self.backend.xp
        y = xp.empty((frames, *self.psi.shape), dtype=np.float32)
        # float64 words and candidates on the fine grid are what takes memory here
        chunk = max(1, self.psi.memory_budget // (200 * self.psi.fine_shape[0] * self.psi.fine_shape[1]))
        for start in range(0, frames, chunk):
            stop = min(start + chunk, frames)
            y[start:stop] = self._draw(x, b, np.arange(first_frame + start, first_frame + stop), seed, step)
        return y

    def _draw(self, x: Any, b: Any, numbers: np.ndarray, seed: int, step: int) -> Any:
        """Draw the frames with these numbers: emission, detection, read noise."""
        z = self.emissions(x, numbers, seed, step)
        return self.detect(self.psi.forward(z), b, numbers, seed, step)

    def emissions(self, x: Any, numbers: Any, seed: int, step: int, stage: int = Stage.EMISSION) -> Any:
        """Draw P(x) for the frames with these numbers, (frames, N1, N2) float32; dark pixels cost nothing."""
        xp, kernel = self.backend.xp, self.backend.kernel("emissions")
        if kernel is not None:
            z = xp.empty((len(numbers), *self.psi.fine_shape), dtype=np.float32)
            return kernel(x, numbers, *random.seed_words(seed), stage, step, z)
        z = xp.zeros((len(numbers), x.size), dtype=np.float32)
        lit = xp.nonzero(x.ravel())[0]
        if lit.size:
            mean = xp.broadcast_to(x.ravel()[lit], (len(numbers), int(lit.size)))
            z[:, lit] = random.poisson(mean, seed, stage, step, xp.asarray(numbers)[:, None], lit[None, :], xp=xp)
        return z.reshape(len(numbers), *self.psi.fine_shape)

    def detect(
        self,
        blurred: Any,
        b: Any,
        numbers: Any,
        seed: int,
        step: int,
        stages: tuple[int, int] = (Stage.DETECTION, Stage.READ_NOISE),
    ) -> Any:
        """Draw ``gain * P(max(blurred, 0) + b + epsilon) + N`` for the frames with these numbers, float32 counts.

        ``blurred`` is Psi z, (frames, M1, M2); what is below zero there is rounding.
        """
        xp, kernel = self.backend.xp, self.backend.kernel("detect")
        if kernel is not None:
            y = xp.empty((len(numbers), *self.psi.shape), dtype=np.float32)
            words = random.seed_words(seed)
            return kernel(blurred, b, self.epsilon, numbers, *words, *stages, step, self.gain, self.noise_std, y)
        frame = xp.asarray(numbers)[:, None]
        pixel = xp.arange(self.psi.shape[0] * self.psi.shape[1])[None, :]
        rate = xp.maximum(blurred, 0) + b + self.epsilon
        counts = random.poisson(rate.reshape(len(numbers), -1), seed, stages[0], step, frame, pixel, xp=xp)
        y = np.float32(self.gain) * counts
        if self.noise_std:
            noise = random.normal(seed, stages[1], step, *xp.broadcast_arrays(frame, pixel), xp=xp)
            y += (self.noise_std * noise).astype(np.float32)
        return y.reshape(len(numbers), *self.psi.shape)
