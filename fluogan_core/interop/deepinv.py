"""The double Poisson model as a physics of deepinv, and the library's prior as one of its priors."""

from __future__ import annotations

from typing import Any

import torch

from ..backend.arrays import backend_on
from ..backend.checks import trailing_shape, whole_number
from ..backend.dlpack import home_of, on_torch_stream, to_array, to_tensor
from ..backend.kinds import as_array
from ..backend.typing import Array
from ..physics.forward import ForwardModel, forward_model
from ._host import needs
from ._proximal import Penalty
from .torch import adjoint, floating, forward

with needs("deepinv", extra="deepinv"):
    from deepinv.optim import Prior
    from deepinv.physics import LinearPhysics

__all__ = ["DoublePoisson", "SparseEdges"]

#: Frames that are drawn at a time.
CHUNK = 64


class DoublePoisson(LinearPhysics):
    r"""A physics whose measurement is the mean of simulated frames, less the background.

    ``A`` is linear, :math:`\alpha \Psi x`, counts.  A call draws frames of eq. (1),
    :math:`Y = \alpha P(\Psi P(x) + b + \epsilon) + N`, and returns their mean less :math:`\alpha (b + \epsilon)`: the
    expectation of a call is A(x).

    Parameters
    ----------
    model : ForwardModel
        Operator, gain and read noise.
    background : (M1, M2) array or tensor
        b, photons per camera pixel per frame.
    frames : int
        Of which a measurement is the mean.
    seed : int
        Of the random streams; each call draws other numbers, and the same again from a physics that is made anew.

    Raises
    ------
    TypeError, ValueError
        If the background is no image of rates, or a number is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> import fluogan_core as fg
    >>> from fluogan_core.interop.deepinv import DoublePoisson
    >>> psi = fg.Psi(fg.gaussian_psf(300, 100, 2), (16, 16), 2, photons_per_emitter=20, backend="numpy")
    >>> physics = DoublePoisson(fg.ForwardModel(psi), np.full(psi.shape, 2.0), frames=50)
    >>> physics(torch.full((3, 1, 32, 32), 0.5)).shape
    torch.Size([3, 1, 16, 16])
    """

    def __init__(self, model: ForwardModel, background: Array, *, frames: int = 100, seed: int = 0) -> None:
        super().__init__(img_size=(1, *forward_model(model).psi.fine_shape))
        given = as_array(background, "background")
        nothing = model.backend.xp.zeros(model.psi.fine_shape, dtype=getattr(given, "dtype", "float32"))
        self.model = model
        _, self.background = model.check(nothing, given)
        self.frames, self.seed, self.calls = whole_number(frames, "frames", low=1), whole_number(seed, "seed", low=0), 0

    def A(self, x: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        r"""Return :math:`\alpha \Psi x`, (B, 1, M1, M2) counts."""
        return self.model.gain * forward(self.model.psi, x)

    def A_adjoint(self, y: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        r"""Return :math:`\alpha \Psi^T y`, (B, 1, N1, N2)."""
        return self.model.gain * adjoint(self.model.psi, y)

    def forward(self, x: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Draw a measurement of each image (B, 1, N1, N2), emissions: (B, 1, M1, M2), counts above the background.

        What is drawn has no gradient.
        """
        backend, step = self.model.backend, self.calls
        images = to_array(floating(x, "x", backend), backend)
        trailing_shape(images, self.model.psi.fine_shape, "x", "the fine grid")
        flat = images.reshape(-1, *self.model.psi.fine_shape)
        y = x.new_empty((len(flat), *self.model.psi.shape))
        with on_torch_stream(backend):
            for n, image in enumerate(flat):
                y[n] = to_tensor(self._mean(image, n * self.frames, step))
        self.calls += 1
        return y.reshape(*x.shape[:-2], *self.model.psi.shape)

    def _mean(self, x: Array, first: int, step: int) -> Array:
        """The mean of the frames with these numbers, less the background."""
        model, total = self.model, 0.0
        for start in range(0, self.frames, CHUNK):
            size = min(CHUNK, self.frames - start)
            frames = model.sample(x, self.background, size, self.seed, first_frame=first + start, step=step)
            total = total + frames.sum(axis=0, dtype="float64")
        return total / self.frames - model.gain * (self.background + model.epsilon)


class SparseEdges(Prior):
    r"""The penalty :math:`\lambda_1 \sum_i z_i + \lambda_3 \sum_c |(\nabla z)_c|` over :math:`z \ge 0` of each image.

    Parameters
    ----------
    sparsity, total_variation : float
        The two weights, 0 or more; deepinv's own regularisation parameter multiplies both.
    tolerance : float
        Of the proximal operator, relative to the image.
    sweeps : int
        Most sweeps of its dual.

    Raises
    ------
    TypeError, ValueError
        If a number is not one, or is out of its range.
    RuntimeError
        If it is called on a tensor that requires a gradient: it has none.

    Examples
    --------
    >>> import torch
    >>> from fluogan_core.interop.deepinv import SparseEdges
    >>> edges = SparseEdges(total_variation=1.0)
    >>> edges.prox(torch.tensor([0.0, 0.0, 4.0, 4.0]).repeat(1, 1, 2, 1), gamma=1.0)[0, 0].round(decimals=3)
    tensor([[0.5000, 0.5000, 3.5000, 3.5000],
            [0.5000, 0.5000, 3.5000, 3.5000]])
    """

    def __init__(
        self, *, sparsity: float = 0.0, total_variation: float = 0.0, tolerance: float = 1e-5, sweeps: int = 1000
    ) -> None:
        super().__init__()
        self.explicit_prior = True
        self.penalty = Penalty(sparsity, total_variation, tolerance, sweeps)

    def fn(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return the penalty of each image of (B, C, N1, N2), (B,)."""
        images = _array(x)
        if images.ndim != 4:
            raise ValueError(f"x must be (B, C, N1, N2), got shape {tuple(x.shape)}; add axes for one image: x[None, None]")
        return x.new_tensor([sum(self.penalty.value(image) for image in channels) for channels in images])

    def prox(self, x: torch.Tensor, *args: Any, gamma: float = 1.0, **kwargs: Any) -> torch.Tensor:
        r"""Return :math:`\arg\min_{u \ge 0} \|u - x\|^2 / 2\gamma` plus the penalty, for each image."""
        return to_tensor(self.penalty.prox(_array(x), float(gamma)))


def _array(x: torch.Tensor) -> Array:
    """The memory of a tensor that nobody differentiates, as an array."""
    if x.requires_grad and torch.is_grad_enabled():
        raise RuntimeError("this prior has no gradient: call it under torch.no_grad(), or on x.detach()")
    home = backend_on(home_of(x))
    return to_array(floating(x, "x", home), home)
