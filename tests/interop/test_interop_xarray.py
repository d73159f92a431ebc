"""Labelled arrays in, labelled data sets out."""

from __future__ import annotations

import numpy as np
import pytest
from hosts import need

need("xarray")

import xarray  # noqa: E402

from fluogan_core.interop.xarray import dataset, stack  # noqa: E402


def labelled(counts, units=("nm", 65.0), times=("ms", 20.0), dims=("t", "y", "x")):
    """A recording with its places, the first pixel at 1000 and 2000."""
    unit, pixel = units
    coordinates = {
        dims[1]: (dims[1], 1000 + pixel * np.arange(counts.shape[1]), {"units": unit}),
        dims[2]: (dims[2], 2000 + pixel * np.arange(counts.shape[2]), {"units": unit}),
        dims[0]: (dims[0], times[1] * np.arange(counts.shape[0]), {"units": times[0]}),
    }
    return xarray.DataArray(counts, dims=dims, coords=coordinates)


@pytest.mark.parametrize("units", [("nm", 65.0), ("um", 0.065), ("µm", 0.065), ("micrometer", 0.065), ("micrometres", 0.065)])
@pytest.mark.parametrize("dims", [("t", "y", "x"), ("time", "row", "column")])
def test_axes_and_units_are_read(counts, units, dims):
    array = labelled(counts, units, dims=dims).transpose(dims[2], dims[0], dims[1]).expand_dims("channel")
    found = stack(array)
    assert np.array_equal(found.frames, counts)
    assert (found.pixel_size_nm, found.frame_interval_s) == (pytest.approx(65.0), pytest.approx(0.02))


def test_what_the_coordinates_do_not_say_is_not_made_up(counts):
    found = stack(xarray.DataArray(counts, dims=("t", "y", "x")))
    assert (found.pixel_size_nm, found.frame_interval_s) == (None, None)
    assert stack(labelled(counts, ("pixel", 1.0))).pixel_size_nm is None
    times = np.datetime64("2024-01-01") + np.arange(len(counts)) * np.timedelta64(50, "ms")
    assert stack(labelled(counts).assign_coords(t=times)).frame_interval_s == pytest.approx(0.05)


def test_a_dask_array_is_computed(counts):
    need("dask.array")
    assert np.array_equal(stack(labelled(counts).chunk({"t": 5})).frames, counts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.rename(y="height"), "one axis must be the rows, called one of y, row, rows"),
        (lambda a: a.expand_dims(channel=2), "has the axes {'channel': 2}; choose one of each with isel"),
        (lambda a: a.assign_coords(x=a.x[::-1]), "the coordinate x must rise in even steps, .* sortby\\('x'\\)"),
        (lambda a: a.assign_coords(x=list("abcdefghij")[: a.sizes["x"]]), "coordinate x must hold numbers or times, got dtype"),
        (lambda a: a.assign_coords(x=("x", 2 * a.x.data, {"units": "nm"})), "pixels are not square: 65 nm between rows, 130"),
    ],
)
def test_what_is_no_recording_is_refused(counts, change, message):
    with pytest.raises(ValueError, match=message):
        stack(change(labelled(counts)))


def test_a_result_lies_where_its_recording_does(counts, result):
    found = dataset(result, like=labelled(counts))
    assert np.array_equal(found.emissions, result.x)
    assert np.array_equal(found.background, result.b)
    # the edges of both grids are the same
    for camera, fine, first in (("y", "y_fine", 1000), ("x", "x_fine", 2000)):
        assert float(found[camera][0]) == first
        assert float(found[fine][0]) - 65 / 4 == pytest.approx(first - 65 / 2)
        assert float(found[fine][-1]) + 65 / 4 == pytest.approx(float(found[camera][-1]) + 65 / 2)
        assert found[fine].attrs == {"units": "nm"}
    # a fine pixel is found under the camera pixel that it lies in
    at = found.emissions.sel(y_fine=1000 + 65 * 5, x_fine=2000 + 65 * 4, method="nearest")
    assert float(at) in result.x[10:12, 8:10].ravel().tolist()


def test_without_a_recording_the_first_pixel_is_the_origin(result):
    assert dataset(result).y_fine[:2].values.tolist() == [-0.25, 0.25]
    assert dataset(result).y_fine.attrs == {"units": "pixel"}
    with pytest.raises(ValueError, match="has 13 rows but the result has 12"):
        dataset(result, like=labelled(np.zeros((3, 13, 10))))


def test_what_is_no_array_of_xarray_and_no_result_is_named(counts, result):
    for wrong in (counts, labelled(counts).to_dataset(name="counts")):
        with pytest.raises(TypeError, match="array must be a DataArray, got"):
            stack(wrong)
        with pytest.raises(TypeError, match="like must be a DataArray, got"):
            dataset(result, like=wrong)
    with pytest.raises(TypeError, match="result must be a Result, got ndarray"):
        dataset(result.x)
    with pytest.raises(ValueError, match="leave pixel_size_nm= out"):
        dataset(result, like=labelled(counts), pixel_size_nm=65)
