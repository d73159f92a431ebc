"""A recording: its frames, how large a pixel is, and what was taken of the file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from .backend.arrays import backend_of, device_of
from .backend.kinds import as_array
from .backend.typing import Array, ArrayLike

__all__ = ["Stack", "StackLike", "UnreadableStack", "finite_stack", "frames_of", "recorded_stack", "stack_of_field"]


def finite_stack(frames: Array, name: str = "stack", *, low_frames: int = 2) -> None:
    """Raise unless ``frames`` is a real, finite (frames, rows, columns) array with enough frames."""
    if isinstance(frames, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array, and masks are not looked at: fill it, or cut out what is masked")
    if not hasattr(frames, "ndim"):
        raise TypeError(f"{name} must be an array (frames, rows, columns), got {type(frames).__name__}")
    if frames.ndim != 3:
        raise ValueError(f"{name} must be (frames, rows, columns), got shape {tuple(frames.shape)}")
    if frames.shape[0] < low_frames:
        raise ValueError(
            f"{name} must have at least {low_frames} frames, got {frames.shape[0]}: fluctuations are read from changes "
            "between frames"
        )
    if frames.dtype.kind not in "iuf":
        raise TypeError(f"{name} must hold integers or floats, got dtype {frames.dtype}")
    if frames.dtype.kind == "f":
        # of a device's arrays too: NaN and infinity times 0 are NaN, nothing else is
        bad = int((~np.isfinite(frames)).sum()) if isinstance(frames, np.ndarray) else int((frames * 0 != 0).sum())
        if bad:
            raise ValueError(f"{name} holds {bad} values that are NaN or infinite; replace them or cut them out first")


def frames_of(stack: StackLike) -> Array:
    """The frames of a stack, or an array of them of any kind, as an array of NumPy or CuPy."""
    frames: Any = getattr(stack, "frames", stack)
    if isinstance(frames, str | os.PathLike):
        raise TypeError(
            f"stack must be an array of frames, got a path; read it first: fluogan_core.read_stack({str(frames)!r})"
        )
    if device_of(frames) is None:
        frames = as_array(frames, "stack")
    return frames if device_of(frames) is not None else np.asanyarray(frames)


def stack_of_field(frames: Array, shape: tuple[int, int]) -> None:
    """Raise unless ``frames`` is a finite stack of at least two frames of psi's field."""
    finite_stack(frames)
    if tuple(frames.shape[1:]) != tuple(shape):
        raise ValueError(
            f"the stack's frames are {frames.shape[1]} x {frames.shape[2]} pixels but psi's field is {shape[0]} x {shape[1]}; "
            "build psi for the shape of the frames, or cut both alike"
        )


def recorded_stack(stack: StackLike, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Return the frames of a stack, or an array of them on any device, on the host; of psi's field if its shape is given."""
    frames = frames_of(stack)
    if not isinstance(frames, np.ndarray):
        frames = backend_of(stack=frames).to_host(frames)
    if shape is None:
        finite_stack(frames)
    else:
        stack_of_field(frames, shape)
    return frames


class UnreadableStack(ValueError):
    """A file that holds no stack that can be read: no image file, a damaged one, or one that is no single time series."""


@dataclass
class Stack:
    """A recorded stack and what its file says of it.

    Attributes
    ----------
    frames : (T, M1, M2) ndarray
        Camera counts, in the file's dtype and native byte order; a copy in memory.
    pixel_size_nm : float or None
        Camera pixel in the object plane, nm; None where the file does not say, or says something no microscope has.
    frame_interval_s : float or None
        Time from one frame to the next, seconds.
    path : Path or None
        The file.
    roi : (top, left, rows, columns) or None
        The region that was read, camera pixels; None for the whole field.
    taken : range or None
        Numbers of the frames that were read, counted from 0 in the file.
    notes : tuple of str
        What a user should know of how the file was read: parts joined, frames that its header promises and that are not there.
    left_out : tuple of int
        Of these, the frames that were left out afterwards because they stand apart (empty, dark, saturated, ...).

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> stack = fg.Stack(np.zeros((20, 16, 16), np.uint16), pixel_size_nm=100.0)
    >>> stack.frames.shape, stack.notes
    ((20, 16, 16), ())
    """

    frames: np.ndarray
    pixel_size_nm: float | None = None
    frame_interval_s: float | None = None
    path: Path | None = None
    roi: tuple[int, int, int, int] | None = None
    taken: range | None = None
    notes: tuple[str, ...] = ()
    left_out: tuple[int, ...] = ()

    @property
    def numbers(self) -> np.ndarray:
        """Numbers of the frames in the file, (T,) integers, counted from 0."""
        count = len(self.frames) + len(self.left_out)
        return np.setdiff1d(np.array(range(count) if self.taken is None else self.taken), self.left_out)


#: A stack, or an array of frames (T, M1, M2), counts, on the host or on a device.
StackLike: TypeAlias = "Stack | ArrayLike"
