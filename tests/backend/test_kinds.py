"""Public functions take arrays of any kind without a copy, answer in that kind, and refuse what they cannot compute with."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest
import torch

import fluogan_core as fg
from fluogan_core.backend.kinds import any_kind, as_array, kind_of
from fluogan_core.metrics import blurred_agreement, fourier_ring_correlation, held_out_score, nrmse
from fluogan_core.objective.prox import edge_lengths, prox_l1_nonnegative, prox_nonnegative, total_variation


def of_torch(array):
    return torch.from_numpy(array)


def of_strict(array):
    return pytest.importorskip("array_api_strict").asarray(array, copy=False)


def of_jax(array):
    jax = pytest.importorskip("jax")
    jax.config.update("jax_platforms", "cpu")
    return jax.numpy.asarray(array)


KINDS = {"torch": of_torch, "strict": of_strict, "jax": of_jax}


@pytest.fixture(params=KINDS)
def like(request):
    return KINDS[request.param]


@pytest.fixture(scope="module")
def psi():
    return fg.Psi(fg.gaussian_psf(300, 100, 2), (14, 16), 2, photons_per_emitter=3.0, backend="numpy")


@pytest.fixture(scope="module")
def images(psi):
    rng = np.random.default_rng(4)
    return rng.random(psi.fine_shape, np.float32), 1 + rng.random(psi.shape, np.float32)


def host(answer):
    """What numbers an answer holds, by the host's own reading of the array."""
    return np.from_dlpack(answer) if hasattr(answer, "__dlpack__") else np.asarray(answer)


def compare(function, arrays, like):
    """The same call with NumPy and with another kind: equal numbers, and every array of the answer of that kind."""
    expected, inputs = function(*arrays), [like(a.copy()) for a in arrays]
    kept = [host(a).copy() for a in inputs]
    found = function(*inputs)
    parts = (found, expected) if isinstance(expected, tuple) else ((found,), (expected,))
    assert type(found) is type(expected) or not isinstance(expected, tuple)
    for got, want in zip(*parts, strict=True):
        if isinstance(want, np.ndarray) and not isinstance(want, np.generic):
            assert type(got) is type(inputs[0])
            np.testing.assert_array_equal(host(got), want.astype(host(got).dtype))
        else:
            assert got == want
    for given, before in zip(inputs, kept):
        np.testing.assert_array_equal(host(given), before)


def mean_brightness(frames):
    return frames.mean(dim=(1, 2))


def quadratic_critic_of(model):
    """All methods of one, in a row."""

    def answers(frames, x, b):
        critic = fg.QuadraticCritic(frames, model, frames[0, ...] / 2)
        critic.measure_flicker(x, b)
        critic.update_weights(x, b)
        slopes = critic.slope(x, b)
        return *slopes, critic.log_density(frames, x, b), *critic.value(x, b), critic.flicker_share(x)

    return answers


def test_every_public_function_of_arrays_answers_in_the_callers_kind(psi, images, like):
    (x, b), model = images, fg.ForwardModel(psi, gain=2.0, noise_std=1.0)
    y = model.sample(x, b, 4, seed=3)
    objective = fg.Objective(psi, psi.forward(x) + b, smoothness=2.0, sparsity=0.1)
    network = fg.Critic(psi.shape, channels=2, depth=2, seed=0)
    calls = {
        "forward": (psi.forward, (x,)),
        "forward of a batch": (psi.forward, (np.stack([x, 2 * x]),)),
        "adjoint": (psi.adjoint, (b,)),
        "squared_forward": (psi.squared_forward, (x,)),
        "squared_adjoint": (psi.squared_adjoint, (b,)),
        "paired_forward": (lambda x: psi.paired_forward(x, (1, 0)), (x,)),
        "mean": (model.mean, (x, b)),
        "mean of a batch": (model.mean, (np.stack([x, 2 * x]), b)),
        "variance": (model.variance, (x, b)),
        "sample": (lambda x, b: model.sample(x, b, 3, seed=1), (x, b)),
        "check": (model.check, (x, b)),
        "critic_differences": (lambda y: fg.critic_differences(mean_brightness, y, 0.5), (y,)),
        "critic_gradient": (lambda x, b: fg.critic_gradient(network, model, x, b, frames=4), (x, b)),
        "with errors": (lambda x, b: fg.critic_gradient(network, model, x, b, 4, 0, "linear", with_error=True), (x, b)),
        "evaluator": (fg.CriticEvaluator(network, psi.shape).slope, (y,)),
        "residual": (objective.residual, (x, b)),
        "gradient_x": (objective.gradient_x, (b,)),
        "gradient_b": (objective.gradient_b, (b, b)),
        "smoothness_of": (objective.smoothness_of, (b,)),
        "best_background": (objective.best_background, (b,)),
        "prox_nonnegative": (prox_nonnegative, (x - 0.5,)),
        "prox_l1_nonnegative": (lambda v: prox_l1_nonnegative(v, 0.2), (x,)),
        "prox_step": (lambda x, g: fg.prox_step(x, g, step=0.3, threshold=0.1), (x, x - 0.5)),
        "edge_lengths": (edge_lengths, (x,)),
        "total_variation": (total_variation, (x,)),
        "nrmse": (nrmse, (x, x + 0.1)),
        "agreement": (lambda x, y: blurred_agreement(x, y, psi).rsp, (x, b)),
        "rings": (lambda a, c: fourier_ring_correlation(a, c, 25.0).correlation.tolist(), (x, x[::-1].copy())),
        "quadratic critic": (quadratic_critic_of(model), (y, x, b)),
        "held_out": (lambda y, x, b: held_out_score(y, model, x, b).log_density, (y, x, b)),
    }
    for name, (function, arrays) in calls.items():
        try:
            compare(function, arrays, like)
        except Exception as error:
            raise AssertionError(f"{name} with {like.__name__}") from error


def test_a_stack_of_any_kind_is_reconstructed_into_that_kind(psi, images, like, tmp_path):
    stack = fg.ForwardModel(psi, gain=2.0).sample(*images, 20, seed=2) + np.float32(100)
    given = {"psi": psi, "camera": fg.Camera(gain=2.0, offset=100.0), "options": fg.SolverOptions(method="none", warm_steps=4)}
    expected, found = fg.reconstruct(stack, **given), fg.reconstruct(like(stack), **given)
    for name in ("x", "b", "x_mean_fit", "b_mean_fit", "mean", "bad_pixels"):
        assert type(getattr(found, name)) is type(like(stack)), name
        np.testing.assert_array_equal(host(getattr(found, name)), getattr(expected, name))
    assert expected.on_host() is expected
    assert isinstance(found.on_host().x, np.ndarray)
    files = fg.write_result(found, tmp_path, pixel_size_nm=100.0)
    assert {"x", "b", "figure", "report"} <= set(files), "a result of another kind is written as it is"


# -- memory -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "uint16", "int32"])
def test_arrays_are_taken_without_a_copy(like, dtype):
    given = like(np.arange(12).reshape(3, 4).astype(dtype))
    assert np.shares_memory(as_array(given, "x"), as_array(given, "x"))
    assert np.shares_memory(as_array(given, "x"), host(given))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_answers_are_given_without_a_copy(dtype):
    made = []

    @any_kind("x")
    def twice(x):
        made.append(2 * x)
        return made[-1]

    for like in (of_torch, of_strict):
        assert np.shares_memory(host(twice(like(np.ones((3, 4), dtype)))), made[-1])


def test_an_array_that_comes_back_is_the_callers_own_object(like):
    given = like(np.ones((3, 4), np.float32))

    @any_kind("x")
    def same(x, number):
        return number, x

    assert same(given, 3)[1] is given
    assert same(number=3, x=given)[1] is given


def test_what_is_written_to_is_written_in_the_callers_memory():
    v, dual = (np.random.default_rng(0).random(shape, np.float32) for shape in ((6, 5), (4, 6, 5)))
    dual[:, -1] = dual[:, :, -1] = 0
    expected_dual = dual.copy()
    expected = fg.prox_total_variation(v, 0.3, dual=expected_dual, sweeps=3)
    out, tensor = torch.empty(6, 5), torch.from_numpy(dual.copy())
    found = fg.prox_total_variation(torch.from_numpy(v), 0.3, dual=tensor, sweeps=3, out=out)
    assert found is out
    np.testing.assert_array_equal(out.numpy(), expected)
    np.testing.assert_array_equal(tensor.numpy(), expected_dual)


def test_what_cannot_be_written_to_is_refused_before_any_work():
    jax = pytest.importorskip("jax")
    v = np.ones((6, 5), np.float32)
    locked, foreign = np.zeros((4, 6, 5), np.float32), np.zeros((4, 6, 5), ">f4")
    locked.setflags(write=False)
    for dual in (locked, foreign):
        with pytest.raises(ValueError, match="dual is written to"):
            fg.prox_total_variation(v, 0.3, dual=dual, sweeps=1)
    with pytest.raises(ValueError, match=r"out is written to.*ArrayImpl"):
        fg.prox_step(jax.numpy.asarray(v), jax.numpy.asarray(v), step=0.1, out=jax.numpy.asarray(v))


# -- what is refused ---------------------------------------------------------------------------------------------------------


def test_kinds_do_not_mix(psi, images):
    x, b = images
    model = fg.ForwardModel(psi)
    with pytest.raises(TypeError, match=r"x is a torch tensor but b is a NumPy or CuPy array.*torch\.as_tensor"):
        model.mean(torch.from_numpy(x), b)
    with pytest.raises(TypeError, match=r"x is a NumPy or CuPy array but b is a torch tensor.*numpy\.asarray"):
        model.mean(x, b=torch.from_numpy(b))
    # numbers of metrics have no kind: images of two kinds may be compared
    assert nrmse(torch.from_numpy(x), x) == 0


def test_tensors_that_require_a_gradient_are_refused_unless_none_is_recorded(psi, images):
    x = torch.from_numpy(images[0]).requires_grad_()
    with pytest.raises(TypeError, match=r"x requires a gradient.*fluogan_core\.interop\.torch"):
        psi.forward(x)
    with torch.no_grad():
        assert not psi.forward(x).requires_grad
    with pytest.raises(TypeError, match=r"interop"):
        torch.func.grad(lambda x: psi.forward(x).sum())(x.detach())
    with pytest.raises(TypeError, match=r"interop"):
        torch.func.vmap(psi.forward)(x.detach()[None])


def test_traced_arrays_of_jax_are_refused(psi, images):
    jax = pytest.importorskip("jax")
    for transformed in (jax.jit(psi.forward), jax.grad(lambda x: psi.forward(x).sum()), jax.vmap(psi.forward)):
        with pytest.raises(TypeError, match=r"x is of type .*Tracer and its memory cannot be shared.*fluogan_core\.interop"):
            transformed(jax.numpy.asarray(images[0])[None])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda x: np.ma.masked_array(x), "x is a masked array"),
        (lambda x: x.astype(complex), "x must hold real numbers, got dtype complex128"),
        (lambda x: torch.from_numpy(x).to(torch.complex64), "x must hold real numbers, got dtype complex64"),
        (lambda x: torch.from_numpy(x).bfloat16(), "bfloat16"),
        (lambda x: torch.from_numpy(x).to_sparse(), "x is of type Tensor and its memory cannot be shared"),
        (lambda x: torch.empty(x.shape, device="meta"), "x is a tensor on meta"),
        (lambda x: x.astype(object), "x must hold real numbers, got dtype object"),
        (lambda x: x.tolist(), "x must be a NumPy or CuPy array, got list; convert it with numpy.asarray"),
    ],
)
def test_what_cannot_be_computed_with_is_refused_by_its_name(psi, images, spoil, words):
    with pytest.raises(TypeError, match=words):
        psi.forward(spoil(images[0]))
    # of the others, what the front door knows
    if "convert" not in words:
        for function in (prox_nonnegative, total_variation, edge_lengths):
            with pytest.raises(TypeError, match=words[1:]):
                function(spoil(images[0]))


# -- numbers ----------------------------------------------------------------------------------------------------------------


def test_foreign_byte_order_is_computed_in_its_own_precision(psi, images):
    x, b = (image.astype(np.float64) for image in images)
    swapped = x.astype(">f8")
    answer = psi.forward(swapped)
    assert answer.dtype == np.float64
    np.testing.assert_array_equal(answer, psi.forward(x))
    for function in (prox_nonnegative, edge_lengths, lambda x: fg.prox_step(x, x, step=0.1).x):
        found = function(swapped)
        assert found.dtype == np.dtype("float64").newbyteorder("=")
        np.testing.assert_array_equal(found, function(x))
    np.testing.assert_array_equal(fg.ForwardModel(psi).mean(swapped, b.astype(">f8")), fg.ForwardModel(psi).mean(x, b))


def test_a_batch_is_its_images_one_by_one(psi, images):
    (x, b), model = images, fg.ForwardModel(psi, gain=2.0, noise_std=1.0)
    batch = np.stack([x, 3 * x, 0 * x])
    for function in (model.mean, model.variance):
        together = function(batch[:, None], np.stack([b, 2 * b]))
        assert together.shape == (3, 2, *psi.shape)
        np.testing.assert_array_equal(together[1, 1], function(batch[1], 2 * b))
    with pytest.raises(ValueError, match="leading axes of x and b"):
        model.mean(batch, np.stack([b, b]))
    with pytest.raises(ValueError, match="x must be one image"):
        model.sample(batch, b, 2)


def test_kinds_are_told_apart_without_loading_their_libraries():
    assert kind_of("words") is None
    assert kind_of([1.0]) is None
    assert kind_of(np.float32(1)).name == kind_of(np.ones(2)).name


#: Public functions of arrays that are not for arrays of other kinds: parts of the library's own loops, what a user writes, and
#: what moves arrays or asks where they are.
WITHIN = (
    "Backend",
    "backend_of",
    "Critic",
    "Operator.forward",
    "Operator.adjoint",
    "Prior",
    "ForwardModel.emissions",
    "ForwardModel.detect",
    "CriticEvaluator.photon_",
    "QuadraticCriticLike",
)


def test_every_public_function_of_arrays_has_the_front_door():
    open_ones, seen = [], 0
    for name in fg._EXPORTS:
        item = getattr(fg, name)
        functions = {name: item} if inspect.isfunction(item) else {}
        if inspect.isclass(item):
            functions = {f"{name}.{n}": f for n, f in vars(item).items() if inspect.isfunction(f) and n[:1] != "_"}
        for called, function in functions.items():
            annotations = [str(p.annotation) for p in inspect.signature(function).parameters.values()]
            if not any(re.search(r"\bArray(Like)?\b", annotation) for annotation in annotations):
                continue
            seen += 1
            if not hasattr(function, "__wrapped__") and not called.startswith(WITHIN) and "replaced" not in called:
                open_ones.append(called)
    assert seen > 30
    assert not open_ones, "decorate them with any_kind"


def test_an_answer_is_on_the_device_of_the_array(psi, images):
    """Of a library that has several devices in the same memory."""
    strict = pytest.importorskip("array_api_strict")
    for name in ("CPU_DEVICE", "device1"):
        x = strict.asarray(images[0], device=strict.Device(name))
        assert psi.forward(x).device == x.device


def test_a_path_in_place_of_frames_is_told_what_to_do(psi, tmp_path):
    for path in (tmp_path / "stack.tif", "stack.tif"):
        with pytest.raises(TypeError, match=r"stack must be an array of frames, got a path; .*read_stack\('.*stack\.tif'\)"):
            fg.reconstruct(path, psi=psi)
