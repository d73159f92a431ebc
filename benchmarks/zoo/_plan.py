"""What is drawn of each scene.  A scene depends on the seed and on its number, on nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

__all__ = ["AXES", "BACKGROUNDS", "CAMERAS", "KINETICS", "PSFS", "STRUCTURES", "Scene", "draw_scene"]

STRUCTURES = (
    "pair",
    "bar",
    "mesh",
    "rings",
    "isolated",
    "spiral",
    "blobs",
    "star",
    "filled",
    "sparse and dense",
)
BACKGROUNDS = ("none", "flat", "gradient", "vignetting", "bump", "corner")
PSFS = ("Gaussian", "Airy", "aberrated")
KINETICS = ("eq. (1)", "fast", "slow", "bleaching", "few bright")
CAMERAS = ("uniform", "unequal pixels", "stripes", "EM-CCD", "row shift")
#: Distances of a pair, nm; the bar beside it is as wide as the pair from edge to edge.
SEPARATIONS_NM = (150.0, 180.0, 210.0, 250.0, 300.0, 350.0, 390.0)
LINE_NM = 100.0
#: Length of a side of the field that holds a pair with its outer lines, nm.
_FIELD_NM = 2400.0


@dataclass(frozen=True)
class Scene:
    """The parameters of one recording.

    Attributes
    ----------
    seed, number : int
    structure, background, psf, kinetics, camera : str
        Of the lists of this module.
    separation_nm : float
        Of a pair; of a bar, that of the pair in whose place it stands; else 0.
    light : float
        Photons of the molecules in the brightest camera pixel of the mean frame.  Of few bright molecules it follows from
        ``photons``.
    level : float
        Background, photons per camera pixel and frame, mean over the field.
    fwhm_nm, pixel_nm : float
        Width of the true PSF; camera pixel.
    factor : int
        Fine pixels per camera pixel.
    size : int
        Camera pixels along a side of the field.
    described : float
        Width of the PSF that the methods are told, relative to the true one.
    frames : int
    kappa : float
        Photons per emission of eq. (1).
    on_frames, on_share : float
        Mean duration of an on-time, frames; share of the time that a molecule is on.
    photons : float
        Of one of few bright molecules, per frame that it is on.
    gain, offset, noise : float
        Camera: counts per photon, counts, counts rms.
    excess : float
        Excess noise of the amplification, squared: 2 for EM-CCD.
    pixel_gain, pixel_offset, stripe : float
        Standard deviations of what differs between pixels (relative; counts) and between rows and columns (counts).
    row_shift : float
        Odd rows are displaced by this many pixels, even ones by as many the other way.
    camera_known : bool
        Whether the library is given gain, offset and read noise.
    density : float
        Relative density of molecules, 0 to 1.
    transposed : bool
        Whether lines run along rows.
    """

    seed: int
    number: int
    structure: str
    background: str
    psf: str
    kinetics: str
    camera: str
    separation_nm: float
    light: float
    level: float
    fwhm_nm: float
    pixel_nm: float
    factor: int
    size: int
    described: float
    frames: int
    kappa: float
    on_frames: float
    on_share: float
    photons: float
    gain: float
    offset: float
    noise: float
    excess: float
    pixel_gain: float
    pixel_offset: float
    stripe: float
    row_shift: float
    camera_known: bool
    density: float
    transposed: bool

    @property
    def name(self) -> str:
        """The scene's seed and number."""
        return f"{self.seed}-{self.number:04d}"

    @property
    def fine_nm(self) -> float:
        """Fine pixel, nm."""
        return self.pixel_nm / self.factor

    def document(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def of(cls, document: dict[str, Any]) -> Scene:
        """The scene that :meth:`document` was made of."""
        return cls(**{field.name: document[field.name] for field in fields(cls)})


def _log(rng: np.random.Generator, low: float, high: float) -> float:
    """Uniform in the logarithm, three digits: what is written down is what was drawn."""
    return float(f"{np.exp(rng.uniform(np.log(low), np.log(high))):.3g}")


def draw_scene(seed: int, number: int) -> Scene:
    """Draw the parameters of scene ``number``.

    Structures come in turn, so that each has its share among few scenes; all else is drawn independently of each other, as far
    as physics allows.
    """
    if seed < 0 or number < 0:
        raise ValueError(f"seed and number must not be negative, got {seed} and {number}")
    rng = np.random.default_rng([seed, number])
    turn = np.random.default_rng([seed, number // len(STRUCTURES), 1]).permutation(len(STRUCTURES))
    structure = STRUCTURES[turn[number % len(STRUCTURES)]]
    separation = float(rng.choice(SEPARATIONS_NM))
    light = _log(rng, 1.5, 2000.0)
    background = str(rng.choice(BACKGROUNDS))
    level = 0.0 if background == "none" else float(f"{min(800.0, light * _log(rng, 0.03, 10.0)):.3g}")
    fwhm_nm = float(f"{rng.uniform(240.0, 330.0):.3g}")
    pixel_nm = float(f"{fwhm_nm / rng.uniform(2.0, 4.5):.3g}")
    least = int(np.clip(np.ceil(_FIELD_NM / pixel_nm), 20, 32))
    kinetics = str(rng.choice(KINETICS, p=(0.4, 0.15, 0.15, 0.15, 0.15)))
    # more than some tens of photons of the brightest pixel per emission would leave most frames empty
    kappa = _log(rng, 1.0, min(3000.0, 100.0 * light)) if kinetics == "eq. (1)" else 0.0
    on_frames = {"eq. (1)": 0.0, "fast": _log(rng, 0.2, 0.8), "few bright": _log(rng, 1.0, 6.0)}.get(kinetics)
    camera = str(rng.choice(CAMERAS, p=(0.3, 0.2, 0.15, 0.2, 0.15)))
    amplified = camera == "EM-CCD"
    unequal = camera in ("unequal pixels", "stripes")
    gain = _log(rng, 5.0, 60.0) if amplified else _log(rng, 0.4, 4.0)
    return Scene(
        seed=seed,
        number=number,
        structure=structure,
        background=background,
        psf=str(rng.choice(PSFS, p=(0.5, 0.3, 0.2))),
        kinetics=kinetics,
        camera=camera,
        separation_nm=separation if structure in ("pair", "bar") else 0.0,
        light=light,
        level=level,
        fwhm_nm=fwhm_nm,
        pixel_nm=pixel_nm,
        factor=int(np.clip(round(pixel_nm / 25.0), 2, 6)),
        size=int(rng.integers(least, 33)),
        described=float(rng.choice((0.95, 1.0, 1.05), p=(0.2, 0.6, 0.2))),
        frames=round(_log(rng, 20, 2000)),
        kappa=kappa,
        on_frames=_log(rng, 2.0, 30.0) if on_frames is None else on_frames,
        on_share=0.0 if kinetics == "eq. (1)" else _log(rng, 0.02, 0.3),
        photons=_log(rng, 500.0, 3000.0) if kinetics == "few bright" else 0.0,
        gain=gain,
        offset=_log(rng, 500.0, 2000.0) if amplified else 100.0,
        noise=_log(rng, 8.0, 40.0) if amplified else float(f"{gain * rng.uniform(0.5, 2.5):.3g}"),
        excess=2.0 if amplified else 1.0,
        pixel_gain=_log(rng, 0.01, 0.05) if unequal else 0.0,
        # nobody records light that is below what the pixels themselves differ by
        pixel_offset=float(f"{gain * min(_log(rng, 0.1, 1.0), 0.1 * light):.3g}") if unequal else 0.0,
        stripe=float(f"{gain * min(_log(rng, 0.1, 1.0), 0.1 * light):.3g}") if camera == "stripes" else 0.0,
        row_shift=_log(rng, 0.08, 0.25) if camera == "row shift" else 0.0,
        camera_known=bool(rng.random() < 0.5),
        density=float(f"{rng.random():.3g}"),
        transposed=bool(rng.random() < 0.5),
    )


def _band(value: float, edges: tuple[float, ...], unit: str = "") -> str:
    """The interval that holds a value, in words."""
    k = int(np.searchsorted(edges, value, side="right"))
    if k == 0:
        return f"below {edges[0]:g}{unit}"
    return f"{edges[k - 1]:g}{unit} and more" if k == len(edges) else f"{edges[k - 1]:g} to {edges[k]:g}{unit}"


#: Axis of the report -> where a scene lies on it; the second argument is the light in the brightest pixel, photons.
AXES: dict[str, Callable[[Scene, float], str]] = {
    "structure": lambda s, light: s.structure,
    "background": lambda s, light: s.background,
    "background over light": lambda s, light: _band(s.level / light, (0.1, 1.0, 3.0)),
    "photons in the brightest pixel": lambda s, light: _band(light, (10.0, 100.0, 500.0)),
    "frames": lambda s, light: _band(s.frames, (50.0, 200.0, 700.0)),
    "PSF": lambda s, light: s.psf,
    "PSF described": lambda s, light: {0.95: "5 % narrow", 1.0: "right", 1.05: "5 % wide"}[s.described],
    "PSF, camera pixels": lambda s, light: _band(s.fwhm_nm / s.pixel_nm, (2.6, 3.5)),
    "kinetics": lambda s, light: f"eq. (1), κ {_band(s.kappa, (10.0, 100.0))}" if s.kappa else s.kinetics,
    "camera": lambda s, light: s.camera,
    "camera values": lambda s, light: "given" if s.camera_known else "from the stack",
}
