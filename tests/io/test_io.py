"""Reading stacks in every dialect of TIFF, and refusing what cannot be used."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from fluogan_core.io.stack import read_stack
from fluogan_core.stack import UnreadableStack


@pytest.fixture
def stack() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 60_000, (6, 7, 9)).astype(np.uint16)


@pytest.fixture(autouse=True)
def _quiet_tifffile() -> Iterator[None]:
    """tifffile logs each damaged file that a test hands it."""
    logger = logging.getLogger("tifffile")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(before)


def write(path: Path, data: np.ndarray, **options) -> Path:
    tifffile.imwrite(path, data, photometric="minisblack", **options)
    return path


# -- what can be read ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "f2", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_real_dtype_in_both_byte_orders_comes_back_native(tmp_path, stack, dtype, order):
    data = (stack % 100).astype(dtype)
    read = read_stack(write(tmp_path / "a.tif", data, byteorder=order)).frames
    assert read.dtype == np.dtype(dtype)
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, data)


@pytest.mark.parametrize(
    "options",
    [
        {"imagej": True, "metadata": {"axes": "TYX"}},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"imagej": True, "metadata": {"axes": "CYX"}},
        {"ome": True, "metadata": {"axes": "TYX"}},
        {"ome": True, "metadata": {"axes": "ZYX"}},
        {"metadata": None},
        {"compression": "zlib"},
        {"tile": (16, 16)},
        {"bigtiff": True},
    ],
    ids=str,
)
def test_the_one_long_axis_is_time_whatever_its_name(tmp_path, stack, options):
    np.testing.assert_array_equal(read_stack(write(tmp_path / "a.tif", stack, **options)).frames, stack)


@pytest.mark.parametrize(("shape", "axes"), [((6, 1, 1, 7, 9), "TZCYX"), ((1, 6, 1, 7, 9), "TZCYX")])
def test_axes_of_length_one_are_dropped(tmp_path, stack, shape, axes):
    path = write(tmp_path / "a.tif", stack.reshape(shape), imagej=True, metadata={"axes": axes})
    np.testing.assert_array_equal(read_stack(path).frames, stack)


@pytest.mark.parametrize("options", [{}, {"imagej": True}, {"compression": "zlib"}], ids=str)
def test_frames_are_a_copy_that_outlives_the_file(tmp_path, stack, options):
    """A memory map would change with the file, or end the process where the file is cut (SIGBUS)."""
    path = write(tmp_path / "a.tif", stack, **options)
    reads = [read_stack(path), read_stack(path, roi=(0, 0, 7, 9)), read_stack(path, frames=(0, 6))]
    path.write_bytes(b"cut")
    for read in reads:
        assert not isinstance(read.frames, np.memmap)
        assert read.frames.flags.c_contiguous
        np.testing.assert_array_equal(read.frames, stack)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"byteorder": ">"}], ids=str)
@pytest.mark.parametrize("frames", [None, (2, 5), slice(1, None, 2), slice(-3, None), (None, 4)], ids=str)
@pytest.mark.parametrize("roi", [None, (2, 1, 4, 8), (6, 8, 1, 1)])
def test_region_and_frames_are_those_of_slicing(tmp_path, stack, options, frames, roi):
    read = read_stack(write(tmp_path / "a.tif", stack, **options), roi=roi, frames=frames)
    window = (slice(None), slice(None)) if roi is None else (slice(roi[0], roi[0] + roi[2]), slice(roi[1], roi[1] + roi[3]))
    chosen = frames if isinstance(frames, slice) else slice(*(frames or (None,)))
    np.testing.assert_array_equal(read.frames, stack[chosen][(slice(None), *window)])
    assert read.roi == roi


def test_only_chosen_pages_of_a_compressed_file_are_decoded(tmp_path, stack, monkeypatch):
    path = write(tmp_path / "a.tif", stack, compression="zlib")
    decoded = []
    original = tifffile.TiffPage.asarray
    for kind in (tifffile.TiffPage, tifffile.TiffFrame):
        monkeypatch.setattr(kind, "asarray", lambda self, **k: decoded.append(self.index) or original(self, **k))
    read_stack(path, frames=(2, 4))
    assert decoded == [2, 3]


@pytest.mark.parametrize(
    ("name", "frames", "shape", "pixel", "interval"),
    [
        ("mito_dsred_608nm_24ms.tif", 50, (67, 74), 80.0, 0.024074),
        ("mito_014_525nm_na1.4_80nm.tif", 50, (70, 70), None, None),
    ],
)
def test_real_recordings(real_stacks, name, frames, shape, pixel, interval):
    read = read_stack(real_stacks / name)
    assert read.frames.shape == (frames, *shape)
    assert read.frames.dtype == np.uint16
    assert read.pixel_size_nm == pixel
    assert read.frame_interval_s == (interval if interval is None else pytest.approx(interval, rel=1e-4))


# -- metadata -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "per_unit", "expected"),
    [
        ("micron", 10.0, 100.0),
        ("um", 12.5, 80.0),
        ("\\u00B5m", 10.0, 100.0),
        ("nm", 0.01, 100.0),
        ("mm", 1e4, 100.0),
        ("cm", 1e5, 100.0),
        ("inch", 254_000.0, 100.0),
        ("pixel", 1.0, None),
        ("um", 1.0, 1000.0),
        ("inch", 72.0, None),
        ("furlong", 10.0, None),
    ],
)
def test_imagej_pixel_size(tmp_path, stack, unit, per_unit, expected):
    path = write(tmp_path / "a.tif", stack, imagej=True, resolution=(per_unit,) * 2, metadata={"unit": unit})
    assert read_stack(path).pixel_size_nm == expected


@pytest.mark.parametrize(
    ("unit", "per_unit", "expected"),
    [("CENTIMETER", 1e5, 100.0), ("INCH", 254_000.0, 100.0), ("INCH", 300.0, None), ("NONE", 10.0, None)],
)
def test_plain_resolution_tags(tmp_path, stack, unit, per_unit, expected):
    path = write(tmp_path / "a.tif", stack, resolution=(per_unit,) * 2, resolutionunit=unit)
    assert read_stack(path).pixel_size_nm == expected


@pytest.mark.parametrize(
    ("size", "unit", "expected"), [(0.1, "µm", 100.0), (100.0, "nm", 100.0), (1.0, "pixel", None), (0.0, "µm", None)]
)
def test_ome_pixel_size_and_interval(tmp_path, stack, size, unit, expected):
    metadata = {"axes": "TYX", "TimeIncrement": 20.0, "TimeIncrementUnit": "ms"}
    metadata |= {f"PhysicalSize{axis}": size for axis in "XY"} | {f"PhysicalSize{axis}Unit": unit for axis in "XY"}
    read = read_stack(write(tmp_path / "a.ome.tif", stack, ome=True, metadata=metadata))
    assert read.pixel_size_nm == expected
    assert read.frame_interval_s == pytest.approx(0.02)


def test_a_series_of_several_files_is_read_whole_or_said_to_be_missing(tmp_path, stack, recwarn):
    """As Micro-Manager leaves one: every file's header lists the pages of all."""
    halves = {
        f"part_{k}.ome.tif": (f"urn:uuid:00000000-0000-0000-0000-00000000000{k}", part)
        for k, part in enumerate(np.split(stack, 2))
    }
    pages = "".join(
        f'<TiffData FirstT="{len(part) * k + frame}" IFD="{frame}" PlaneCount="1">'
        f'<UUID FileName="{name}">{uuid}</UUID></TiffData>'
        for k, (name, (uuid, part)) in enumerate(halves.items())
        for frame in range(len(part))
    )
    frames, rows, columns = stack.shape
    for name, (uuid, part) in halves.items():
        xml = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{uuid}"><Image ID="Image:0">'
            f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="{stack.dtype}" SizeX="{columns}" SizeY="{rows}" SizeZ="1" '
            f'SizeC="1" SizeT="{frames}">'
            f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{pages}</Pixels></Image></OME>'
        )
        with tifffile.TiffWriter(tmp_path / name) as writer:
            for number, frame in enumerate(part):
                writer.write(frame, description=xml if number == 0 else None, metadata=None, contiguous=False)
    np.testing.assert_array_equal(read_stack(tmp_path / "part_0.ome.tif").frames, stack)
    assert not [warning for warning in recwarn if "closed file" in str(warning.message)]
    (tmp_path / "part_1.ome.tif").unlink()
    with pytest.raises(ValueError, match=f"frame {frames // 2} is missing; of a series of several files all must lie in one"):
        read_stack(tmp_path / "part_0.ome.tif")


def test_oblong_pixels_are_not_taken(tmp_path, stack, caplog):
    path = write(tmp_path / "a.tif", stack, imagej=True, resolution=(10, 20), metadata={"unit": "um"})
    with caplog.at_level(logging.WARNING, logger="fluogan_core"):
        assert read_stack(path).pixel_size_nm is None
    assert "oblong" in caplog.text


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"finterval": 0.05}, 0.05),
        ({"fps": 20.0}, 0.05),
        ({"finterval": 50.0, "tunit": "ms"}, 0.05),
        ({"fps": 0.0}, None),
    ],
)
def test_imagej_frame_interval(tmp_path, stack, metadata, expected):
    path = write(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "TYX", **metadata})
    assert read_stack(path).frame_interval_s == (expected if expected is None else pytest.approx(expected))
    if expected is not None:
        assert read_stack(path, frames=slice(None, None, 2)).frame_interval_s == pytest.approx(2 * expected)


# -- what is refused ----------------------------------------------------------------------------------------------------


def test_missing_directory_and_foreign_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_stack(tmp_path / "none.tif")
    with pytest.raises(ValueError, match="not a file"):
        read_stack(tmp_path)
    (tmp_path / "text.tif").write_text("not an image")
    with pytest.raises(ValueError, match="not a TIFF"):
        read_stack(tmp_path / "text.tif")


@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        (np.zeros((7, 9), "u2"), {}, ValueError, "one frame"),
        (np.zeros((1, 7, 9), "u2"), {}, ValueError, "one frame"),
        (np.zeros((4, 2, 7, 9), "u2"), {"imagej": True, "metadata": {"axes": "TCYX"}}, ValueError, r"T = 4, C = 2"),
        (np.zeros((4, 3, 7, 9), "u2"), {"imagej": True, "metadata": {"axes": "TZYX"}}, ValueError, r"T = 4, Z = 3"),
        (np.zeros((4, 7, 9), "c8"), {}, UnreadableStack, "complex64"),
        (np.zeros((4, 7, 9), "?"), {}, UnreadableStack, "bool"),
    ],
)
def test_wrong_contents(tmp_path, data, options, error, message):
    with pytest.raises(error, match=message):
        read_stack(write(tmp_path / "a.tif", data, **options))


def test_colour_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 7, 9, 3), "u1"), photometric="rgb")
    with pytest.raises(ValueError, match="colour"):
        read_stack(tmp_path / "a.tif")


def test_several_series_are_refused(tmp_path, stack):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(stack)
        writer.write(stack[:, :4])
    with pytest.raises(ValueError, match="2 image series"):
        read_stack(tmp_path / "a.tif")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_only_where_it_is_read(tmp_path, stack, bad):
    data = stack.astype(np.float32)
    data[3, 2, 2] = bad
    path = write(tmp_path / "a.tif", data)
    with pytest.raises(ValueError, match="first in frame 3"):
        read_stack(path)
    assert np.isfinite(read_stack(path, frames=(0, 3)).frames).all()
    assert np.isfinite(read_stack(path, roi=(3, 0, 2, 2)).frames).all()


@pytest.mark.parametrize("roi", [(0, 0, 8, 9), (0, 1, 7, 9), (-1, 0, 2, 2), (0, 0, 0, 3), (1, 2, 3), 5, "abcd"])
def test_regions_outside_or_malformed(tmp_path, stack, roi):
    with pytest.raises((ValueError, TypeError), match="roi"):
        read_stack(write(tmp_path / "a.tif", stack), roi=roi)


@pytest.mark.parametrize("frames", [(0, 7), (3, 3), (5, 2), (2, 3), slice(6, None), slice(0, 6, 0), 4, (0.5, 3), (-7, 3)])
def test_frame_ranges_outside_or_empty(tmp_path, stack, frames):
    with pytest.raises((ValueError, TypeError), match="frames"):
        read_stack(write(tmp_path / "a.tif", stack), frames=frames)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"imagej": True},
        {"ome": True},
        {"compression": "zlib"},
        {"byteorder": ">"},
        {"tile": (16, 16)},
        {"metadata": None},
    ],
    ids=str,
)
def test_a_file_cut_anywhere_is_refused_or_whole(tmp_path, stack, options):
    """No cut may give fewer frames, other values, or anything but ValueError."""
    content = write(tmp_path / "whole.tif", stack, **options).read_bytes()
    cut = tmp_path / "cut.tif"
    refused = 0
    for length in range(0, len(content), max(1, len(content) // 150)):
        cut.write_bytes(content[:length])
        try:
            read = read_stack(cut)
        except ValueError:
            refused += 1
        else:  # what is missing is a description or a tag after the last frame
            np.testing.assert_array_equal(read.frames, stack)
    assert refused > 50
    cut.write_bytes(content[: len(content) * 6 // 10])
    with pytest.raises(ValueError, match=r"cut short|damaged"):
        read_stack(cut)


def test_a_compression_without_decoder_names_the_package(tmp_path, stack, monkeypatch):
    path = write(tmp_path / "a.tif", stack, compression="zlib")

    def refuse(self, **options):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    for kind in (tifffile.TiffPage, tifffile.TiffFrame):
        monkeypatch.setattr(kind, "asarray", refuse)
    with pytest.raises(ValueError, match="install imagecodecs"):
        read_stack(path)
