"""Poisson draws: the counter-based kernels against NumPy's and torch's generators.

The whole forward model (emission, blur, detection) on lines and on a field that is lit everywhere, then the draws alone by
mean.  NumPy draws with one thread, as it does for a user; torch and the kernels take all cores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import fluogan_core as fg
from fluogan_core.backend import dlpack, random
from fluogan_core.backend.random import Stage

from ._cases import FACTOR, line_image, make_psi
from ._harness import Alternative, Options, Report, main, sampled

#: Means of the draws alone: nearly dark, by inversion, by transformed rejection.
MEANS = (0.05, 1.0, 30.0)
NUMPY = "NumPy"


def run(options: Options) -> Report:
    """Measure everything."""
    report = Report("sampling", options)
    frames = options.pick(200, 4)
    for size in options.pick((16, 32, 64), (8,)):
        images = {"lines": line_image(size) * 20.0, "lit everywhere": np.full((size * FACTOR,) * 2, 1.0)}
        for name, x in images.items():
            _model(report, size, name, x, frames)
    for mean in MEANS:
        _draws(report, options.pick(128, 16), mean, frames)
    return report


def _model(report: Report, size: int, name: str, x: np.ndarray, frames: int) -> None:
    """Frames of eq. (1)."""
    options, fine = report.options, size * FACTOR
    psi = make_psi(size, 1.0, options.backend)
    model = fg.ForwardModel(psi)
    asarray = psi.backend.asarray
    image, background = asarray(x, dtype=np.float32), asarray(np.full((size, size), 2.0), dtype=np.float32)
    device = psi.backend.device
    rate = torch.as_tensor(x, dtype=torch.float32, device=device).expand(frames, fine, fine)

    def with_torch() -> Any:
        blurred = psi.forward(dlpack.to_array(torch.poisson(rate), psi.backend))
        return torch.poisson(dlpack.to_tensor(psi.backend.xp.maximum(blurred, 0) + background))

    alternatives = [
        Alternative("ForwardModel.sample", lambda: model.sample(image, background, frames, options.seed), frames),
        Alternative("torch.poisson", with_torch, frames, note="the same Psi between the draws"),
    ]
    left_out = {}
    if psi.backend.name == "numpy":
        generator = np.random.default_rng(options.seed)

        def with_numpy() -> Any:
            emitted = generator.poisson(np.broadcast_to(x, (frames, fine, fine))).astype(np.float32)
            return generator.poisson(np.maximum(psi.forward(emitted), 0) + background).astype(np.float32)

        alternatives.append(Alternative(NUMPY, with_numpy, frames, note="the same Psi between the draws"))
    else:
        left_out[NUMPY] = "draws on the host only"
    medians = report.measure(
        f"{frames} frames of eq. (1), the blur included, per frame",
        f"{fine}x{fine} fine pixels, {name}",
        alternatives,
        per="frame",
        seconds=options.pick(3, 0),
        reference=NUMPY if NUMPY not in left_out else "torch.poisson",
        setting={"size": size, "frames": frames, "lit": float((x > 0).mean())},
        left_out=left_out,
    )
    if (fine, frames) == (128, 200) and NUMPY in medians:
        ratio = medians[NUMPY] / medians["ForwardModel.sample"]
        report.target(f"sampler against NumPy, 200 frames of 128x128 fine pixels, {name}", ratio, at_least=5.0)


def _draws(report: Report, fine: int, mean: float, frames: int) -> None:
    """Poisson counts of one mean, no blur."""
    options, backend = report.options, report.backend
    x = backend.xp.full((fine, fine), mean, dtype=np.float32)
    rate = torch.full((frames, fine, fine), mean, device=backend.device)
    model = fg.ForwardModel(make_psi(fine // FACTOR, 1.0, backend))
    numbers = np.arange(frames)
    draws = float(frames * fine * fine)
    alternatives = [
        Alternative("emissions", lambda: model.emissions(x, numbers, options.seed, 0), draws),
        Alternative("torch.poisson", lambda: torch.poisson(rate), draws),
    ]
    if backend.name == "numpy":
        generator = np.random.default_rng(options.seed)
        means = np.full((frames, fine, fine), mean)
        few = min(4, frames)
        alternatives += [
            sampled("array code (the oracle)", _oracle(means, options.seed, few), few, frames, draws),
            Alternative(NUMPY, lambda: generator.poisson(means), draws),
        ]
    report.measure(
        f"{frames} x {fine} x {fine} Poisson draws, per draw",
        f"mean {mean:g}",
        alternatives,
        per="draw",
        seconds=options.pick(3, 0),
        reference=NUMPY if backend.name == "numpy" else "torch.poisson",
        setting={"fine": fine, "frames": frames, "mean": mean},
    )


def _oracle(means: np.ndarray, seed: int, frames: int) -> Callable[[], np.ndarray]:
    """The same counts in array code, of the first few frames."""
    some = means[:frames].reshape(frames, -1)
    frame, pixel = np.arange(frames)[:, None], np.arange(some.shape[1])[None, :]
    return lambda: random.poisson(some, seed, Stage.EMISSION, 0, frame, pixel)


if __name__ == "__main__":
    main("sampling", run)
