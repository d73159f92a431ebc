"""The text and the options that a ``.cu`` of this folder is compiled with, whoever compiles it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["FOLDER", "join", "options"]

FOLDER = Path(__file__).parent

#: Programs that are held to the CPU's results operation by operation: no product is fused with a sum.
UNFUSED = frozenset({"double_poisson", "emission_chains", "photons", "prox_step", "total_variation"})

_INCLUDE = re.compile(r'\s*#\s*include\s+"([\w.]+)"')


def join(name: str) -> str:
    """Return the text of ``name.cu`` with its headers pasted in, each once, at the place of its first ``#include``.

    A compiler's cache keyed by the text then sees an edited header, which it does not when headers come from a folder;
    ``#line`` keeps file and line of its messages.  Headers of this folder need no guard.
    """
    return "\n".join(_lines(FOLDER / f"{name}.cu", set())) + "\n"


def _lines(path: Path, pasted: set[str]) -> Iterator[str]:
    yield f'#line 1 "{path.name}"'
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        header = _INCLUDE.match(line)
        if header is None:
            yield line
            continue
        if header[1] not in pasted:
            pasted.add(header[1])
            yield from _lines(FOLDER / header[1], pasted)
        yield f'#line {number + 1} "{path.name}"'


def options(name: str, macros: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the compiler's options for ``name.cu``: standard, arithmetic, and the macros in alphabetical order."""
    unfused = ("-fmad=false",) if name in UNFUSED else ()
    return ("-std=c++17", *unfused, *(f"-D{key}={macros[key]}" for key in sorted(macros)))
