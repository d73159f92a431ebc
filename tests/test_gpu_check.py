"""What can be known of the check on a card without one: that it refuses and says why, finds the package, and counts right."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import fluogan_core as fg
from benchmarks import _kernel_figures, gpu_check
from benchmarks.gpu_check import ROOT, Step
from fluogan_core import backend
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


def test_tests_marked_gpu_are_collected_from_the_overlay(tmp_path):
    (tests,) = (step for step in gpu_check.steps(tmp_path) if step.name == "tests")
    with gpu_check.overlay() as folder:
        done = subprocess.run(
            [*tests.command, "--collect-only"], cwd=ROOT, env=gpu_check.environment_of(folder), capture_output=True, text=True
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_kernel_sampling.py" in done.stdout
    assert "cuda-on-cpu" not in done.stdout


def test_every_step_is_run_within_its_time_and_accounted_for(a_card, monkeypatch, tmp_path, capsys):
    def python(code: str) -> tuple[str, ...]:
        return sys.executable, "-c", code

    listed = [
        Step("good", python("print('fine')"), 60),
        Step("bad", python("raise SystemExit(3)"), 60),
        Step("slow", python("import time; time.sleep(60)"), 0.2 + 1),
        Step("absent", python(""), 60, needs="compute-sanitizer"),
    ]
    monkeypatch.setattr(gpu_check, "steps", lambda results: listed)
    assert gpu_check.main([str(tmp_path / "new" / "results")]) == 1
    summary = json.loads((tmp_path / "new" / "results" / "summary.json").read_text())
    assert [row["outcome"] for row in summary] == ["passed", "failed", "timed out", "left out"]
    assert summary[1]["reason"] == "status 3, see bad.log"
    assert summary[3]["reason"] == "there is no compute-sanitizer here"
    assert (tmp_path / "new" / "results" / "good.log").read_text() == "fine\n"
    assert "slow         timed out" in capsys.readouterr().out
    assert gpu_check.main([str(tmp_path), "--seconds", "0"]) == 0  # nothing failed, and everything is said to be left out
    assert {row["outcome"] for row in json.loads((tmp_path / "summary.json").read_text())} == {"left out"}


def test_the_whole_check_is_planned_to_take_less_than_eight_minutes():
    assert gpu_check.TOTAL < 8 * 60


PYTEST_REPORT = """<testsuites><testsuite>
<testcase classname="tests.test_a" name="test_passes"/>
<testcase classname="tests.test_a" name="test_waits"><skipped message="no"/></testcase>
<testcase classname="" name="tests.test_io"><error message="collection failure">
E ModuleNotFoundError: No module named 'tifffile'</error></testcase>{}
</testsuite></testsuites>"""


@pytest.mark.parametrize(
    ("more", "outcome", "reason"),
    [
        ("", "passed", "1 passed, 0 failed; not imported: tests.test_io"),
        (
            '<testcase classname="tests.test_b" name="test_fails"><failure>AssertionError</failure></testcase>',
            "failed",
            "1 passed, 1 failed: tests.test_b::test_fails; not imported: tests.test_io",
        ),
    ],
)
def test_the_report_of_the_tests_is_read(more, outcome, reason, tmp_path):
    (tmp_path / "tests.xml").write_text(PYTEST_REPORT.format(more))
    found = gpu_check.tests_outcome(tmp_path / "tests.xml", 3.0)
    assert (found.outcome, found.reason) == (outcome, reason)


def test_no_test_that_passed_is_no_success(tmp_path):
    (tmp_path / "tests.xml").write_text("<testsuites/>")
    assert gpu_check.tests_outcome(tmp_path / "tests.xml", 3.0).outcome == "failed"


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
