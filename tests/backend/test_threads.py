"""The numerical libraries are held to one thread while the default method works, and are as they were afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from fluogan_core.backend.threads import one_thread

#: A prior that notes how many threads BLAS has while the fits of a small field work.
PROGRAM = """
import sys
import numpy as np
import fluogan_core as fg
from threadpoolctl import threadpool_info

def counts():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

class Noting(fg.Prior):
    seen = set()
    def value(self, z):
        return 0.0
    def prox(self, v, step):
        self.seen |= counts()
        if sys.argv[1] == "raise":
            raise KeyError("as a user's denoiser may")
        return np.maximum(v, 0)

import scipy.linalg
assert counts() == {2}, counts()
rng = np.random.default_rng(0)
stack = rng.poisson(20 + 200 * (rng.random((40, 1, 1)) < 0.2), (40, 16, 16)) + 100
psi = fg.Psi(fg.gaussian_psf(250, 100, 2), (16, 16), 2, backend="numpy")
options = fg.SolverOptions(warm_steps=2, steps=1)
try:
    fg.reconstruct(stack, psi=psi, camera=fg.Camera(offset=100.0), options=options, prior=Noting(), progress=False)
except KeyError:
    pass
print(sorted(Noting.seen), sorted(counts()))
"""


@pytest.mark.parametrize("how", ["end", "raise"])
def test_the_default_method_keeps_to_one_thread_and_gives_the_others_back(how):
    environment = os.environ | dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "2")
    command = [sys.executable, "-c", PROGRAM, how]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split("\n")[-2] == "[1] [2]"


def test_the_limit_ends_with_its_last_user():
    threadpoolctl = pytest.importorskip("threadpoolctl")

    def blas() -> set[int]:
        return {pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"}

    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with one_thread():
            entered.set()
            leave.wait()

    before, thread = blas(), threading.Thread(target=other)
    with one_thread():
        thread.start()
        entered.wait()
    assert blas() == {1}
    leave.set()
    thread.join()
    assert blas() == before
