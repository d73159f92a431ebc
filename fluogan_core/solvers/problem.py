"""What is to be solved: the frames of one field with everything that was measured of them, immutable."""

from __future__ import annotations

import dataclasses
import logging
import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..backend.arrays import backend_of
from ..backend.typing import Array, State
from ..calibration.bad_pixels import without_bad_pixels
from ..calibration.calibrate import Calibration, calibrate
from ..calibration.camera import Camera
from ..calibration.noise import StackNoise, stack_noise
from ..calibration.row_shift import RowShift, filled_and_straightened, given_row_shift, row_shift_from
from ..physics.bleaching import without_bleaching, without_trend
from ..physics.forward import ForwardModel
from ..physics.psi import Psi
from ..physics.requirements import OperatorLike, usable
from ..physics.value import read_only
from ..stack import Stack, StackLike, frames_of, stack_of_field

__all__ = ["Problem", "operator_given", "without_frames"]

log = logging.getLogger("fluogan_core")


@dataclass(frozen=True, eq=False)
class Problem:
    """The frames of one field, ready to be fitted: checked, above the offset, bad pixels filled, noise measured.

    Solver and sweep consume it; so can a driver of tiles.  Make one by :meth:`of`.  Where a calibration names frames that stand
    apart, they are left out.  Arrays on the host are read-only.

    Attributes
    ----------
    psi : Psi
        Photons per emission included; its backend holds the arrays.
    camera : Camera
    counts : (T, M1, M2) float32
        Counts above the offset.  Bad pixels stand still at what the other pixels let expect.  Odd and even rows are moved back
        where a bidirectional scan has shifted them.
    mean : (M1, M2) float32
        The mean frame, photons.
    noise : StackNoise
        Of the counts.
    bad_pixels : (M1, M2) bool, on the host
        Left out of all fits.
    corner : (row, column)
        Where the field's first camera pixel lies in the recording: its ``roi``, or where it follows a drift.
    fingerprint : str
        Shape and checksum of the recorded counts: a checkpoint is continued with the same ones only.
    trend : (T, r) float32 on the host, or None
        Of bleaching (:func:`fluogan_core.physics.bleaching.trend_of`), of a field that this is a part of; of these counts if
        None.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> stack = np.random.default_rng(0).poisson(50.0, (20, 16, 16)) + 100
    >>> psi = fg.Psi(fg.gaussian_psf(250, 100, 2), (16, 16), 2, backend="numpy")
    >>> problem = fg.Problem.of(stack, psi=psi, camera=fg.Camera(offset=100.0))
    >>> problem.counts.shape, bool(problem.bad_pixels.any())
    ((20, 16, 16), False)
    """

    psi: Psi
    camera: Camera
    counts: Array
    mean: Array
    noise: StackNoise
    bad_pixels: np.ndarray
    fingerprint: str
    corner: tuple[int, int] = (0, 0)
    trend: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("counts", "mean", "bad_pixels"):
            array = getattr(self, name)
            if isinstance(array, np.ndarray):  # a view: the caller's own array stays as it is
                object.__setattr__(self, name, read_only(array.view()))

    @classmethod
    def of(
        cls,
        stack: StackLike,
        *,
        psi: OperatorLike | None = None,
        camera: Camera | None = None,
        calibration: Calibration | None = None,
        psf_width: float | None = None,
        row_shift: float | RowShift | None = None,
    ) -> Problem:
        """Return the problem that a stack poses.

        Parameters
        ----------
        stack : (T, M1, M2) array or Stack
            Recorded frames, counts.
        psi : Psi
            The operator.  Without ``camera`` everything is measured by :func:`fluogan_core.calibrate`: the camera, the width of
            the PSF and the photons per emission, which correct psi.
        camera : Camera, optional
            With it psi is taken as it is; only noise, bad pixels and a shift of rows are measured.
        calibration : Calibration, optional
            Of this stack, in place of psi and camera: nothing is measured.
        psf_width : float, optional
            Width of the PSF relative to psi's, where it is not to be measured.
        row_shift : float or RowShift, optional
            From even rows to odd ones, as for :func:`fluogan_core.calibrate`, where it is not to be measured.

        Returns
        -------
        Problem

        Raises
        ------
        ValueError
            If the stack is not (T, M1, M2) with psi's field, has fewer than two frames, holds NaN, does not change, or is
            nowhere brighter than the offset.
        TypeError
            If it holds neither integers nor floats, or is a masked array; if neither psi nor a calibration is given, or both.
        """
        described = operator_given(psi, camera, calibration)
        frames = frames_of(stack)
        stack_of_field(frames, described.shape)
        if camera is not None and not isinstance(camera, Camera):
            raise TypeError(f"camera must be a fluogan_core.Camera, got {type(camera).__name__}")
        if camera is None:
            if calibration is None:
                calibration = calibrate(stack, described, psf_width=psf_width, row_shift=row_shift)
                for remark in calibration.remarks:
                    log.info("%s", remark)
            described, camera = calibration.psi, calibration.camera
            frames = without_frames(frames, calibration.left_out)
        backend = described.backend
        counts = backend.asarray(frames, dtype=np.float32) - np.float32(camera.offset)
        fingerprint = f"{tuple(frames.shape)} crc32 {zlib.crc32(backend.to_host(counts).tobytes()):08x}"
        roi = stack.roi if isinstance(stack, Stack) else None
        corner = (0, 0) if roi is None else (int(roi[0]), int(roi[1]))
        noise: StackNoise | None = None
        shifted: RowShift | None
        if calibration is None:
            counts, bad = without_bad_pixels(counts, described.nominal)
            mean = backend.to_host(counts.mean(axis=0, dtype=np.float64))
            values = mean[bad]
            shifted = _shift_of(counts, mean, described, row_shift)
        else:
            bad, values, noise = calibration.bad_pixels, calibration.bad_pixel_values, calibration.noise
            shifted = calibration.row_shift
        counts = filled_and_straightened(counts, bad, values, described, shifted)
        if shifted is not None and shifted.applied:
            fingerprint += f", {('rows', 'columns')[shifted.axis]} moved back by {shifted.applied:.6g}"
        return cls._measured(described, camera, counts, bad, fingerprint, corner, noise)

    @classmethod
    def _measured(
        cls,
        psi: Psi,
        camera: Camera,
        counts: Array,
        bad: np.ndarray,
        fingerprint: str,
        corner: tuple[int, int],
        noise: StackNoise | None = None,
    ) -> Problem:
        mean = (counts.mean(axis=0, dtype=np.float64) / camera.gain).astype(np.float32)
        if float(mean.max()) <= 0:
            raise ValueError(
                f"no pixel is brighter than the camera's offset of {camera.offset:g} counts on average: the offset is too high"
            )
        noise = stack_noise(counts, psi.nominal) if noise is None else noise
        if noise.unexplained > 1:
            log.info(
                "the mean frame is %.1f times noisier than its fluctuations explain (pixels or rows of unequal gain or "
                "offset): edges weigh more and the mean weighs less",
                noise.excess,
            )
        return cls(psi, camera, counts, mean, noise, bad, fingerprint, corner)

    @cached_property
    def model(self) -> ForwardModel:
        """Eq. (1) with this psi and camera."""
        return ForwardModel(self.psi, gain=self.camera.gain, noise_std=self.camera.noise_std)

    @cached_property
    def steady(self) -> Array:
        """The counts without the trend of bleaching, (T, M1, M2) float32: what mean and covariance of eq. (1) describe.

        The counts themselves where the light does not fall clearly.
        """
        if self.trend is not None:
            return without_trend(self.counts, self.trend, self.psi.backend)
        return without_bleaching(self.counts, self.psi.backend)

    @property
    def noise_of_mean(self) -> float:
        """Noise of the mean frame, standard deviation, photons."""
        return self.noise.of_mean / self.camera.gain

    def subset(self, numbers: np.ndarray, *, psi: Psi | None = None) -> Problem:
        """Return the problem that some of the frames pose, with noise of their own and the same bad pixels.

        Parameters
        ----------
        numbers : (n,) int
            Of the frames.
        psi : Psi, optional
            Another operator of the same field.

        Returns
        -------
        Problem
        """
        chosen = self.counts[self.psi.backend.xp.asarray(numbers)]
        name = f"{self.fingerprint}, {len(numbers)} frames crc32 {zlib.crc32(np.asarray(numbers).tobytes()):08x}"
        return self._measured(self.psi if psi is None else psi, self.camera, chosen, self.bad_pixels, name, self.corner)

    def identity(self) -> State:
        """Return what a checkpoint must agree on: frames, operator and camera, in words and checksums.

        Returns
        -------
        dict
        """
        return {
            "fingerprint": self.fingerprint,
            "psi": f"{self.psi!r} {self.psi.fingerprint}",
            "camera": dataclasses.asdict(self.camera),
        }


def _shift_of(counts: Array, mean: np.ndarray, psi: Psi, given: float | RowShift | None) -> RowShift:
    """Between odd and even rows: as given, else measured on frames without bad pixels."""
    if given is not None:
        return given_row_shift(given)
    step = counts[1:] - counts[:-1]
    noise = 0.5 * psi.backend.to_host((step * step).mean(axis=0, dtype=np.float64)) / len(counts)
    found = row_shift_from(mean, noise, psi.nominal)
    if found.note:
        log.info("%s", found.note)
    return found


def operator_given(psi: OperatorLike | None, camera: Camera | None, calibration: Calibration | None) -> Psi:
    """Return the operator that is given, alone or in a calibration; raise TypeError where neither is, or both are."""
    if calibration is not None:
        if psi is not None or camera is not None:
            raise TypeError("a calibration holds psi and camera already: leave psi= and camera= out, or the calibration")
        return calibration.psi
    if psi is None:
        raise TypeError("psi= is needed, the operator, or calibration=, the outcome of fluogan_core.calibrate(stack, psi)")
    return usable(psi, "mean fit")


def without_frames(frames: Array, numbers: tuple[int, ...]) -> Array:
    """Return the frames (T, M1, M2), of any device, without those of these numbers."""
    if not numbers:
        return frames
    kept = np.setdiff1d(np.arange(len(frames)), numbers)
    return frames[kept if isinstance(frames, np.ndarray) else backend_of(frames=frames).xp.asarray(kept)]
