"""Faults that meet a run of the command line: kills, damaged checkpoints, company, stacks that change, streams, limits."""

from __future__ import annotations

import importlib
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ._field import SHORT, Field, images_of, outcome
from ._places import full_disks, names, outputs, signals
from ._process import Child, Ended, complaint, whole

__all__ = ["RUNS"]


def kills(field: Field, rng: np.random.Generator) -> str:
    """Killed at a random moment, then resumed: the same bytes as without, and no left-over."""
    stack, out = field.folder / "stack0.tif", field.new()
    child = field.run(stack, out)
    time.sleep(rng.uniform(0.0, 1.1 * field.seconds))
    child.kill()
    child.wait()
    if out.exists() and (wrong := whole(out)):
        return wrong
    more = ["--resume"] if (out / "checkpoint.pt").exists() else []
    ended = field.run(stack, out, *more).wait()
    if ended.status != 0:
        return f"cannot be taken up again: {ended.log.strip().splitlines()[-1:]}"
    left = [path.name for path in out.iterdir() if path.name.endswith(".part")]
    return outcome(field, ended, out, 0) or (f"left over: {left}" if left else "")


def bit_flips(field: Field, rng: np.random.Generator) -> str:
    """A bit of a checkpoint is flipped, or a sector zeroed: refused, or the same bytes."""
    stack, kept = field.folder / "stack0.tif", field.folder / "kept"
    while not (kept / "checkpoint.pt").exists():
        shutil.rmtree(kept, ignore_errors=True)
        child = field.run(stack, kept)
        while child.running() and not (kept / "checkpoint.pt").exists():
            time.sleep(0.001)
        child.kill()
        child.wait()
    out = Path(shutil.copytree(kept, field.new()))
    path = out / "checkpoint.pt"
    content = bytearray(path.read_bytes())
    place = int(rng.integers(len(content)))
    if rng.random() < 0.8:
        content[place] ^= 1 << int(rng.integers(8))
    else:
        first = place // 512 * 512
        content[first : first + 512] = bytes(len(content[first : first + 512]))
    path.write_bytes(content)
    return outcome(field, field.run(stack, out, "--resume").wait(), out, 0)


def pairs(field: Field, rng: np.random.Generator) -> str:
    """Two runs of two stacks into one folder: one has it whole, the other is refused or follows."""
    out = field.new()
    first = field.run(field.folder / "stack0.tif", out)
    time.sleep(rng.uniform(0.0, 1.2 * field.seconds))
    log = field.folder / f"second-{out.name}"
    words = ["reconstruct", str(field.folder / "stack1.tif"), "--output", str(out), *SHORT.split()]
    ends = [child.wait() for child in (first, Child(words, log))]
    if wrong := next(filter(None, map(complaint, ends)), "") or whole(out):
        return wrong
    if all(ended.status for ended in ends):
        return "neither run has a result"
    last = [number for number, ended in enumerate(ends) if ended.status == 0]
    return "" if images_of(out) in [field.images[number] for number in last] else "images of neither run"


def moved_stacks(field: Field, rng: np.random.Generator) -> str:
    """The stack is renamed, removed, cut, rewritten or replaced meanwhile: a right result of what was read, or a refusal."""
    stack, out, other = field.stack(), field.new(), (field.folder / "stack1.tif").read_bytes()
    child = field.run(stack, out)
    time.sleep(rng.uniform(0.0, field.seconds))
    kind = int(rng.integers(5))
    if kind == 0:
        stack.rename(stack.with_suffix(".moved"))
    elif kind == 1:
        stack.unlink()
    elif kind == 2:
        os.truncate(stack, int(rng.integers(stack.stat().st_size)))
    elif kind == 3:
        with open(stack, "r+b") as handle:
            handle.write(other)
    else:
        beside = stack.with_suffix(".new")
        beside.write_bytes(other)
        beside.replace(stack)
    return outcome(field, child.wait(), out, 0, 1)


def streams(field: Field, rng: np.random.Generator) -> str:
    """Standard streams closed, full, or read by nobody: the result is in place."""
    kind, out = int(rng.integers(4)), field.new()

    def spoil() -> None:
        for descriptor in (0, 1, 2)[int(kind > 1) :]:
            if kind == 0:
                os.close(descriptor)
            elif kind == 1:
                os.dup2(os.open("/dev/full", os.O_RDWR), descriptor)
            elif kind == 2:
                reads, writes = os.pipe()
                os.close(reads)
                os.dup2(writes, descriptor)
            else:
                sys.stdout = sys.stderr = None  # type: ignore[assignment]

    ended = field.run(field.folder / "stack0.tif", out, before=spoil).wait()
    if ended.status is None or ended.status < 0:
        return complaint(ended)
    return whole(out) or ("" if out.exists() and images_of(out) == field.images[0] else "no result")


def limits(field: Field, rng: np.random.Generator) -> str:
    """No file may grow beyond a random size, as on a disk that is full: said, and nothing half in place."""
    out, size = field.new(), int(rng.integers(1, 40_000))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    ended = field.run(field.folder / "stack0.tif", out, before=limit).wait()
    if ended.status == 0:
        return outcome(field, ended, out, 0)
    # the log itself may not hold all that was said
    return "" if ended.status == 1 and not whole(out) else f"status {ended.status}: {complaint(ended) or whole(out)}"


def folders(field: Field, rng: np.random.Generator) -> str:
    """The output folder is removed, or a file put in its place, while the stack is reconstructed."""
    out = field.new()
    child = field.run(field.folder / "stack0.tif", out)
    while child.running() and not out.exists():
        time.sleep(0.001)
    time.sleep(rng.uniform(0.0, 0.5 * field.seconds))
    shutil.rmtree(out, ignore_errors=True)
    in_the_way = rng.random() < 0.5
    if in_the_way and not out.exists():
        out.write_text("")
    ended = child.wait()
    if wrong := complaint(ended):
        return wrong
    if out.is_dir() and (out / "report.json").exists():
        return outcome(field, ended, out, 0)
    said = ended.log.strip().splitlines()[-1] if ended.log.strip() else ""
    return "" if ended.status or str(out) not in said else f"says {said!r}, and it is not there"


def environments(field: Field, rng: np.random.Generator) -> str:
    """Variables of the environment that are wrong, and names of files that are no UTF-8, each in a fresh interpreter."""
    stack, out = field.stack(), field.new()
    changes: list[dict[str, str | None]] = [
        {"MPLBACKEND": "no such backend"},
        {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"HOME": "/nonexistent", "XDG_CACHE_HOME": "/nonexistent"},
        {"TMPDIR": "/nonexistent"},
        {"MPLCONFIGDIR": "/nonexistent", "NUMBA_CACHE_DIR": "/nonexistent/cache"},
        {"COLUMNS": "no number", "LINES": "-3", "TERM": "none"},
        {"OMP_NUM_THREADS": "none", "NUMBA_NUM_THREADS": "1"},
        {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "2"},
        {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8", "PYTHONHASHSEED": "7"},
        {"HOME": None, "USER": None, "LOGNAME": None},
        {"PYTHONOPTIMIZE": "2"},
        {"PYTHONWARNINGS": "error"},
    ]
    if rng.random() < 0.3:
        stack = stack.rename(stack.with_name(os.fsdecode(b"st\xffck-") + stack.name))
    words = [sys.executable, "-c", "import sys; from fluogan_core.cli import main; sys.exit(main())", "reconstruct"]
    words += [str(stack), "--output", str(out), *SHORT.replace("--no-figure", "").split()]
    changed = changes[int(rng.integers(len(changes)))]
    environment = {name: value for name, value in (os.environ | changed).items() if value is not None}
    done = subprocess.run(words, env=environment, capture_output=True, timeout=600, check=False)
    ended = Ended(done.returncode, (done.stdout + done.stderr).decode(errors="replace"))
    figure = "" if (out / "figure.png").exists() else f"{changed}: no figure"
    return outcome(field, ended, out, 0) or figure


_USES_A_KERNEL = (
    "import numpy as np, fluogan_core as fg; v = np.arange(12.0).reshape(3, 4); "
    "print(fg.prox_total_variation(v, 0.3, dual=np.zeros((4, 3, 4)), sweeps=3).sum())"
)


def caches(field: Field, rng: np.random.Generator) -> str:
    """A file of the cache of compiled kernels is emptied, cut, or has a bit flipped: the same numbers."""
    kept, cache = field.folder / "cache", field.new()

    def use(folder: Path) -> str:
        environment = os.environ | {"NUMBA_CACHE_DIR": str(folder)}
        words = [sys.executable, "-c", _USES_A_KERNEL]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=600, check=False)
        return done.stdout.strip() or (done.stderr.strip().splitlines() or ["nothing"])[-1]

    expected = field.folder / "expected"
    if not expected.exists():
        expected.write_text(use(kept))
    shutil.copytree(kept, cache)
    files = sorted(path for path in cache.rglob("*.nb?") if path.is_file())
    path = files[int(rng.integers(len(files)))]
    content = bytearray(path.read_bytes())
    kind, place = int(rng.integers(3)), int(rng.integers(len(content)))
    if kind == 0:
        content = bytearray()
    elif kind == 1:
        del content[place:]
    else:
        content[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(content)
    found = use(cache)
    return "" if found == expected.read_text() else f"{path.name}: {found}"


#: Name -> what is tried, how often by default, and the fault.
RUNS: dict[str, tuple[int, Callable[[Field, np.random.Generator], str]]] = {
    "kills": (100, kills),
    "bit_flips": (100, bit_flips),
    "pairs": (20, pairs),
    "moved_stacks": (20, moved_stacks),
    "streams": (20, streams),
    "limits": (20, limits),
    "folders": (20, folders),
    "signals": (20, signals),
    "names": (20, names),
    "outputs": (20, outputs),
    "full_disks": (20, full_disks),
    "environments": (12, environments),
    "caches": (8, caches),
}


#: What a run imports: imported once, before processes are forked.
_IMPORTED = (
    "torch", "scipy.fft", "scipy.ndimage", "tifffile", "fluogan_core.cli.commands", "fluogan_core.solvers.reconstruct",
    "fluogan_core.solvers.checkpoint", "fluogan_core.io.result", "fluogan_core.calibration.calibrate",
    "fluogan_core.kernels.cpu.total_variation", "fluogan_core.kernels.cpu.prox_step",
)  # fmt: skip


def tries(name: str, count: int, seed: int, folder: Path) -> Iterator[str]:
    """Try a fault ``count`` times: each time what gave way, "" if nothing did."""
    from fluogan_core.solvers.solver import Solver

    folder.mkdir()
    for module in _IMPORTED:
        importlib.import_module(module)
    # a checkpoint every few steps: there is something to be damaged
    (Solver.run.__kwdefaults__ or {})["checkpoint_seconds"] = 0.03
    field = Field(folder)
    for number in range(count):
        yield RUNS[name][1](field, np.random.default_rng((seed, number)))
