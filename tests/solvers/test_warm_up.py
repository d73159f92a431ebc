"""After a warm-up nothing is compiled any more, whatever kind of arrays the caller passes."""

from __future__ import annotations

import subprocess
import sys

import fluogan_core as fg

PROBE = """
import sys
import numpy as np
import fluogan_core as fg

seconds = fg.warm_up("numpy")
from fluogan_core.kernels import cpu

def compiled():
    kernels = {}
    for name, module in list(sys.modules.items()):
        if name.startswith(cpu.__name__ + "."):
            for item in vars(module).values():
                if type(getattr(item, "_cache", None)).__name__ == "_FolderCache":
                    kernels[f"{item.__module__}.{item.__name__}"] = len(item.signatures)
    return kernels

ready = compiled()
assert seconds > 0 and len(ready) >= 9, ready
assert all(ready[name] for name in ready if not name.endswith(("_poisson", "_words"))), ready  # these two are for tests only

def read_only(a):
    a = a.copy()
    a.setflags(write=False)
    return a

def strided(a):
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]

def unaligned(a):
    room = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    room[...] = a
    return room

swapped = lambda a: a.astype(a.dtype.newbyteorder())
double = lambda a: a.astype(np.float64)
kinds = (np.array, read_only, strided, unaligned, swapped, np.asfortranarray, double, lambda a: read_only(double(a)))

psi = fg.Psi(fg.gaussian_psf(318, 100, 2), (16, 16), 2, photons_per_emitter=5.0, backend="numpy")
model = fg.ForwardModel(psi, gain=2.0, noise_std=1.0)
rng = np.random.default_rng(0)
x, b = rng.gamma(0.5, 2.0, psi.fine_shape).astype(np.float32), np.full(psi.shape, 3.0, np.float32)
y = model.sample(x, b, 20)
critic = fg.Critic((16, 16), channels=8, depth=2)
wanted = None
for kind in kinds:
    assert np.allclose(model.sample(kind(x), kind(b), 20), y, rtol=1e-5), kind
    found = fg.critic_differences(critic, kind(y), 2.0)
    wanted = found if wanted is None else wanted
    assert np.array_equal(found, wanted), kind
    fg.critic_gradient(critic, model, kind(x), kind(b), 2, method="corrected")
    if kind is not swapped:
        fg.prox_step(kind(x), kind(x), step=0.1)
for method in ("none", "moments", "corrected"):
    small = fg.SolverOptions("corrected", steps=2, warm_steps=3, batch=8, gradient_frames=4, critic_steps=2)
    options = small.for_method(method)
    fg.reconstruct(read_only(y), psi=psi, camera=fg.Camera(2.0, 0.0, 1.0), options=options)
more = {name: count for name, count in compiled().items() if count != ready.get(name, 0)}
print("compiled after the warm-up:", more)
"""


def test_nothing_is_compiled_after_a_warm_up():
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "compiled after the warm-up: {}"


def test_a_warm_up_reports_nothing_of_its_own_frames(caplog):
    with caplog.at_level("INFO", "fluogan_core"):
        fg.warm_up("numpy")
    assert [record.getMessage().split(" on ")[0] for record in caplog.records] == ["kernels are ready"]
