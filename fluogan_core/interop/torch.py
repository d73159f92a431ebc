r""":math:`\Psi` and E[D(Y)] as functions of tensors that torch differentiates.

Tensors and arrays share memory: nothing is copied.  Tensors must live where the operator does (``psi.backend.device``).
"""

from __future__ import annotations

import inspect
from typing import Any, Unpack

import torch
from torch.autograd import Function

from ..backend.arrays import Backend
from ..backend.dlpack import home_of, on_torch_stream, to_array, to_tensor
from ..backend.typing import CriticLike
from ..critics.evaluator import CriticEvaluator
from ..critics.expected import ScoreOptions
from ..critics.expected import expected_score as array_score
from ..physics.forward import ForwardModel, forward_model
from ..physics.psi import Psi
from ..physics.requirements import usable

__all__ = ["adjoint", "expected_score", "forward"]


def forward(psi: Psi, x: torch.Tensor) -> torch.Tensor:
    r"""Return :math:`\Psi x`; differentiable any number of times, in both modes, and under ``torch.func.vmap``.

    Parameters
    ----------
    psi : Psi
    x : (..., N1, N2) tensor, float32 or float64
        Expected emissions per fine pixel, where psi lives.

    Returns
    -------
    y : (..., M1, M2) tensor of the same dtype
        Expected photons per camera pixel.

    Raises
    ------
    TypeError
        If x is not a tensor of float32 or float64, or psi no operator.
    ValueError
        If x is of another shape, or on another device than psi; if psi is an operator that does not agree with itself.

    Examples
    --------
    >>> import torch
    >>> import fluogan_core as fg
    >>> from fluogan_core.interop import torch as interop
    >>> psi = fg.Psi(fg.gaussian_psf(318, 100, 2), (16, 16), 2, photons_per_emitter=10, backend="numpy")
    >>> x = torch.ones(psi.fine_shape, requires_grad=True)
    >>> interop.forward(psi, x).sum().backward()
    >>> round(float(x.grad[16, 16]), 3)
    10.0
    """
    if torch.compiler.is_compiling():
        return _by_itself(forward, psi, x)
    psi = usable(psi, "adapter to another toolkit")
    return _Linear.apply(floating(x, "x", psi.backend), psi, False)


def adjoint(psi: Psi, y: torch.Tensor) -> torch.Tensor:
    r"""Return :math:`\Psi^T y`; differentiable as :func:`forward` is.

    Parameters
    ----------
    psi : Psi
    y : (..., M1, M2) tensor, float32 or float64
        One number per camera pixel, where psi lives.

    Returns
    -------
    x : (..., N1, N2) tensor of the same dtype

    Raises
    ------
    TypeError, ValueError
        As in :func:`forward`.

    Examples
    --------
    >>> import torch
    >>> import fluogan_core as fg
    >>> from fluogan_core.interop import torch as interop
    >>> psi = fg.Psi(fg.gaussian_psf(318, 100, 2), (16, 16), 2, backend="numpy")
    >>> interop.adjoint(psi, torch.ones(5, *psi.shape)).shape
    torch.Size([5, 32, 32])
    """
    if torch.compiler.is_compiling():
        return _by_itself(adjoint, psi, y)
    psi = usable(psi, "adapter to another toolkit")
    return _Linear.apply(floating(y, "y", psi.backend), psi, True)


def expected_score(
    critic: CriticLike | CriticEvaluator,
    model: ForwardModel,
    x: torch.Tensor,
    b: torch.Tensor,
    frames: int = 200,
    seed: int = 0,
    method: str = "corrected",
    **options: Unpack[ScoreOptions],
) -> torch.Tensor:
    """Return E[D(Y)] over simulated frames, with gradients in x and b from the same frames.

    The critic is fixed: its own weights get no gradient.  There is no second derivative.

    Parameters
    ----------
    critic : torch.nn.Module, callable or CriticEvaluator
        Maps (S, M1, M2) counts above the offset to (S,).  It is evaluated in eval mode.
    model : ForwardModel
    x : (N1, N2) tensor, float32 or float64
        Expected emissions per fine pixel per frame, not negative.
    b : (M1, M2) tensor, float32 or float64
        Background, photons per camera pixel per frame, not negative.
    frames : int
        Simulated frames to average over.
    seed : int
        Of the random streams.  The same seed draws the same frames at every call: pass ``step=k`` in step k of an optimiser.
    method : {"corrected", "coupled", "photon", "linear", "direct"} or another registered one
    **options
        ``background_rule``, ``corrected_frames``, ``lattice``, ``first_frame``, ``step`` and ``memory_budget``, as for
        :func:`fluogan_core.critic_gradient`.

    Returns
    -------
    value : 0-d tensor of x's dtype

    Raises
    ------
    TypeError, ValueError
        As for :func:`fluogan_core.expected_score`.
    RuntimeError
        If it is differentiated with ``create_graph=True``.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> import fluogan_core as fg
    >>> from fluogan_core.interop import torch as interop
    >>> model = fg.ForwardModel(fg.Psi(np.ones((3, 3)), (8, 8), 2, photons_per_emitter=4.0, backend="numpy"))
    >>> x, b = torch.zeros(16, 16, requires_grad=True), torch.ones(8, 8, requires_grad=True)
    >>> value = interop.expected_score(lambda y: y.sum(dim=(1, 2)), model, x, b, frames=4, method="linear")
    >>> value.backward()
    >>> round(float(x.grad[8, 8]), 3), x.grad.dtype
    (4.0, torch.float32)
    """
    if torch.compiler.is_compiling():
        return _by_itself(expected_score, critic, model, x, b, frames, seed, method, **options)
    home = forward_model(model).backend
    given = {"frames": frames, "seed": seed, "method": method, **options}
    return _Score.apply(floating(x, "x", home), floating(b, "b", home), critic, model, given)


def _by_itself(function: Any, *args: Any, **options: Any) -> torch.Tensor:
    """Call between two graphs of ``torch.compile``, which cannot look into NumPy."""
    return torch.compiler.disable(function)(*args, **options)


def floating(image: torch.Tensor, name: str, backend: Backend) -> torch.Tensor:
    """The tensor, if it holds floats and lives where the operator does."""
    if not isinstance(image, torch.Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(image).__name__}; make one with torch.as_tensor")
    if image.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{name} must be a tensor of float32 or float64, got {image.dtype}; convert it with .float()")
    if image.layout != torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got layout {image.layout}; convert it with .to_dense()")
    if (home := home_of(image)) != backend.device:
        raise ValueError(f"{name} is on {home} but the operator computes on {backend.device}; move it with .to()")
    return image


class _Linear(Function):
    """The operator or its adjoint; each is the other's derivative."""

    @staticmethod
    def forward(image: torch.Tensor, psi: Psi, transposed: bool) -> torch.Tensor:
        array = to_array(image, psi.backend)
        with on_torch_stream(psi.backend):
            return to_tensor(psi.adjoint(array) if transposed else psi.forward(array))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        _, ctx.psi, ctx.transposed = inputs

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return _Linear.apply(slope, ctx.psi, not ctx.transposed), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: torch.Tensor, *_: None) -> torch.Tensor:
        return _Linear.apply(tangent, ctx.psi, ctx.transposed)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], image: torch.Tensor, psi: Psi, transposed: bool) -> tuple[torch.Tensor, int]:
        return _Linear.apply(image.movedim(in_dims[0], 0), psi, transposed), 0


# torch reads the signature at every call; written down, that is 8 us less.
_Linear.forward.__signature__ = inspect.signature(_Linear.forward)  # type: ignore[attr-defined]


class _Score(Function):
    """E[D(Y)]; the gradient is found with the value and kept."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, b: torch.Tensor, critic: CriticLike, model: ForwardModel, given: dict[str, Any]
    ) -> torch.Tensor:
        emissions, background = (to_array(image, model.backend) for image in (x, b))
        with on_torch_stream(model.backend):
            found = array_score(critic, model, emissions, background, **given)
            slopes = [to_tensor(slope) for slope in (found.x, found.b)]
        ctx.save_for_backward(slopes[0].to(x.dtype), slopes[1].to(b.dtype))
        return x.new_tensor(found.value)

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("E[D(Y)] has no second derivative here: differentiate it without create_graph=True")
        x, b = ctx.saved_tensors
        return slope * x, slope * b, None, None, None
