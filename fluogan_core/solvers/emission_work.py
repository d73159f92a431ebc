"""How many emissions overlap, and how much work their chains would be: said before it is begun."""

from __future__ import annotations

import math

import numpy as np

from ..backend.typing import Array
from ..objective.blur import GaussianKernel
from ..physics.psf import psf_sigma
from ..physics.psi import Psi
from ..tuning import DEFAULT, LikelihoodPhaseTuning
from .mixing import longest_test

__all__ = ["moves_of", "overlap_of", "too_much_work"]


def moves_of(proposals: np.ndarray, planned: int, tuning: LikelihoodPhaseTuning = DEFAULT.likelihood_phase) -> float:
    """Return how many moves the chains and the test of their mixing take.

    Parameters
    ----------
    proposals : (T,) int
        Of each frame in a sweep.
    planned : int
        Steps of the phase.
    tuning : LikelihoodPhaseTuning

    Returns
    -------
    float

    Examples
    --------
    >>> import numpy as np
    >>> moves_of(np.full(500, 200), 40)
    25120000.0
    """
    tested, longest = longest_test(proposals, tuning.sweeps * planned, tuning)
    return tuning.sweeps * planned * float(proposals.sum()) + 2 * tested * longest * float(proposals.mean())


def too_much_work(
    proposals: np.ndarray, planned: int, overlap: float, tuning: LikelihoodPhaseTuning = DEFAULT.likelihood_phase
) -> str:
    """Return why the chains would take too long, or nobody could tell whether they mix, in words; nothing otherwise.

    Parameters
    ----------
    proposals : (T,) int
        Of each frame in a sweep; they grow in proportion to its emissions.
    planned : int
        Steps of the phase.
    overlap : float
        How many others overlap an emission (:func:`overlap_of`).
    tuning : LikelihoodPhaseTuning

    Returns
    -------
    str

    Examples
    --------
    >>> import numpy as np
    >>> from fluogan_core.solvers.emission_work import too_much_work
    >>> too_much_work(np.full(500, 200), 40, 2.0)
    ''
    >>> too_much_work(np.full(10000, 30020), 40, 2.0)[:29]
    '5000 emissions in a frame are'
    """
    t, sweeps = tuning, tuning.sweeps * planned
    _, longest = longest_test(proposals, sweeps, t)
    moves = moves_of(proposals, planned, t)
    emissions = max(float(proposals.mean()) - t.proposals, 0.0) / t.per_emission
    fewer = "if psi's photons_per_emitter is too low (fluogan_core.calibrate measures it), there are fewer emissions"
    if moves > t.most_moves:
        hours = moves * t.seconds_per_move / 3600
        return (
            f"{emissions:.0f} emissions in a frame are {moves:.2g} moves of the chains, {hours:.3g} h or more, and "
            f"{t.most_moves:.2g} moves are the most; {fewer}; otherwise take fewer frames, or a part of the field"
        )
    if overlap > t.hopeless_overlap:
        return (
            f"{overlap:.0f} emissions overlap each other: their chains would hardly move, and mean and covariance hold all "
            f"that the frames say; {fewer}"
        )
    if sweeps < t.mixing_sweeps[0] and longest < t.mixing_sweeps[1]:
        return (
            f"in {planned} step{'s' * (planned != 1)} the chains of {emissions:.0f} emissions in a frame do not forget where "
            f"they began, and a test of that would take far longer than the steps; take "
            f"{math.ceil(t.mixing_sweeps[0] / t.sweeps)} steps or more; {fewer}"
        )
    return ""


def overlap_of(x: Array, psi: Psi) -> float:
    r"""Return how many others overlap an emission, :math:`\sum_{ik} x_i x_k e^{-d_{ik}^2 / 4 \sigma^2} / \sum_i x_i`.

    Parameters
    ----------
    x : (N1, N2) float32
        Expected emissions per fine pixel and frame.
    psi : Psi
        :math:`\sigma` is the standard deviation of its PSF.

    Returns
    -------
    float
        0 without light.

    Examples
    --------
    >>> import numpy as np
    >>> import fluogan_core as fg
    >>> psi = fg.Psi(fg.gaussian_psf(300, 100, 2), (16, 16), 2, backend="numpy")
    >>> x = np.zeros(psi.fine_shape, np.float32)
    >>> x[16, 16] = 2
    >>> round(overlap_of(x, psi), 2)
    2.0
    """
    kernel, total = GaussianKernel(psi, 1.0), float(x.sum(dtype=np.float64))
    if not total > 0:
        return 0.0
    blurred = kernel(x)
    return 4.0 * math.pi * psf_sigma(psi.psf) ** 2 * float((blurred * blurred).sum(dtype=np.float64)) / total
