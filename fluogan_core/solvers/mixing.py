r"""Whether chains of emissions forget where they began.

Some frames are given a second chain that begins without an emission.  Both go on, x and b held; every sweep or few sweeps the
number of emissions and the log likelihood of the frame are noted.  Where both chains visit the same, the variance of all notes
of a frame is that within each half of a chain.  The root of their ratio, each summed over the frames, is the split
:math:`\hat R` (Gelman et al., Bayesian Data Analysis, 2013); 1 says that the chains mixed.  The first half of the sweeps is
left out of it.

The test is short where the chains mix soon: it begins with a few sweeps, and doubles them until the chains have mixed.  Notes
of too few sweeps vary less within a chain than between chains, so that a short test says "not mixed" too often, and hardly ever
"mixed" too early, if the fit's chains are older than the test is long.  It takes no more moves than the fit has taken, or than
some seconds are worth.

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

__all__ = ["Mixing", "longest_test", "mixing_of", "split_r_hat"]


class Mixing(NamedTuple):
    """How far chains of two starts agree.

    Attributes
    ----------
    of_number, of_likelihood : float
        Split R-hat of the number of emissions of a frame, and of its log likelihood.
    largest : float
        What counts as mixed.
    sweeps : int
        Of each chain, by which it is judged.
    cut_short : bool
        Whether the test would have gone on after a fit of more steps.
    """

    of_number: float
    of_likelihood: float
    largest: float
    sweeps: int
    cut_short: bool = False

    @property
    def mixed(self) -> bool:
        """Whether both are small enough."""
        return max(self.of_number, self.of_likelihood) <= self.largest

    def __str__(self) -> str:
        found = max(self.of_number, self.of_likelihood)
        longer = "; after more steps the test is longer" if self.cut_short else ""
        return f"split R-hat {found:.3g} after {self.sweeps} sweeps, {self.largest:g} or less is mixed{longer}"


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


def longest_test(
    proposals: np.ndarray, sweeps: int, tuning: LikelihoodPhaseTuning = DEFAULT.likelihood_phase
) -> tuple[int, int]:
    """Return how many frames are tested, and how many sweeps each of their two chains takes at most.

    Parameters
    ----------
    proposals : (T,) int
        Of each frame in a sweep.
    sweeps : int
        Of the fit.
    tuning : LikelihoodPhaseTuning

    Returns
    -------
    tested, longest : int
        As many frames as the moves of the fit, or those that are free, pay the longest test for, but not fewer than some; then
        as many sweeps.  Only the shortest test of the fewest frames may take more.

    Examples
    --------
    >>> longest_test(np.full(500, 80), 200), longest_test(np.full(24, 80), 10), longest_test(np.full(24, 15000), 50)
    ((32, 400), (24, 400), (4, 150))
    """
    (fewest, most), (shortest, longest), frames = tuning.mixing_frames, tuning.mixing_sweeps, len(proposals)
    free = tuning.mixing_free / max(float(proposals.mean()), 1.0)
    paid = int(max(sweeps * frames, free)) // 2  # each frame has two chains
    tested = min(frames, max(fewest, min(paid // longest, most)))
    return tested, max(shortest, min(paid // tested, longest))


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
    sweeps: int,
    tuning: LikelihoodPhaseTuning = DEFAULT.likelihood_phase,
    moves: EmissionTuning = DEFAULT.emissions,
) -> Mixing:
    """Return how far the chains of some frames agree with those that begin anew; the chains given are left as they are.

    Parameters
    ----------
    chains, counts, model, x, b, brightness, proposals, seed
        As for :func:`fluogan_core.physics.emissions.move_emissions`; ``proposals`` per sweep.
    sweeps : int
        That the fit has taken: the random words follow on those, and :func:`longest_test` depends on them.
    tuning : LikelihoodPhaseTuning
    moves : EmissionTuning

    Returns
    -------
    Mixing
    """
    tested, longest = longest_test(proposals, sweeps, tuning)
    frames, behind = np.unique(np.linspace(0, len(counts) - 1, tested).astype(np.int64)), len(counts)
    counts, proposals = counts[frames], proposals[frames]
    room = int(2 * chains.count.max(initial=0) + 64)
    both = [EmissionChains.empty(len(frames), room) for _ in range(2)]
    width = min(room, chains.place.shape[1])
    both[0].count[:] = chains.count[frames]
    both[0].place[:, :width], both[0].bright[:, :width] = chains.place[frames, :width], chains.bright[frames, :width]

    def move(number: int, at: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Some sweeps of a chain from the sweep ``at`` on: the numbers of emissions and the likelihoods at their end."""
        moved = move_emissions(
            both[number],
            counts,
            model,
            x,
            b,
            brightness,
            proposals=count * proposals,
            seed=seed,
            step=sweeps + at,
            first_frame=(1 + number) * behind,  # beyond those of the stack: random words of their own
            tuning=moves,
        )
        return both[number].count.copy(), moved.likelihood

    done, due = 0, longest if sweeps < tuning.mixing_sweeps[0] else tuning.mixing_sweeps[0]
    while True:
        first, every = max(done, due // 2), max(1, due // (2 * tuning.mixing_notes))
        notes = []
        for number in range(2):
            if first > done:
                move(number, done, first - done)
            notes.append([move(number, at, every) for at in range(first, due - every + 1, every)])
        of_number, of_likelihood = np.array(notes, dtype=np.float64).transpose(2, 0, 1, 3)
        found = Mixing(
            split_r_hat(of_number, tuning.least_variance, tuning.spared),
            split_r_hat(of_likelihood, tuning.least_variance, tuning.spared),
            tuning.largest_r_hat,
            due,
        )
        if found.mixed or due == longest:
            return found._replace(cut_short=not found.mixed and due < tuning.mixing_sweeps[1])
        done, due = due, 2 * due if 2 * due <= min(sweeps, longest) else longest
