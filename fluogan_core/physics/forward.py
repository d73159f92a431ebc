"""The forward model of eq. (1): ``Y = gain * P(Psi P(x) + b) + N``, its samples, mean and variance."""

from __future__ import annotations

import numpy as np

from ..backend import random
from ..backend.arrays import backend_of
from ..backend.checks import LARGEST, floating_dtype, real_number, trailing_shape, whole_number
from ..backend.kinds import any_kind
from ..backend.random import Stage
from ..backend.readings import check_bounds
from ..backend.typing import Array
from .requirements import OperatorLike, require, usable

__all__ = ["ForwardModel", "forward_model"]

#: The paper's epsilon: photons added to every camera pixel so that no rate vanishes.
EPSILON = 1e-6


class ForwardModel:
    r"""Simulated frames :math:`Y = \alpha P(\Psi P(x) + b + \epsilon) + N`, counts above the camera's offset.

    Parameters
    ----------
    psi : Psi or Operator
        The operator; its backend is the model's.  One of your own is checked first (:class:`fluogan_core.Operator`).
    gain : float
        alpha, counts per detected photon; above 0, at most 1e15.
    noise_std : float
        Standard deviation of the additive Gaussian noise, counts; 0 to 1e15.
    epsilon : float
        Photons per pixel added to every rate, so that none vanishes; 0 to 1e15.

    Raises
    ------
    TypeError, ValueError
        If a number is not one, or is out of its range; if an operator of your own lacks a name or does not agree with itself.

    Notes
    -----
    Randomness is counter-based: frame ``f`` of ``sample(..., seed=s, step=k)`` depends on ``(s, k, f)`` and on x and b alone,
    not on how many frames are drawn together.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> psi = fg.Psi(fg.gaussian_psf(318, 100, 2), (16, 16), 2, photons_per_emitter=30, backend="numpy")
    >>> model = fg.ForwardModel(psi, gain=2.2, noise_std=3.0)
    >>> x, b = np.zeros((32, 32), np.float32), np.full((16, 16), 10, np.float32)
    >>> x[16, 16] = 1.0
    >>> model.sample(x, b, frames=5, seed=1).shape
    (5, 16, 16)
    >>> float(model.mean(x, b)[0, 0].round(3))
    22.0
    """

    def __init__(self, psi: OperatorLike, *, gain: float = 1.0, noise_std: float = 0.0, epsilon: float = EPSILON) -> None:
        self.psi = usable(psi, "forward model")
        self.gain = real_number(gain, "gain", low=0, high=LARGEST, open_low=True)
        self.noise_std = real_number(noise_std, "noise_std", low=0, high=LARGEST)
        self.epsilon = real_number(epsilon, "epsilon", low=0, high=LARGEST)
        self.backend = self.psi.backend

    def __repr__(self) -> str:
        return f"ForwardModel({self.psi!r}, gain={self.gain:g}, noise_std={self.noise_std:g})"

    @any_kind("x", "b")
    def check(self, x: Array, b: Array) -> tuple[Array, Array]:
        """Return x and b in the dtype of the computation, or say why they are not images of rates.

        Parameters
        ----------
        x : (N1, N2) array
            Expected emissions per fine pixel per frame, finite and not negative.
        b : (M1, M2) array
            Background, photons per camera pixel per frame, finite and not negative.

        Returns
        -------
        x, b : float32 or float64
            The arrays themselves where their dtype is one of these two; other numbers are converted.

        Raises
        ------
        TypeError
            If one is not an array of real numbers, or is a masked array.
        ValueError
            If one is of another shape, negative, not finite, or on another device.
        """
        for image, name in ((x, "x"), (b, "b")):
            if getattr(image, "ndim", 2) != 2:
                raise ValueError(f"{name} must be one image, got shape {tuple(image.shape)}; take one of them at a time")
        return self._rates(x, b)

    def _rates(self, x: Array, b: Array) -> tuple[Array, Array]:
        """Images or batches of them, checked."""
        if backend_of(x=x, b=b) != self.backend:
            raise ValueError(f"x and b are not on {self.backend.device}, where psi lives; move them with psi.backend.asarray")
        checked = (
            self._rate(x, self.psi.fine_shape, "x", "the fine grid"),
            self._rate(b, self.psi.shape, "b", "the camera grid"),
        )
        lead = x.shape[:-2], b.shape[:-2]
        try:
            np.broadcast_shapes(*lead)
        except ValueError:
            raise ValueError(f"the leading axes of x and b must fit each other, got {lead[0]} and {lead[1]}") from None
        return checked

    def _rate(self, array: Array, shape: tuple[int, int], name: str, meaning: str) -> Array:
        dtype = floating_dtype(array, name)
        trailing_shape(array, shape, name, meaning)

        def judge(low: float, high: float) -> None:
            if not (low >= 0 and np.isfinite(high)):
                raise ValueError(
                    f"{name} must be finite and not negative: it is a rate of photons; its smallest value is {low:g} and its "
                    f"largest {high:g} (subtract the camera's offset, then cut at zero)"
                )

        check_bounds(self.backend, array, judge)
        return array.astype(dtype, copy=False)

    def _in_range(self, counts: Array, what: str, x: Array, b: Array) -> Array:
        """The result itself, if no number has left the range of its dtype."""

        def judge(low: float, high: float) -> None:
            if np.isfinite([low, high]).all():
                return
            largest = " and ".join(f"{self.backend.bounds(array)[1]:g} in {name}" for name, array in (("x", x), ("b", b)))
            raise ValueError(
                f"{what} exceeds what {counts.dtype} can hold: the largest rates are {largest}, with gain {self.gain:g}, "
                f"noise_std {self.noise_std:g} and {self.psi.photons_per_emitter:g} photons per emission; are the units right?"
            )

        check_bounds(self.backend, counts, judge)
        return counts

    @any_kind("x", "b")
    def mean(self, x: Array, b: Array) -> Array:
        """Return E[Y] = gain * (Psi x + b + epsilon).

        Parameters
        ----------
        x : (..., N1, N2) array
            Expected emissions per fine pixel per frame.
        b : (..., M1, M2) array
            Background, photons per camera pixel per frame.  Leading axes of x and b are broadcast against each other.

        Returns
        -------
        mean : (..., M1, M2) float32 or float64, counts

        Raises
        ------
        TypeError, ValueError
            As in :meth:`check`; if a number exceeds what the dtype can hold.
        """
        x, b = self._rates(x, b)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = self.gain * (self.psi.forward(x) + b + self.epsilon)
        return self._in_range(mean, "the mean", x, b)

    @any_kind("x", "b")
    def variance(self, x: Array, b: Array) -> Array:
        r"""Return Var[Y] = gain^2 * (Psi x + b + epsilon + (Psi^2) x) + noise_std^2 per pixel.

        :math:`\Psi^2` squares the entries of Psi; the sum over pixels is the variance part of eq. (10).

        Parameters
        ----------
        x : (..., N1, N2) array
            Expected emissions per fine pixel per frame.
        b : (..., M1, M2) array
            Background, photons per camera pixel per frame.  Leading axes of x and b are broadcast against each other.

        Returns
        -------
        variance : (..., M1, M2) float32 or float64, counts^2

        Raises
        ------
        TypeError, ValueError
            As in :meth:`mean`.
        """
        require(self.psi, "variance of the forward model")
        x, b = self._rates(x, b)
        with np.errstate(over="ignore", invalid="ignore"):
            rate = self.psi.forward(x) + b + self.epsilon
            variance = self.gain**2 * (rate + self.psi.squared_forward(x)) + self.noise_std**2
        return self._in_range(variance, "the variance", x, b)

    @any_kind("x", "b")
    def sample(self, x: Array, b: Array, frames: int, seed: int = 0, *, first_frame: int = 0, step: int = 0) -> Array:
        """Draw frames of eq. (1).

        Parameters
        ----------
        x : (N1, N2) array
            Expected emissions per fine pixel per frame.
        b : (M1, M2) array
            Background, photons per camera pixel per frame.
        frames : int
            How many to draw.
        seed : int
            0 to 2**64 - 1.
        first_frame, step : int
            Counters of the first frame and of the solver's step, so that a stream can be drawn in pieces.

        Returns
        -------
        y : (frames, M1, M2) float32, counts above the offset

        Raises
        ------
        TypeError, ValueError
            As in :meth:`mean`; if a counter or the seed is out of its range.
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
            part = self._draw(x, b, np.arange(first_frame + start, first_frame + stop), seed, step)
            y[start:stop] = self._in_range(part, "a count", x, b)
        return y

    def _draw(self, x: Array, b: Array, numbers: np.ndarray, seed: int, step: int) -> Array:
        """Draw the frames with these numbers: emission, detection, read noise."""
        z = self.emissions(x, numbers, seed, step)
        with np.errstate(over="ignore", invalid="ignore"):
            # what overflows in a transform is NaN, which detection would take for dark
            blurred = self._in_range(self.psi.forward(z), "the light on a pixel", x, b)
            return self.detect(blurred, b, numbers, seed, step)

    def emissions(self, x: Array, numbers: Array, seed: int, step: int, stage: int = Stage.EMISSION) -> Array:
        """Draw P(x) for the frames with these numbers; dark pixels cost nothing.

        Parameters
        ----------
        x : (N1, N2) float32 or float64
            As :meth:`check` returns it: it is not checked here.
        numbers : (S,) integers
            Numbers of the frames.
        seed, step, stage : int
            The other counters of the draw.

        Returns
        -------
        z : (S, N1, N2) float32
            Emissions.
        """
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
        blurred: Array,
        b: Array,
        numbers: Array,
        seed: int,
        step: int,
        stages: tuple[int, int] = (Stage.DETECTION, Stage.READ_NOISE),
    ) -> Array:
        """Draw ``gain * P(max(blurred, 0) + b + epsilon) + N`` for the frames with these numbers.

        Parameters
        ----------
        blurred : (S, M1, M2) float32 or float64
            Psi z, photons; what is below zero is rounding.
        b : (M1, M2) float32 or float64
            Background, photons; not checked here.
        numbers : (S,) integers
            Numbers of the frames.
        seed, step : int
            The other counters of the draw.
        stages : (int, int)
            What the two draws are for: the photons and the noise.

        Returns
        -------
        y : (S, M1, M2) float32, counts above the offset
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


def forward_model(model: object) -> ForwardModel:
    """Return a forward model, or say what came in its place."""
    if not isinstance(model, ForwardModel):
        raise TypeError(
            f"model must be a ForwardModel, as ForwardModel(psi, gain=..., noise_std=...), got {type(model).__name__}"
        )
    return model
