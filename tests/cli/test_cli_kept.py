"""What the command line keeps: an interrupted run goes on where it stopped, and nothing is overwritten that was read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import tifffile
from refusals import assert_refused

import fluogan_core as fg
from fluogan_core.cli.shell import stopping_between_steps
from fluogan_core.io.simulated import write_experiment
from fluogan_core.simulation.experiment import Experiment
from fluogan_core.solvers.network_fit import NetworkPhase

OPTICS = ("--pixel-size-nm", 100, "--fwhm-nm", 150)
CAMERA = ("--gain", 2, "--offset", 100, "--noise-std", 3, "--photons-per-emitter", 5)
#: A short run: the mean fit and a few steps with a small share of the default work.
QUICK = ("--factor", 2, "--method", "linear", "--warm-steps", 15)


def test_library_and_command_give_the_same_bytes(fluogan, tmp_path):
    """Nothing but the PSF is given: width, camera and emitters are measured, in both, by one chain."""
    write_experiment(Experiment(size=(24, 24), separations_nm=(300.0,), frames=200, factor=2), tmp_path)
    small = ("--factor", 2, "--warm-steps", 15, "--steps", 1, "--no-figure")
    done = fluogan("reconstruct", tmp_path / "stack.tif", "--output", tmp_path / "out", "--fwhm-nm", 318, *small)
    assert done[0] == 0, done[2]
    stack = fg.read_stack(tmp_path / "stack.tif")
    psi = fg.Psi(fg.gaussian_psf(318, stack.pixel_size_nm, 2), stack.frames.shape[1:], 2)
    result = fg.reconstruct(stack, psi=psi, options=fg.SolverOptions(warm_steps=15, steps=1))
    assert result.psi.photons_per_emitter != psi.photons_per_emitter
    for name in ("x", "b"):
        assert tifffile.imread(tmp_path / "out" / f"{name}.tif").tobytes() == getattr(result, name).tobytes()


def test_a_finished_run_goes_further_with_resume_and_equals_one_long_run(fluogan, recording, tmp_path):
    common = ("reconstruct", recording, "--fwhm-nm", 150, *CAMERA, *QUICK, "--no-figure")
    assert fluogan(*common, "--output", tmp_path / "long", "--steps", 2)[0] == 0
    assert fluogan(*common, "--output", tmp_path / "parts", "--steps", 1)[0] == 0
    middle = (tmp_path / "parts/x.tif").read_bytes()
    assert fluogan(*common, "--output", tmp_path / "parts", "--steps", 2, "--resume")[0] == 0
    for name in ("x.tif", "b.tif"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "long" / name).read_bytes()
    assert (tmp_path / "parts/x.tif").read_bytes() != middle
    # without --resume the checkpoint is not continued
    assert fluogan(*common, "--output", tmp_path / "parts", "--steps", 1)[0] == 0
    assert (tmp_path / "parts/x.tif").read_bytes() == middle


def test_a_checkpoint_of_another_run_or_a_broken_one_is_refused(fluogan, recording, tmp_path):
    common = ("reconstruct", recording, "--output", tmp_path, "--fwhm-nm", 150, *CAMERA, "--no-figure", *QUICK)
    assert fluogan(*common, "--steps", 1)[0] == 0
    assert_refused(fluogan(*common, "--steps", 1, "--resume", "--seed", 9), 2, "seed")
    whole = (tmp_path / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(whole[: len(whole) // 2])
    assert_refused(fluogan(*common, "--steps", 1, "--resume"), 2, "checkpoint")


@pytest.mark.usefixtures("signals_are_heard")
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_within_a_step_keeps_whole_steps_that_resume_continues(fluogan, recording, tmp_path, monkeypatch):
    common = ("reconstruct", recording, "--fwhm-nm", 150, *CAMERA, *QUICK, "--steps", 2, "--no-figure")
    assert fluogan(*common, "--output", tmp_path / "whole")[0] == 0
    learn, before = NetworkPhase.learn, signal.getsignal(signal.SIGINT)

    def interrupted(self, *arguments):
        learned = learn(self, *arguments)  # the critic has moved on, x has not
        os.kill(os.getpid(), signal.SIGINT)
        return learned

    with monkeypatch.context() as patch:
        patch.setattr(NetworkPhase, "learn", interrupted)
        status, _, err = fluogan(*common, "--output", tmp_path / "cut")
    assert status == 130
    last = err.splitlines()[-1]
    assert last.startswith("fluogan: error: interrupted after step 16 of 17; ")
    assert "--resume" in last
    assert str(tmp_path / "cut" / "checkpoint.pt") in last
    assert [p.name for p in (tmp_path / "cut").iterdir()] == ["checkpoint.pt"]
    assert signal.getsignal(signal.SIGINT) is before
    assert fluogan(*common, "--output", tmp_path / "cut", "--resume")[0] == 0
    assert (tmp_path / "cut/x.tif").read_bytes() == (tmp_path / "whole/x.tif").read_bytes()


def test_an_interrupt_within_the_first_steps_promises_no_checkpoint_that_is_not_there(
    fluogan, recording, tmp_path, monkeypatch
):
    step = fg.Solver.step

    def interrupted(self):
        if self.steps_done == 3:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(fg.Solver, "step", interrupted)
    common = ("reconstruct", recording, "--fwhm-nm", 150, *CAMERA, *QUICK, "--no-figure")
    status, _, err = fluogan(*common, "--output", tmp_path / "cut")
    assert status == 130
    assert err.splitlines()[-1].startswith("fluogan: error: interrupted after step 3 of ")
    assert err.splitlines()[-1].endswith("; no checkpoint had been written yet")
    assert not list((tmp_path / "cut").iterdir())
    monkeypatch.undo()
    assert fluogan(*common, "--output", tmp_path / "cut", "--steps", 1)[0] == 0
    monkeypatch.setattr(fg.Solver, "step", lambda self: step(self) if self.steps_done < 17 else interrupted_now())
    err = fluogan(*common, "--output", tmp_path / "cut", "--steps", 3, "--resume")[2]
    assert "interrupted after step 17 of 18; " in err.splitlines()[-1]
    assert "checkpoint.pt holds the first 16: " in err.splitlines()[-1]


def interrupted_now():
    raise KeyboardInterrupt


@pytest.mark.parametrize(("command", "name"), [("reconstruct", "x.tif"), ("sweep", "sweep.tif")])
def test_the_stack_and_the_psf_are_not_overwritten(fluogan, recording, tmp_path, command, name):
    mine = tmp_path / name
    mine.write_bytes(recording.read_bytes())
    for words in ((mine, *OPTICS), (recording, "--psf", mine)):
        assert_refused(fluogan(command, *words, "--output", tmp_path), 2, "which is read: choose another directory")
    assert mine.read_bytes() == recording.read_bytes()


def test_a_recording_is_not_replaced_by_a_simulated_stack(fluogan, recording, tmp_path):
    common = ("simulate", "--size", "16,16", "--frames", 2, "--factor", 2, "--output", tmp_path)
    assert fluogan(*common)[0] == 0
    assert fluogan(*common)[0] == 0
    (tmp_path / "truth.json").unlink()
    assert_refused(fluogan(*common), 2, "is no simulated stack, and would be overwritten")


@pytest.mark.usefixtures("signals_are_heard")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_second_signal_does_not_wait(name):
    number = getattr(signal, name, signal.SIGINT)
    with stopping_between_steps() as check:
        check()
        signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            check()


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_signal_that_is_ignored_stays_ignored():
    """As nohup does with SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping_between_steps() as check:
            signal.raise_signal(signal.SIGHUP)
            check()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("signals_are_heard")
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_real_interrupt_ends_the_process_with_130_and_without_a_trace(recording, tmp_path):
    command = [
        "reconstruct",
        recording,
        "--output",
        tmp_path,
        *OPTICS,
        *CAMERA,
        *QUICK,
        "--steps",
        100_000,
        "--verbose",
    ]
    code = "import sys; from fluogan_core.cli.commands import main; sys.exit(main())"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, command[:-1])], env=environment, stderr=subprocess.PIPE, text=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        first = [process.stderr.readline() for _ in range(2)]
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(timeout=60) == 130, (first, rest)
    finally:
        process.kill()
    assert "Traceback" not in rest
    assert rest.splitlines()[-1].startswith("fluogan: error: interrupted")
