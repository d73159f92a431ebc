"""Sections of the page of report that follow from the report alone: what was measured, to check and to do next, all numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

from ..tuning import DEFAULT
from .advice import advice_for
from .page_commands import command_line, sweep_command
from .page_style import Facts, listed, number, paragraph, table, with_error

__all__ = ["all_numbers", "measured", "next_steps", "remarks_of", "to_check"]


def remarks_of(facts: Facts) -> list[str]:
    """Every remark of the report, once; of a sample that was followed, none that it should be."""
    estimate, width = facts["camera_estimate"] or {}, facts["psf_width"] or {}
    every = [*facts["input"]["notes"], *facts["remarks"], *estimate.get("notes", ()), width.get("note", "")]
    if any(note.startswith("drift: ") for note in facts["input"]["notes"]):
        # what is left are shifts within a pixel, which the PSF describes; its width was measured before they were put in
        every = [remark for remark in every if "the sample moved by about" not in remark]
        if any(note.startswith("width of the PSF") for note in facts["input"]["notes"]):
            every = [remark for remark in every if "(given, not measured)" not in remark]
    return list(dict.fromkeys(remark for remark in every if remark))


def measured(facts: Facts, grain: float = 1.0) -> str:
    """Camera, molecules, blur and motion, as the frames tell them; ``grain``: excess of the noise of the mean frame."""
    camera, estimate, width = facts["camera"], facts["camera_estimate"] or {}, facts["psf_width"]

    def row(name: str, key: str, unit: str, value: float) -> tuple[str, str]:
        error = estimate.get(f"{key}_error", 0.0)
        if not estimate:
            return name, f"{number(value, 4)} {unit} (given)"
        if key == "photons_per_emitter" and any("per emission is assumed" in note for note in remarks_of(facts)):
            return name, f"{number(value, 4)} (assumed: the frames do not tell)"
        if key == "photons_per_emitter" and any("hardly any flicker" in note for note in remarks_of(facts)):
            return name, f"less than {number(value + 2 * (error or 0.0), 2)} {unit}: there is hardly any blinking"
        if key == "noise_std" and any("read noise cannot be told apart" in note for note in remarks_of(facts)):
            return name, f"{with_error(value, error)} {unit} (assumed: the frames do not tell)"
        if key in estimate.get("given", ()):
            return name, f"{number(value, 4)} {unit} (given by you)"
        return name, f"{with_error(value, error)}{'' if error is not None else ' (error not known)'} {unit}"

    rows = [
        row("Gain of the camera", "gain", "counts per photon", camera["gain"]),
        row("Dark level of the camera (offset)", "offset", "counts", camera["offset"]),
        row("Read noise of the camera", "noise_std", "counts", camera["noise_std"]),
        row("Photons of one emission", "photons_per_emitter", "photons", facts["operator"]["photons_per_emitter"]),
    ]
    fwhm = facts["operator"]["psf_fwhm_nm"]
    wide = "not known in nm" if fwhm is None else f"{number(fwhm)} nm"
    if width and width["error"] is not None:
        wide += f"; the blinking shows {with_error(width['measured'], width['error'])} times what you described"
        if "speaks against" in width["note"]:
            wide += ": clearly another width, but too uncertain to be used"
        elif "used as described" in width["note"]:
            wide += ", which is too uncertain to be used"
    rows.append(("Width of the blur (PSF), as used", wide))
    rows.append(("Background, mean", f"{number(facts['result']['b_mean'])} photons per camera pixel and frame"))
    rows.append(("Motion of the sample", _motion(facts)))
    bad = len(facts["result"]["bad_pixels"])
    rows.append(("Broken camera pixels", f"{bad}, not used" if bad else "none"))
    words = (
        "An error after ± is one standard error. An emission is the light of one molecule in one frame, if all that fluctuates "
        "is blinking: other changes of a living sample count as blinking too."
    )
    if grain > 1:
        words += " The pixels of the camera are unequal: gain and offset are means over pixels, and less certain than ± says."
    return table((), rows, "Camera, molecules and blur") + paragraph(words)


def _motion(facts: Facts) -> str:
    """How the sample moved, in a few words."""
    drift = facts.get("drift")
    if drift is not None:
        return str(drift["note"]).removeprefix("drift: ") + ("; the image follows it" if drift["followed"] else "")
    moved = next((note for note in facts["remarks"] if "the sample moved by about" in note), "")
    if moved:
        return moved.split(": ")[0].removeprefix("the sample ") + "; the image does not follow it"
    return "no clear shift between the first and the last third of the frames"


def to_check(facts: Facts) -> str:
    """Remarks with what they mean and what to do."""
    remarks = remarks_of(facts)
    if not remarks:
        return paragraph("The run made no remark.")
    items = []
    for remark in remarks:
        advice = advice_for(remark)
        items.append(
            f"<li><strong>{escape(advice.meaning)}</strong> {escape(advice.next_step)}"
            f'<br><span class="remark">The run said: {escape(remark)}</span></li>'
        )
    return f"<ul>{''.join(items)}</ul>"


_FEW_OVERLAP = (
    "An emission is overlapped by {} others on average. That is few: --method auto may show more. After the fit of this run it "
    "fits the emissions of every frame one by one, and keeps that image unless frames that it has not seen speak against it."
)


def next_steps(facts: Facts) -> str:
    """What to do next, with the commands."""
    items = [
        "Compare two halves of the frames (--frames): what appears in only one of the two images is noise.",
        "Simulate what you think you see and the simplest other explanation, with this light. Reconstruct both the same way.",
    ]
    overlap, frames, t = facts["result"].get("overlap"), facts["input"]["frames"], DEFAULT.likelihood_phase
    few = facts["parameters"]["method"] == "moments" and overlap and overlap <= t.most_overlap
    if few and (frames is None or t.unseen * frames >= t.fewest_unseen):
        items.insert(0, _FEW_OVERLAP.format(number(overlap)))
    parts = [listed(items), paragraph("docs/is-my-result-real.md of the package describes both, with more checks.")]
    command = facts["command"]
    if command:
        parts += [paragraph("To repeat this run, in the folder in which it was started:"), command_line(command)]
    else:
        parts.append(paragraph("This result was made from Python; its options are below, under parameters."))
    sweep = sweep_command(facts)
    if sweep:
        parts += [paragraph("To see whether other settings predict the frames better:"), command_line(sweep)]
    return "".join(parts)


def all_numbers(facts: Facts) -> str:
    """Every entry of the report, folded."""
    rows = [(name, json.dumps(value, ensure_ascii=False).strip('"')) for name, value in _flat(facts)]
    summary = "<summary>Every entry of report.json, without the course of the fit</summary>"
    return f"<details>{summary}{table(('Name', 'Value'), rows, 'Entries')}</details>"


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from _flat(entry, f"{name}.{key}" if name else key)
    else:
        yield name, value
