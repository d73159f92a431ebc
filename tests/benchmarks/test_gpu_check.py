"""What can be known of the check on a card without one: that it refuses and says why, finds the package, and counts right."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pretend_card
import pytest
import torch

import fluogan_core as fg
from benchmarks import _goals, _host_costs, _kernel_figures, _smoke, gpu_check
from benchmarks._baselines import TorchBatched, loop_over_pixels
from benchmarks.gpu_check import ROOT, Step
from fluogan_core.backend import arrays as room
from fluogan_core.kernels import cuda


@pytest.fixture
def a_card(monkeypatch):
    monkeypatch.setattr(room, "why_no_gpu", lambda: None)


def test_without_a_card_nothing_is_done_and_the_reason_is_said(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(room, "why_no_gpu", lambda: "cupy finds no usable driver: none here")
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
    results = tmp_path / "new" / "results"
    assert {path.name for path in results.iterdir()} == {"summary.json", "gpu_check.zip"}
    summary = json.loads((results / "summary.json").read_text())
    assert [row["outcome"] for row in summary] == ["timed out", "passed", "failed", "left out"]
    assert summary[2]["reason"] == "status 3, see bad.log"
    assert summary[3]["reason"] == "there is no compute-sanitizer here"
    with zipfile.ZipFile(results / "gpu_check.zip") as packed:
        assert set(packed.namelist()) == {"summary.json", "slow.log", "good.log", "bad.log"}
        assert packed.read("good.log") == b"fine\n"
        assert json.loads(packed.read("summary.json")) == summary
    assert "slow                 timed out" in capsys.readouterr().out
    assert gpu_check.main([str(tmp_path), "--seconds", "0"]) == 0  # nothing failed, and everything is said to be left out
    assert {row["outcome"] for row in json.loads((tmp_path / "summary.json").read_text())} == {"left out"}


def test_a_step_whose_time_is_up_takes_along_what_it_has_started(a_card, monkeypatch, tmp_path):
    """A profiler runs the program as a child of its own, which would keep the card."""
    late, ready = tmp_path / "late", tmp_path / "ready"
    child = f"import time; open({str(ready)!r}, 'w'); time.sleep(4); open({str(late)!r}, 'w')"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    monkeypatch.setattr(gpu_check, "steps", lambda results: [Step("profiler", (sys.executable, "-c", parent), 3)])
    assert gpu_check.main([str(tmp_path / "results"), "--seconds", "3"]) == 1
    assert ready.exists()
    time.sleep(2.5)
    assert not late.exists()


def test_what_is_known_is_written_after_every_step(a_card, monkeypatch, tmp_path):
    found = tmp_path / "results"
    probe = f"import json, zipfile; rows = json.load(open({str(found / 'summary.json')!r})); assert len(rows) == 1, rows; "
    probe += f"print(zipfile.ZipFile({str(found / 'gpu_check.zip')!r}).namelist())"
    listed = [Step("first", (sys.executable, "-c", ""), 20), Step("second", (sys.executable, "-c", probe), 20)]
    monkeypatch.setattr(gpu_check, "steps", lambda results: listed)
    assert gpu_check.main([str(found)]) == 0
    with zipfile.ZipFile(found / "gpu_check.zip") as packed:
        assert packed.read("second.log") == b"['first.log', 'summary.json']\n"


def test_what_the_machine_does_not_allow_is_left_out(a_card, monkeypatch, tmp_path):
    refused = (sys.executable, "-c", "raise SystemExit('==ERROR== ERR_NVGPUCTRPERM - no permission')")
    listed = [Step("ncu", refused, 20, excuse="ERR_NVGPUCTRPERM"), Step("other", refused, 20)]
    monkeypatch.setattr(gpu_check, "steps", lambda results: listed)
    assert gpu_check.main([str(tmp_path)]) == 1
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [row["outcome"] for row in summary] == ["left out", "failed"]


#: What a step needs at the least, seconds: a process that imports torch and cupy, and what it compiles.
LEAST = {"device": 20, "compile": 30, "smoke": 60, "tests": 75, "memcheck": 35, "goals": 45, "racecheck": 35}
ORDER = ["device", "compile", "smoke", "tests", "memcheck", "goals", "figures", "ncu_score_changes", "ncu_forward_layer"]


def test_every_step_has_its_time_whatever_those_before_it_take(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_check.shutil, "which", lambda name, path: f"/bin/{name}")
    listed, left = gpu_check.steps(tmp_path), gpu_check.TOTAL
    assert left < 8 * 60
    assert LEAST.keys() <= {step.name for step in listed}
    for number, step in enumerate(listed):
        allowed = gpu_check.limit_of(listed, number, left)
        assert allowed >= LEAST.get(step.name, 10), step.name
        left -= allowed


def test_time_that_is_left_over_goes_to_the_next_step():
    listed = [Step("a", (), 10), Step("b", (), 20), Step("c", (), 30, needs="compute-sanitizer"), Step("d", (), 40)]
    assert gpu_check.limit_of(listed, 0, 100.0) == 40  # nothing is kept for what is left out
    assert gpu_check.limit_of(listed, 1, 97.0) == 57
    assert gpu_check.limit_of(listed, 3, 60.0) == 60


def test_what_others_build_on_comes_first(tmp_path):
    names = [step.name for step in gpu_check.steps(tmp_path)]
    assert names == [*ORDER, "host_costs", "racecheck", "differences", "sampling", "psi", "solver"]


def test_commands_name_modules_and_options_that_there_are(tmp_path, capsys):
    modules = set()
    for step in gpu_check.steps(tmp_path):
        if "benchmarks._" not in " ".join(step.command) or step.name in ("memcheck", "racecheck"):
            continue
        name, *arguments = step.command[step.command.index("-m") + 1 :]
        modules.add(name)
        with pytest.raises(SystemExit) as stopped:  # every argument before it has been understood
            importlib.import_module(name).main([*arguments, "--help"])
        assert stopped.value.code == 0, capsys.readouterr().err
    assert modules >= {"benchmarks._smoke", "benchmarks._goals", "benchmarks._host_costs", "benchmarks._kernel_figures"}


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
    assert "launch_s" not in found["ceilings"]  # there is none on the host


def test_a_launch_is_what_an_empty_kernel_costs(pretended_card):
    with pretend_card.counted() as work:
        found = _kernel_figures.ceilings(pretended_card, quick=True)
    assert found["launch_s"] > 0
    assert work.launches["nothing"] > 0


@pytest.mark.parametrize("path", _smoke.PATHS)
def test_every_path_of_the_smoke_run_works_on_the_pretended_card(pretended_card, path):
    assert _smoke.tried(path, pretended_card)["failure"] == ""


FAILING = """
import os, sys
from benchmarks import _smoke
def raises(backend): raise RuntimeError("an illegal address")
_smoke.PATHS = {"good": lambda backend: 1.0, "bad": raises, "dies": lambda backend: os._exit(3), "last": lambda backend: 2.0}
if __name__ == "__main__":
    sys.exit(_smoke.main())
"""


def test_a_path_that_fails_or_dies_is_written_down_and_the_rest_goes_on(monkeypatch, tmp_path, capsys):
    (tmp_path / "failing.py").write_text(FAILING)
    real = subprocess.run

    def run(command, **options):
        return real([*command[:1], str(tmp_path / "failing.py"), *command[3:]], **options)

    monkeypatch.setattr(_smoke.subprocess, "run", run)
    monkeypatch.setattr(_smoke, "PATHS", dict.fromkeys(("good", "bad", "dies", "last")))
    with gpu_check.overlay() as folder:
        monkeypatch.setenv("PYTHONPATH", gpu_check.environment_of(folder)["PYTHONPATH"])
        assert _smoke.main([str(tmp_path / "smoke.jsonl")]) == 1
    rows = [json.loads(line) for line in (tmp_path / "smoke.jsonl").read_text().splitlines()]
    assert [row["path"] for row in rows] == ["good", "bad", "dies", "last"]
    assert "an illegal address" in rows[1]["failure"]
    assert rows[2]["failure"] == "the process ended with status 3"
    assert [row["failure"] for row in (rows[0], rows[3])] == ["", ""]
    assert "FAILED" in capsys.readouterr().out


def test_goals_are_measured_at_their_sizes(pretended_card):
    goals = list(_goals.measured(pretended_card, quick=True))
    assert [goal.name for goal in goals] == list(_goals.NAMES)
    assert all(goal.milliseconds > 0 for goal in goals)
    assert all(goal.goal is None or goal.goal > 0 for goal in goals)


def test_what_the_host_pays_is_told_by_call(pretended_card):
    found = _host_costs.host_costs(pretended_card, 3)
    assert found.keys() >= {"a + b", "a kernel of the library"}
    assert all(value > 0 for value in found.values())
    assert "aten::" in _host_costs.epoch(pretended_card, quick=True)


def test_the_baseline_of_torch_is_not_rounded():
    """On a card torch rounds products to TF32 unless it is told not to; the switch of the CPU stands for that of the card."""
    precisions = []

    class Seen(fg.Critic):
        def forward(self, y):
            precisions.append(torch.backends.mkldnn.conv.fp32_precision)
            return super().forward(y)

    if not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("this torch has the old switches, which say nothing of the CPU")
    switch, before = torch.backends.mkldnn.conv, torch.backends.mkldnn.conv.fp32_precision
    switch.fp32_precision = "bf16"
    try:
        critic, y = Seen((8, 8), channels=2, depth=2), torch.ones((8, 8))
        TorchBatched(critic, trial_pixels=0).single(y, np.arange(3), 1.0)
        loop_over_pixels(critic, y[None], np.arange(2), 1.0)
    finally:
        switch.fp32_precision = before
    assert precisions
    assert set(precisions) == {"ieee"}
