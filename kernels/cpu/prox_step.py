"""One pass for the proximal step of an image: step, threshold, non-negativity, and the sums that a stopping rule needs.

One thread: the pass waits for memory, and starting a second thread takes longer than a 512 x 512 image.
"""

from __future__ import annotations

import numpy as np

from ._compile import given, kernel

__all__ = ["prox_step"]


# Additions may be regrouped, so that the sums vectorise; nothing else here could be regrouped.
@kernel(fastmath={"reassoc"})
def _step(x, grad, step, threshold, out):  # type: ignore[no-untyped-def]
    change, size, total = 0.0, 0.0, 0.0
    zero = x.dtype.type(0)
    for i in range(x.size):
        old = x[i]
        new = max(old - step * (grad[i] + threshold), zero)
        out[i] = new
        moved, value = np.float64(new - old), np.float64(new)
        change += moved * moved
        size += value * value
        total += value
    return change, size, total


def prox_step(x: np.ndarray, grad: np.ndarray, step: float, threshold: float, out: np.ndarray) -> tuple[float, float, float]:
    """Write ``max(x - step * (grad + threshold), 0)``, in the dtype of x.

    Parameters
    ----------
    x, grad : (...) float32 or float64, C-contiguous, of one shape and dtype
        The image and the gradient of the smooth part.
    step, threshold : float
        Step size and weight of the l1 term.
    out : array like x
        Receives the new image; may be x itself.

    Returns
    -------
    change_sq, size_sq, total : float
        ||new - old||**2, ||new||**2 and the sum of the new image, added in float64.
    """
    if x.dtype not in (np.float32, np.float64):
        raise ValueError(f"x must be float32 or float64, got {x.dtype}")
    for array, name in ((x, "x"), (grad, "grad"), (out, "out")):
        if array.dtype != x.dtype or array.shape != x.shape or not array.flags.c_contiguous:
            raise ValueError(
                f"{name} must be a C-contiguous {x.dtype} array of shape {x.shape}, "
                f"got {array.dtype}, shape {array.shape}, strides {array.strides}"
            )
    # over shared memory the loop would not vectorise, and would add in another order: cheaper to copy what is overwritten
    old, slope = (array.copy() if np.may_share_memory(array, out) else array for array in (x, grad))
    scalar = x.dtype.type
    return _step(given(old).reshape(-1), given(slope).reshape(-1), scalar(step), scalar(threshold), out.reshape(-1))
