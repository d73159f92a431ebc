r""":math:`\Psi` as a function that jax differentiates, maps and compiles.

The operator computes on the host through ``jax.pure_callback``, whatever device jax computes on.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ..physics.psi import Psi
from ._host import needs

with needs("jax"):
    import jax

__all__ = ["adjoint", "forward"]


def forward(psi: Psi, x: jax.Array) -> jax.Array:
    r"""Return :math:`\Psi x`; with ``jax.grad``, ``jax.vmap`` and ``jax.jit``.

    Parameters
    ----------
    psi : Psi
        On the host (``backend="numpy"``).
    x : (..., N1, N2) jax array
        Expected emissions per fine pixel, float32 or float64.

    Returns
    -------
    y : (..., M1, M2) jax array of the same dtype
        Expected photons per camera pixel.

    Raises
    ------
    TypeError
        If x is not of float32 or float64.
    ValueError
        If x is of another shape, or psi lives on a CUDA device.

    Examples
    --------
    >>> import jax
    >>> import fluogan_core as fg
    >>> from fluogan_core.interop import jax as interop
    >>> psi = fg.Psi(fg.gaussian_psf(318, 100, 2), (16, 16), 2, photons_per_emitter=10, backend="numpy")
    >>> slope = jax.grad(lambda x: interop.forward(psi, x).sum())(jax.numpy.ones(psi.fine_shape))
    >>> round(float(slope[16, 16]), 3)
    10.0
    """
    _checked(psi, x, psi.fine_shape, "x")
    return _linear(psi, False, x)


def adjoint(psi: Psi, y: jax.Array) -> jax.Array:
    r"""Return :math:`\Psi^T y`; with ``jax.grad``, ``jax.vmap`` and ``jax.jit``.

    Parameters
    ----------
    psi : Psi
        On the host.
    y : (..., M1, M2) jax array
        One number per camera pixel, float32 or float64.

    Returns
    -------
    x : (..., N1, N2) jax array of the same dtype

    Raises
    ------
    TypeError, ValueError
        As in :func:`forward`.

    Examples
    --------
    >>> import jax
    >>> import fluogan_core as fg
    >>> from fluogan_core.interop import jax as interop
    >>> psi = fg.Psi(fg.gaussian_psf(318, 100, 2), (16, 16), 2, backend="numpy")
    >>> interop.adjoint(psi, jax.numpy.ones((5, 16, 16))).shape
    (5, 32, 32)
    """
    _checked(psi, y, psi.shape, "y")
    return _linear(psi, True, y)


def _checked(psi: Psi, image: jax.Array, shape: tuple[int, int], name: str) -> None:
    if psi.backend.name != "numpy":
        raise ValueError("jax calls the operator on the host: make Psi with backend='numpy'")
    if image.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name} must be of float32 or float64, got {image.dtype}; convert it with astype")
    if image.shape[-2:] != shape:
        raise ValueError(f"{name} must be (..., {shape[0]}, {shape[1]}), got shape {tuple(image.shape)}")


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _linear(psi: Psi, transposed: bool, image: jax.Array) -> jax.Array:
    """The operator or its adjoint; each is the other's derivative."""
    shape, apply = (psi.fine_shape, psi.adjoint) if transposed else (psi.shape, psi.forward)
    made = jax.ShapeDtypeStruct((*image.shape[:-2], *shape), image.dtype)
    return jax.pure_callback(lambda array: apply(np.asarray(array)), made, image, vmap_method="broadcast_all")


def _linear_forward(psi: Psi, transposed: bool, image: jax.Array) -> tuple[jax.Array, None]:
    return _linear(psi, transposed, image), None


def _linear_backward(psi: Psi, transposed: bool, _: None, slope: jax.Array) -> tuple[jax.Array]:
    return (_linear(psi, not transposed, slope),)


_linear.defvjp(_linear_forward, _linear_backward)
