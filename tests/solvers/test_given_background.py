"""A background that is given is what b is, in every phase."""

from __future__ import annotations

import numpy as np
import pytest

import fluogan_core as fg

SHAPE = (16, 16)
PSI = fg.Psi(fg.gaussian_psf(300, 100, 2), SHAPE, 2, photons_per_emitter=30.0, backend="numpy")
CAMERA = fg.Camera(gain=2.0, offset=100.0, noise_std=2.0)
ROW, COLUMN = np.mgrid[:16, :16]
#: With a spot at the left that is as small as the PSF: no smooth background could follow it.
KNOWN = (6 + 20 * np.exp(-((ROW - 8) ** 2 + (COLUMN - 2) ** 2) / 4)).astype(np.float32)


def frames(background: np.ndarray, count: int = 60) -> np.ndarray:
    x = np.zeros(PSI.fine_shape, np.float32)
    x[8:24, 15] = 2.0
    return 100 + fg.ForwardModel(PSI, gain=2.0, noise_std=2.0).sample(x, background, count, 3)


@pytest.mark.parametrize("method", ["none", "moments"])
def test_b_is_what_was_given_and_x_has_the_rest(method):
    options = fg.SolverOptions(method=method, **({"steps": 2} if method == "moments" else {}))
    stack = frames(KNOWN)
    known = fg.reconstruct(stack, psi=PSI, camera=CAMERA, options=options, background=KNOWN)
    assert np.array_equal(known.b, KNOWN)
    assert np.array_equal(known.b_mean_fit, KNOWN)
    fitted = fg.reconstruct(stack, psi=PSI, camera=CAMERA, options=options)
    assert abs(known.x.sum() / 32.0 - 1) < 0.1
    assert known.x[:, :8].sum() < 0.1 * fitted.x[:, :8].sum()


def test_a_number_is_that_background_everywhere():
    options = fg.SolverOptions(method="none", warm_steps=30)
    given = {"psi": PSI, "camera": CAMERA, "options": options}
    stack = frames(np.full(SHAPE, 5, np.float32))
    number = fg.reconstruct(stack, **given, background=5)
    image = fg.reconstruct(stack, **given, background=np.full(SHAPE, 5.0))
    assert np.array_equal(number.x, image.x)
    assert (number.b == 5).all()


@pytest.mark.parametrize(
    ("background", "match"),
    [
        (-1.0, "background"),
        (np.full((15, 16), 3.0), r"\(16, 16\)"),
        (np.full(SHAPE, -0.5), "cut at zero"),
        (np.full(SHAPE, np.nan), "NaN"),
        (1e4, "nothing would be left"),
        ("5", "background"),
    ],
)
def test_what_is_no_background_is_refused_before_any_work(background, match):
    with pytest.raises((ValueError, TypeError), match=match):
        fg.reconstruct(frames(KNOWN, 4), psi=PSI, camera=CAMERA, background=background)


def test_a_start_and_a_given_background_exclude_each_other():
    with pytest.raises(TypeError, match="one of the two"):
        fg.Solver(frames(KNOWN, 4), psi=PSI, camera=CAMERA, background=3.0, b0=KNOWN)


def test_a_run_goes_on_with_the_same_background_only(tmp_path):
    stack, options = frames(KNOWN), fg.SolverOptions(method="none", warm_steps=20)

    def solver(background: object) -> fg.Solver:
        return fg.Solver(stack, psi=PSI, camera=CAMERA, options=options, background=background)

    whole, first, second = solver(KNOWN), solver(KNOWN), solver(KNOWN)
    while whole.current is not None:
        whole.step()
    for _ in range(7):
        first.step()
    first.save(tmp_path / "state.pt")
    second.load(tmp_path / "state.pt")
    assert np.array_equal(second.run(progress=False).x, whole.result().x)
    for other in (None, KNOWN + 1):
        with pytest.raises(ValueError, match="background"):
            solver(other).load(tmp_path / "state.pt")
