"""Operators of a user's own that tests of several rooms share."""

from __future__ import annotations

import numpy as np

import fluogan_core as fg

SHAPE = (12, 14)


def nominal():
    return fg.Psi(fg.gaussian_psf(250, 100, 2), SHAPE, 2, photons_per_emitter=4.0, backend="numpy")


class Vignetted(fg.Operator):
    """A field that is lit unevenly."""

    def __init__(self, nominal, transmission):
        super().__init__(nominal)
        self.transmission = transmission

    def forward(self, x):
        return self.nominal.forward(x) * self.transmission.astype(x.dtype)

    def adjoint(self, y):
        return self.nominal.adjoint(y * self.transmission.astype(y.dtype))


class Varying(fg.Operator):
    """A PSF that is wider on the right: two operators, blended across the fine grid."""

    def __init__(self, nominal, wide):
        super().__init__(nominal)
        self.wide = wide
        self.share = np.linspace(0, 1, nominal.fine_shape[1])

    def forward(self, x):
        share = self.share.astype(x.dtype)
        return self.nominal.forward(x * (1 - share)) + self.wide.forward(x * share)

    def adjoint(self, y):
        share = self.share.astype(y.dtype)
        return self.nominal.adjoint(y) * (1 - share) + self.wide.adjoint(y) * share


class Planes(fg.Operator):
    """Two planes of emitters, one below the other on the fine grid, the second one out of focus."""

    def __init__(self, nominal, wide):
        super().__init__(nominal)
        self.wide = wide
        self.fine_shape = (2 * nominal.fine_shape[0], nominal.fine_shape[1])

    def forward(self, x):
        rows = self.nominal.fine_shape[0]
        return self.nominal.forward(x[..., :rows, :]) + self.wide.forward(x[..., rows:, :])

    def adjoint(self, y):
        return np.concatenate([self.nominal.adjoint(y), self.wide.adjoint(y)], axis=-2)


class Same(fg.Operator):
    """The nominal operator, which nothing but its class says."""

    def forward(self, x):
        return self.nominal.forward(x)

    def adjoint(self, y):
        return self.nominal.adjoint(y)


def transmission():
    return 0.3 + 0.7 * np.linspace(0, 1, SHAPE[0])[:, None] * np.ones(SHAPE[1])


def wider(psi):
    return psi.scaled(1.4)


MAKE = {
    "vignetted": lambda psi: Vignetted(psi, transmission()),
    "varying": lambda psi: Varying(psi, wider(psi)),
    "planes": lambda psi: Planes(psi, wider(psi)),
}


def written_out(operator):
    """Every column by forward, (M, N)."""
    fine = operator.fine_shape[0] * operator.fine_shape[1]
    return operator.forward(np.eye(fine).reshape(fine, *operator.fine_shape)).reshape(fine, -1).T


def quadratic_score(frames):
    """Curved, so that what several photons of one emission do together counts."""
    return ((frames.sum(dim=(1, 2)) - 100.0) ** 2) / 1000


def scene(own, frames=300):
    x = np.zeros(own.fine_shape, np.float32)
    x[3:21, 8] = x[3:21, 18] = 6.0
    return x, fg.ForwardModel(own, noise_std=1.0).sample(x, np.full(own.shape, 4.0, np.float32), frames, seed=9)


class Dimmed(fg.Psi):
    """A subclass of Psi that overrides what depends on it."""

    share = 0.5

    def forward(self, x):
        return super().forward(x) * np.asarray(self.share, x.dtype)

    def adjoint(self, y):
        return super().adjoint(y) * np.asarray(self.share, y.dtype)
