"""What trained critics are judged by, and what they are told."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import _emission_networks as networks
from benchmarks.bench_trained_critic import shares, worth


@pytest.fixture(scope="module")
def field():
    return networks.field_of(2, 500)


def test_a_critic_is_worth_its_correlation_with_the_exact_one():
    """L = D + what D does not see, both Gaussian: D adds var(D) / 2, L adds var(L) / 2, a multiple of D no less."""
    rng = np.random.default_rng(0)
    seen, hidden, noise = (
        0.1 * rng.standard_normal((2, 200_000)),
        0.2 * rng.standard_normal((2, 200_000)),
        rng.standard_normal((2, 2, 200_000)),
    )
    ratio = seen + hidden + 0.3 * noise
    values = np.stack([rng.standard_normal(seen.shape), seen, 7 * seen, seen + hidden])
    assert worth(ratio, values)[1:] == pytest.approx([0.005, 0.005, 0.025, 0.025], rel=0.05)
    assert shares(ratio, values)[2:] == pytest.approx([0.0, 1.0], abs=0.05)


def test_what_emissions_say_is_a_score(field):
    """Its mean is 0 between the two images, and its slope on the way is its variance."""
    rng, said = np.random.default_rng(1), {}
    for kind in ("bar", "between", "pair"):
        said[kind] = field.said(field.drawn(kind, 5_000, rng))
    error = said["between"].std() / len(said["between"]) ** 0.5
    assert abs(said["between"].mean()) < 4 * error
    assert said["pair"].mean() - said["bar"].mean() == pytest.approx(said["between"].var(), rel=0.2)


def test_networks_see_each_emission_at_its_place(field):
    """A network that answers a constant c has the loss sum x exp(c) - c z; one that is right about one fine pixel has less."""
    torch = pytest.importorskip("torch")
    drawn = networks.Drawn(np.full((2, 256), 3.0, np.float32), np.array([0, 1, 1]), np.array([5, 5, 64 * 9 + 6]))
    network = networks.Network(field, dense=True, filters=False)
    total = float(field.x["between"].sum())
    assert network.poisson_loss(drawn).item() == pytest.approx(total, rel=1e-5)
    answer = np.zeros((2, 64 * 64), np.float32)
    answer[1, 64 * 9 + 6] = 2.0
    network.layers = lambda _: torch.from_numpy(networks.fine_channels(answer))
    more = float(field.x["between"][64 * 9 + 6]) * (np.exp(2.0) - 1)
    assert network.poisson_loss(drawn).item() == pytest.approx(total + (more - 2.0) / 2, rel=1e-5)
