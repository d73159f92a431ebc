"""Budgets: what the fits may ask of a card in an iteration, counted on a card that is only pretended.

At some 7 microseconds a launch, an iteration on a small field takes as long as its launches; where the host waits, nothing is
queued meanwhile.  A launch is one of the library's kernels, or one that CuPy starts for a function (``pretend_card.py``).
"""

from __future__ import annotations

import numpy as np
import pretend_card
import pytest

import fluogan_core as fg
from fluogan_core.solvers.covariance_fit import CovariancePhase
from fluogan_core.solvers.network_fit import NetworkPhase

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


def recorded(backend, shape, level):
    """An operator with the frames of two lines on a background, and their camera."""
    psi = fg.Psi(fg.gaussian_psf(318, 100, 4), shape, 4, photons_per_emitter=20.0, backend=backend)
    x, b = np.zeros(psi.fine_shape, np.float32), np.full(shape, level, np.float32)
    x[20:-20, [25, 45]] = 0.05
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


def test_training_of_the_critic_keeps_to_its_budget(pretended_card, monkeypatch):
    """Ten batches: their frames are drawn together, which checks two images, and the last loss is read."""
    works = counted_calls(monkeypatch, NetworkPhase, "learn", 1)
    options = fg.SolverOptions(method="linear", steps=2, warm_steps=20, critic_steps=10, batch=4)
    with pytest.raises(Enough):
        fg.reconstruct(**recorded(pretended_card, (32, 32), 5.0), options=options)
    assert works[0].waits.total() <= 4, works[0].waits
    assert works[0].copies.total() <= 4, works[0].copies


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
    one, wide = xp.ones((3, 3), dtype=np.float32), xp.ones((2, 3, 4))
    with pretend_card.counted() as work:
        pretended_card.kernel("descend")(one, one, one, 0.1, 0.2)
        xp.matmul(wide, wide.swapaxes(1, 2))  # the second is copied first
    assert work.launches == {"descend": 1, "matmul": 2}
