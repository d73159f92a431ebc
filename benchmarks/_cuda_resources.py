"""Registers, memory and instructions of every CUDA kernel, by compiling it: NVRTC needs neither a card nor a driver."""

from __future__ import annotations

import collections
import functools
import importlib.util
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fluogan_core.kernels.cuda import source

__all__ = [
    "ARCHITECTURES",
    "THREADS",
    "Resources",
    "intermediate_code",
    "machine_code",
    "resources",
    "why_no_disassembler",
    "why_no_nvrtc",
]

#: A100 and H100/H200, with the shared memory of a multiprocessor in bytes.
ARCHITECTURES = {"sm_80": 164 * 1024, "sm_90": 228 * 1024}

#: Of a multiprocessor of either: registers, threads, blocks; shared bytes that each block costs beyond its own.
_REGISTERS, THREADS, _BLOCKS, _RESERVED = 65536, 2048, 32, 1024
#: Registers are handed out to warps in pieces of this many.
_REGISTERS_PER_PIECE = 256
_WARP = 32
#: Bytes of one instruction on both architectures.
_INSTRUCTION = 16

#: What CuPy adds to the options of a ``RawModule`` and what changes machine code.
_AS_CUPY = ("-ftz=true", "--device-as-default-execution-space")

_SECTION = re.compile(r"\.text\.(\w+):")
_OPCODE = re.compile(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9]+)")
_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")
_BOUNDS = re.compile(r"\.entry (\w+)\([^{]*?\.maxntid (\d+)", re.DOTALL)


@dataclass(frozen=True)
class Resources:
    """What one kernel takes on one architecture.

    Attributes
    ----------
    registers, stack, spills : int
        Per thread; the last two in bytes.
    shared : int
        Bytes of static shared memory per block.
    instructions : int
        Of the whole machine code, each counted once however often it runs.
    threads : int or None
        The most that a block has (``__launch_bounds__``).
    """

    registers: int
    stack: int
    spills: int
    shared: int
    instructions: int
    threads: int | None

    def blocks_per_multiprocessor(self, architecture: str, dynamic_shared: int = 0) -> int:
        """How many blocks of ``threads`` threads a multiprocessor holds at once."""
        if self.threads is None:
            raise ValueError("the kernel does not state how many threads its blocks have (__launch_bounds__)")
        warps = -(-self.threads // _WARP)
        pieces = -(-self.registers * _WARP // _REGISTERS_PER_PIECE)
        by_registers = _REGISTERS // (warps * pieces * _REGISTERS_PER_PIECE)
        by_shared = ARCHITECTURES[architecture] // (self.shared + dynamic_shared + _RESERVED)
        return min(by_registers, by_shared, THREADS // (warps * _WARP), _BLOCKS)


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
    cubin, log = _compiled(name, macros, architecture, "getCUBIN")
    ptx, _ = _compiled(name, macros, architecture.replace("sm", "compute"), "getPTX")
    instructions = {kernel: size // _INSTRUCTION for kernel, size in _code_bytes(cubin).items()}
    threads = {kernel: int(most) for kernel, most in _BOUNDS.findall(ptx.decode())}
    found = {}
    for kernel, part in _passages(log):
        spills, used, shared = _SPILLS.search(part), _USED.search(part), _SHARED.search(part)
        if spills is None or used is None:
            raise RuntimeError(f"the compiler's log says nothing of {kernel}:\n{log}")
        stack, stores, loads = (int(n) for n in spills.groups())
        static = int(shared[1]) if shared else 0
        found[kernel] = Resources(int(used[1]), stack, stores + loads, static, instructions[kernel], threads.get(kernel))
    return found


def _disassembler() -> str | None:
    """NVIDIA's disassembler: that of the wheel nvidia-cuda-nvdisasm, or one on the path."""
    found = importlib.util.find_spec("nvidia")
    for folder in [] if found is None else found.submodule_search_locations or []:
        for program in sorted(Path(folder).glob("*/bin/nvdisasm")):
            return str(program)
    return shutil.which("nvdisasm")


def why_no_disassembler() -> str | None:
    """Say why machine code cannot be read here, or None if it can."""
    return None if _disassembler() else "there is no nvdisasm here; pip install 'fluogan-core[cuda-check]'"


def intermediate_code(name: str, macros: Mapping[str, Any], architecture: str) -> str:
    """Return the PTX of ``kernels/cuda/name.cu``: what NVRTC hands to its assembler."""
    return _compiled(name, macros, architecture.replace("sm", "compute"), "getPTX")[0].decode()


def machine_code(name: str, macros: Mapping[str, Any], architecture: str) -> dict[str, collections.Counter[str]]:
    """Return how often each instruction stands in the machine code of each kernel of ``kernels/cuda/name.cu``.

    Without their suffixes, of which ``LDG.E.64`` has two; each is counted once, however often it runs.
    """
    cubin, _ = _compiled(name, macros, architecture, "getCUBIN")
    program = _disassembler()
    if program is None:
        raise RuntimeError(str(why_no_disassembler()))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "code.cubin"
        path.write_bytes(cubin + b"\0")  # CuPy takes the last byte for the end of a text
        listing = subprocess.run([program, "-c", str(path)], check=True, capture_output=True, text=True).stdout
    found: dict[str, collections.Counter[str]] = {}
    kernel = ""
    for line in listing.splitlines():
        if section := _SECTION.match(line):
            kernel = section[1]
            found[kernel] = collections.Counter()
        elif kernel and (instruction := _OPCODE.match(line)):
            found[kernel][instruction[1]] += 1
    return found


def _compiled(name: str, macros: Mapping[str, Any], architecture: str, result: str) -> tuple[bytes, str]:
    """Compile a source; return what ``nvrtc.result`` gives, and the log."""
    options = (*source.options(name, macros), *_AS_CUPY, f"-arch={architecture}", "--ptxas-options=-v")
    return _compiled_text(source.join(name), f"{name}.cu", options, result)


@functools.cache
def _compiled_text(text: str, name: str, options: tuple[str, ...], result: str) -> tuple[bytes, str]:
    from cupy.cuda import nvrtc

    program = nvrtc.createProgram(text, name, (), ())
    try:
        try:
            nvrtc.compileProgram(program, options)
        except nvrtc.NVRTCError:
            raise RuntimeError(f"{name}, {options[-2]}:\n{nvrtc.getProgramLog(program)}") from None
        return getattr(nvrtc, result)(program), nvrtc.getProgramLog(program)
    finally:
        nvrtc.destroyProgram(program)


def _passages(log: str) -> list[tuple[str, str]]:
    """The assembler's messages, one passage per kernel."""
    starts = [(match[1], match.end()) for match in _ENTRY.finditer(log)]
    ends = [start for _, start in starts[1:]] + [len(log)]
    return [(kernel, log[start:end]) for (kernel, start), end in zip(starts, ends)]


def _code_bytes(cubin: bytes) -> dict[str, int]:
    """Bytes of machine code per kernel: the sizes of the sections ``.text.KERNEL`` of a 64-bit ELF file."""
    table, entry_size, entries, names_at = struct.unpack_from("<Q10xHHH", cubin, 40)
    # per section: name, then past type, flags and address, offset and size
    headers = [struct.unpack_from("<I20xQQ", cubin, table + i * entry_size) for i in range(entries)]
    names = cubin[headers[names_at][1] :]
    sections = {names[at : names.index(b"\0", at)].decode(): size for at, _, size in headers}
    return {name.removeprefix(".text."): size for name, size in sections.items() if name.startswith(".text.")}
