"""What can be known of the check on a card without one: that it refuses and says why, finds the package, and counts right."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fluogan_core as fg
from benchmarks import _kernel_figures, gpu_check
from benchmarks.gpu_check import ROOT, Step
from fluogan_core.backend import arrays as backend
from fluogan_core.kernels import cuda


@pytest.fixture
def a_card(monkeypatch):
    monkeypatch.setattr(backend, "why_no_gpu", lambda: None)


def test_without_a_card_nothing_is_done_and_the_reason_is_said(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(backend, "why_no_gpu", lambda: "cupy finds no usable driver: none here")
    assert gpu_check.main([str(tmp_path / "results")]) == 2
    assert "nothing was checked: cupy finds no usable driver" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_a_folder_must_be_given(capsys):
    with pytest.raises(SystemExit) as stopped:
        gpu_check.main([])
    assert stopped.value.code == 2
    assert "results" in capsys.readouterr().err


def test_the_package_is_found_with_its_kernels_and_the_checkout_is_left_as_it_is():
    probe = "import fluogan_core, fluogan_core.kernels.cuda as c, benchmarks; print(fluogan_core.__file__, len(c.programs()))"
    with gpu_check.overlay() as folder:
        environment = gpu_check.environment_of(folder)
        done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found, programs = done.stdout.split()
        assert Path(found) == folder / "fluogan_core" / "__init__.py"
        assert int(programs) == len(cuda.programs())
    assert not folder.exists()
    assert not (ROOT / "fluogan_core" / "kernels").exists()


ABSENT = """
import sys

class Absent:
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}")

sys.meta_path.insert(0, Absent)
"""


def test_tests_marked_gpu_are_collected_from_the_overlay_whatever_a_cuda_image_lacks(tmp_path):
    """Such an image brings NumPy, torch, numba, CuPy and pytest: without other packages only tests that need them are lost."""
    absent = ("tifffile", "click", "rich", "matplotlib")
    (tmp_path / "absent.py").write_text(ABSENT.format(names=absent))
    (tests,) = (step for step in gpu_check.steps(tmp_path) if step.name == "tests")
    with gpu_check.overlay() as folder:
        environment = gpu_check.environment_of(folder)
        environment["PYTHONPATH"] += os.pathsep + str(tmp_path)
        command = [*tests.command, "-p", "absent", "--collect-only"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert "kernels/test_kernel_sampling.py" in done.stdout, done.stdout + done.stderr
    assert "backend/test_every_backend.py" in done.stdout
    assert "cuda-on-cpu" not in done.stdout
    errors = {line.removeprefix("E   ") for line in done.stdout.splitlines() if line.startswith("E   ")}
    assert errors <= {f"ModuleNotFoundError: No module named '{name}'" for name in absent}, done.stdout


def test_every_step_is_run_within_its_time_and_accounted_for(a_card, monkeypatch, tmp_path, capsys):
    def python(code: str) -> tuple[str, ...]:
        return sys.executable, "-c", code

    listed = [
        Step("slow", python("import time; time.sleep(60)"), 1),
        Step("good", python("print('fine')"), 60),
        Step("bad", python("raise SystemExit(3)"), 60),
        Step("absent", python(""), 60, needs="compute-sanitizer"),
    ]
    monkeypatch.setattr(gpu_check, "steps", lambda results: listed)
    # the two steps after the slow one keep 60 s each
    assert gpu_check.main([str(tmp_path / "new" / "results"), "--seconds", "121.2"]) == 1
    summary = json.loads((tmp_path / "new" / "results" / "summary.json").read_text())
    assert [row["outcome"] for row in summary] == ["timed out", "passed", "failed", "left out"]
    assert summary[2]["reason"] == "status 3, see bad.log"
    assert summary[3]["reason"] == "there is no compute-sanitizer here"
    assert (tmp_path / "new" / "results" / "good.log").read_text() == "fine\n"
    assert "slow         timed out" in capsys.readouterr().out
    assert gpu_check.main([str(tmp_path), "--seconds", "0"]) == 0  # nothing failed, and everything is said to be left out
    assert {row["outcome"] for row in json.loads((tmp_path / "summary.json").read_text())} == {"left out"}


#: What a step needs at the least, seconds: a process that imports torch and cupy, and the first compilations.
LEAST = {"device": 30, "kernels": 30, "differences": 90, "tests": 100, "memcheck": 40, "racecheck": 40}


def test_every_step_has_its_time_whatever_those_before_it_take(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_check.shutil, "which", lambda name, path: f"/bin/{name}")
    listed, left = gpu_check.steps(tmp_path), gpu_check.TOTAL
    assert left < 8 * 60
    assert LEAST.keys() <= {step.name for step in listed}
    for number, step in enumerate(listed):
        allowed = gpu_check.limit_of(listed, number, left)
        assert allowed >= LEAST.get(step.name, 25), step.name
        left -= allowed


def test_time_that_is_left_over_goes_to_the_next_step():
    listed = [Step("a", (), 10), Step("b", (), 20), Step("c", (), 30, needs="compute-sanitizer"), Step("d", (), 40)]
    assert gpu_check.limit_of(listed, 0, 100.0) == 40  # nothing is kept for what is left out
    assert gpu_check.limit_of(listed, 1, 97.0) == 57
    assert gpu_check.limit_of(listed, 3, 60.0) == 60


def test_figures_come_before_what_may_eat_the_time(tmp_path):
    names = [step.name for step in gpu_check.steps(tmp_path)]
    assert names[:3] == ["device", "kernels", "differences"]


def test_files_of_an_earlier_run_do_not_count(a_card, monkeypatch, tmp_path):
    listed = [step for step in gpu_check.steps(tmp_path) if step.writes]
    assert {path.name for step in listed for path in step.writes} >= {"tests.xml", "kernels.json", "differences.json"}
    for step in listed:
        for path in step.writes:
            path.write_text("<testsuites/>")
    dies = [dataclasses.replace(step, command=(sys.executable, "-c", "raise SystemExit(1)")) for step in listed]
    monkeypatch.setattr(gpu_check, "steps", lambda results: dies)
    assert gpu_check.main([str(tmp_path)]) == 1
    assert {row["outcome"] for row in json.loads((tmp_path / "summary.json").read_text())} == {"failed"}
    assert not any(path.exists() for step in listed for path in step.writes)


PYTEST_REPORT = """<testsuites><testsuite>
<testcase classname="tests.test_a" name="test_passes"/>
<testcase classname="tests.test_a" name="test_waits"><skipped message="no"/></testcase>
<testcase classname="" name="tests.test_io"><error message="collection failure">
E ModuleNotFoundError: No module named 'tifffile'</error></testcase>{}
</testsuite></testsuites>"""


@pytest.mark.parametrize(
    ("more", "status", "outcome", "reason"),
    [
        ("", 1, "passed", "1 passed, 0 failed; not imported: tests.test_io"),
        # the report says nothing of what pytest ended with
        ("", 0, "failed", "status 0, see tests.log; 1 passed, 0 failed; not imported: tests.test_io"),
        ("", 2, "failed", "status 2, see tests.log"),
        ("", -9, "failed", "status -9, see tests.log"),
        (
            '<testcase classname="tests.test_b" name="test_fails"><failure>AssertionError</failure></testcase>',
            1,
            "failed",
            "1 passed, 1 failed: tests.test_b::test_fails; not imported: tests.test_io",
        ),
    ],
)
def test_the_report_of_the_tests_is_read(more, status, outcome, reason, tmp_path):
    (tmp_path / "tests.xml").write_text(PYTEST_REPORT.format(more))
    found = gpu_check.tests_outcome(tmp_path / "tests.xml", status, 3.0)
    assert (found.outcome, found.reason) == (outcome, reason)


def test_no_test_that_passed_is_no_success(tmp_path):
    (tmp_path / "tests.xml").write_text("<testsuites/>")
    assert gpu_check.tests_outcome(tmp_path / "tests.xml", 0, 3.0).outcome == "failed"


def test_a_status_that_the_report_does_not_explain_is_a_failure(tmp_path):
    report = tmp_path / "tests.xml"
    report.write_text('<testsuites><testcase classname="a" name="b"/></testsuites>')
    assert gpu_check.tests_outcome(report, 0, 3.0).outcome == "passed"
    assert gpu_check.tests_outcome(report, 1, 3.0).outcome == "failed"


def test_figures_of_the_kernels_are_stated_against_ceilings_of_the_same_run(tmp_path, capsys):
    _kernel_figures.main([str(tmp_path / "kernels.json"), "--quick"])
    found = json.loads((tmp_path / "kernels.json").read_text())
    assert all(value > 0 for value in found["ceilings"].values())
    for row in found["kernels"]:
        rate = row["bytes"] / row["seconds"]
        assert row["share_of_copy"] == pytest.approx(rate / found["ceilings"]["copy_bytes_per_s"])
    assert {row["kernel"] for row in found["kernels"]} >= {"emissions", "detect", "draw_photons", "prox_step"}
    assert found["device"]["device"] == fg.get_backend("numpy").device
    assert "matmul_float32_flop_per_s" in capsys.readouterr().out
