"""The page of report: what came in, what was measured, what was found, how sure it is, what to check, what to do next.

The page is one HTML file without scripts.  Its pictures are inside it, and it loads nothing from anywhere.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..solvers.phase import Stop, StopReason
from .advice import advice_for
from .evidence_words import in_words
from .files import plain as strict
from .findings import Structure, brightest_structures, misfit_of_mean, plan_of, share_of_image
from .page_evidence import checks_on_page, gaps_on_page
from .page_pictures import data_address, page_pictures, picture_over_time
from .page_sections import all_numbers, measured, next_steps, remarks_of, to_check
from .page_style import STYLE, Facts, listed, number, paragraph, picture, section, table, with_error

if TYPE_CHECKING:
    from ..calibration.calibrate import Calibration
    from ..calibration.drift import Drift
    from ..metrics.evidence_map import Evidence
    from ..metrics.image_checks import ImageChecks
    from ..planning.plan import Plan
    from ..solvers.result import Result

__all__ = ["build_page"]

log = logging.getLogger("fluogan_core")

#: Above this many standard errors, rms, more than half of the squared misfit of the mean frame is not noise.
_POOR_FIT = math.sqrt(2)
#: Up to this many, at least three quarters of it are noise.
_GOOD_FIT = math.sqrt(4 / 3)
#: An image of less than this share of the light is called faint.
_FAINT = 0.05


def build_page(
    result: Result,
    report: Mapping[str, object],
    *,
    calibration: Calibration | None = None,
    drift: Drift | None = None,
    evidence: Evidence | None = None,
    checks: ImageChecks | None = None,
    pictures: bool | Mapping[str, object] = True,
) -> str:
    """Build the page of a result.

    Parameters
    ----------
    result : Result
        With images on the host.
    report : mapping
        Of the same result, from :func:`fluogan_core.io.report.build_report`.
    calibration : Calibration, optional
        Gives what the light of the recording can show, and how it fell.
    drift : Drift, optional
        How the sample moved.
    evidence : Evidence, optional
        What the frames say of the image's gaps.
    checks : ImageChecks, optional
        Maps of RSE, RSP and rolling FRC; what they say is in ``report``.
    pictures : bool or mapping
        Whether to draw pictures; a mapping holds options of :func:`fluogan_core.io.figures.figure`.

    Returns
    -------
    str
        HTML.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> from fluogan_core.io.report import build_report
    >>> psi = fg.Psi(fg.gaussian_psf(300, 100, 2), (16, 16), 2, backend="numpy")
    >>> stack = np.random.default_rng(0).poisson(100 + psi.forward(np.full(psi.fine_shape, 5.0)), (20, 16, 16))
    >>> options = fg.SolverOptions(method="none", warm_steps=2)
    >>> result = fg.reconstruct(stack, psi=psi, camera=fg.Camera(1.0, 90.0, 1.0), options=options)
    >>> page = build_page(result, build_report(result, stack=stack), pictures=False)
    >>> "What came in" in page, "http" in page
    (True, False)
    """
    facts: Facts = strict({name: value for name, value in report.items() if name != "history"})
    (facts.get("psf_shape") or {}).pop("psf", None)  # hundreds of numbers, which tell a reader nothing
    count = facts["input"]["frames"]
    pixel = facts["input"]["pixel_size_nm"]
    frames = None if count is None else count - (len(calibration.left_out) if calibration is not None else 0)
    # pixels of unequal gain or offset leave more in the mean of the frames than photons do
    grain = 1.0 if calibration is None else calibration.noise.unexplained
    rms, misfit, structures = math.nan, None, []
    if frames:
        rms, misfit = misfit_of_mean(result, frames)
        structures = brightest_structures(result, frames, grain)
    found, why_not = None, "the pixel size is not known" if pixel is None else "the page was made without the calibration"
    if calibration is not None and pixel is not None and frames:
        found, why_not = plan_of(calibration, result, pixel, frames)
    drawn, why_none = _pictures(result, misfit, evidence, checks, pixel, pictures)
    over_time = None
    if drawn:
        over_time = picture_over_time(None if calibration is None else calibration.bleaching, drift)
    name = Path(facts["input"]["path"]).name if facts["input"]["path"] else "Reconstruction"

    parts = [
        '<div class="pair">' + section("What came in", table((), list(_came_in(facts)), "The recording")),
        section("What was measured on the frames", measured(facts, grain)) + "</div>",
        *_over_time(over_time),
        section("What was found", _found(result, facts, structures, drawn, why_none)),
        section("How sure it is", _how_sure(result, facts, rms, grain, found, why_not, drawn)),
        section("What to check", to_check(facts)),
        section("What to do next", next_steps(facts)),
        section("All numbers", all_numbers(facts)),
    ]
    version = facts["versions"].get("fluogan_core", "")
    footer = (
        f"Made by fluogan_core {version}. report.json holds what was measured and all settings; x.tif and b.tif are the images."
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(name)}: report</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(name)}</h1>\n{paragraph(_summary(result, facts, rms, grain, found))}\n" + "\n".join(parts) + "\n</main>\n"
        f"<footer>{escape(footer)}</footer>\n"
        "</body>\n</html>\n"
    )


def _pictures(
    result: Result,
    misfit: np.ndarray | None,
    evidence: Evidence | None,
    checks: ImageChecks | None,
    pixel: float | None,
    wanted: bool | Mapping[str, object],
) -> tuple[dict[str, bytes], str]:
    """The pictures, and why there are none."""
    if wanted is False:
        return {}, "Pictures were not asked for (--no-figure)."
    try:
        options = {} if wanted is True else wanted
        return page_pictures(result, misfit, evidence, checks, pixel_size_nm=pixel, options=options), ""
    except ImportError:
        return {}, "There are no pictures: matplotlib is not installed (pip install 'fluogan-core[plot]')."
    except Exception as error:  # as for figure.png: a drawing costs no page
        log.warning("report.html is without pictures: they could not be drawn (%s: %s)", type(error).__name__, error)
        return {}, f"There are no pictures: they could not be drawn ({type(error).__name__})."


# -- the sections ------------------------------------------------------------------------------------------------------


def _summary(result: Result, facts: Facts, rms: float, grain: float, found: Plan | None) -> str:
    """Two or three sentences that say the most important."""
    words = [_method(result)[0]]
    if math.isfinite(rms):
        words.append(_poor(grain) if rms > _POOR_FIT * grain else _explained(rms, grain))
    limit = math.inf if found is None else found.both_nm if _last_phase(result) != "mean" else found.mean_nm
    if math.isfinite(limit):
        words.append(f"At best, this light shows two lines as two from {limit:.0f} nm on: do not trust finer detail.")
    share = share_of_image(result)
    if share < _FAINT:
        words.append(f"Only {number(100 * share, 2)} % of the light is in the image; the rest is background.")
    if facts.get("evidence") is not None:
        words.append(in_words(facts["evidence"]))
    count = sum(not advice_for(remark).fine for remark in remarks_of(facts))
    words.append(f"{count} thing{'' if count == 1 else 's'} to check below." if count else "There is nothing unusual to check.")
    return " ".join(words)


def _explained(rms: float, grain: float) -> str:
    words = f"It explains the mean of the frames {'' if rms <= _GOOD_FIT * grain else 'nearly '}to within {_noise(grain)}"
    return words + (
        "." if rms <= _GOOD_FIT * grain else f" ({number(rms, 2)} standard errors; {number(grain, 2)} are expected)."
    )


def _noise(grain: float) -> str:
    return "its noise" if grain <= 1 else "its noise, most of which is that of unequal camera pixels"


def _poor(grain: float) -> str:
    return (
        f"It does not explain the mean of the frames to within {_noise(grain)}: the blur, the camera or the pixel size is "
        "described wrongly, the sample moved, or the image is smoothed too much."
    )


def _came_in(facts: Facts) -> Iterator[tuple[str, str]]:
    of, pixel = facts["input"], facts["input"]["pixel_size_nm"]
    yield "File", of["path"] or "an array in memory"
    rows, columns = of["camera_pixels"]
    size = f"{rows} × {columns} camera pixels"
    if pixel is not None:
        size += f", {number(rows * pixel / 1000)} × {number(columns * pixel / 1000)} µm"
    yield "Field (rows × columns)", size
    if of["roi"]:
        yield "Its place in the file", "row {}, column {}".format(*of["roi"][:2])
    yield "Pixel size", "not known: lengths on this page are in pixels" if pixel is None else f"{number(pixel, 6)} nm"
    yield "Frames used", "not known" if of["frames"] is None else str(of["frames"])
    taken = of["frames_taken"]
    if taken:
        step = "" if taken["step"] == 1 else f", every {taken['step']}th"
        yield "Numbered in the file", f"{taken['start']} to {taken['stop'] - 1}{step}"
    left = of["frames_left_out"]
    why = next((note.split(": ", 1)[-1] for note in of["notes"] if note.startswith("frames left out")), "")
    yield "Frames left out", f"{len(left)}: {why or ', '.join(map(str, left))}" if left else "none"
    if of["frame_interval_s"] is not None:
        yield "Time from frame to frame", f"{number(1000 * of['frame_interval_s'])} ms"


def _over_time(drawn: bytes | None) -> list[str]:
    """How light and place of the sample changed, where they did."""
    if drawn is None:
        return []
    alt = "Curves over the frames: light of the sample where it bleaches, place of the sample where it moves."
    words = "What changed during the recording. The image is the mean over all frames."
    return [picture(data_address(drawn), alt, words)]


def _found(result: Result, facts: Facts, structures: Sequence[Structure], drawn: Mapping[str, bytes], why_none: str) -> str:
    pixel, parts = facts["input"]["pixel_size_nm"], []
    if drawn:
        scale = "" if pixel is None else " The bar shows the scale."
        parts.append(
            picture(
                data_address(drawn["images"]),
                "Left: the mean of the frames, blurred. Right: the reconstruction of the same field at the same scale, on "
                f"pixels {result.psi.factor} times finer.",
                f"The mean of the frames and the reconstruction, at one scale.{scale} Dashed lines: place of the profile.",
            )
        )
        parts.append(
            picture(
                data_address(drawn["profile"]),
                "Brightness along a line across the brightest part, of the mean of the frames and of the reconstruction, each "
                "as a share of its maximum.",
                "Profile between the dashed lines. Red: the reconstruction (x). Grey: the mean of the frames.",
            )
        )
    else:
        parts.append(paragraph(why_none))
    if structures:
        unit, size = ("pixels", 1.0) if pixel is None else ("µm", pixel / 1000)
        area = "pixels" if pixel is None else "µm²"
        rows = [
            (str(k), f"{number(s.row * size)}, {number(s.column * size)}", number(s.area * size**2, 2),
             with_error(s.light, s.error), f"{s.share:.0%}" if s.share >= 0.01 else "< 1%")
            for k, s in enumerate(structures, 1)
        ]  # fmt: skip
        head = ("", f"Down, right from the upper left corner ({unit})", f"Area ({area})", "Light (photons per frame)", "Share")
        parts.append(table(head, rows, "The structures with the most light"))
        parts.append(
            paragraph(
                "A structure is a connected region above a tenth of the brightest light. Those with less light than three "
                "errors are not listed. The errors hold for its shape and for frames that do not repeat each other. Where "
                "molecules stay on for several frames, the true errors are larger."
            )
        )
        parts.append(
            paragraph(f"The image holds {number(100 * share_of_image(result), 2)} % of the light; the rest is background.")
        )
    else:
        parts.append(paragraph("The light of single structures is not listed: none is clear, or the frames are not known."))
    return "".join(parts)


#: What the phases after the mean fit fit, in the words of the page, the last one first.
_AFTER_THE_MEAN = {
    "network": "the differences that a trained network sees",
    "likelihood": "all blinking of the frames",
    "covariance": "the blinking of the frames",
}


def _kept(stop: Stop) -> bool:
    """Whether the image is that of this phase."""
    return stop.steps > 0 and not stop.rejected and not stop.reason.given_up


def _last_phase(result: Result) -> str:
    """The phase that the image is of."""
    return next((name for name in _AFTER_THE_MEAN if name in result.stops and _kept(result.stops[name])), "mean")


def _method(result: Result) -> tuple[str, list[str]]:
    """What kind of image this is, and what became of every phase after the mean fit."""
    last, points = _last_phase(result), []
    image = "The image was fitted to the mean of the frames"
    for name, what in _AFTER_THE_MEAN.items():
        if (stop := result.stops.get(name)) is None or stop.reason is StopReason.NOT_NEEDED:
            continue
        if stop.rejected:
            points.append(f"Fit to {what}: tried and not kept, because it predicted frames that were set aside worse.")
        elif not _kept(stop):
            points.append(f"Fit to {what}: not used ({stop}).")
        elif stop.share < 1:
            points.append(
                f"Fit to {what}: averaged with the fit to the mean (weight {stop.share:.2f}), since neither is clearly better."
            )
        elif name == "covariance":
            points.append(f"Fit to {what}: kept; frames that were set aside did not speak against it.")
        else:
            points.append(f"Fit to {what}: kept ({stop}).")
    if not points:
        points.append("Only the mean of the frames was used. The default method uses their blinking too.")
    return f"{image}." if last == "mean" else f"{image} and to {_AFTER_THE_MEAN[last]}.", points


def _how_sure(
    result: Result, facts: Facts, rms: float, grain: float, found: Plan | None, why_not: str, drawn: Mapping[str, bytes]
) -> str:
    points = _method(result)[1]
    unseen = facts["result"]["final"].get("w_held_out")
    # of the last phase that ran; where that one was not kept, the score is of another image
    if unseen is not None and _last_phase(result) != "mean":
        points.append(
            f"Frames that were set aside differ from the prediction with a score of {number(unseen)}. 0 means that they do not "
            "differ. Only scores of the same recording can be compared."
        )
    if math.isfinite(rms):
        points.append(
            f"The mean of the frames differs from the prediction by {number(rms, 2)} standard errors (root mean square)"
            + f" of photon and read noise. About {number(grain, 2)} is expected"
            + (", because the pixels of the camera are unequal." if grain > 1 else " of noise.")
            + ("" if rms <= _POOR_FIT * grain else " " + _poor(grain).replace("It does", "The image does", 1))
        )
    else:
        points.append("How well the mean of the frames is explained is not known: the frames were not given.")
    if found is None:
        points.append(f"The finest distance that this light can show was not computed: {why_not}.")
    else:
        given = f"With these photons and these frames{'' if grain <= 1 else ', and with pixels so unequal'}, two lines of 1 µm"
        if math.isinf(found.mean_nm) and math.isinf(found.both_nm):
            points.append(f"{given} cannot be told apart at any distance: the light of the image is too faint.")
        else:
            points.append(
                f"{given} can be told apart down to {_nm(found.mean_nm)} by the mean and {_nm(found.both_nm)} by mean and "
                "blinking. A method that must estimate more does worse. If molecules stay on for several frames, the limit is "
                "coarser."
            )
    points.append("A fit that explains the frames is not yet a proof: finer detail than the light can show may still be wrong.")
    said = listed(points) + gaps_on_page(facts.get("evidence"), drawn) + checks_on_page(facts.get("checks"), drawn)
    if "misfit" not in drawn:
        return said
    return said + picture(
        data_address(drawn["misfit"]),
        f"Map of the mean of the frames minus the prediction; root mean square {number(rms, 2)} standard errors.",
        "Where the mean of the frames and the prediction differ. A good fit leaves grain without shapes. A shape of your "
        "sample in red is light that the image lacks; in blue, light that it invents.",
        small=True,
    )


def _nm(value: float) -> str:
    return f"{value:.0f} nm" if math.isfinite(value) else "no distance"
