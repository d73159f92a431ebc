"""Any frames and any region of a stack, in any layout of its file, are those of the array that was written."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from fluogan_core.io.stack import read_stack

#: How tifffile is asked to lay the frames out; the last holds all of them in one page.
LAYOUTS = (
    {},
    {"imagej": True, "metadata": {"axes": "TYX"}},
    {"ome": True, "metadata": {"axes": "TYX"}},
    {"compression": "zlib"},
    {"tile": (16, 16)},
    {"byteorder": ">"},
    {"volumetric": True, "tile": (1, 16, 16)},
)


@st.composite
def parts(draw: st.DrawFn) -> tuple[tuple[int, int, int], slice | tuple[int | None, int | None] | None, tuple | None]:
    """Shape of a stack, frames that leave at least two of it, and a region inside or None."""
    count, rows, columns = shape = draw(st.integers(2, 9)), draw(st.integers(2, 20)), draw(st.integers(2, 20))
    start, length = draw(st.integers(0, count - 2)), draw(st.integers(2, count))
    stop = min(start + length, count)
    step = draw(st.integers(1, max(1, stop - start - 1)))
    frames = draw(
        st.sampled_from([None, (start, stop), (start - count, None), slice(start, stop, step), slice(None, None, step)])
    )
    roi = None
    if draw(st.booleans()):
        top, left = draw(st.integers(0, rows - 1)), draw(st.integers(0, columns - 1))
        roi = (top, left, draw(st.integers(1, rows - top)), draw(st.integers(1, columns - left)))
    return shape, frames, roi


@given(parts(), st.sampled_from(LAYOUTS), st.sampled_from(["u1", "u2", "f4"]))
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_what_is_read_is_what_was_written(part, layout, dtype):
    shape, frames, roi = part
    data = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stack.tif"
        tifffile.imwrite(path, data, photometric="minisblack", **layout)
        read = read_stack(path, roi=roi, frames=frames)
        chosen = slice(*frames) if isinstance(frames, tuple) else frames or slice(None)
        top, left, rows, columns = roi or (0, 0, *shape[1:])
        np.testing.assert_array_equal(read.frames, data[chosen, top : top + rows, left : left + columns])
        assert read.frames.dtype == np.dtype(dtype)
        assert list(read.taken) == list(range(shape[0]))[chosen]
