"""The slim torch critic, and its WGAN-GP training step (eq. 5)."""

from __future__ import annotations

import itertools
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from ..backend.checks import image_shape, real_number, whole_number

__all__ = ["Critic", "CriticTrainer"]


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
    ``forward`` takes (S, M1, M2) and returns (S,).
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
        input_mean: Any = 0.0,
        input_std: Any = 1.0,
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
        widths = [1, *(self.channels * 2**layer for layer in range(self.depth))]
        cells = (self.shape[0] // smallest, self.shape[1] // smallest)
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the cards' generators too
            layers = [nn.Conv2d(a, b, self.kernel_size, padding=self.kernel_size // 2) for a, b in itertools.pairwise(widths)]
            self.convolutions = nn.ModuleList(layers)
            self.head = nn.Linear(widths[-1] * cells[0] * cells[1], 1)
        self.register_buffer("input_mean", torch.empty(self.shape))
        self.register_buffer("input_std", torch.empty(self.shape))
        self.normalise(input_mean, input_std)
        # activations then come channels last too: a fifth faster on the CPU (benchmarks/bench_critic.py)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def normalise(self, mean: Any, std: Any) -> None:
        """Set the input normalisation, counts: scalars or (M1, M2) images; ``std`` must be positive."""
        mean, std = (torch.as_tensor(np.asarray(v, dtype=np.float32), device=self.input_mean.device) for v in (mean, std))
        if not bool(torch.isfinite(mean).all()) or not bool((std > 0).all()):
            raise ValueError("the input's mean must be finite and its standard deviation positive")
        self.input_mean.copy_(mean.expand(self.shape))
        self.input_std.copy_(std.expand(self.shape))

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        """Return the score of each frame: (S, M1, M2) counts to (S,)."""
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
        """Return the gradient of the score with respect to each frame, (S, M1, M2), differentiable in the weights alone.

        The critic is piecewise linear: its slope depends on the weights, and on a pattern of signs and maxima which, where the
        slope exists, moves with neither weights nor frames.  Autograd would carry zeros back through that pattern.
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
            spread = nn.functional.max_unpool2d(slope * factor, winners, [self.pool] * 2, output_size=size)
            slope = nn.functional.conv_transpose2d(spread, weight, padding=self.kernel_size // 2)
        return slope[:, 0] / self.input_std

    def extra_repr(self) -> str:
        """The family's parameters, for repr."""
        return f"shape={self.shape}, pool={self.pool}, negative_slope={self.negative_slope:g}"


class CriticTrainer:
    r"""Adam steps on the WGAN-GP loss (eq. 5).

    .. math:: E[D(Y_{sim})] - E[D(Y_{real})] + \lambda\, E\left(\|\nabla_u D(Y_{mix})\| - 1\right)^2

    The penalty is taken in units of the input's scale, :math:`u = y / \mathrm{scale}`: otherwise the slope that it asks for
    would depend on the camera's gain and the sample's brightness.

    Parameters
    ----------
    critic : torch.nn.Module
        (S, M1, M2) to (S,).
    learning_rate : float
        Adam's step.
    penalty : float
        lambda, the weight of the gradient penalty.
    scale : float or (M1, M2) array_like
        Counts per unit of u; the input's standard deviation.
    betas : (float, float)
        Adam's decay rates.
    """

    def __init__(
        self,
        critic: nn.Module,
        *,
        learning_rate: float = 1e-3,
        penalty: float = 10.0,
        scale: Any = 1.0,
        betas: tuple[float, float] = (0.0, 0.9),
    ) -> None:
        self.critic = critic
        self.penalty = real_number(penalty, "penalty", low=0)
        first = next(critic.parameters(), None)
        if first is None:
            raise ValueError("the critic has no parameters to train")
        self.device, self.dtype = first.device, first.dtype
        self.scale = torch.as_tensor(np.asarray(scale), dtype=self.dtype, device=self.device)
        learning_rate = real_number(learning_rate, "learning_rate", low=0, open_low=True)
        self.optimizer = torch.optim.Adam(critic.parameters(), lr=learning_rate, betas=betas)

    def step(self, real: torch.Tensor, simulated: torch.Tensor, eta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Take one Adam step; on a card the host does not wait for it.

        Parameters
        ----------
        real, simulated : (S, M1, M2) tensors, counts
        eta : (S,) tensor in [0, 1], the mixing weights

        Returns
        -------
        wasserstein : () tensor
            E[D(real)] - E[D(simulated)] before the step.
        penalty : () tensor
            Mean squared deviation of the slope from 1, before the step.
        """
        real, simulated = real.to(self.dtype), simulated.to(self.dtype)
        weight = eta.to(self.dtype)[:, None, None]
        mixed = torch.lerp(simulated, real, weight)
        if type(self.critic) is Critic:
            slope = self.critic.slope(mixed)
        else:
            mixed.requires_grad_(True)
            (slope,) = torch.autograd.grad(self.critic(mixed).sum(), mixed, create_graph=True)
        deviation = ((slope * self.scale).flatten(1).norm(dim=1) - 1).square().mean()
        score = self.critic(torch.cat([simulated, real]))
        wasserstein = score[len(simulated) :].mean() - score[: len(simulated)].mean()
        self.optimizer.zero_grad(set_to_none=True)
        (self.penalty * deviation - wasserstein).backward()
        self.optimizer.step()
        return wasserstein.detach(), deviation.detach()

    def state_dict(self) -> dict[str, Any]:
        """The critic's and the optimiser's state."""
        return {"critic": self.critic.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        self.critic.load_state_dict(state["critic"])
        self.optimizer.load_state_dict(state["optimizer"])
