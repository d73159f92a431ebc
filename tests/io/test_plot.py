"""The figure: what it shows is what the result holds, and drawing leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import fluogan_core as fg
from fluogan_core.io import figures as plot
from fluogan_core.io.panels import nice_length

pytest.importorskip("matplotlib")

FACTOR = 3


@pytest.fixture
def result() -> SimpleNamespace:
    """Two vertical lines in a field of 8 x 10 camera pixels, a run of 30 steps of which the last 10 had a critic."""
    psi = fg.Psi(fg.gaussian_psf(150, 100, FACTOR), (8, 10), FACTOR, photons_per_emitter=4.0, backend="numpy")
    x = np.zeros(psi.fine_shape, dtype=np.float32)
    x[6:18, 9:12] = 2.0
    x[9:15, 18:21] = 1.0
    steps = np.arange(1.0, 31.0)
    critic = steps > 20
    history = {
        "step": steps,
        "phase": critic.astype(float),
        "fidelity": 10.0 / steps,
        "w_train": np.where(critic, steps - 20, np.nan),
        "w_held_out": np.where(critic, 0.5 * (steps - 20), np.nan),
    }
    b = np.linspace(1, 2, 80, dtype=np.float32).reshape(8, 10)
    return SimpleNamespace(x=x, x_mean_fit=x + 0.5, b=b, mean=psi.forward(x) + b, history=history, psi=psi)


def lines(axes) -> dict[str, np.ndarray]:
    return {line.get_label(): np.column_stack(line.get_data()) for line in axes.lines}


def axes_by_title(figure) -> dict[str, object]:
    return {axes.get_title(): axes for axes in figure.axes}


def test_images_are_the_arrays_on_one_scale_of_camera_pixels(result):
    figure = plot.figure(result, pixel_size_nm=100)
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == 3
    for axes, image in zip(shown, (result.mean, result.x, result.b)):
        np.testing.assert_allclose(axes.images[0].get_array(), image, rtol=1e-6)
        assert tuple(axes.images[0].get_extent()) == (0, 10, 8, 0)


def test_profile_runs_across_the_lines_and_is_normalised(result):
    axes = next(a for title, a in axes_by_title(plot.figure(result, pixel_size_nm=100)).items() if "Profile" in title)
    assert axes.get_xlabel() == "position, nm"
    drawn = lines(axes)
    first, count = plot.profile_band(result.x, FACTOR)[1]
    band = result.x[first * FACTOR : (first + count) * FACTOR].mean(axis=0)
    np.testing.assert_allclose(drawn["x"][:, 1], band / band.max(), rtol=1e-6)
    np.testing.assert_allclose(drawn["x"][:, 0], (np.arange(30) + 0.5) * 100 / FACTOR)
    mean = result.mean[first : first + count].mean(axis=0)
    np.testing.assert_allclose(drawn["mean of the frames"][:, 1], mean / mean.max(), rtol=1e-6)
    np.testing.assert_allclose(drawn["mean of the frames"][:, 0], (np.arange(10) + 0.5) * 100)
    np.testing.assert_allclose(drawn["x of the mean fit"][:, 1], (band + 0.5) / (band + 0.5).max(), rtol=1e-6)


def test_profile_turns_with_the_pattern(result):
    across, band = plot.profile_band(result.x, FACTOR)
    assert across == "columns"
    assert plot.profile_band(np.ascontiguousarray(result.x.T), FACTOR) == ("rows", band)
    assert plot.profile_band(result.x, FACTOR, band=(0, 8)) == ("columns", (0, 8))
    assert plot.profile_band(result.x, FACTOR, across="rows")[0] == "rows"


@pytest.mark.parametrize("band", [(0, 9), (-1, 2), (3, 0), (7, 2)])
def test_a_band_outside_the_field_is_refused(result, band):
    with pytest.raises(ValueError, match="band"):
        plot.figure(result, band=band)


def test_a_wrong_direction_is_refused(result):
    with pytest.raises(ValueError, match="across must be"):
        plot.figure(result, across="diagonal")


def test_losses_follow_the_history(result):
    titles = axes_by_title(plot.figure(result))
    np.testing.assert_allclose(
        lines(titles["Course of the fit"])["_child0"], np.column_stack([result.history["step"], result.history["fidelity"]])
    )
    critic = next(a for a in plot.figure(result).axes if a.get_ylabel() == "frames told apart by")
    drawn = lines(critic)
    np.testing.assert_allclose(drawn["training frames"], [[20 + k, k] for k in range(1, 11)])
    np.testing.assert_allclose(drawn["held-out frames"], [[20 + k, 0.5 * k] for k in range(1, 11)])


def test_without_a_critic_there_is_no_panel_for_it(result):
    for name in ("w_train", "w_held_out"):
        result.history[name][:] = np.nan
    result.history["phase"][:] = 0
    panels = plot.figure(result).axes
    assert "frames told apart by" not in [axes.get_ylabel() for axes in panels]
    assert not any("x of the mean fit" in lines(axes) for axes in panels)
    result.history = {}
    assert len([axes for axes in plot.figure(result).axes if axes.images]) == 3


def test_scale_bar_only_where_the_pixel_is_known(result):
    texts = [t.get_text() for axes in plot.figure(result, pixel_size_nm=100).axes for t in axes.texts]
    assert texts.count("200 nm") == 3
    plain = plot.figure(result)
    assert not [t for axes in plain.axes if axes.images for t in axes.texts]
    assert "position, camera pixels" in [axes.get_xlabel() for axes in plain.axes]


@pytest.mark.parametrize(
    ("extent", "length"),
    [(1000.0, 200.0), (3200.0, 500.0), (4000.0, 1000.0), (80.0, 20.0), (7.9, 1.0), (40_000, 10_000)],
)
def test_nice_lengths(extent, length):
    assert nice_length(extent) == pytest.approx(length)


def test_hot_pixels_do_not_darken_the_rest(result):
    usual = float(np.sort(result.x.ravel())[-5])
    result.x[0, 0] = 1e6
    (image,) = next(a for a in plot.figure(result).axes if a.get_title().startswith("x,")).images
    assert image.get_clim()[1] <= usual * 1.01


def test_dark_and_flat_images_are_drawn(result, tmp_path):
    result.x[:] = 0
    result.b[:] = 3
    plot.save(plot.figure(result, pixel_size_nm=100), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_png_is_the_same_twice_and_of_a_readable_size(result, tmp_path):
    from matplotlib.image import imread

    for name in ("a.png", "b.part"):
        plot.save(plot.figure(result, pixel_size_nm=100, title="Two lines"), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.part").read_bytes()
    assert imread(tmp_path / "a.png").shape[:2] == (1110, 1800)


def test_pyplot_is_not_loaded():
    code = """
import sys, numpy as np
from types import SimpleNamespace
import fluogan_core as fg
from fluogan_core import plot
assert "matplotlib" not in sys.modules
psi = fg.Psi(fg.gaussian_psf(100, 100, 2), (6, 6), 2, backend="numpy")
image = np.ones((6, 6))
plot.figure(SimpleNamespace(x=np.ones((12, 12)), x_mean_fit=None, b=image, mean=image, history={}, psi=psi))
assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
