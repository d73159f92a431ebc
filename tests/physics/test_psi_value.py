"""An operator is a value: fixed, compared by what it is made of, hashed, copied and pickled."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
from psfs import tiny_psf

import fluogan_core as fg


def make(**changes):
    settings = {
        "psf": tiny_psf(5, 0.1),
        "shape": (6, 7),
        "factor": 3,
        "photons_per_emitter": 7.3,
        "backend": "numpy",
        **changes,
    }
    return fg.Psi(settings.pop("psf"), settings.pop("shape"), settings.pop("factor"), **settings)


CHANGES = [
    {"psf": tiny_psf(5, 0.11)},
    {"psf": tiny_psf(7, 0.1)},
    {"psf": tiny_psf(5, 0.1 * (1 + 1e-12))},
    {"shape": (7, 6)},
    {"factor": 2},
    {"binning": "point"},
    {"photons_per_emitter": np.nextafter(7.3, 8)},
]


@pytest.mark.parametrize("change", CHANGES)
def test_operators_differ_by_each_of_their_parameters(change):
    assert make(**change).fingerprint != make().fingerprint
    assert make(**change) != make()


def test_equal_operators_are_one_key():
    one, other = make(), make()
    assert one == other
    assert hash(one) == hash(other)
    assert len({one, other, make(factor=2)}) == 2
    assert one.norm > 0
    assert one == other, "a cache that is filled makes no difference"
    assert one != "Psi"


def test_the_memory_budget_is_no_part_of_the_operator_and_the_method_is_one():
    assert make(memory_budget=1) == make()
    products, convolutions = (make(psf=tiny_psf(), method=method) for method in ("products", "convolutions"))
    assert products != convolutions
    assert products.fingerprint == convolutions.fingerprint


def test_the_fingerprint_is_that_of_another_process():
    code = (
        "import sys; sys.path.insert(0, 'tests'); import fluogan_core as fg, numpy as np\n"
        "psi = fg.Psi(np.arange(1.0, 16.0).reshape(3, 5), (6, 7), 3, photons_per_emitter=7.3, backend='numpy')\n"
        "print(psi.fingerprint, hash(psi) == hash(psi))"
    )
    here = make(psf=np.arange(1.0, 16.0).reshape(3, 5)).fingerprint
    assert len(here) == 64
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split() == [here, "True"]
    fortran = np.asfortranarray(np.arange(1.0, 16.0).reshape(3, 5)).astype(">f8")
    assert make(psf=fortran).fingerprint == here


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda psi: pickle.loads(pickle.dumps(psi))])
def test_copies_give_the_same_bit_for_bit(duplicate, rng):
    psi = make(memory_budget=12345)
    x = rng.random(psi.fine_shape)
    psi.forward(x)
    other = duplicate(psi)
    assert other == psi
    assert other.backend == psi.backend
    assert other.memory_budget == 12345
    np.testing.assert_array_equal(other.psf, psi.psf)
    np.testing.assert_array_equal(other.forward(x), psi.forward(x))
    with pytest.raises(ValueError, match="read-only"):
        other.psf[0, 0] = 1


def test_a_pickle_holds_the_psf_and_not_the_tables():
    psi = fg.Psi(fg.gaussian_psf(318, 100, 4), (128, 128), 4, backend="numpy")
    psi.forward(np.ones(psi.fine_shape))
    assert len(pickle.dumps(psi)) < psi.psf.nbytes + 2000


@pytest.mark.parametrize("method", ["products", "convolutions"])
@pytest.mark.parametrize("name", ["psf", "table", "column_sums", "column_energies"])
def test_arrays_of_an_operator_cannot_be_written_to(name, method):
    psi = make(psf=tiny_psf(), method=method)
    before = getattr(psi, name).copy()
    with pytest.raises(ValueError, match="read-only"):
        getattr(psi, name)[...] = 0
    np.testing.assert_array_equal(getattr(psi, name), before)


def test_the_matrices_of_the_axes_cannot_be_written_to_and_are_the_operator(rng):
    psi = make(psf=tiny_psf())
    down, across = psi.axis_matrices
    x = rng.random(psi.fine_shape)
    np.testing.assert_allclose(down @ x @ across.T, psi.forward(x), rtol=1e-12)
    for matrix in (down, across):
        with pytest.raises(ValueError, match="read-only"):
            matrix[0, 0] = 1
    assert make().axis_matrices is None


def test_a_psf_that_the_caller_writes_to_later_is_not_the_operators():
    mine = tiny_psf(5, 0.1)
    psi = make(psf=mine)
    expected = psi.forward(np.ones(psi.fine_shape))
    mine[...] = 1
    np.testing.assert_array_equal(make().forward(np.ones(psi.fine_shape)), expected)
    assert psi == make()


@pytest.mark.parametrize(
    "name",
    [
        *("psf", "shape", "fine_shape", "factor", "binning", "photons_per_emitter", "backend", "method"),
        *("norm", "column_sums", "column_energies", "axis_matrices", "fingerprint"),
    ],
)
def test_parameters_are_fixed_once_the_operator_is_made(name):
    psi = make()
    with pytest.raises(AttributeError, match=f"{name} of an operator is fixed"):
        setattr(psi, name, getattr(psi, name))
    psi.memory_budget = 7
    assert psi.memory_budget == 7


def test_a_subclass_may_set_what_it_computes_otherwise():
    class Own(fg.Psi):
        def __init__(self, *arguments, **settings):
            super().__init__(*arguments, **settings)
            self.norm = 2.0

    assert Own(fg.gaussian_psf(300, 100, 2), (16, 16), 2, backend="numpy").norm == 2.0


def test_a_forced_method_stays_forced():
    psi = fg.Psi(fg.gaussian_psf(318, 100, 4), (32, 32), 4, method="convolutions", backend="numpy")
    assert psi.replaced(photons_per_emitter=2).method == "convolutions"
    assert psi.scaled(1.1).method == "convolutions"
    assert psi.replaced(method="auto").method == "products", "what 'auto' takes for this field"
    free = fg.Psi(fg.gaussian_psf(318, 100, 4), (32, 32), 4, backend="numpy")
    assert free.replaced(psf=tiny_psf(5, 0.1)).method == "convolutions"
    with pytest.raises(ValueError, match="separable"):
        free.replaced(method="products").replaced(psf=tiny_psf(5, 0.1))


@pytest.mark.parametrize("width", [0.8, 1.05, 1.3])
def test_a_forced_pair_of_products_survives_another_width(width):
    psi = fg.Psi(fg.gaussian_psf(318, 100, 4), (32, 32), 4, method="products", backend="numpy")
    assert psi.scaled(width).method == "products"


def test_a_psf_defined_outside_the_package_takes_one_function(rng):
    """Nothing is registered: a PSF is an array."""

    def ring_psf(radius, size=9):
        axis = np.arange(size) - size // 2
        return np.exp(-((np.hypot(axis[:, None], axis) - radius) ** 2))

    psi = fg.Psi(ring_psf(2.5), (8, 9), 2, photons_per_emitter=20, backend="numpy")
    model = fg.ForwardModel(psi, gain=2.0, noise_std=1.0)
    x, b = rng.gamma(0.5, 2.0, psi.fine_shape), np.full(psi.shape, 3.0)
    stack = model.sample(x, b, 40, seed=1)
    camera, options = fg.Camera(2.0, 0.0, 1.0), fg.SolverOptions(method="none", warm_steps=20)
    result = fg.reconstruct(stack, psi=psi, camera=camera, options=options)
    assert result.x.shape == psi.fine_shape
    assert psi.forward(np.asarray(result.x, np.float64)).sum() > 0
