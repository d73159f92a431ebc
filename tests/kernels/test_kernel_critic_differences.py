"""The kernels that carry a few photons' change through a slim critic, held to the critic run on every perturbed frame."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from kernel_sets import CUDA_ON_CPU, NUMBA, KernelSet, kernel_set
from scenes import used_by

import fluogan_core as fg
from fluogan_core.critics import reference
from fluogan_core.critics import scores as critic_scores
from fluogan_core.critics.training import CriticTrainer
from fluogan_core.kernels.cpu import critic_differences as numba_kernels
from fluogan_core.kernels.cuda import critic_differences as cuda_kernels
from fluogan_core.physics.photons import PhotonSets

#: Largest deviation allowed, relative to the largest difference.
TOLERANCE = 1e-5

#: One set of kernels of each kind; the orders of threads are compared with each other below.
each_kind = pytest.mark.parametrize(
    "kernels", [NUMBA[-1], CUDA_ON_CPU[-1], pytest.param("cupy", marks=pytest.mark.gpu)], indirect=True
)


class Scorer:
    """A critic and the kernels that carry differences through it: NumPy in, NumPy out."""

    def __init__(self, kernels: KernelSet, critic: fg.Critic) -> None:
        self.kernels = kernels
        critic = copy.deepcopy(critic).to(kernels.backend.device)
        self.network = kernels.find("make_network")(**critic_scores.slim_arrays(critic, kernels.backend))

    def single(self, y, step, counters=None, **options):
        return self._run("critic_differences", (y,), step, counters, options)

    def several(self, y, frame, sets, step, counters=None, **options):
        return self._run("perturbation_differences", (y, frame, sets.starts, sets.pixels), step, counters, options)

    def _run(self, name, arrays, step, counters, options):
        put, get = self.kernels.put, self.kernels.get
        counted = None if counters is None else put(counters)
        out = self.kernels.find(name)(self.network, *map(put, arrays), step, counters=counted, **options)
        if counters is not None:
            counters[:] = get(counted)
        return get(out)


def oracle(critic):
    exact = copy.deepcopy(critic).double()
    return lambda frames: critic_scores.critic_values(exact, frames.astype(np.float64))


def random_sets(rng, frames, shape, count=60, most=12):
    """Sets of 0 to ``most`` photons in small boxes, at the border too, some photons twice in one pixel."""
    sizes = rng.integers(0, most + 1, count)
    sizes[:2] = 0
    pixels = []
    for size in sizes:
        top, left = (rng.integers(-2, n) for n in shape)
        rows = np.clip(top + rng.integers(0, 5, size), 0, shape[0] - 1)
        columns = np.clip(left + rng.integers(0, 5, size), 0, shape[1] - 1)
        pixels.append(rows * shape[1] + columns)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    return rng.integers(0, frames, count), PhotonSets(starts, np.concatenate(pixels).astype(np.int32))


def assert_conforms(kernels, critic, y, step, rng):
    """Single photons and sets, pruned and dense, differences and remainders, against float64."""
    scorer, values = Scorer(kernels, critic), oracle(critic)
    wide = y.astype(np.float64)
    expected = reference.critic_differences(values, wide, step, chunk=4096)
    scale = np.abs(expected).max()
    for pruned in (True, False):
        got = scorer.single(y, step, pruned=pruned)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE * scale, err_msg=f"{pruned=}")
    frame, sets = random_sets(rng, len(y), y.shape[1:])
    several = reference.perturbation_differences(values, wide, frame, sets, step, chunk=4096)
    slope = critic_scores.critic_input_gradient(copy.deepcopy(critic).double(), wide).reshape(len(y), -1)
    linear = np.array(
        [step * slope[f, sets.pixels[a:b]].sum() for f, a, b in zip(frame, sets.starts, sets.starts[1:], strict=False)]
    )
    scale = max(np.abs(several).max(), np.abs(linear).max())
    for pruned in (True, False):
        for remainder in (False, True):
            got = scorer.several(y, frame, sets, step, remainder=remainder, pruned=pruned)
            truth = several - linear if remainder else several
            np.testing.assert_allclose(got, truth, rtol=0, atol=TOLERANCE * scale, err_msg=f"{pruned=} {remainder=}")
            assert (got[:2] == 0).all()  # the empty sets


FAMILY = [
    # shape, channels, depth, kernel, pool, slope
    ((16, 16), 8, 3, 3, 2, 0.2),
    ((13, 11), 5, 2, 3, 2, 0.2),
    ((19, 9), 4, 3, 3, 2, 0.0),
    ((9, 17), 6, 2, 5, 2, 0.1),
    ((11, 14), 4, 2, 3, 3, 0.2),
    ((10, 9), 3, 2, 5, 3, 0.5),
    ((8, 7), 3, 1, 3, 2, 0.2),
    ((7, 8), 3, 2, 3, 1, 0.3),
    ((17, 16), 2, 4, 3, 2, 0.2),
    ((9, 9), 4, 2, 3, 2, 1.0),
    ((6, 6), 1, 1, 1, 2, 0.2),
]


@each_kind
@pytest.mark.parametrize(("shape", "channels", "depth", "kernel_size", "pool", "slope"), FAMILY)
def test_the_whole_family_conforms_at_every_pixel(kernels, rng, shape, channels, depth, kernel_size, pool, slope):
    critic = fg.Critic(
        shape,
        channels,
        depth,
        kernel_size=kernel_size,
        pool=pool,
        negative_slope=slope,
        input_mean=rng.random(shape) * 20,
        input_std=rng.random(shape) + 2,
        seed=3,
    )
    y = rng.poisson(15, (2, *shape)).astype(np.float32)
    assert_conforms(kernels, critic, y, 2.2, rng)


@pytest.fixture(scope="module")
def trained():
    """A critic that tells blinking from shot noise, and frames of both."""
    psi = fg.Psi(fg.gaussian_psf(250, 100, 2, truncate=3), (16, 16), 2, photons_per_emitter=20.0)
    model = fg.ForwardModel(psi, gain=2.0, noise_std=1.5)
    x = np.zeros(psi.fine_shape, np.float32)
    x[8:-8, 10::6] = 0.5
    b = np.full(psi.shape, 5.0, np.float32)
    real = model.sample(x, b, 128, seed=1)
    flat = model.sample(0 * x, b + psi.forward(x), 128, seed=2)
    critic = fg.Critic(psi.shape, channels=8, seed=0, input_mean=real.mean(axis=0), input_std=real.std(axis=0))
    trainer = CriticTrainer(critic, scale=real.std(axis=0))
    rng = np.random.default_rng(0)
    for _ in range(120):
        pick = torch.as_tensor(rng.integers(0, 128, 32))
        eta = torch.as_tensor(rng.random(32))
        w, _ = trainer.step(torch.as_tensor(real)[pick], torch.as_tensor(flat)[pick], eta)
    assert w > 0.1
    return critic, np.concatenate([real[:2], flat[:2]])


@each_kind
def test_a_trained_critic_conforms(kernels, trained, rng):
    critic, y = trained
    assert_conforms(kernels, critic, y, 2.0, rng)


@each_kind
@pytest.mark.parametrize("step", [1e-3, 0.5, -3.0, 50.0, 1e4])
def test_small_negative_and_huge_steps_conform(kernels, trained, rng, step):
    critic, y = trained
    assert_conforms(kernels, critic, y[:2], step, rng)


def adversarial_cases():
    rng = np.random.default_rng(5)
    yield "constant image: every cell is a tie", lambda c: None, np.full((1, 12, 12), 3.0, np.float32)

    def silence(critic):
        for p in critic.parameters():
            p.data.zero_()

    yield "all weights zero: every unit exactly at its kink", silence, rng.random((1, 12, 12)).astype(np.float32)

    def round_weights(critic):
        for p in critic.parameters():
            p.data = torch.round(4 * p.data) / 2

    whole = rng.integers(0, 3, (2, 12, 12)).astype(np.float32)
    yield "small whole numbers: ties and exact zeros everywhere", round_weights, whole

    def no_bias(critic):
        for layer in critic.convolutions:
            layer.bias.data.zero_()

    yield "dark image without biases: every unit at 0", no_bias, np.zeros((1, 12, 12), np.float32)

    def one_channel_loud(critic):
        critic.convolutions[0].weight.data[1:] *= 1e-6
        critic.convolutions[1].weight.data[:, 0] *= 1e3

    yield "weights of very different size", one_channel_loud, rng.poisson(4, (1, 12, 12)).astype(np.float32)

    def sparse_head(critic):
        critic.head.weight.data[:, ::2] = 0

    yield "a head that ignores half of the units", sparse_head, rng.poisson(4, (1, 12, 12)).astype(np.float32)


@each_kind
@pytest.mark.parametrize(("change", "y"), [c[1:] for c in adversarial_cases()], ids=[c[0] for c in adversarial_cases()])
def test_adversarial_critics_and_images_conform(kernels, rng, change, y):
    for slope in (0.2, 0.0):
        critic = fg.Critic((12, 12), channels=6, depth=2, negative_slope=slope, seed=2)
        change(critic)
        assert_conforms(kernels, critic, y, 1.0, rng)


@each_kind
def test_pruning_is_safe_in_a_random_search(kernels):
    # the bound must never clear a unit that bends: many small critics, images and steps, pruned against dense
    rng = np.random.default_rng(11)
    for trial in range(15 if kernels.name in CUDA_ON_CPU else 60):
        shape = tuple(int(n) for n in rng.integers(8, 15, 2))
        critic = fg.Critic(
            shape,
            channels=int(rng.integers(1, 9)),
            depth=int(rng.integers(1, 4)),
            negative_slope=float(rng.choice([0.0, 0.2, 0.9])),
            seed=trial,
        )
        for p in critic.parameters():
            p.data *= float(10.0 ** rng.uniform(-1, 1))
        y = (rng.integers(0, 5, (1, *shape)) * float(rng.choice([1.0, 0.25]))).astype(np.float32)
        step = float(rng.choice([0.25, 1.0, -1.0, 7.0]))
        scorer = Scorer(kernels, critic)
        dense, pruned = (scorer.single(y, step, pruned=p) for p in (False, True))
        atol = 2 * TOLERANCE * max(np.abs(dense).max(), 1e-30)
        np.testing.assert_allclose(pruned, dense, rtol=0, atol=atol, err_msg=f"{trial=}")
        frame, sets = random_sets(rng, 1, shape, count=30)
        dense, pruned = (scorer.several(y, frame, sets, step, pruned=p) for p in (False, True))
        atol = 2 * TOLERANCE * max(np.abs(dense).max(), 1e-30)
        np.testing.assert_allclose(pruned, dense, rtol=0, atol=atol, err_msg=f"{trial=} sets")


@each_kind
def test_counters_say_how_much_was_touched_suspected_and_bent(kernels, trained):
    _, y = trained
    # large enough for pruning to pay; a small critic's last layer is done in full
    scorer = Scorer(kernels, fg.Critic((16, 16), channels=32, seed=1, input_mean=y.mean(), input_std=y.std()))
    pruned, dense = (np.zeros((3, 3), dtype=np.int64) for _ in range(2))
    scorer.single(y[:2], 0.2, pruned, pruned=True)
    scorer.single(y[:2], 0.2, dense, pruned=False)
    touched, suspected, bent = pruned.T
    assert (touched >= suspected).all()
    assert (suspected >= bent).all()
    assert suspected[2] < 0.2 * touched[2]  # the bound clears most of the last layer
    np.testing.assert_array_equal(pruned[:, 0], dense[:, 0])
    np.testing.assert_array_equal(bent[:2], dense[:2, 2])


def test_results_do_not_depend_on_threads_and_but_for_rounding_not_on_what_else_is_asked(kernels, trained, rng):
    critic, y = trained
    scorer = Scorer(kernels, critic)
    frame, sets = random_sets(rng, len(y), y.shape[1:], count=300)
    single, several = scorer.single(y, 2.0), scorer.several(y, frame, sets, 2.0)
    alone = scorer.single(y[1:2], 2.0)
    np.testing.assert_array_equal(alone[0], single[1])
    one = np.flatnonzero(np.diff(sets.starts) == 1)
    assert len(one) > 3
    # on the CPU the sets before it decide whether a set's last layer is pruned, and both ways sum in their own order
    near = {"rtol": 0, "atol": 2 * TOLERANCE * np.abs(single).max()}
    among_others = single.reshape(len(y), -1)[frame[one], sets.pixels[sets.starts[one]]]
    np.testing.assert_allclose(several[one], among_others, **near)
    # every photon of the field, some of them twice: so many single ones that they come from a table
    everywhere = np.arange(y[0].size).repeat(2)
    table = scorer.several(y, 0 * everywhere, PhotonSets(np.arange(len(everywhere) + 1), everywhere), 2.0)
    np.testing.assert_allclose(table, single[0].ravel().repeat(2), **near)
    np.testing.assert_array_equal(table[::2], table[1::2])
    kind = NUMBA if kernels.name in NUMBA else CUDA_ON_CPU
    if kernels.name in kind:
        other = Scorer(kernel_set(kind[0]), critic)
        np.testing.assert_array_equal(single, other.single(y, 2.0))
        np.testing.assert_array_equal(several, other.several(y, frame, sets, 2.0))


@each_kind
def test_input_gradient_and_values_are_torchs(kernels, trained):
    critic, y = trained
    network = Scorer(kernels, critic).network
    if kernels.name in NUMBA:
        found = numba_kernels.input_gradient(network, y)
    else:
        found = cuda_kernels.input_gradient(kernels.backend.cuda, network, kernels.put(y))
    gradient, values = map(kernels.get, found)
    expected = critic_scores.critic_input_gradient(critic, y)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(values, critic_scores.critic_values(critic, y), rtol=1e-4, atol=1e-4)


@each_kind
def test_malformed_sets_are_named(kernels, trained):
    critic, y = trained
    scorer = Scorer(kernels, critic)
    for frame, starts, pixels, message in (
        ([0], [0, 1, 2], [3, 4], "one entry more"),
        ([9], [0, 1], [3], "frame must lie in"),
        ([0], [0, 1], [256], "pixels must lie in"),
        ([0], [0, 1], [-1], "pixels must lie in"),
        ([0], [0, 1], [2**32 + 3], "pixels must lie in"),
        ([0], [0, 2], [3], "rise from 0"),
        ([0, 0], [0, 2, 1], [3], "rise from 0"),
        ([], [0], [3], "rise from 0"),
        ([0.5], [0, 1], [3], "frame must be a 1-D array of integers"),
    ):
        sets = PhotonSets(np.array(starts), np.array(pixels))
        with pytest.raises(ValueError, match=message):
            scorer.several(y, np.array(frame), sets, 1.0)
    with pytest.raises(ValueError, match="y must be frames"):
        scorer.single(y[:, :-1], 1.0)
    with pytest.raises(ValueError, match="NaN or infinite"):
        scorer.single(np.where(y == y.max(), np.nan, y), 1.0)
    with pytest.raises(ValueError, match="step must be finite"):
        scorer.single(y, np.inf)


def test_the_estimators_use_the_kernels_and_agree_with_the_chunked_path(trained, monkeypatch):
    critic, _ = trained
    psi = fg.Psi(fg.gaussian_psf(250, 100, 2, truncate=3), (16, 16), 2, photons_per_emitter=5.0)
    model = fg.ForwardModel(psi, gain=2.0, noise_std=1.5)
    x = np.full(psi.fine_shape, 0.2, np.float32)
    b = np.full(psi.shape, 5.0, np.float32)
    calls = []
    real_kernel = fg.Backend.kernel

    def counted(self, name):
        calls.append(name)
        return real_kernel(self, name)

    for method in ("photon", "coupled", "corrected"):
        few = used_by(method, frames=3, corrected_frames=2)
        monkeypatch.setattr(fg.Backend, "kernel", counted)
        calls.clear()
        fast = fg.critic_gradient(critic, model, x, b, **few)
        assert {"critic_differences", "perturbation_differences"} & set(calls), method
        monkeypatch.setattr(fg.Backend, "kernel", lambda self, name: None)
        slow = fg.critic_gradient(critic, model, x, b, **few)
        for a, e in zip(fast, slow, strict=True):
            # the chunked path subtracts float32 scores
            np.testing.assert_allclose(a, e, rtol=0, atol=2e-4 * np.abs(e).max(), err_msg=method)
