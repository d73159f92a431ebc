"""The types of public signatures: arrays, what can be made one, and critics.

``Array`` is an array that lives on one backend and is never copied silently: ``numpy.ndarray`` or ``cupy.ndarray``.
``ArrayLike`` is what a function copies to the host as a NumPy array: the same, or nested sequences of numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import cupy
    import torch

__all__ = ["Array", "ArrayLike", "CriticLike", "DTypeLike", "State"]

#: An array of NumPy (on the host) or CuPy (on a CUDA device).
Array: TypeAlias = "np.ndarray | cupy.ndarray"
#: Something that becomes a NumPy array on the host.
ArrayLike: TypeAlias = "npt.ArrayLike | cupy.ndarray"
#: Something that names a NumPy dtype.
DTypeLike: TypeAlias = npt.DTypeLike
#: What a checkpoint holds of a part of a fit: numbers, words and arrays by name, or lists and dicts of them.
State: TypeAlias = dict[str, Any]


class CriticLike(Protocol):
    """A critic: any callable that scores frames one by one.

    The score of a frame must not depend on the other frames of the batch.  :class:`fluogan_core.Critic` is one; so is any
    ``torch.nn.Module`` with this signature, in eval mode.
    """

    def __call__(self, frames: torch.Tensor, /) -> torch.Tensor:
        """Return the scores, (S,), of ``frames``, (S, M1, M2)."""
        ...
