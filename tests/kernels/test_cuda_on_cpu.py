"""The CUDA kernels' CPU runs are worth something: what a card would get wrong is caught here, and says where."""

from __future__ import annotations

import dataclasses
import inspect
import os
import platform
import subprocess
import sys
from pathlib import Path

import cuda_on_cpu
import numpy as np
import pytest
from cuda_on_cpu import ORDERS, KernelError
from kernel_sets import missing

from benchmarks import _small_kernels
from fluogan_core.kernels import cpu, cuda
from fluogan_core.kernels.cuda import source


@pytest.fixture(scope="module", autouse=True)
def compiler():
    """g++; where continuous integration lacks it, that is a failure."""
    if reason := cuda_on_cpu.why_no_compiler():
        missing(reason)


BROKEN = r"""
constexpr int THREADS = 64;

extern "C" __global__ void shift(float *x) {  // no barrier between reading and writing
    __shared__ float room[THREADS];
    room[threadIdx.x] = x[threadIdx.x];
    x[threadIdx.x] = room[(threadIdx.x + 1) % THREADS];
}

extern "C" __global__ void shift_with_barrier(float *x) {
    __shared__ float room[THREADS];
    room[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = room[(threadIdx.x + 1) % THREADS];
}

extern "C" __global__ void two_barriers(float *x) {
    if (threadIdx.x < 32) __syncthreads();
    else __syncthreads();
}

extern "C" __global__ void half_a_warp(float *x) {
    if (threadIdx.x < 16) x[threadIdx.x] = __shfl_sync(0xffffffffu, x[threadIdx.x], 0);
    else __syncthreads();
}

extern "C" __global__ void foreign_lane(float *x) {
    if (threadIdx.x < 16) x[threadIdx.x] = __shfl_sync(0x0000ffffu, x[threadIdx.x], 20);
}

extern "C" __global__ void dynamic(float *x) {
    extern __shared__ float room[];
    room[threadIdx.x] = x[threadIdx.x];
}

extern "C" __global__ void unset(float *x) {
    __shared__ float room[THREADS];
    if (threadIdx.x == 0) room[0] = 1.0f;
    __syncthreads();
    x[threadIdx.x] = room[threadIdx.x];
}

extern "C" __global__ void reductions(const float *x, float *sums, unsigned *votes) {
    float sum = x[blockIdx.x * blockDim.x + threadIdx.x];
    for (int half = 16; half > 0; half /= 2) sum += __shfl_down_sync(0xffffffffu, sum, half);
    unsigned vote = __ballot_sync(0xffffffffu, threadIdx.x % 3 == 0);
    int many = __syncthreads_count(threadIdx.x < 40);
    if (threadIdx.x % 32 == 0) {
        atomicAdd(&sums[blockIdx.x], sum);
        votes[2 * blockIdx.x + threadIdx.x / 32] = vote + many;
    }
}
"""


@pytest.fixture(params=ORDERS)
def module(request):
    return cuda_on_cpu.device(request.param).compiler(BROKEN, "broken.cu", ())


def ramp() -> np.ndarray:
    return np.arange(64, dtype=np.float32)


def test_barriers_shuffles_votes_and_atomics_do_what_they_do_on_a_card(module, rng):
    x = rng.random(128, dtype=np.float32)
    sums, votes = np.zeros(2, np.float32), np.zeros(4, np.uint32)
    module.get_function("reductions")((2,), (64,), (x, sums, votes))
    np.testing.assert_allclose(sums, x.reshape(2, 64).sum(axis=1), rtol=1e-6)
    ballots = [sum(1 << lane for lane in range(32) if (32 * warp + lane) % 3 == 0) for warp in (0, 1)]
    assert votes.tolist() == [ballot + 40 for ballot in ballots] * 2
    y = ramp()
    module.get_function("shift_with_barrier")((1,), (64,), (y,))
    np.testing.assert_array_equal(y, np.roll(ramp(), -1))


def test_a_missing_barrier_makes_the_result_depend_on_the_order():
    results = []
    for order in ORDERS:
        x = ramp()
        cuda_on_cpu.device(order).compiler(BROKEN, "broken.cu", ()).get_function("shift")((1,), (64,), (x,))
        results.append(x)
    assert not np.array_equal(results[0], results[1], equal_nan=True)
    assert not np.array_equal(results[0], results[2], equal_nan=True)


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ("two_barriers", r"different barriers.*64 threads at a barrier.*lines 18 19"),
        ("half_a_warp", r"deadlock.*48 threads at a barrier, 16 at a warp operation"),
        ("foreign_lane", r"reads lane 20, which is outside the mask"),
    ],
)
def test_what_a_card_may_hang_on_is_named(module, kernel, message):
    with pytest.raises(KernelError, match=message):
        module.get_function(kernel)((1,), (64,), (ramp(),))
    x = ramp()  # and the next launch is as good as new
    module.get_function("shift_with_barrier")((1,), (64,), (x,))
    np.testing.assert_array_equal(x, np.roll(ramp(), -1))


def test_a_write_past_dynamic_shared_memory_is_caught(module):
    kernel = module.get_function("dynamic")
    kernel((1,), (64,), (ramp(),), shared_mem=256)
    with pytest.raises(KernelError, match=r"past the end of dynamic shared memory \(252 bytes\)"):
        kernel((1,), (64,), (ramp(),), shared_mem=252)
    with pytest.raises(KernelError, match="49152 are allowed"):
        kernel((1,), (64,), (ramp(),), shared_mem=50_000)
    kernel.max_dynamic_shared_size_bytes = 50_000
    kernel((1,), (64,), (ramp(),), shared_mem=50_000)
    with pytest.raises(KernelError, match="more than the device's"):
        kernel.max_dynamic_shared_size_bytes = 10**6


def test_shared_memory_that_nobody_set_is_not_a_number(module):
    x = ramp()
    module.get_function("unset")((1,), (64,), (x,))
    assert x[0] == 1.0
    assert np.isnan(x[1:]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "takes 1 arguments, got 0"),
        ((ramp().astype(np.float64),), r"argument 0 must hold f4, got f8"),
        ((np.zeros((64, 2), np.float32)[:, 0],), "must be C-contiguous"),
        ((np.float32(1),), r"argument 0 must be \*f4, got float32"),
    ],
)
def test_arguments_are_checked(module, arguments, message):
    with pytest.raises(KernelError, match=message):
        module.get_function("shift")((1,), (64,), arguments)


def test_launch_shapes_are_checked(module):
    with pytest.raises(KernelError, match="1 to 1024 threads"):
        module.get_function("shift")((1,), (1025,), (ramp(),))
    with pytest.raises(KernelError, match="a grid must have"):
        module.get_function("shift")((1, 65536), (64,), (ramp(),))
    with pytest.raises(KernelError, match="no extern"):
        module.get_function("nothing")


def test_a_header_is_pasted_once_and_lines_keep_their_names():
    text = source.join("double_poisson")
    assert text.count("__device__ __forceinline__ uint4 philox4x32(") == 1
    assert "#include" not in text
    broken = text.replace("double log_factorial(double k) {", "double log_factorial(double k) { broken")
    with pytest.raises(cuda_on_cpu.CompileError, match=r"poisson\.cuh:\d+"):
        cuda_on_cpu.device().compiler(broken, "double_poisson.cu", ("-DREAL=float",))


def test_every_source_is_compiled_by_a_launcher_and_every_twin_takes_the_same_arguments():
    assert {name for name, _ in cuda.programs()} == {path.stem for path in source.FOLDER.glob("*.cu")}
    assert set(cuda.TABLE) - set(cpu.TABLE) == cuda.ONLY_ON_A_CARD
    for name in set(cuda.TABLE) - cuda.ONLY_ON_A_CARD:
        twin = list(inspect.signature(cpu.find(name)).parameters)
        assert list(inspect.signature(cuda.find(name, cuda_on_cpu.device())).parameters) == twin, name


FUSED = r"""
extern "C" __global__ void residual(const float *x, const float *square, float *out) {
    out[0] = x[0] * x[0] - square[0];
}
"""


@pytest.mark.parametrize(("options", "rounded_twice"), [((), False), (("-fmad=false",), True)])
def test_products_and_sums_are_fused_where_a_cards_compiler_fuses_them(options, rounded_twice):
    if not cuda_on_cpu.can_fuse():
        pytest.skip("this processor or compiler does not fuse products and sums")
    x, out = np.float32([1 + 2**-12 + 2**-20]), np.full(1, np.nan, np.float32)
    cuda_on_cpu.device().compiler(FUSED, "fused.cu", options).get_function("residual")((1,), (1,), (x, x * x, out))
    assert (out[0] == 0) == rounded_twice


SMALL = r"""
extern "C" __global__ void products(const float *x, const float *y, float *out) {
    out[threadIdx.x] = x[threadIdx.x] * y[threadIdx.x];
    __syncthreads();
    out[64 + threadIdx.x] = x[threadIdx.x] * y[threadIdx.x];
}
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only this processor is told to")
@pytest.mark.parametrize("options", [(), ("-fmad=false",)])
def test_what_is_not_normal_is_flushed_to_zero_and_only_in_kernels(module, options):
    """A product below 1e-38 is 0 on a card, and a factor below counts as 0: also behind a barrier, in every order."""
    kernel = cuda_on_cpu.device(module.order).compiler(SMALL, "small.cu", options).get_function("products")
    x, y = np.full(64, 1e-20, np.float32), np.full(64, 1e-20, np.float32)
    x[1], y[1] = 1e-40, 1e30
    x[2], y[2] = 1e-18, 1e-18
    for _ in range(2):  # threads of a second launch have run before
        out = np.full(128, np.nan, np.float32)
        kernel((1,), (64,), (x, y, out))
        assert out[[0, 1, 64, 65]].tolist() == [0, 0, 0, 0]
        assert (out[[2, 66]] == np.float32(1e-18) * np.float32(1e-18)).all()
    assert np.float32(1e-20) * np.float32(1e-20) > 0  # the host computes as before


def test_the_sanitizers_are_given_every_build():
    asked, real = set(), cuda_on_cpu.device()

    def compiler(text, name, options):
        asked.add((name, options))
        return real.compiler(text, name, options)

    _small_kernels.run(dataclasses.replace(real, compiler=compiler, _modules={}, _kernels={}))
    assert asked >= {(f"{name}.cu", source.options(name, macros)) for name, macros in cuda.programs()}


SANITIZED = """
import cuda_on_cpu
import numpy as np
from benchmarks import _small_kernels

device = cuda_on_cpu.device("random", sanitize=True)
"""

EVERY_KERNEL = """
_small_kernels.run(device, [np.float32])
print("clean")
"""

OUT_OF_BOUNDS = """
text = 'extern "C" __global__ void past(float *x) {\\n  x[threadIdx.x] = 0.0f;\\n}'
device.compiler(text, "past.cu", ()).get_function("past")((1,), (65,), (np.zeros(64, np.float32),))
"""


def sanitized(work: str) -> subprocess.CompletedProcess[str]:
    """Work in a process of its own, whose arrays the address sanitizer guards as well."""
    library = subprocess.run(["g++", "-print-file-name=libasan.so"], check=True, capture_output=True, text=True).stdout.strip()
    if not Path(library).is_absolute():
        pytest.skip("g++ has no address sanitizer here")
    environment = os.environ | {
        "LD_PRELOAD": library,
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
        "PYTHONPATH": os.pathsep.join(map(str, (Path(__file__).parents[1], Path(__file__).parents[2]))),
        "PYTHONMALLOC": "malloc",
    }
    command = [sys.executable, "-c", SANITIZED + work]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_sanitizers_find_nothing():
    done = sanitized(EVERY_KERNEL)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["clean"]


def test_the_sanitizers_would_find_an_access_out_of_bounds():
    done = sanitized(OUT_OF_BOUNDS)
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr
    assert "past.cu:2" in done.stderr
