"""The slim torch critic, whose family the hand-written kernels know."""

from __future__ import annotations

import itertools
import math
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn.utils import skip_init

from ..backend.checks import image_shape, real_number, whole_number
from ..backend.typing import ArrayLike

__all__ = ["Critic", "is_slim"]

#: Where and in what precision the weights are made, whatever torch's defaults are.
_PLAIN: dict[str, Any] = {"device": "cpu", "dtype": torch.float32}


class Critic(nn.Module):
    r"""A slim critic: [convolution "same" -> LeakyReLU -> max-pool] x depth, then one linear layer; no sigmoid.

    Every layer is piecewise linear and local, which is what the fast difference kernels live on.  The input is normalised
    inside, ``(y - input_mean) / input_std``, so that one setting serves dim and bright stacks.

    Parameters
    ----------
    shape : (M1, M2)
        Camera pixels of a frame.
    channels : int
        Channels after the first convolution; they double with every further layer.
    depth : int
        Number of blocks; each divides the field by ``pool``.
    kernel_size : int
        Odd width of the convolutions, zero padding.
    pool : int
        Width and stride of the max-pooling; what does not fill a cell at the far border is dropped.
    negative_slope : float
        Slope of the LeakyReLU for negative values.
    input_mean, input_std : float or (M1, M2) array_like
        Normalisation of the input, counts.
    seed : int, optional
        Seed of the initial weights; torch's global generator is left as it was.

    Raises
    ------
    ValueError
        If the field is too small for ``depth`` poolings, or a width is even.

    Notes
    -----
    ``forward`` takes (S, M1, M2) and returns (S,).  The weights are float32 on the CPU, whatever torch's default dtype and
    device are; ``double()`` and ``to()`` change that.

    Examples
    --------
    >>> import torch
    >>> import fluogan_core as fg
    >>> critic = fg.Critic((16, 16), channels=8, depth=2, input_mean=100.0, input_std=10.0, seed=0)
    >>> critic(torch.full((5, 16, 16), 100.0)).shape
    torch.Size([5])
    """

    input_mean: torch.Tensor
    input_std: torch.Tensor

    def __init__(
        self,
        shape: tuple[int, int],
        channels: int = 32,
        depth: int = 3,
        *,
        kernel_size: int = 3,
        pool: int = 2,
        negative_slope: float = 0.2,
        input_mean: ArrayLike = 0.0,
        input_std: ArrayLike = 1.0,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.shape = image_shape(shape)
        self.channels = whole_number(channels, "channels", low=1)
        self.depth = whole_number(depth, "depth", low=1)
        self.kernel_size = whole_number(kernel_size, "kernel_size", low=1)
        self.pool = whole_number(pool, "pool", low=1)
        self.negative_slope = real_number(negative_slope, "negative_slope", low=0, high=1)
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, so that the convolution is centred, got {kernel_size}")
        smallest = self.pool**self.depth
        if min(self.shape) < smallest:
            raise ValueError(
                f"a critic of depth {depth} with pooling {pool} needs fields of at least {smallest} x {smallest} pixels, "
                f"got {self.shape[0]} x {self.shape[1]}; take a larger region or a smaller depth"
            )
        with torch.inference_mode(False):  # parameters that are made in inference mode could never be trained
            self._make_layers(smallest, seed)
            self.normalise(input_mean, input_std)
            # activations then come channels last too: a fifth faster on the CPU (benchmarks/bench_critic.py)
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _make_layers(self, smallest: int, seed: int | None) -> None:
        widths = [1, *(self.channels * 2**layer for layer in range(self.depth))]
        cells = (self.shape[0] // smallest, self.shape[1] // smallest)
        padding = self.kernel_size // 2
        sizes = list(itertools.pairwise(widths))
        layers = [skip_init(nn.Conv2d, a, b, self.kernel_size, padding=padding, **_PLAIN) for a, b in sizes]
        self.convolutions = nn.ModuleList(layers)
        self.head = skip_init(nn.Linear, widths[-1] * cells[0] * cells[1], 1, **_PLAIN)
        # of its own: torch's default generator is shared by all threads and belongs to the host
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        for layer in (*layers, self.head):
            _draw_weights(layer, generator)
        self.register_buffer("input_mean", torch.empty(self.shape, **_PLAIN))
        self.register_buffer("input_std", torch.empty(self.shape, **_PLAIN))

    def normalise(self, mean: ArrayLike, std: ArrayLike) -> None:
        """Set the input normalisation.

        Parameters
        ----------
        mean, std : float or (M1, M2) array_like
            Counts.

        Raises
        ------
        ValueError
            If ``mean`` is not finite or ``std`` not above 0.
        """
        mean, std = (torch.as_tensor(np.asarray(v, dtype=np.float32), device=self.input_mean.device) for v in (mean, std))
        if not bool(torch.isfinite(mean).all()) or not bool((std > 0).all()):
            raise ValueError("the input's mean must be finite and its standard deviation positive")
        self.input_mean.copy_(mean.expand(self.shape))
        self.input_std.copy_(std.expand(self.shape))

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """Return the score of each frame.

        Parameters
        ----------
        y : (S, M1, M2) tensor
            Counts.

        Returns
        -------
        (S,) tensor

        Raises
        ------
        ValueError
            If the frames are of another shape than the critic's.
        """
        h = self._normalised(y)
        for convolution in self.convolutions:
            # a monotone function may follow the maximum: the same values, fewer of them
            h = nn.functional.leaky_relu(nn.functional.max_pool2d(convolution(h), self.pool), self.negative_slope)
        return self.head(h.flatten(1)).squeeze(1)

    def _normalised(self, y: torch.Tensor) -> torch.Tensor:
        if tuple(y.shape[-2:]) != self.shape:
            raise ValueError(f"frames must be (S, {self.shape[0]}, {self.shape[1]}) for this critic, got {tuple(y.shape)}")
        return ((y - self.input_mean) / self.input_std).unsqueeze(1)

    def slope(self, y: torch.Tensor) -> torch.Tensor:
        """Return the gradient of the score with respect to each frame, differentiable in the weights alone.

        The critic is piecewise linear: its slope depends on the weights, and on a pattern of signs and maxima which, where the
        slope exists, moves with neither weights nor frames.  Autograd would carry zeros back through that pattern.

        Parameters
        ----------
        y : (S, M1, M2) tensor
            Counts.

        Returns
        -------
        (S, M1, M2) tensor
            Score per count.
        """
        pattern = []
        with torch.no_grad():
            h = self._normalised(y)
            for convolution in self.convolutions:
                before = convolution(h)
                peaks, winners = nn.functional.max_pool2d(before, self.pool, return_indices=True)
                factor = torch.where(peaks > 0, peaks.new_tensor(1.0), peaks.new_tensor(self.negative_slope))
                pattern.append((before.shape[-2:], winners, factor))
                h = nn.functional.leaky_relu(peaks, self.negative_slope)
        slope = self.head.weight.view(1, *h.shape[1:]).expand_as(h)
        weights = [cast(torch.Tensor, convolution.weight) for convolution in self.convolutions]
        for weight, (size, winners, factor) in zip(reversed(weights), reversed(pattern)):
            spread = self._unpooled(slope * factor, winners, size)
            slope = nn.functional.conv_transpose2d(spread, weight, padding=self.kernel_size // 2)
        return slope[:, 0] / self.input_std

    def _unpooled(self, values: torch.Tensor, winners: torch.Tensor, size: torch.Size) -> torch.Tensor:
        """Values at the places that the pooling took its maxima from, zero elsewhere."""
        if torch.are_deterministic_algorithms_enabled():
            # torch refuses max_unpool2d then, though no two cells of this pooling share a pixel
            zeros = values.new_zeros((*values.shape[:2], size[0] * size[1]))
            return zeros.scatter(2, winners.flatten(2), values.flatten(2)).view(*values.shape[:2], *size)
        return nn.functional.max_unpool2d(values, winners, [self.pool] * 2, output_size=size)

    def extra_repr(self) -> str:
        """Return the family's parameters, which torch puts into repr.

        Returns
        -------
        str
        """
        return f"shape={self.shape}, pool={self.pool}, negative_slope={self.negative_slope:g}"


def _draw_weights(layer: nn.Module, generator: torch.Generator | None) -> None:
    """Draw the weights of a layer as its own class does: uniform within one over the root of the inputs of an output."""
    weight, bias = (cast(torch.Tensor, tensor) for tensor in (layer.weight, layer.bias))
    bound = 1 / math.sqrt(weight[0].numel())
    for tensor in (weight, bias):
        nn.init.uniform_(tensor, -bound, bound, generator=generator)


#: Where a module keeps its hooks, and torch those of all modules.
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def is_slim(critic: object) -> bool:
    """Return whether a critic computes what :class:`Critic` does and nothing else, so that its weights say all of it.

    A subclass, a hook, an exchanged layer, or a ``forward`` that was set on the instance may compute something else.
    """
    if type(critic) is not Critic or any(getattr(nn.modules.module, f"_global{name}") for name in _HOOKS):
        return False
    for module in critic.modules():
        if "forward" in vars(module) or any(getattr(module, name) for name in _HOOKS):
            return False
    half = critic.kernel_size // 2
    return type(critic.head) is nn.Linear and all(
        type(layer) is nn.Conv2d
        and layer.bias is not None
        and layer.padding_mode == "zeros"
        and (layer.stride, layer.dilation, layer.groups, layer.padding) == ((1, 1), (1, 1), 1, (half, half))
        for layer in critic.convolutions
    )
