"""The critic of your own on every perturbed frame: ``python -m benchmarks differences --critic mine.py:Net [--psf psf.npy]``.

``Net`` is a torch module, or a class or function that is called with the field's shape (M1, M2) and returns one.  It maps
frames (S, M1, M2), counts above the offset, to scores (S,).  Ways are compared with torch in float64 before they are timed, and
are timed in turn.
"""

from __future__ import annotations

import argparse
import copy
import runpy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import fluogan_core as fg
from fluogan_core.backend import dlpack
from fluogan_core.critics import scores as critic_scores
from fluogan_core.critics.lattice import Lattice
from fluogan_core.physics.photons import PlacementTable, draw_photons

from ._cases import BACKGROUND, FWHM_NM, LIGHT, PIXEL_NM, line_image
from ._harness import Alternative, Options, Report, sampled
from ._tables import plain

__all__ = ["critic_of", "main", "run"]


def critic_of(words: str, shape: tuple[int, int]) -> nn.Module:
    """Return the critic that ``FILE.py:NAME`` says, in evaluation mode."""
    file, _, name = words.rpartition(":")
    path = Path(file)
    if not name or path.suffix != ".py" or not path.is_file():
        raise SystemExit(f"--critic takes FILE.py:NAME with a file that exists, such as mine.py:Net; got {words}")
    namespace = runpy.run_path(str(path))
    if name not in namespace:
        raise SystemExit(f"{path.name} has no {name}")
    found = namespace[name]
    critic = found(shape) if callable(found) and not isinstance(found, nn.Module) else found
    if not isinstance(critic, nn.Module):
        raise SystemExit(f"{words} must be a torch module, or give one for a shape (M1, M2); got {type(critic).__name__}")
    return critic.eval()


def run(
    words: str,
    options: Options,
    *,
    psf: np.ndarray | None = None,
    factor: int = 4,
    size: int = 32,
    batch: int = 4,
    kappa: float = 1.0,
) -> Report:
    """Measure a critic of the user's on a field of ``size`` x ``size`` camera pixels with lines on it."""
    if psf is None:
        psf = fg.gaussian_psf(FWHM_NM, PIXEL_NM, factor)
    psi = fg.Psi(psf, (size, size), factor, photons_per_emitter=kappa, backend=options.backend)
    lines = line_image(size)
    side = lines.shape[0] * np.arange(psi.fine_shape[0]) // psi.fine_shape[0]
    x = psi.backend.asarray(lines[np.ix_(side, side)] * (LIGHT / kappa), np.float32)
    model = fg.ForwardModel(psi)
    y = model.sample(x, psi.backend.asarray(np.full(psi.shape, BACKGROUND), np.float32), batch, options.seed)
    critic = critic_of(words, psi.shape).to(psi.backend.device)
    report = Report("differences", options)
    evaluator, batched = fg.CriticEvaluator(critic, psi.shape, psi.backend), _Batched(critic, psi.shape)
    pixels = size * size
    some = np.unique(np.linspace(0, pixels - 1, min(pixels, options.pick(1024, 16))).astype(np.int64))
    _agree(report, critic, evaluator, y, some[:: max(1, len(some) // 64)], model.gain)
    first = dlpack.to_tensor(y)[0]
    alternatives = [
        Alternative("exact", lambda: evaluator.pixel_differences(y, model.gain), batch),
        Alternative("torch, one backward", lambda: critic_scores.critic_input_gradient(critic, y), batch),
        sampled("torch, batched", lambda: batched(first, some, model.gain), len(some), pixels, 1),
    ]
    setting = {"size": size, "batch": batch, "critic": str(critic), "torch_chunk": batched.chunk}
    more: dict[str, Any] = {"per": "frame", "seconds": options.pick(8, 0), "reference": "torch, batched", "setting": setting}
    report.measure("One more photon in every camera pixel, per frame", f"{size}x{size}", alternatives, **more)
    table, numbers = PlacementTable(psi), np.arange(batch)

    def coupled(spacing: int | str) -> Callable[[], Any]:
        lattice = Lattice(psi, spacing)
        return lambda: evaluator.photon_differences(
            y, draw_photons(table, lattice.indices, numbers, seed=options.seed, step=0), model.gain
        )

    emissions = [Alternative("coupled, coarse lattice", coupled("auto"), batch)]
    if not options.quick:
        emissions.append(Alternative("coupled, every fine pixel", coupled(1), batch))
    more = {"per": "frame", "seconds": options.pick(8, 0), "setting": setting}
    report.measure("The photons of one more emission in every fine pixel, per frame", f"{size}x{size}", emissions, **more)
    return report


def _agree(report: Report, critic: nn.Module, evaluator: Any, y: Any, pixels: np.ndarray, step: float) -> None:
    """Compare the evaluator with the critic in float64 on some pixels of the first frame."""
    exact = copy.deepcopy(critic).double()
    frame = dlpack.to_tensor(y[:1]).double()
    frames = frame.repeat(len(pixels) + 1, 1, 1)
    frames.view(len(frames), -1)[torch.arange(len(pixels)), torch.as_tensor(pixels)] += step
    with torch.inference_mode():
        scores = exact(frames).cpu().numpy()
    expected = scores[:-1] - scores[-1]
    got = evaluator.backend.to_host(evaluator.pixel_differences(y[:1], step)).ravel()[pixels]
    worst = float(np.abs(got - expected).max() / max(np.abs(expected).max(), 1e-30))
    report.target("exact against the critic in float64: largest error / largest difference", worst, at_most=1e-3)


class _Batched:
    """The critic on batches of perturbed frames, of the size that was fastest."""

    def __init__(self, critic: nn.Module, shape: tuple[int, int]) -> None:
        from ._baselines import seconds_of

        self.critic, pixels = critic, shape[0] * shape[1]
        sizes = sorted({max(1, n // pixels) for n in (2**14, 2**16, 2**18)})
        y = torch.rand((sizes[-1], *shape), device=next(critic.parameters()).device)
        with torch.inference_mode():
            self.chunk = min(sizes, key=lambda size: min(seconds_of(critic, y, size) for _ in range(2)))

    def __call__(self, y: torch.Tensor, pixels: np.ndarray, step: float) -> torch.Tensor:
        parts = []
        with torch.inference_mode():
            base = self.critic(y[None])
            for start in range(0, len(pixels), self.chunk):
                chosen = torch.as_tensor(pixels[start : start + self.chunk], device=y.device)
                frames = y.expand(len(chosen), *y.shape).clone()
                frames.view(len(chosen), -1)[torch.arange(len(chosen), device=y.device), chosen] += step
                parts.append(self.critic(frames) - base)
        return torch.cat(parts)


def main(argv: Sequence[str]) -> int:
    """Command line, after the word ``differences``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks differences", description=__doc__)
    parser.add_argument("--critic", required=True, metavar="FILE.py:NAME")
    parser.add_argument("--psf", type=Path, help="a .npy file: odd sizes, on the fine grid, sum 1 (a Gaussian of 318 nm)")
    parser.add_argument("--factor", type=int, default=4, help="fine pixels per camera pixel (4)")
    parser.add_argument("--size", type=int, default=32, help="camera pixels (32)")
    parser.add_argument("--batch", type=int, default=4, help="frames (4)")
    parser.add_argument("--photons", type=float, default=1.0, help="per emission (1)")
    parser.add_argument("--backend", choices=("numpy", "cupy"), default="numpy")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="one round: does it run?")
    asked = parser.parse_args(argv)
    options = Options(asked.quick, None, asked.backend, asked.seed)
    psf = None if asked.psf is None else np.load(asked.psf)
    more = {"factor": asked.factor, "size": asked.size, "batch": asked.batch, "kappa": asked.photons}
    print(plain(run(asked.critic, options, psf=psf, **more).document()))
    return 0
