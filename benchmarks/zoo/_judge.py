"""How far an image is from the molecules' light, what became of each structure's light, of pairs and of bars."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from fluogan_core.metrics import pair_report

from ._recording import Recording

__all__ = ["Judge", "Verdict"]

#: FWHM of the blurs in which images are compared, nm.
BLURS_NM = (60.0, 100.0)
#: Camera pixels at the border that are not judged: their light comes from beyond it too.
_BORDER = 2
#: Structures are what lies within this many FWHM of one another's molecules.
_REACH = 0.75
#: Structures with less than this share of the light are not judged by it.
_LEAST = 0.02
_FWHM_PER_SIGMA = 2.3548


@dataclass(frozen=True)
class Verdict:
    """One image judged.

    Attributes
    ----------
    nrmse : dict of str to float
        By blur ("60", "100"): root-mean-square error over that of the truth.
    correlation : dict of str to float
        Pearson's.
    light : list of (truth, found, standard error)
        Per structure, photons per frame; empty for images without a unit.
    two : bool or None
        Of a pair or a bar: whether two lines are there.
    """

    nrmse: dict[str, float]
    correlation: dict[str, float]
    light: list[tuple[float, float, float]]
    two: bool | None

    def document(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


class Judge:
    """Judges images of one recording."""

    def __init__(self, recording: Recording) -> None:
        self.recording, scene = recording, recording.scene
        border = _BORDER * scene.factor
        self._inside = (slice(border, -border), slice(border, -border))
        self._truth = {f"{blur:g}": self._blurred(recording.light, blur) for blur in BLURS_NM}
        self.structures = self._structures()

    def _blurred(self, image: np.ndarray, fwhm_nm: float) -> np.ndarray:
        sigma = fwhm_nm / _FWHM_PER_SIGMA / self.recording.scene.fine_nm
        return ndimage.gaussian_filter(np.asarray(image, np.float64), sigma, mode="constant")[self._inside]

    def _structures(self) -> list[tuple[np.ndarray, float, float]]:
        """Mask on the fine grid, true light, and standard error of the mean frame in it, of each structure."""
        light, scene = self.recording.light, self.recording.scene
        radius = _REACH * self.recording.fwhm_nm / scene.fine_nm
        near = ndimage.distance_transform_edt(light <= 1e-4 * light.max()) <= radius
        inside = np.zeros_like(near)
        inside[self._inside] = near[self._inside]
        labels, count = ndimage.label(inside)
        variance = np.kron(self.recording.variance_of_mean, np.ones((scene.factor, scene.factor))) / scene.factor**2
        stripe = (scene.stripe / scene.gain) ** 2
        found = []
        for label in range(1, count + 1):
            mask = labels == label
            truth = float(light[mask].sum())
            if truth >= _LEAST * light.sum():
                share = mask.reshape(scene.size, scene.factor, scene.size, scene.factor).mean(axis=(1, 3))
                # pixels of one row, or column, have one stripe in common: their errors add up
                common = sum((share.sum(axis=axis) ** 2 - (share**2).sum(axis=axis)).sum() for axis in (0, 1))
                found.append((mask, truth, float(np.sqrt(variance[mask].sum() + stripe * common))))
        return found

    def __call__(self, x: np.ndarray, *, has_unit: bool = True) -> Verdict:
        """Judge an image on the fine grid, photons per fine pixel and frame unless it has no unit."""
        if x.shape != self.recording.light.shape or not np.isfinite(x).all():
            raise ValueError(f"an image must be finite and of shape {self.recording.light.shape}, got {x.shape}")
        errors, correlations = {}, {}
        for name, truth in self._truth.items():
            image = self._blurred(x, float(name))
            power = float((image**2).sum())
            scale = 1.0 if has_unit else (float((image * truth).sum()) / power if power > 0 else 0.0)
            errors[name] = float(np.linalg.norm(scale * image - truth) / np.linalg.norm(truth))
            spread = float(image.std() * truth.std())
            correlations[name] = float(((image - image.mean()) * (truth - truth.mean())).mean() / spread) if spread > 0 else 0.0
        light = [(truth, float(x[mask].sum()), error) for mask, truth, error in self.structures] if has_unit else []
        return Verdict(errors, correlations, light, self._two(x))

    def _two(self, x: np.ndarray) -> bool | None:
        """Whether a pair, or a bar, comes out as two lines by Rayleigh's rule."""
        if self.recording.lines is None:
            return None
        upright = x.T if self.recording.scene.transposed else x
        return bool(pair_report(np.asarray(upright, np.float64), self.recording.pattern()).resolved)
