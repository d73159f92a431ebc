"""What is measured on: lines of molecules over a background, the frames they give, and critics trained on them.

Two situations of a reconstruction, both with frames recorded from ``x`` and simulated frames that the critic learns to tell
from them:

* *early*: a residual of the mean is left (the image is blurred and too dim);
* *late*: the mean fits exactly, but half of the light is explained by the background instead of by the molecules, so that
  nothing but the fluctuations differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import ndimage

import fluogan_core as fg
from fluogan_core.backend import dlpack
from fluogan_core.critics.training import CriticTrainer

__all__ = ["FACTOR", "Case", "line_image", "make_case", "make_psi", "tiled_critic", "trained_critic"]

#: Fine pixels per camera pixel, camera pixel and FWHM in nm.
FACTOR, PIXEL_NM, FWHM_NM = 4, 100.0, 318.0
#: Photons per lit fine pixel and frame, and background photons per camera pixel and frame.
LIGHT, BACKGROUND = 20.0, 2.0
#: The patch of lines that fields are tiled with, camera pixels.
_TILE = 16


@dataclass(frozen=True)
class Case:
    """A field with its truth, and where a reconstruction stands.

    Attributes
    ----------
    model : ForwardModel
    true_x, true_b : images that the recorded frames come from
    x, b : images that the simulated frames come from
    """

    model: fg.ForwardModel
    true_x: Any
    true_b: Any
    x: Any
    b: Any

    def recorded(self, frames: int, seed: int) -> Any:
        """Frames of the truth, (frames, M1, M2) float32 counts."""
        return self.model.sample(self.true_x, self.true_b, frames, seed + 1)

    def simulated(self, frames: int, seed: int, first_frame: int = 0) -> Any:
        """Frames of the current images."""
        return self.model.sample(self.x, self.b, frames, seed, first_frame=first_frame)


def make_psi(size: int, photons_per_emitter: float, backend: Any, **options: Any) -> fg.Psi:
    """The operator of a ``size`` x ``size`` camera."""
    psf = fg.gaussian_psf(fwhm_nm=FWHM_NM, pixel_size_nm=PIXEL_NM, factor=FACTOR)
    if min(psf.shape) > size * FACTOR:
        half = (size * FACTOR - 1) // 2
        centre = psf.shape[0] // 2
        psf = psf[centre - half : centre + half + 1, centre - half : centre + half + 1]
    return fg.Psi(psf, (size, size), FACTOR, photons_per_emitter=photons_per_emitter, backend=backend, **options)


def airy(size: int) -> np.ndarray:
    """An Airy pattern as wide as the Gaussian, which is no product of two lines."""
    return fg.airy_psf(600.0, 600.0 * 0.51 / FWHM_NM, PIXEL_NM, FACTOR, radius_nm=min(1200.0, 0.45 * size * PIXEL_NM))


def line_image(size: int) -> np.ndarray:
    """Return relative emission of vertical pairs of lines, 100 nm wide and 150 nm apart, one pair per tile, 0 or 1."""
    tile = np.zeros((_TILE * FACTOR, _TILE * FACTOR))
    for start in (20, 26, 44):
        tile[10:54, start : start + 4] = 1.0
    repeats = -(-size // _TILE)
    return np.tile(tile, (repeats, repeats))[: size * FACTOR, : size * FACTOR]


def make_case(size: int, photons_per_emitter: float, phase: str, backend: Any, **options: Any) -> Case:
    """Return the ``"early"`` or ``"late"`` case on a field of ``size`` x ``size`` camera pixels."""
    psi = make_psi(size, photons_per_emitter, backend, **options)
    asarray = psi.backend.asarray
    true_x = line_image(size) * (LIGHT / photons_per_emitter)
    true_b = np.full((size, size), BACKGROUND)
    if phase == "early":
        x, b = 0.9 * ndimage.gaussian_filter(true_x, 2.0, mode="nearest"), true_b
    elif phase == "late":
        x = 0.5 * true_x
        b = true_b + psi.backend.to_host(psi.forward(asarray(x)))
    else:
        raise ValueError(f"phase must be 'early' or 'late', got {phase!r}")
    images = (asarray(image, dtype=np.float32) for image in (true_x, true_b, x, b))
    return Case(fg.ForwardModel(psi), *images)


def trained_critic(case: Case, steps: int, seed: int, *, channels: int = 32, batch: int = 32, depth: int = 3) -> fg.Critic:
    """Train a critic to tell the recorded frames of a case from its simulated ones.

    Parameters
    ----------
    case : Case
    steps : int
        Adam steps.
    seed : int
    channels, depth : int
        Size of the critic.
    batch : int
        Frames of either kind per step.
    """
    model, host = case.model, case.model.backend.to_host
    recorded = case.recorded(500, seed)
    mean, std = host(recorded.mean(axis=0)), host(recorded.std(axis=0))
    critic = fg.Critic(model.psi.shape, channels, depth, input_mean=mean, input_std=std, seed=seed).to(model.backend.device)
    trainer = CriticTrainer(critic, scale=std)
    real = dlpack.to_tensor(recorded)
    generator = np.random.default_rng(seed)
    for step in range(steps):
        simulated = dlpack.to_tensor(case.simulated(batch, seed + 2, first_frame=step * batch))
        chosen = dlpack.to_tensor(model.backend.asarray(generator.integers(len(recorded), size=batch)))
        eta = dlpack.to_tensor(model.backend.asarray(generator.random(batch)))
        trainer.step(real[chosen], simulated, eta)
    return critic


def tiled_critic(critic: fg.Critic, size: int) -> fg.Critic:
    """Return a critic for ``size`` x ``size`` pixels that repeats (or cuts) that of a tile: the same kinks everywhere."""
    old = critic.shape[0]
    repeats = -(-size // old)

    def repeat(image: torch.Tensor, side: int) -> torch.Tensor:
        return image.repeat(*(1,) * (image.ndim - 2), repeats, repeats)[..., :side, :side]

    mean, std = (repeat(v, size).cpu().numpy() for v in (critic.input_mean, critic.input_std))
    family = {"kernel_size": critic.kernel_size, "pool": critic.pool, "negative_slope": critic.negative_slope}
    new = fg.Critic((size, size), critic.channels, critic.depth, input_mean=mean, input_std=std, **family)
    cells, wanted = old // critic.pool**critic.depth, size // critic.pool**critic.depth
    with torch.no_grad():
        for to, source in zip(new.convolutions, critic.convolutions):
            to.load_state_dict(source.state_dict())
        head = critic.head.weight.view(1, -1, cells, cells)
        new.head.weight.copy_(repeat(head, wanted).reshape(1, -1))
        new.head.bias.copy_(critic.head.bias)
    return new.to(critic.head.weight.device)
