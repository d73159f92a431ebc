r"""The emissions of every frame, drawn from what eq. (1) and the frame allow.

In eq. (1) a frame holds emissions at fine pixels :math:`i_1, \dots, i_n`, a Poisson number of them in every fine pixel.  Here
each has a brightness :math:`w_k` besides, a gamma variable: molecules that are on for a part of a frame send a part of the
photons.

.. math:: y \sim P\Big(\sum_k w_k \Psi_{i_k} + b + \epsilon\Big) + N

Given the frame, numbers, places and brightnesses are visited by a Markov chain with births, deaths, splits and mergers
(reversible jumps, Green 1995), as often as they are likely.  Read noise enters as usual: :math:`y + \sigma^2` in photons, cut
at 0, is taken for a Poisson count of the rate plus :math:`\sigma^2`, which has the right mean and the right variance.

Averages over the chains are the gradient of the log likelihood, :math:`E[z_i | y] / x_i - 1` (:func:`likelihood_score`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..backend import random
from ..backend.arrays import Backend, backend_of, get_backend
from ..backend.random import Stage
from ..backend.typing import Array
from ..tuning import DEFAULT, EmissionTuning
from .forward import ForwardModel
from .psf import psf_sigma

__all__ = ["KINDS", "Brightness", "EmissionChains", "Moved", "likelihood_score", "move_emissions"]

#: Kinds of a proposal, in the order of their counts.
KINDS = ("birth", "death", "place", "brightness", "split", "merge", "pair")


class Brightness(NamedTuple):
    """The law of an emission's brightness, in units of psi's photons per emission: a gamma variable.

    Attributes
    ----------
    mean : float
    shape : float
        Of the gamma law: the squared ratio of mean and standard deviation.  Infinite where all emissions are equally bright.

    Examples
    --------
    >>> Brightness(1.0, 4.0).mean_square
    1.25
    """

    mean: float = 1.0
    shape: float = math.inf

    @property
    def mean_square(self) -> float:
        """Mean of the square."""
        return self.mean**2 * (1.0 + 1.0 / self.shape)

    @property
    def law(self) -> tuple[float, float, float, float]:
        """Mean, shape, scale of the law that births are proposed by, and the constant of the log density."""
        if math.isinf(self.shape):
            return self.mean, self.shape, 1.0, 0.0
        from scipy.special import polygamma

        # log-logistic, with the spread of the gamma's logarithm
        spread = math.sqrt(3.0 * float(polygamma(1, self.shape))) / math.pi
        constant = self.shape * math.log(self.shape / self.mean) - math.lgamma(self.shape)
        return self.mean, self.shape, spread, constant


#: The law of eq. (1).
EQUAL = Brightness()


@dataclass
class EmissionChains:
    """What the chains hold: a list of emissions per frame, on the host or on a card.

    Attributes
    ----------
    place : (T, C) int32
        Flat fine pixels; the first ``count[t]`` of row t count.
    bright : (T, C) float64
        Brightness, in units of psi's photons per emission.
    count : (T,) int32

    Examples
    --------
    >>> chains = EmissionChains.empty(3)
    >>> chains.count, chains.place.shape[0]
    (array([0, 0, 0], dtype=int32), 3)
    """

    place: Array
    bright: Array
    count: Array

    @classmethod
    def empty(cls, frames: int, room: int = 128, backend: Backend | None = None) -> EmissionChains:
        """Return chains without an emission, with room for so many per frame; on the host, if no backend is named."""
        shape, xp = (frames, room), np if backend is None else backend.xp
        kinds = ((shape, np.int32), (shape, np.float64), (frames, np.int32))
        return cls(*(xp.zeros(size, dtype=dtype) for size, dtype in kinds))

    @property
    def backend(self) -> Backend:
        """Where they are."""
        return backend_of(chains=self.place)

    def moved_to(self, backend: Backend) -> EmissionChains:
        """Return the chains on a backend: these, if that is where they are, or else a copy."""
        if backend == self.backend:
            return self
        return EmissionChains(*(backend.asarray(array) for array in (self.place, self.bright, self.count)))

    def with_room(self, spare: int = 64, most: int | None = None) -> EmissionChains:
        """Return chains with room for twice the emissions of the fullest frame and so many more; themselves, if they have.

        Those that are made anew have room for more than that, so that few are.  ``most`` is what the fullest frame holds, if it
        is known: a card is not asked for it then.
        """
        most = int(self.count.max()) if most is None and len(self.count) else most or 0
        if 2 * most + spare <= self.place.shape[1]:
            return self
        grown = EmissionChains.empty(len(self.count), 3 * most + 2 * spare, self.backend)
        grown.count[:] = self.count
        grown.place[:, :most], grown.bright[:, :most] = self.place[:, :most], self.bright[:, :most]
        return grown

    def part(self, frames: slice) -> EmissionChains:
        """Return the chains of some frames, as views: to move them is to move these."""
        return EmissionChains(self.place[frames], self.bright[frames], self.count[frames])

    @property
    def _there(self) -> Array:
        return self.backend.xp.arange(self.place.shape[1]) < self.count[:, None]

    @property
    def weights(self) -> Array:
        """Brightness of all emissions of all frames, (n,) float64."""
        return self.bright[self._there]

    def image(self, shape: tuple[int, int], *, light: bool = False) -> Array:
        """Return emissions per fine pixel and frame, (N1, N2) float64; with ``light``, each counts by its brightness."""
        xp, there = self.backend.xp, self._there
        weights = self.bright[there] if light else None
        summed = xp.bincount(self.place[there], weights=weights, minlength=shape[0] * shape[1])
        return summed.reshape(shape) / len(self.count)

    def totals(self, shape: tuple[int, int], unit: float = 1.0) -> tuple[Array, Array]:
        """Return what a fit reads of the chains; a card is not waited for.

        Parameters
        ----------
        shape : (N1, N2)
        unit : float
            Brightness of what counts as one emission.

        Returns
        -------
        image : (N1, N2) float64
            Light per fine pixel and frame, in emissions of that brightness, :meth:`image` with ``light``.
        numbers : (4,) float64
            Emissions of all frames, their brightness, its logarithm, and the emissions of the fullest frame.
        """
        xp, kernel = self.backend.xp, self.backend.kernel("emission_sums")
        if kernel is None:
            w = self.weights
            sums = xp.stack([xp.asarray(float(w.size)), w.sum(), xp.log(w).sum()])
            image = self.image(shape, light=True) / unit
        else:
            image, sums = kernel(self.place, self.bright, self.count, shape)
            image = image * (2.0**-32 / len(self.count) / unit)
        return image, xp.concatenate([sums, self.count.max()[None]])


class Moved(NamedTuple):
    """What moving the chains has shown, in arrays that lie where the chains do.

    Attributes
    ----------
    likelihood : (T,) float64
        Log likelihood of every frame given its emissions, without what depends on the frame alone.
    ratio : (M1, M2) float64
        Mean over the frames of the count over its rate.
    proposed, accepted : (7,) int64
        Proposals by their kind (:data:`KINDS`).
    """

    likelihood: Array
    ratio: Array
    proposed: Array
    accepted: Array


def move_emissions(
    chains: EmissionChains,
    counts: Array,
    model: ForwardModel,
    x: Array,
    b: Array,
    brightness: Brightness = EQUAL,
    *,
    proposals: int | Array,
    seed: int = 0,
    step: int = 0,
    first_frame: int = 0,
    tuning: EmissionTuning = DEFAULT.emissions,
) -> Moved:
    """Move the emissions of every frame by so many proposals, in place; where psi computes.

    Parameters
    ----------
    chains : EmissionChains
        They, and the arrays below, may be on the host though psi is on a card: they are copied there, and the chains back.
    counts : (T, M1, M2) float32
        Counts above the offset.
    model : ForwardModel
        Psi, gain and noise.
    x : (N1, N2) float64
        Expected emissions per fine pixel and frame; of any brightness.
    b : (M1, M2)
        Background, photons per camera pixel and frame.
    brightness : Brightness
    proposals : int or (T,) int
        How many for each frame.  They may depend on the frame, but not on its emissions: the chain would then be another one.
    seed, step, first_frame : int
        The random words depend on them, on the frame and on the number of the proposal, and on nothing else.
    tuning : EmissionTuning

    Returns
    -------
    Moved

    Examples
    --------
    One molecule, 200 photons per emission: it is found in the frames in which it is on.

    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> psi = fg.Psi(fg.gaussian_psf(250, 100, 2), (12, 12), 2, photons_per_emitter=200, backend="numpy")
    >>> model, x = fg.ForwardModel(psi), np.full(psi.fine_shape, 1e-3)
    >>> x[12, 12] = 0.5
    >>> frames = model.sample(x * (x > 0.1), np.ones(psi.shape), 40, seed=1)
    >>> chains = EmissionChains.empty(40)
    >>> moved = move_emissions(chains, frames, model, x, np.ones(psi.shape), proposals=400)
    >>> bool(abs(chains.count.sum() - (frames.sum() - 40 * 144) / 200) < 2)
    True
    """
    psi, home = model.psi, chains.backend
    backend, kernel = psi.backend, psi.backend.kernel("move_emissions")
    if kernel is None:
        from .emission_moves import move_emissions as oracle

        backend, kernel = get_backend("numpy"), oracle
    shift = (model.noise_std / model.gain) ** 2
    table = np.ascontiguousarray(psi.table.reshape(-1, *psi.table.shape[2:]))
    parts = np.array(
        [tuning.births, tuning.births, tuning.places, tuning.brightness, tuning.splits, tuning.splits, tuning.pairs]
    )
    sigma = psf_sigma(psi.psf)
    reaches = tuple(max(1, round(part * sigma)) for part in (*tuning.steps, tuning.reach))
    put, xp, moved = backend.asarray, backend.xp, chains.moved_to(backend)
    given = (
        put(table), (*psi.shape, *psi.origin, psi.factor), put(counts), 1.0 / model.gain, shift,
        put(b, dtype=np.float64) + (model.epsilon + shift), put(x, dtype=np.float64), brightness.law,
        tuple(np.cumsum(parts / parts.sum()).tolist()), reaches, tuning.turns,
        xp.broadcast_to(put(proposals, dtype=np.int64), (len(counts),)),
        xp.arange(first_frame, first_frame + len(counts)), *random.seed_words(seed), Stage.CHAINS, step,
        moved.place, moved.bright, moved.count,
    )  # fmt: skip
    likelihood, ratio, proposed, accepted = kernel(*given)
    found = Moved(likelihood, ratio / len(counts), proposed, accepted)
    if moved is chains:
        return found
    for old, new in ((chains.place, moved.place), (chains.bright, moved.bright), (chains.count, moved.count)):
        old[...] = home.asarray(new)
    return Moved(*(home.asarray(array) for array in found))


def likelihood_score(emissions: np.ndarray, x: np.ndarray) -> np.ndarray:
    r"""Return the gradient of the log likelihood per frame, :math:`E[z_i | y] / x_i - 1`.

    Parameters
    ----------
    emissions : (N1, N2)
        Mean emissions of the frames given what they show, as averages of :meth:`EmissionChains.image`.
    x : (N1, N2), above 0
        What the chains were moved with.

    Returns
    -------
    (N1, N2)

    Notes
    -----
    One more emission at i multiplies the probability of a frame by :math:`E[z_i | y] / x_i`.  So the right side of eq. (12)
    is, for any critic D, :math:`E[D(Y)\,(E[z_i | Y] / x_i - 1)]`; for the critic that is the ratio of the densities of
    recorded and simulated frames it is this score, averaged over the recorded frames.

    Examples
    --------
    >>> import numpy as np
    >>> likelihood_score(np.array([0.2, 0.1]), np.array([0.1, 0.1]))
    array([1., 0.])
    """
    return emissions / x - 1.0
