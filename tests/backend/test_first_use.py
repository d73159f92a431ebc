"""The first use of the library may come from several threads at once."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import fluogan_core as fg
from fluogan_core.backend.once import once

TESTS = Path(__file__).parents[1]

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


#: The same on a card that is only pretended: its backend is made, and its kernels are compiled, where the threads meet.
FRESH_CARD = """
import contextlib, hashlib, sys, threading
import numpy as np
sys.path.insert(0, sys.argv[1])
import pretend_card
import fluogan_core as fg
from fluogan_core.backend import arrays, dlpack
from fluogan_core.backend.once import once

arrays._cupy_backend = once(lambda number: pretend_card.backend())
dlpack.on_torch_stream = lambda backend: contextlib.nullcontext()

def use():
    home = arrays._cupy_backend(0)
    psi = fg.Psi(np.ones((5, 5)) / 25, (8, 8), 2, photons_per_emitter=4.0, backend=home)
    model = fg.ForwardModel(psi, noise_std=1.0)
    x, b = (home.xp.ones(shape, dtype=np.float32) for shape in (psi.fine_shape, psi.shape))
    y = model.sample(x, b, 6)
    critic = fg.QuadraticCritic(y, model)
    critic.update_weights(x, b)
    found = [y, *critic.slope(x, b), psi.column_energies]
    options = fg.SolverOptions(method="none", warm_steps=3)
    found.append(fg.reconstruct(y, psi=psi, camera=fg.Camera(noise_std=1.0), options=options).x)
    return hashlib.sha256(b"".join(np.ascontiguousarray(home.to_host(a)).tobytes() for a in found)).hexdigest()

meet, found = threading.Barrier(4), []

def run():
    meet.wait()
    try:
        found.append(use())
    except Exception as error:
        found.append(repr(error))

threads = [threading.Thread(target=run) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(*{*found, use()})
"""


def test_threads_that_meet_at_the_first_use_of_a_card_get_the_bytes_of_one():
    done = subprocess.run([sys.executable, "-c", FRESH_CARD, str(TESTS)], capture_output=True, text=True)
    assert re.fullmatch("[0-9a-f]{64}", done.stdout.strip()), done.stdout + done.stderr


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
