"""The work does not depend on its log, its terminal or its language: each in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tifffile

from fluogan_core.cli import streams
from fluogan_core.solvers import checkpoint
from fluogan_core.solvers import reconstruct as solving

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX shells")

ROOT = Path(__file__).resolve().parents[2]
QUICK = (
    "--pixel-size-nm 100 --fwhm-nm 150 --factor 2 --psf-width 1 --gain 2 --offset 100 --noise-std 3 --photons-per-emitter 5 "
    "--method none --warm-steps 3 --no-figure"
)


@pytest.fixture
def shell(recording, tmp_path):
    """Run ``fluogan ARGUMENTS`` by a shell, with redirections; return status, what the shell wrote."""

    def run(arguments: str, redirections: str = "", before: str = "", **environment: str) -> tuple[int, bytes, bytes]:
        program = (
            f"{before}{sys.executable} -c 'import sys; from fluogan_core.cli import main; sys.exit(main())' "
            f"{arguments} {redirections}"
        )
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", program.format(stack=recording, out=tmp_path / "out")],
            capture_output=True, timeout=120, cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.mark.parametrize(
    ("redirections", "status"),
    [("<&- >&- 2>&-", 0), ("2>/dev/full", 0), ("2>&1 | head -1", 0), ("> /dev/full", 1)],
)
def test_a_log_that_nobody_reads_costs_no_result(shell, tmp_path, redirections, status):
    done, out, err = shell(f"reconstruct {{stack}} --output {{out}} {QUICK}", redirections)
    assert done == status, (out, err)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "b.tif",
        "checkpoint.pt",
        "report.html",
        "report.json",
        "x.tif",
    ]
    assert tifffile.imread(tmp_path / "out" / "x.tif").shape == (40, 32)
    assert b"Traceback" not in out + err
    assert b"Exception ignored" not in out + err
    if status:
        assert err.splitlines()[-1] == b"fluogan: error: standard output could not be written: No space left on device"


def test_a_table_goes_through_a_pipe_that_is_closed_and_an_ascii_terminal(shell):
    status, out, err = shell("estimate {stack} --gain 2 --offset 100 --noise-std 3", PYTHONIOENCODING="ascii")
    assert status == 0, err
    assert b"+- 1 s.e." in out
    status, out, err = shell("info --json", "| head -1")
    assert (status, out) == (0, b"{\n")
    assert len(err.splitlines()) <= 1  # what computes


def test_paths_that_are_no_utf8_and_a_backend_of_matplotlib_that_is_none(shell, recording, tmp_path):
    name = os.fsdecode(b"st\xffck.tif")
    (tmp_path / name).write_bytes(recording.read_bytes())
    quoted = "$'st\\xffck.tif' --output $'o\\xfft'"
    status, out, err = shell(f"reconstruct {quoted} {QUICK.replace('--no-figure', '')}", MPLBACKEND="no such backend")
    assert status == 0, err
    assert b"o\xfft" in out
    assert b"st\xffck.tif" in err
    folder = tmp_path / os.fsdecode(b"o\xfft")
    assert {"x.tif", "b.tif", "report.json", "figure.png"} <= {path.name for path in folder.iterdir()}
    assert "st\\\\xffck.tif" in (folder / "report.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("how", ["a file is in the way", "the folder is gone"])
def test_a_result_that_does_not_fit_is_placed_elsewhere(fluogan, recording, tmp_path, monkeypatch, how):
    """What happens to the folder while the stack is reconstructed costs no result, and all is said."""
    out = tmp_path / "out"
    reconstruct = solving.reconstruct

    def spoiled(*arguments, **options):
        made = reconstruct(*arguments, **options)
        shutil.rmtree(out)
        if how == "a file is in the way":
            out.write_text("")
        return made

    monkeypatch.setattr(solving, "reconstruct", spoiled)
    status, said, err = fluogan("reconstruct", recording, "--output", out, *QUICK.split())
    place = out
    if how == "a file is in the way":
        assert status == 1
        last = err.splitlines()[-1]
        assert last.startswith(f"fluogan: error: the result could not be written to {out} (the output directory {out} cannot")
        place = Path(last.rsplit(" ", 1)[1])
        assert place.parent == tmp_path
    else:
        assert status == 0, err
    assert {"x.tif", "b.tif", "report.html", "report.json"} == {path.name for path in place.iterdir()}
    assert said.splitlines()[-1] == f"wrote x.tif, b.tif, report.json, report.html to {place}"


def test_a_checkpoint_that_could_not_be_written_is_not_said_to_be(fluogan, recording, tmp_path, monkeypatch):
    def full(state, path):
        raise OSError(28, os.strerror(28), str(path))

    monkeypatch.setattr(checkpoint, "write_state", full)
    status, said, err = fluogan("reconstruct", recording, "--output", tmp_path, *QUICK.split())
    assert status == 0
    assert "checkpoint.pt could not be written" in err
    assert said.splitlines()[-1] == f"wrote x.tif, b.tif, report.json, report.html to {tmp_path}"


def test_no_standard_error_at_all(fluogan, recording, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    words = QUICK.split()
    assert fluogan("reconstruct", recording, "--output", tmp_path, *words)[0] == 0
    assert sys.stderr is None
    assert fluogan("reconstruct", tmp_path / "none.tif", "--output", tmp_path, *words)[0] == 2


def test_a_second_run_in_the_folder_is_refused_in_one_line(shell, recording, tmp_path):
    hold = (
        f"{sys.executable} -c 'import sys, pathlib; from fluogan_core.io.lock import sole_writer\n"
        'with sole_writer(pathlib.Path(sys.argv[1])): print("held", flush=True); sys.stdin.read()\''
    )
    (tmp_path / "out").mkdir()
    process = subprocess.Popen(
        ["bash", "-c", f"exec {hold} {tmp_path / 'out'}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"held\n"
        status, _, err = shell(f"reconstruct {{stack}} --output {{out}} {QUICK}")
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()
    assert status == 2
    assert f"is being written to by another run (process {process.pid} on ".encode() in err.splitlines()[-1]
    assert not list((tmp_path / "out").iterdir())


# -- the streams themselves ----------------------------------------------------------------------------------------------


class Broken:
    """A stream that fails after some writes."""

    def __init__(self, writes: int, error: Exception) -> None:
        self.left, self.error, self.written = writes, error, ""
        self.closed = isinstance(error, ValueError)

    def write(self, text: str) -> int:
        if not self.left:
            raise self.error
        self.left -= 1
        self.written += text
        return len(text)

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), OSError(28, "full"), ValueError("closed file")])
def test_a_stream_drops_what_it_cannot_write_and_keeps_why(error):
    broken = Broken(1, error)
    stream = streams.Stream(broken)
    assert [stream.write(word) for word in ("one", "two", "three")] == [3, 3, 5]
    assert broken.written == "one"
    assert stream.lost is error or str(stream.lost) == str(error)
    assert not stream.isatty()


def test_a_mistake_in_the_program_is_not_taken_for_a_closed_stream():
    broken = Broken(0, ValueError("bad argument"))
    broken.closed = False
    with pytest.raises(ValueError, match="bad argument"):
        streams.Stream(broken).write("one")


def test_the_real_streams_are_put_back_as_they_were(capfd):
    before = sys.stdout, sys.stderr, sys.stdout.errors, sys.stderr.errors
    with streams.standard_streams() as (out, err):
        assert (sys.stdout, sys.stderr) == (out, err)
        print("± 1", flush=True)
    assert (sys.stdout, sys.stderr, sys.stdout.errors, sys.stderr.errors) == before
    assert capfd.readouterr().out == "± 1\n"


def test_a_folder_that_was_removed_is_named_before_any_work(shell, tmp_path):
    """Where a library of torch looks for itself there, it ended the process in mid-work."""
    (tmp_path / "gone").mkdir()
    status, out, err = shell(f"reconstruct {{stack}} --output {{out}} {QUICK}", before="cd gone; rmdir ../gone; ")
    assert status == 2
    assert out == b""
    assert b"the folder in which this was started is not there any more: cd to another one" in err
    assert not (tmp_path / "out").exists()
