"""Checkpoints of the solver: resumed runs equal uninterrupted ones, states that are wrong are refused by their field."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from two_lines import CAMERA, SMALL, simulate

import fluogan_core as fg
from fluogan_core.solvers.checkpoint import read_state, write_state
from fluogan_core.solvers.history import QUANTITIES
from fluogan_core.solvers.options import SolverOptions
from fluogan_core.solvers.solver import Solver
from fluogan_core.solvers.state import VERSION


@pytest.mark.parametrize("stop_after", [7, 42, 44])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, stop_after):
    psi, _, _, stack = simulate(frames=60)
    options = dataclasses.replace(SMALL, tolerance=0.0)
    whole = fg.reconstruct(stack, psi=psi, camera=CAMERA, options=options)
    path = tmp_path / "checkpoint.pt"

    class Killed(Exception):
        pass

    def kill(solver, record):
        if solver.steps_done == stop_after:
            raise Killed

    with pytest.raises(Killed):
        fg.reconstruct(stack, psi=psi, camera=CAMERA, options=options, callback=kill, checkpoint=path)
    rest = []
    resumed = fg.reconstruct(
        stack,
        psi=psi,
        camera=CAMERA,
        options=options,
        checkpoint=path,
        resume=True,
        callback=lambda solver, record: rest.append(solver.steps_done),
    )
    assert rest == list(range(stop_after + 1, 47))
    assert resumed.x.tobytes() == whole.x.tobytes()
    assert resumed.b.tobytes() == whole.b.tobytes()
    for name in set(QUANTITIES) - {"seconds"}:
        np.testing.assert_array_equal(resumed.history[name], whole.history[name])


def test_a_finished_run_can_go_further(tmp_path):
    psi, _, _, stack = simulate(frames=60)
    path = tmp_path / "checkpoint.pt"
    fg.reconstruct(stack, psi=psi, camera=CAMERA, options=dataclasses.replace(SMALL, steps=3), checkpoint=path)
    further = fg.reconstruct(stack, psi=psi, camera=CAMERA, options=SMALL, checkpoint=path, resume=True)
    whole = fg.reconstruct(stack, psi=psi, camera=CAMERA, options=SMALL)
    assert further.x.tobytes() == whole.x.tobytes()


def test_a_checkpoint_of_another_reconstruction_is_refused_by_name(tmp_path):
    psi, _, _, stack = simulate(frames=60)
    path = tmp_path / "checkpoint.pt"
    options = dataclasses.replace(SMALL, steps=1)
    fg.reconstruct(stack, psi=psi, camera=CAMERA, options=options, checkpoint=path)
    go = {"psi": psi, "camera": CAMERA, "options": options, "checkpoint": path, "resume": True}
    with pytest.raises(ValueError, match="another reconstruction: fingerprint"):
        fg.reconstruct(stack + 1, **go)
    with pytest.raises(ValueError, match="option seed"):
        fg.reconstruct(stack, **(go | {"options": dataclasses.replace(options, seed=1)}))
    with pytest.raises(ValueError, match="camera"):
        fg.reconstruct(stack, **(go | {"camera": fg.Camera(2.0, 99.0, 1.5)}))
    with pytest.raises(ValueError, match="another reconstruction: psi"):
        fg.reconstruct(stack, **(go | {"psi": psi.replaced(psf=fg.gaussian_psf(350, 100, psi.factor, truncate=4))}))
    state = read_state(path)
    write_state(state | {"version": 1}, path)
    with pytest.raises(ValueError, match=rf"another reconstruction: version \(1 there, {VERSION} here\)"):
        fg.reconstruct(stack, **go)
    with pytest.raises(FileNotFoundError):
        fg.reconstruct(stack, **(go | {"checkpoint": tmp_path / "none.pt"}))
    with pytest.raises(ValueError, match="needs checkpoint="):
        fg.reconstruct(stack, psi=psi, camera=CAMERA, resume=True)


WRONG = {
    "no step": lambda state: state["phases"]["mean"].pop("taken"),
    "half a step": lambda state: state["phases"]["mean"].update(taken=1.5),
    "NaN in z": lambda state: state["phases"]["mean"]["acceleration"]["current"][0].fill(np.nan),
    "another shape": lambda state: state["phases"]["mean"]["acceleration"].update(ahead=[np.ones((3, 3))] * 3),
    "negative b": lambda state: state["phases"]["mean"]["b"].fill(-1),
    "negative x": lambda state: state["phases"]["covariance"]["x"].fill(-1),
    "a word for the flicker": lambda state: state["phases"]["covariance"].update(flicker=["much", 1.0]),
    "no acceleration": lambda state: state["phases"]["covariance"].pop("acceleration"),
    "an unknown field": lambda state: state["phases"]["covariance"].update(colour="red"),
    "an unknown reason": lambda state: state["phases"]["mean"]["stop"].update(reason="WHIM"),
    "weights of edges below nought": lambda state: state["phases"]["covariance"]["prior"]["edges"].fill(-1),
    "no history": lambda state: state.pop("history"),
    "a column cut short": lambda state: state["history"].update(residual=np.zeros(2)),
    "seconds before the start": lambda state: state.update(seconds=-1.0),
}


@pytest.fixture(scope="module")
def whole_state(tmp_path_factory):
    psi, _, _, stack = simulate(frames=60)
    solver = Solver(stack, psi=psi, camera=CAMERA, options=SolverOptions(warm_steps=5, steps=2))
    solver.run(progress=False)
    path = tmp_path_factory.mktemp("state") / "c.pt"
    solver.save(path)
    return solver, path


@pytest.mark.parametrize("name", WRONG)
def test_a_checkpoint_that_is_whole_and_wrong_is_refused_by_its_field(whole_state, name):
    solver, path = whole_state
    state = read_state(path)
    WRONG[name](state)
    with pytest.raises(ValueError, match=r"^state"):
        solver.load_state_dict(state)
    solver.load(path)  # and nothing was taken over from the wrong one
    assert np.isfinite(solver.result().x).all()
