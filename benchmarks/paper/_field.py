"""Small fields of a pair of lines: frames, as many unseen ones, and the truth that they were drawn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import fluogan_core as fg

from ._scenes import FWHM_NM

__all__ = ["Field", "Made", "make_field"]

#: Photons of one emission, and of the background per camera pixel.
KAPPA, BACKGROUND = 20.0, 2.0
#: What a method makes of a field: x, b, and a note.
Made = tuple[np.ndarray, np.ndarray, str]


@dataclass(frozen=True, eq=False)
class Field:
    """Frames of a pair 120 nm apart, as many unseen ones, and the truth.

    Attributes
    ----------
    model : ForwardModel
    x, b : the truth
    frames, unseen : (T, M1, M2) float32
    """

    model: fg.ForwardModel
    x: np.ndarray
    b: np.ndarray
    frames: np.ndarray
    unseen: np.ndarray


def make_field(size: int, light: float, frames: int, seed: int, kappa: float = KAPPA) -> Field:
    """Draw a field of ``size`` x ``size`` camera pixels with ``light`` photons per fine pixel of line."""
    pattern = fg.argolight_pattern((120.0,), pixel_size_nm=100, factor=4, shape=(size, size), outer_nm=550, margin_nm=300)
    psf = fg.gaussian_psf(FWHM_NM, 100, 4, truncate=min(4.0, (2 * size - 1) / 5.5))
    psi = fg.Psi(psf, pattern.shape, 4, photons_per_emitter=kappa, backend="numpy")
    model = fg.ForwardModel(psi)
    x, b = pattern.x * (light / kappa), np.full(pattern.shape, BACKGROUND * light / 20.0)
    drawn = model.sample(x, b, 2 * frames, seed)
    return Field(model, x, b, drawn[:frames], drawn[frames:])
