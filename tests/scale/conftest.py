"""A small field with curved lines on a background that is not flat, and the plan of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fluogan_core as fg

CAMERA = fg.Camera(gain=2.2, offset=100.0, noise_std=3.0)
KNOWN = {"camera": CAMERA, "photons_per_emitter": 20.0, "psf_width": 1.0}
OPTIONS = fg.SolverOptions(method="none", warm_steps=60)


def operator(shape: tuple[int, int], airy: bool = False) -> fg.Psi:
    psf = fg.airy_psf(580, 0.95, 100, 2) if airy else fg.gaussian_psf(318, 100, 2, truncate=3)
    return fg.Psi(psf, shape, 2, photons_per_emitter=20.0, backend="numpy")


#: What `fluogan_core.scale.prepare` is given here, if nothing else is said.
GIVEN = {"psi": operator((32, 32)), "options": OPTIONS, "tile": 48, "halo": 16} | KNOWN


def scene(shape: tuple[int, int], frames: int, *, seed: int = 0, airy: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Frames, counts, and the emissions that they show."""
    psi, rng = operator(shape, airy), np.random.default_rng(seed)
    x = np.zeros(psi.fine_shape, np.float32)
    for _ in range(shape[0] * shape[1] // 300):
        place, angle, bend = rng.uniform(0, psi.fine_shape), rng.uniform(0, 2 * np.pi), rng.normal(0, 0.02)
        for _ in range(50):
            row, column = place.astype(int)
            if 0 <= row < x.shape[0] and 0 <= column < x.shape[1]:
                x[row, column] += 1
            place, angle = place + np.array([np.sin(angle), np.cos(angle)]), angle + bend
    x *= 150 / float(psi.forward(x).max())
    across = np.linspace(-1, 1, shape[1], dtype=np.float32)
    b = np.broadcast_to(10 + 15 * np.exp(-2 * across**2), shape).astype(np.float32)
    model = fg.ForwardModel(psi, gain=CAMERA.gain, noise_std=CAMERA.noise_std)
    counts = model.sample(x, b, frames, seed) + np.float32(CAMERA.offset)
    return np.rint(counts).clip(0, 65535).astype(np.uint16), x


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 x 96 pixels, 40 frames, as a file."""
    path = tmp_path_factory.mktemp("recording") / "stack.npy"
    np.save(path, scene((64, 96), 40)[0])
    return path


def tiled(recording: object, folder: Path, **settings: object) -> fg.scale.Plan:
    """A reconstruction with what is usual here."""
    usual = {"psi": operator((32, 32)), "options": OPTIONS, "tile": 48, "halo": 16, "progress": False} | KNOWN
    return fg.scale.reconstruct_tiles(recording, folder, **(usual | settings))


def images(plan: fg.scale.Plan) -> dict[str, np.ndarray]:
    return {name: np.asarray(fg.scale.image(plan, name)) for name in ("x", "b")}
