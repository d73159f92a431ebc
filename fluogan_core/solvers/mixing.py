r"""Whether chains of emissions forget where they began.

Some frames are given a second chain that begins without an emission.  Both go on for some sweeps, x and b held; then the
number of emissions and the log likelihood of the frame are noted, every few sweeps.  Where both chains visit the same, the
variance of all notes of a frame is that within each half of a chain.  The root of their ratio, each summed over the frames, is
the split :math:`\hat R` (Gelman et al., Bayesian Data Analysis, 2013); 1 says that the chains mixed.

A tenth of the frames is left out, those whose chains are furthest apart.  In bright light a frame now and then has two lists of
emissions that are about as likely and far from each other, and a chain stays with either.  That is of no account for averages
over the frames, and one such frame among many would decide.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..physics.emissions import Brightness, EmissionChains, move_emissions
from ..physics.forward import ForwardModel
from ..tuning import DEFAULT, EmissionTuning, LikelihoodPhaseTuning

__all__ = ["Mixing", "mixing_of", "split_r_hat"]


class Mixing(NamedTuple):
    """How far chains of two starts agree.

    Attributes
    ----------
    of_number, of_likelihood : float
        Split R-hat of the number of emissions of a frame, and of its log likelihood.
    largest : float
        What counts as mixed.
    """

    of_number: float
    of_likelihood: float
    largest: float

    @property
    def mixed(self) -> bool:
        """Whether both are small enough."""
        return max(self.of_number, self.of_likelihood) <= self.largest

    def __str__(self) -> str:
        return f"split R-hat {max(self.of_number, self.of_likelihood):.3g}, {self.largest:g} or less is mixed"


def split_r_hat(notes: np.ndarray, least_variance: float = 0.0, spared: float = 0.0) -> float:
    r"""Return the split :math:`\hat R` of several chains of several frames.

    Parameters
    ----------
    notes : (C, S, T)
        S notes of each of C chains of T frames.
    least_variance : float
        The variance within a chain counts as no less: of numbers that never change it is 0.
    spared : float
        Part of the frames that is left out, those whose chains are furthest apart.

    Returns
    -------
    float

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> notes = rng.normal(size=(2, 40, 50))
    >>> round(split_r_hat(notes), 1), round(split_r_hat(notes + 2 * np.arange(2)[:, None, None]), 1)
    (1.0, 1.5)
    """
    half = notes.shape[1] // 2
    halves = np.concatenate([notes[:, :half], notes[:, -half:]])
    apart = halves.mean(axis=1).var(axis=0, ddof=1)
    kept = np.argsort(apart, kind="stable")[: len(apart) - int(spared * len(apart))]
    within = max(float(halves.var(axis=1, ddof=1)[:, kept].mean()), least_variance)
    between = float(apart[kept].mean())
    return float(np.sqrt(((half - 1) / half * within + between) / within))


def mixing_of(
    chains: EmissionChains,
    counts: np.ndarray,
    model: ForwardModel,
    x: np.ndarray,
    b: np.ndarray,
    brightness: Brightness,
    proposals: np.ndarray,
    *,
    seed: int,
    step: int,
    tuning: LikelihoodPhaseTuning = DEFAULT.likelihood_phase,
    moves: EmissionTuning = DEFAULT.emissions,
) -> Mixing:
    """Return how far the chains of some frames agree with those that begin anew; the chains given are left as they are.

    Parameters
    ----------
    chains, counts, model, x, b, brightness, proposals, seed, step
        As for :func:`fluogan_core.physics.emissions.move_emissions`; ``proposals`` per sweep.
    tuning : LikelihoodPhaseTuning
    moves : EmissionTuning

    Returns
    -------
    Mixing
    """
    frames = np.unique(np.linspace(0, len(counts) - 1, min(tuning.mixing_frames, len(counts))).astype(np.int64))
    room = int(2 * chains.count.max(initial=0) + 64)
    both = [EmissionChains.empty(len(frames), room) for _ in range(2)]
    width = min(room, chains.place.shape[1])
    both[0].count[:] = chains.count[frames]
    both[0].place[:, :width], both[0].bright[:, :width] = chains.place[frames, :width], chains.bright[frames, :width]
    numbers, likelihoods = [], []
    for number, part in enumerate(both):

        def move(sweeps: int, at: int, part: EmissionChains = part, number: int = number) -> np.ndarray:
            return move_emissions(
                part,
                counts[frames],
                model,
                x,
                b,
                brightness,
                proposals=proposals[frames] * sweeps,
                seed=seed,
                step=at,
                first_frame=(1 + number) * len(counts),  # beyond those of the stack: random words of their own
                tuning=moves,
            ).likelihood

        move(tuning.mixing_start, step)
        notes = []
        for note in range(tuning.mixing_notes):
            likelihood = move(tuning.mixing_sweeps, step + 1 + note)
            notes.append((part.count.copy(), likelihood))
        numbers.append([note[0] for note in notes])
        likelihoods.append([note[1] for note in notes])
    return Mixing(
        split_r_hat(np.array(numbers, dtype=np.float64), tuning.least_variance, tuning.spared),
        split_r_hat(np.array(likelihoods), tuning.least_variance, tuning.spared),
        tuning.largest_r_hat,
    )
