r"""The penalty on a background that varies fast, blind to slopes and bends that leave the field.

The powers of :math:`\nabla^T\nabla` are diagonal in cosines, all of which meet the border at a right angle.  A background that
is as smooth but has a slope there (a gradient, vignetting, a bump off the middle) is made of many cosines, and a penalty on the
fast ones would press it flat at the border and make it ring inside.  So polynomials of the field's coordinates are free,

.. math:: \min_P \|b - P\|_B^2, \qquad \|b\|_B^2 = \langle b, B b \rangle, \quad B = \lambda_2 (\nabla^T\nabla)^p,

P of those :math:`u^i v^j` with :math:`i + j \le 2` and :math:`i + j < p` that vary as slowly as the cosines that B lets pass:
:math:`(\pi i / M_1)^2 + (\pi j / M_2)^2 < 1 / s^2` with :math:`s = (\lambda_2/\gamma)^{1/2p}` the background's length scale in
pixels.
"""

from __future__ import annotations

import itertools
import math
from functools import cached_property

import numpy as np

from ..backend.arrays import Backend
from ..backend.products import product
from ..backend.readings import number
from ..backend.typing import Array
from ..tuning import DEFAULT, ObjectiveTuning

__all__ = ["Bending"]


class Bending:
    r"""The penalty :math:`\tfrac12 \min_P \|b - P\|_B^2`, its gradient and its low-pass filter.

    Parameters
    ----------
    shape : (M1, M2)
        Camera pixels.
    backend : Backend
    smoothness : float
        :math:`\lambda_2`.
    order : int
        p.
    fidelity : float
        :math:`\gamma`, which bounds the penalty of the fastest cosines and sets the length scale.
    tuning : ObjectiveTuning
    """

    def __init__(
        self,
        shape: tuple[int, int],
        backend: Backend,
        *,
        smoothness: float,
        order: int,
        fidelity: float,
        tuning: ObjectiveTuning = DEFAULT.objective,
    ) -> None:
        self.backend, self._short = backend, backend.cuda is None and _products_are_faster(shape)
        lines = [2 - 2 * np.cos(math.pi * np.arange(n) / n) for n in shape]
        bending = smoothness * (lines[0][:, None] + lines[1][None, :]) ** order
        self.bending = np.minimum(bending, tuning.stiffest * fidelity)
        scale = (smoothness / fidelity) ** (0.5 / order)
        u, v = (2 * (np.arange(n) + 0.5) / n - 1 for n in shape)
        powers = range(tuning.free_degree + 1)
        degrees = [
            (i, j)
            for i, j in itertools.product(powers, powers)
            if 0 < i + j < min(order, len(powers)) and scale * math.hypot(math.pi * i / shape[0], math.pi * j / shape[1]) < 1
        ]
        # Legendre polynomials: well apart from each other, and the same span
        free = [np.outer(np.polynomial.Legendre.basis(i)(u), np.polynomial.Legendre.basis(j)(v)) for i, j in degrees]
        self.free = np.array([self._spectrum(backend.asarray(image)) for image in free]) if smoothness and free else None
        self._filters: dict[float, tuple[Array, Array | None, Array | None]] = {}
        self._pairs: dict[float, tuple[Array, ...]] = {}

    def _spectrum(self, image: Array) -> np.ndarray:
        return self.backend.to_host(self.backend.fft.dctn(image, norm="ortho"))

    def _forth(self, image: Array) -> Array:
        """The cosine transform of an image."""
        if not self._short:
            return self.backend.fft.dctn(image, norm="ortho")
        (down, _), (_, across) = self._matrices
        return product(product(down, image), across)

    def _back(self, spectrum: Array) -> Array:
        """The image of a cosine transform."""
        if not self._short:
            return self.backend.fft.idctn(spectrum, norm="ortho")
        (_, down), (across, _) = self._matrices
        return product(product(down, spectrum), across)

    @cached_property
    def _matrices(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """The cosine transforms of a column and of a row as matrices, each with its transpose."""
        from scipy.fft import dct

        forth = [dct(np.eye(n), axis=0, norm="ortho") for n in self.bending.shape]
        return tuple((np.ascontiguousarray(matrix), np.ascontiguousarray(matrix.T)) for matrix in forth)

    def _of_weight(self, weight: float) -> tuple[Array, Array | None, Array | None]:
        """Gains of the cosines, and what projects a spectrum on the polynomials and adds them: (P, M1, M2) each."""
        if weight not in self._filters:
            asarray, gains = self.backend.asarray, weight / (weight + self.bending)
            if self.free is None:
                self._filters = {weight: (asarray(gains), None, None)}
            else:
                seen = self.free * (self.bending * gains)
                inverse = np.linalg.inv(np.tensordot(seen, self.free, axes=([1, 2], [1, 2])))
                added = np.tensordot(inverse, self.free * (1 - gains), axes=1)
                if len(self._filters) > 3:  # the step of b changes with the weights of a critic
                    self._filters = {}
                self._filters[weight] = asarray(gains), asarray(seen), asarray(added)
        return self._filters[weight]

    def lowpass(self, target: Array, weight: float) -> Array:
        r"""Return :math:`\arg\min_b w/2 \|b - t\|^2 + \tfrac12 \min_P \|b - P\|_B^2`, (M1, M2)."""
        gains, seen, added = self._of_weight(weight)
        spectrum = self._forth(target)
        passed = spectrum * gains
        if seen is not None:
            passed = passed + _through(seen, spectrum, added)
        return self._back(passed).astype(target.dtype, copy=False)

    def bounded(self, target: Array, start: Array, weight: float, turns: int, relaxation: float) -> Array | None:
        r"""Return :math:`\arg\min_{b \ge 0} w/2 \|b - t\|^2 + \tfrac12 \min_P \|b - P\|_B^2` by a kernel of the card.

        Parameters
        ----------
        target, start : (M1, M2) float32
        weight : float
        turns : int
            In which bound and penalty are met, where the bound matters.
        relaxation : float
            Over-relaxation of the turns, below 2.

        Returns
        -------
        (M1, M2) float32, or None
            None where there is no such kernel, or the field is too large for it.
        """
        kernel = self.backend.kernel("bounded_background")
        if kernel is None or target.dtype != np.float32:
            return None
        if weight not in self._pairs:
            filters, shape = [self._of_weight(w) for w in (weight, 2 * weight)], self.bending.shape
            nothing = self.backend.xp.zeros((0, *shape))
            parts = zip(*([nothing if part is None else part for part in filter_] for filter_ in filters))
            if len(self._pairs) > 3:
                self._pairs = {}
            self._pairs[weight] = tuple(self.backend.xp.stack(pair).astype(np.float32) for pair in parts)
        return kernel(target, start, turns, relaxation, self._cosines, self._pairs[weight])

    @cached_property
    def _cosines(self) -> tuple[Array, Array, Array]:
        """The cosine transforms of a column and of a row as matrices, and the transpose of the second."""
        (down, _), (right, back) = self._matrices
        asarray = self.backend.asarray
        return asarray(down, dtype=np.float32), asarray(right, dtype=np.float32), asarray(back, dtype=np.float32)

    def _bent(self, b: Array) -> tuple[Array, Array]:
        """Spectrum of b, and of the gradient of the penalty; in float64, since stiff frequencies magnify rounding errors."""
        spectrum = self._forth(b.astype(np.float64))
        bending, projection = self._penalty
        bent = bending * spectrum
        if projection is not None:
            free, stiff = projection
            bent = bent - _through(free, bent, stiff)
        return spectrum, bent

    @cached_property
    def _penalty(self) -> tuple[Array, tuple[Array, Array] | None]:
        """B on the spectrum, and what finds the polynomials in a bent spectrum and takes them out: (P, M1, M2) each."""
        asarray = self.backend.asarray
        if self.free is None:
            return asarray(self.bending), None
        stiff = self.free * self.bending
        inverse = np.linalg.inv(np.tensordot(stiff, self.free, axes=([1, 2], [1, 2])))
        return asarray(self.bending), (asarray(np.tensordot(inverse, self.free, axes=1)), asarray(stiff))

    def gradient(self, b: Array) -> Array:
        """Return the gradient of the penalty, (M1, M2)."""
        return self._back(self._bent(b)[1]).astype(b.dtype)

    def energy(self, b: Array) -> float:
        """Return the penalty of b."""
        spectrum, bent = self._bent(b)
        return 0.5 * number((spectrum * bent).sum())


def _products_are_faster(shape: tuple[int, int]) -> bool:
    """Whether the cosine transform of a field is faster by two matrix products than by FFTs.

    Of small fields it is, and of larger ones with a side that has a large prime factor.
    """
    most = 40 if all(math.gcd(n, 2**8 * 3**5 * 5**3 * 7**2 * 11**2) == n for n in shape) else 256
    return max(shape) <= most


def _through(seen: Array, image: Array, added: Array) -> Array:
    """What P images find in another one, each times its image of the second list: (P, M1, M2), (M1, M2), (P, M1, M2)."""
    count = len(seen)
    found = seen.reshape(count, -1) @ image.ravel()
    return (found @ added.reshape(count, -1)).reshape(image.shape)
