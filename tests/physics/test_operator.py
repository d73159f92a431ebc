"""Operators of the user's own: what is read of them, what is checked, and that nothing goes past their forward."""

from __future__ import annotations

import pickle
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.metrics import held_out_score
from fluogan_core.physics.requirements import READS, reads_table, usable
from fluogan_core.testing import assert_operator

SHAPE = (12, 14)


@pytest.fixture(scope="module")
def psi():
    return fg.Psi(fg.gaussian_psf(250, 100, 2), SHAPE, 2, photons_per_emitter=4.0, backend="numpy")


class Vignetted(fg.Operator):
    """A field that is lit unevenly."""

    def __init__(self, nominal, transmission):
        super().__init__(nominal)
        self.transmission = transmission

    def forward(self, x):
        return self.nominal.forward(x) * self.transmission.astype(x.dtype)

    def adjoint(self, y):
        return self.nominal.adjoint(y * self.transmission.astype(y.dtype))


class Varying(fg.Operator):
    """A PSF that is wider on the right: two operators, blended across the fine grid."""

    def __init__(self, nominal, wide):
        super().__init__(nominal)
        self.wide = wide
        self.share = np.linspace(0, 1, nominal.fine_shape[1])

    def forward(self, x):
        share = self.share.astype(x.dtype)
        return self.nominal.forward(x * (1 - share)) + self.wide.forward(x * share)

    def adjoint(self, y):
        share = self.share.astype(y.dtype)
        return self.nominal.adjoint(y) * (1 - share) + self.wide.adjoint(y) * share


class Planes(fg.Operator):
    """Two planes of emitters, one below the other on the fine grid, the second one out of focus."""

    def __init__(self, nominal, wide):
        super().__init__(nominal)
        self.wide = wide
        self.fine_shape = (2 * nominal.fine_shape[0], nominal.fine_shape[1])

    def forward(self, x):
        rows = self.nominal.fine_shape[0]
        return self.nominal.forward(x[..., :rows, :]) + self.wide.forward(x[..., rows:, :])

    def adjoint(self, y):
        return np.concatenate([self.nominal.adjoint(y), self.wide.adjoint(y)], axis=-2)


def transmission():
    return 0.3 + 0.7 * np.linspace(0, 1, SHAPE[0])[:, None] * np.ones(SHAPE[1])


def wider(psi):
    return psi.scaled(1.4)


MAKE = {
    "vignetted": lambda psi: Vignetted(psi, transmission()),
    "varying": lambda psi: Varying(psi, wider(psi)),
    "planes": lambda psi: Planes(psi, wider(psi)),
}


@pytest.fixture(params=MAKE)
def own(request, psi):
    return MAKE[request.param](psi)


def written_out(operator):
    """Every column by forward, (M, N)."""
    fine = operator.fine_shape[0] * operator.fine_shape[1]
    return operator.forward(np.eye(fine).reshape(fine, *operator.fine_shape)).reshape(fine, -1).T


# -- what follows from forward and adjoint ----------------------------------------------------------


def test_an_operator_of_ones_own_agrees_with_its_entries(own, rng):
    assert_operator(own)
    entries = written_out(own)
    x, y = rng.random(own.fine_shape), rng.random(own.shape)
    np.testing.assert_allclose(own.matrix.toarray(), entries, atol=1e-12)
    np.testing.assert_allclose(own.squared_forward(x).ravel(), entries**2 @ x.ravel(), rtol=1e-9)
    np.testing.assert_allclose(own.squared_adjoint(y).ravel(), (entries**2).T @ y.ravel(), rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(own.column_sums.ravel(), entries.sum(axis=0), rtol=1e-9)
    np.testing.assert_allclose(own.column_energies.ravel(), (entries**2).sum(axis=0), rtol=1e-9)
    np.testing.assert_allclose(own.norm, np.linalg.norm(entries, 2), rtol=1e-7)
    np.testing.assert_allclose(own.column((3, 5)).ravel(), entries[:, 3 * own.fine_shape[1] + 5], rtol=1e-9, atol=1e-14)
    assert own.squared_forward(x.astype(np.float32)).dtype == np.float32


def test_an_operator_of_ones_own_takes_any_kind(own, rng):
    torch = pytest.importorskip("torch")
    x, y = rng.random(own.fine_shape), rng.random(own.shape)
    for function, image in ((own.forward, x), (own.adjoint, y), (own.squared_forward, x), (own.squared_adjoint, y)):
        found = function(torch.from_numpy(image))
        assert isinstance(found, torch.Tensor)
        np.testing.assert_array_equal(found.numpy(), function(image))


def test_sampled_frames_have_the_mean_and_variance_of_the_operator(own, rng):
    model = fg.ForwardModel(own, gain=2.0, noise_std=1.0)
    x, b = rng.random(own.fine_shape).astype(np.float32), np.full(own.shape, 2.0, np.float32)
    frames = model.sample(x, b, 3000, seed=5).astype(np.float64)
    entries = written_out(own)
    light = (entries @ x.ravel()).reshape(own.shape) + 2.0
    variance = 4 * (light + (entries**2 @ x.ravel()).reshape(own.shape)) + 1.0
    np.testing.assert_allclose(model.mean(x, b), 2 * light, rtol=1e-5)
    np.testing.assert_allclose(model.variance(x, b), variance, rtol=1e-5)
    pulls = (frames.mean(axis=0) - 2 * light) / np.sqrt(variance / len(frames))
    assert abs(pulls.mean()) < 4 / np.sqrt(pulls.size)
    assert 0.8 < pulls.std() < 1.2
    np.testing.assert_allclose(frames.var(axis=0).mean(), variance.mean(), rtol=0.03)


def quadratic_score(frames):
    """Curved, so that what several photons of one emission do together counts."""
    return ((frames.sum(dim=(1, 2)) - 100.0) ** 2) / 1000


@pytest.mark.parametrize("method", ["linear", "photon", "coupled", "corrected"])
def test_the_critics_gradient_is_that_of_the_operators_entries(psi, method):
    own, small = Vignetted(psi, transmission()), np.full((24, 28), 0.2, np.float32)
    model = fg.ForwardModel(own)
    found = fg.critic_gradient(quadratic_score, model, small, np.ones(SHAPE, np.float32), 400, 3, method, with_error=True)
    # of a sum S of all pixels: E[D(S + n) - D(S)] for n photons of mean m; several at once only where emissions are whole
    sums = own.column_sums
    mean = float((sums * small).sum()) + SHAPE[0] * SHAPE[1]
    several = {"linear": 0.0, "photon": 1.0}.get(method)
    square = sums + sums**2 if several is None else several * sums
    expected = (2 * sums * (mean - 100.0) + square) / 1000
    pulls = (found.x - expected) / found.x_error
    # all pixels share their frames, so their errors are one: the mean pull is that of one number
    assert abs(pulls.mean()) < 4
    np.testing.assert_allclose(found.x, expected, atol=5 * float(found.x_error.max()))
    assert np.corrcoef(found.x.ravel(), expected.ravel())[0, 1] > 0.95


def test_photons_of_an_operators_columns_are_poisson_with_its_entries(psi):
    from fluogan_core.physics.photons import ColumnTable, draw_photons, placement_of

    own = Varying(psi, wider(psi))
    table = placement_of(own)
    assert isinstance(table, ColumnTable)
    indices = np.array([0, 300, 27, 671])
    sets = draw_photons(table, indices, np.arange(4000), seed=1, step=2)
    counts = sets.dense(own.shape, 0, len(sets)).reshape(4000, len(indices), -1)
    expected = written_out(own)[:, indices].T
    np.testing.assert_allclose(counts.mean(axis=0), expected, atol=5 * np.sqrt(expected.max() / 4000))
    np.testing.assert_allclose(counts.sum(axis=2).var(axis=0), expected.sum(axis=1), rtol=0.15)
    # a frame's photons depend on its number, not on what is drawn with it
    alone = draw_photons(table, indices[1:2], np.array([17]), seed=1, step=2)
    np.testing.assert_array_equal(alone.dense(own.shape, 0, 1)[0].ravel(), counts[17, 1])


# -- a whole reconstruction -------------------------------------------------------------------------


def scene(own, frames=300):
    x = np.zeros(own.fine_shape, np.float32)
    x[3:21, 8] = x[3:21, 18] = 6.0
    return x, fg.ForwardModel(own, noise_std=1.0).sample(x, np.full(own.shape, 4.0, np.float32), frames, seed=9)


def test_the_mean_fit_sees_the_operator(psi):
    own = Vignetted(psi, transmission())
    truth, stack = scene(own)
    given = {"camera": fg.Camera(noise_std=1.0), "options": fg.SolverOptions(method="none")}
    right, wrong = (fg.reconstruct(stack, psi=operator, **given) for operator in (own, psi))
    assert right.psi is own
    ends = [float(image[:6].sum() / image[-6:].sum()) for image in (truth, right.x, wrong.x)]
    assert abs(ends[1] / ends[0] - 1) < 0.15, "the light of both ends, as it is"
    assert ends[2] / ends[0] < 0.6, "without the vignetting the dark end is too dim"
    residual = own.forward(right.x) + right.b - right.mean
    assert float(np.abs(residual).mean()) < 0.5


def test_what_is_measured_with_the_nominal_operator_serves_ones_own(psi):
    own = Vignetted(psi, transmission())
    _, stack = scene(own, 40)
    found = fg.calibrate(stack, own.nominal, camera=fg.Camera(noise_std=1.0), photons_per_emitter=5.0, psf_width=0.9)
    options = fg.SolverOptions(method="none", warm_steps=2)
    result = fg.reconstruct(stack, psi=own.over(found.psi), camera=found.camera, options=options)
    assert type(result.psi) is Vignetted
    assert result.psi.photons_per_emitter == 5.0
    assert result.psi.nominal == psi.scaled(0.9).replaced(photons_per_emitter=5.0)


def test_unseen_frames_are_scored_with_the_operators_entries(psi):
    x, b = scene(psi)[0], np.full(SHAPE, 4.0, np.float32)

    class Same(fg.Operator):
        def forward(self, x):
            return self.nominal.forward(x)

        def adjoint(self, y):
            return self.nominal.adjoint(y)

    frames = fg.ForwardModel(psi).sample(x, b, 30, seed=2)
    expected, found = (held_out_score(frames, fg.ForwardModel(operator), x, b, block=5) for operator in (psi, Same(psi)))
    assert found.log_density == pytest.approx(expected.log_density, rel=1e-6)
    own = Vignetted(psi, transmission())
    unseen = fg.ForwardModel(own).sample(x, b, 200, seed=3)
    right, wrong = (held_out_score(unseen, fg.ForwardModel(operator), x, b) for operator in (own, psi))
    assert right.log_density > wrong.log_density


def test_options_are_chosen_with_an_operator_of_ones_own(psi):
    own = Vignetted(psi, transmission())
    _, stack = scene(own, 60)
    options = fg.SolverOptions(method="none", warm_steps=5)
    made = fg.sweep(stack, psi=own, camera=fg.Camera(noise_std=1.0), options=options, vary={"sparsity": [1.0, 3.0]})
    assert made.best is not None


def test_a_resumed_mean_fit_of_ones_own_operator_is_the_same(psi, tmp_path):
    own = Vignetted(psi, transmission())
    _, stack = scene(own, 60)
    given = {"psi": own, "camera": fg.Camera(noise_std=1.0), "options": fg.SolverOptions(method="none", warm_steps=12)}
    whole, solver = fg.Solver(stack, **given), fg.Solver(stack, **given)
    for _ in range(5):
        solver.step()
    solver.save(tmp_path / "state")
    again = fg.Solver(stack, **given)
    again.load(tmp_path / "state")
    np.testing.assert_array_equal(again.run().x, whole.run().x)
    other = fg.Solver(stack, **{**given, "psi": Vignetted(psi, 0.9 * transmission())})
    with pytest.raises(ValueError, match="psi"):
        other.load(tmp_path / "state")


def test_files_are_written_for_an_operator_of_ones_own(psi, tmp_path):
    own = Vignetted(psi, transmission())
    _, stack = scene(own, 40)
    options = fg.SolverOptions(method="none", warm_steps=2)
    result = fg.reconstruct(stack, psi=own, camera=fg.Camera(noise_std=1.0), options=options)
    files = fg.write_result(result, tmp_path, pixel_size_nm=100.0)
    assert "Vignetted" in files["report"].read_text(encoding="utf-8")


def test_phases_that_need_more_are_refused_by_name_before_any_work(psi):
    own = Vignetted(psi, transmission())
    _, stack = scene(own, 40)
    with pytest.raises(TypeError, match=r"covariance fit reads table, origin.*Vignetted.*method='none'"):
        fg.Solver(stack, psi=own, camera=fg.Camera(noise_std=1.0))
    with pytest.raises(TypeError, match=r"calibration reads table.*psi\.nominal.*psi\.over"):
        fg.reconstruct(stack, psi=own)
    for measure in (lambda: fg.estimate_psf_width(stack, own), lambda: fg.estimate_camera(stack, own)):
        with pytest.raises(TypeError, match="calibration reads table"):
            measure()


# -- kinds ------------------------------------------------------------------------------------------


def test_replaced_and_scaled_keep_the_kind(psi):
    own = Vignetted(psi, transmission())
    assert own.norm > float(own.column_sums.min())  # cached values that must not be carried over
    for made in (own.replaced(photons_per_emitter=8.0), own.scaled(0.8)):
        assert type(made) is Vignetted
        assert made.transmission is own.transmission
        assert_operator(made)
        np.testing.assert_allclose(made.norm, Vignetted(made.nominal, transmission()).norm)
    assert own.scaled(1) is own
    np.testing.assert_allclose(own.replaced(photons_per_emitter=8.0).column_sums, 2 * own.column_sums)


class Dimmed(fg.Psi):
    """A subclass of Psi that overrides what depends on it."""

    share = 0.5

    def forward(self, x):
        return super().forward(x) * np.asarray(self.share, x.dtype)

    def adjoint(self, y):
        return super().adjoint(y) * np.asarray(self.share, y.dtype)


def test_a_subclass_of_psi_keeps_its_class_and_attributes(psi):
    made = Dimmed(psi.psf, SHAPE, 2, backend="numpy")
    made.share = 0.25
    for other in (made.replaced(photons_per_emitter=3.0), made.scaled(0.9), pickle.loads(pickle.dumps(made))):
        assert type(other) is Dimmed
        assert other.share == 0.25
        assert "_agrees" not in vars(other)
    assert made != Dimmed(psi.psf, SHAPE, 2, backend="numpy"), "attributes of a subclass are part of what it is"
    twin = Dimmed(psi.psf, SHAPE, 2, backend="numpy")
    twin.share = 0.25
    assert made == twin
    assert hash(made) == hash(twin)
    assert made.nominal is made


# -- what does not agree is refused -----------------------------------------------------------------


def broken(psi, **methods):
    """A vignetted operator with some methods exchanged."""
    return type("Broken", (Vignetted,), methods)(psi, transmission())


BROKEN = {
    "adjoint is not that of forward": {"adjoint": lambda self, y: self.nominal.adjoint(y)},
    "forward is not linear": {"forward": lambda self, x: self.nominal.forward(x) + x.dtype.type(1)},
    "forward of one emission at .* is negative": {
        "forward": lambda self, x: -self.nominal.forward(x),
        "adjoint": lambda self, y: -self.nominal.adjoint(y),
    },
    r"forward of \(24, 28\) must have shape": {"forward": lambda self, x: x[..., :3, :3]},
    "forward of a batch": {"forward": lambda self, x: self.nominal.forward(x.sum(axis=0) if x.ndim > 2 else x)},
    "forward of float32 must be float32": {"forward": lambda self, x: self.nominal.forward(x) * self.transmission},
    "forward of finite numbers is not finite": {"forward": lambda self, x: self.nominal.forward(x) / 0 * 0},
    "forward changes its argument": {
        "forward": lambda self, x: (np.multiply(x, 2, out=x), Vignetted.forward(self, x))[1],
    },
    r"column\(\(0, 0\)\) is not forward": {"column": lambda self, index: 2 * Vignetted.column(self, index)},
    "column_sums is not the adjoint of ones": {"column_sums": property(lambda self: self.nominal.column_sums)},
    "squared_forward at .* is not that of the squares": {"squared_forward": lambda self, x: self.nominal.squared_forward(x)},
    "column_energies is not squared_adjoint": {"column_energies": property(lambda self: self.nominal.column_energies)},
    "table is not that of forward": {
        "table": property(lambda self: self.nominal.table),
        "origin": property(lambda self: self.nominal.origin),
    },
    "axis_matrices are not those": {"axis_matrices": property(lambda self: self.nominal.axis_matrices)},
    "norm is .* but the operator lengthens": {
        "norm": property(lambda self: 0.9 * Vignetted(self.nominal, transmission()).norm)
    },
}


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:divide by zero:RuntimeWarning")
@pytest.mark.parametrize("words", BROKEN)
def test_an_operator_that_does_not_agree_is_refused_before_any_work(psi, words):
    wrong = broken(psi, **BROKEN[words])
    with pytest.raises(AssertionError, match=words):
        assert_operator(wrong)
    stack = np.zeros((5, *SHAPE), np.float32)
    entrances = (
        lambda: fg.ForwardModel(wrong),
        lambda: fg.Objective(wrong, stack[0]),
        lambda: fg.reconstruct(stack, psi=wrong, camera=fg.Camera()),
    )
    for enter in entrances:
        with pytest.raises(ValueError, match=words):
            enter()


def test_a_subclass_of_psi_that_overrides_half_is_refused(psi):
    half = Dimmed(psi.psf, SHAPE, 2, backend="numpy")
    with pytest.raises(ValueError, match=r"Dimmed .*column\(\(0, 0\)\) is not forward of one emission there"):
        fg.ForwardModel(half)


def test_what_is_missing_is_named(psi):
    class Bare:
        shape, fine_shape, backend = psi.shape, psi.fine_shape, psi.backend

        def forward(self, x):
            return psi.forward(x)

        def adjoint(self, y):
            return psi.adjoint(y)

    with pytest.raises(TypeError, match="forward model reads memory_budget, photons_per_emitter of an operator, which Bare"):
        fg.ForwardModel(Bare())
    with pytest.raises(AssertionError, match="memory_budget"):
        assert_operator(Bare())

    class Enough(Bare):
        memory_budget, photons_per_emitter, norm = 2**20, 4.0, psi.norm

    model, x, b = fg.ForwardModel(Enough()), np.ones(psi.fine_shape, np.float32), np.ones(psi.shape, np.float32)
    np.testing.assert_array_equal(model.sample(x, b, 3, seed=1), fg.ForwardModel(psi).sample(x, b, 3, seed=1))
    with pytest.raises(TypeError, match="variance of the forward model reads squared_forward"):
        model.variance(x, b)
    with pytest.raises(TypeError, match="mean fit reads"):
        fg.Problem.of(np.zeros((5, *SHAPE)), psi=Enough(), camera=fg.Camera())
    found = fg.critic_gradient(quadratic_score, model, x, b, 4, method="photon")
    np.testing.assert_array_equal(
        found.x, fg.critic_gradient(quadratic_score, fg.ForwardModel(psi), x, b, 4, method="photon").x
    )
    for method in ("coupled", "direct"):
        with pytest.raises(TypeError, match=r"estimator of .* reads"):
            fg.critic_gradient(quadratic_score, model, x, b, 4, method=method)
    fg.Objective(Enough(), b).residual(x, b)


def test_an_operator_is_checked_once(psi):
    calls = []

    class Counted(Vignetted):
        def forward(self, x):
            calls.append(1)
            return super().forward(x)

    own = Counted(psi, transmission())
    usable(own, "forward model")
    first = len(calls)
    usable(own, "objective")
    assert len(calls) == first > 0
    usable(own.over(psi.scaled(0.9)), "objective")
    assert len(calls) > first


def test_what_each_part_reads_is_what_the_table_says(psi):
    """A bare object with the names of a row and no others is taken."""
    full = Vignetted(psi, transmission())
    _, stack = scene(full, 40)
    cached = {name for name in dir(full) if isinstance(getattr(type(full), name, None), cached_property)}
    assert {"norm", "column_sums", "matrix"} <= cached

    class Only:
        def __init__(self, names):
            for name in names:
                setattr(self, name, getattr(full, name))

    Only.replaced = lambda self, **changes: full.replaced(**changes)
    x, b = np.ones(psi.fine_shape, np.float32), np.ones(psi.shape, np.float32)
    fg.ForwardModel(Only(READS["forward model"])).sample(x, b, 2)
    fg.ForwardModel(Only({*READS["forward model"], "squared_forward"})).variance(x, b)
    fg.Objective(Only(READS["objective"]), b, smoothness=1.0, sparsity=0.1).terms(x, b)
    names = {*READS["mean fit"]} - {"replaced"}
    options = fg.SolverOptions(method="none", warm_steps=3)
    fg.reconstruct(stack, psi=Only(names), camera=fg.Camera(noise_std=1.0), options=options)
    model = fg.ForwardModel(Only({*READS["forward model"], *READS["estimator of coupled frames"]}))
    fg.critic_gradient(quadratic_score, model, x, b, 2, method="coupled")


def test_the_page_shows_the_table():
    page = Path(__file__).resolve().parents[2] / "docs" / "embedding.md"
    assert reads_table() in page.read_text(encoding="utf-8")
