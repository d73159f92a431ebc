"""The dock widget of napari: from the stack of a layer to the layers of its result, with progress and a way to stop."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, cast

import numpy as np

from ..calibration.camera import Camera
from ..physics.psf import gaussian_psf
from ..physics.psi import Psi
from ..solvers.options import SolverOptions
from ..solvers.problem import Problem
from ..solvers.result import Result
from ..solvers.solver import Solver
from ._host import needs
from .napari import layers

with needs("napari", extra="napari"):
    from napari.layers import Image, Layer
    from napari.qt.threading import create_worker
    from qtpy import QtWidgets

__all__ = ["Reconstruction"]

#: Words for the methods of :class:`fluogan_core.SolverOptions`.
METHODS = {"mean and covariance (default)": "moments", "mean only (quick)": "none"}


class Reconstruction(QtWidgets.QWidget):
    """A form: layer, pixel size, PSF width, factor, method; a button to run, one to stop, progress in steps.

    Camera, photons per emission and PSF width are measured on the stack; where that is refused, the message says why and
    what to give.  A run that is stopped adds the image that it has reached, if it has taken a step.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer or napari.components.ViewerModel
        Napari hands its viewer to a parameter of this name.

    Attributes
    ----------
    result : Result or None
        Of the last run.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.viewer, self.worker = napari_viewer, cast(Any, None)
        self.result: Result | None = None
        self._stop = False
        self.layer = QtWidgets.QComboBox()
        self.pixel_nm, self.fwhm_nm = _number(100.0, 1.0, 1e5, " nm"), _number(250.0, 1.0, 1e5, " nm")
        self.factor = QtWidgets.QSpinBox(minimum=1, maximum=16, value=4)
        self.method = QtWidgets.QComboBox()
        for words, name in METHODS.items():
            self.method.addItem(words, name)
        self.measure = QtWidgets.QCheckBox("measure them on the stack", checked=True)
        self.offset, self.gain = _number(100.0, 0.0, 1e6, " counts"), _number(1.0, 1e-3, 1e6, " counts per photon")
        self.run, self.stop = QtWidgets.QPushButton("Reconstruct"), QtWidgets.QPushButton("Stop")
        self.bar, self.status = QtWidgets.QProgressBar(), QtWidgets.QLabel("Choose a stack (frames, rows, columns).")
        self.status.setWordWrap(True)
        form = QtWidgets.QFormLayout(self)
        for label, field in (
            ("stack", self.layer),
            ("camera pixel", self.pixel_nm),
            ("PSF, full width at half maximum", self.fwhm_nm),
            ("fine pixels per camera pixel", self.factor),
            ("method", self.method),
            ("camera and PSF width", self.measure),
            ("camera offset", self.offset),
            ("camera gain", self.gain),
        ):
            form.addRow(label, field)
        for field in (self.run, self.stop, self.bar, self.status):
            form.addRow(field)
        self.run.clicked.connect(self.start)
        self.stop.clicked.connect(self.end)
        self.measure.toggled.connect(self._show_what_counts)
        self.layer.currentIndexChanged.connect(self._take_pixel_size)
        self.viewer.layers.events.inserted.connect(self._list_layers)
        self.viewer.layers.events.removed.connect(self._list_layers)
        self._list_layers()
        self._show_what_counts()
        self._running(False)

    # -- what the user sees -----------------------------------------------------------------------------------------------

    def _list_layers(self, event: object = None) -> None:
        kept = self.layer.currentData()
        stacks = [layer for layer in self.viewer.layers if isinstance(layer, Image) and layer.ndim == 3 and not layer.rgb]
        self.layer.blockSignals(True)
        self.layer.clear()
        for layer in stacks:
            self.layer.addItem(layer.name, layer)
        if kept in stacks:
            self.layer.setCurrentIndex(stacks.index(kept))
        self.layer.blockSignals(False)
        if self.layer.currentData() is not kept:
            self._take_pixel_size()

    def _take_pixel_size(self, index: int = 0) -> None:
        """Show the pixel size that the layer knows."""
        chosen = self.layer.currentData()
        known = None if chosen is None else chosen.metadata.get("pixel_size_nm")
        if known:
            self.pixel_nm.setValue(float(known))

    def _show_what_counts(self, checked: bool = True) -> None:
        for field in (self.offset, self.gain):
            field.setEnabled(not self.measure.isChecked())

    def _running(self, running: bool) -> None:
        self.run.setEnabled(not running)
        self.stop.setEnabled(running)

    # -- the run ----------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Reconstruct the chosen layer in another thread."""
        chosen = self.layer.currentData()
        if chosen is None:
            self.status.setText("There is no stack (frames, rows, columns) among the layers; open one first.")
            return
        settings: dict[str, Any] = {
            "frames": np.asarray(chosen.data),
            "pixel_nm": self.pixel_nm.value(),
            "fwhm_nm": self.fwhm_nm.value(),
            "factor": self.factor.value(),
            "method": self.method.currentData(),
            "camera": None if self.measure.isChecked() else Camera(gain=self.gain.value(), offset=self.offset.value()),
        }
        self._stop, self.result, self._source = False, None, chosen
        self._running(True)
        self.bar.setRange(0, 0)
        self.status.setText("Measuring camera and PSF ..." if settings["camera"] is None else "Measuring noise ...")
        self.worker = create_worker(self._steps, **settings, _start_thread=False)
        self.worker.yielded.connect(self._show_step)
        self.worker.returned.connect(self._show_result)
        self.worker.errored.connect(self._show_error)
        self.worker.finished.connect(lambda: self._running(False))
        self.worker.start()

    def end(self) -> None:
        """Stop after the step that is being taken, and keep what it reaches."""
        self._stop = True
        self.status.setText("Stopping after this step ...")

    def _steps(
        self, frames: np.ndarray, pixel_nm: float, fwhm_nm: float, factor: int, method: str, camera: Camera | None
    ) -> Generator[tuple[int, int, str], None, Result | None]:
        """Run in the other thread: yield steps done, steps in all and a word; return the result."""
        psi = Psi(gaussian_psf(fwhm_nm, pixel_nm, factor), frames.shape[1:], factor)
        solver = Solver(problem=Problem.of(frames, psi=psi, camera=camera), options=SolverOptions(method=method))
        while (phase := solver.current) is not None:
            if self._stop:
                solver.end()
                break
            record = solver.step()
            yield solver.steps_done, solver.total_steps, phase.headline(record)
        return solver.result() if solver.steps_done else None

    def _show_step(self, step: tuple[int, int, str]) -> None:
        done, planned, words = step
        self.bar.setRange(0, planned)
        self.bar.setValue(done)
        if not self._stop:
            self.status.setText(f"step {done} of at most {planned}: {words}")

    def _show_result(self, result: Result | None) -> None:
        self.bar.setRange(0, 1)
        self.bar.setValue(1)
        if result is None:
            self.status.setText("Stopped before the first step: there is no image.")
            return
        source, self.result = self._source, result
        made = layers(result, scale=source.scale[-2:], translate=source.translate[-2:], name=source.name)
        for data, arguments, kind in made:
            self.viewer.add_layer(Layer.create(data, arguments | {"units": source.units[-2:]}, kind))
        self.status.setText(f"Done. {result.stop_reason}.")

    def _show_error(self, error: Exception) -> None:
        self.bar.setRange(0, 1)
        self.bar.reset()
        self.status.setText(f"Not reconstructed: {error}")


def _number(value: float, low: float, high: float, unit: str) -> QtWidgets.QDoubleSpinBox:
    field = QtWidgets.QDoubleSpinBox(minimum=low, maximum=high, decimals=2, suffix=unit)
    field.setValue(value)
    field.setStepType(QtWidgets.QAbstractSpinBox.StepType.AdaptiveDecimalStepType)
    return field
