"""Every CUDA kernel compiles to machine code for the cards it is made for, within the registers that its launch assumes."""

from __future__ import annotations

import pytest
from cuda_on_cpu import kernel_names
from kernel_sets import COMPILED, missing

from benchmarks._cuda_resources import ARCHITECTURES, Resources, resources, why_no_nvrtc
from fluogan_core.kernels import cuda
from fluogan_core.kernels.cuda import source

#: Kernel -> most registers per thread, and most bytes of static shared memory per block.  With 256 threads per block, 64
#: registers let four blocks share a multiprocessor.  Larger critics than the usual one (k = 3, pooling by 2) may take all.
CEILINGS = {
    "emissions": (64, 18 * 1024 + 64),
    "detect": (64, 0),
    "words_of": (32, 0),
    "count_photons": (64, 0),
    "place_photons": (48, 0),
    "prox_step": (48, 256 * 24 + 64),
    "sweep": (64, 0),
    "primal": (40, 0),
    "forward_first": (64, 0),
    "forward_layer": (128, 0),
    "score": (64, 0),
    "backward_layer": (48, 0),
    "backward_first": (40, 0),
    "score_changes": (255, 0),
    "sort_keys": (40, 0),
    "banded": (64, 32 * 33 * 4),
    "stencil": (64, 0),
    "stencil_adjoint": (64, 0),
    "descend": (40, 0),
    "mean_slope": (40, 0),
    "uphill": (64, 256 * 8 + 16),
    "extrapolate": (40, 0),
    "bounded_background": (128, 64),
}

#: The same for one set of macros: 128 registers let four blocks of 128 threads share a multiprocessor.
CLOSER = {
    ("forward_layer", 3, 2): 64,
    ("score_changes", 3, 2, 0): 128,
    ("score_changes", 3, 2, 1): 128,
    ("score_changes", 3, 3, 0): 168,
}

CASES = [
    pytest.param(name, macros, architecture, id="-".join([name, *map(str, macros.values()), architecture]))
    for name, macros in cuda.programs()
    for architecture in ARCHITECTURES
]


@pytest.fixture(scope="module", autouse=True)
def compiler():
    """NVRTC; where continuous integration lacks it, that is a failure."""
    if reason := why_no_nvrtc():
        missing(reason)


@pytest.mark.parametrize(("name", "macros", "architecture"), CASES)
def test_kernels_compile_without_spills_and_within_their_ceilings(name, macros, architecture):
    found = resources(name, macros, architecture)
    assert set(found) == set(kernel_names(source.join(name)))
    for kernel, taken in found.items():
        registers, shared = CEILINGS[kernel]
        registers = CLOSER.get((kernel, *macros.values()), registers)
        assert taken.spills == 0, f"{kernel} spills {taken.spills} bytes per thread"
        assert taken.registers <= registers, f"{kernel} takes {taken.registers} registers, {registers} are allowed"
        assert taken.threads is None or taken.blocks_per_multiprocessor(architecture) >= 1
        assert taken.instructions > 10
        assert taken.shared <= shared, f"{kernel} takes {taken.shared} bytes of shared memory, {shared} are allowed"
        COMPILED.add((name, kernel, architecture, *macros.values()))


def test_the_compiler_names_file_and_line(monkeypatch):
    monkeypatch.setattr(source, "join", lambda name: '#line 7 "broken.cuh"\nextern "C" __global__ void f() { nothing(); }\n')
    with pytest.raises(RuntimeError, match=r"broken\.cuh\(7\)"):
        resources("double_poisson", {}, "sm_80")


def test_occupancy_is_that_of_the_scarcest_resource():
    def blocks(registers, shared, threads):
        return Resources(registers, 0, 0, shared, 100, threads).blocks_per_multiprocessor("sm_80")

    assert blocks(32, 0, 256) == 8  # threads: 2048
    assert blocks(64, 0, 256) == 4  # registers: 64 * 256 * 4 = 65536
    assert blocks(65, 0, 256) == 3  # handed out 8 per thread at a time
    assert blocks(16, 40 * 1024, 256) == 4  # shared: 41 KiB each of 164 KiB
    assert blocks(16, 0, 32) == 32  # blocks
