"""Options of the commands with their units, and the objects that their values describe."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..critics.estimators import estimator_names

if TYPE_CHECKING:
    import numpy as np

    from ..backend.arrays import Backend
    from ..calibration.calibrate import Calibration
    from ..calibration.camera import Camera, CameraEstimate
    from ..physics.psi import Psi
    from ..stack import Stack

__all__ = [
    "CALIBRATION_OPTIONS",
    "FILE",
    "METHODS",
    "SOLVER_OPTIONS",
    "Decorator",
    "Numbers",
    "background_from",
    "background_option",
    "calibration_from",
    "camera_options",
    "device_options",
    "estimate_from",
    "given",
    "json_option",
    "operator_for",
    "operator_of",
    "optics_options",
    "output_option",
    "region_options",
    "simulation_options",
    "solver_options",
    "stack_argument",
    "stack_from",
    "values_to_vary",
    "vary_option",
    "verbose_option",
]

log = logging.getLogger("fluogan_core")

#: The estimators of a network's gradient, and the two methods that train none.
METHODS = ("moments", "likelihood", "auto", *estimator_names(), "none")
#: Fields of ``SolverOptions`` with a switch of their own.
SOLVER_OPTIONS = ("method", "steps", "warm_steps", "fidelity", "sparsity", "total_variation", "smoothness", "detail", "seed")
#: Values of the camera and the emitters that may be given, and all that ``calibrate`` takes.
CAMERA_OPTIONS = ("gain", "offset", "noise_std", "photons_per_emitter")
CALIBRATION_OPTIONS = (*CAMERA_OPTIONS, "psf_width", "row_shift")

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Numbers(click.ParamType):
    """Numbers between commas."""

    def __init__(self, kind: type, name: str, count: int | None = None) -> None:
        self.kind, self.name, self.count = kind, name, count

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a tuple of numbers."""
        if not isinstance(value, str):
            return value
        try:
            numbers = tuple(self.kind(part) for part in value.split(","))
        except ValueError:
            numbers = ()
        if not numbers or self.count not in (None, len(numbers)):
            self.fail(f"{value!r} is not {self.name}", param, ctx)
        return numbers


class FrameRange(click.ParamType):
    """``A:B`` or ``A:B:STEP``; each may be left out."""

    name = "A:B[:STEP]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a slice."""
        if not isinstance(value, str):
            return value
        try:
            start, stop, *step = (int(part) if part.strip() else None for part in value.split(":"))
            return slice(start, stop, *step)
        except (ValueError, TypeError):
            self.fail(f"{value!r} is not A:B or A:B:STEP, frame numbers of which each may be left out", param, ctx)


class Values(click.ParamType):
    """``NAME=v1,v2,...``; whether they suit the name is the library's to say."""

    name = "NAME=v1,v2,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return (name, tuple of numbers or words)."""
        if not isinstance(value, str):
            return value
        name, equals, rest = value.partition("=")
        if not (name.strip() and equals):
            self.fail(f"{value!r} is not NAME=v1,v2,..., as in detail=0.13,0.26", param, ctx)
        parts = [part.strip() for part in rest.split(",")] if rest.strip() else []
        return name.strip().replace("-", "_"), tuple(_number_or_word(part) for part in parts)


def _number_or_word(text: str) -> float | int | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _together(*options: Decorator) -> Decorator:
    """Several options as one decorator, shown in this order."""
    return lambda function: functools.reduce(lambda decorated, option: option(decorated), reversed(options), function)


def _number(name: str, help_: str, default: float | None = None, kind: type = float, said: str = "") -> Decorator:
    """A switch with a number; ``said`` is a default that is not click's but made further on."""
    help_ += f" [default: {said}]" if said else ""
    return click.option(name, type=kind, default=default, show_default=default is not None, help=help_)


def _be_verbose(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(dict)["verbose"] = True
        logging.getLogger("fluogan_core").setLevel(logging.DEBUG)
        logging.getLogger("tifffile").setLevel(logging.WARNING)


FILE = click.Path(path_type=Path)

stack_argument = click.argument("stack_path", metavar="STACK.tif", type=FILE)

verbose_option = click.option(
    "--verbose", is_flag=True, expose_value=False, callback=_be_verbose, is_eager=True, help="Full log, and traces."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")

region_options = _together(
    click.option("--roi", type=Numbers(int, "T,L,R,C", 4), help="Region: top, left, rows, columns [camera pixels]."),
    click.option("--frames", type=FrameRange(), help="Frames from A up to but not including B [from 0], every STEP-th."),
)

optics_options = _together(
    _number("--pixel-size-nm", "Camera pixel in the object plane [nm]; from the file where it says."),
    _number("--fwhm-nm", "Gaussian PSF: full width at half maximum [nm]."),
    _number("--wavelength-nm", "Airy PSF: emission wavelength [nm]; with --na."),
    _number("--na", "Airy PSF: numerical aperture [no unit]; with --wavelength-nm."),
    click.option("--psf", "psf_path", type=FILE, help="Image of a measured PSF, a bead's say, .tif or .npy [any unit]."),
    _number("--psf-pixel-nm", "Pixel of the image in --psf, in the object plane [nm]; from the file where it says."),
    _number(
        "--psf-width", "How many times as wide the PSF is as described [relative; 1 takes it as it is]; if not given, read "
        "from the stack's flicker where that is clear.",
    ),
    _number("--row-shift", "Odd rows from even ones in a scan [camera pixels; 0: none].", said="as the stack clearly shows"),
    _number("--factor", "Fine pixels per camera pixel and axis [whole number].", 4, int),
)  # fmt: skip

camera_options = _together(
    _number("--gain", "Camera counts per detected photon [counts]; estimated if not given."),
    _number("--offset", "Camera counts without light [counts]; estimated if not given."),
    _number("--noise-std", "Standard deviation of the read noise [counts]; estimated if not given."),
    _number("--photons-per-emitter", "Detected photons of one emission [photons]; estimated if not given."),
    click.option("--offset-map", type=FILE, help="Image of the offset of every pixel, in place of --offset [counts]."),
    click.option("--gain-map", type=FILE, help="Image of the gain of every pixel, in place of --gain [counts]."),
)

device_options = _together(
    click.option(
        "--backend", type=click.Choice(["auto", "numpy", "cupy"]), default="auto", show_default=True,
        help="What computes; auto takes a usable GPU if there is one.",
    ),
    _number("--device", "Number of the CUDA device [from 0].", kind=int),
)  # fmt: skip

solver_options = _together(
    click.option(
        "--binning", type=click.Choice(["sum", "point"]), default="sum", show_default=True,
        help="A camera pixel integrates its fine pixels, or samples one.",
    ),
    click.option(
        "--method", type=click.Choice(METHODS),
        help="The critic: moments, the best quadratic one, in closed form; likelihood: all that the frames say, by drawing "
        "their emissions; auto: moments, then likelihood unless unseen frames speak against it; none: the mean alone; "
        "else a network that is trained, and the estimator of its gradient. "
        "[default: moments, for sweep none]",
    ),
    _number("--steps", "At most so many steps with the critic.", kind=int, said="40"),
    _number("--warm-steps", "At most so many steps on the mean before the critic.", kind=int, said="as the light deserves"),
    _number("--fidelity", "Weight of the mean's fit against the critic [relative; 1 is balanced].", said="1"),
    _number("--sparsity", "Weight of the l1 norm of x where it is dark [relative to the noise in its gradient].", said="2"),
    _number("--total-variation", "Weight of the edges of x: higher is flatter [relative to the brightest light].", said="0.15"),
    _number("--smoothness", "Length over which the background may vary [camera pixels].", said="2.6 to 5.2, by the stack"),
    _number("--detail", "Finest detail of x in bright light; coarser in dim [fraction of the PSF's width].", said="0.09"),
    _number("--seed", "Seed of everything random [whole number].", kind=int, said="0"),
)  # fmt: skip

vary_option = click.option(
    "--vary", type=Values(), multiple=True,
    help="Option of the solver, or fwhm_nm, and the values to try; may be repeated: all combinations are tried "
    "[each in the unit of its switch]. Nine settings of detail and total_variation if not given.",
)  # fmt: skip

simulation_options = _together(
    click.option(
        "--model", type=click.Choice(["blinking", "double-poisson"]), default="blinking", show_default=True,
        help="Emitters that blink in front of a camera, or the paper's model.",
    ),
    click.option(
        "--separations-nm", type=Numbers(float, "NM,NM,..."), default="180", show_default=True,
        help="Distance of the two middle lines, one per group of four lines [nm].",
    ),
    click.option(
        "--size", type=Numbers(int, "ROWS,COLUMNS", 2),
        help="Field [camera pixels]; just large enough for all groups if not given.",
    ),
    _number("--frames", "Number of frames.", 500, int),
    _number("--pixel-size-nm", "Camera pixel in the object plane [nm].", 100.0),
    _number("--fwhm-nm", "Full width at half maximum of the Gaussian PSF [nm].", 318.0),
    _number("--factor", "Fine pixels per camera pixel and axis, of the truth [whole number].", 4, int),
    _number("--brightness", "Brightest camera pixel, background apart [detected photons per frame].", 160.0),
    _number("--background", "Background of a camera pixel [detected photons per frame].", 10.0),
    _number("--photons-per-emitter", "Photons of one emission, double-poisson only [photons].", 1.0),
    _number("--gain", "Counts per detected photon [counts].", 2.2),
    _number("--offset", "Counts without light [counts].", 100.0),
    _number("--noise-std", "Standard deviation of the read noise [counts].", 3.0),
    _number("--seed", "The same seed gives the same files [whole number].", 0, int),
)  # fmt: skip


background_option = click.option(
    "--background", metavar="NUMBER|FILE",
    help="Background that is known, and not fitted: a number, or an image of a place without sample "
    "[counts as recorded, offset included].",
)  # fmt: skip


def output_option(what: str, default: str | None = None) -> Decorator:
    """``--output DIR``, required unless there is a default."""
    # click from 8.3 on takes default=None for a value, with which "required" is met
    rest: dict[str, Any] = {"required": True} if default is None else {"default": default, "show_default": True}
    return click.option("--output", metavar="DIR", type=FILE, help=f"Directory for {what}; made if need be.", **rest)


# -- from options to objects -------------------------------------------------------------------------------------------


def given(settings: dict[str, Any], *names: str) -> dict[str, Any]:
    """Those of the settings that were given: what was not keeps the library's own default."""
    return {name: settings[name] for name in names if settings[name] is not None}


def values_to_vary(given: tuple[tuple[str, tuple[Any, ...]], ...]) -> dict[str, tuple[Any, ...]] | None:
    """What each ``--vary`` said, by name; None if there was none."""
    names = [name for name, _ in given]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"--vary names {name} twice: give all its values in one, {name}=v1,v2,...")
    return dict(given) or None


def stack_from(path: Path, settings: dict[str, Any]) -> Stack:
    """Read the stack, its region and frames as chosen, less the frames that stand apart."""
    from ..calibration.odd_frames import without_odd_frames
    from ..io.stack import read_stack

    stack, note = without_odd_frames(read_stack(path, roi=settings["roi"], frames=settings["frames"]))
    if note:
        log.warning("%s", note)
    return _with_equal_pixels(stack, settings)


def _with_equal_pixels(stack: Stack, settings: dict[str, Any]) -> Stack:
    """The stack as a camera with equal pixels would have written it, if there are maps; settings then hold gain and offset."""
    from dataclasses import replace

    from ..calibration.pixel_maps import corrected_counts

    paths = given(settings, "offset_map", "gain_map")
    if not paths:
        return stack
    twice = [name for name in ("gain", "offset") if f"{name}_map" in paths and settings[name] is not None]
    if twice:
        raise ValueError(f"--{twice[0]} and --{twice[0]}-map are both given: leave one of the two out")
    if "offset_map" not in paths:
        raise ValueError("--gain-map needs --offset-map: the gain applies to counts above each pixel's offset")
    maps = {name: _image_of_field(path, settings["roi"]) for name, path in paths.items()}
    frames, camera = corrected_counts(stack, **maps)
    settings |= camera
    return replace(stack, frames=frames)


def operator_for(stack: Stack, settings: dict[str, Any], backend: Backend) -> tuple[Psi, float]:
    """Psi of the stack's field with the PSF as described, and the camera pixel in nm: as given, else as the file says."""
    return operator_of(stack.frames.shape[1:], stack.pixel_size_nm, stack.path, settings, backend)


def operator_of(
    shape: tuple[int, ...], stated_nm: float | None, path: Path | None, settings: dict[str, Any], backend: Backend
) -> tuple[Psi, float]:
    """:func:`operator_for` of a field (M1, M2) whose file states this camera pixel."""
    from ..backend.checks import real_number, whole_number
    from ..physics.psi import Psi

    pixel = settings["pixel_size_nm"] if settings["pixel_size_nm"] is not None else stated_nm
    if pixel is None:
        raise ValueError(f"{path} does not say how large its pixels are; give --pixel-size-nm")
    pixel = real_number(pixel, "--pixel-size-nm", low=0, open_low=True)
    factor, (rows, columns) = whole_number(settings["factor"], "--factor", low=1), shape
    psf = psf_from(settings, pixel, factor)
    return Psi(psf, (rows, columns), factor, binning=settings.get("binning", "sum"), backend=backend), pixel


def psf_from(settings: dict[str, Any], pixel_size_nm: float, factor: int) -> np.ndarray:
    """The PSF on the fine grid from the one of three descriptions that was given."""
    from ..backend.checks import real_number
    from ..io.stack import read_image
    from ..physics.psf import airy_psf, gaussian_psf, measured_psf

    fwhm_nm, wavelength_nm, na, path = (settings[name] for name in ("fwhm_nm", "wavelength_nm", "na", "psf_path"))
    airy = wavelength_nm is not None or na is not None
    if (fwhm_nm is not None) + airy + (path is not None) != 1:
        raise ValueError("describe the PSF in one way: --fwhm-nm, or --wavelength-nm with --na, or --psf FILE")
    if settings["psf_pixel_nm"] is not None and path is None:
        raise ValueError("--psf-pixel-nm is the pixel of the image in --psf; give that too, or leave it out")
    if fwhm_nm is not None:
        return gaussian_psf(fwhm_nm, pixel_size_nm, factor)
    if airy:
        if wavelength_nm is None or na is None:
            raise ValueError("an Airy PSF needs both --wavelength-nm and --na")
        return airy_psf(wavelength_nm, na, pixel_size_nm, factor)
    image, stated_nm = read_image(path)
    psf_pixel_nm = settings["psf_pixel_nm"] if settings["psf_pixel_nm"] is not None else stated_nm
    fine_nm = pixel_size_nm / factor
    if psf_pixel_nm is None:
        raise ValueError(
            f"{path} does not say how large its pixels are; give --psf-pixel-nm (the stack's are {pixel_size_nm:g} nm, "
            f"those of the fine grid {fine_nm:g} nm)"
        )
    psf_pixel_nm = real_number(psf_pixel_nm, "--psf-pixel-nm", low=0.02 * fine_nm, high=50 * fine_nm)
    return measured_psf(image, zoom=psf_pixel_nm / fine_nm)


def calibration_from(stack: Stack, psi: Psi, settings: dict[str, Any]) -> Calibration:
    """Width of the PSF, camera, emitters, noise and bad pixels: as given, else measured on the stack."""
    from ..calibration.calibrate import calibrate

    return calibrate(stack, psi, **given(settings, *CALIBRATION_OPTIONS))


def background_from(value: str | None, camera: Camera, settings: dict[str, Any]) -> np.ndarray | float | None:
    """A background that is given in counts, a number or the name of an image file, in photons above the offset."""
    import numpy as np

    from ..backend.checks import real_number

    if value is None:
        return None
    try:
        counts = float(value)
    except ValueError:
        return np.maximum(camera.to_photons(_image_of_field(Path(value), settings["roi"])), 0)
    if real_number(counts, "--background") < camera.offset:
        raise ValueError(
            f"--background {counts:g} is below the camera's offset of {camera.offset:.6g} counts: give it in counts as "
            "recorded, the offset included"
        )
    return (counts - camera.offset) / camera.gain


def _image_of_field(path: Path, roi: tuple[int, int, int, int] | None) -> np.ndarray:
    """An image of the stack's region: as it is if it has its size, else cut out of one of the whole field."""
    from ..io.stack import read_image

    image, _ = read_image(path)
    if roi is None or image.shape == tuple(roi[2:]):
        return image
    top, left, rows, columns = roi
    return image[top : top + rows, left : left + columns]


def estimate_from(stack: Stack, settings: dict[str, Any]) -> CameraEstimate:
    """The camera of a stack whose PSF nobody described; what is not given is estimated."""
    from ..calibration.camera import estimate_camera

    return estimate_camera(stack, **given(settings, *CAMERA_OPTIONS))
