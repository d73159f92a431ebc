"""Layers, reader and dock widget of napari, without a display."""

from __future__ import annotations

import inspect
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hosts import need

import fluogan_core as fg

need("napari", "npe2", "qtpy.QtWidgets")

import npe2  # noqa: E402
from napari.components import ViewerModel  # noqa: E402
from napari.layers import Image, Layer  # noqa: E402
from qtpy.QtWidgets import QApplication  # noqa: E402

from fluogan_core.interop import napari as interop  # noqa: E402
from fluogan_core.interop.napari_widget import Reconstruction  # noqa: E402

MANIFEST = Path(interop.__file__).with_name("napari.yaml")


def test_the_manifest_is_valid_and_its_commands_are_there():
    manifest = npe2.PluginManifest.from_file(MANIFEST)
    manifest.validate_imports()
    assert [w.display_name for w in manifest.contributions.widgets] == ["Super-resolution from fluctuations"]


def test_the_layers_of_a_result_lie_over_the_recording(counts, result):
    recording = Image(counts, scale=(1, 100, 100), translate=(0, 500, 700))
    made = interop.layers(result, scale=recording.scale[-2:], translate=recording.translate[-2:], name="cell")
    x, b = (Layer.create(*layer) for layer in made)
    assert (x.name, b.name) == ("cell x", "cell b")
    # napari draws a pixel around its centre: both images have the same edges
    for corner, camera, fine in ((-0.5, (-0.5, -0.5), (-0.5, -0.5)), (0, (11.5, 9.5), (23.5, 19.5))):
        assert np.allclose(x.data_to_world(fine), recording.data_to_world((0, *camera))[1:]), corner
        assert np.allclose(b.data_to_world(camera), recording.data_to_world((0, *camera))[1:])


def test_the_numbers_of_a_layer_of_three_axes_are_not_taken_for_those_of_an_image(result):
    """The scale of frames and rows would put the image somewhere else."""
    for name, numbers in (("scale", (1, 100, 100)), ("translate", (0, 500, 700)), ("scale", 100.0)):
        with pytest.raises(ValueError, match=rf"{name} must be two numbers, of rows and columns, .*{name}\[-2:\]"):
            interop.layers(result, **{name: numbers})
    with pytest.raises(TypeError, match="result must be a Result, got ndarray"):
        interop.layers(result.x)


def test_the_reader_takes_results_and_stacks_and_leaves_the_rest(tmp_path, counts, result, monkeypatch):
    fg.write_result(result, tmp_path / "out", pixel_size_nm=100, figure=False)
    manager = npe2.PluginManager()
    monkeypatch.setattr(npe2.PluginManager, "instance", lambda: manager)
    manager.register(npe2.PluginManifest.from_file(MANIFEST))
    (x, x_arguments, _), (b, b_arguments, _) = npe2.io_utils.read([str(tmp_path / "out")], stack=False)
    assert np.array_equal(x, result.x)
    assert np.array_equal(b, result.b)
    assert (x_arguments["scale"], x_arguments["translate"], x_arguments["units"]) == ((50, 50), (-25, -25), ("nm", "nm"))
    assert (b_arguments["scale"], b_arguments["translate"]) == ((100, 100), (0, 0))
    tifffile.imwrite(tmp_path / "stack.tif", counts, imagej=True, resolution=(1 / 0.1, 1 / 0.1), metadata={"unit": "um"})
    ((frames, arguments, kind),) = npe2.io_utils.read([str(tmp_path / "stack.tif")], stack=False)
    assert np.array_equal(frames, counts)
    assert kind == "image"
    assert np.allclose(arguments["scale"], (1, 100, 100))
    Layer.create(frames, arguments, kind)
    assert interop.get_reader(str(tmp_path)) is None
    assert interop.get_reader(str(tmp_path / "x.png")) is None
    assert interop.get_reader([str(tmp_path / "stack.tif")]) is None
    (tmp_path / "out" / "report.json").write_text("{}")
    with pytest.raises(fg.UnreadableStack, match="is no report of a reconstruction"):
        interop.get_reader(str(tmp_path / "out"))(str(tmp_path / "out"))


def test_napari_can_make_the_widget():
    """It hands its viewer to the parameter ``napari_viewer``, and nothing to any other."""
    assert list(inspect.signature(Reconstruction).parameters) == ["napari_viewer"]


# -- the widget -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def application():
    return QApplication.instance() or QApplication([])


@pytest.fixture
def widget(application, counts):
    viewer = ViewerModel()
    form = Reconstruction(viewer)
    viewer.add_image(counts, name="cell", scale=(1, 100, 100), metadata={"pixel_size_nm": 100.0})
    form.fwhm_nm.setValue(150)
    form.factor.setValue(2)
    form.measure.setChecked(False)
    form.offset.setValue(100)
    form.method.setCurrentIndex(form.method.findData("none"))
    return form


def wait(form, application, until, seconds=60.0):
    """Let events pass until something is so."""
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, form.status.text()
        application.processEvents()
        time.sleep(0.005)


def test_a_run_shows_progress_and_adds_the_layers(widget, application, counts):
    seen = []
    widget.bar.valueChanged.connect(seen.append)
    widget.run.click()
    assert not widget.run.isEnabled()
    wait(widget, application, widget.run.isEnabled)
    assert len([value for value in seen if value > 0]) > 3
    assert seen[:3] == sorted(seen[:3])
    assert [layer.name for layer in widget.viewer.layers] == ["cell", "cell x", "cell b"]
    psi = widget.result.psi
    wanted = fg.reconstruct(
        counts,
        psi=fg.Psi(fg.gaussian_psf(150, 100, 2), (12, 10), 2),
        camera=fg.Camera(offset=100.0),
        options=fg.SolverOptions(method="none"),
    )
    assert psi == wanted.psi
    assert np.array_equal(widget.viewer.layers["cell x"].data, wanted.x)
    assert np.allclose(widget.viewer.layers["cell x"].scale, 50)
    assert np.allclose(widget.viewer.layers["cell x"].translate, -25)
    assert widget.status.text().startswith("Done. mean fit: ")


def test_a_run_can_be_stopped_and_keeps_its_image(widget, application, monkeypatch):
    real = fg.Solver.step
    monkeypatch.setattr(fg.Solver, "step", lambda self: time.sleep(0.05) or real(self))
    widget.run.click()
    wait(widget, application, lambda: widget.bar.value() > 0 and widget.bar.maximum() > 1)
    widget.stop.click()
    wait(widget, application, widget.run.isEnabled)
    assert widget.result.stops["mean"].reason is fg.StopReason.CALLBACK
    assert "cell x" in widget.viewer.layers


def test_what_cannot_be_reconstructed_is_said(widget, application):
    widget.offset.setValue(10_000)
    widget.run.click()
    wait(widget, application, widget.run.isEnabled)
    assert "Not reconstructed: no pixel is brighter than the camera's offset" in widget.status.text()
    assert len(widget.viewer.layers) == 1
    widget.viewer.layers.clear()
    widget.run.click()
    assert widget.status.text().startswith("There is no stack")


def test_the_form_follows_the_layers(widget, counts):
    widget.viewer.add_image(counts[0], name="flat")
    widget.viewer.add_image(counts, name="other", metadata={"pixel_size_nm": 65.0})
    assert [widget.layer.itemText(n) for n in range(widget.layer.count())] == ["cell", "other"]
    assert widget.pixel_nm.value() == 100
    widget.layer.setCurrentIndex(1)
    assert widget.pixel_nm.value() == 65
    assert widget.gain.isEnabled() is not widget.measure.isChecked()
