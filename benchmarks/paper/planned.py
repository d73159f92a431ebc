"""What :func:`fluogan_core.plan` promises for each condition, beside what the methods of ``paper.json`` resolve.

``python -m benchmarks.paper.planned``
"""

from __future__ import annotations

import json

import fluogan_core as fg

from .._harness import RESULTS, Options, Report
from .._study import alone
from ._scenes import BACKGROUND, CONDITIONS, FWHM_NM, GAIN, PEAK, READ_NOISE, ROI
from .evidence import photons_per_emission

__all__ = ["run"]

_METHODS = ("mean fit", "full method")


def run(options: Options) -> Report:
    """A row for each condition."""
    report = Report("planned", options)
    reached = _reached()
    low, high = ROI.pattern((180.0,)).span_nm
    rows = []
    for condition in options.pick(CONDITIONS, CONDITIONS[:1]):
        found = fg.plan(
            pixel_size_nm=ROI.pixel_size_nm,
            fwhm_nm=FWHM_NM,
            photons=PEAK * condition.light,
            background=BACKGROUND * condition.light,
            photons_per_emitter=photons_per_emission(condition),
            read_noise=READ_NOISE / GAIN,
            frames=ROI.frames,
            length_nm=high - low,
        )
        resolved = [reached.get((condition.name, method), "") for method in _METHODS]
        rows.append([condition.name, found.mean_nm, found.both_nm, *resolved])
    report.table(
        f"Finest separation planned for {ROI.frames} frames, nm, and what the methods resolve",
        ["condition", "plan, mean", "plan, mean and covariance", *(f"{m} resolves down to" for m in _METHODS)],
        rows,
        "The plan is a bound at 3 standard deviations: PSF, camera and photons per emission known, frames independent. The "
        "methods estimate all three, and count as resolving where 7 of 8 pairs are split and at most 1 of 8 bars is.",
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
