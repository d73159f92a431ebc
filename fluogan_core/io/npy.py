"""``.npy`` files, of which only what is looked at is read."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np

from ..stack import UnreadableStack

__all__ = ["mapped_npy", "require_numbers"]


def mapped_npy(path: Path) -> np.ndarray:
    """Open a ``.npy`` file as an array that is read where it is looked at.

    Parameters
    ----------
    path : Path

    Returns
    -------
    ndarray

    Raises
    ------
    UnreadableStack
        (A ValueError.)  If it is no such file, or a damaged one.
    MemoryError
        If the system has no room for it.
    """
    try:
        return np.asarray(np.lib.format.open_memmap(path, mode="r"))
    except OSError as error:
        if error.errno == errno.ENOMEM:  # not the file's fault: a smaller piece may have room
            raise MemoryError(f"no memory to read {path}") from error
        raise
    except (ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise UnreadableStack(
            f"{path} is no .npy file of numbers, or a damaged one ({reason}); copy it again, or save the frames with numpy.save"
        ) from error


def require_numbers(dtype: np.dtype, path: Path) -> None:
    """Refuse what is neither integers nor real floats.

    Parameters
    ----------
    dtype : numpy.dtype
    path : Path
        Where the values are, for the message.

    Raises
    ------
    UnreadableStack
        (A ValueError.)
    """
    if dtype.kind not in "iuf":
        raise UnreadableStack(f"{path} holds values of type {dtype}; integers or real floats are needed")
