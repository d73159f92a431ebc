"""Numbers that a card is asked for together: what is read, in which order it is judged, and which error comes first."""

from __future__ import annotations

import numpy as np
import pretend_card
import pytest

import fluogan_core as fg
from fluogan_core.backend.readings import check, check_bounds, number, root, together
from fluogan_core.critics.evaluator import CriticEvaluator
from fluogan_core.kernels.cuda import readings


def refuse(what):
    def judge(sound):
        if not sound:
            raise ValueError(what)

    return judge


def test_numbers_and_checks_are_read_in_one_copy(pretended_card):
    xp, found = pretended_card.xp, []
    image = pretended_card.asarray(np.arange(6.0).reshape(2, 3))
    with pretend_card.counted() as work, together(pretended_card) as read:
        size = number(image.sum())
        check_bounds(pretended_card, image, lambda low, high: found.append((low, high)))
        check(pretended_card, xp.isfinite(image).all(), refuse("finite"))
        assert not found
        assert read(size, 7, root(number(image[0, 1]))) == [15.0, 7.0, 1.0]
        assert found == [(0.0, 5.0)]
        assert read(1.5) == [1.5]  # nothing is left to be read of the card
    assert work.waits == {"tolist": 1}
    assert number(image.sum()) == 15.0
    assert isinstance(number(image.sum()), float)


def test_what_failed_first_is_raised_at_the_end(pretended_card):
    wrong = pretended_card.asarray([False])
    with pytest.raises(ValueError, match="first"), together(pretended_card):  # noqa: PT012 - the end of the block raises
        check(pretended_card, wrong, refuse("first"))
        check(pretended_card, wrong, refuse("second"))
    # and in place of an error that it explains
    with pytest.raises(ValueError, match="first") as caught, together(pretended_card):  # noqa: PT012
        check(pretended_card, wrong, refuse("first"))
        raise KeyError("what came of it")
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(KeyError), together(pretended_card):  # noqa: PT012
        check(pretended_card, pretended_card.asarray([True]), refuse("first"))
        raise KeyError("alone")
    with pytest.raises(ValueError, match="now"):
        check(pretended_card, wrong, refuse("now"))


def test_a_context_within_another_one_belongs_to_it(pretended_card):
    right = pretended_card.asarray([True])
    with pretend_card.counted() as work, together(pretended_card):
        for _ in range(3):
            with together(pretended_card):
                check(pretended_card, right, refuse("finite"))
    assert work.waits == {"tolist": 1}


def test_questions_do_not_pile_up(pretended_card, monkeypatch):
    monkeypatch.setattr(readings, "_MOST", 4)
    right = pretended_card.asarray([True])
    with pretend_card.counted() as work, together(pretended_card):
        for _ in range(9):
            check(pretended_card, right, refuse("finite"))
    assert work.waits == {"tolist": 3}


def test_on_the_cpu_everything_is_there_at_once():
    home = fg.get_backend("numpy")
    with pytest.raises(ValueError, match="now"), together(home):  # noqa: PT012 - the first statement raises
        check(home, np.asarray(False), refuse("now"))
        raise AssertionError("it is raised where it is asked")
    with together(home) as read:
        assert read(number(np.float32(2.0)), root(4.0)) == [2.0, 2.0]


def test_a_gradient_waits_once_for_its_checks_and_names_what_was_wrong_first(pretended_card):
    psi = fg.Psi(np.ones((3, 3)), (8, 8), 2, photons_per_emitter=3.0, backend=pretended_card)
    x, b = (pretended_card.asarray(np.full(shape, 0.5, np.float32)) for shape in (psi.fine_shape, psi.shape))
    model, evaluator = fg.ForwardModel(psi), CriticEvaluator(fg.Critic((8, 8), 2, 2, seed=0), (8, 8), pretended_card)
    fg.critic_gradient(evaluator, model, x, b, 3, method="linear")
    with pretend_card.counted() as work:
        fg.critic_gradient(evaluator, model, x, b, 3, method="linear")
    # x and b are looked at before anything is drawn; the weights are compared with those that were prepared
    assert work.waits == {"tolist": 3, "torch equal": 1}
    with pretend_card.counted() as work:
        fg.critic_gradient(evaluator.still(), model, x, b, 3, method="linear")
    assert work.waits == {"tolist": 3, "torch equal": 1}
    loud = fg.ForwardModel(psi, noise_std=1e15, gain=1e15)
    bright = pretended_card.asarray(np.full(psi.fine_shape, 1e30, np.float32))
    with pytest.raises(ValueError, match="exceeds what float32 can hold"):
        fg.critic_gradient(evaluator, loud, bright, b, 3, method="linear")
