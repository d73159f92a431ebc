"""Turns the text of a ``.cu`` into a shared library of the host, once per text, options and compiler."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

__all__ = ["CompileError", "build", "can_fuse", "kernel_names", "why_no_compiler"]

FOLDER = Path(__file__).parent

_FLAGS = ("-std=c++20", "-O2", "-g1", "-fPIC", "-fvisibility=hidden", "-fno-strict-aliasing", "-ffp-contract=off")
# longjmp between fibers is what fortified builds take for an attack
_FLAGS += ("-U_FORTIFY_SOURCE", "-Wall", "-Wno-unknown-pragmas", "-Wno-unused-function")
#: What nvcc does unless it is told -fmad=false: a product and a sum become one operation, rounded once.
_FUSED = ("-ffp-contract=fast", "-mfma")
_SANITIZE = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_KERNEL = re.compile(r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(')
#: The one declaration that a host compiler cannot be given as it stands: an array of a size known at launch.
_DYNAMIC = re.compile(r"extern\s+__shared__\s+(?:__align__\s*\(\s*\d+\s*\)\s*)?([\w ]+?)\s+(\w+)\s*\[\s*\]\s*;")


class CompileError(RuntimeError):
    """The host compiler refused a kernel; the message is the compiler's."""


def kernel_names(text: str) -> list[str]:
    """Return the names of the kernels that a source defines."""
    return _KERNEL.findall(_COMMENT.sub(" ", text))


def why_no_compiler() -> str | None:
    """Say why kernels cannot be compiled for the host, or None if they can."""
    return None if shutil.which("g++") else "there is no g++ here to compile the CUDA kernels for the CPU"


@functools.cache
def can_fuse() -> bool:
    """Whether this processor multiplies and adds in one operation, and g++ can be told to."""
    try:
        return platform.machine() == "x86_64" and " fma " in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # no Linux
        return False


def cache_folder() -> Path:
    """Where libraries are kept: outside the source tree, in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fluogan_core" / "cuda_on_cpu"


@functools.cache
def _compiler() -> str:
    return subprocess.run(["g++", "--version"], check=True, capture_output=True, text=True).stdout.splitlines()[0]


def build(text: str, name: str, options: tuple[str, ...], *, sanitize: bool = False) -> Path:
    """Return the shared library of a joined source.

    Parameters
    ----------
    text, name, options
        What a compiler of ``fluogan_core.kernels.cuda`` is given; of the options, only macros and ``-fmad=false`` count here.
    sanitize : bool
        Build with the address and undefined-behaviour sanitizers.

    Raises
    ------
    CompileError
        If g++ refuses the source.
    """
    flags = _FLAGS + (_SANITIZE if sanitize else ())
    if "-fmad=false" not in options and can_fuse():
        flags += _FUSED
    macros = tuple(option for option in options if option.startswith("-D"))
    body = _DYNAMIC.sub(r"\1 *const \2 = static_cast<\1 *>(cuda_cpu::dynamic_shared);", text)
    exports = "".join(f"CUDA_CPU_EXPORT({kernel})\n" for kernel in kernel_names(text))
    whole = f'#include "cuda_cpu.h"\n#line 1 "{name}"\n{body}\n#line 1 "exports"\n{exports}'
    scheduler = _compiled((FOLDER / "scheduler.cpp").read_text(encoding="utf-8"), "scheduler.o", flags, "-c")
    return _compiled(whole, f"{Path(name).stem}.so", (*flags, *macros), "-shared", str(scheduler))


def _compiled(source: str, name: str, flags: tuple[str, ...], *link: str) -> Path:
    """The object or library ``name`` of a text, from the cache if nothing that it is made from has changed."""
    digest = hashlib.sha256("\0".join((_compiler(), *flags, *link, source)).encode())
    for header in ("cuda_cpu.h", "scheduler.h"):
        digest.update((FOLDER / header).read_bytes())
    folder = cache_folder()
    made = folder / f"{digest.hexdigest()[:24]}-{name}"
    if not made.exists():
        folder.mkdir(parents=True, exist_ok=True)
        mine = folder / f"{os.getpid()}-{made.name}"
        text = mine.with_suffix(".cpp")
        text.write_text(source, encoding="utf-8")
        done = subprocess.run(["g++", *flags, f"-I{FOLDER}", str(text), *link, "-o", str(mine)], capture_output=True, text=True)
        text.unlink()
        if done.returncode:
            raise CompileError(f"g++ refuses {name}:\n{done.stderr}")
        mine.replace(made)
    return made
