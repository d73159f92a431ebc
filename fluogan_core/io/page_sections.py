"""The last sections of the page of report: what to check, what to do next, and every number."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

from .advice import advice_for
from .page_commands import command_line, sweep_command
from .page_style import Facts, listed, paragraph, table

__all__ = ["all_numbers", "next_steps", "remarks_of", "to_check"]


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


def next_steps(facts: Facts) -> str:
    """What to do next, with the commands."""
    items = [
        "Compare two halves of the frames (--frames): what appears in only one of the two images is noise.",
        "Simulate what you think you see and the simplest other explanation, with this light. Reconstruct both the same way.",
    ]
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
