"""The commands that a page of report tells to run next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from html import escape
from typing import Any

from ..calibration.plain import plain

__all__ = ["command_line", "sweep_command"]

#: A report as JSON holds it.
Facts = dict[str, Any]

#: Options of ``fluogan reconstruct`` that ``fluogan sweep`` has not: with a value, and without.
_ONLY_RECONSTRUCT = ("--background", "--drift", "--tile", "--halo", "--memory-gib", "--workers", "--cards", "--dask")
_ONLY_RECONSTRUCT_FLAGS = ("--resume", "--evidence", "--recalibrate")
#: Options that take a part of the file which ``fluogan sweep`` cannot take.
_ANOTHER_PART = ("--channel", "--window", "--step")


def command_line(command: Sequence[str]) -> str:
    """Return a command as it is typed into a shell, as a block of HTML."""
    return f"<pre><code>{escape(shlex.join(command))}</code></pre>"


def sweep_command(facts: Facts) -> list[str] | None:
    """Return the sweep that belongs to a report; None where the recording or its PSF is not known, or no sweep can read it.

    Parameters
    ----------
    facts : dict
        A report, as JSON holds it.

    Examples
    --------
    >>> sweep_command({"command": ["fluogan", "reconstruct", "a.tif", "--output", "out", "--resume", "--fwhm-nm", "300"]})
    ['fluogan', 'sweep', 'a.tif', '--output', 'out-sweep', '--fwhm-nm', '300']
    """
    command = facts["command"] or []
    if any(argument.partition("=")[0] in _ANOTHER_PART for argument in command):
        return None
    if command[:2] == ["fluogan", "reconstruct"]:
        return ["fluogan", "sweep", *_for_sweep(command[2:])]
    of, fwhm = facts["input"], facts["operator"]["psf_fwhm_nm"]
    if of["path"] is None or fwhm is None:
        return None
    made = ["fluogan", "sweep", of["path"], "--output", "sweep", "--fwhm-nm", plain(fwhm, 4)]
    made += ["--pixel-size-nm", plain(of["pixel_size_nm"], 6), "--factor", str(facts["operator"]["factor"])]
    if of["roi"]:
        made += ["--roi", ",".join(map(str, of["roi"]))]
    return made


def _for_sweep(arguments: Sequence[str]) -> list[str]:
    kept: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name in _ONLY_RECONSTRUCT_FLAGS:
            continue
        if name in _ONLY_RECONSTRUCT:
            if not equals:
                next(rest, None)
        elif name == "--output":
            kept += ["--output", f"{value if equals else next(rest, '')}-sweep"]
        else:
            kept.append(argument)
    return kept
