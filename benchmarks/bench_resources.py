"""What the compiler says of every CUDA kernel: registers, shared memory, instructions, and how many blocks fit at once.

Needs the compiler (``pip install 'fluogan-core[cuda-check]'``) and no card.
"""

from __future__ import annotations

from fluogan_core.kernels import cuda

from . import _predicted
from ._cuda_resources import ARCHITECTURES, THREADS, resources, why_no_nvrtc
from ._harness import Options, Report, main


def run(options: Options) -> Report:
    """Compile everything."""
    report = Report("resources", options)
    if reason := why_no_nvrtc():
        raise SystemExit(reason)
    from cupy.cuda import nvrtc

    note = f"NVRTC {'.'.join(map(str, nvrtc.getVersion()))}. Instructions are those of the machine code, each counted once."
    columns = ("kernel", "build", "registers", "spilled bytes", "shared bytes", "instructions", "threads, blocks at once")
    programs = [each for number, each in enumerate(cuda.programs()) if each not in cuda.programs()[:number]]
    for architecture in ARCHITECTURES:
        rows = []
        for name, macros in options.pick(programs, programs[-1:]):
            build = ", ".join(f"{key}={value}" for key, value in macros.items()) or "-"
            for kernel, taken in sorted(resources(name, macros, architecture).items()):
                launch = "-"
                if taken.threads is not None:
                    blocks = taken.blocks_per_multiprocessor(architecture)
                    launch = f"{taken.threads}, {blocks} ({blocks * taken.threads / THREADS:.0%})"
                figures = (taken.registers, taken.spills, taken.shared, taken.instructions)
                rows.append([f"`{kernel}`", build, *figures, launch])
        report.table(f"Compiled for {architecture}", columns, rows, note)
    report.table("Predicted times of the differences", _predicted.COLUMNS, _predicted.rows(), _predicted.NOTE)
    return report


if __name__ == "__main__":
    main("resources", run)
