"""What is given for a TIFF stack and is none, and TIFF files whose numbers are no counts: one line that says what to do."""

from __future__ import annotations

import gzip
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from fluogan_core.io.lazy import open_lazily
from fluogan_core.io.stack import read_image, read_stack
from fluogan_core.stack import UnreadableStack

GREY_TABLE = np.stack([np.arange(256) * 257] * 3).astype(np.uint16)
COLOUR_TABLE = np.stack([np.arange(256) * 257, np.arange(256)[::-1] * 257, np.arange(256) % 7 * 257]).astype(np.uint16)


@pytest.fixture(scope="module")
def stack() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 200, (6, 20, 26)).astype(np.uint8)


def written(path: Path, frames: np.ndarray, **options) -> Path:
    tifffile.imwrite(path, frames, **options)
    return path


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty (0 bytes); copy it again"),
        (gzip.compress(b"II*\0", mtime=0), "is a gzip file, not a TIFF file: unpack it"),
        (b"PK\x03\x04" + bytes(60), "is a zip archive"),
        (b"\xda\xce\xbe\x0a" + bytes(60), "Nikon NIS-Elements (ND2), not a TIFF file: export it as TIFF"),
        (b"ZISRAWFILE" + bytes(60), "Zeiss ZEN (CZI)"),
        (bytes(128) + b"DICM" + bytes(60), "is a DICOM file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(60), "is a PNG image"),
        (b"\x93NUMPY\x01\0" + bytes(60), "is a NumPy array, not a TIFF file: load it with numpy.load"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "fetch it with 'git lfs pull'"),
        (b"frame;intensity\n1;7\n", "is text ('frame;intensity 1;7'...), not a TIFF file"),
        (bytes(600), "starts with 512 zero bytes"),
        (b"\x07\x01\xff" * 40, "is not a TIFF file, or a damaged one"),
    ],
)
@pytest.mark.parametrize("read", [read_stack, read_image, open_lazily])
def test_another_format_is_named_with_what_to_do(tmp_path, content, words, read):
    path = tmp_path / "stack.tif"
    path.write_bytes(content)
    with pytest.raises(UnreadableStack) as caught:
        read(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [read_stack, read_image, open_lazily])
@pytest.mark.parametrize(
    ("path", "kind", "words"),
    [
        (None, TypeError, "path must name a file, as a str or a pathlib.Path, got NoneType"),
        (b"stack.tif", TypeError, "got bytes"),
        (["stack.tif"], TypeError, "got list"),
        ("", ValueError, "path must name a file, got ''"),
        ("a\0b.tif", ValueError, r"got 'a\x00b.tif'"),
        ("https://example.org/stack.tif", ValueError, "is an address; download the file"),
        ("no such.tif", FileNotFoundError, "there is no file no such.tif"),
        ("x" * 5000, OSError, "(5000 characters)"),
    ],
)
def test_what_is_no_path_of_a_file_is_refused_in_a_line(path, kind, words, read):
    with pytest.raises(kind) as caught:
        read(path)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 400


def test_folders_and_pipes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="is a folder, not a file"):
        read_stack(tmp_path)
    os.mkfifo(tmp_path / "pipe.tif")
    with pytest.raises(ValueError, match="is a pipe or device, not a file"):
        read_stack(tmp_path / "pipe.tif")


@pytest.mark.parametrize("ending", [".lsm", ".stk", ".nd2", ".dat", ""])
def test_a_tiff_file_is_read_whatever_its_name_ends_in(tmp_path, stack, ending):
    path = written(tmp_path / "stack.tif", stack, photometric="minisblack")
    np.testing.assert_array_equal(read_stack(path.rename(tmp_path / f"stack{ending}")).frames, stack)


@pytest.mark.parametrize("read", [read_stack, open_lazily])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_counts_that_fall_with_the_light_are_refused(tmp_path, stack, dtype, read):
    path = written(tmp_path / "white.tif", stack.astype(dtype), photometric="miniswhite")
    with pytest.raises(UnreadableStack, match=r"says that 0 is white .* photometric='minisblack'"):
        read(path)


def with_photometric(path: Path, code: int, stack: np.ndarray, *, tag: int = 262) -> Path:
    """A stack whose pages say this, or have another tag in the place where they say it."""
    written(path, stack, photometric="miniswhite", metadata=None)
    entry = (262).to_bytes(2, "little") + b"\3\0\1\0\0\0" + bytes(4)
    content = path.read_bytes()
    assert content.count(entry) == len(stack)
    path.write_bytes(content.replace(entry, tag.to_bytes(2, "little") + entry[2:8] + code.to_bytes(4, "little")))
    return path


def test_a_file_that_does_not_say_what_0_is_holds_counts(tmp_path, stack):
    read = read_stack(with_photometric(tmp_path / "none.tif", 0, stack, tag=65000))
    np.testing.assert_array_equal(read.frames, stack)
    assert read.notes == ()


def test_pixels_behind_a_mosaic_of_colour_filters_are_refused(tmp_path, stack):
    with pytest.raises(UnreadableStack, match="mosaic of filters"):
        read_stack(with_photometric(tmp_path / "cfa.tif", 32803, stack))


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_differences_of_neighbours_are_undone(tmp_path, stack, dtype):
    frames = stack.astype(dtype) * 100
    path = written(tmp_path / "stack.tif", frames, photometric="minisblack", compression="zlib", predictor=True)
    np.testing.assert_array_equal(read_stack(path).frames, frames)


def test_a_colour_table_is_noted_unless_it_is_a_ramp_of_greys(tmp_path, stack, caplog):
    plain = read_stack(written(tmp_path / "grey.tif", stack, photometric="palette", colormap=GREY_TABLE))
    assert plain.notes == ()
    with caplog.at_level(logging.WARNING, logger="fluogan_core"):
        noted = read_stack(written(tmp_path / "colour.tif", stack, photometric="palette", colormap=COLOUR_TABLE))
    assert [("colour table" in note) for note in noted.notes] == [True]
    assert "colour table" in caplog.text
    np.testing.assert_array_equal(noted.frames, stack)
    falling = read_stack(written(tmp_path / "falling.tif", stack, photometric="palette", colormap=GREY_TABLE[:, ::-1]))
    assert len(falling.notes) == 1


@pytest.mark.parametrize(
    ("frames", "options", "words"),
    [
        (np.zeros((6, 20, 26, 3), np.uint8), {"photometric": "rgb"}, "colour (3 samples per pixel"),
        (np.zeros((6, 20, 26), bool), {"photometric": "minisblack"}, "values of type bool"),
        (np.zeros((6, 20, 26), bool), {"photometric": "miniswhite"}, "values of type bool"),
        (np.zeros((6, 20, 26), np.complex64), {"photometric": "minisblack"}, "values of type complex64"),
        (np.full((6, 20, 26), np.nan, np.float32), {"photometric": "minisblack"}, "first in frame 0, 520 pixels"),
    ],
)
def test_numbers_that_are_no_counts_are_refused(tmp_path, frames, options, words):
    with pytest.raises(UnreadableStack) as caught:
        read_stack(written(tmp_path / "odd.tif", frames, **options))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"byteorder": ">"},
        {"bigtiff": True},
        {"tile": (16, 16)},
        {"compression": "zlib"},
        {"rowsperstrip": 3},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
    ],
)
@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32])
def test_the_numbers_of_every_layout_are_those_that_were_written(tmp_path, stack, options, dtype):
    frames = (stack.astype(np.int32) * 100 - 5000 * (np.dtype(dtype).kind != "u")).astype(dtype)
    read = read_stack(written(tmp_path / "stack.tif", frames, photometric="minisblack", **options))
    np.testing.assert_array_equal(read.frames, frames)
    assert (read.frames.dtype, read.notes) == (np.dtype(dtype), ())


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file of Linux whose first bytes cannot be read")
@pytest.mark.parametrize("read", [read_stack, read_image])
def test_a_file_whose_bytes_cannot_be_read_is_named(read):
    """A disk or a network that fails: the error of the system knows no name."""
    with pytest.raises(OSError, match="'/proc/self/mem'"):
        read("/proc/self/mem")
