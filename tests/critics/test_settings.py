"""Settings of torch and NumPy that a host program may have made change no result, and are as they were afterwards."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import fluogan_core as fg
from fluogan_core.critics.training import CriticTrainer


@contextlib.contextmanager
def switched(switch, value, before):
    switch(value)
    try:
        yield
    finally:
        switch(before)


HOSTS = {
    "autograd off": lambda: torch.set_grad_enabled(False),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "deterministic algorithms": lambda: switched(torch.use_deterministic_algorithms, True, False),
    "default dtype float64": lambda: switched(torch.set_default_dtype, torch.float64, torch.float32),
    "default device meta": lambda: torch.device("meta"),
    "every error of NumPy raises": lambda: np.errstate(all="raise"),
}


class Foreign(nn.Module):
    """Outside the kernels' family, with a constant that is made where torch's default says."""

    def __init__(self):
        super().__init__()
        self.inner = fg.Critic((9, 8), channels=3, depth=2, seed=1, input_mean=3.0, input_std=2.0)

    def forward(self, y):
        return torch.tanh(self.inner(y)) + torch.arange(2.0).sum().to(y.dtype)


def everything(critic):
    """Numbers of every entry into torch: differences, gradients, scores, and a few steps of training on fixed frames."""
    psi = fg.Psi(np.ones((3, 3)), (9, 8), 2, photons_per_emitter=3.0, backend="numpy")
    model = fg.ForwardModel(psi, gain=2.0, noise_std=0.5)
    x, b = np.full(psi.fine_shape, 0.2, np.float32), np.ones(psi.shape, np.float32)
    y = model.sample(x, b, 16, seed=2)
    trainer = CriticTrainer(critic, scale=np.full((9, 8), 2.0))
    real, simulated, eta = (torch.from_numpy(a) for a in (y[:8], y[8:], np.full(8, 0.3, np.float32)))
    told = [trainer.step(real, simulated, eta) for _ in range(3)]
    out = [np.array([float(value) for pair in told for value in pair])]
    out += [fg.critic_differences(critic, y[:2], 2.0, method=method) for method in ("exact", "linear")]
    for method in ("corrected", "coupled", "photon"):
        out += fg.critic_gradient(critic, model, x, b, frames=4, method=method, with_error=True)
    return out


MAKERS = {"slim": lambda: fg.Critic((9, 8), channels=3, depth=2, seed=1, input_mean=3.0, input_std=2.0), "foreign": Foreign}


@pytest.mark.parametrize("critic", MAKERS)
@pytest.mark.parametrize("host", HOSTS)
def test_a_hosts_settings_change_nothing(host, critic):
    expected = everything(MAKERS[critic]())
    grad_enabled = torch.is_grad_enabled()
    with HOSTS[host]():
        got = everything(MAKERS[critic]())
    for a, e in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, e)
    torch.set_grad_enabled(grad_enabled)


def test_the_modes_of_the_host_are_its_own_again():
    critic, y = Foreign(), np.ones((2, 9, 8), np.float32)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16), torch.device("meta"):
        fg.critic_differences(critic, y, 1.0, method="linear")
        assert torch.is_inference_mode_enabled()
        assert torch.is_autocast_enabled("cpu")
        assert torch.get_default_device().type == "meta"


def test_deterministic_unpooling_is_the_other_one(rng):
    critic = fg.Critic((11, 9), channels=3, depth=2, seed=1)
    y = torch.as_tensor(rng.standard_normal((4, 11, 9)), dtype=torch.float32)
    plain = critic.slope(y)
    with HOSTS["deterministic algorithms"]():
        assert torch.equal(critic.slope(y), plain)


# -- the precision of products of float32 numbers -----------------------------------------------------------------------

#: In a process of its own: what is set by the second interface cannot be unset for the first one.
PRECISIONS = """
import contextlib
import torch
from fluogan_core.critics import settings

PLACES = (("cuda", "conv"), ("cuda", "rnn"), ("cuda", "matmul"), ("mkldnn", "conv"), ("mkldnn", "matmul"))
EVERYWHERE = (("generic", "all"), ("cuda", "all"), ("mkldnn", "all"), *PLACES)
HOSTS = {
    "torch's defaults": lambda: None,
    "first interface, cudnn on": lambda: setattr(torch.backends.cudnn, "allow_tf32", True),
    "first interface, cudnn off": lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
    "first interface, matmul": lambda: torch.set_float32_matmul_precision("medium"),
    "everywhere ieee": lambda: setattr(torch.backends, "fp32_precision", "ieee"),
    "everywhere tf32": lambda: setattr(torch.backends, "fp32_precision", "tf32"),
    "second interface, one operation": lambda: setattr(torch.backends.mkldnn.conv, "fp32_precision", "bf16"),
}

def read(places=PLACES):
    return [torch._C._get_fp32_precision_getter(*place) for place in places]

# the way of torch before 2.9, whose first interface this torch still has
with settings._full_precision_before_2_9("cuda"):
    assert torch.backends.cudnn.allow_tf32 is False and torch.backends.cuda.matmul.allow_tf32 is False
assert torch.backends.cudnn.allow_tf32 is True

if hasattr(torch.backends, "fp32_precision"):
    fresh = read(EVERYWHERE)
    for name, host in HOSTS.items():
        for kind in ("cpu", "cuda"):
            host()
            before = read()
            with settings.neutral(torch.device(kind)):
                home = "cuda" if kind == "cuda" else "mkldnn"
                within = {value for (place, _), value in zip(PLACES, read()) if place == home}
                assert within <= {"ieee", "none"}, (name, kind, within)
            assert read() == before, (name, kind)
            for place, value in zip(EVERYWHERE, fresh):
                torch._C._set_fp32_precision_setter(*place, value)
    # two threads whose computations overlap: the first one that is done leaves the switches to the other
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    first, second = (contextlib.ExitStack() for _ in range(2))
    first.enter_context(settings.neutral(torch.device("cpu")))
    second.enter_context(settings.neutral(torch.device("cpu")))
    first.close()
    assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
    second.close()
    assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    # a switch that follows the one for all operations goes on following
    for place in EVERYWHERE:
        torch._C._set_fp32_precision_setter(*place, "none")
    torch.backends.fp32_precision = "tf32"
    with settings.neutral(torch.device("cuda")):
        pass
    torch.backends.fp32_precision = "ieee"
    assert torch.backends.cudnn.conv.fp32_precision == "ieee"
print("held")
"""


def test_products_are_in_full_precision_whatever_interface_the_host_used():
    done = subprocess.run([sys.executable, "-c", PRECISIONS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "held\n"
