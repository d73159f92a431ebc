"""What a critic has to keep, and what the library keeps for it: modes, batches, chance, memory, precision, hooks."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest
import torch
from torch import nn

import fluogan_core as fg
from fluogan_core.critics import scores
from fluogan_core.critics.network import is_slim
from fluogan_core.critics.training import CriticTrainer


class Layered(nn.Module):
    """A small convolutional critic around one more layer."""

    def __init__(self, *layers):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.first = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), *layers)
            self.head = nn.Linear(4, 1)

    def forward(self, y):
        return self.head(torch.tanh(self.first(y[:, None])).mean(dim=(2, 3)))[:, 0]


def with_statistics():
    """BatchNorm with running statistics of its own, in train mode as torch leaves it."""
    critic = Layered(nn.BatchNorm2d(4), nn.Dropout(0.3))
    norm = critic.first[1]
    norm.running_mean += torch.tensor([0.5, -0.2, 0.1, 0.0])
    norm.running_var *= torch.tensor([2.0, 0.5, 1.0, 3.0])
    return critic.train()


def frames_of(rng, count=5, shape=(8, 7)):
    return rng.poisson(6, (count, *shape)).astype(np.float32)


def differences_by_hand(critic, y, step):
    """In eval mode, one perturbed frame at a time, in float64."""
    exact = copy.deepcopy(critic).double().eval()
    out = np.empty(y.shape)
    with torch.no_grad():
        for s, frame in enumerate(y.astype(np.float64)):
            base = exact(torch.as_tensor(frame[None])).item()
            for at in np.ndindex(*frame.shape):
                other = frame.copy()
                other[at] += step
                out[(s, *at)] = exact(torch.as_tensor(other[None])).item() - base
    return out


# -- modes ------------------------------------------------------------------------------------------------------------


def test_train_mode_changes_neither_differences_nor_gradients_nor_the_critic(rng):
    critic, y = with_statistics(), frames_of(rng)
    before = copy.deepcopy(critic.state_dict())
    expected = differences_by_hand(critic, y, 0.7)
    np.testing.assert_allclose(fg.critic_differences(critic, y, 0.7), expected, atol=2e-6)
    # the same in small pieces: nothing depends on what is evaluated together
    pieces = fg.critic_differences(critic, y, 0.7, memory_budget=1)
    np.testing.assert_allclose(pieces, expected, atol=2e-6)
    linear = fg.critic_differences(critic, y, 1e-4, method="linear")
    np.testing.assert_allclose(linear, differences_by_hand(critic, y, 1e-4), rtol=1e-2, atol=1e-8)
    assert critic.training
    assert critic.first[1].training
    for name, tensor in critic.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_each_module_gets_its_own_mode_back_also_after_an_error(rng):
    critic = with_statistics()
    critic.first[1].eval()  # frozen by its owner
    with pytest.raises(RuntimeError):
        scores.critic_values(critic, np.zeros((2, 3, 4, 5), np.float32))
    scores.critic_values(critic, frames_of(rng))
    modes = {name: module.training for name, module in critic.named_modules()}
    assert modes.pop("first.1") is False
    assert all(modes.values())


def test_threads_may_evaluate_one_critic_in_train_mode(rng):
    critic, y = with_statistics(), frames_of(rng, count=2)
    expected = fg.critic_differences(critic, y, 0.7)
    found, errors = [None] * 8, []

    def work(number):
        try:
            for _ in range(5):
                found[number] = fg.critic_differences(critic, y, 0.7)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for one in found:
        np.testing.assert_allclose(one, expected, atol=1e-6)
    assert all(module.training for module in critic.modules())


# -- a score of one frame ---------------------------------------------------------------------------------------------


class Noisy(Layered):
    def forward(self, y):
        return super().forward(y) + 0.1 * torch.rand(len(y))


class ComparesFrames(Layered):
    """Minibatch discrimination."""

    def forward(self, y):
        return super().forward(y) + y.std(dim=0, correction=0).mean() / 10


#: Two draws may agree by chance; that of the same frame many times in one batch then shows it.
BY_CHANCE = "at one call and .* at the next|the same frame, 15 times in one batch"
BROKEN = {
    "noise": (Noisy, BY_CHANCE),
    "noise that is small beside what tells frames apart": (
        lambda: lambda y: y.sum(dim=(1, 2)) + torch.rand(len(y)),
        BY_CHANCE,
    ),
    "dropout that is always on": (lambda: Layered(AlwaysDropping()), BY_CHANCE),
    "dropout of the whole score": (lambda: nn.Sequential(Layered(), AlwaysDropping()), BY_CHANCE),
    "place in the batch": (lambda: lambda y: y.sum(dim=(1, 2)) * (1 + torch.arange(len(y))), "15 times in one batch"),
    "batch statistics": (lambda: Layered(nn.BatchNorm2d(4, track_running_stats=False)), "alone and .* beside another frame"),
    "minibatch discrimination": (ComparesFrames, "alone and .* beside another frame"),
}


class AlwaysDropping(nn.Module):
    def forward(self, h):
        return nn.functional.dropout(h, 0.5, training=True)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("broken", BROKEN)
def test_a_score_that_depends_on_chance_or_on_other_frames_is_refused(rng, broken, seed):
    make, message = BROKEN[broken]
    torch.manual_seed(seed)  # of what depends on chance, always the same draws
    y = frames_of(rng)
    for method in ("exact", "linear"):
        with pytest.raises(ValueError, match=message):
            fg.critic_differences(make(), y, 1.0, method=method)
    psi = fg.Psi(np.ones((3, 3)), (8, 7), 1, backend="numpy")
    x, b = np.full(psi.fine_shape, 0.5, np.float32), np.ones(psi.shape, np.float32)
    for method in ("corrected", "direct"):
        with pytest.raises(ValueError, match=message):
            fg.critic_gradient(make(), fg.ForwardModel(psi), x, b, frames=4, method=method)


@pytest.mark.parametrize(
    "critic",
    [
        lambda: Layered(nn.GroupNorm(2, 4)),
        with_statistics,
        lambda: Layered().double(),
        lambda: lambda y: y.sum(dim=(1, 2)),
        lambda: lambda y: 1e6 + 1e-3 * y.mean(dim=(1, 2)),  # the score's own rounding is not held against it
        lambda: lambda y: 0 * y.sum(dim=(1, 2)),
    ],
)
def test_honest_critics_pass(rng, critic):
    assert fg.critic_differences(critic(), frames_of(rng, count=2), 1.0).shape == (2, 8, 7)


def test_the_check_runs_once_for_an_evaluator_that_is_kept(rng):
    calls = []

    class Counting(Layered):
        def forward(self, y):
            calls.append(len(y))
            return super().forward(y)

    y = frames_of(rng, count=1)
    evaluator = fg.CriticEvaluator(Counting(), (8, 7))
    fg.critic_differences(evaluator, y, 1.0)
    first = len(calls)
    fg.critic_differences(evaluator, y, 1.0)
    assert len(calls) - first == first - 1 - 3  # one run of activation_bytes, three of the check


# -- memory -----------------------------------------------------------------------------------------------------------


class InPlace(Layered):
    """Subtracts the background from its input in place, and rectifies it in place."""

    def forward(self, y):
        y -= 3.0
        return super().forward(y.relu_())


@pytest.mark.parametrize("method", ["exact", "linear"])
def test_a_critic_that_works_in_place_does_not_reach_the_callers_frames(rng, method):
    class OutOfPlace(Layered):
        def forward(self, y):
            return super().forward((y - 3.0).relu())

    y = frames_of(rng) + np.float32(0.3)
    kept = y.copy()
    expected = fg.critic_differences(OutOfPlace(), y, 0.7, method=method)
    np.testing.assert_array_equal(fg.critic_differences(InPlace(), y, 0.7, method=method), expected)
    np.testing.assert_array_equal(y, kept)


def test_the_trainer_too_gives_an_in_place_critic_a_copy(rng):
    y = [torch.as_tensor(frames_of(rng)) for _ in range(2)]
    kept = [tensor.clone() for tensor in y]
    CriticTrainer(InPlace()).step(*y, torch.rand(5))
    assert all(map(torch.equal, y, kept))


@pytest.mark.parametrize("kind", ["read-only", "negative stride", "big endian", "Fortran order", "strided"])
@pytest.mark.parametrize("slim", [True, False])
def test_frames_of_any_layout_are_taken_and_none_is_changed(rng, kind, slim):
    critic = fg.Critic((8, 7), channels=2, depth=1, seed=0) if slim else Layered()
    plain = frames_of(rng)
    y = {
        "read-only": plain.copy(),
        "negative stride": plain[::-1].copy()[::-1],
        "big endian": plain.astype(">f4"),
        "Fortran order": np.asfortranarray(plain),
        "strided": np.repeat(plain, 2, axis=2)[:, :, ::2],
    }[kind]
    if kind == "read-only":
        y.flags.writeable = False
    for method in ("exact", "linear"):
        np.testing.assert_array_equal(
            fg.critic_differences(critic, y, 0.7, method=method), fg.critic_differences(critic, plain, 0.7, method=method)
        )
    np.testing.assert_array_equal(y, plain)


# -- precision --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.uint16, np.int32])
@pytest.mark.parametrize("slim", [True, False])
def test_frames_are_cast_to_the_critics_dtype_before_anything_is_added(rng, dtype, slim):
    critic = fg.Critic((8, 7), channels=2, depth=1, seed=0) if slim else Layered()
    y = (1000 + frames_of(rng, count=2)).astype(dtype)  # half precision cannot add 0.3 to 1000
    expected = differences_by_hand(critic, y, 0.3)
    got = fg.critic_differences(critic, y, 0.3)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=3e-3 * np.abs(expected).max() + 2e-4)
    wide = fg.critic_differences(copy.deepcopy(critic).double(), y, 0.3)
    assert wide.dtype == np.float64
    np.testing.assert_allclose(wide, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_critic_in_half_precision_is_refused(rng, dtype):
    with pytest.raises(ValueError, match=r"the critic is in b?float16, .*call critic\.float\(\)"):
        fg.critic_differences(Layered().to(dtype), frames_of(rng), 1.0)


# -- the kernels take the slim critic and nothing else ----------------------------------------------------------------


def changed_critics():
    plain = fg.Critic((8, 7), channels=2, depth=1, seed=0)

    def hooked(critic):
        critic.register_forward_hook(lambda module, inputs, output: 2 * output)

    def hooked_inside(critic):
        critic.convolutions[0].register_forward_pre_hook(lambda module, inputs: (inputs[0].clamp(max=0.2),))

    def exchanged(critic):
        critic.convolutions[0].padding_mode = "circular"
        critic.convolutions[0]._reversed_padding_repeated_twice = [1, 1, 1, 1]

    def strange_head(critic):
        critic.head = nn.Sequential(critic.head, nn.Tanh())

    def own_forward(critic):
        plain_forward = critic.forward
        critic.forward = lambda y: 3 * plain_forward(y)

    def normalised(critic):
        nn.utils.parametrizations.weight_norm(critic.convolutions[0])

    return plain, {f.__name__: f for f in (hooked, hooked_inside, exchanged, strange_head, own_forward, normalised)}


@pytest.mark.parametrize("change", changed_critics()[1])
def test_a_changed_slim_critic_is_evaluated_as_it_is(rng, change):
    plain, changes = changed_critics()
    critic, y = copy.deepcopy(plain), frames_of(rng, count=2)
    changes[change](critic)
    assert is_slim(plain)
    assert not is_slim(critic)
    with torch.no_grad():
        base = critic(torch.as_tensor(y)).numpy()
        other = y.copy()
        other[:, 2, 3] += 0.7
        expected = critic(torch.as_tensor(other)).numpy() - base
    np.testing.assert_allclose(fg.critic_differences(critic, y, 0.7)[:, 2, 3], expected, atol=1e-6)


def test_a_hook_on_all_modules_is_seen():
    critic = fg.Critic((8, 7), channels=2, depth=1, seed=0)
    handle = nn.modules.module.register_module_forward_hook(lambda module, inputs, output: output)
    try:
        assert not is_slim(critic)
    finally:
        handle.remove()
    assert is_slim(critic)


def test_the_trainer_differentiates_a_hooked_critic(rng):
    """Its penalty is of what it computes, twice the slope here, not of its weights."""
    real, simulated = (torch.as_tensor(frames_of(rng)) for _ in range(2))
    eta = torch.full((5,), 0.5)
    plain = fg.Critic((8, 7), channels=2, depth=1, seed=0)
    hooked = copy.deepcopy(plain)
    hooked.register_forward_hook(lambda module, inputs, output: 2 * output)
    _, penalty = CriticTrainer(hooked, scale=1.0).step(real, simulated, eta)
    _, expected = CriticTrainer(plain, scale=2.0).step(real, simulated, eta)
    torch.testing.assert_close(penalty, expected)


@pytest.mark.parametrize(
    ("critic", "error", "message"),
    [
        (3.0, TypeError, "must be a torch.nn.Module or a function"),
        (lambda y: y.detach().sum(dim=(1, 2)), ValueError, "cannot be differentiated"),
        (lambda y: y.sum(), ValueError, r"must map \(S, M1, M2\) to \(S,\)"),
        (lambda y: y.sum(dim=(1, 2)) + 0j, TypeError, "real scores, got torch.complex64"),
        (lambda y: 1.0, TypeError, "must return a tensor of scores"),
        (lambda y: y.sum(dim=(1, 2)).half(), TypeError, "scores of float32 or float64, got torch.float16"),
        (lambda y: y.sum(dim=(1, 2)).bfloat16(), TypeError, "scores of float32 or float64, got torch.bfloat16"),
        (Layered, TypeError, r"got the class Layered: make one of it, Layered\(\.\.\.\)"),
    ],
)
def test_what_is_no_critic_is_said(rng, critic, error, message):
    with pytest.raises(error, match=message):
        scores.critic_input_gradient(critic, frames_of(rng))


@pytest.mark.parametrize("critic", [lambda y: (y > 5).sum(dim=(1, 2)), lambda y: (y > 5).any(dim=2).any(dim=1)])
def test_scores_that_count_are_numbers(rng, critic):
    frames = frames_of(rng, count=2)
    found = fg.critic_differences(critic, frames, 1.0)
    assert found.dtype == np.float32
    raised = [critic(torch.as_tensor(frames + np.eye(56, dtype=np.float32)[j].reshape(8, 7))).numpy() for j in range(56)]
    wanted = np.array(raised, np.float32).T.reshape(2, 8, 7) - critic(torch.as_tensor(frames)).numpy()[:, None, None]
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.filterwarnings("ignore:.torch.jit.script.:DeprecationWarning")
def test_a_critic_of_torchscript_is_evaluated_too(rng):
    own = nn.Sequential(nn.Flatten(), nn.Linear(8 * 7, 1))
    frames = frames_of(rng)
    wanted = fg.critic_differences(own, frames, 2.0)
    assert np.array_equal(fg.critic_differences(torch.jit.script(own), frames, 2.0), wanted)
