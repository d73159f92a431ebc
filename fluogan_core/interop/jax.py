r""":math:`\Psi` as a function that jax differentiates, maps and compiles.

The operator computes on the host through ``jax.pure_callback``, whatever device jax computes on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..physics.psi import Psi
from ..physics.requirements import usable
from ._host import needs

with needs("jax"):
    import jax
    from jax.core import ShapedArray
    from jax.extend.core import Primitive
    from jax.interpreters import ad, batching, mlir

__all__ = ["adjoint", "forward"]


def forward(psi: Psi, x: jax.Array) -> jax.Array:
    r"""Return :math:`\Psi x`; with ``jax.grad``, ``jax.jvp``, ``jax.vmap`` and ``jax.jit``.

    Parameters
    ----------
    psi : Psi
        On the host (``backend="numpy"``).
    x : (..., N1, N2) jax array
        Expected emissions per fine pixel, float32 or float64.  For float64 set ``jax.config.update("jax_enable_x64", True)``.

    Returns
    -------
    y : (..., M1, M2) jax array of the same dtype
        Expected photons per camera pixel.

    Raises
    ------
    TypeError
        If x is not of float32 or float64, or psi no operator.
    ValueError
        If x is of another shape, or psi lives on a CUDA device or does not agree with itself.

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
    psi = usable(psi, "adapter to another toolkit")
    _checked(psi, x, psi.fine_shape, "x")
    return _linear(psi, False, x)


def adjoint(psi: Psi, y: jax.Array) -> jax.Array:
    r"""Return :math:`\Psi^T y`; with ``jax.grad``, ``jax.jvp``, ``jax.vmap`` and ``jax.jit``.

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
    psi = usable(psi, "adapter to another toolkit")
    _checked(psi, y, psi.shape, "y")
    return _linear(psi, True, y)


def _checked(psi: Psi, image: jax.Array, shape: tuple[int, int], name: str) -> None:
    if psi.backend.name != "numpy":
        raise ValueError("jax calls the operator on the host: make Psi with backend='numpy'")
    if not hasattr(image, "dtype") or not hasattr(image, "shape"):
        raise TypeError(f"{name} must be an array, got {type(image).__name__}; make one with jax.numpy.asarray")
    if image.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name} must be of float32 or float64, got {image.dtype}; convert it with astype")
    if image.shape[-2:] != shape:
        raise ValueError(f"{name} must be (..., {shape[0]}, {shape[1]}), got shape {tuple(image.shape)}")


_operator = Primitive("fluogan_core_operator")


def _linear(psi: Psi, transposed: bool, image: jax.Array) -> jax.Array:
    """The operator or its adjoint."""
    return _operator.bind(image, psi=psi, transposed=transposed)


def _computed(image: jax.Array, *, psi: Psi, transposed: bool) -> jax.Array:
    shape, apply = (psi.fine_shape, psi.adjoint) if transposed else (psi.shape, psi.forward)
    made = jax.ShapeDtypeStruct((*image.shape[:-2], *shape), image.dtype)

    def on_host(array: jax.Array) -> np.ndarray:
        if array.dtype != made.dtype:  # jax calls back in a thread of its own, which "with jax.enable_x64" does not reach
            raise TypeError(
                f"jax turned {made.dtype} into {array.dtype}: jax.config.update('jax_enable_x64', True) sets it everywhere"
            )
        return apply(np.asarray(array))

    return jax.pure_callback(on_host, made, image, vmap_method="broadcast_all")


def _abstract(image: ShapedArray, *, psi: Psi, transposed: bool) -> ShapedArray:
    shape = psi.fine_shape if transposed else psi.shape
    return ShapedArray((*image.shape[:-2], *shape), image.dtype)


def _transposed(slope: jax.Array, _: object, *, psi: Psi, transposed: bool) -> list[jax.Array]:
    return [_linear(psi, not transposed, slope)]


def _mapped(images: Sequence[jax.Array], axes: Sequence[int], *, psi: Psi, transposed: bool) -> tuple[jax.Array, int]:
    return _linear(psi, transposed, jax.numpy.moveaxis(images[0], axes[0], 0)), 0


# what jax does to a linear map: compute, compile, differentiate forward and backward, map over an axis
_operator.def_impl(jax.jit(_computed, static_argnames=("psi", "transposed")))
_operator.def_abstract_eval(_abstract)
mlir.register_lowering(_operator, mlir.lower_fun(_computed, multiple_results=False))
ad.deflinear2(_operator, _transposed)
batching.primitive_batchers[_operator] = _mapped
