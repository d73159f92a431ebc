"""What the fast paths are compared with: the same scores by torch, as fast as torch computes them.

The critic's max-pooling and LeakyReLU are exchanged (same scores, a quarter of the activations), its memory format and the
number of frames per pass are chosen by trial: the baseline must not be slow for lack of tuning.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from fluogan_core import Critic
from fluogan_core.critics.settings import neutral

__all__ = ["TorchBatched", "loop_over_pixels", "pooled_first", "seconds_of"]

Scores = Callable[[torch.Tensor], torch.Tensor]


def pooled_first(critic: Critic) -> Scores:
    """Return the critic as a function of frames, pooling before the (monotone) LeakyReLU."""

    def scores(y: torch.Tensor) -> torch.Tensor:
        h = ((y - critic.input_mean) / critic.input_std).unsqueeze(1)
        for convolution in critic.convolutions:
            h = nn.functional.leaky_relu(nn.functional.max_pool2d(convolution(h), critic.pool), critic.negative_slope)
        return critic.head(h.flatten(1)).squeeze(1)

    return scores


class TorchBatched:
    """D(y + photons) - D(y) by running the critic on batches of perturbed frames.

    Parameters
    ----------
    critic : Critic
        Left as it is; a copy may take another memory format.
    trial_pixels : int
        Camera pixels that each trial runs through; 0 takes the module as it is.

    Attributes
    ----------
    chunk : int
        Frames per pass that were fastest.
    choice : str
        What else was, in words.
    """

    def __init__(self, critic: Critic, trial_pixels: int = 2**18) -> None:
        pixels = critic.shape[0] * critic.shape[1]
        self.choice, self.chunk, self._scores = "as the module is", max(1, 2**16 // pixels), critic
        if trial_pixels:
            self._try(critic, trial_pixels, pixels)

    def _try(self, critic: Critic, trial_pixels: int, pixels: int) -> None:
        """Keep what is fastest."""
        last = copy.deepcopy(critic).to(memory_format=torch.channels_last)
        variants: dict[str, Scores] = {
            self.choice: critic,
            "pooling first": pooled_first(critic),
            "pooling first, channels last": pooled_first(last),
        }
        sizes = sorted({max(1, n // pixels) for n in (trial_pixels // 16, trial_pixels // 4, trial_pixels)})
        y = torch.randn((sizes[-1], *critic.shape), device=critic.head.weight.device)
        trials = {}
        # products of a card are rounded to TF32 unless torch is told not to: what is compared with is not
        with neutral(y.device), torch.inference_mode():
            for name, scores in variants.items():
                for size in sizes:
                    trials[name, size] = min([seconds_of(scores, y, size) for _ in range(3)][1:])
        self.choice, self.chunk = min(trials, key=trials.__getitem__)
        self._scores = variants[self.choice]

    def single(self, y: torch.Tensor, pixels: np.ndarray, step: float) -> torch.Tensor:
        """One more count in each of ``pixels`` (flat) of one frame y, (M1, M2)."""
        owners = np.arange(len(pixels))
        return self.sets(y, owners, pixels, len(pixels), step)

    def sets(self, y: torch.Tensor, owners: np.ndarray, pixels: np.ndarray, count: int, step: float) -> torch.Tensor:
        """``count`` sets of photons added to one frame: photon k belongs to set ``owners[k]``, which do not fall."""
        out = torch.empty(count, device=y.device)
        place = torch.as_tensor(pixels, dtype=torch.int64, device=y.device)
        add = torch.full(place.shape, float(step), device=y.device)
        with neutral(y.device), torch.inference_mode():
            base = self._scores(y[None])
            for start in range(0, count, self.chunk):
                stop = min(start + self.chunk, count)
                first, last = np.searchsorted(owners, (start, stop))
                frames = y.expand(stop - start, *y.shape).clone()
                owner = torch.as_tensor(owners[first:last] - start, dtype=torch.int64, device=y.device)
                frames.view(stop - start, -1).index_put_((owner, place[first:last]), add[first:last], accumulate=True)
                out[start:stop] = self._scores(frames) - base
        return out


def loop_over_pixels(critic: Critic, y: torch.Tensor, pixels: np.ndarray, step: float) -> torch.Tensor:
    """The exact gradient as the earlier public code computed it: one pixel at a time, on the whole batch y, (S, M1, M2)."""
    means = []
    with neutral(y.device), torch.no_grad():
        base = critic(y)
        for row, column in zip(*np.unravel_index(pixels, critic.shape)):
            perturbed = y.clone()
            perturbed[:, row, column] += step
            means.append((critic(perturbed) - base).mean())
    return torch.stack(means)


def seconds_of(scores: Scores, y: torch.Tensor, size: int) -> float:
    """Seconds for all of y, ``size`` frames at a time."""
    started = time.perf_counter()
    for start in range(0, len(y), size):
        scores(y[start : start + size])
    if y.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started
