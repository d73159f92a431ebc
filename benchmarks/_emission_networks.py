"""Simulated frames whose emissions are known, and slim networks that learn them (:mod:`benchmarks.bench_trained_critic`)."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import fluogan_core as fg

from ._likelihood_scenes import BACKGROUND, CAMERA, FACTOR, SIZE, operator, structure

CHANNELS, RATE, CHECKS = 16, 4e-3, 6


class Drawn(NamedTuple):
    """Simulated frames.

    Attributes
    ----------
    photons : (T, 256) float32
        With the camera's noise.
    frame, place : (n,) int
        Of every emission: its frame and its fine pixel.
    """

    photons: np.ndarray
    frame: np.ndarray
    place: np.ndarray


class Field(NamedTuple):
    """Two images, what is half-way between them, and how frames are drawn.

    Attributes
    ----------
    x : dict of (4096,) float64
        Expected emissions: of "bar", of "pair", and "between" them.
    columns : (4096, 256) float32
        Photons of an emission at every fine pixel.
    model : ForwardModel
    """

    x: dict[str, np.ndarray]
    columns: np.ndarray
    model: fg.ForwardModel

    @property
    def direction(self) -> np.ndarray:
        """(x1 - x0) / x, (4096,)."""
        return (self.x["pair"] - self.x["bar"]) / self.x["between"]

    def drawn(self, kind: str, frames: int, rng: np.random.Generator) -> Drawn:
        """Frames of an image."""
        rising = np.cumsum(self.x[kind])
        count = rng.poisson(rising[-1], frames)
        frame = np.repeat(np.arange(frames), count)
        place = np.searchsorted(rising, rising[-1] * rng.random(len(frame)), side="right").clip(max=len(rising) - 1)
        light = np.full((frames, self.columns.shape[1]), BACKGROUND)
        np.add.at(light, frame, self.columns[place])
        noise = CAMERA.noise_std / CAMERA.gain * rng.standard_normal(light.shape)
        return Drawn((rng.poisson(light) + noise).astype(np.float32), frame, place)

    def said(self, drawn: Drawn) -> np.ndarray:
        """Derivative of the log density of frames and emissions together on the way from bar to pair, (T,)."""
        values = np.bincount(drawn.frame, self.direction[drawn.place], len(drawn.photons))
        return values - float(self.x["between"] @ self.direction)


@functools.cache
def field_of(number: float, photons: float) -> Field:
    """The pair and its bar, with so many emissions per frame; one in a thousand may be anywhere."""
    psi = operator(SIZE, photons)
    images = {kind: structure(kind).ravel() / structure(kind).sum() * number for kind in ("bar", "pair")}
    x = {kind: 0.999 * image + 0.001 * image.mean() for kind, image in images.items()}
    x["between"] = 0.5 * (x["bar"] + x["pair"])
    columns = psi.forward(np.eye(x["bar"].size, dtype=np.float32).reshape(-1, *psi.fine_shape)).reshape(x["bar"].size, -1)
    return Field(x, np.maximum(columns, 0), fg.ForwardModel(psi, gain=CAMERA.gain, noise_std=CAMERA.noise_std))


def root(photons: np.ndarray) -> np.ndarray:
    """Frames whose noise is 1 whatever their light, 0 where there is background alone (Anscombe, with read noise)."""
    more = 0.375 + (CAMERA.noise_std / CAMERA.gain) ** 2
    return (2 * np.sqrt(np.maximum(photons + more, 0)) - 2 * np.sqrt(BACKGROUND + more)).astype(np.float32)


def trunk(inputs: int, outputs: int) -> Any:
    """Three convolutions, and one of 1 x 1 that is 0 in the beginning."""
    import torch
    from torch import nn

    last = nn.Conv2d(CHANNELS, outputs, 1)
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    sizes, layers = (inputs, CHANNELS, CHANNELS, CHANNELS), []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.SiLU()]
    return nn.Sequential(*layers, last)


def fine_channels(image: np.ndarray) -> np.ndarray:
    """Fine pixels (..., 4096) as channels of their camera pixel, (..., 16, 16, 16)."""
    shape = image.shape[:-1]
    split = image.reshape(*shape, SIZE, FACTOR, SIZE, FACTOR)
    return np.moveaxis(split, (-3, -1), (-4, -3)).reshape(*shape, FACTOR**2, SIZE, SIZE)


class Network:
    """A slim network of frames, and what it begins with.

    Parameters
    ----------
    field : Field
    dense : bool
        Whether it answers log r on the fine grid, or one number per frame.
    filters : bool
        Whether it sees matched filters and begins at the posterior of one emission.
    """

    def __init__(self, field: Field, *, dense: bool, filters: bool) -> None:
        import torch

        torch.manual_seed(0)
        self.field, self.dense, self.filters = field, dense, filters
        x = field.x["between"]
        self.x = torch.from_numpy(fine_channels(x).astype(np.float32))
        self.direction = torch.from_numpy(fine_channels(field.direction).astype(np.float32))
        light = fine_channels(x / x.max()).astype(np.float32)
        self.fixed = torch.from_numpy(np.concatenate([light, root(x @ field.columns + BACKGROUND).reshape(1, SIZE, SIZE)]))
        # what one emission at i adds to the log likelihood of a frame of background, and what it costs
        variance = (CAMERA.noise_std / CAMERA.gain) ** 2
        self.bank = np.log1p(field.columns / np.float32(BACKGROUND + variance)).T.copy()
        self.cost, self.more = field.columns.sum(axis=1), np.float32(variance)
        self.layers = trunk(1 + len(self.fixed) + (FACTOR**2 if filters else 0), FACTOR**2 if dense else 1)
        self.pooling = torch.nn.Parameter(torch.ones(SIZE, SIZE) / SIZE)

    def parameters(self) -> list[Any]:
        return [*self.layers.parameters(), *([] if self.dense else [self.pooling])]

    def __call__(self, photons: np.ndarray) -> Any:
        """log r, (T, 16, 16, 16), or one number per frame, (T,)."""
        import torch

        seen = [torch.from_numpy(root(photons).reshape(-1, 1, SIZE, SIZE)), self.fixed.expand(len(photons), -1, -1, -1)]
        first: Any = 0.0
        if self.filters:
            gain = np.maximum(photons + self.more, 0) @ self.bank - self.cost
            # one emission somewhere near, or none: the posterior of that frame
            near = self.x * torch.exp(torch.from_numpy(fine_channels(gain)).clamp(max=60.0))
            total = torch.nn.functional.avg_pool2d(near.sum(1, keepdim=True), 9, 1, 4, divisor_override=1)
            first = torch.log((near / self.x) / (1.0 + total)).clamp(-8.0, 12.0)
            seen.append(first / 4.0)
        out = self.layers(torch.cat(seen, 1))
        return first + out if self.dense else (out[:, 0] * self.pooling).sum((1, 2))

    def values(self, photons: np.ndarray) -> np.ndarray:
        """The critic of frames (..., 256)."""
        import torch

        flat, answers = photons.reshape(-1, photons.shape[-1]), []
        with torch.no_grad():
            for part in np.array_split(flat, max(1, len(flat) // 500)):
                out = self(part)
                answers.append(((self.direction * self.x * out.exp()).sum((1, 2, 3)) if self.dense else out).numpy())
        return np.concatenate(answers).reshape(photons.shape[:-1]).astype(np.float64)

    def poisson_loss(self, drawn: Drawn) -> Any:
        """Of the emissions, per frame."""
        out = self(drawn.photons)
        row, column = np.divmod(drawn.place, SIZE * FACTOR)
        channel = row % FACTOR * FACTOR + column % FACTOR
        at = out[drawn.frame, channel, row // FACTOR, column // FACTOR]
        return ((self.x * out.exp()).sum() - at.sum()) / len(drawn.photons)


def trained(network: Network, batches: Iterator[Any], loss: Callable[[Any], Any], unseen: Any, steps: int) -> dict[str, Any]:
    """Train for so many steps, and go back to what was best on unseen frames; return what became of it."""
    import torch

    optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.1)
    best, state, seen = np.inf, [p.detach().clone() for p in network.parameters()], []
    for step in range(steps + 1):
        if step % max(1, steps // CHECKS) == 0:
            with torch.no_grad():
                seen.append(float(loss(unseen)))
            if seen[-1] < best:
                best, state = seen[-1], [p.detach().clone() for p in network.parameters()]
        if step < steps:
            optimiser.zero_grad()
            loss(next(batches)).backward()
            optimiser.step()
            schedule.step()
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), state):
            parameter.copy_(value)
    return {"unseen loss": seen}
