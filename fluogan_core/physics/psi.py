r"""The operator :math:`\Psi = D H` (blur, then bring the fine grid to the camera grid), its adjoint, columns and norms.

Up to translation :math:`\Psi` has only :math:`L^2` distinct columns, one per phase ``p`` of a fine pixel inside its camera
pixel.  The polyphase table ``T[p1, p2, k1, k2]`` (light of phase ``p`` that reaches the camera pixel ``k + origin`` away) is
therefore the whole operator:

.. math:: (\Psi x)_m = \sum_{p} \sum_{k} T_{p,k}\, x_{p,\, m - k - \mathrm{origin}},

a sum of :math:`L^2` camera-sized convolutions.  Transforming the phases at camera size is spectral folding done before the
transform instead of after it: the aliases of a fine spectrum are never computed, and no frequency needs special care.  Where
the PSF is separable and the field small, two matrix products are faster than any FFT.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np

from ..backend.arrays import Backend, backend_of, get_backend
from ..backend.checks import image_shape, one_of, real_number, trailing_shape, whole_number
from .polyphase import Convolutions, Products, line_table, plane_table
from .psf import cut_psf, scaled_psf

__all__ = ["Psi", "ahead"]

# A matrix product does this many times more operations per second than an FFT of these sizes (benchmarks/bench_psi.py).
_GEMM_OVER_FFT = 12.0


class Psi:
    r"""The operator :math:`\Psi = \kappa\, D H` of eq. (1), on one backend.

    Nothing outside the field emits (zero boundary, linear convolution).

    Parameters
    ----------
    psf : (K1, K2) array_like, both odd
        PSF on the fine grid, centred, non-negative; normalised to sum 1 here.  See :func:`gaussian_psf`.
    shape : (M1, M2)
        Camera pixels.
    factor : int
        Super-resolution factor L; the fine grid is (L M1, L M2).
    binning : {"sum", "point"}
        ``"sum"``: a camera pixel integrates its L x L fine pixels, columns sum to kappa inside the field.  ``"point"``: it
        takes one sample (offset L // 2), columns sum to about kappa / L**2: the paper's "subset of the elements".
    photons_per_emitter : float
        kappa, detected photons per emission; 1 is the paper's model.
    backend : {"auto", "numpy", "cupy"} or Backend
        Where the operator computes; inputs must live there.
    method : {"auto", "products", "convolutions"}
        Two matrix products (separable PSF only) or FFTs at camera size; ``"auto"`` takes the one with less work.
    memory_budget : int, optional
        Bytes that intermediates may take; batches are cut to fit.

    Attributes
    ----------
    shape, fine_shape : (int, int)
        (M1, M2) and (N1, N2).
    table : (L, L, K1, K2) float64 on the host
        The polyphase table, kappa included: light from phase p reaching the camera pixel ``k + origin`` away.
    origin : (int, int)
        Camera-pixel offset of ``table[..., 0, 0]``.
    method : str
        ``"products"`` or ``"convolutions"``, whichever is used.

    Raises
    ------
    ValueError
        If the PSF is not 2-D, odd-sized, finite and non-negative, or is larger than the fine field.
    """

    def __init__(
        self,
        psf: Any,
        shape: tuple[int, int],
        factor: int,
        *,
        binning: str = "sum",
        photons_per_emitter: float = 1.0,
        backend: str | Backend = "auto",
        method: str = "auto",
        memory_budget: int | None = None,
    ) -> None:
        self.shape = image_shape(shape)
        self.factor = whole_number(factor, "factor", low=1)
        self.fine_shape = (self.shape[0] * self.factor, self.shape[1] * self.factor)
        self.binning = one_of(binning, "binning", ("sum", "point"))
        self.photons_per_emitter = real_number(photons_per_emitter, "photons_per_emitter", low=0, open_low=True)
        self.psf = _valid_psf(psf, self.fine_shape)
        one_of(method, "method", ("auto", "products", "convolutions"))
        self.backend = get_backend(backend)
        self.memory_budget = self.backend.memory_budget() if memory_budget is None else int(memory_budget)

        table, *origin = plane_table(self.psf, (self.factor, self.factor), self.binning)
        self.table = table * self.photons_per_emitter
        self.origin = (origin[0], origin[1])
        self._lines = self._separable_lines()
        self.method = self._choose() if method == "auto" else method
        if self.method == "products" and self._lines is None:
            raise ValueError("method='products' needs a separable PSF; use 'convolutions' or 'auto'")
        self._engine = self._make_engine()

    def __repr__(self) -> str:
        return (
            f"Psi({self.fine_shape[0]} x {self.fine_shape[1]} -> {self.shape[0]} x {self.shape[1]}, binning={self.binning!r}, "
            f"photons_per_emitter={self.photons_per_emitter:g}, method={self.method!r}, backend={self.backend.name!r})"
        )

    def replaced(self, *, psf: Any = None, photons_per_emitter: float | None = None) -> Psi:
        """Return the operator with another PSF or brightness of the emitters and all else alike; the method is chosen anew."""
        return Psi(
            self.psf if psf is None else psf,
            self.shape,
            self.factor,
            binning=self.binning,
            photons_per_emitter=self.photons_per_emitter if photons_per_emitter is None else photons_per_emitter,
            backend=self.backend,
            memory_budget=self.memory_budget,
        )

    def scaled(self, width: float) -> Psi:
        """Return the operator whose PSF is ``width`` times as wide, cut to the field where it would outgrow it.

        Parameters
        ----------
        width : float
            Relative, 0.1 to 10; at 1 this very operator comes back.

        Raises
        ------
        ValueError
            If the width is out of range, or nothing is left of the PSF.
        """
        if width == 1:
            return self
        return self.replaced(psf=cut_psf(scaled_psf(self.psf, width), self.fine_shape))

    # -- how to compute ---------------------------------------------------------------------------------------------------

    def _separable_lines(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The two 1-D tables if the PSF is a product of lines (to 1e-9 of its peak), else None."""
        down, across = self.psf.sum(axis=1), self.psf.sum(axis=0)
        if np.abs(self.psf - np.outer(down, across)).max() > 1e-9 * self.psf.max():
            return None
        first, _ = line_table(down, self.factor, self.binning)
        second, _ = line_table(across, self.factor, self.binning)
        return first * self.photons_per_emitter, second

    def _choose(self) -> str:
        if self._lines is None:
            return "convolutions"
        (m1, m2), (n1, n2) = self.shape, self.fine_shape
        products = 2.0 * (n1 * n2 * m2 + m1 * n1 * m2)
        q1, q2 = (m + k for m, k in zip(self.shape, self.table.shape[2:]))
        convolutions = (self.factor**2 + 1) * q1 * q2 * (2.5 * math.log2(q1 * q2) + 4)
        return "products" if products < _GEMM_OVER_FFT * convolutions else "convolutions"

    def _make_engine(self) -> Convolutions | Products:
        if self.method == "products" and self._lines is not None:
            return Products(self.backend, self._lines, self.origin, self.shape)
        return Convolutions(self.backend, self.table, self.origin, self.shape)

    def _paired_engine(self, shift: tuple[int, int]) -> Convolutions | Products:
        """The operator whose entries are those of Psi in one row times those in the row of the pixel ``shift`` away."""
        if self.method == "products" and self._lines is not None:
            down, across = (line * ahead(line, step, 1) for line, step in zip(self._lines, shift))
            return Products(self.backend, (down, across), self.origin, self.shape)
        table = self.table * ahead(ahead(self.table, shift[0], 2), shift[1], 3)
        return Convolutions(self.backend, table, self.origin, self.shape)

    @cached_property
    def _squared_engine(self) -> Convolutions | Products:
        return self._paired_engine((0, 0))

    def _checked(self, array: Any, shape: tuple[int, int], name: str, meaning: str) -> tuple[Any, tuple[int, ...]]:
        """Validate and flatten the leading axes; integers become float32."""
        if backend_of(**{name: array}) != self.backend:
            raise ValueError(
                f"{name} is not on {self.backend.device}, where this Psi lives; move it with psi.backend.asarray({name})"
            )
        trailing_shape(array, shape, name, meaning)
        if array.dtype.kind == "c":
            raise TypeError(f"{name} must be real, got dtype {array.dtype}")
        dtype = np.dtype(np.float64 if array.dtype == np.float64 else np.float32)
        return array.reshape(-1, *shape).astype(dtype, copy=False), tuple(array.shape[:-2])

    # -- the operator -----------------------------------------------------------------------------------------------------

    def forward(self, x: Any) -> Any:
        """Return Psi x.

        Parameters
        ----------
        x : (..., N1, N2) float32 or float64
            Expected emission per fine pixel; any other real dtype is taken as float32.

        Returns
        -------
        (..., M1, M2) of the same dtype, expected photons per camera pixel
        """
        flat, lead = self._checked(x, self.fine_shape, "x", "the fine grid")
        return self._engine.forward(flat, self.memory_budget).reshape(*lead, *self.shape)

    def adjoint(self, y: Any) -> Any:
        """Return Psi^T y, of shape (..., N1, N2), for y of shape (..., M1, M2)."""
        flat, lead = self._checked(y, self.shape, "y", "the camera grid")
        return self._engine.adjoint(flat, self.memory_budget).reshape(*lead, *self.fine_shape)

    def squared_forward(self, x: Any) -> Any:
        r"""Return :math:`\sum_i \Psi_{ji}^2 x_i`, the variance that the emission adds per pixel (for eq. 10)."""
        flat, lead = self._checked(x, self.fine_shape, "x", "the fine grid")
        return self._squared_engine.forward(flat, self.memory_budget).reshape(*lead, *self.shape)

    def squared_adjoint(self, y: Any) -> Any:
        r"""Return :math:`\sum_j \Psi_{ji}^2 y_j`, the adjoint of :meth:`squared_forward`."""
        flat, lead = self._checked(y, self.shape, "y", "the camera grid")
        return self._squared_engine.adjoint(flat, self.memory_budget).reshape(*lead, *self.fine_shape)

    def paired_forward(self, x: Any, shift: tuple[int, int]) -> Any:
        r"""Return :math:`\sum_i \Psi_{ji} \Psi_{ki} x_i`, the covariance that the emission gives pixels j and k = j + shift.

        Parameters
        ----------
        x : (..., N1, N2) float32 or float64
        shift : (rows, columns)
            Camera pixels from j to k.

        Returns
        -------
        (..., M1, M2) of the same dtype, at j; where k lies outside the field, what a pixel there would see
        """
        flat, lead = self._checked(x, self.fine_shape, "x", "the fine grid")
        rows, columns = (whole_number(step, "shift") for step in shift)
        return self._paired_engine((rows, columns)).forward(flat, self.memory_budget).reshape(*lead, *self.shape)

    def column(self, index: tuple[int, int]) -> Any:
        """Return C_i, the (M1, M2) float64 camera image of one emission at the fine pixel ``index``, cut at the border."""
        n1, n2 = index
        for n, size, axis in ((n1, self.fine_shape[0], "row"), (n2, self.fine_shape[1], "column")):
            if not 0 <= n < size:
                raise IndexError(f"fine {axis} {n} is outside the field of {self.fine_shape[0]} x {self.fine_shape[1]}")
        patch = self.table[n1 % self.factor, n2 % self.factor]
        image = np.zeros(self.shape)
        inside = []
        for n, low, taps, size in zip((n1, n2), self.origin, patch.shape, self.shape):
            start = n // self.factor + low
            inside.append((slice(max(start, 0), min(start + taps, size)), slice(max(-start, 0), min(taps, size - start))))
        image[inside[0][0], inside[1][0]] = patch[inside[0][1], inside[1][1]]
        return self.backend.asarray(image)

    @cached_property
    def column_sums(self) -> Any:
        r""":math:`\|\Psi_i\|_1`, the photons of one emission that the field catches, (N1, N2) float64."""
        return self.adjoint(self.backend.xp.ones(self.shape, dtype=np.float64))

    @cached_property
    def column_energies(self) -> Any:
        r""":math:`\|\Psi_i\|_2^2`, (N1, N2) float64."""
        return self.squared_adjoint(self.backend.xp.ones(self.shape, dtype=np.float64))

    @cached_property
    def axis_matrices(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The matrices R (M1, N1) and C (M2, N2) with Psi x = R x C^T, float64 on the host; None if the PSF is no product."""
        if self._lines is None:
            return None
        down, across = (Products.matrix(line, o, m) for line, o, m in zip(self._lines, self.origin, self.shape))
        return down, across

    @cached_property
    def norm(self) -> float:
        r"""The largest singular value :math:`\|\Psi\|`, by power iteration on :math:`\Psi^T \Psi` (to 1e-7)."""
        xp = self.backend.xp
        # Psi is non-negative, so its leading singular vector is too: ones is never orthogonal to it.
        x = xp.ones(self.fine_shape, dtype=np.float64)
        value = 0.0
        for _ in range(1000):
            x = self.adjoint(self.forward(x))
            previous, value = value, float(xp.linalg.norm(x))
            x /= value
            if abs(value - previous) <= 2e-8 * value:
                break
        return math.sqrt(value)


def ahead(table: np.ndarray, shift: int, axis: int) -> np.ndarray:
    """The entries ``shift`` further along an axis, zero beyond its ends."""
    moved, taps = np.zeros_like(table), table.shape[axis]
    kept = max(0, taps - abs(shift))
    source, target = np.moveaxis(table, axis, 0), np.moveaxis(moved, axis, 0)
    first = min(max(0, shift), taps)
    target[taps - kept - first : taps - first] = source[first : first + kept]
    return moved


def _valid_psf(psf: Any, fine_shape: tuple[int, int]) -> np.ndarray:
    """Check a PSF and return it as a float64 array of sum 1 on the host."""
    psf = np.asarray(psf.get() if hasattr(psf, "get") else psf, dtype=np.float64)
    if psf.ndim != 2:
        raise ValueError(f"psf must be 2-D (rows, columns) on the fine grid, got shape {psf.shape}")
    if psf.shape[0] % 2 == 0 or psf.shape[1] % 2 == 0:
        raise ValueError(
            f"psf must have odd sizes, so that its centre is a pixel, got {psf.shape}; fluogan_core.measured_psf trims one"
        )
    if not np.isfinite(psf).all() or (psf < 0).any() or psf.sum() <= 0:
        raise ValueError("psf must be finite, non-negative and not all zero; fluogan_core.measured_psf cleans a measured one")
    if psf.shape[0] > fine_shape[0] or psf.shape[1] > fine_shape[1]:
        raise ValueError(
            f"psf of {psf.shape[0]} x {psf.shape[1]} fine pixels is larger than the field of {fine_shape[0]} x "
            f"{fine_shape[1]} (camera pixels times factor): take a larger region of interest, or cut the PSF"
        )
    return psf / psf.sum()
