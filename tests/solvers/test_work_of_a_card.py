"""Budgets: what the fits may ask of a card in an iteration, counted on a card that is only pretended.

At some 7 microseconds a launch, an iteration on a small field takes as long as its launches; where the host waits, nothing is
queued meanwhile.  A launch is one of the library's kernels, or one that CuPy starts for a function (``pretend_card.py``).
"""

from __future__ import annotations

import numpy as np
import pretend_card
import pytest
import torch

import fluogan_core as fg
from fluogan_core.solvers.covariance_fit import CovariancePhase

#: Of an inner iteration of the covariance fit, at any size up to 100 x 100 camera pixels.
LAUNCHES = 40


class Enough(Exception):
    """The calls that were wanted have been made."""


def counted_calls(monkeypatch, kind, name, calls):
    """Count the work of so many calls of a method, then raise Enough; return the list that it goes to."""
    found, real = [], getattr(kind, name)

    def called(self, *given):
        if len(found) == calls:
            raise Enough
        with pretend_card.counted() as work:
            answer = real(self, *given)
        found.append(work)
        return answer

    monkeypatch.setattr(kind, name, called)
    return found


def recorded(backend, shape, level, lines=(25, 45)):
    """An operator with the frames of two lines on a background, and their camera."""
    psi = fg.Psi(fg.gaussian_psf(318, 100, 4), shape, 4, photons_per_emitter=20.0, backend=backend)
    x, b = np.zeros(psi.fine_shape, np.float32), np.full(shape, level, np.float32)
    x[20:-20, lines] = 0.05
    stack = fg.ForwardModel(psi, noise_std=1.0).sample(backend.asarray(x), backend.asarray(b), 60, seed=1)
    return {"stack": stack, "psi": psi, "camera": fg.Camera(noise_std=1.0)}


@pytest.mark.parametrize("level", [5.0, 0.02])
def test_an_iteration_of_the_covariance_fit_keeps_to_its_budget(pretended_card, monkeypatch, level):
    """Also on a background so dark that its bound matters in every iteration."""
    works = counted_calls(monkeypatch, CovariancePhase, "_iterate", 4)
    with pytest.raises(Enough):
        fg.reconstruct(**recorded(pretended_card, (32, 32), level), options=fg.SolverOptions(steps=1, warm_steps=20))
    for work in works[1:]:  # the first one fills caches
        assert work.launches.total() <= LAUNCHES, work.launches
        assert not work.waits, work.waits
        assert not work.copies, work.copies


@pytest.mark.parametrize(
    ("method", "waits"),
    [
        ("linear", {"tolist": 1}),
        ("photon", {"tolist": 1}),
        # the number of photons, and how many sets there are of each size: arrays and launches follow from them
        ("corrected", {"int": 1, "tolist": 2}),
    ],
)
def test_a_step_with_a_network_keeps_to_its_budget(pretended_card, monkeypatch, method, waits):
    """Training, held-out frames, gradient, images and record: all numbers are read together at the end, torch's too."""
    works = counted_calls(monkeypatch, fg.Solver, "step", 2)
    chosen = {"critic_steps": 3, "batch": 4, "gradient_frames": 4, "channels": 2, "depth": 2}
    with pytest.raises(Enough):
        fg.reconstruct(
            **recorded(pretended_card, (16, 16), 5.0, lines=(10, 20)),
            options=fg.SolverOptions(method=method, steps=3, warm_steps=0, **chosen),
        )
    assert works[1].waits == waits  # the first step fills caches
    assert works[1].copies.total() <= 18, works[1].copies


def test_a_step_that_breaks_on_a_card_says_so_and_keeps_the_images(pretended_card):
    """What was wrong first is raised, though it is read at the end."""
    options = fg.SolverOptions(method="corrected", steps=3, warm_steps=0, critic_steps=1, batch=4, gradient_frames=4, depth=2)
    solver = fg.Solver(**recorded(pretended_card, (16, 16), 5.0, lines=(10, 20)), options=options)
    solver.step()
    phase = solver.current
    before = [image.get() for image in phase.images]
    with torch.no_grad():
        phase.critic.convolutions[0].weight[0] = np.nan
    with pytest.raises(FloatingPointError, match="the critic's gradient is not finite at step 1: lower learning_rate"):
        solver.step()
    for image, kept in zip(phase.images, before, strict=True):
        np.testing.assert_array_equal(image.get(), kept)


def test_launches_waits_and_copies_are_counted(pretended_card):
    xp, array = pretended_card.xp, pretended_card.asarray(np.ones((4, 6)))
    with pretend_card.counted() as work:
        again = array[1:].T.reshape(2, -1)  # a copy: the rows do not follow one another
        array[:2] += array[2:]
        looks = (array.ravel(), array[None], xp.ascontiguousarray(array), xp.empty(3))
        array[0] = 1.0
    assert work.launches == {"reshape": 1, "add": 1, "[index] =": 1}, (again.shape, len(looks))
    assert not work.waits
    with pretend_card.counted() as work:
        assert float(array.sum()) == 30.0
        if array.any() and array[array > 1].tolist():
            xp.asarray([1.0, 2.0])
    assert work.waits == {"float": 1, "bool": 1, "tolist": 1, "[index] by a mask": 1}
    assert work.copies == {"asarray": 1}
    tensor = torch.ones(2)
    with pretend_card.counted() as work:
        if tensor.isfinite().all() and float(tensor[0]) == tensor[1].item():
            tensor.tolist(), tensor.numpy(), tensor.cpu(), torch.equal(tensor, tensor)
    named = {"__bool__", "__float__", "item", "tolist", "numpy", "cpu", "equal"}
    assert work.waits == dict.fromkeys((f"torch {name}" for name in named), 1)
    one, wide = xp.ones((3, 3), dtype=np.float32), xp.ones((2, 3, 4))
    with pretend_card.counted() as work:
        pretended_card.kernel("descend")(one, one, one, 0.1, 0.2)
        xp.matmul(wide, wide.swapaxes(1, 2))  # the second is copied first
    assert work.launches == {"descend": 1, "matmul": 2}
