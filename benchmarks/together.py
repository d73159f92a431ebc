"""Are results the same bytes when the library is used from several threads and processes at once?

``python -m benchmarks.together [--repeats 20]`` runs every case that often, each in a fresh process, and prints how many gave
the bytes of a single run.  A case is the first use of its process: nothing is compiled or cached before the threads meet.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor

import numpy as np

import fluogan_core as fg

__all__ = ["CASES", "FieldTask", "main", "run_cases"]

#: Threads that meet at the first use, and reconstructions that run at once.
MEETING, AT_ONCE = 4, 2


def _frames(seed: int) -> tuple[fg.Psi, np.ndarray]:
    psi = fg.Psi(fg.gaussian_psf(250, 100, 2), (12, 14), 2, photons_per_emitter=4.0, backend="numpy")
    x = np.zeros(psi.fine_shape, np.float32)
    x[4:20, 8] = x[4:20, 16] = 5.0
    return psi, fg.ForwardModel(psi, noise_std=1.0).sample(x, np.full(psi.shape, 3.0, np.float32), 60, seed=seed)


def first_use() -> str:
    """Sample, differentiate a critic and take its gradient."""
    psi, stack = _frames(0)
    critic, model = fg.Critic(psi.shape, channels=2, depth=2, seed=0), fg.ForwardModel(psi)
    x, b = np.full(psi.fine_shape, 0.1, np.float32), np.ones(psi.shape, np.float32)
    gradient = fg.critic_gradient(critic, model, x, b, frames=4)
    return _digest(stack, fg.critic_differences(critic, stack[:2], 1.0), gradient.x, gradient.b)


def reconstruction(seed: int = 0) -> str:
    """Reconstruct a small field by the default method, shortened."""
    psi, stack = _frames(seed)
    options = fg.SolverOptions(warm_steps=30, steps=40)
    result = fg.reconstruct(stack, psi=psi, camera=fg.Camera(noise_std=1.0), options=options, progress=False)
    return _digest(result.x, result.b)


def _digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()[:16]


def _in_threads(task: Callable[[], str], count: int) -> list[str]:
    """What the task gives in threads that start together; errors are given as text."""
    meet, found = threading.Barrier(count), [""] * count

    def run(number: int) -> None:
        meet.wait()
        try:
            found[number] = task()
        except Exception as error:
            found[number] = f"{type(error).__name__}: {error}"

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def _in_processes(method: str) -> list[str]:
    with ProcessPoolExecutor(AT_ONCE, mp_context=multiprocessing.get_context(method)) as pool:
        return [future.result() for future in [pool.submit(reconstruction) for _ in range(AT_ONCE)]]


def _forked_after_use() -> list[str]:
    """Processes that are forked from one that has used the library already."""
    reconstruction(1)
    return _in_processes("fork")


class FieldTask:
    """The task as a host's scheduler gets it: pickled with its operator."""

    def __init__(self) -> None:
        self.psi, self.stack = _frames(0)

    def __call__(self, _: int = 0) -> str:
        options = fg.SolverOptions(warm_steps=30, steps=40)
        camera = fg.Camera(noise_std=1.0)
        result = fg.reconstruct(self.stack, psi=self.psi, camera=camera, options=options, progress=False)
        return _digest(result.x, result.b)


def _in_dask() -> list[str]:
    """One worker with two threads in a process of its own."""
    from dask.distributed import Client, LocalCluster

    cluster = LocalCluster(n_workers=1, threads_per_worker=AT_ONCE, processes=True, dashboard_address=None, silence_logs=50)
    with cluster, Client(cluster) as client:
        return client.gather(client.map(FieldTask(), range(AT_ONCE), pure=False))


#: What is run, and what it must equal.
CASES: dict[str, tuple[Callable[[], list[str]], Callable[[], str]]] = {
    "first use from four threads": (lambda: _in_threads(first_use, MEETING), first_use),
    "two reconstructions in two threads": (lambda: _in_threads(reconstruction, AT_ONCE), reconstruction),
    "two forked processes": (lambda: _in_processes("fork"), reconstruction),
    "two processes forked after use": (_forked_after_use, reconstruction),
    "two spawned processes": (lambda: _in_processes("spawn"), reconstruction),
    "a Dask worker with two threads": (_in_dask, reconstruction),
}


def run_cases(*names: str) -> dict[str, list[str]]:
    """Return the digests that cases give, one after the other, in a fresh process.

    Parameters
    ----------
    *names : str
        Keys of :data:`CASES`.

    Returns
    -------
    dict of str to list of str
    """
    words = [sys.executable, "-m", "benchmarks.together", "--cases", *names]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        return {name: done.stderr.strip().splitlines()[-1:] for name in names}
    return json.loads(done.stdout.splitlines()[-1])


def main(argv: Sequence[str] | None = None) -> int:
    """Run all cases and print how many were right; return 1 if one was not."""
    parser = argparse.ArgumentParser("python -m benchmarks.together", description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--cases", choices=CASES, nargs="+", help="run these in this very process and print what they give")
    arguments = parser.parse_args(argv)
    if arguments.cases:
        print(json.dumps({name: CASES[name][0]() for name in arguments.cases}))
        return 0
    wrong = 0
    for name, (_, alone) in CASES.items():
        expected, right = alone(), 0
        for _ in range(arguments.repeats):
            found = run_cases(name)[name]
            right += set(found) == {expected}
            if set(found) != {expected}:
                print(f"{name}: {found}, but a single run gives {expected}")
        print(f"{name}: {right} of {arguments.repeats} right", flush=True)
        wrong += right < arguments.repeats
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
