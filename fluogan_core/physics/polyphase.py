r"""The polyphase table of an operator, and the two engines that apply it: FFTs at camera size, or two matrix products."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from ..backend.arrays import Backend
from ..backend.typing import Array
from .local_maps import TOGETHER, bands_of

__all__ = ["Convolutions", "Products", "Tables", "ahead", "line_table", "plane_table"]

# Products along the bands do this many times more operations per second than an FFT of these sizes (benchmarks/bench_psi.py).
_GEMM_OVER_FFT = 3.0
#: A PSF is separable if it differs from the product of its two sums by at most this fraction of its largest value: far below
#: what float32 resolves (6e-8), far above what rounding leaves of a product (2e-16).
_SEPARABLE_WITHIN = 1e-9


def line_table(line: np.ndarray, factor: int, binning: str) -> tuple[np.ndarray, int]:
    """Polyphase table ``(L, K)`` of a centred 1-D profile and its origin (offset in camera pixels of the first entry)."""
    table, origin, _ = plane_table(line[:, None], (factor, 1), binning)
    return table[:, 0, :, 0], origin


def plane_table(psf: np.ndarray, factors: tuple[int, int], binning: str) -> tuple[np.ndarray, int, int]:
    """Polyphase table ``(L1, L2, K1, K2)`` of a centred 2-D profile and its two origins."""
    spans = []
    for size, factor in zip(psf.shape, factors):
        radius = size // 2
        low, high = (-radius) // factor, (factor - 1 + radius) // factor
        spans.append((radius, low, high - low + 1))
    (r1, low1, k1), (r2, low2, k2) = spans
    f1, f2 = factors
    table = np.empty((f1, f2, k1, k2))
    for p1 in range(f1):
        for p2 in range(f2):
            spread = np.zeros((k1 * f1, k2 * f2))
            top, left = p1 - r1 - low1 * f1, p2 - r2 - low2 * f2
            spread[top : top + psf.shape[0], left : left + psf.shape[1]] = psf
            blocks = spread.reshape(k1, f1, k2, f2)
            table[p1, p2] = blocks.sum(axis=(1, 3)) if binning == "sum" else blocks[:, f1 // 2, :, f2 // 2]
    return table, low1, low2


def ahead(table: np.ndarray, shift: int, axis: int) -> np.ndarray:
    """The entries ``shift`` further along an axis, zero beyond its ends."""
    moved, taps = np.zeros_like(table), table.shape[axis]
    kept = max(0, taps - abs(shift))
    source, target = np.moveaxis(table, axis, 0), np.moveaxis(moved, axis, 0)
    first = min(max(0, shift), taps)
    target[taps - kept - first : taps - first] = source[first : first + kept]
    return moved


class Convolutions:
    """The polyphase sum by FFT at camera size; any table."""

    def __init__(self, backend: Backend, table: np.ndarray, origin: tuple[int, int], shape: tuple[int, int]) -> None:
        self.backend, self.shape = backend, shape
        self.factors = table.shape[:2]
        spans = [(o, o + k - 1) for o, k in zip(origin, table.shape[2:])]
        # Wrap-around may only reach what is cropped away.
        self.size = tuple(backend.fft.next_fast_len(m + max(-low, high), True) for m, (low, high) in zip(shape, spans))
        kernel = np.zeros((*self.factors, *self.size))
        rows = (np.arange(table.shape[2]) + origin[0]) % self.size[0]
        columns = (np.arange(table.shape[3]) + origin[1]) % self.size[1]
        for k1, row in enumerate(rows):
            for k2, column in enumerate(columns):
                # added, not set: a PSF wider than the transform folds onto itself, but only outside the field
                kernel[:, :, row, column] += table[:, :, k1, k2]
        self._kernel = kernel
        self._spectra: dict[Any, Any] = {}

    @cached_property
    def _workers(self) -> dict[str, int]:
        """As many threads as kernels take; a card has none to choose."""
        if self.backend.name == "cupy":
            return {}
        from ..kernels.cpu.threads import thread_count

        return {"workers": thread_count()}

    def _spectrum(self, dtype: Any) -> Any:
        if dtype not in self._spectra:
            fft, xp = self.backend.fft, self.backend.xp
            self._spectra[dtype] = fft.rfft2(xp.asarray(self._kernel, dtype=dtype))
        return self._spectra[dtype]

    def _chunk(self, dtype: Any, budget: int) -> int:
        phases = self.factors[0] * self.factors[1]
        # the phases, their spectra, the product with the PSF's, what the transform makes of it, and a copy in between
        per_frame = 5 * phases * self.size[0] * self.size[1] * np.dtype(dtype).itemsize
        return max(1, budget // per_frame)

    def forward(self, x: Array, budget: int) -> Array:
        (m1, m2), (f1, f2), xp, fft = self.shape, self.factors, self.backend.xp, self.backend.fft
        spectrum = self._spectrum(x.dtype)
        y = xp.empty((x.shape[0], m1, m2), dtype=x.dtype)
        step = self._chunk(x.dtype, budget)
        for start in range(0, x.shape[0], step):
            part = x[start : start + step].reshape(-1, m1, f1, m2, f2).transpose(0, 2, 4, 1, 3)
            folded = (fft.rfft2(part, self.size, **self._workers) * spectrum).sum(axis=(1, 2))
            y[start : start + step] = fft.irfft2(folded, self.size, **self._workers)[:, :m1, :m2]
        return y

    def adjoint(self, y: Array, budget: int) -> Array:
        (m1, m2), (f1, f2), xp, fft = self.shape, self.factors, self.backend.xp, self.backend.fft
        spectrum = self._spectrum(y.dtype).conj()
        x = xp.empty((y.shape[0], m1, f1, m2, f2), dtype=y.dtype)
        step = self._chunk(y.dtype, budget)
        for start in range(0, y.shape[0], step):
            tiled = fft.rfft2(y[start : start + step], self.size, **self._workers)[:, None, None] * spectrum
            part = fft.irfft2(tiled, self.size, **self._workers)[..., :m1, :m2]
            x[start : start + step] = part.transpose(0, 3, 1, 4, 2)
        return x.reshape(-1, m1 * f1, m2 * f2)


class Products:
    """The polyphase sum of a separable table as two small matrix products: on a CPU of the entries that are not zero."""

    def __init__(
        self, backend: Backend, lines: tuple[np.ndarray, np.ndarray], origin: tuple[int, int], shape: tuple[int, int]
    ) -> None:
        self.backend = backend
        self._matrices = tuple(self.matrix(line, o, m) for line, o, m in zip(lines, origin, shape))
        self._cast: dict[Any, Any] = {}

    @staticmethod
    def matrix(line: np.ndarray, origin: int, size: int) -> np.ndarray:
        factor, taps = line.shape
        matrix = np.zeros((size, size, factor))
        for k in range(taps):
            shift = k + origin
            blocks = np.arange(max(0, -shift), min(size, size - shift))
            matrix[blocks + shift, blocks] = line[:, k]
        return matrix.reshape(size, size * factor)

    def _whole(self, dtype: Any) -> tuple[Array, Array]:
        """Both matrices as they are."""
        if ("whole", dtype) not in self._cast:
            self._cast["whole", dtype] = tuple(self.backend.xp.asarray(matrix, dtype=dtype) for matrix in self._matrices)
        return self._cast["whole", dtype]

    def _bands(self, dtype: Any) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        """What the rows of both matrices hold, and those of their transposes."""
        if ("bands", dtype) not in self._cast:
            rows, columns = self._matrices
            self._cast["bands", dtype] = tuple(
                tuple(bands_of(matrix, dtype, TOGETHER) for matrix in pair) for pair in ((rows, columns), (rows.T, columns.T))
            )
        return self._cast["bands", dtype]

    def _pieces(self, images: Array, budget: int) -> Iterator[slice]:
        """Cut a batch so that what lies between the two products, (N1, M2) per image in both directions, fits the budget."""
        rows, columns = self._matrices
        step = max(1, budget // (rows.shape[1] * columns.shape[0] * images.dtype.itemsize))
        for start in range(0, images.shape[0], step):
            yield slice(start, start + step)

    def _by_bands(self, images: Array, which: int) -> Array | None:
        """Images times both matrices, or times their transposes, one after the other; None where there is no kernel."""
        kernel = None if self.backend.cuda is not None else self.backend.kernel("banded")
        if kernel is None:  # a card: one launch for each product of a whole batch
            return None
        first, second = self._bands(images.dtype)[which]
        if len(images) == 1:
            return kernel(*second, kernel(*first, images[0]))[None]
        out = np.empty((len(images), len(first[0]), len(second[0])), dtype=images.dtype)
        for image, result in zip(images, out):
            result[...] = kernel(*second, kernel(*first, image))
        return out

    def forward(self, x: Array, budget: int) -> Array:
        if (y := self._by_bands(x, 0)) is not None:
            return y
        whole, turned = self._whole(x.dtype)
        y = self.backend.xp.empty((x.shape[0], whole.shape[0], turned.shape[0]), dtype=x.dtype)
        for piece in self._pieces(x, budget):
            self.backend.xp.matmul(whole, x[piece] @ turned.T, out=y[piece])
        return y

    def adjoint(self, y: Array, budget: int) -> Array:
        if (x := self._by_bands(y, 1)) is not None:
            return x
        whole, turned = self._whole(y.dtype)
        x = self.backend.xp.empty((y.shape[0], whole.shape[1], turned.shape[1]), dtype=y.dtype)
        for piece in self._pieces(y, budget):
            self.backend.xp.matmul(whole.T @ y[piece], turned, out=x[piece])
        return x


class Tables:
    """The polyphase table of one operator, its two lines if the PSF is separable, and the engines made of them.

    Parameters
    ----------
    psf : (K1, K2) float64
        Valid, see :func:`fluogan_core.physics.psf.valid_psf`.
    shape : (M1, M2)
        Camera pixels.
    factor : int
    binning : {"sum", "point"}
    kappa : float
        Photons per emission, a factor of the table.
    backend : Backend
    method : {"auto", "products", "convolutions"}

    Attributes
    ----------
    table : (L, L, T1, T2) float64
    origin : (int, int)
    lines : two (L, T) float64, or None
        The table is their product, if the PSF is separable.
    method : str
        The method that is used.

    Raises
    ------
    ValueError
        If ``method="products"`` is asked for and the PSF is not separable.
    """

    def __init__(
        self,
        psf: np.ndarray,
        shape: tuple[int, int],
        factor: int,
        binning: str,
        kappa: float,
        backend: Backend,
        method: str,
    ) -> None:
        self.shape, self.factor, self.backend = shape, factor, backend
        table, *origin = plane_table(psf, (factor, factor), binning)
        self.table = table * kappa
        self.origin = (origin[0], origin[1])
        self.lines = self._separable_lines(psf, binning, kappa)
        self.method = self._faster() if method == "auto" else method
        if self.method == "products" and self.lines is None:
            raise ValueError("method='products' needs a separable PSF; use 'convolutions' or 'auto'")

    def _separable_lines(self, psf: np.ndarray, binning: str, kappa: float) -> tuple[np.ndarray, np.ndarray] | None:
        """The two 1-D tables if the PSF is a product of lines, else None."""
        down, across = psf.sum(axis=1), psf.sum(axis=0)
        if np.abs(psf - np.outer(down, across)).max() > _SEPARABLE_WITHIN * psf.max():
            return None
        first, _ = line_table(down, self.factor, binning)
        second, _ = line_table(across, self.factor, binning)
        return first * kappa, second

    def _faster(self) -> str:
        """The method with less work."""
        if self.lines is None:
            return "convolutions"
        (m1, m2), n1 = self.shape, self.shape[0] * self.factor
        # camera pixels that a fine pixel's band reaches
        reach = [min(m, k) if self.backend.name == "numpy" else m for m, k in zip(self.shape, self.table.shape[2:])]
        products = 2.0 * self.factor * (n1 * m2 * reach[1] + m1 * m2 * reach[0])
        q1, q2 = (m + k for m, k in zip(self.shape, self.table.shape[2:]))
        convolutions = (self.factor**2 + 1) * q1 * q2 * (2.5 * math.log2(q1 * q2) + 4)
        return "products" if products < _GEMM_OVER_FFT * convolutions else "convolutions"

    def engine(self) -> Convolutions | Products:
        """The engine of the operator itself."""
        if self.method == "products" and self.lines is not None:
            return Products(self.backend, self.lines, self.origin, self.shape)
        return Convolutions(self.backend, self.table, self.origin, self.shape)

    def paired_engine(self, shift: tuple[int, int]) -> Convolutions | Products:
        """The engine whose entries are those of Psi in one row times those in the row of the pixel ``shift`` away."""
        if self.method == "products" and self.lines is not None:
            down, across = (line * ahead(line, step, 1) for line, step in zip(self.lines, shift))
            return Products(self.backend, (down, across), self.origin, self.shape)
        table = self.table * ahead(ahead(self.table, shift[0], 2), shift[1], 3)
        return Convolutions(self.backend, table, self.origin, self.shape)

    def column(self, row: int, column: int) -> np.ndarray:
        """The camera image of one emission in a fine pixel of the field, (M1, M2) float64: its entries cut at the border."""
        patch = self.table[row % self.factor, column % self.factor]
        image = np.zeros(self.shape)
        inside = []
        for n, low, taps, size in zip((row, column), self.origin, patch.shape, self.shape):
            start = n // self.factor + low
            inside.append((slice(max(start, 0), min(start + taps, size)), slice(max(-start, 0), min(taps, size - start))))
        image[inside[0][0], inside[1][0]] = patch[inside[0][1], inside[1][1]]
        return image

    def axis_matrices(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The matrices R (M1, N1) and C (M2, N2) with Psi x = R x C^T, or None."""
        if self.lines is None:
            return None
        down, across = (Products.matrix(line, o, m) for line, o, m in zip(self.lines, self.origin, self.shape))
        return down, across
