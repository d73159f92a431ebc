"""What several estimates need of one stack, each part computed once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from ..stack import StackLike, recorded_stack
from ..tuning import DEFAULT
from ..tuning.calibration import CalibrationTuning
from .bleaching import Bleaching, bleaching_of
from .high_pass import filtered_variances
from .in_turn import InTurn, frames_in_turn
from .noise import check_largest, check_resolved
from .odd_frames import find_odd_frames
from .pixel_moments import PixelMoments, Shift, live_pixels, pixel_moments
from .thirds import ThirdsShift, shift_of_thirds
from .unlit import share_at_lowest, unlit_pixels

__all__ = ["StackStatistics"]


class StackStatistics:
    """The frames of a stack on the host, with their pixel moments and live pixels, computed on first use and kept.

    The width of the PSF and the camera are estimated from the same covariances; the second estimate finds them computed.

    Parameters
    ----------
    stack : (T, M1, M2) array, integers or floats, or Stack
        Raw counts, on any device.
    shape : (M1, M2), optional
        The field that the frames must have.
    tuning : CalibrationTuning, optional
        Numbers by trial.

    Raises
    ------
    ValueError, TypeError
        As for :func:`fluogan_core.stack.recorded_stack`, and if it holds counts too large for their variance to be held, or for
        float32 to hold how much they vary.
    """

    def __init__(
        self, stack: StackLike, shape: tuple[int, int] | None = None, tuning: CalibrationTuning = DEFAULT.calibration
    ) -> None:
        frames = recorded_stack(stack, shape)
        if frames.dtype.kind == "f":
            check_largest(max(float(frames.max()), -float(frames.min())), tuning.noise)
        check_resolved(frames, tuning.noise)
        odd = find_odd_frames(frames, tuning.odd_frames)
        #: Numbers of the frames that stand apart.
        self.left_out: tuple[int, ...] = odd.numbers
        #: The frames, less those that stand apart: one jump to such a frame and back is larger than all noise.
        self.frames: np.ndarray = np.delete(frames, odd.numbers, axis=0) if odd.numbers else frames
        self.notes: tuple[str, ...] = ()
        if odd.numbers:
            self.notes = (f"frames left out because they differ from all others: {odd.sentence()}",)
        self._moments: PixelMoments | None = None
        self._filtered: dict[int, np.ndarray] = {}
        self._tuning = tuning.live_pixels
        self._drift_tuning = tuning.drift
        self._in_turn_tuning = tuning.in_turn

    def moments(self, shifts: Sequence[Shift] = ()) -> PixelMoments:
        """Return mean, variance and the covariances at these shifts (and at all that were asked for before)."""
        if self._moments is None:
            self._moments = pixel_moments(self.frames, list(shifts))
            return self._moments
        missing = [shift for shift in dict.fromkeys(shifts) if shift not in self._moments.whole]
        if missing:
            further = pixel_moments(self.frames, missing)
            for known, new in ((self._moments, further), (self._moments.halves, further.halves)):
                known.fast.update(new.fast)
                known.whole.update(new.whole)
        return self._moments

    def filtered(self, orders: tuple[int, ...]) -> dict[int, np.ndarray]:
        """Return the variances behind the high-pass filters of these orders, by order."""
        if not set(orders) <= self._filtered.keys():
            self._filtered = filtered_variances(self.frames, orders)
        return self._filtered

    @cached_property
    def unlit(self) -> np.ndarray:
        """The pixels that never change because hardly any photon comes there, (M1, M2) bool."""
        return unlit_pixels(self.moments().variance, share_at_lowest(self.frames), len(self.frames), self._tuning)

    @cached_property
    def live(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """The pixels that can be trusted, (M1, M2) bool, and remarks on the others.

        Raises
        ------
        ValueError
            If fewer than 16 are left.
        """
        moments = self.moments()
        live, notes = live_pixels(self.frames, moments.mean, moments.variance, self.unlit, self._tuning)
        return live, tuple(notes)

    @cached_property
    def bleaching(self) -> Bleaching:
        """Light of the frames over time."""
        return bleaching_of(self.frames, self.left_out)

    @cached_property
    def in_turn(self) -> InTurn:
        """Whether frames of several kinds take turns."""
        return frames_in_turn(self.frames, self._in_turn_tuning)

    @cached_property
    def drift(self) -> ThirdsShift:
        """How far the sample moved from the first to the last third of the frames."""
        return shift_of_thirds(self.frames, self.moments().variance, self.live[0], self._drift_tuning)
