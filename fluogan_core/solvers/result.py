"""What a reconstruction found."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..backend.arrays import Backend, backend_of
from ..backend.checks import length_or_time
from ..backend.kinds import Kind, as_array, kind_of
from ..calibration.camera import Camera
from ..physics.grid import placement
from ..physics.psi import Psi
from ..physics.requirements import reads
from .emission_work import overlap_of
from .options import SolverOptions
from .phase import Stop

__all__ = ["Result"]

#: Attributes that are images, of the kind of the stack.
_IMAGES = ("x", "b", "x_mean_fit", "b_mean_fit", "mean", "bad_pixels")


@dataclass
class Result:
    """What a reconstruction found.

    Its images are NumPy arrays on the host.  Of :func:`fluogan_core.reconstruct` with a stack of another kind (CuPy, torch,
    JAX, ...) they are of that kind and on the stack's device; :meth:`on_host` gives the same result in NumPy.

    The fine pixel (n1, n2) of ``x`` lies at ``translate + scale * (n1, n2)`` on the camera's grid, on which the centre of pixel
    (0, 0) of the recording is the origin; camera pixel (m1, m2) of ``b`` lies at ``corner + (m1, m2)``.  Viewers that align
    layers (napari) take them as they are.

    Attributes
    ----------
    x : (N1, N2) float32
        Expected emissions per fine pixel per frame; times ``psi.photons_per_emitter`` it is expected photons.
    b : (M1, M2) float32
        Background, expected photons per camera pixel per frame.
    x_mean_fit, b_mean_fit : like x and b
        The mean fit, which the covariance fit or network fit started from.
    mean : (M1, M2) float32
        The mean frame, photons.
    bad_pixels : (M1, M2) bool
        Hot, dead or stuck pixels, left out of the fit; there the mean is what the other pixels predict.
    history : dict of arrays
        One entry per step for each of :data:`fluogan_core.solvers.history.QUANTITIES`; ``phase`` is 0 while the
        mean is fitted, 1 in the covariance fit or network fit.
    options, camera, psi
        What it was found with.
    timings : dict of float
        Seconds: total, and per stage.  On a card the stages do not wait for each other: a stage's time is what the host spent
        on it, its waiting for the work of earlier ones included.
    device : str
        Where it was computed.
    stop_reason : str
        Why each phase ended, in words.
    stops : dict of str to Stop
        The same by the name of the phase, to be tested: ``result.stops["mean"].reason is StopReason.CONVERGED``.
    corner : (row, column)
        Where the field's first camera pixel lies in the recording: not (0, 0) for a :class:`~fluogan_core.Stack` with a
        ``roi``, be it read so or cut to follow a drift.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> stack = np.random.default_rng(0).poisson(50.0, (20, 16, 16)) + 100
    >>> psi = fg.Psi(fg.gaussian_psf(250, 100, 2), (16, 16), 2, backend="numpy")
    >>> options = fg.SolverOptions(method="none", warm_steps=3)
    >>> result = fg.reconstruct(stack, psi=psi, camera=fg.Camera(offset=100.0), options=options)
    >>> result.stops["mean"].reason is fg.StopReason.STEPS, len(result.history["objective"])
    (True, 3)
    >>> result.scale, result.translate, result.translate_nm(100)
    ((0.5, 0.5), (-0.25, -0.25), (-25.0, -25.0))
    """

    x: np.ndarray
    b: np.ndarray
    x_mean_fit: np.ndarray
    b_mean_fit: np.ndarray
    mean: np.ndarray
    bad_pixels: np.ndarray
    history: dict[str, np.ndarray]
    options: SolverOptions
    camera: Camera
    psi: Psi
    timings: dict[str, float] = field(default_factory=dict)
    device: str = "cpu"
    stop_reason: str = ""
    stops: dict[str, Stop] = field(default_factory=dict)
    corner: tuple[int, int] = (0, 0)

    @property
    def scale(self) -> tuple[float, float]:
        """Spacing of the fine pixels of ``x``, (rows, columns), camera pixels: 1 / L."""
        spacing, _ = placement(self.psi.factor, self.psi.binning)
        return spacing, spacing

    @property
    def translate(self) -> tuple[float, float]:
        """Centre of the first fine pixel of ``x``, (row, column), camera pixels: ``corner`` - 1/2 + 1/2L.

        The origin is the centre of the first camera pixel of the recording.  With ``binning="point"`` it is
        ``corner - (L // 2) / L``.
        """
        _, first = placement(self.psi.factor, self.psi.binning)
        return self.corner[0] + first, self.corner[1] + first

    @property
    def overlap(self) -> float | None:
        """How many others overlap an emission, on average; None with an operator whose PSF is not known.

        Where they are few, ``method="auto"`` and ``"likelihood"`` can show more than ``"moments"``.
        """
        if not reads(self.psi, "likelihood fit"):
            return None
        backend, x = self.psi.backend, as_array(self.x, "x")
        return overlap_of(backend.asarray(backend_of(array=x).to_host(x)), self.psi)

    def scale_nm(self, pixel_size_nm: float) -> tuple[float, float]:
        """Return the spacing of the fine pixels of ``x`` in nm.

        Parameters
        ----------
        pixel_size_nm : float
            Camera pixel in the object plane, nm.

        Returns
        -------
        rows, columns : float
            nm.

        Raises
        ------
        TypeError, ValueError
            If the pixel size is not a length.
        """
        pixel = length_or_time(pixel_size_nm, "pixel_size_nm")
        return self.scale[0] * pixel, self.scale[1] * pixel

    def translate_nm(self, pixel_size_nm: float) -> tuple[float, float]:
        """Return the centre of the first fine pixel of ``x`` in nm, from the centre of the first camera pixel.

        Parameters
        ----------
        pixel_size_nm : float
            Camera pixel in the object plane, nm.

        Returns
        -------
        row, column : float
            nm.

        Raises
        ------
        TypeError, ValueError
            If the pixel size is not a length.
        """
        pixel = length_or_time(pixel_size_nm, "pixel_size_nm")
        return self.translate[0] * pixel, self.translate[1] * pixel

    def on_host(self) -> Result:
        """Return the same result with images of NumPy, which need no copy on the CPU; itself if they are.

        Returns
        -------
        Result
        """
        if all(isinstance(getattr(self, name), np.ndarray) for name in _IMAGES):
            return self
        taken = {name: as_array(getattr(self, name), name) for name in _IMAGES}
        images: dict[str, Any] = {name: backend_of(array=image).to_host(image) for name, image in taken.items()}
        return dataclasses.replace(self, **images)

    def like(self, array: object) -> Result:
        """Return the same result with images of the kind of ``array``, on its device.

        Parameters
        ----------
        array : array of NumPy, CuPy, torch, JAX or another library with DLPack
            What is none of these, a list or a file's array, stands for NumPy.

        Returns
        -------
        Result

        Raises
        ------
        TypeError
            If the array is masked, or cannot be shared.

        Examples
        --------
        >>> import numpy as np
        >>> import torch
        >>> import fluogan_core as fg
        >>> stack = torch.from_numpy(np.random.default_rng(0).poisson(50.0, (20, 16, 16)) + 100)
        >>> psi = fg.Psi(fg.gaussian_psf(250, 100, 2), (16, 16), 2, backend="numpy")
        >>> options = fg.SolverOptions(method="none", warm_steps=3)
        >>> result = fg.reconstruct(stack, psi=psi, camera=fg.Camera(offset=100.0), options=options)
        >>> type(result.x).__name__, type(result.on_host().x).__name__
        ('Tensor', 'ndarray')
        """
        kind, host = kind_of(array), self.on_host()
        if kind is None or isinstance(array, np.ndarray):
            return host
        home = backend_of(array=as_array(array, "array"))
        return dataclasses.replace(host, **{name: _sent(getattr(host, name), kind, home) for name in _IMAGES})


def _sent(image: np.ndarray, kind: Kind, home: Backend) -> Any:
    """An image on another device and of another kind."""
    return kind.given(home.asarray(image))
