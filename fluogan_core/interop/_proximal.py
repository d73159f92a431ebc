"""The library's prior as a penalty without memory, for hosts that call it on any image in any order."""

from __future__ import annotations

import numpy as np

from ..backend.arrays import Backend, backend_of
from ..backend.checks import floating_dtype, real_number, whole_number
from ..backend.typing import Array
from ..objective.prox import prox_nonnegative, prox_total_variation, total_variation

__all__ = ["Penalty"]

#: Sweeps of the dual between two looks at how much the image still changes.
SWEEPS = 25


class Penalty:
    r"""The penalty :math:`\lambda_1 \sum_i z_i + \lambda_3 \sum_c |(\nabla z)_c|` over :math:`z \ge 0`.

    What :meth:`prox` returns depends on its arguments alone: the dual starts at 0 and is swept until the image settles.

    Parameters
    ----------
    sparsity, total_variation : float
        The two weights, 0 or more; either may be 0.
    tolerance : float
        The sweeps end where 25 of them change the image by less than this, relative to the image that is given.
    sweeps : int
        They end at this number all the same.
    """

    def __init__(self, sparsity: float, total_variation: float, tolerance: float, sweeps: int) -> None:
        self.sparsity = real_number(sparsity, "sparsity", low=0)
        self.total_variation = real_number(total_variation, "total_variation", low=0)
        self.tolerance = real_number(tolerance, "tolerance", low=0, open_low=True)
        self.sweeps = whole_number(sweeps, "sweeps", low=1)

    def value(self, z: Array) -> float:
        """Return the penalty of an image (N1, N2); the bound is not part of it."""
        edges = self.total_variation * total_variation(z) if self.total_variation else 0.0
        return self.sparsity * float(abs(z).sum(dtype=np.float64)) + edges

    def prox(self, v: Array, step: float) -> Array:
        r"""Return :math:`\arg\min_{u \ge 0} \|u - v\|^2 / 2\tau + \mathrm{value}(u)` for each image of (..., N1, N2)."""
        backend, dtype = backend_of(v=v), floating_dtype(v, "v")
        step = real_number(step, "step", low=0, open_low=True)
        flat = v.astype(dtype, copy=False).reshape(-1, *v.shape[-2:])
        new = backend.xp.empty_like(flat)
        for n, image in enumerate(flat):
            new[n] = self._prox(image - dtype.type(step * self.sparsity), step, backend)
        return new.reshape(v.shape)

    def _prox(self, image: Array, step: float, backend: Backend) -> Array:
        if not self.total_variation:
            return prox_nonnegative(image)
        xp, dual = backend.xp, backend.xp.zeros((4, *image.shape), dtype=image.dtype)
        new, enough = image, self.tolerance * float(xp.linalg.norm(image.ravel()))
        for done in range(0, self.sweeps, SWEEPS):
            sweeps = min(SWEEPS, self.sweeps - done)
            last, new = new, prox_total_variation(image, step * self.total_variation, dual=dual, sweeps=sweeps)
            if float(xp.linalg.norm((new - last).ravel())) <= enough:
                break
        return new
