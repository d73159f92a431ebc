"""Fixtures shared by all tests."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Read by the libraries when they are imported, here and in every process that tests start.  Threads of BLAS wait for one
# another where other processes use the same cores: calibration, solvers and critics took 39 s on one thread, 287 s on two.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")  # widgets of napari are made without a display

import cuda_on_cpu
import numpy as np
import own_operators
import pretend_card
import pytest
import sweeps
from kernel_sets import COMPILED, CUDA, NUMBA, KernelSet, kernel_set

import fluogan_core as fg
from fluogan_core.backend import arrays as room
from fluogan_core.backend import dlpack
from fluogan_core.kernels import cuda
from fluogan_core.kernels.cuda import source

sys.path.append(str(Path(__file__).resolve().parents[1]))  # benchmarks/ is not installed
from benchmarks._cuda_resources import ARCHITECTURES


@pytest.fixture(params=own_operators.MAKE)
def own(request: pytest.FixtureRequest) -> fg.Operator:
    """Operators of a user's own, one after the other."""
    return own_operators.MAKE[request.param](own_operators.nominal())


@pytest.fixture(scope="session", autouse=True)
def auto_means_the_cpu() -> Iterator[None]:
    """Let ``backend="auto"`` find no card where there is one: tests compute on it only where they name it.

    What a test module imports by name (``from fluogan_core.backend.arrays import get_backend``) stays as it is.
    """
    real = room.get_backend

    @functools.wraps(real)  # so that it is pickled by the name of the real one
    def get_backend(name: str | fg.Backend = "auto", device: int | None = None) -> fg.Backend:
        if name != "auto":
            return real(name, device)
        reason = room.why_no_gpu() or "tests compute on one only where they name it"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(room, "why_no_gpu", lambda: reason)
            return real(name, device)

    with pytest.MonkeyPatch.context() as patch:
        for module in [module for name, module in sys.modules.items() if name.split(".")[0] == "fluogan_core"]:
            if vars(module).get("get_backend") is real:
                patch.setattr(module, "get_backend", get_backend)
        yield


@pytest.fixture
def pretended_card(monkeypatch: pytest.MonkeyPatch) -> fg.Backend:
    """The backend of a card that is only pretended; its arrays lead to it, and torch has no stream there."""
    pretended = pretend_card.backend()
    monkeypatch.setattr(room, "_cupy_backend", lambda number: pretended)
    monkeypatch.setattr(dlpack, "on_torch_stream", lambda backend: contextlib.nullcontext())
    return pretended


@pytest.fixture(params=["numpy", "cuda-on-cpu-random", "pretended-card", pytest.param("cupy", marks=pytest.mark.gpu)])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> fg.Backend:
    """Every backend in turn, NumPy's with the CUDA kernels, and a card that is only pretended (see ``pretend_card.py``).

    CuPy is skipped, and said to be, where there is no card.
    """
    if request.param == "numpy":
        return fg.get_backend("numpy")
    if request.param == "pretended-card":
        found: fg.Backend = request.getfixturevalue("pretended_card")
        return found
    chosen = kernel_set(request.param).backend
    if chosen.name == "numpy":
        # the backend follows the arrays: NumPy's arrays now lead to this one
        monkeypatch.setattr(room, "_numpy_backend", lambda: chosen)
    return chosen


@pytest.fixture(params=[*NUMBA, *CUDA])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> KernelSet:
    """Every set of kernels in turn."""
    if request.param in NUMBA:
        threads = 1 + NUMBA.index(request.param)
        monkeypatch.setattr("fluogan_core.kernels.cpu.threads.thread_count", lambda: threads)
        monkeypatch.setattr("fluogan_core.kernels.cpu.poisson._WORTH_A_BLOCK", 1)
    return kernel_set(request.param)


@pytest.fixture
def array_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the library compute without its kernels: what it returns then is the definition."""
    monkeypatch.setattr(fg.Backend, "kernel", lambda backend, name: None)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240527)


@pytest.fixture(scope="session")
def real_stacks() -> Path:
    """The folder of recorded stacks, which the project does not redistribute."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data" / "real"
    if not folder.is_dir():
        pytest.skip("the recorded stacks are not here")
    return folder


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small blinking recording with its truth."""
    # here, for a CUDA image may lack what files need
    from fluogan_core.io.simulated import write_experiment
    from fluogan_core.simulation.experiment import Experiment

    folder = tmp_path_factory.mktemp("recording")
    settings = Experiment(separations_nm=(300.0,), size=(20, 16), frames=60, fwhm_nm=150.0, factor=2)
    write_experiment(settings, folder)
    return folder / "stack.tif"


@pytest.fixture(scope="session")
def counts() -> np.ndarray:
    """A recording of 20 frames, 12 x 10 camera pixels, with a bright bar."""
    light = np.full((12, 10), 5.0)
    light[3:9, 4] = 60.0
    return (np.random.default_rng(0).poisson(light, (20, 12, 10)) + 100).astype(np.uint16)


@pytest.fixture(scope="session")
def result(counts: np.ndarray) -> fg.Result:
    """What five steps make of it."""
    psi = fg.Psi(fg.gaussian_psf(150, 100, 2, truncate=2), (12, 10), 2, backend="numpy")
    options = fg.SolverOptions(method="none", warm_steps=5)
    return fg.reconstruct(counts, psi=psi, camera=fg.Camera(offset=100.0), options=options)


@pytest.fixture(scope="session")
def finished_sweep() -> fg.Sweep:
    """Two by two settings, of which a weight far too large leaves no image."""
    return sweeps.tried(sweeps.record(), {"detail": (0.2, 0.5), "sparsity": (0.5, 1e4)})


@pytest.fixture
def fluogan(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process; return status, standard output, standard error."""
    from fluogan_core.cli import commands as cli  # here, for a CUDA image may lack what commands need

    def run(*arguments: object) -> tuple[int, str, str]:
        status = cli.main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def signals_are_heard() -> Iterator[None]:
    """Let SIGINT raise KeyboardInterrupt, and SIGTERM and SIGHUP end a program, here and in child processes.

    Shells that start a program in the background let it ignore SIGINT, nohup lets it ignore SIGHUP, and so do some runners;
    Python keeps to that.
    """
    wanted = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    if hasattr(signal, "SIGHUP"):
        wanted[signal.SIGHUP] = signal.SIG_DFL
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


# -- several worker processes (pytest-xdist), if they are asked for --------------------------------------------------------


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker hands over what became of the CUDA kernels in it."""
    if (handed := getattr(session.config, "workeroutput", None)) is not None:
        handed["cuda compiled"] = [list(build) for build in COMPILED]
        handed["cuda launched"] = [list(kernel) for kernel in cuda_on_cpu.launched]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a worker has handed; one that died has handed nothing, and what it ran counts as not run."""
    handed = getattr(node, "workeroutput", {})
    COMPILED.update(map(tuple, handed.get("cuda compiled", ())))
    cuda_on_cpu.launched.update(map(tuple, handed.get("cuda launched", ())))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any) -> Iterator[None]:
    """Say last, behind the list of skipped tests, what became of the CUDA kernels: nothing left out passes for tested."""
    yield
    builds: dict[tuple[str, str], set[Any]] = {}
    for program, macros in cuda.programs():
        for kernel in cuda_on_cpu.kernel_names(source.join(program)):
            wanted = {(program, kernel, architecture, *macros.values()) for architecture in ARCHITECTURES}
            builds.setdefault((program, kernel), set()).update(wanted)
    compiled = sum(wanted <= COMPILED for wanted in builds.values())
    ran = len(cuda_on_cpu.launched & set(builds))
    reports = [
        (outcome, report)
        for outcome in ("passed", "failed", "error", "skipped")
        for report in terminalreporter.stats.get(outcome, [])
        if "gpu" in getattr(report, "keywords", {})
    ]
    skipped = sum(outcome == "skipped" for outcome, _ in reports)
    gpu = f"{len(reports) - skipped} run"
    if skipped:
        gpu += f", {skipped} skipped ({room.why_no_gpu()})"
    terminalreporter.write_line("")
    terminalreporter.write_line(f"CUDA kernels compiled for {', '.join(ARCHITECTURES)}: {compiled}/{len(builds)}")
    terminalreporter.write_line(f"CUDA kernels run on the CPU: {ran}/{len(builds)}")
    terminalreporter.write_line(f"GPU tests: {gpu}")
