"""Drift in files: a table of frame, row shift and column shift."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np

from ..calibration.drift import Drift

__all__ = ["drift_facts", "drift_table", "read_drift"]


def read_drift(path: str | os.PathLike[str], numbers: np.ndarray) -> Drift:
    """Read where the sample lay in each frame from a table of frame, row shift, column shift (camera pixels).

    Parameters
    ----------
    path : path-like
        Text with commas; a line of titles may come first.  Frames are counted from 0 in the recording's file.  Those between
        two lines lie between the places of both.
    numbers : (T,) integer array
        Numbers of the frames whose places are wanted.

    Returns
    -------
    Drift

    Raises
    ------
    ValueError
        If the table does not hold three numbers in each line, in the order of the frames, or does not reach all frames.
    """
    rows: list[list[float]] = []
    with Path(path).open(newline="", encoding="utf-8-sig") as handle:
        for line, cells in enumerate(csv.reader(handle)):
            if not any(cell.strip() for cell in cells):
                continue
            try:
                values = [float(cell) for cell in cells]
            except ValueError:
                if not rows and line == 0:
                    continue
                values = []
            if len(values) != 3 or not np.isfinite(values).all():
                raise ValueError(
                    f"{path}, line {line + 1}: expected frame, row shift, column shift [camera pixels], got {','.join(cells)!r}"
                )
            rows.append(values)
    table = np.array(rows).reshape(-1, 3)
    if len(table) == 0 or (np.diff(table[:, 0]) <= 0).any():
        raise ValueError(f"{path} must hold at least one line of numbers, with frames in rising order")
    if table[0, 0] > numbers[0] or table[-1, 0] < numbers[-1]:
        raise ValueError(
            f"{path} holds frames {table[0, 0]:g} to {table[-1, 0]:g} but frames {numbers[0]} to {numbers[-1]} are "
            "reconstructed (counted from 0): add the missing ones, or choose frames with --frames"
        )
    shifts = np.stack([np.interp(numbers, table[:, 0], column) for column in table.T[1:]], axis=1)
    distance = float(np.ptp(shifts, axis=0).max())
    return Drift(shifts, distance, 0.0, clear=True, note=f"drift: {distance:.2f} pixels, as {os.fspath(path)} says")


def drift_table(drift: Drift, numbers: np.ndarray) -> str:
    """The table that :func:`read_drift` reads."""
    lines = [f"{number},{row:.4f},{column:.4f}" for number, (row, column) in zip(numbers, drift.shifts)]
    return "\n".join(["frame,row shift [camera pixels],column shift [camera pixels]", *lines, ""])


def drift_facts(drift: Drift) -> dict[str, object]:
    """A drift for the report: what was found, and what became of it."""
    rest = drift.shifts - np.rint(drift.shifts)
    return {
        "followed": drift.clear,
        "distance_pixels": drift.distance,
        "distance_error_pixels": drift.error,
        "jumps_before_frames": drift.jumps,
        "segments": drift.segments,
        "rest_in_psf_rms_pixels": np.sqrt((rest**2).mean(axis=0)),
        "note": drift.note,
    }
