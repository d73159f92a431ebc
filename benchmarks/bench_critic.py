"""The critic's training step (eq. 5): where its time goes, and what makes it faster on this machine.

Every variant takes the same Adam step (checked before it is timed) from the same weights:

* *passes*: the scores of recorded and simulated frames and of their mixtures from one pass, from two (scores together, mixtures
  apart), or from three;
* *pooling first*: max-pooling before the LeakyReLU, which a monotone function allows: the same values from a quarter of the
  activations;
* *channels last*: weights and activations in that memory format;
* *written-out slope*: D is piecewise linear, so the penalty's gradient passes through the weights alone, never through the
  pattern of signs and maxima.  Autograd does not know that and carries zeros back through the whole forward pass of the
  mixtures; a backward pass written in transposed convolutions leaves them out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

import fluogan_core as fg
from fluogan_core.critics.training import CriticTrainer

from ._baselines import pooled_first
from ._harness import Alternative, Options, Report, main

#: How profiled operators are summed up: the first entry whose word occurs in the operator's name.
_KINDS = {
    "convolution_backward": "convolutions, backward",
    "convolution": "convolutions, forward",
    "max_pool": "max-pooling",
    "leaky_relu": "LeakyReLU",
    "Adam": "Adam",
    "Optimizer": "Adam",
}
_STEP = "CriticTrainer.step"


@dataclasses.dataclass(frozen=True)
class Variant:
    """How a training step is computed."""

    passes: int = 2
    pool_first: bool = False
    channels_last: bool = False
    written_out: bool = False


VARIANTS = {
    "one pass for all three": Variant(passes=1),
    "two passes": Variant(),
    "three passes": Variant(passes=3),
    "two passes, pooling first": Variant(pool_first=True),
    "two passes, channels last": Variant(channels_last=True),
    "two passes, pooling first, channels last": Variant(pool_first=True, channels_last=True),
    "two passes, pooling first, written-out slope": Variant(pool_first=True, written_out=True),
    "two passes, pooling first, channels last, written-out slope": Variant(2, True, True, True),
}


def run(options: Options) -> Report:
    """Measure everything."""
    report = Report("critic", options)
    size, batch = options.pick((32, 32), (8, 4))
    _variants(report, size, batch)
    if report.backend.name == "numpy":
        _threads(report, size, batch)
    for count in options.pick((8, 16, 32, 64, 128), (4,)):
        _step_only(report, f"Training step by batch, {size}x{size}, per frame", f"batch {count}", size, count)
    for side in options.pick((16, 64), ()):
        _step_only(report, "Training step by field, batch 32, per frame", f"{side}x{side}", side, batch)
    _profile(report, size, batch)
    return report


class _Data:
    """Frames and weights that every variant starts from."""

    def __init__(self, size: int, batch: int, options: Options, device: str) -> None:
        generator = np.random.default_rng(options.seed)
        rates = (12, 10)
        self.real, self.simulated = (
            torch.as_tensor(generator.poisson(rate, (batch, size, size)), dtype=torch.float32, device=device) for rate in rates
        )
        self.eta = torch.as_tensor(generator.random(batch), dtype=torch.float32, device=device)
        self.size, self.channels, self.seed, self.device = size, options.pick(32, 4), options.seed, device

    def trainer(self) -> CriticTrainer:
        critic = fg.Critic((self.size, self.size), self.channels, input_mean=11.0, input_std=3.3, seed=self.seed)
        return CriticTrainer(critic.to(self.device), scale=3.3)

    def step(self) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
        """The library's own step."""
        trainer = self.trainer()
        return lambda: trainer.step(self.real, self.simulated, self.eta)

    def variant(self, variant: Variant) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
        trainer = self.trainer()
        if variant.channels_last:
            trainer.critic.to(memory_format=torch.channels_last)
        return lambda: variant_step(trainer, variant, self.real, self.simulated, self.eta)


def variant_step(
    trainer: CriticTrainer, variant: Variant, real: torch.Tensor, simulated: torch.Tensor, eta: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """One Adam step as ``variant`` says; arguments and results as for :meth:`CriticTrainer.step`."""
    critic, count = trainer.critic, len(simulated)
    assert isinstance(critic, fg.Critic)
    scores = pooled_first(critic) if variant.pool_first else critic
    mixed = torch.lerp(simulated, real, eta[:, None, None])
    if variant.written_out:
        slope = written_out_slope(critic, mixed)
        together = scores(torch.cat([simulated, real]))
    else:
        mixed.requires_grad_(True)
        if variant.passes == 1:
            together = scores(torch.cat([simulated, real, mixed]))
            mixed_scores = together[2 * count :]
        else:
            mixed_scores = scores(mixed)
        (slope,) = torch.autograd.grad(mixed_scores.sum(), mixed, create_graph=True)
        if variant.passes == 2:
            together = scores(torch.cat([simulated, real]))
        elif variant.passes == 3:
            together = torch.cat([scores(simulated), scores(real)])
    deviation = ((slope * trainer.scale).flatten(1).norm(dim=1) - 1).square().mean()
    wasserstein = together[count : 2 * count].mean() - together[:count].mean()
    trainer.optimizer.zero_grad(set_to_none=True)
    (trainer.penalty * deviation - wasserstein).backward()
    trainer.optimizer.step()
    return wasserstein.detach(), deviation.detach()


def written_out_slope(critic: fg.Critic, y: torch.Tensor) -> torch.Tensor:
    """Return dD/dy for each frame, (S, M1, M2), differentiable with respect to the weights.

    Signs and maxima come from a forward pass without a graph: where D is differentiable they do not move with the weights.
    """
    kept = []
    with torch.no_grad():
        h = ((y - critic.input_mean) / critic.input_std).unsqueeze(1)
        for convolution in critic.convolutions:
            before = convolution(h)
            peaks, winners = nn.functional.max_pool2d(before, critic.pool, return_indices=True)
            factor = torch.where(peaks > 0, peaks.new_tensor(1.0), peaks.new_tensor(critic.negative_slope))
            kept.append((before.shape[-2:], winners, factor))
            h = nn.functional.leaky_relu(peaks, critic.negative_slope)
    slope = critic.head.weight.view(1, *h.shape[1:]) * torch.ones_like(h)
    for convolution, (size, winners, factor) in zip(reversed(critic.convolutions), reversed(kept)):
        spread = nn.functional.max_unpool2d(slope * factor, winners, [critic.pool] * 2, output_size=size)
        slope = nn.functional.conv_transpose2d(spread, convolution.weight, padding=critic.kernel_size // 2)
    return slope[:, 0] / critic.input_std


def _variants(report: Report, size: int, batch: int) -> None:
    """All variants side by side, after a check that they are one and the same step."""
    data = _Data(size, batch, report.options, report.backend.device)
    calls = {_STEP: data.step()} | {name: data.variant(variant) for name, variant in VARIANTS.items()}
    # the second value depends on the weights after the first step
    losses = {name: [call(), call()] for name, call in calls.items()}
    for name, values in losses.items():
        if not np.allclose(values, losses[_STEP], rtol=2e-3, atol=2e-3):
            raise ArithmeticError(f"the variant {name!r} is another step: {values} instead of {losses[_STEP]}")
    report.measure(
        f"Training step, {size}x{size}, batch {batch}",
        "all threads",
        [Alternative(name, call) for name, call in calls.items()],
        per="step",
        seconds=report.options.pick(14, 0),
        reference=_STEP,
        setting={"size": size, "batch": batch, "threads": torch.get_num_threads(), "channels": data.channels},
    )


def _threads(report: Report, size: int, batch: int) -> None:
    """The same on one thread and on all."""
    before = torch.get_num_threads()
    data = _Data(size, batch, report.options, report.backend.device)
    calls = {
        _STEP: data.step(),
        "pooling first, channels last, written-out slope": data.variant(Variant(2, True, True, True)),
    }

    def on(threads: int, call: Callable[[], Any]) -> Callable[[], Any]:
        def limited() -> None:
            torch.set_num_threads(threads)
            call()

        return limited

    try:
        report.measure(
            f"Training step by threads, {size}x{size}, batch {batch}",
            f"{before} available",
            [
                Alternative(f"{name}, {threads} thread{'s' if threads > 1 else ''}", on(threads, call))
                for name, call in calls.items()
                for threads in sorted({1, before})
            ],
            per="step",
            seconds=report.options.pick(5, 0),
            reference=f"{_STEP}, 1 thread",
            setting={"size": size, "batch": batch},
        )
    finally:
        torch.set_num_threads(before)


def _step_only(report: Report, table: str, column: str, size: int, batch: int) -> None:
    data = _Data(size, batch, report.options, report.backend.device)
    report.measure(
        table,
        column,
        [Alternative(_STEP, data.step(), batch)],
        per="frame",
        seconds=report.options.pick(2, 0),
        setting={"size": size, "batch": batch},
    )


def _profile(report: Report, size: int, batch: int) -> None:
    """Where the library's step spends its time, by torch's profiler."""
    data = _Data(size, batch, report.options, report.backend.device)
    step, repeats = data.step(), report.options.pick(5, 1)
    step()
    with profile(activities=[ProfilerActivity.CPU]) as record:
        for _ in range(repeats):
            step()
    sums: dict[str, float] = {}
    for event in record.key_averages():
        kind = next((kind for word, kind in _KINDS.items() if word in event.key), "the rest")
        sums[kind] = sums.get(kind, 0.0) + event.self_cpu_time_total / repeats / 1e3
    total = sum(sums.values())
    rows = [[kind, value, 100 * value / total] for kind, value in sorted(sums.items(), key=lambda item: -item[1])]
    report.table(
        f"What {_STEP} spends its time on, {size}x{size}, batch {batch}",
        ["", "ms per step", "%"],
        rows,
        "Self time on the CPU by torch's profiler, which itself costs a little.",
    )


if __name__ == "__main__":
    main("critic", run)
