"""Every CUDA kernel compiles to machine code for the cards it is made for, within the registers that its launch assumes."""

from __future__ import annotations

import re

import pytest
from cuda_on_cpu import kernel_names
from kernel_sets import COMPILED, missing

from benchmarks._cuda_resources import (
    ARCHITECTURES,
    Resources,
    intermediate_code,
    machine_code,
    resources,
    why_no_disassembler,
    why_no_nvrtc,
)
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
    "cumulate": (40, 257 * 8 + 8),
    "move_emissions": (96, 60 * 8),
    "emission_sums": (48, 0),
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


#: A product and a sum of one operation, and products and sums that the assembler may still make one of.
FUSED = re.compile(r"\b(?:fma\.rn(?:\.ftz)?\.f32|(?:mul|add|sub)(?:\.ftz)?\.f(?:32|64))\b")
#: Library functions whose code is made of such operations: written out by NVIDIA, the same whatever -fmad says.
WRITTEN_OUT = re.compile(r"fma\.rn\.f64")


@pytest.mark.parametrize(("name", "macros"), [case for case in cuda.programs() if case[0] in source.UNFUSED])
def test_what_is_compared_bit_for_bit_has_no_fused_product(name, macros):
    code = intermediate_code(name, macros, "sm_90")
    assert not FUSED.findall(code)
    if name in ("prox_step", "total_variation"):  # no exponential, logarithm or cosine
        assert not WRITTEN_OUT.findall(code)


def test_a_fused_product_would_be_seen(monkeypatch):
    monkeypatch.setattr(source, "UNFUSED", source.UNFUSED - {"total_variation"})
    assert FUSED.findall(intermediate_code("total_variation", {"REAL": "float"}, "sm_90"))


@pytest.mark.parametrize(("name", "macros", "architecture"), CASES)
def test_loads_and_stores_name_their_memory(name, macros, architecture):
    """Generic ones look up at run time which memory an address is of; local ones are registers that did not fit."""
    if reason := why_no_disassembler():
        missing(reason)
    for kernel, code in machine_code(name, macros, architecture).items():
        assert code["EXIT"] >= 1  # it has been read
        assert code["LDG"] + code["STG"] >= 1
        assert not {name: code[name] for name in ("LD", "ST", "LDL", "STL") if code[name]}, kernel
        if kernel == "prox_step":  # no division and no root, which are made of fused products
            assert not code["FFMA"]


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
