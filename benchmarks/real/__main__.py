"""Reconstruct the recorded stacks and render their tables: ``python -m benchmarks.real [--data DIR]``."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import fluogan_core as fg

from .._harness import Options, Report
from .._study import FEW_STEPS, places, publish, study_switches
from ..paper._methods import left_out, peer_versions
from ._compare import COLUMNS, Found, compare
from ._picture import draw
from ._stacks import FACTOR, STACKS, Region, load, synthetic

ROOT = Path(__file__).parents[2]
#: Beside the checkout, as for the tests: the project does not redistribute the stacks.
DATA = ROOT.parent / "shared" / "data" / "real"


def regions(options: Options, folder: Path) -> list[Region]:
    """The stacks that are there; a line on standard error for each that is missing."""
    if options.quick:
        return [synthetic()]
    found = []
    for source in STACKS:
        if (folder / source.file).is_file():
            found.append(load(source, folder))
        else:
            print(f"left out: {source.name}, there is no {source.file} in {folder} (--data says where)", file=sys.stderr)
    return found


def run(options: Options, parts: Sequence[Region], pictures: Path | None) -> Report:
    """A table per stack, then what each stack is."""
    chosen = options.pick(fg.SolverOptions(), FEW_STEPS)
    report = Report("real", options)
    found: list[Found] = []
    for region in parts:
        started = time.perf_counter()
        found.append(compare(region, chosen))
        print(f"{region.source.name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
        add_judged(report, found[-1])
    add_stacks(report, found, left_out())
    if pictures is not None:
        draw(pictures, found)
    return report


def add_judged(report: Report, found: Found) -> None:
    """What was measured of every method on one stack."""
    rows = []
    for one in found.judged:
        density = "" if one.log_density is None else f"{one.log_density:.4f}"  # the differences are in the last digits
        repeats = one.reason if one.resolution_nm is None else f"{one.resolution_nm:.0f} nm"
        rows.append([one.method, repeats, density, one.rsp, one.rse, one.seconds])
    frames = len(found.region.frames)
    report.table(
        f"{found.region.source.name[0].upper()}{found.region.source.name[1:]}",
        ["", "odd and even frames agree down to", "log density, unseen frames", "RSP", "RSE, photons", "s"],
        rows,
        f"Agreement and density: of {frames - frames // 2} and {frames // 2} frames; RSP, RSE and seconds: of all. "
        f"{found.stop_reason[0].upper()}{found.stop_reason[1:]}.",
    )


def _beside(found: fg.PSFWidth) -> str:
    """The PSF's width beside the stated one, in a cell."""
    if math.isnan(found.measured):
        return ""
    return f"{found.measured:.2f} ± {found.error:.1g}{', taken' if found.width != 1 else ''}"


def add_stacks(report: Report, found: Sequence[Found], missing: dict[str, str]) -> None:
    """What each stack is, and what was estimated of its camera."""
    rows = []
    for one in found:
        region, camera = one.region, one.estimate.camera
        rows.append(
            [
                region.source.name,
                f"{len(region.frames)} × {region.field[0]} × {region.field[1]}",
                f"{region.frames.shape[1]} × {region.frames.shape[2]} at {region.corner[0]}, {region.corner[1]}",
                region.margin,
                f"{region.source.fwhm_nm:.0f} nm",
                _beside(one.psf_width),
                region.source.assumed or "nothing",
                f"{camera.gain:.3g} ± {one.estimate.gain_error:.1g}",
                f"{camera.offset:.3g} ± {one.estimate.offset_error:.1g}",
                f"{one.estimate.photons_per_emitter:.2g} ± {one.estimate.photons_per_emitter_error:.1g}",
                float((region.frames.mean(axis=0).max() - camera.offset) / camera.gain),
                one.excess,
            ]
        )
    report.table(
        "The stacks",
        [
            "",
            "frames × rows × columns",
            "fitted part",
            "margin, pixels",
            "PSF, FWHM",
            "width by covariances",
            "assumed",
            "gain, counts per photon",
            "offset, counts",
            "photons per emission",
            "brightest pixel, photons",
            "noise excess",
        ],
        rows,
        "Fitted: the part whose inside varies most, its upper left corner after it; the margin is fitted but not shown or "
        f"judged. PSF: a Gaussian of 0.51 λ/NA; width by covariances: relative to "
        f"it, and taken only where it says so. {FACTOR} × {FACTOR} fine pixels per camera pixel. Camera and photons per "
        "emission: estimated, with standard errors. Noise excess: noise of the mean frame at frequencies that no light "
        "reaches, over what fluctuations explain; 1 also where the PSF passes light up to the pixels' limit."
        + peer_versions([name for name in COLUMNS if name not in missing])
        + "".join(f" Left out: {name} ({reason})." for name, reason in missing.items() if name in COLUMNS),
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = study_switches("benchmarks.real", "real")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the stacks (shared/data/real beside the checkout)")
    arguments = parser.parse_args(argv)
    results, docs = places(parser, arguments, "real")
    options = Options(arguments.quick, results)
    parts = regions(options, arguments.data)
    if not parts:
        print(f"none of the stacks is in {arguments.data}: nothing was measured, nothing was written", file=sys.stderr)
        return
    pictures = None if docs is None else docs / "images"
    publish(run(options, parts, pictures).document(), results, docs)


if __name__ == "__main__":
    main()
