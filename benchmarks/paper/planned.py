"""What :func:`fluogan_core.plan` promises for each condition, beside what the methods of ``paper.json`` resolve.

``python -m benchmarks.paper.planned``
"""

from __future__ import annotations

import inspect
import json

import fluogan_core as fg

from .._harness import RESULTS, Options, Report
from .._study import alone
from ._scenes import BACKGROUND, CONDITIONS, FWHM_NM, GAIN, PEAK, READ_NOISE, ROI, Condition
from .evidence import photons_per_emission

__all__ = ["run"]

_METHODS = ("mean fit", "full method")


def independent(condition: Condition, frames: int) -> float:
    """How many of so many frames are independent: molecules that blink stay on from one into the next."""
    if condition.model != "blinking":
        return float(frames)
    blinking, frame_ms = fg.Blinking(), inspect.signature(fg.simulate_sofi).parameters["frame_ms"].default
    alike = sum(blinking.covariance(lag, frame_ms) for lag in range(1, 200)) / blinking.covariance(0, frame_ms)
    return frames / (1 + 2 * alike)


def run(options: Options) -> Report:
    """A row for each condition."""
    report = Report("planned", options)
    reached = _reached()
    low, high = ROI.pattern((180.0,)).span_nm
    rows = []
    for condition in options.pick(CONDITIONS, CONDITIONS[:1]):
        frames = round(independent(condition, ROI.frames))
        found = fg.plan(
            pixel_size_nm=ROI.pixel_size_nm,
            fwhm_nm=FWHM_NM,
            photons=PEAK * condition.light,
            background=BACKGROUND * condition.light,
            photons_per_emitter=photons_per_emission(condition),
            read_noise=READ_NOISE / GAIN,
            frames=frames,
            length_nm=high - low,
        )
        resolved = [reached.get((condition.name, method), "") for method in _METHODS]
        rows.append([condition.name, frames, found.mean_nm, found.both_nm, *resolved])
    report.table(
        f"Finest separation planned for {ROI.frames} frames, nm, and what the methods resolve",
        [
            "condition",
            "independent frames",
            "plan, mean",
            "plan, mean and covariance",
            *(f"{m} resolves down to" for m in _METHODS),
        ],
        rows,
        "The plan is a bound at 3 standard deviations: PSF, camera and photons per emission known. Frames of molecules that "
        "blink count as so many independent ones as their correlation leaves. The methods estimate all three, and count as "
        "resolving where 7 of 8 pairs are split and at most 1 of 8 bars is.",
    )
    return report


def _reached() -> dict[tuple[str, str], str]:
    """Condition and method: what the last run of the experiment resolved."""
    path = RESULTS / "paper.json"
    if not path.is_file():
        return {}
    tables = json.loads(path.read_text(encoding="utf-8"))["tables"]
    table = next(table for table in tables if "resolved down to" in table["columns"])
    at = table["columns"].index("resolved down to")
    return {(row[0], row[1]): row[at] for row in table["rows"]}


if __name__ == "__main__":
    alone("benchmarks.paper.planned", "planned", run)
