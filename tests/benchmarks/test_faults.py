"""The trial of faults: it sees what gives way, and a small one of each kind of process holds."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.faults._calls import call, not_finite, sound
from benchmarks.faults._process import Ended, complaint, whole

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("status", "log", "said"),
    [
        (0, "wrote x.tif", ""),
        (2, "fluogan: error: there is no such file", ""),
        (None, "", "hangs"),
        (-11, "", "dies by signal 11"),
        (1, "Traceback (most recent call last):\n  File\nKeyError: 'x'", "traceback: KeyError: 'x'"),
        (1, "", "status 1 without a word"),
    ],
)
def test_what_a_process_must_not_do_is_seen(status, log, said):
    assert complaint(Ended(status, log)) == said


def test_images_of_another_run_beside_a_report_are_seen(tmp_path):
    assert whole(tmp_path) == ""
    (tmp_path / "x.tif").write_bytes(b"mine")
    digests = {"files_sha256": {"x.tif": hashlib.sha256(b"mine").hexdigest()}}
    (tmp_path / "report.json").write_text(json.dumps(digests))
    assert whole(tmp_path) == ""
    (tmp_path / "x.tif").write_bytes(b"another's")
    assert whole(tmp_path) == "x.tif is not that of the report"
    (tmp_path / "x.tif").unlink()
    assert whole(tmp_path) == "x.tif is gone"
    (tmp_path / "report.json").write_text("{")
    assert whole(tmp_path).startswith("report.json is not whole")


def test_values_that_are_not_finite_are_seen_where_the_arguments_were():
    assert not_finite({"a": (1.0, np.array([1.0, np.inf]))}) == "result['a'][1]"
    assert not_finite([1.0, np.ones(3)]) == ""
    assert sound(np.ones(3))
    assert not any(map(sound, (np.array([1.0, np.nan]), np.array([1e38]), np.inf, "one")))


@pytest.mark.parametrize("number", range(40))
def test_public_functions_answer_whatever_they_are_given(number):
    assert call(number, seed=100) == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_a_small_trial_holds():
    words = [sys.executable, "-m", "benchmarks.faults", "--only", "kills", "bit_flips", "moved_stacks", "--count", "1"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if "tried" in line] == [
        f"{name}: 1 tried, 0 gave way" for name in ("kills", "bit_flips", "moved_stacks")
    ]
