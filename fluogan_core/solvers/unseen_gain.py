r"""By how much one pair of images makes unseen frames likelier than another, under all of eq. (1).

The likelihood of a frame is a sum over all lists of emissions, out of reach.  The ratio of two likelihoods is not.  Between
the images :math:`x^0` and :math:`x^1` lie :math:`x^s`, with logarithms in between, and :math:`b^s = b^0 + s (b^1 - b^0)`.
Along this path

.. math:: \frac{d}{ds} \log p(y | x^s, b^s) = \sum_i E_s[z_i | y] \log\frac{x^1_i}{x^0_i} - \frac{d}{ds} \sum_i x^s_i
          + \sum_j E_s\Big[\frac{y_j}{r_j} - 1\Big] (b^1_j - b^0_j),

with r the rate of the frame given its emissions.  The expectations are averages over the chains of emissions at a few s, the
integral is a Gauss-Legendre sum (thermodynamic integration, Gelman and Meng 1998).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..physics.emissions import Brightness, EmissionChains, move_emissions
from ..physics.forward import ForwardModel
from ..tuning import DEFAULT, EmissionTuning, LikelihoodPhaseTuning

__all__ = ["Pair", "UnseenGain", "unseen_gain"]

#: Frames in a row whose gains are added up for the error of the total, and the fewest of such sums.
_RUN, _FEWEST_RUNS = 10, 6


class Pair(NamedTuple):
    """An image and a background, on the host.

    Attributes
    ----------
    x : (N1, N2) float64, above 0
        Expected emissions per fine pixel and frame, of any brightness.
    b : (M1, M2) float64
        Photons per camera pixel and frame.
    """

    x: np.ndarray
    b: np.ndarray


class UnseenGain(NamedTuple):
    """By how much frames are likelier.

    Attributes
    ----------
    of_frames : (T,) float64
        Log likelihood that every frame gains, nats.
    """

    of_frames: np.ndarray

    @property
    def total(self) -> float:
        """Of all frames, nats."""
        return float(self.of_frames.sum())

    @property
    def error(self) -> float:
        """Standard error of the total, by the sums of some frames in a row: a molecule that stays on is in all of them."""
        frames = len(self.of_frames)
        runs = max(min(frames, _FEWEST_RUNS), frames // _RUN)
        if runs < 2:
            return math.inf
        sums = np.add.reduceat(self.of_frames, np.arange(runs) * frames // runs)
        return float(sums.std(ddof=1)) * math.sqrt(runs)


def unseen_gain(
    counts: np.ndarray,
    model: ForwardModel,
    old: Pair,
    new: Pair,
    brightness: Brightness,
    proposals: np.ndarray,
    *,
    seed: int,
    step: int,
    first_frame: int = 0,
    tuning: LikelihoodPhaseTuning = DEFAULT.likelihood_phase,
    moves: EmissionTuning = DEFAULT.emissions,
) -> UnseenGain:
    """Return by how much the frames are likelier with ``new`` than with ``old``.

    Parameters
    ----------
    counts : (T, M1, M2) float32
        Counts above the offset, of frames that neither pair has seen.
    model : ForwardModel
    old, new : Pair
    brightness : Brightness
        Of an emission, the same for both.
    proposals : (T,) int
        Per frame and sweep.
    seed, step, first_frame : int
        Of the random words, see :func:`fluogan_core.physics.emissions.move_emissions`.
    tuning : LikelihoodPhaseTuning
        How many sweeps.
    moves : EmissionTuning

    Returns
    -------
    UnseenGain

    Examples
    --------
    Frames of one molecule are likelier where the image has it.

    >>> import fluogan_core as fg
    >>> psi = fg.Psi(fg.gaussian_psf(250, 100, 2), (12, 12), 2, photons_per_emitter=200, backend="numpy")
    >>> model, x = fg.ForwardModel(psi), np.full(psi.fine_shape, 1e-4)
    >>> b, there, beside = np.ones(psi.shape), x.copy(), x.copy()
    >>> there[12, 12] = beside[12, 14] = 0.5
    >>> frames = model.sample(there, b, 40, seed=1)
    >>> gain = unseen_gain(frames, model, Pair(beside, b), Pair(there, b), Brightness(), np.full(40, 50), seed=1, step=0)
    >>> gain.total > 3 * gain.error
    True
    """
    nodes, weights = np.polynomial.legendre.leggauss(tuning.gain_nodes)
    apart, b_apart = np.log(new.x / old.x), new.b - old.b
    flat = apart.ravel()
    gained = np.full(len(counts), old.x.sum() - new.x.sum())
    chains = EmissionChains.empty(len(counts))
    for number, (node, weight) in enumerate(zip((nodes + 1) / 2, weights / 2)):
        x, b = old.x * np.exp(node * apart), old.b + node * b_apart
        for sweep in range(tuning.gain_sweeps + 1):
            chains = chains.with_room()
            moved = move_emissions(
                chains,
                counts,
                model,
                x,
                b,
                brightness,
                proposals=proposals * (1 if sweep else tuning.gain_start if number == 0 else tuning.gain_between),
                seed=seed,
                step=step + number * (tuning.gain_sweeps + 1) + sweep,
                first_frame=first_frame,
                tuning=moves,
            )
            if sweep:
                there = np.arange(chains.place.shape[1]) < chains.count[:, None]
                seen = (flat[chains.place] * there).sum(axis=1) + float(((moved.ratio - 1.0) * b_apart).sum())
                gained += weight / tuning.gain_sweeps * seen
    return UnseenGain(gained)
