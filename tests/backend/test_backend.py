"""The backend follows the arrays, and nothing is copied silently."""

from __future__ import annotations

import ast
import logging
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from psfs import tiny_psf

import fluogan_core as fg
from fluogan_core.backend import arrays as room
from fluogan_core.backend.arrays import get_backend  # the real one: fixtures replace the one that the library finds
from fluogan_core.io import provenance as _info
from fluogan_core.kernels.cuda import source


def test_auto_says_what_it_took_and_why(caplog):
    with caplog.at_level(logging.DEBUG, logger="fluogan_core"):
        chosen = get_backend("auto")
    assert chosen.name in ("numpy", "cupy")
    if chosen.name == "numpy":
        said = {record.levelno: record.getMessage() for record in caplog.records}
        assert said == {
            logging.INFO: "no GPU found, computing on the CPU",
            logging.DEBUG: f"why no GPU is used: {room.why_no_gpu()}",
        }


def test_cupy_is_refused_with_the_reason_where_it_cannot_be_used(monkeypatch):
    monkeypatch.setattr(room, "why_no_gpu", lambda: "no driver")
    with pytest.raises(RuntimeError, match="no driver; choose backend='numpy'"):
        fg.get_backend("cupy")
    with pytest.raises(RuntimeError, match="CUDA device 1 was asked for and cannot be used: no driver"):
        get_backend("auto", 1)
    assert get_backend("auto").name == "numpy"


def test_tests_compute_on_the_cpu_unless_they_name_the_card(monkeypatch):
    monkeypatch.setattr(room, "why_no_gpu", lambda: None)
    monkeypatch.setitem(sys.modules, "cupy", None)  # whoever asks for the card fails on it
    assert fg.Psi(tiny_psf(), (6, 6), 2).backend.name == "numpy"
    assert _info.collect()["backend"] == "numpy"
    with pytest.raises(ImportError):
        get_backend("auto")


def test_unknown_backends_and_arrays_are_refused():
    with pytest.raises(ValueError, match="'auto', 'numpy', 'cupy'"):
        fg.get_backend("tpu")
    with pytest.raises(TypeError, match="y must be a NumPy or CuPy array, got list"):
        fg.backend_of(x=np.zeros(3), y=[1, 2])


def test_a_mixture_raises_and_says_how_to_mend_it():
    elsewhere = type("ndarray", (), {"__module__": "cupy", "device": types.SimpleNamespace(id=0)})()
    with pytest.raises(ValueError, match=r"x is on the host but b is on cuda:0; move one with backend.asarray"):
        fg.backend_of(x=np.zeros(3), b=elsewhere)


def test_memory_budget_can_be_stated(monkeypatch):
    monkeypatch.setenv("FLUOGAN_MEMORY_BUDGET", "1e6")
    assert fg.get_backend("numpy").memory_budget() == 1_000_000
    monkeypatch.setenv("FLUOGAN_MEMORY_BUDGET", "plenty")
    with pytest.raises(ValueError, match="number of bytes"):
        fg.get_backend("numpy").memory_budget()
    monkeypatch.delenv("FLUOGAN_MEMORY_BUDGET")
    assert 64 * 2**20 <= fg.get_backend("numpy").memory_budget() <= 2 * 2**30


def test_every_array_function_that_the_library_calls_exists_in_cupy():
    """No card is needed to see that a name is missing there."""
    cupy = pytest.importorskip("cupy")
    modules = {"xp": cupy, "fft": pytest.importorskip("cupyx.scipy.fft"), "ndimage": pytest.importorskip("cupyx.scipy.ndimage")}
    called = set()
    for path in [*Path(fg.__file__).parent.rglob("*.py"), *source.FOLDER.glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts = ast.unparse(node).split(".") if isinstance(node, ast.Attribute) else []
            for place, name in enumerate(parts[:-1]):
                if name in modules and all(part.isidentifier() for part in parts):
                    called.add((name, *parts[place + 1 :]))
                    break
    assert {("xp", "linalg", "norm"), ("fft", "dctn"), ("xp", "may_share_memory")} <= called
    missing = []
    for module, *names in called:
        found = modules[module]
        for name in names:
            found = getattr(found, name, None)
        if found is None:
            missing.append(".".join((module, *names)))
    assert not missing


class Recorder:
    """CUDA streams that write down what they are asked to do."""

    def __init__(self, *, newer: bool) -> None:
        self.log: list[str] = []
        self.current = self.stream(1)
        if newer:
            self.Stream = types.SimpleNamespace(from_external=lambda foreign: self.stream(*foreign.__cuda_stream__()[1:]))
        else:
            self.Stream, self.ExternalStream = types.SimpleNamespace(), lambda pointer, device: self.stream(pointer)
        self.runtime = types.SimpleNamespace(getDevice=lambda: 0, memGetInfo=lambda: (2**20, 2**30))

    def stream(self, pointer):
        cuda = self

        class Stream:
            ptr = pointer

            def record(self):
                cuda.log.append(f"record {pointer}")
                return f"event of {pointer}"

            def wait_event(self, event):
                cuda.log.append(f"{pointer} waits for {event}")

            def __enter__(self):
                self.outer, cuda.current = cuda.current, self

            def __exit__(self, *error):
                cuda.current = self.outer

        return Stream()

    def get_current_stream(self):
        return self.current

    def PythonFunctionAllocator(self, malloc, free):
        self.free = free
        return types.SimpleNamespace(malloc=malloc)

    def set_allocator(self, malloc):
        self.malloc = malloc


@pytest.fixture(params=[False, True], ids=["cupy-13", "cupy-14"])
def recorded(request):
    cuda = Recorder(newer=request.param)
    return cuda, room.Backend("cupy", "cuda:0", types.SimpleNamespace(cuda=cuda), None, None, None)


def test_a_borrowed_stream_is_ordered_at_both_ends(recorded):
    cuda, backend = recorded
    with backend.on_stream(7):
        assert cuda.current.ptr == 7
        cuda.log.append("work")
    assert cuda.current.ptr == 1
    assert cuda.log == ["record 1", "7 waits for event of 1", "work", "record 7", "1 waits for event of 7"]


def test_a_borrowed_stream_is_ordered_behind_work_that_failed(recorded):
    cuda, backend = recorded
    with pytest.raises(KeyError), backend.on_stream(7):
        raise KeyError
    assert cuda.log[-1] == "1 waits for event of 7"


def test_this_cupy_takes_a_borrowed_stream_without_a_warning(recwarn):
    cupy = pytest.importorskip("cupy")
    assert room.borrowed_stream(cupy.cuda, 7, 0).ptr == 7
    assert not recwarn.list


def test_the_current_stream_needs_no_order(recorded):
    cuda, backend = recorded
    with backend.on_stream(1):
        pass
    assert cuda.log == []


def test_memory_of_another_library_is_asked_for_on_the_current_stream(recorded):
    cuda, backend = recorded
    asked, freed = [], []
    backend.allocate_with(lambda *request: asked.append(request) or 4096, freed.append)
    with backend.on_stream(7):
        assert cuda.malloc(100, 0) == 4096
    cuda.free(4096, 0)
    assert asked == [(100, 0, 7)]  # bytes, device, stream
    assert freed == [4096]


def test_cupy_for_rocm_is_refused(monkeypatch):
    runtime = types.SimpleNamespace(is_hip=True, getDeviceCount=lambda: 1)
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=runtime)))
    assert "built for ROCm; the kernels need CUDA" in room.why_no_gpu()
    with pytest.raises(RuntimeError, match="ROCm"):
        fg.get_backend("cupy")


def test_bounds_are_those_of_the_array_and_show_a_nan(backend):
    assert backend.bounds(backend.asarray([[3.0, -1.0], [2.0, 0.5]])) == (-1.0, 3.0)
    assert all(np.isnan(bound) for bound in backend.bounds(backend.asarray([1.0, np.nan, 2.0])))


def test_a_backend_is_pickled_with_its_card(recorded):
    _, backend = recorded
    assert backend.__reduce__() == (fg.get_backend, ("cupy", 0))
    assert fg.get_backend("numpy").__reduce__() == (fg.get_backend, ("numpy", None))


def test_another_threads_card_is_not_launched_on(recorded):
    cuda, backend = recorded
    backend.cuda = object()
    cuda.runtime.getDevice = lambda: 1
    with pytest.raises(RuntimeError, match=r"arrays are on cuda:0 but this thread's current card is cuda:1"):
        backend.kernel("prox_step")


def test_a_card_beside_another_backend_is_refused():
    with pytest.raises(ValueError, match="computes on cpu, but device 1 is asked for"):
        fg.get_backend(fg.get_backend("numpy"), device=1)


def test_a_stated_budget_holds_on_a_card_too(recorded, monkeypatch):
    _, backend = recorded
    monkeypatch.delenv("FLUOGAN_MEMORY_BUDGET", raising=False)
    assert backend.memory_budget() == 2**18
    monkeypatch.setenv("FLUOGAN_MEMORY_BUDGET", "12345")
    assert backend.memory_budget() == 12345
