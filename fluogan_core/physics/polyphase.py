r"""The polyphase table of an operator, and the two engines that apply it: FFTs at camera size, or two matrix products."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from ..backend.arrays import Backend

__all__ = ["Convolutions", "Products", "line_table", "plane_table"]


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

    def forward(self, x: Any, budget: int) -> Any:
        (m1, m2), (f1, f2), xp, fft = self.shape, self.factors, self.backend.xp, self.backend.fft
        spectrum = self._spectrum(x.dtype)
        y = xp.empty((x.shape[0], m1, m2), dtype=x.dtype)
        step = self._chunk(x.dtype, budget)
        for start in range(0, x.shape[0], step):
            part = x[start : start + step].reshape(-1, m1, f1, m2, f2).transpose(0, 2, 4, 1, 3)
            folded = (fft.rfft2(part, self.size, **self._workers) * spectrum).sum(axis=(1, 2))
            y[start : start + step] = fft.irfft2(folded, self.size, **self._workers)[:, :m1, :m2]
        return y

    def adjoint(self, y: Any, budget: int) -> Any:
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
    """The polyphase sum of a separable table as two small matrix products."""

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

    def _pair(self, dtype: Any) -> Any:
        if dtype not in self._cast:
            self._cast[dtype] = tuple(self.backend.xp.asarray(a, dtype=dtype) for a in self._matrices)
        return self._cast[dtype]

    def forward(self, x: Any, budget: int) -> Any:
        rows, columns = self._pair(x.dtype)
        return rows @ (x @ columns.T)

    def adjoint(self, y: Any, budget: int) -> Any:
        rows, columns = self._pair(y.dtype)
        return (rows.T @ y) @ columns
