"""The critic on every perturbed frame: kernels, batched torch, one backward pass, and a loop over pixels.

The critic is trained (kinks lie where training puts them) on a 16 x 16 tile and repeated over the field.  Alternatives that
would take minutes are timed on a sample of the perturbations and scaled; the tables mark them with an asterisk.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch

import fluogan_core as fg
from fluogan_core.backend import dlpack
from fluogan_core.critics import scores as critic_scores
from fluogan_core.critics.evaluator import CriticEvaluator
from fluogan_core.critics.lattice import Lattice
from fluogan_core.physics.photons import PhotonSets, PlacementTable, draw_photons

from ._baselines import TorchBatched, loop_over_pixels
from ._cases import Case, make_case, tiled_critic, trained_critic
from ._harness import Alternative, Options, Report, main, sampled

TORCH = "torch, batched"
BACKWARD = "torch, one backward"


class _Field:
    """One field size with its case, critic and baselines."""

    def __init__(self, size: int, kappa: float, tile: fg.Critic, options: Options) -> None:
        self.size, self.kappa, self.options = size, kappa, options
        self.case: Case = make_case(size, kappa, "early", options.backend)
        self.critic = tiled_critic(tile, size)
        self.backend, self.psi = self.case.model.backend, self.case.model.psi
        self.evaluator = CriticEvaluator(self.critic, (size, size), self.backend)
        make_network = self.backend.kernel("make_network")
        self.network = None if make_network is None else make_network(**critic_scores.slim_arrays(self.critic, self.backend))

    @cached_property
    def torch(self) -> TorchBatched:
        return TorchBatched(self.critic, self.options.pick(2**18, 0))

    def frames(self, count: int) -> Any:
        return self.case.simulated(count, self.options.seed)

    def kernel(self, y: Any, pruned: bool) -> Callable[[], Any]:
        kernel = self.backend.kernel("critic_differences")
        return lambda: kernel(self.network, y, self.case.model.gain, pruned=pruned)


def run(options: Options) -> Report:
    """Measure everything."""
    report = Report("differences", options)
    tiles = {}
    kappas = options.pick((1.0, 20.0), (1.0,))
    for kappa in kappas:
        case = make_case(16, kappa, "early", options.backend)
        channels = options.pick(32, 4)
        tiles[kappa] = trained_critic(case, options.pick(150, 3), options.seed, channels=channels)
    sizes = options.pick((16, 32, 64, 128), (8,))
    medians = {size: _single(report, size, tiles[1.0]) for size in sizes}
    _single_targets(report, medians)
    _floors(report, tiles[1.0], medians)
    _batches(report, tiles[1.0])
    for kappa in kappas:
        for size in options.pick((32, 64), (8,)):
            _coupled(report, size, kappa, tiles[kappa])
    for kappa in kappas:
        _gradients(report, kappa, tiles[kappa])
    return report


# -- one photon -------------------------------------------------------------------------------------------------------


def _single(report: Report, size: int, tile: fg.Critic) -> dict[str, float]:
    """The table of single-photon differences on one field size."""
    options = report.options
    field = _Field(size, 1.0, tile, options)
    batch = options.pick(16 if size <= 64 else 4, 2)
    y = field.frames(batch)
    tensor = dlpack.to_tensor(y)
    pixels, step = size * size, field.case.model.gain
    some = _spread(pixels, options.pick(max(128, 2**20 // pixels), 16))
    few = _spread(pixels, options.pick(max(4, 2**15 // pixels), 2))
    alternatives = []
    left_out = {}
    if field.network is not None:
        alternatives += [
            Alternative("exact", field.kernel(y, True), batch),
            Alternative("exact, every unit (dense)", field.kernel(y, False), batch),
        ]
        _agreement(report, field, y, some)
    else:
        left_out["exact, every unit (dense)"] = f"no kernel on {field.backend.name}"
        alternatives.append(Alternative("exact", lambda: field.evaluator.pixel_differences(y, step), batch))
    alternatives += [
        Alternative(BACKWARD, lambda: critic_scores.critic_input_gradient(field.critic, y), batch),
        sampled(TORCH, lambda: field.torch.single(tensor[0], some, step), len(some), pixels, 1, field.torch.choice),
        sampled("loop over pixels", lambda: loop_over_pixels(field.critic, tensor, few, step), len(few), pixels, batch),
    ]
    setting = {"size": size, "batch": batch, "torch_chunk": field.torch.chunk, "critic": str(field.critic)}
    return report.measure(
        "Single-photon differences, per frame",
        f"{size}x{size}, batch {batch}",
        alternatives,
        per="frame",
        seconds=options.pick(6, 0),
        reference=TORCH,
        setting=setting,
        left_out=left_out,
    )


def _agreement(report: Report, field: _Field, y: Any, pixels: np.ndarray) -> None:
    """Compare what is timed with torch in float64 on the sampled perturbations of the first frame."""
    step, host = field.case.model.gain, field.backend.to_host
    exact = copy.deepcopy(field.critic).double()
    some = pixels[:: max(1, len(pixels) // 64)]
    frames = np.repeat(host(y[:1]).astype(np.float64), len(some) + 1, axis=0).reshape(len(some) + 1, -1)
    frames[np.arange(len(some)), some] += step
    scores = host(critic_scores.critic_values(exact, field.backend.asarray(frames.reshape(-1, *y.shape[1:]))))
    expected = scores[:-1] - scores[-1]
    got = host(field.kernel(y[:1], True)()).ravel()[some]
    worst = float(np.abs(got - expected).max() / np.abs(expected).max())
    report.target(
        f"exact against torch in float64, {field.size}x{field.size}: largest error / largest difference",
        worst,
        at_most=1e-5,
    )


def _single_targets(report: Report, medians: dict[int, dict[str, float]]) -> None:
    for size, bound in ((32, 50.0), (64, 200.0)):
        if size in medians:
            m = medians[size]
            report.target(f"exact against batched torch, {size}x{size}, batch 16", m[TORCH] / m["exact"], at_least=bound)
            ratio = m["exact"] / m[BACKWARD]
            report.target(f"exact, in units of one torch backward, {size}x{size}, batch 16", ratio, at_most=10.0)
    sizes = [size for size in medians if size >= 32]
    if len(sizes) > 1:
        pixels = np.log([size * size for size in sizes])
        slope = np.polyfit(pixels, np.log([medians[size]["exact"] for size in sizes]), 1)[0]
        report.target("exact: exponent of the time in the number of pixels, 32 to 128", float(slope), at_most=1.1)


def _floors(report: Report, tile: fg.Critic, medians: dict[int, dict[str, float]]) -> None:
    """The work that no bound can avoid, at the rate of a large matrix product: the floor for this kernel and any other."""
    options, rows = report.options, []
    if report.backend.kernel("make_network") is None:
        return
    side = options.pick(2048, 64)
    a, b = (torch.rand((side, side), device=report.backend.device) for _ in range(2))
    name = "large matrix product"
    times = report.measure(
        "Ceiling of this machine", name, [Alternative(name, lambda: a @ b)], per="product", seconds=options.pick(2, 0)
    )
    rate = side**3 / times[name]
    for size, median in medians.items():
        field = _Field(size, 1.0, tile, options)
        frames = 2
        counted = field.backend.xp.zeros((field.critic.depth, 3), dtype=np.int64)
        kernel = field.backend.kernel("critic_differences")
        kernel(field.network, field.frames(frames), field.case.model.gain, counters=counted)
        per_photon = field.backend.to_host(counted) / (frames * size**2)
        channels, taps = field.critic.channels * 2 ** np.arange(field.critic.depth), field.critic.kernel_size**2
        cells = per_photon[:, 0] / channels
        steps = [cells[k] * taps * channels[k] * channels[k + 1] for k in range(field.critic.depth - 1)]
        dense = taps * channels[0] + sum(steps)
        # both passes over the frame, all layers but the last in full, the bounds of the last one and its units that bend
        inputs = [1, *channels[:-1]]
        forward = sum(taps * i * c / field.critic.pool ** (2 * k) for k, (i, c) in enumerate(zip(inputs, channels)))
        bounds = cells[-2] * taps * channels[-1] + per_photon[-1, 2] * taps * channels[-2] if len(channels) > 1 else 0
        left = 2 * forward + taps * channels[0] + sum(steps[:-1]) + bounds
        floor = left * size**2 / rate
        rows.append(
            [
                f"{size}x{size}",
                *(" / ".join(f"{v:.1f}" for v in layer) for layer in per_photon),
                dense / 1e6,
                left / 1e6,
                1e3 * floor,
                median["exact"] / floor,
                median[TORCH] / floor,
            ]
        )
    layers = [f"layer {k + 1}: units touched / suspected / bent" for k in range(tile.depth)]
    columns = ["field", *layers, "million multiply-adds per photon, in full", "those that no pruning of the last layer spares"]
    columns += ["floor, ms per frame", "exact / floor", "torch, batched / floor"]
    note = (
        f"The floor: what is left at the rate of a large float32 matrix product, {rate / 1e9:.0f} thousand million a second. "
        "A set that is carried through in full counts all of the last layer as suspected."
    )
    report.table("Where single photons bend the critic, and the floor", columns, rows, note)


def _batches(report: Report, tile: fg.Critic) -> None:
    """How the time per frame depends on the batch."""
    options = report.options
    field = _Field(options.pick(32, 8), 1.0, tile, options)
    step = field.case.model.gain
    for batch in options.pick((1, 4, 16, 64, 200), (1, 2)):
        y = field.frames(batch)
        report.measure(
            f"Single-photon differences by batch, {field.size}x{field.size}, per frame",
            f"batch {batch}",
            [
                Alternative("exact", lambda y=y: field.evaluator.pixel_differences(y, step), batch),  # type: ignore[misc]
                Alternative(BACKWARD, lambda y=y: critic_scores.critic_input_gradient(field.critic, y), batch),  # type: ignore[misc]
            ],
            per="frame",
            seconds=options.pick(2.5, 0),
            setting={"size": field.size, "batch": batch},
        )


# -- the photons of one more emission ---------------------------------------------------------------------------------


def _coupled(report: Report, size: int, kappa: float, tile: fg.Critic) -> None:
    """D(y + P(C_i)) - D(y) for every fine pixel i, the drawing of the photons included."""
    options = report.options
    field = _Field(size, kappa, tile, options)
    batch = options.pick(4 if size <= 32 else 1, 1)
    y = field.frames(batch)
    numbers, table, step = np.arange(batch), PlacementTable(field.psi), field.case.model.gain
    full, coarse = Lattice(field.psi, 1), Lattice(field.psi, "auto")

    def draw(lattice: Lattice, frames: np.ndarray) -> PhotonSets:
        return draw_photons(table, lattice.indices, frames, seed=options.seed, step=0)

    def evaluate(lattice: Lattice) -> None:
        values = field.evaluator.photon_differences(y, draw(lattice, numbers), step).reshape(batch, -1)
        for row in values:
            lattice.fill(row)

    every = len(full.indices)
    sets = draw(full, numbers[:1])
    starts, pixels = (field.backend.to_host(part) for part in (sets.starts, sets.pixels))
    lengths = np.diff(starts)
    filled = np.flatnonzero(lengths)
    count = options.pick(max(128, 2**20 // size**2), 16)
    tensor = dlpack.to_tensor(y)[0]

    def torch_on(chosen: np.ndarray) -> Callable[[], torch.Tensor]:
        owners = np.repeat(np.arange(len(chosen)), lengths[chosen])
        places = np.concatenate([pixels[starts[p] : starts[p + 1]] for p in chosen])
        return lambda: field.torch.sets(tensor, owners, places, len(chosen), step)

    some, some_filled = _spread(every, count), filled[_spread(len(filled), count)]
    medians = report.measure(
        "Coupled differences for every fine pixel, photons drawn, per frame",
        f"{size}x{size}, kappa {kappa:g}",
        [
            Alternative("coupled, every fine pixel", lambda: evaluate(full), batch),
            Alternative("coupled, coarse lattice", lambda: evaluate(coarse), batch),
            sampled(TORCH, torch_on(some), len(some), every, 1, field.torch.choice),
            sampled("torch, batched, empty sets skipped", torch_on(some_filled), len(some_filled), len(filled), 1),
        ],
        per="frame",
        seconds=options.pick(7, 0),
        reference=TORCH,
        setting={
            "size": size,
            "batch": batch,
            "photons_per_emitter": kappa,
            "perturbations": every,
            "lattice": coarse.spacing,
            "nodes": len(coarse.indices),
            "empty": int(every - len(filled)),
            "single": int((lengths == 1).sum()),
            "torch_chunk": field.torch.chunk,
        },
    )
    bounds = {(32, 1.0): 60.0, (32, 20.0): 20.0, (64, 1.0): 100.0, (64, 20.0): 100.0}
    if (size, kappa) in bounds:
        nodes = f"from {len(coarse.indices)} nodes, the default"
        for how, row in ((nodes, "coarse lattice"), ("each evaluated", "every fine pixel")):
            report.target(
                f"coupled, all {every} perturbations ({how}), against batched torch, {size}x{size}, kappa {kappa:g}",
                medians[TORCH] / medians[f"coupled, {row}"],
                at_least=bounds[size, kappa],
            )


# -- whole gradients --------------------------------------------------------------------------------------------------


def _gradients(report: Report, kappa: float, tile: fg.Critic) -> None:
    """critic_gradient from sampling to the gradient, and what the extra time of "corrected" buys."""
    options = report.options
    field = _Field(options.pick(32, 8), kappa, tile, options)
    case, frames = field.case, options.pick(200, 32)
    less, some = options.pick((8, 64), (2, 8))

    def gradient(method: str, count: int, **more: Any) -> tuple[Any, ...]:
        return fg.critic_gradient(field.critic, case.model, case.x, case.b, count, options.seed, method, **more)

    medians = report.measure(
        f"critic_gradient on {frames} frames of {field.size}x{field.size}, sampling included",
        f"kappa {kappa:g}",
        [
            Alternative("linear", lambda: gradient("linear", frames)),
            Alternative("corrected", lambda: gradient("corrected", frames)),
            sampled("photon", lambda: gradient("photon", some), some, frames, 1),
            sampled("coupled", lambda: gradient("coupled", less), less, frames, 1),
        ],
        per="gradient",
        seconds=options.pick(6, 0),
        reference="coupled",
        setting={"size": field.size, "frames": frames, "photons_per_emitter": kappa},
    )
    report.target(
        f"corrected, in units of linear, {frames} frames, kappa {kappa:g}",
        medians["corrected"] / medians["linear"],
        at_most=2.0,
    )
    # coupled states its own error; that of "corrected" is an upper bound, so its scatter over repeats is taken
    coupled_frames = options.pick(24, 4)
    coupled_error = gradient("coupled", coupled_frames, with_error=True)[2] * math.sqrt(coupled_frames / frames)
    repeats = np.stack(
        [field.backend.to_host(gradient("corrected", frames, first_frame=k * frames)[0]) for k in range(options.pick(8, 2))]
    )
    scatter = math.sqrt(float(repeats.var(axis=0, ddof=1).sum()))
    noise = math.sqrt(float((coupled_error**2).sum()))
    report.target(
        f"corrected: noise in units of that of coupled on all {frames} frames, kappa {kappa:g}",
        scatter / noise,
        at_most=1.5,
    )


def _spread(total: int, count: int) -> np.ndarray:
    """``count`` numbers spread evenly over ``range(total)``."""
    return np.unique(np.linspace(0, total - 1, min(count, total)).astype(np.int64))


if __name__ == "__main__":
    main("differences", run)
