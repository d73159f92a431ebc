"""How files are placed: names of their own, one writer per folder, elsewhere where they do not fit."""

from __future__ import annotations

import os
import shutil
import threading

import numpy as np
import pytest

from fluogan_core.backend import replace
from fluogan_core.io import files
from fluogan_core.io.files import write_image
from fluogan_core.io.lock import sole_writer


@pytest.mark.skipif(os.name == "nt", reason="POSIX links and modes")
def test_temporary_files_have_names_of_their_own_and_usual_modes(tmp_path, monkeypatch):
    target = tmp_path / "victim"
    target.write_text("mine")
    names = iter(["00" * 8, "11" * 8])
    monkeypatch.setattr(replace.secrets, "token_hex", lambda count: next(names))
    planted = tmp_path / f".x.tif.{'00' * 8}.part"
    planted.symlink_to(target)
    with pytest.raises(FileExistsError):
        write_image(tmp_path / "x.tif", np.zeros((2, 2)))
    assert target.read_text() == "mine"
    assert planted.is_symlink()
    mask = os.umask(0o027)
    try:
        made = write_image(tmp_path / "x.tif", np.zeros((2, 2)))
    finally:
        os.umask(mask)
    assert made.stat().st_mode & 0o777 == 0o640


def test_a_writer_that_fails_half_way_leaves_nothing_and_says_where(tmp_path):
    def half(handle):
        handle.write(b"half")
        raise OSError(28, os.strerror(28))

    (tmp_path / "a.bin").write_bytes(b"old")
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.bin'"):
        replace.replace_file(tmp_path / "a.bin", half)
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
    assert (tmp_path / "a.bin").read_bytes() == b"old"


def test_the_lock_is_for_a_thread_taken_again_and_released_whatever_happens(tmp_path):
    refused = []

    def other():
        try:
            with sole_writer(tmp_path):
                refused.append(False)
        except ValueError as error:
            refused.append(f"process {os.getpid()} " in str(error))

    def in_a_thread():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    def failing():
        with sole_writer(tmp_path):
            with sole_writer(tmp_path):
                in_a_thread()
            in_a_thread()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    in_a_thread()
    assert refused == [True, True, False]
    assert not list(tmp_path.iterdir())


def test_a_folder_that_goes_while_it_is_locked_costs_nothing(tmp_path):
    for made in (True, False):
        folder = tmp_path / "out"
        folder.mkdir()
        with sole_writer(folder):
            shutil.rmtree(folder)
            if made:
                folder.write_text("")
        assert folder.exists() == made  # and no error, nothing made anew
        folder.unlink(missing_ok=True)


def test_what_cannot_be_placed_is_placed_elsewhere_and_said(tmp_path, monkeypatch):
    asked = []

    def write(place):
        asked.append(place)
        if place == tmp_path / "a" / "out" or place.parent == tmp_path / "a":
            raise OSError(28, os.strerror(28), "x.tif")
        return place / "x.tif"

    (tmp_path / "a").mkdir()
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    made, place, reason = files.place_or_rescue(write, tmp_path / "a" / "out")
    assert place.parent == tmp_path / "cwd"
    assert place.name.startswith("fluogan-result-")
    assert made == place / "x.tif"
    assert reason == "No space left on device: x.tif"
    assert not list((tmp_path / "a").iterdir())
    assert files.place_or_rescue(lambda place: "made", tmp_path) == ("made", tmp_path, "")
    with pytest.raises(OSError, match=r"neither to .* \(read-only\) nor to another folder"):
        files.place_or_rescue(lambda place: (_ for _ in ()).throw(OSError("read-only")), tmp_path)
    assert [p.name for p in (tmp_path / "cwd").iterdir()] == [place.name]
