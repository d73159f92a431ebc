"""What every CUDA kernel takes of a card, by compiling it for real: NVRTC needs neither a card nor a driver."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fluogan_core.kernels.cuda import source

__all__ = ["ARCHITECTURES", "Resources", "resources", "why_no_nvrtc"]

#: A100 and H100/H200.
ARCHITECTURES = ("sm_80", "sm_90")

#: What CuPy adds to the options of a ``RawModule`` and what changes machine code.
_AS_CUPY = ("-ftz=true", "--device-as-default-execution-space")

_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")


@dataclass(frozen=True)
class Resources:
    """One kernel on one architecture: registers and bytes of stack and spills per thread, static shared bytes per block."""

    registers: int
    stack: int
    spills: int
    shared: int


def why_no_nvrtc() -> str | None:
    """Say why nothing can be compiled here, or None if it can."""
    try:
        from cupy.cuda import nvrtc

        nvrtc.getVersion()
    except Exception as error:  # a missing wheel or library shows in many ways
        return f"NVRTC cannot be used ({error}); pip install 'fluogan-core[cuda-check]'"
    return None


def resources(name: str, macros: Mapping[str, Any], architecture: str) -> dict[str, Resources]:
    """Compile ``kernels/cuda/name.cu`` to machine code and return what its kernels take.

    Parameters
    ----------
    name : str
    macros : mapping
        One of the sets of macros that :func:`fluogan_core.kernels.cuda.programs` lists.
    architecture : str
        ``"sm_80"``, ``"sm_90"``, ...

    Raises
    ------
    RuntimeError
        If the compiler refuses the source; the message is the compiler's log.
    """
    from cupy.cuda import nvrtc

    program = nvrtc.createProgram(source.join(name), f"{name}.cu", (), ())
    try:
        options = (*source.options(name, macros), *_AS_CUPY, f"-arch={architecture}", "--ptxas-options=-v")
        try:
            nvrtc.compileProgram(program, options)
        except nvrtc.NVRTCError:
            raise RuntimeError(f"{name}.cu for {architecture}:\n{nvrtc.getProgramLog(program)}") from None
        if not nvrtc.getCUBIN(program):
            raise RuntimeError(f"{name}.cu for {architecture}: no machine code came out")
        return _parsed(nvrtc.getProgramLog(program))
    finally:
        nvrtc.destroyProgram(program)


def _parsed(log: str) -> dict[str, Resources]:
    """Read the figures out of the assembler's messages, one passage per kernel."""
    starts = [(match[1], match.end()) for match in _ENTRY.finditer(log)]
    ends = [start for _, start in starts[1:]] + [len(log)]
    found = {}
    for (kernel, start), end in zip(starts, ends):
        part = log[start:end]
        spills, used, shared = _SPILLS.search(part), _USED.search(part), _SHARED.search(part)
        if spills is None or used is None:
            raise RuntimeError(f"the compiler's log says nothing of {kernel}:\n{log}")
        stack, stores, loads = (int(n) for n in spills.groups())
        found[kernel] = Resources(int(used[1]), stack, stores + loads, int(shared[1]) if shared else 0)
    return found
