"""The same operator for another field."""

from __future__ import annotations

from .psf import cut_psf
from .psi import Psi

__all__ = ["on_field"]


def on_field(psi: Psi, shape: tuple[int, ...], method: str = "auto") -> Psi:
    """Return the operator for another field, its PSF cut to that if need be.

    Parameters
    ----------
    psi : Psi
    shape : (M1, M2)
        The field, camera pixels.
    method : {"auto", "products", "convolutions"}
        As for :class:`Psi`.

    Returns
    -------
    Psi

    Examples
    --------
    >>> import fluogan_core as fg
    >>> on_field(fg.Psi(fg.gaussian_psf(318, 100, 2), (64, 48), 2, backend="numpy"), (16, 16)).fine_shape
    (32, 32)
    """
    rows, columns = shape
    return Psi(
        cut_psf(psi.psf, (rows * psi.factor, columns * psi.factor)),
        (rows, columns),
        psi.factor,
        binning=psi.binning,
        photons_per_emitter=psi.photons_per_emitter,
        backend=psi.backend,
        method=method,
    )
