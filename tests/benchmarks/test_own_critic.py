"""A user's critic and PSF through the harness of the benchmarks."""

from __future__ import annotations

import numpy as np
import pytest
from psfs import tiny_psf

from benchmarks import __main__ as command

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.convolution = nn.Conv2d(1, 2, 3, padding=1)
        self.head = nn.Linear(2 * shape[0] * shape[1], 1)

    def forward(self, y):
        return self.head(torch.tanh(self.convolution(y[:, None] / 10)).flatten(1))[:, 0]

made = Net((8, 8))
number = 3
"""


@pytest.fixture
def mine(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(NET)
    np.save(tmp_path / "psf.npy", tiny_psf(5))
    return file


@pytest.mark.parametrize("name", ["Net", "made"])
def test_a_critic_of_the_users_is_measured(mine, name, capsys):
    more = ["--psf", str(mine.parent / "psf.npy"), "--factor", "2", "--size", "8", "--batch", "2", "--quick"]
    assert command.main(["differences", "--critic", f"{mine}:{name}", *more]) == 0
    out = capsys.readouterr().out
    assert all(
        row in out for row in ("| exact |", "| torch, one backward |", "| torch, batched |", "| coupled, coarse lattice |")
    )
    target = next(line for line in out.splitlines() if line.startswith("| exact against the critic in float64"))
    assert target.endswith("| yes |")


@pytest.mark.parametrize(
    ("words", "message"),
    [("nothing.py:Net", "FILE.py:NAME"), ("{}:other", "has no other"), ("{}:number", "must be a torch module"), ("{}", "NAME")],
)
def test_what_is_no_critic_is_refused(mine, words, message):
    with pytest.raises(SystemExit, match=message):
        command.main(["differences", "--critic", words.format(mine), "--quick"])
