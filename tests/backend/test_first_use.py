"""The first use of the library may come from several threads at once."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

import fluogan_core as fg
from fluogan_core.backend.once import once

#: Four threads meet at the first use of a fresh process.
FRESH = """
import threading
import numpy as np
import fluogan_core as fg
from fluogan_core.physics.psi import Psi

meet, failures, backends = threading.Barrier(4), [], []

def use():
    meet.wait()
    try:
        psi = Psi(np.ones((3, 3)), (6, 6), 2, backend="numpy")
        model = fg.ForwardModel(psi)
        model.sample(np.ones((12, 12)), np.ones((6, 6)), 1)
        backends.append(psi.backend)
    except Exception as error:
        failures.append(repr(error))

threads = [threading.Thread(target=use) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(set(map(id, backends))), *failures)
"""


@pytest.mark.parametrize("attempt", range(3))
def test_threads_that_meet_at_the_first_use_agree_on_the_backend(attempt):
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True)
    assert done.stdout.strip() == "1", done.stdout + done.stderr


def in_threads(function, count=4):
    """What ``function`` returns in each of several threads that start together."""
    meet, results = threading.Barrier(count), []

    def run():
        meet.wait()
        results.append(function())

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_a_value_is_made_once_however_many_threads_ask():
    made = []

    @once
    def slow(number):
        time.sleep(0.05)
        made.append(number)
        return object()

    assert len(set(map(id, in_threads(lambda: slow(1))))) == 1
    assert slow(2) is not slow(1)
    assert made == [1, 2]


def test_a_failure_is_not_kept():
    attempts = []

    @once
    def unsure():
        attempts.append(1)
        if len(attempts) == 1:
            raise RuntimeError("not yet")
        return "made"

    with pytest.raises(RuntimeError):
        unsure()
    assert unsure() == unsure() == "made"
    assert len(attempts) == 2


@pytest.mark.parametrize(
    ("other", "equal"),
    [(("numpy", "cpu"), True), (("cupy", "cuda:0"), False), (("cupy", "cpu"), False), (("numpy", "cuda:0"), False)],
)
def test_backends_are_compared_by_their_arrays_and_device(other, equal):
    name, device = other
    here, there = fg.get_backend("numpy"), fg.Backend(name, device, None, None, None)
    assert (here == there) is equal
    assert (hash(here) == hash(there)) is equal
    assert here != "numpy"
