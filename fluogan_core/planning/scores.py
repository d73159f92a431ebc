r"""The score of the full likelihood of eq. (1) in some directions of the image, frame by frame, by sampling the emissions.

With z the emissions of a frame, x their expectation and r the rate of the frame given them, the log likelihood of a frame y has
the derivatives :math:`E[z_i | y] / x_i - 1` by :math:`x_i` and :math:`E[y_j / r_j - 1 | y]` by :math:`b_j`.  The expectations
are averages over chains of emissions (:mod:`fluogan_core.physics.emissions`).

The frames are simulated, and so their emissions are known.  This gives each frame chains of two kinds.

- One starts at the emissions that made the frame.  They are a draw from what the frame allows, so that this chain is stationary
  from its beginning, whether it mixes or not.
- Two start without an emission.  What they find is a function of the frame and of independent random words.

Products of averages over chains of one frame are then free of the noise of the chains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..physics.emissions import EmissionChains, move_emissions
from ..physics.forward import ForwardModel
from ..physics.psi import Psi

__all__ = ["PER_EMISSION", "PROPOSALS", "SampledScores", "columns_of", "sampled_scores"]

#: Proposals per frame and sweep: these, and so many for each emission that is expected.
PROPOSALS, PER_EMISSION = 10.0, 6.0


@dataclass(frozen=True, eq=False)
class SampledScores:
    """Simulated frames and their scores, as chains of two kinds find them.

    Attributes
    ----------
    counts : (T, M1, M2) float32
        The frames.
    early, late : (T, D) float64
        Score by the chain that starts at the true emissions, in the first and in the second half of its sweeps.  The
        derivatives by the expected emissions of all pixels of each group come first, then those by the background.
    cold : (2, T, D) float64
        Score by each of two chains that start without an emission.
    """

    counts: np.ndarray
    early: np.ndarray
    late: np.ndarray
    cold: np.ndarray


def sampled_scores(
    model: ForwardModel,
    x: np.ndarray,
    b: np.ndarray,
    of_pixel: np.ndarray,
    of_camera_pixel: np.ndarray,
    *,
    frames: int,
    start: int,
    notes: int,
    sweeps: int,
    seed: int = 0,
) -> SampledScores:
    """Simulate frames and sample their scores, on the host.

    Parameters
    ----------
    model : ForwardModel
        On NumPy, without read noise.
    x : (N1, N2) float64
        Expected emissions per fine pixel and frame; where it is 0 nothing is drawn, and no score is given.
    b : (M1, M2) float64
        Photons per camera pixel and frame.
    of_pixel : (N1, N2) int64
        Number of the group of each fine pixel: the score is given by the expected emissions of all pixels of a group.
    of_camera_pixel : (M1, M2) int64
        The same for the camera pixels and the background.
    frames : int
        How many to simulate.
    start : int
        Sweeps of the chains that start without an emission before scores are noted.
    notes, sweeps : int
        How often scores are noted, an even number, and the sweeps before each note.
    seed : int
        Of the random words.

    Returns
    -------
    SampledScores

    Examples
    --------
    A frame in which one molecule is on, or is not: what it tells of the expected emissions is what the emissions would.

    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> from fluogan_core.planning.scores import sampled_scores
    >>> psi = fg.Psi(fg.gaussian_psf(250, 100, 1), (13, 13), 1, photons_per_emitter=500, backend="numpy")
    >>> x = np.zeros((13, 13)); x[6, 6] = 0.5
    >>> lit, whole = (x > 0).astype(int), np.zeros((13, 13), int)
    >>> found = sampled_scores(fg.ForwardModel(psi), x, np.ones((13, 13)), lit, whole, frames=400, start=5, notes=4, sweeps=2)
    >>> score = found.cold[0, :, 1]  # 0 is the dark
    >>> abs(float((score**2).mean()) * 0.5 - 1) < 0.2
    True
    """
    psi, numbers = model.psi, np.arange(frames)
    z = model.emissions(x.astype(np.float32), numbers, seed, 0)
    counts = model.detect(psi.forward(z), b.astype(np.float32), numbers, seed, 0)
    flat = z.reshape(frames, -1)
    frame, place = np.nonzero(flat)
    frame, place = (np.repeat(where, flat[frame, place].astype(np.int64)) for where in (frame, place))
    del z, flat
    scorer = _Scorer(model, x, b, of_pixel, of_camera_pixel, counts)
    proposals = int(np.ceil(PROPOSALS + PER_EMISSION * float(x.sum())))

    def run(chains: EmissionChains, number: int, warm_up: int) -> np.ndarray:
        found = []
        for note in range(notes):
            chains = chains.with_room()
            move_emissions(
                chains,
                counts,
                model,
                x,
                b,
                proposals=proposals * (sweeps + (warm_up if note == 0 else 0)),
                seed=seed,
                step=1 + note,
                first_frame=number * frames,
            )
            found.append(scorer(chains))
        return np.stack(found)

    true = EmissionChains.empty(frames, int(np.bincount(frame, minlength=frames).max(initial=0)) + 64)
    true.count[:] = np.bincount(frame, minlength=frames)
    true.place[frame, np.arange(len(frame)) - np.searchsorted(frame, frame)] = place
    true.bright[:] = 1.0
    warm = run(true, 0, 0)
    room = 2 * int(np.ceil(float(x.sum()))) + 128
    cold = np.stack([run(EmissionChains.empty(frames, room), 1 + k, start).mean(axis=0) for k in range(2)])
    return SampledScores(counts, warm[: notes // 2].mean(axis=0), warm[notes // 2 :].mean(axis=0), cold)


class _Scorer:
    """Scores of frames given their emissions."""

    def __init__(
        self,
        model: ForwardModel,
        x: np.ndarray,
        b: np.ndarray,
        of_pixel: np.ndarray,
        of_camera_pixel: np.ndarray,
        counts: np.ndarray,
    ) -> None:
        self.counts = counts.reshape(len(counts), -1).astype(np.float64)
        self.base = b.ravel() + model.epsilon
        lit = np.flatnonzero(x)
        self.number = np.zeros(x.size, dtype=np.int64)
        self.number[lit] = np.arange(len(lit))
        self.light = columns_of(model.psi, lit)
        self.inverse, self.group, self.groups = 1.0 / x.ravel()[lit], of_pixel.ravel()[lit], int(of_pixel.max()) + 1
        self.pixels = np.bincount(self.group, minlength=self.groups)
        self.camera = (of_camera_pixel.reshape(-1, 1) == np.arange(of_camera_pixel.max() + 1)).astype(np.float64)

    def __call__(self, chains: EmissionChains) -> np.ndarray:
        from scipy.sparse import csr_array

        there = np.arange(chains.place.shape[1]) < chains.count[:, None]
        number = self.number[chains.place[there]]
        ends = np.concatenate([[0], np.cumsum(chains.count)])
        frames, frame = len(chains.count), np.repeat(np.arange(len(chains.count)), chains.count)
        drawn = csr_array((np.ones(len(number)), number, ends), shape=(frames, len(self.light)))
        rate = drawn @ self.light + self.base
        at = frame * self.groups + self.group[number]
        seen = np.bincount(at, self.inverse[number], minlength=frames * self.groups).reshape(frames, -1)
        return np.concatenate([seen - self.pixels, (self.counts / rate - 1.0) @ self.camera], axis=1)


def columns_of(psi: Psi, places: np.ndarray) -> np.ndarray:
    """Return the light of one emission at each of these flat fine pixels on all camera pixels, (n, M1 * M2) float64."""
    pixels = int(np.prod(psi.shape))
    found = np.empty((len(places), pixels))
    for pixel in range(pixels):
        one = np.zeros(psi.shape, dtype=np.float32)
        one.flat[pixel] = 1.0
        found[:, pixel] = psi.adjoint(one).ravel()[places]
    return found
