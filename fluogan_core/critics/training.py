"""The WGAN-GP training step (eq. 5) of any torch critic."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ..backend.checks import real_number
from ..backend.typing import ArrayLike, State
from .network import is_slim
from .settings import neutral

__all__ = ["CriticTrainer"]


class CriticTrainer:
    r"""Adam steps on the WGAN-GP loss (eq. 5).

    .. math:: E[D(Y_{sim})] - E[D(Y_{real})] + \lambda\, E\left(\|\nabla_u D(Y_{mix})\| - 1\right)^2

    The penalty is taken in units of the input's scale, :math:`u = y / \mathrm{scale}`: otherwise the slope that it asks for
    would depend on the camera's gain and the sample's brightness.

    Parameters
    ----------
    critic : torch.nn.Module
        Maps (S, M1, M2) counts to (S,).  Its mode (train or eval) is left as it is.
    learning_rate : float
        Adam's step.
    penalty : float
        lambda, the weight of the gradient penalty.
    scale : float or (M1, M2) array_like
        Counts per unit of u; the input's standard deviation.
    betas : (float, float)
        Adam's decay rates.

    Raises
    ------
    ValueError
        If the critic has no parameters, or a number is out of range.

    Examples
    --------
    >>> import torch
    >>> import fluogan_core as fg
    >>> from fluogan_core.critics.training import CriticTrainer
    >>> critic = fg.Critic((8, 8), channels=4, depth=2, input_mean=11.0, input_std=3.3, seed=0)
    >>> trainer = CriticTrainer(critic, scale=3.3)
    >>> generator = torch.Generator().manual_seed(0)
    >>> real, simulated = (torch.poisson(torch.full((32, 8, 8), rate), generator) for rate in (12.0, 10.0))
    >>> wasserstein, penalty = trainer.step(real, simulated, torch.rand(32, generator=generator))
    """

    def __init__(
        self,
        critic: nn.Module,
        *,
        learning_rate: float = 1e-3,
        penalty: float = 10.0,
        scale: ArrayLike = 1.0,
        betas: tuple[float, float] = (0.0, 0.9),
    ) -> None:
        self.critic = critic
        self.penalty = real_number(penalty, "penalty", low=0)
        first = next(critic.parameters(), None)
        if first is None:
            raise ValueError("the critic has no parameters to train")
        self.device, self.dtype = first.device, first.dtype
        with torch.inference_mode(False):
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
        with neutral(self.device, full_precision=False), torch.enable_grad():
            # tensors that were made in inference mode take no part in differentiation: copies do
            real, simulated, eta = (t.clone() if t.is_inference() else t for t in (real, simulated, eta))
            return self._step(real.to(self.dtype), simulated.to(self.dtype), eta.to(self.dtype)[:, None, None])

    def _step(self, real: torch.Tensor, simulated: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mixed = torch.lerp(simulated, real, weight)
        if is_slim(self.critic):
            slope = self.critic.slope(mixed)  # type: ignore[operator]
        else:
            mixed.requires_grad_(True)
            # a copy, so that a first layer that works in place may have it
            (slope,) = torch.autograd.grad(self.critic(mixed.clone()).sum(), mixed, create_graph=True)
        deviation = ((slope * self.scale).flatten(1).norm(dim=1) - 1).square().mean()
        score = self.critic(torch.cat([simulated, real]))
        wasserstein = score[len(simulated) :].mean() - score[: len(simulated)].mean()
        self.optimizer.zero_grad(set_to_none=True)
        (self.penalty * deviation - wasserstein).backward()
        self.optimizer.step()
        return wasserstein.detach(), deviation.detach()

    def state_dict(self) -> State:
        """Return the critic's and the optimiser's state, for :meth:`load_state_dict`."""
        return {"critic": self.critic.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Restore what :meth:`state_dict` gave."""
        self.critic.load_state_dict(state["critic"])
        self.optimizer.load_state_dict(state["optimizer"])
